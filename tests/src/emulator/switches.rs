//! What the real cloud leaves open, or does on a bad day: one field each, with the documented default.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::data_plane::Disturbance;

/// All switches. Durations are milliseconds on the wire. The numbers are those of the list of behaviours (E) and faults (F).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "a list of independent switches is what this is")]
pub struct Switches {
    /// E2, E7: status of a refused assertion: 400, 401 or 403.
    pub denied_status: u16,
    /// E4: refuse an assertion whose `jti` was seen before.
    pub reject_reused_jti: bool,
    /// E1, E6: answer with a refresh token rather than an empty one.
    pub issue_refresh_tokens: bool,
    /// F18: every use of a refresh token fails.
    pub refresh_fails: bool,
    /// E11: life of an access token, down to 1 s.
    #[serde(with = "super::wire::milliseconds")]
    pub token_ttl: Duration,
    /// F18: what the access token looks like.
    pub token_form: TokenForm,
    /// F18: seconds added to the token's `exp`, and to nothing else: clock skew, or an `exp` in the past.
    pub token_exp_shift: i64,
    /// F18: `expires_in` of the answer in seconds, where it shall disagree with `exp`.
    pub expires_in: Option<i64>,

    /// E13: projects that every service account may use; set to the emulator's own project at the start.
    pub projects: BTreeSet<String>,
    /// E14: whether the service is enabled in a project nobody has written to yet.
    pub service_enabled: bool,
    /// E14: status while the service is not enabled: 403 or 401.
    pub not_enabled_status: u16,
    /// E15: POST while the service is not enabled is 404, as it was until 2024.
    pub legacy_enablement: bool,
    /// E17: 404 and 405 come as HTML.
    pub html_not_found: bool,
    /// E19: an unknown field of a request is a 400.
    pub reject_unknown_fields: bool,
    /// F20: what becomes of new connections.
    pub connections: Connections,

    /// E21: the answer to POST has the ephemeral address already.
    pub address_at_once: bool,
    /// E27, F27: quota; -1 means none.
    pub max_load_balancers: i64,
    /// E87: quota; -1 means none.
    pub max_credentials: i64,
    /// E34, F23: the plans on offer.
    pub plans: Vec<String>,
    /// E36: targets in a pool.
    pub max_targets: usize,
    /// E41: an idle timeout of `0s` is fine.
    pub accept_zero_idle_timeout: bool,
    /// E44: a pool without targets is fine.
    pub accept_empty_targets: bool,
    /// E43: addresses that are refused as targets with 400, whatever is wrong with them.
    pub refused_targets: BTreeSet<IpAddr>,
    /// E45: addresses with an active VM port; `None` stands for all there are.
    pub known_targets: Option<BTreeSet<IpAddr>>,
    /// E48: an unknown credentials reference is accepted, and `TYPE_METRICS_MISCONFIGURED` later.
    pub accept_unknown_credentials: bool,
    /// E52: an empty list is `"loadBalancers": []` rather than absent.
    pub show_empty_list: bool,
    /// E55: life of a page id.
    #[serde(with = "super::wire::milliseconds")]
    pub page_lifetime: Duration,
    /// E57: the version changes with the status, too.
    pub version_on_status: bool,
    /// E61: a PUT without a change keeps the version.
    pub keep_version_when_identical: bool,
    /// E66: `listeners[].name` in a PUT is ignored rather than refused.
    pub ignore_listener_name: bool,
    /// E68, E69: how a PUT has to say that an ephemeral balancer stays one.
    pub ephemeral_form: EphemeralForm,
    /// E74: a missing access control is shown as `{}`.
    pub show_empty_access_control: bool,
    /// Defaults that are false are shown (`options.privateNetworkOnly`).
    pub show_false: bool,
    /// E78: status for a target pool that does not exist: 404 or 400.
    pub unknown_pool_status: u16,
    /// E82, F15: status of DELETE for a balancer that does not exist.
    pub delete_missing_status: u16,
    /// E83, F15: status of DELETE for a balancer that is terminating.
    pub delete_terminating_status: u16,
    /// E86: the service disables itself with the last balancer.
    pub disable_when_empty: bool,
    /// E88: status of DELETE for a credential in use: 400 or 409.
    pub credential_in_use_status: u16,

