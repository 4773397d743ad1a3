//! Something that probes take for API servers.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// API servers that answer well, each until it is told to hang: what a probe needs, over plain HTTP.
pub(super) struct Answering {
    /// Where all of them listen.
    pub(super) port: u16,
    /// Told `true`, one of them hangs.
    pub(super) hangs: Vec<Arc<AtomicBool>>,
    _tasks: tokio::task::JoinSet<()>,
}

impl Answering {
    /// One at each of these addresses, all at one port.
    pub(super) async fn at(addresses: &[Ipv4Addr]) -> Result<Self> {
        let mut tasks = tokio::task::JoinSet::new();
        let mut hangs = Vec::new();
        let mut port = 0;
        for address in addresses {
            let listener = TcpListener::bind((*address, port)).await?;
            port = listener.local_addr()?.port();
            let hang = Arc::new(AtomicBool::new(false));
            hangs.push(Arc::clone(&hang));
            tasks.spawn(async move {
                while let Ok((mut connection, _)) = listener.accept().await {
                    let hang = Arc::clone(&hang);
                    tokio::spawn(async move {
                        let (mut buffer, mut text) = ([0; 1024], String::new());
                        while let Ok(read) = connection.read(&mut buffer).await {
                            text.push_str(&String::from_utf8_lossy(&buffer[..read]));
                            while let Some((_, rest)) = text.split_once("\r\n\r\n") {
                                let rest = rest.to_owned();
                                text = rest;
                                if hang.load(Ordering::Relaxed) {
                                    return std::future::pending().await;
                                }
                                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                                if connection.write_all(answer).await.is_err() {
                                    return;
                                }
                            }
                            if read == 0 {
                                return;
                            }
                        }
                    });
                }
            });
        }
        Ok(Self { port, hangs, _tasks: tasks })
    }
}
