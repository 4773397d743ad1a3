//! The last look before a write leaves: can its answer still be in before leadership may end?
//!
//! Between a decision and its bytes lie a token, a connection, perhaps a suspended machine. So the fence is asked twice
//! more: right before the request is handed over, and when the connection asks for the body, which is when headers and
//! body leave together. A write that comes too late is not sent, and says so.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use decide::Moment;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::sync::watch;

use crate::host::clock;

/// Until when writes may be under way.
#[derive(Clone, Debug, Default)]
pub struct Fence(Option<watch::Receiver<Option<Moment>>>);

/// The fence has not let it through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held;

impl Fence {
    /// Writes end before the moment that is told; `None`: there may be none. Without a fence anything goes.
    pub fn until(leadership: watch::Receiver<Option<Moment>>) -> Self {
        Self(Some(leadership))
    }

    /// Whether a write may be sent now that ends within `time`, on a clock that goes on while the machine sleeps.
    pub(super) fn lets_through(&self, time: Duration) -> bool {
        let Some(leadership) = &self.0 else { return true };
        leadership.borrow().is_some_and(|until| clock::now() + time <= until)
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not sent: it could outlive this agent's leadership")
    }
}

impl std::error::Error for Held {}

/// A body that asks the fence when it is asked for.
pub(super) struct Fenced {
    bytes: Option<Bytes>,
    fence: Fence,
    /// The request ends by then.
    ends: Moment,
}

impl Fenced {
    /// Of a request that ends within `time` from now.
    pub(super) fn new(bytes: Vec<u8>, fence: Fence, time: Duration) -> Self {
        Self { bytes: Some(bytes.into()), fence, ends: clock::now() + time }
    }
}

impl Body for Fenced {
    type Data = Bytes;
    type Error = Held;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Held>>> {
        // What should have ended already is too late as well: the machine has slept.
        let left = self.ends.since(clock::now());
        let open = !left.is_zero() && self.fence.lets_through(left);
        Poll::Ready(self.bytes.take().map(|bytes| if open { Ok(Frame::data(bytes)) } else { Err(Held) }))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_write_must_end_before_leadership() {
        assert!(Fence::default().lets_through(Duration::MAX));
        let (tell, told) = watch::channel(None);
        let fence = Fence::until(told);
        assert!(!fence.lets_through(Duration::ZERO));
        tell.send_replace(Some(clock::now() + 60 * SECOND));
        assert!(fence.lets_through(50 * SECOND) && !fence.lets_through(61 * SECOND));
    }

    #[tokio::test]
    async fn a_body_is_given_only_as_long_as_the_fence_is_open() {
        let (tell, told) = watch::channel(Some(clock::now() + 60 * SECOND));
        let body = |time| Fenced::new(b"{}".to_vec(), Fence::until(told.clone()), time);
        assert_eq!(body(5 * SECOND).size_hint().exact(), Some(2));
        assert_eq!(body(5 * SECOND).collect().await.unwrap().to_bytes(), "{}");
        assert_eq!(body(Duration::ZERO).collect().await.unwrap_err(), Held, "its time is over");
        let late = body(5 * SECOND);
        tell.send_replace(Some(clock::now() + SECOND));
        assert_eq!(late.collect().await.unwrap_err(), Held, "leadership ends before it does");
        let deposed = body(5 * SECOND);
        tell.send_replace(None);
        assert_eq!(deposed.collect().await.unwrap_err(), Held);
    }
}
