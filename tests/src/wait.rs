//! Awaiting a condition, with a deadline.
//!
//! A test never sleeps and hopes: it says what it waits for, looks at the state itself rather than for the
//! event that changes it (an event may have passed already), and when time is up it says what it saw last.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::{Instant, sleep, timeout_at};

/// The time between two looks. Short against everything awaited here, long against one look.
const INTERVAL: Duration = Duration::from_millis(20);

/// Looks again and again until `look` succeeds, and returns what it found.
///
/// An error of `look` means "not yet" and says what was seen instead; one made by [`hopeless`] ends the wait at
/// once. A look that does not come back is cut off by the deadline.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// # use std::{cell::Cell, time::Duration};
/// # let pods = Cell::new(0);
/// let found = tests::wait::until("three pods", Duration::from_secs(5), || async {
///     let seen = pods.replace(pods.get() + 1);
///     anyhow::ensure!(seen == 3, "{seen} pods");
///     Ok(seen)
/// })
/// .await?;
/// assert_eq!(found, 3);
/// # anyhow::Ok(())
/// # })?;
/// # anyhow::Ok(())
/// ```
pub async fn until<T, F, Fut>(what: &str, deadline: Duration, mut look: F) -> Result<T>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<T>>,
{
    let end = Instant::now() + deadline;
    let mut seen = String::from("nothing");
    loop {
        match timeout_at(end, look()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) if error.is::<Hopeless>() => return Err(error.context(format!("awaiting {what}"))),
            Ok(Err(error)) => seen = format!("{error:#}"),
            Err(_) => seen = format!("{seen}, then a look without an answer"),
        }
        if Instant::now() + INTERVAL >= end {
            return Err(anyhow!("waited {deadline:?} for {what}; last seen: {seen}"));
        }
        sleep(INTERVAL).await;
    }
}

/// An error that ends [`until`] at once: what is awaited can no longer come.
pub fn hopeless(why: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Hopeless(why.into()))
}

#[derive(Debug)]
struct Hopeless(String);

impl fmt::Display for Hopeless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Hopeless {}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::cell::Cell;
    use std::future::pending;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn what_is_reached_is_returned_at_once() -> Result<()> {
        let started = Instant::now();
        assert_eq!(until("anything", DEADLINE, || async { Ok(7) }).await?, 7);
        assert_eq!(started.elapsed(), Duration::ZERO);
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_timeout_says_what_was_awaited_and_what_was_seen_last() {
        let looks = Cell::new(0);
        let error = until::<(), _, _>("a miracle", DEADLINE, || async {
            looks.set(looks.get() + 1);
            Err(anyhow!("look {}", looks.get()).context("no miracle"))
        })
        .await
        .unwrap_err();
        assert_eq!(error.to_string(), format!("waited 10s for a miracle; last seen: no miracle: look {}", looks.get()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_hangs_is_cut_off() {
        let error = until::<(), _, _>("a miracle", DEADLINE, pending).await.unwrap_err();
        assert_eq!(error.to_string(), "waited 10s for a miracle; last seen: nothing, then a look without an answer");
    }

    #[tokio::test(start_paused = true)]
    async fn a_hopeless_wait_ends_at_once() {
        let started = Instant::now();
        let error = until::<(), _, _>("etcd", DEADLINE, || async { Err(hopeless("it has ended")) }).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "awaiting etcd: it has ended");
        assert_eq!(started.elapsed(), Duration::ZERO);
    }
}
