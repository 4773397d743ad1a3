//! What a test, or the control interface, can do with a running emulator.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, bail};
use ipnet::Ipv4Net;
use serde_json::Value;

use super::address::Address;
use super::data_plane::{BalancerReport, Disturbance, Plane};
use super::fault::Fault;
use super::federation::{self, Assertion, Federation};
use super::key::{self, KeyOptions};
use super::profile::Delays;
use super::server::Shared;
use super::switches::Switches;
use super::{controller, token, write};

/// A cheap clone of access to one emulator; usable from any task.
///
/// Closures given to `set_switches`, `edit` and `with_journal` hold the emulator's lock: they must not use the handle
/// themselves. The level of `wait_for` may.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The base URL of the load-balancer API, e.g. `http://127.0.0.1:40123`.
    pub fn url(&self) -> &str {
        &self.shared.url
    }

    /// Where service-account keys become access tokens (E1).
    pub fn token_url(&self) -> String {
        format!("{}/token", self.url())
    }

    /// Where workload identities become access tokens (E8).
    pub fn federation_token_url(&self) -> String {
        format!("{}/oauth/v2/token", self.url())
    }

    /// The project that exists from the start, a UUID of version 4.
    pub fn project(&self) -> &str {
        &self.shared.home.project
    }

    /// The region that methods without one mean.
    pub fn region(&self) -> &str {
        &self.shared.home.region
    }

    /// The certificate of the CA in PEM, when the emulator speaks TLS.
    pub fn authority_pem(&self) -> Option<&str> {
        self.shared.authority.as_deref()
    }

    /// Makes a service-account key and gives back its file.
    ///
    /// # Errors
    /// When no RSA key could be made.
    pub fn service_account_key(&self, options: &KeyOptions) -> anyhow::Result<Value> {
        let now = self.shared.look(|state| state.clock.unix_seconds());
        let (id, key, file) = key::issue(options, &self.token_url(), now)?;
        self.shared.change(|state| state.keys.insert(id, key));
        Ok(file)
    }

    /// An access token without a key: for clients that are no part of what is tested.
    pub fn access_token(&self) -> String {
        let tokens = self.shared.change(|state| token::hand_out(state, "tests".to_owned(), "tests".to_owned()));
        tokens["access_token"].as_str().unwrap_or_default().to_owned()
    }

    /// The ids of all keys that are not deleted.
    pub fn keys(&self) -> Vec<String> {
        self.shared.look(|state| state.keys.keys().cloned().collect())
    }

    /// E3: deletes a key. False if there was none.
    pub fn revoke_key(&self, id: &str) -> bool {
        self.shared.change(|state| state.keys.remove(id).is_some())
    }

    /// E12, F3: every access token handed out so far gets 401 from now on.
    pub fn revoke_tokens(&self) {
        self.shared.change(|state| state.tokens.revoke_all());
    }

    /// E8: trusts an issuer of workload identities from now on.
    ///
    /// # Errors
    /// When its public key cannot be read.
    pub fn federation(&self, federation: Federation) -> anyhow::Result<()> {
        federation.key()?;
        self.shared.change(|state| state.federations.push(federation));
        Ok(())
    }

    /// E8, E9: a workload token signed by the emulator's test issuer.
    ///
    /// # Errors
    /// When no RSA key could be made.
    pub fn assertion(&self, assertion: &Assertion) -> anyhow::Result<String> {
        federation::mint(assertion, self.shared.look(|state| state.clock.unix_seconds()))
    }

    /// Adds a fault to those at work.
    pub fn inject(&self, fault: Fault) {
        self.shared.change(|state| {
            let now = state.clock.now();
            state.faults.add(fault, now);
        });
    }

    /// Ends all faults; switches stay as they are.
    pub fn clear_faults(&self) {
        self.shared.change(|state| state.faults.clear());
    }

    /// The faults at work.
    pub fn faults(&self) -> Vec<Fault> {
        self.shared.look(|state| state.faults.list())
    }

    /// The switches as they are.
    pub fn switches(&self) -> Switches {
        self.shared.look(|state| state.switches.clone())
    }

    /// Changes switches; balancers follow at once.
    pub fn set_switches(&self, change: impl FnOnce(&mut Switches)) {
        self.shared.change(|state| change(&mut state.switches));
    }

    /// How long the cloud takes from now on; what is under way keeps its time.
    pub fn set_delays(&self, delays: Delays) {
        self.shared.change(|state| state.delays = delays);
    }

    /// F9: lets so much time pass at once, for provisioning, tokens and pages alike. What becomes due is done on return.
    pub fn advance(&self, time: Duration) {
        self.shared.change(|state| {
            state.clock.skip(time);
            controller::step(state);
        });
    }

    /// A balancer of the home project and region as GET would show it.
    pub fn balancer(&self, name: &str) -> Option<Value> {
        self.shared.look(|state| state.shown(&self.shared.home).remove(name))
    }

    /// All balancers of the home project and region by name, as LIST would show them.
    pub fn balancers(&self) -> Vec<Value> {
        self.shared.look(|state| state.shown(&self.shared.home).into_values().collect())
    }

    /// Another client creates a balancer; the body is that of a POST. Gives back what it would be answered.
    ///
    /// # Errors
    /// When the POST would be refused.
    pub fn create(&self, body: &Value) -> anyhow::Result<Value> {
        let answer = self.shared.change(|state| write::create(state, &self.shared.home, &body.to_string()));
        answer.map_err(|refused| anyhow!("{} {}", refused.status, refused.body))
    }

    /// F6, F22: another client changes a balancer, which gets a new version and is pending again. The change sees it as GET
    /// shows it; what only the server may say stays as it is. Taking `options.ephemeralAddress` away promotes the
    /// address (E70). False if there is no such balancer.
    pub fn edit(&self, name: &str, change: impl FnOnce(&mut Value)) -> bool {
        self.shared.change(|state| write::edit(state, &self.shared.home, name, change))
    }

    /// F12: somebody deletes a balancer by hand. False if there is no such balancer.
    pub fn terminate(&self, name: &str) -> bool {
        self.shared.change(|state| {
            let exists = state.balancer(&self.shared.home, name).is_some();
            if exists {
                write::terminate(state, &self.shared.home, name);
            }
            exists
        })
    }

    /// E13: service accounts may use this project, too.
    pub fn allow_project(&self, project: &str) {
        self.shared.change(|state| state.switches.projects.insert(project.to_owned()));
    }

    /// E32: adds a static address to the home project.
    pub fn add_address(&self, address: IpAddr) {
        self.shared.change(|state| state.addresses.add(address, &self.shared.home.project));
    }

    /// F21: an address is deleted whoever uses it. False if there was none.
    pub fn remove_address(&self, address: IpAddr) -> bool {
        self.shared.change(|state| state.addresses.remove(address))
    }

    /// Where external addresses come from; with a data plane these are addresses of this machine, and nobody else's.
    pub fn address_pool(&self) -> Ipv4Net {
        self.shared.look(|state| state.addresses.pool())
    }

    /// How the balancers' data planes are doing, by project, region and name; empty without a data plane.
    pub fn data_plane(&self) -> Vec<BalancerReport> {
        self.shared.plane.as_ref().map(Plane::report).unwrap_or_default()
    }

    /// How the data plane of a balancer of the home project and region is doing.
    pub fn traffic(&self, name: &str) -> Option<BalancerReport> {
        let home = &self.shared.home;
        let is_it = |it: &BalancerReport| it.name == name && it.project == home.project && it.region == home.region;
        self.data_plane().into_iter().find(is_it)
    }

    /// F24 to F26: changes what the data plane does; on return it does so.
    pub fn disturb(&self, change: impl FnOnce(&mut Disturbance)) {
        self.set_switches(|switches| change(&mut switches.data_plane));
    }

    /// F24: the other machine of a balancer takes over. Nothing moves and nothing new is accepted for so long, then all
    /// open connections are reset. False if there is no such balancer, or no data plane.
    pub fn failover(&self, name: &str, black_hole: Duration) -> bool {
        self.shared.plane.as_ref().is_some_and(|plane| plane.failover(&self.shared.home, name, black_hole))
    }

    /// All public addresses there are; what stays here after its balancer is a leak (E70).
    pub fn addresses(&self) -> Vec<Address> {
        self.shared.look(|state| state.addresses.list())
    }

    /// Waits until `level` holds, looking again after each change; it is a level, so what already holds is found at once.
    ///
    /// # Errors
    /// When it does not hold within the deadline; the error tells the last requests.
    pub async fn wait_for(&self, mut level: impl FnMut(&Self) -> bool, deadline: Duration) -> anyhow::Result<()> {
        let mut changed = self.shared.subscribe();
        let reached = async {
            loop {
                changed.mark_unchanged();
                if level(self) || changed.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(deadline, reached).await.is_ok() {
            return Ok(());
        }
        let journal = self.journal();
        let last: Vec<String> = journal
            .iter()
            .rev()
            .take(10)
            .rev()
            .map(|entry| format!("{} {} -> {:?}", entry.method, entry.path, entry.status))
            .collect();
        bail!("not within {deadline:?}; the last requests were:\n{}", last.join("\n"))
    }
}
