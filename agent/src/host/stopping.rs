//! Whether this machine is on its way down, as systemd says it: `systemctl is-system-running` without a process.
//!
//! One call over D-Bus, made by hand: it is asked once in the life of the agent, when it is told to stop. The system bus
//! first, which an account without rights may ask too, then systemd's own socket, for root on a machine without a bus.
//! `$DBUS_SYSTEM_BUS_ADDRESS` says where the bus is, as for every client of it. Where there is neither, as in a pod,
//! nothing is known.
//!
//! Deliberately not here: files. `/run/systemd/shutdown/scheduled` knows only shutdowns with a date, `/run/nologin` is
//! written while others are being stopped already, and systemd leaves no other trace.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tracing::debug;

/// Where the system bus is, unless the environment says otherwise.
const BUS: &str = "/run/dbus/system_bus_socket";
/// systemd's own socket, for root.
const PRIVATE: &str = "/run/systemd/private";
/// Time for the whole call: a machine that stops does not wait.
const TIMEOUT: Duration = Duration::from_secs(1);
/// More than an answer to this question has.
const LARGEST: usize = 64 * 1024;
/// Messages that may come before the answer, such as the name that the bus gives us.
const MOST: usize = 8;

/// Kinds of messages.
const CALL: u8 = 1;
const RETURN: u8 = 2;
const FAULT: u8 = 3;

/// systemd's word for the state of the system, such as `running` or `stopping`; `None`: nobody here knows.
pub async fn system_state() -> Option<String> {
    let named = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").ok();
    let bus = named.as_deref().map_or(Some(PathBuf::from(BUS)), path_of);
    for (socket, is_bus) in [(bus, true), (named.is_none().then(|| PathBuf::from(PRIVATE)), false)] {
        let Some(socket) = socket else { continue };
        match tokio::time::timeout(TIMEOUT, ask(&socket, is_bus)).await {
            Ok(Ok(state)) => return Some(state),
            Ok(Err(error)) => debug!(socket = %socket.display(), %error, "cannot ask systemd"),
            Err(_) => debug!(socket = %socket.display(), "systemd does not answer within {TIMEOUT:?}"),
        }
    }
    None
}

/// The socket of the first address that is one, in the form `unix:path=/run/…`.
fn path_of(addresses: &str) -> Option<PathBuf> {
    let parameters = addresses.split(';').find_map(|address| address.strip_prefix("unix:"))?;
    parameters.split(',').find_map(|parameter| parameter.strip_prefix("path=")).map(PathBuf::from)
}

async fn ask(socket: &std::path::Path, is_bus: bool) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket).await?;
    // No name: the socket itself says who we are.
    stream.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\n").await?;
    while !line(&mut stream).await?.starts_with("OK ") {}
    stream.write_all(b"BEGIN\r\n").await?;
    if is_bus {
        let hello = call(1, "/org/freedesktop/DBus", "org.freedesktop.DBus", ("org.freedesktop.DBus", "Hello"), &[]);
        stream.write_all(&hello).await?;
        answer(&mut stream).await?;
    }
    let property = ["org.freedesktop.systemd1.Manager", "SystemState"];
    let get = ("org.freedesktop.DBus.Properties", "Get");
    stream.write_all(&call(2, "/org/freedesktop/systemd1", "org.freedesktop.systemd1", get, &property)).await?;
    text(&answer(&mut stream).await?).ok_or_else(|| malformed("no text in the answer"))
}

/// One line of the handshake; a refusal is an error.
async fn line(stream: &mut UnixStream) -> io::Result<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        line.push(stream.read_u8().await?);
        if line.len() > 512 {
            return Err(malformed("a line without end"));
        }
    }
    let line = String::from_utf8_lossy(&line).trim_end().to_owned();
    if line.starts_with("REJECTED") || line.starts_with("ERROR") {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, line));
    }
    Ok(line)
}

