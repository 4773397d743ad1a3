//! Nothing fails for a long time, and both cores are busy: every removal would be a wrong one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde::Serialize;

use super::rig::Rig;

/// What came of it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Soak {
    /// How long it lasted.
    pub minutes: f64,
    /// Threads that did nothing but keep a core busy.
    pub busy: usize,
    /// PUTs that lacked a target.
    pub wrong_removals: Vec<String>,
    /// Requests of the sampler.
    pub requests: usize,
    /// Those that failed.
    pub failed: usize,
}

/// Lets so much time pass, with so many busy threads.
pub async fn soak(rig: &Rig<'_>, time: Duration, busy: usize) -> Result<Soak> {
    rig.settled().await?;
    rig.emulator().clear_journal();
    let end = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..busy).map(|_| thread::spawn(spin(Arc::clone(&end)))).collect();
    let began = Instant::now();
    tokio::time::sleep(time).await;
    end.store(true, Ordering::Relaxed);
    for thread in threads {
        // It only counts.
        let _ = thread.join();
    }
    let requests = rig.sampler.between(began, Instant::now()).await;
    Ok(Soak {
        minutes: began.elapsed().as_secs_f64() / 60.0,
        busy,
        wrong_removals: rig.wrong(&[]),
        requests: requests.len(),
        failed: requests.iter().filter(|request| matches!(request.outcome, Some(Err(_)))).count(),
    })
}

fn spin(end: Arc<AtomicBool>) -> impl FnOnce() {
    move || {
        let mut count = 0u64;
        while !end.load(Ordering::Relaxed) {
            count = std::hint::black_box(count.wrapping_add(1));
        }
    }
}