    /// F9: what is pending stays pending.
    pub hold_pending: bool,
    /// F12: what is terminating stays terminating.
    pub hold_terminating: bool,
    /// F10, F11: the status every balancer shows, whatever it is in truth.
    pub status: Option<String>,
    /// F10, F11: the `errors` every balancer shows, taken literally: `[]`, entries without type, anything.
    pub errors: Option<Value>,
    /// F13: `externalAddress` is not shown for an ephemeral address.
    pub withhold_address: bool,
    /// F14: reads show what was so long ago.
    #[serde(with = "super::wire::milliseconds")]
    pub stale_reads: Duration,
    /// F16: laid over every balancer shown; `null` is shown as `null`.
    pub overlay: Option<Value>,
    /// F16: numbers are shown as strings.
    pub numbers_as_strings: bool,
    /// F17: the server reorders, removes duplicates, lower-cases names and writes out defaults.
    pub canonicalise: bool,

    /// E75, E98, E99, E106, F24 to F26: what the data plane does, if there is one.
    pub data_plane: Disturbance,
}

impl Switches {
    /// Whether answers are others than the API would give.
    pub(crate) fn bend_answers(&self) -> bool {
        let Self { status, errors, overlay, numbers_as_strings, html_not_found, .. } = self;
        status.is_some() || errors.is_some() || overlay.is_some() || *numbers_as_strings || *html_not_found
    }
}

/// E68, E69: how a PUT has to say that an ephemeral balancer stays one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EphemeralForm {
    /// By the flag alone; with the address it is refused.
    #[default]
    Flag,
    /// By the flag and the address that it has; the flag alone is refused.
    FlagAndAddress,
    /// The API takes neither.
    Neither,
}

/// F18: what an access token looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenForm {
    /// A JWT with `iss`, `sub` and `exp`.
    #[default]
    Jwt,
    /// A JWT that does not say when it ends.
    WithoutExp,
    /// No JWT at all.
    Opaque,
}

/// F20: what becomes of new connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Connections {
    /// They are served.
    #[default]
    Serve,
    /// Accepted, then nothing: over TLS the handshake stalls.
    Stall,
    /// Accepted, then reset.
    Reset,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            denied_status: 403,
            reject_reused_jti: false,
            issue_refresh_tokens: true,
            refresh_fails: false,
            token_ttl: Duration::from_hours(1),
            token_form: TokenForm::Jwt,
            token_exp_shift: 0,
            expires_in: None,
            projects: BTreeSet::new(),
            service_enabled: true,
            not_enabled_status: 403,
            legacy_enablement: false,
            html_not_found: false,
            reject_unknown_fields: false,
            connections: Connections::Serve,
            address_at_once: false,
            max_load_balancers: 10,
            max_credentials: 30,
            plans: ["p10", "p50", "p250", "p750"].map(str::to_owned).to_vec(),
            max_targets: 250,
            accept_zero_idle_timeout: false,
            accept_empty_targets: false,
            refused_targets: BTreeSet::new(),
            known_targets: None,
            accept_unknown_credentials: false,
            show_empty_list: false,
            page_lifetime: Duration::from_mins(5),
            version_on_status: false,
            keep_version_when_identical: false,
            ignore_listener_name: false,
            ephemeral_form: EphemeralForm::Flag,
            show_empty_access_control: false,
            show_false: false,
            unknown_pool_status: 404,
            delete_missing_status: 200,
            delete_terminating_status: 200,
            disable_when_empty: false,
            credential_in_use_status: 400,
            hold_pending: false,
            hold_terminating: false,
            status: None,
            errors: None,
            withhold_address: false,
            stale_reads: Duration::ZERO,
            overlay: None,
            numbers_as_strings: false,
            canonicalise: false,
            data_plane: Disturbance::default(),
        }
    }
}
