//! Asking the agent that runs on this machine, over its admin server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use decide::settings::Settings;
use serde_json::Value;

/// Time for the answer: it comes from memory.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What `/state` says, or why nothing does.
pub(super) async fn state(settings: &Settings) -> Result<Value, String> {
    let address = settings.server.bind_address().ok_or("server.bindAddress is no address with a port")?;
    let address = reachable(address);
    let failed = |error: &dyn std::error::Error| {
        let root = std::iter::successors(Some(error), |error| error.source()).last().map(ToString::to_string);
        format!("no agent answers at {address} (server.bindAddress): {}", root.unwrap_or_default())
    };
    let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build().map_err(|error| failed(&error))?;
    let answer = client.get(format!("http://{address}/state")).send().await.map_err(|error| failed(&error))?;
    if !answer.status().is_success() {
        return Err(format!("{address} (server.bindAddress) answers {} to /state", answer.status()));
    }
    let state: Value = answer.json().await.map_err(|error| failed(&error))?;
    if state["exposures"].is_array() { Ok(state) } else { Err(format!("what listens at {address} is no agent")) }
}

/// Who listens on every address listens on the loopback one.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
