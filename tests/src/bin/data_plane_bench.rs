//! What the emulated balancer carries, beside a plain splice proxy and HAProxy, in the same run.
//!
//! Client, proxy and target are processes of their own. Each proxy carries the same load to the same kind of target:
//! bytes over one connection and over eight, short connections one after the other, and 10,000 open at once. Where a process
//! may not have enough open files for those, as many processes of the proxy share them as it takes; HAProxy is one, and gets
//! what it can hold.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::{Parser, ValueEnum};
use futures::future::try_join_all;
use nix::fcntl::{OFlag, SpliceFFlags, splice};
use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd::pipe2;
use serde_json::{Value, json};
use tests::emulator::{DataPlane, Emulator, Options, Profile, raise_file_limit};
use tests::wait::until;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Interest};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::process::{Child, Command};

const HAPROXY: &str = "/usr/sbin/haproxy";
const BUFFER: usize = 256 * 1_024;
/// Connections at once.
const MOST: u64 = 10_000;
/// Open files that a process needs for itself.
const SPARE: u64 = 200;

/// Throughput and connections of the emulator's data plane, beside a plain splice proxy and HAProxy.
#[derive(Parser)]
#[command(name = "data-plane-bench")]
struct Arguments {
    /// Bytes per measurement, in GiB
    #[arg(long, default_value_t = 4)]
    gibibytes: u64,
    /// Short connections per measurement
    #[arg(long, default_value_t = 4_000)]
    short: usize,
    #[arg(long, hide = true)]
    role: Option<Role>,
    #[arg(long, hide = true)]
    target: Option<SocketAddr>,
}

