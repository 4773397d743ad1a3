//! What talks to STACKIT.
//!
//! The rest of the program sees [`LoadBalancers`], five calls that give values or a [`Fault`]; another cloud is a
//! second implementation of it. Inside, from the wire upwards:
//!
//! | module | noun |
//! |---|---|
//! | [`setup`] | endpoints and certificate authorities, checked before the first request |
//! | [`fence`] | the last look before a write leaves |
//! | [`http`] | one request: clients, deadlines, size limits, request ids, the [`Observer`] of the metrics |
//! | `fault` | what an answer or its absence means, as a [`Fault`] |
//! | `wire` | JSON to [`Observed`] and [`LoadBalancer`] to JSON: the one place to touch for another managed field |
//! | [`rest`] | [`Rest`]: the load balancer API, version 2 |
//! | [`key`], [`federation`], `exchange` | the ways to earn an access token |
//! | [`token`] | [`Tokens`]: the access token in hand, renewed early, fetched once however many ask |
//! | [`credentials`] | the files that say who we are |
//!
//! Deliberately not here: when to write and what to do after a fault (the caller decides; nothing in here tries
//! again, except once after a 401 and from the start when a page of a list has expired), rate limits, the
//! metrics themselves, and the calls of the API that this program has no use for (observability credentials,
//! quota, plans, target-pool updates, which carry no version).

use decide::desired::{LoadBalancer, Observed};
use decide::retry::Fault;

pub mod carry_out;
pub mod credentials;
mod exchange;
mod fault;
pub mod federation;
pub mod fence;
pub mod http;
pub mod key;
pub mod rest;
pub mod setup;
pub mod token;
mod wire;

pub use credentials::Credentials;
pub use fence::Fence;
pub use http::Observer;
pub use rest::{Place, Rest};
pub use setup::{CaBundle, SetupError};
pub use token::{Source, Tokens};

/// The load balancers of one project and region.
///
/// No call waits longer than its time limit, and none repeats itself: after a fault the caller decides again.
/// [`Fault::outcome_unknown`] says of a write that it may have been carried out all the same; the next step is
/// then [`LoadBalancers::get`].
pub trait LoadBalancers {
    /// The balancer of this name; `None` where there is none.
    fn get(&self, name: &str) -> impl Future<Output = Result<Option<Observed>, Fault>> + Send;

    /// All balancers of the project and region.
    fn list(&self) -> impl Future<Output = Result<Vec<Observed>, Fault>> + Send;

    /// Makes a balancer; [`decide::retry::FaultKind::Conflict`] where the name exists.
    fn create(&self, wish: &LoadBalancer) -> impl Future<Output = Result<Observed, Fault>> + Send;

    /// Replaces what is managed of `base` by `wish`; everything else goes back as it was read.
    ///
    /// Carries the version of `base`: [`decide::retry::FaultKind::Conflict`] where it has moved.
    fn update(&self, base: &Observed, wish: &LoadBalancer) -> impl Future<Output = Result<Observed, Fault>> + Send;

    /// Asks for the end of a balancer; one that does not exist is gone, which is no fault.
    fn delete(&self, name: &str) -> impl Future<Output = Result<(), Fault>> + Send;
}

#[cfg(test)]
mod testing;
