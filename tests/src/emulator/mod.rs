//! The double of the STACKIT network-load-balancer API, version 2, and of the token endpoints in front of it.
//!
//! It speaks the real protocol over real TCP, keeps state, is strict, and misbehaves on request. Behaviours carry the numbers
//! E1 to E108, faults F1 to F27; the tests carry them in their names. What the real cloud leaves open is a field of
//! [`Switches`].
//!
//! # Map
//! A request comes in at `server` (on a `line` that can be reset, perhaps over `tls`), meets its `fault`s, goes through
//! the `gateway` to the `token` endpoints, to `write`, `read`, `credential` or `quota`, and is written into the `journal`. Bodies
//! are read by `shape`, judged by `validate`, `listener` and `pool`, and become a `balancer` in the `state`, which the
//! `controller` moves on. The `data_plane`, where there is one, follows it. Tests hold a [`Handle`]; other processes use
//! `control`.
//!
//! # Control interface
//! | request | does |
//! |---|---|
//! | `GET /_emulator/` | this table |
//! | `GET`, `DELETE /_emulator/journal` | the journal as JSON lines; forgets it |
//! | `GET /_emulator/counters` | counts by method, path and status; token requests; writes per minute; forbidden fields |
//! | `GET`, `POST`, `DELETE /_emulator/faults` | the faults; adds a [`Fault`]; ends all |
//! | `GET`, `PATCH /_emulator/switches` | the [`Switches`]; changes some |
//! | `POST /_emulator/key` | makes a key file ([`KeyOptions`], may be left out) |
//! | `DELETE /_emulator/key/KID` | deletes a key |
//! | `DELETE /_emulator/tokens` | revokes all access tokens |
//! | `POST /_emulator/federations`, `/assertions` | trusts an issuer ([`Federation`]); mints a workload token ([`Assertion`]) |
//! | `GET /_emulator/balancers[/NAME]` | the balancers as GET shows them |
//! | `PATCH`, `DELETE /_emulator/balancers/NAME` | another client edits (merge patch) or deletes it |
//! | `GET /_emulator/addresses`, `POST`, `DELETE /_emulator/addresses/IP` | the public addresses |
//! | `POST /_emulator/advance` | lets `{"milliseconds": N}` pass at once; the data plane has its own time |
//! | `GET /_emulator/state`, `GET /` | all there is, with connections and bytes target by target; a page of it for people |
//! | `POST /_emulator/balancers/NAME/failover` | the other machine takes over after `{"milliseconds": N}` of darkness |
//!
//! What the data plane does wrong is the switch `data_plane`, a [`Disturbance`].
//!
//! Where [`crate::openapi`] has the provider's own description of the API, an emulator that has taken or given what that
//! does not know panics at its end, unless somebody has asked [`Handle::conforms`] before.
//!
//! ```sh
//! curl -s $URL/_emulator/faults -d '{"method": "PUT", "times": 1, "action": {"kind": "reset", "committed": true}}'
//! ```
//!
//! # What is not here
//! The `probe` variant of E45. HTTP/2, and with it GOAWAY (F20): the real gateway's clients cope with HTTP/1.1. Wrong answers
//! of DNS: they are made in front of a server. What the data plane leaves out is said there.

mod action;
mod address;
mod answer;
mod balancer;
mod canonical;
mod clock;
mod control;
mod controller;
mod credential;
mod data_plane;
mod fault;
mod federation;
mod gateway;
mod handle;
mod journal;
mod jwt;
mod key;
mod line;
mod listener;
mod observe;
mod page;
mod pool;
mod profile;
mod quota;
mod read;
mod server;
mod shape;
mod state;
mod switches;
mod tls;
mod token;
mod validate;
mod wire;
mod write;

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use ipnet::Ipv4Net;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use action::Action;
pub use address::Address;
pub use data_plane::{
    BalancerReport, DataPlane, Disturbance, ListenerReport, RefusedSources, TargetReport, raise_file_limit,
};
pub use fault::Fault;
pub use federation::{Assertion, Federation};
pub use handle::Handle;
pub use journal::Entry;
pub use key::KeyOptions;
pub use observe::Counter;
pub use profile::{Delays, Profile};
pub use switches::{Connections, EphemeralForm, Switches, TokenForm};
pub use tls::Tls;

