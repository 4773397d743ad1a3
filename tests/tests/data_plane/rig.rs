//! An emulator with a data plane, targets on loopback addresses of its own, and clients.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tests::emulator::{BalancerReport, DataPlane, Options, Profile, TargetReport};
use tests::wait::until;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::AbortHandle;

use crate::client::{Cloud, SOON, balancer, changed, echo};

/// The port of listeners and targets alike: each has an address of its own.
pub(crate) const PORT: u16 = 6_443;
/// A check of 5 s takes 200 ms: short for a test, long for a busy machine.
pub(crate) const TIME_SCALE: f64 = 25.0;

pub(crate) struct Rig {
    pub(crate) cloud: Cloud,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::with(DataPlane { time_scale: TIME_SCALE, ..DataPlane::default() }).await
    }

    pub(crate) async fn with(data_plane: DataPlane) -> Self {
        let data_plane = Some(data_plane);
        Self { cloud: Cloud::with(Options { profile: Profile::Instant, data_plane, ..Options::default() }).await }
    }

    /// The address of a target, in the emulator's own block so that no other test has it.
    pub(crate) fn ip(&self, number: u8) -> IpAddr {
        let [first, second, third, _] = self.cloud.emulator.address_pool().addr().octets();
        Ipv4Addr::new(first, second, third, 100 + number).into()
    }

    /// Targets that say their number and echo, as far as `numbers` goes.
    pub(crate) async fn echoes<const N: usize>(&self) -> [Server; N] {
        let mut servers = Vec::new();
        for number in 0..N {
            servers.push(Server::echo(self.ip(u8::try_from(number).unwrap()), &number.to_string()).await);
        }
        servers.try_into().ok().unwrap()
    }

    /// The body of a balancer with these targets.
    pub(crate) fn body(&self, targets: &[u8], changes: &Value) -> Value {
        changed(&changed(&balancer("lb1"), &json!({"targetPools": [self.pool(targets)]})), changes)
    }

    pub(crate) fn pool(&self, targets: &[u8]) -> Value {
        let target = |number: &u8| json!({"displayName": format!("node-{number}"), "ip": self.ip(*number)});
        let targets: Vec<Value> = targets.iter().map(target).collect();
        json!({"name": "control-plane", "targetPort": PORT, "targets": targets})
    }

    /// A balancer that is ready and knows which of its targets are healthy: those that `healthy` says.
    pub(crate) async fn serve(&self, body: &Value, healthy: &[u8]) -> SocketAddr {
        self.cloud.ready(body).await;
        self.healthy(healthy).await;
        self.address()
    }

    /// Where the balancer listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.traffic().address().unwrap()
    }

    pub(crate) fn traffic(&self) -> BalancerReport {
        self.cloud.emulator.traffic("lb1").unwrap()
    }

    pub(crate) fn target(&self, number: u8) -> TargetReport {
        self.traffic().target(self.ip(number)).unwrap().clone()
    }

    /// Waits until exactly these targets are healthy.
    pub(crate) async fn healthy(&self, numbers: &[u8]) {
        let wanted: Vec<IpAddr> = numbers.iter().map(|number| self.ip(*number)).collect();
        let found = || {
            let report = self.traffic();
            report.targets.iter().filter(|target| target.healthy).map(|target| target.ip).collect::<Vec<_>>()
        };
        self.cloud.emulator.wait_for(|_| found() == wanted, SOON).await.unwrap_or_else(|_| panic!("{:?}", found()));
    }

    /// Waits until so many connections are carried.
    pub(crate) async fn open(&self, count: usize) {
        let look = || async {
            let report = self.traffic();
            ensure!(report.open == count, "{report:?}");
            Ok(())
        };
        until("connections", SOON, look).await.unwrap();
    }

    /// Replaces the targets by a PUT of the whole balancer.
    pub(crate) async fn set_targets(&self, targets: &[u8]) {
        self.write(&json!({"targetPools": [self.pool(targets)]})).await;
    }

    /// A PUT of what there is with changes.
    pub(crate) async fn write(&self, changes: &Value) {
        let shown = self.cloud.emulator.balancer("lb1").unwrap();
        let (status, answer) = self.cloud.put("/load-balancers/lb1", &changed(&echo(&shown), changes)).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// The targets that so many connections, one after the other, come to.
    pub(crate) async fn spread(&self, count: usize) -> BTreeMap<String, usize> {
        let mut spread = BTreeMap::new();
        for _ in 0..count {
            *spread.entry(Client::connect(self.address()).await.unwrap().target).or_insert(0) += 1;
        }
        spread
    }
}

/// A client whose connection has come to a target.
pub(crate) struct Client {
    pub(crate) stream: BufReader<TcpStream>,
    /// What the target called itself.
    pub(crate) target: String,
}

impl Client {
    pub(crate) async fn connect(to: SocketAddr) -> anyhow::Result<Self> {
        Self::greeted(TcpStream::connect(to).await.context("connecting")?).await
    }

    /// From another address than 127.0.0.1.
    pub(crate) async fn connect_from(from: IpAddr, to: SocketAddr) -> anyhow::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(from, 0))?;
        Self::greeted(socket.connect(to).await.context("connecting")?).await
    }

    async fn greeted(stream: TcpStream) -> anyhow::Result<Self> {
        let mut stream = BufReader::new(stream);
        let mut target = String::new();
        tokio::time::timeout(SOON, stream.read_line(&mut target)).await.context("no greeting")??;
        ensure!(target.ends_with('\n'), "closed after {target:?}");
        Ok(Self { stream, target: target.trim().to_owned() })
    }

    /// Sends a text and gets it back.
    pub(crate) async fn echo(&mut self, text: &str) -> anyhow::Result<()> {
        self.stream.write_all(text.as_bytes()).await?;
        let mut back = vec![0; text.len()];
        tokio::time::timeout(SOON, self.stream.read_exact(&mut back)).await.context("no echo")??;
        ensure!(back == text.as_bytes(), "another echo");
        Ok(())
    }

    /// How the connection ends: `Ok` by a FIN.
    pub(crate) async fn end(&mut self) -> std::io::Result<()> {
        let mut rest = Vec::new();
        tokio::time::timeout(SOON, self.stream.read_to_end(&mut rest)).await.expect("it ends").map(|_| ())
    }
}

/// A target. It ends, with its connections, when it is dropped.
pub(crate) struct Server {
    task: AbortHandle,
}

impl Server {
    /// Says its name on a line, then sends everything back.
    pub(crate) async fn echo(ip: IpAddr, name: &str) -> Self {
        let greeting = format!("{name}\n");
        Self::new(ip, move |mut stream| {
            let greeting = greeting.clone();
            async move {
                stream.write_all(greeting.as_bytes()).await?;
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await?;
                to.shutdown().await
            }
        })
        .await
    }

    /// Does anything. An error ends one connection only.
    pub(crate) async fn new<F>(ip: IpAddr, mut serve: impl FnMut(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = std::io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind(SocketAddr::new(ip, PORT)).await.unwrap();
        let accept = async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream));
            }
        };
        Self { task: tokio::spawn(accept).abort_handle() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}
