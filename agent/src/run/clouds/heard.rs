//! What is heard of STACKIT: each request as a number, and when it last answered.

use std::sync::Arc;
use std::time::Duration;

use decide::Moment;
use tokio::sync::watch;

use crate::admin::metrics::{Code, Method, Metrics};
use crate::cloud::Observer;
use crate::host::clock;

/// Hears of each request. The token endpoint is not part of the load balancer API and neither counted nor heard.
#[derive(Clone)]
pub(super) struct Heard {
    metrics: Metrics,
    last: Arc<watch::Sender<Option<Moment>>>,
}

impl Heard {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { metrics, last: Arc::new(watch::Sender::new(None)) }
    }

    /// When the last HTTP answer came.
    pub(super) fn last(&self) -> Option<Moment> {
        *self.last.borrow()
    }
}

impl Observer for Heard {
    fn request(&self, method: &str, code: &str, took: Duration) {
        let Some(method) = Method::from_word(method) else { return };
        let code = match code {
            "timeout" => Code::TimedOut,
            "unreachable" => Code::Unreachable,
            digits => digits.parse().map_or(Code::Malformed, Code::Http),
        };
        if let Code::Http(_) = code {
            self.last.send_replace(Some(clock::now()));
        }
        self.metrics.cloud_request_ended(method, code, took);
    }
}
