//! Whether etcd serves, asked when somebody doubts it: the Lease is read with a quorum, through all API servers at once.
//!
//! Reads, and not renewals in a row: one can be sent again before the last is answered, and is what an API server's own check
//! does. A write that an etcd without a leader has lost is answered after seven seconds. The renewals count as well, when
//! they come; where the Lease may not be read, they alone.
//!
//! Deliberately not here: what is made of it (`decide::endpoints`).

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use decide::Moment;
use decide::endpoints::Quorum;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::{Notify, watch};

use crate::host::clock;

/// The reads of one doubt are this far apart.
const APART: Duration = Duration::from_millis(150);
/// How long an answer is waited for. Longer than this, and its end would speak against the API server.
const PATIENCE: Duration = Duration::from_millis(350);

/// Asks whenever there is `doubt`, without end. `reads` gives one read for each API server, which says whether it was
/// answered; `out` is told of the first answer to those of each time.
pub async fn seek<Read>(reads: impl Fn() -> Vec<Read>, doubt: Arc<Notify>, out: watch::Sender<Option<Quorum>>)
where
    Read: Future<Output = bool>,
{
    let mut waiting = FuturesUnordered::new();
    let (mut doubted, mut next, mut proven) = (false, Moment::default(), Moment::default());
    loop {
        tokio::select! {
            () = doubt.notified(), if !doubted => doubted = true,
            () = clock::sleep_until(next), if doubted => {
                let sent = clock::now();
                (doubted, next) = (false, sent + APART);
                let timed = |read| async move { (sent, tokio::time::timeout(PATIENCE, read).await.unwrap_or(false)) };
                waiting.extend(reads().into_iter().map(timed));
            }
            Some((sent, answered)) = waiting.next(), if !waiting.is_empty() => {
                if answered && sent > proven {
                    proven = sent;
                    out.send_replace(Some(Quorum { sent, answered: clock::now() }));
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::BoxFuture;
    use futures::{FutureExt, future};

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    /// A server that fails, one that hangs, and one that answers where it may; how often they were asked; the doubt, and
    /// what is told.
    fn asked(answers: bool) -> (Arc<AtomicUsize>, Arc<Notify>, watch::Receiver<Option<Quorum>>) {
        let (count, doubt) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let (out, told) = watch::channel(None);
        let counting = Arc::clone(&count);
        let reads = move || -> Vec<BoxFuture<'static, bool>> {
            counting.fetch_add(1, Ordering::SeqCst);
            let last = if answers { future::ready(true).boxed() } else { future::pending().boxed() };
            vec![future::ready(false).boxed(), future::pending().boxed(), last]
        };
        tokio::spawn(seek(reads, Arc::clone(&doubt), out));
        (count, doubt, told)
    }

    #[tokio::test]
    async fn who_doubts_is_told_at_once_by_whichever_server_answers() {
        let (count, doubt, mut told) = asked(true);
        let before = clock::now();
        doubt.notify_one();
        let quorum = tokio::time::timeout(SOON, told.wait_for(Option::is_some)).await.unwrap().unwrap().unwrap();
        assert!(quorum.sent >= before && quorum.answered >= quorum.sent, "{quorum:?}");
        assert_eq!(count.load(Ordering::SeqCst), 1, "nobody has doubted since");
    }

    #[tokio::test]
    async fn who_doubts_without_end_is_told_again_and_again_but_not_without_end() {
        let (count, doubt, mut told) = asked(true);
        let began = clock::now();
        let mut last = began;
        for _ in 0..5 {
            doubt.notify_one();
            let newer = |quorum: &Option<Quorum>| quorum.is_some_and(|quorum| quorum.sent > last);
            last = tokio::time::timeout(SOON, told.wait_for(newer)).await.unwrap().unwrap().unwrap().sent;
        }
        assert_eq!(count.load(Ordering::SeqCst), 5);
        assert!(last.since(began) >= APART * 4, "{:?}", last.since(began));
    }

    #[tokio::test]
    async fn reads_that_hang_are_sent_again_before_they_have_ended() {
        let (count, doubt, told) = asked(false);
        let began = clock::now();
        while count.load(Ordering::SeqCst) < 3 {
            doubt.notify_one();
            tokio::task::yield_now().await;
            assert!(clock::now().since(began) < SOON, "they are not");
        }
        assert_eq!(*told.borrow(), None);
    }
}