/// The body of the next answer; what comes unasked is skipped.
async fn answer(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    for _ in 0..MOST {
        let mut fixed = [0; 16];
        stream.read_exact(&mut fixed).await?;
        let [order, kind, ..] = fixed;
        if order != b'l' {
            return Err(malformed("another byte order than ours"));
        }
        let (body, fields) = (number(&fixed, 4), number(&fixed, 12));
        let (Some(body), Some(fields)) = (body, fields.map(|fields| fields.next_multiple_of(8))) else {
            return Err(malformed("a short header"));
        };
        if body.max(fields) > LARGEST {
            return Err(malformed("an answer that is too long"));
        }
        let mut rest = vec![0; fields + body];
        stream.read_exact(&mut rest).await?;
        let body = rest.split_off(fields);
        match kind {
            RETURN => return Ok(body),
            FAULT => return Err(io::Error::other("systemd or the bus refuses to answer")),
            _ => {}
        }
    }
    Err(malformed("no answer among many messages"))
}

/// A method call with texts as arguments.
fn call(serial: u32, path: &str, destination: &str, (interface, member): (&str, &str), arguments: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    for argument in arguments {
        put_text(&mut body, argument);
    }
    let mut fields = Vec::new();
    for (code, kind, value) in [(1, b'o', path), (2, b's', interface), (3, b's', member), (6, b's', destination)] {
        pad(&mut fields, 8);
        fields.extend([code, 1, kind, 0]);
        put_text(&mut fields, value);
    }
    if !arguments.is_empty() {
        pad(&mut fields, 8);
        let signature = "s".repeat(arguments.len());
        fields.extend([8, 1, b'g', 0, u8::try_from(signature.len()).unwrap_or_default()]);
        fields.extend(signature.bytes().chain([0]));
    }
    let mut message = vec![b'l', CALL, 0, 1];
    message.extend(length(&body).to_le_bytes());
    message.extend(serial.to_le_bytes());
    message.extend(length(&fields).to_le_bytes());
    message.extend(fields);
    pad(&mut message, 8);
    message.extend(body);
    message
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    pad(out, 4);
    out.extend(length(text.as_bytes()).to_le_bytes());
    out.extend(text.bytes().chain([0]));
}

fn pad(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

/// What is sent here has a few hundred bytes.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// The text in a body of the type `variant of string`.
fn text(body: &[u8]) -> Option<String> {
    // Length and text of the signature, its end, and the alignment of the length that follows.
    let rest = body.strip_prefix(&[1, b's', 0, 0])?;
    let end = number(rest, 0)?.checked_add(4)?;
    String::from_utf8(rest.get(4..end)?.to_vec()).ok()
}

fn number(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..at + 4)?.try_into().ok()?;
    usize::try_from(u32::from_le_bytes(bytes)).ok()
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_a_bus_are_read_as_every_client_reads_them() {
        let path = |text: &str| path_of(text).map(|path| path.display().to_string());
        assert_eq!(path("unix:path=/a/b").as_deref(), Some("/a/b"));
        assert_eq!(path("tcp:host=x;unix:guid=1,path=/c").as_deref(), Some("/c"));
        assert_eq!(path("unix:abstract=/a"), None);
    }

    #[test]
    fn a_call_is_laid_out_as_the_specification_says() {
        let message = call(2, "/p", "d.e", ("i.f", "Get"), &["ab"]);
        assert_eq!(&message[..4], b"l\x01\x00\x01");
        let fields = number(&message, 12).unwrap();
        // A text of two letters: its length, itself, its end.
        assert_eq!(number(&message, 4), Some(7));
        assert_eq!(message.len(), 16 + fields.next_multiple_of(8) + 7);
        assert_eq!(&message[16..26], b"\x01\x01o\x00\x02\x00\x00\x00/p");
        assert_eq!(&message[message.len() - 7..], b"\x02\x00\x00\x00ab\x00");
    }

    #[test]
    fn only_a_text_is_an_answer() {
        assert_eq!(text(b"\x01s\x00\x00\x08\x00\x00\x00stopping\x00").as_deref(), Some("stopping"));
        assert_eq!(text(b"\x01u\x00\x00\x08\x00\x00\x00"), None);
        assert_eq!(text(b"\x01s\x00\x00\xff\xff\xff\xffx"), None);
        assert_eq!(text(b""), None);
    }
}