/// What a process of the benchmark is.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    Target,
    Splice,
    Emulator,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    raise_file_limit();
    let result = match (arguments.role, arguments.target) {
        (None, _) => compare(&arguments).await,
        (Some(Role::Target), _) => target().await,
        (Some(Role::Splice), Some(target)) => splice_proxy(target).await,
        (Some(Role::Emulator), Some(target)) => emulator(target).await,
        (Some(_), None) => Err(anyhow::anyhow!("this role needs --target")),
    };
    if let Err(error) = result {
        // Nothing is left to tell if standard error is closed.
        let _ = writeln!(io::stderr(), "data-plane-bench: {error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

async fn compare(arguments: &Arguments) -> anyhow::Result<()> {
    let (_target, target) = role(&["--role", "target"]).await?;
    let target_text = target.to_string();
    let mut rows = vec![measure("no proxy", &[target], MOST.min(holds(1)), arguments).await?];
    // Open files for a connection: two sockets; with two pipes besides, which have two ends each.
    for (name, role_name, files) in [("emulator", "emulator", 2), ("splice proxy", "splice", 6)] {
        let count = MOST.div_ceil(holds(files));
        let proxies = (0..count).map(async |_| role(&["--role", role_name, "--target", &target_text]).await);
        let (_proxies, addresses): (Vec<Child>, Vec<SocketAddr>) = try_join_all(proxies).await?.into_iter().unzip();
        rows.push(measure(name, &addresses, MOST, arguments).await?);
    }
    let haproxy = Path::new(HAPROXY).exists();
    if haproxy {
        let (_proxy, _folder, address) = haproxy_proxy(target).await?;
        rows.push(measure("HAProxy", &[address], MOST.min(holds(3)), arguments).await?);
    }
    let mut output = io::stdout();
    writeln!(
        output,
        "| proxy | GB/s, 1 connection | GB/s, 8 connections | connections/s | open at once | in processes |"
    )?;
    writeln!(output, "|---|---|---|---|---|---|")?;
    for row in &rows {
        let number = |field: &str| row[field].as_f64().unwrap_or_default();
        writeln!(
            output,
            "| {} | {:.2} | {:.2} | {:.0} | {} | {} |",
            row["proxy"].as_str().unwrap_or_default(),
            number("gigabytesPerSecondOne"),
            number("gigabytesPerSecondEight"),
            number("connectionsPerSecond"),
            row["openAtOnce"],
            row["processes"]
        )?;
    }
    if !haproxy {
        writeln!(output, "HAProxy is not installed ({HAPROXY}): left out.")?;
    }
    writeln!(output, "{}", json!({"openFiles": raise_file_limit(), "haproxy": haproxy, "rows": rows}))?;
    Ok(())
}

/// Starts this program in a role, and waits for its address.
async fn role(arguments: &[&str]) -> anyhow::Result<(Child, SocketAddr)> {
    let mut child = Command::new(std::env::current_exe()?)
        .args(arguments)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("starting a part of the benchmark")?;
    let output = child.stdout.take().context("no output")?;
    let line = BufReader::new(output).lines().next_line().await?.context("it ended")?;
    Ok((child, line.parse().context("reading its address")?))
}

fn ready(address: SocketAddr) -> anyhow::Result<()> {
    let mut output = io::stdout();
    writeln!(output, "{address}")?;
    Ok(output.flush()?)
}

/// How many connections a process can hold that needs so many open files for each.
fn holds(files: u64) -> u64 {
    (raise_file_limit().saturating_sub(SPARE) / files).max(1)
}

/// All measurements of one proxy: the processes at these addresses share the connections that are open at once, the first
/// carries the rest.
async fn measure(name: &str, to: &[SocketAddr], most: u64, arguments: &Arguments) -> anyhow::Result<Value> {
    let bytes = arguments.gibibytes << 30;
    let first = *to.first().context("no process")?;
    let one = throughput(first, 1, bytes).await.with_context(|| format!("{name}, one connection"))?;
    let eight = throughput(first, 8, bytes).await.with_context(|| format!("{name}, eight connections"))?;
    let rate = short_connections(first, arguments.short).await.with_context(|| format!("{name}, short connections"))?;
    let open = open_at_once(to, usize::try_from(most)?).await.with_context(|| format!("{name}, {most} open"))?;
    Ok(json!({"proxy": name, "gigabytesPerSecondOne": one, "gigabytesPerSecondEight": eight,
        "connectionsPerSecond": rate, "openAtOnce": open, "processes": to.len()}))
}

/// Gigabytes (10⁹ bytes) a second, from the first byte sent to the last one acknowledged by the target.
async fn throughput(to: SocketAddr, connections: u64, bytes: u64) -> anyhow::Result<f64> {
    let each = bytes / connections;
    let begun = Instant::now();
    try_join_all((0..connections).map(|_| async move { tokio::spawn(send(to, each)).await? })).await?;
    Ok(precise(each * connections) / begun.elapsed().as_secs_f64() / 1e9)
}

async fn send(to: SocketAddr, bytes: u64) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(to).await?;
    stream.write_all(b"S").await?;
    let buffer = vec![7; BUFFER];
    let mut left = bytes;
    while left > 0 {
        let piece = buffer.len().min(usize::try_from(left)?);
        stream.write_all(buffer.get(..piece).unwrap_or_default()).await?;
        left -= piece as u64;
    }
    stream.shutdown().await?;
    let received = stream.read_u64().await?;
    ensure!(received == bytes, "{received} of {bytes} bytes arrived");
    Ok(())
}

/// Connections a second, each with one byte there and back, eight at a time.
async fn short_connections(to: SocketAddr, count: usize) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let worker = || async move {
        for _ in 0..count / 8 {
            let mut stream = TcpStream::connect(to).await?;
            echo(&mut stream, true).await?;
        }
        anyhow::Ok(())
    };
    try_join_all((0..8).map(|_| async move { tokio::spawn(worker()).await? })).await?;
    Ok(precise((count / 8 * 8) as u64) / begun.elapsed().as_secs_f64())
}

/// Opens so many connections, asks each for an echo, and then, with all open, again. Gives back how many answered.
async fn open_at_once(to: &[SocketAddr], count: usize) -> anyhow::Result<usize> {
    let mut streams = Vec::with_capacity(count);
    for address in to.iter().cycle().take(count) {
        let mut stream = TcpStream::connect(address).await?;
        echo(&mut stream, true).await?;
        streams.push(stream);
    }
    let mut answered = 0;
    for stream in &mut streams {
        answered += usize::from(echo(stream, false).await.is_ok());
    }
    Ok(answered)
}

async fn echo(stream: &mut TcpStream, first: bool) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    stream.write_all(if first { b"Ex" } else { b"x" }).await?;
    let answer = tokio::time::timeout(Duration::from_secs(10), stream.read_u8()).await.context("no echo")??;
    ensure!(answer == b'x', "another echo");
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn precise(number: u64) -> f64 {
    number as f64
}