use crate::openapi;
use data_plane::Plane;
use journal::Journal;
use server::Shared;
use state::{PlaceKey, State};

/// How to start an emulator. The default is right for most tests.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to listen; port 0 for any free one.
    pub listen: SocketAddr,
    /// Whether to speak TLS, with a certificate of its own CA.
    pub tls: Option<Tls>,
    /// The project that exists from the start, a UUID of version 4.
    pub project: String,
    /// The region of that project.
    pub region: String,
    /// How fast the cloud is.
    pub profile: Profile,
    /// Where ephemeral addresses are taken from.
    pub address_pool: Ipv4Net,
    /// Start of the dice of faults with a probability.
    pub seed: u64,
    /// A file that gets the journal as JSON lines.
    pub journal: Option<PathBuf>,
    /// The switches at the start.
    pub switches: Switches,
    /// Whether balancers listen and carry bytes, and how. Ephemeral addresses then come from its pool.
    pub data_plane: Option<DataPlane>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            tls: None,
            project: "2028e5d4-af4f-45e2-98df-502be37a4317".to_owned(),
            region: "eu01".to_owned(),
            profile: Profile::default(),
            // TEST-NET-3: addresses that are nobody's.
            address_pool: Ipv4Net::new_assert(Ipv4Addr::new(203, 0, 113, 0), 24),
            seed: 0,
            journal: None,
            switches: Switches::default(),
            data_plane: None,
        }
    }
}

/// A running emulator. It ends, with all its connections, when it is dropped.
#[derive(Debug)]
pub struct Emulator {
    handle: Handle,
    _tasks: JoinSet<()>,
}

impl Emulator {
    /// Starts to listen; ready when this returns.
    ///
    /// # Errors
    /// When the address is taken, the journal cannot be written, the project is not a UUID of version 4, or the description
    /// of the API that the environment names cannot be read.
    pub async fn start(options: Options) -> anyhow::Result<Self> {
        let Options { listen, tls, project, region, profile, address_pool, seed, journal, mut switches, data_plane } =
            options;
        ensure!(validate::is_uuid_v4(&project), "the project {project:?} is not a lower-case UUID of version 4");
        ensure!(validate::is_region(&region), "the region {region:?} is not like eu01");
        let file = journal.map(|path| File::create(&path).with_context(|| format!("creating {}", path.display())));
        let listener = TcpListener::bind(listen).await.with_context(|| format!("listening on {listen}"))?;
        let address = listener.local_addr().context("asking for the own address")?;
        let tls = tls.map(|tls| tls::acceptor(tls, address.ip())).transpose()?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (acceptor, authority) = tls.unzip();

        switches.projects.insert(project.clone());
        let changed = watch::Sender::new(0);
        let plane = data_plane.map(|options| Plane::new(options, changed.clone())).transpose()?;
        let address_pool = plane.as_ref().map_or(address_pool, Plane::pool);
        let journal = Journal::new(file.transpose()?, openapi::document()?);
        let state = State::new(switches, profile.delays(), address_pool, seed, journal);
        let home = PlaceKey { project, region };
        let shared = Arc::new(Shared::new(state, changed, format!("{scheme}://{address}"), home, authority, plane));
        let mut tasks = JoinSet::new();
        tasks.spawn(server::control_loop(shared.clone()));
        tasks.spawn(server::accept(listener, shared.clone(), acceptor));
        Ok(Self { handle: Handle::new(shared), _tasks: tasks })
    }

    /// A handle that other tasks can own; it does not keep the emulator running.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // Handles may live on; listeners and connections shall not.
        if let Some(plane) = &self.shared().plane {
            plane.end();
        }
        if let Err(differences) = self.conforms()
            && !std::thread::panicking()
        {
            #[expect(
                clippy::panic,
                reason = "whoever runs the emulator has asked for the comparison and must not miss it"
            )]
            {
                panic!("{differences:#}");
            }
        }
    }
}

impl Deref for Emulator {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}
