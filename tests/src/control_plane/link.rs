//! The way from one API server to etcd, or from an agent to its API server: a TCP proxy that can be cut, stalled, stranded
//! and healed while the others' ways are well.
//!
//! Not here: delays and lost packets; a bench with network namespaces does those with the kernel's own means.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread;

use anyhow::{Context, Result};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};

use crate::process::say;

/// What becomes of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// They pass.
    Open,
    /// Connections end, new ones too.
    Cut,
    /// Connections stay and are accepted, and nothing passes.
    Stalled,
}

/// What the connections are told.
#[derive(Debug, Clone, Copy)]
struct Told {
    state: State,
    /// How often it was cut: who looks too late sees that it happened.
    cuts: u64,
    /// How often it was stranded.
    strands: u64,
}

/// A TCP proxy on a thread of its own, so that it goes on whatever the test does. It ends when this is dropped.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    told: watch::Sender<Told>,
    _end: oneshot::Sender<()>,
}

impl Link {
    /// Listens on a free port of `address` and passes everything to `target`.
    pub fn start(address: Ipv4Addr, target: SocketAddr) -> Result<Self> {
        let listener = std::net::TcpListener::bind((address, 0)).context("listening for a link")?;
        listener.set_nonblocking(true).context("listening for a link")?;
        let address = listener.local_addr().context("reading the address of a link")?;
        let (tell, told) = watch::channel(Told { state: State::Open, cuts: 0, strands: 0 });
        let (end, ended) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        thread::Builder::new()
            .name("link".into())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        served = serve(listener, target, told) => {
                            if let Err(error) = served {
                                say(&format!("the link to {target} has ended: {error:#}"));
                            }
                        }
                        _ = ended => {}
                    }
                });
            })
            .context("starting the thread of a link")?;
        Ok(Self { address, told: tell, _end: end })
    }

    /// Where it listens, as a URL for `--etcd-servers`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends all connections, and each new one at once.
    pub fn cut(&self) {
        self.told.send_modify(|told| *told = Told { state: State::Cut, cuts: told.cuts + 1, ..*told });
    }

    /// Lets nothing pass, without ending anything: as when etcd is frozen.
    pub fn stall(&self) {
        self.told.send_modify(|told| told.state = State::Stalled);
    }

    /// Lets nothing pass any more over the connections that there are, without ending them: as when a firewall has
    /// forgotten them. New ones are as well as they were.
    pub fn strand(&self) {
        self.told.send_modify(|told| told.strands += 1);
    }

    /// Lets everything pass again. What was stalled goes on, and nothing of it is lost; what was stranded stays so.
    pub fn heal(&self) {
        self.told.send_modify(|told| told.state = State::Open);
    }
}

async fn serve(listener: std::net::TcpListener, target: SocketAddr, told: watch::Receiver<Told>) -> Result<()> {
    let listener = TcpListener::from_std(listener)?;
    loop {
        let (connection, _) = listener.accept().await?;
        tokio::spawn(pass(connection, target, told.clone()));
    }
}

/// One connection, until either side ends it or the link is cut.
async fn pass(mut near: TcpStream, target: SocketAddr, told: watch::Receiver<Told>) {
    let mut cut = told.clone();
    let Told { cuts, strands, .. } = *cut.borrow();
    let mut open = told;
    let passing = async {
        // A new connection of a stalled link waits here.
        let _ = open.wait_for(|told| told.state == State::Open).await;
        let Ok(mut far) = TcpStream::connect(target).await else { return };
        let both = copy_bidirectional(&mut near, &mut far);
        tokio::pin!(both);
        loop {
            tokio::select! {
                // The state first: nothing passes any more once a link is told so.
                biased;
                Ok(()) = open.changed() => {
                    let _ = open.wait_for(|told| told.state == State::Open && told.strands == strands).await;
                }
                _ = &mut both => return,
            }
        }
    };
    tokio::select! {
        _ = cut.wait_for(|told| told.state == State::Cut || told.cuts != cuts) => {}
        () = passing => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anyhow::ensure;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    async fn echo() -> Result<SocketAddr> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = connection.split();
                    tokio::io::copy(&mut read, &mut write).await
                });
            }
        });
        Ok(address)
    }

    async fn says(connection: &mut TcpStream, word: &[u8]) -> Result<()> {
        connection.write_all(word).await?;
        hears(connection, word).await
    }

    async fn hears(connection: &mut TcpStream, word: &[u8]) -> Result<()> {
        let mut heard = vec![0; word.len()];
        timeout(Duration::from_secs(10), connection.read_exact(&mut heard)).await??;
        ensure!(heard == word, "{heard:?}");
        Ok(())
    }

    #[tokio::test]
    async fn a_stalled_link_keeps_everything_and_a_cut_one_ends_everything() -> Result<()> {
        let link = Link::start(Ipv4Addr::LOCALHOST, echo().await?)?;
        let mut connection = TcpStream::connect(link.address()).await?;
        says(&mut connection, b"one").await?;
        link.stall();
        connection.write_all(b"two").await?;
        let mut new = TcpStream::connect(link.address()).await?;
        new.write_all(b"three").await?;
        // Nothing can be awaited here but the absence of an answer.
        assert!(timeout(Duration::from_millis(200), new.read_u8()).await.is_err());
        assert!(timeout(Duration::from_millis(1), connection.read_u8()).await.is_err());
        link.heal();
        hears(&mut connection, b"two").await?;
        hears(&mut new, b"three").await?;
        link.strand();
        new.write_all(b"lost").await?;
        assert!(timeout(Duration::from_millis(200), new.read_u8()).await.is_err());
        says(&mut TcpStream::connect(link.address()).await?, b"newer").await?;
        link.cut();
        let mut rest = Vec::new();
        // An end or a reset, both will do.
        let _ = timeout(Duration::from_secs(10), connection.read_to_end(&mut rest)).await?;
        assert!(says(&mut TcpStream::connect(link.address()).await?, b"four").await.is_err());
        link.heal();
        says(&mut TcpStream::connect(link.address()).await?, b"five").await
    }
}