fn listener(address: &str) -> anyhow::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address.parse()?)?;
    Ok(socket.listen(4_096)?)
}

/// Counts bytes after an `S`, sends them back after an `E`.
async fn target() -> anyhow::Result<()> {
    let listener = listener("127.0.77.1:0")?;
    ready(listener.local_addr()?)?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            stream.set_nodelay(true)?;
            if stream.read_u8().await? == b'E' {
                let mut piece = [0; 64];
                loop {
                    let count = stream.read(&mut piece).await?;
                    if count == 0 {
                        return Ok(());
                    }
                    stream.write_all(piece.get(..count).unwrap_or_default()).await?;
                }
            }
            let (mut total, mut buffer) = (0, vec![0; BUFFER]);
            loop {
                let count = stream.read(&mut buffer).await?;
                if count == 0 {
                    return stream.write_u64(total).await;
                }
                total += count as u64;
            }
        });
    }
}

/// The emulator with one balancer, when its target is healthy.
async fn emulator(target: SocketAddr) -> anyhow::Result<()> {
    let options = Options { profile: Profile::Instant, data_plane: Some(DataPlane::default()), ..Options::default() };
    let emulator = Emulator::start(options).await?;
    emulator.create(&json!({
        "name": "bench",
        "networks": [{"networkId": "2028e5d4-af4f-45e2-98df-502be37a4317", "role": "ROLE_LISTENERS_AND_TARGETS"}],
        "listeners": [{"port": 6_443, "protocol": "PROTOCOL_TCP", "targetPool": "bench"}],
        "targetPools": [{"name": "bench", "targetPort": target.port(),
            "targets": [{"displayName": "target", "ip": target.ip()}]}],
        "options": {"ephemeralAddress": true},
    }))?;
    let look = || async {
        let traffic = emulator.traffic("bench").context("no data plane yet")?;
        ensure!(traffic.targets.iter().any(|target| target.healthy), "{traffic:?}");
        traffic.address().context("no listener")
    };
    ready(until("the balancer", Duration::from_secs(10), look).await?)?;
    std::future::pending().await
}

/// The least that can be called a proxy: two pipes and two tasks for each connection.
async fn splice_proxy(target: SocketAddr) -> anyhow::Result<()> {
    let listener = listener("127.0.77.2:0")?;
    ready(listener.local_addr()?)?;
    loop {
        let (client, _) = listener.accept().await?;
        tokio::spawn(async move {
            let server = TcpStream::connect(target).await?;
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            tokio::try_join!(one_way(&client, &server), one_way(&server, &client))
        });
    }
}

async fn one_way(from: &TcpStream, to: &TcpStream) -> io::Result<()> {
    let (out_of, into) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
    loop {
        let fill = || Ok(splice(from, None, &into, None, BUFFER, flags)?);
        let mut held = from.async_io(Interest::READABLE, fill).await?;
        if held == 0 {
            return Ok(shutdown(std::os::fd::AsRawFd::as_raw_fd(to), Shutdown::Write)?);
        }
        while held > 0 {
            let pour = || Ok(splice(&out_of, None, to, None, held, flags)?);
            held -= to.async_io(Interest::WRITABLE, pour).await?;
        }
    }
}

async fn haproxy_proxy(target: SocketAddr) -> anyhow::Result<(Child, tempfile::TempDir, SocketAddr)> {
    let folder = tempfile::tempdir()?;
    let address: SocketAddr = "127.0.77.3:26443".parse()?;
    let file = folder.path().join("haproxy.cfg");
    std::fs::write(
        &file,
        format!(
            "global\n  maxconn {}\ndefaults\n  mode tcp\n  option splice-auto\n  timeout connect 5s\n  timeout client 5m\n  \
             timeout server 5m\nlisten bench\n  bind {address}\n  server target {target}\n",
            // Two sockets a connection, and a pipe for each fourth.
            raise_file_limit().saturating_sub(200) * 2 / 5
        ),
    )?;
    let child = Command::new(HAPROXY).arg("-db").arg("-f").arg(&file).kill_on_drop(true).spawn()?;
    let look = || async { Ok(TcpStream::connect(address).await.map(drop)?) };
    until("HAProxy", Duration::from_secs(10), look).await?;
    Ok((child, folder, address))
}
