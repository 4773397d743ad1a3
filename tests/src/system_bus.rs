//! A system bus with nobody on it but systemd, and of systemd nothing but the state of the system.
//!
//! The agent asks it over the real protocol, at the address that `DBUS_SYSTEM_BUS_ADDRESS` names for every client.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

/// The bus; gone when dropped.
#[derive(Debug)]
pub struct SystemBus {
    socket: PathBuf,
    state: Arc<Mutex<String>>,
    task: JoinHandle<()>,
}

impl SystemBus {
    /// Listens at this path; the machine runs.
    pub fn start(socket: &Path) -> Result<Self> {
        let listener = UnixListener::bind(socket).with_context(|| format!("listening at {}", socket.display()))?;
        let state = Arc::new(Mutex::new("running".to_owned()));
        let told = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = told.lock().unwrap_or_else(PoisonError::into_inner).clone();
                // A client that goes away in the middle is its own business.
                tokio::spawn(async move { drop(serve(stream, &state).await) });
            }
        });
        Ok(Self { socket: socket.to_owned(), state, task })
    }

    /// From now on systemd says this.
    pub fn say(&self, state: &str) {
        state.clone_into(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The value of `DBUS_SYSTEM_BUS_ADDRESS`.
    pub fn address(&self) -> String {
        format!("unix:path={}", self.socket.display())
    }
}

impl Drop for SystemBus {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: UnixStream, state: &str) -> Result<()> {
    // The handshake: a zero, then lines.
    let mut line = Vec::new();
    loop {
        line.push(stream.read_u8().await?);
        if !line.ends_with(b"\r\n") {
            continue;
        }
        let said = String::from_utf8_lossy(&line).trim_matches(['\0', '\r', '\n']).to_owned();
        line.clear();
        match said.as_str() {
            "AUTH EXTERNAL" => stream.write_all(b"DATA\r\n").await?,
            "DATA" => stream.write_all(b"OK 0123456789abcdef0123456789abcdef\r\n").await?,
            "BEGIN" => break,
            _ => stream.write_all(b"ERROR\r\n").await?,
        }
    }
    loop {
        let mut fixed = [0; 16];
        stream.read_exact(&mut fixed).await?;
        let number = |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
        let (body, serial, fields) = (number(4), number(8), number(12));
        let mut rest = vec![0; (fields.next_multiple_of(8) + body) as usize];
        stream.read_exact(&mut rest).await?;
        let asked = String::from_utf8_lossy(&rest).into_owned();
        if asked.contains("SystemState") && asked.contains("org.freedesktop.systemd1.Manager") {
            stream.write_all(&reply(serial, "v", &[&[1, b's', 0, 0], &text(state)[..]].concat())).await?;
        } else if asked.contains("Hello") {
            // As the bus does: our name, and a signal that nobody has asked for.
            stream.write_all(&reply(serial, "s", &text(":1.1"))).await?;
            stream.write_all(&message(4, 0, "s", &text(":1.1"))).await?;
        }
    }
}

fn text(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap_or_default();
    [&length.to_le_bytes()[..], text.as_bytes(), &[0]].concat()
}

fn reply(serial: u32, signature: &str, body: &[u8]) -> Vec<u8> {
    message(2, serial, signature, body)
}

fn message(kind: u8, to: u32, signature: &str, body: &[u8]) -> Vec<u8> {
    let mut fields = vec![5, 1, b'u', 0];
    fields.extend(to.to_le_bytes());
    fields.extend([8, 1, b'g', 0, 1]);
    fields.extend(signature.bytes().chain([0]));
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or_default().to_le_bytes();
    let mut message = vec![b'l', kind, 1, 1];
    message.extend(length(body));
    message.extend(77_u32.to_le_bytes());
    message.extend(length(&fields));
    message.extend(&fields);
    message.resize(message.len().next_multiple_of(8), 0);
    message.extend(body);
    message
}
