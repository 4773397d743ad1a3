//! Source ranges from a file: `loadBalancer.accessControl.sourceRangesFile`, watched.
//!
//! A file that cannot be read, holds a mistake or becomes empty keeps the last good ranges and says why: neither may a
//! slip open the control plane to everybody, nor half a file lock somebody out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use decide::access::{self, FileRanges};
use decide::settings::Settings;
use tokio::sync::watch;
use tracing::{info, warn};

use super::reload::Changes;

/// Size of a list of ranges that is read.
const LARGEST: u64 = 1 << 20;
/// Mistakes that are named; a file of another kind has one in every line.
const MOST_NAMED: usize = 5;

/// Follows the file that the settings name, without end.
pub async fn follow(mut settings: watch::Receiver<Arc<Settings>>, out: watch::Sender<FileRanges>) {
    let mut said = None;
    loop {
        let path = file(&settings.borrow_and_update());
        let changes = path.as_deref().map(Changes::of_file);
        loop {
            let read = path.as_deref().map(read);
            out.send_if_modified(|ranges| take(ranges, read, path.as_deref(), &mut said));
            let change = async {
                match &changes {
                    Some(changes) => changes.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = change => {}
                Ok(()) = settings.changed() => break,
                () = out.closed() => return,
            }
        }
    }
}

/// What a first look at the file finds, before anybody decides anything.
pub fn first(settings: &Settings) -> FileRanges {
    match file(settings).as_deref().map(read) {
        None => FileRanges::NotSet,
        Some(Ok(ranges)) => FileRanges::Read(ranges),
        Some(Err(problem)) => FileRanges::Unread(problem),
    }
}

fn file(settings: &Settings) -> Option<PathBuf> {
    settings.load_balancer.access_control.source_ranges_file().map(PathBuf::from)
}

type Ranges = std::collections::BTreeSet<ipnet::IpNet>;

fn take(
    known: &mut FileRanges,
    read: Option<Result<Ranges, String>>,
    path: Option<&Path>,
    said: &mut Option<String>,
) -> bool {
    let file = path.map(|path| path.display().to_string()).unwrap_or_default();
    let next = match read {
        None => FileRanges::NotSet,
        Some(Ok(ranges)) => {
            if said.take().is_some() || *known != FileRanges::Read(ranges.clone()) {
                info!(file, ranges = ranges.len(), "read the source ranges");
            }
            FileRanges::Read(ranges)
        }
        Some(Err(problem)) => {
            let stays = matches!(known, FileRanges::Read(_));
            if said.as_ref() != Some(&problem) {
                let effect = if stays { "the last good ones stay" } else { "those on the load balancer stay" };
                warn!(file, problem, reason = "ConfigurationInvalid", "cannot read the source ranges; {effect}");
                *said = Some(problem.clone());
            }
            if stays { known.clone() } else { FileRanges::Unread(problem) }
        }
    };
    let changed = *known != next;
    *known = next;
    changed
}

fn read(path: &Path) -> Result<Ranges, String> {
    let explain = |error: std::io::Error| error.to_string();
    let metadata = std::fs::metadata(path).map_err(explain)?;
    if !metadata.is_file() || metadata.len() > LARGEST {
        return Err("is not a file of at most 1 MiB".to_owned());
    }
    let text = std::fs::read_to_string(path).map_err(explain)?;
    access::parse(&text).map_err(|mistakes| {
        let more = mistakes.len().saturating_sub(MOST_NAMED);
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        format!("{}{more}", mistakes.into_iter().take(MOST_NAMED).collect::<Vec<_>>().join("; "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_good_ranges_stay_until_there_are_better_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ranges");
        let mut settings = Settings::default();
        settings.load_balancer.access_control.source_ranges_file = path.display().to_string();
        assert!(matches!(first(&settings), FileRanges::Unread(_)));

        let (change, live) = watch::channel(Arc::new(settings));
        let (out, mut ranges) = watch::channel(FileRanges::NotSet);
        let following = tokio::spawn(follow(live, out));
        let good = |text: &str| FileRanges::Read(std::collections::BTreeSet::from([text.parse().unwrap()]));
        ranges.wait_for(|ranges| matches!(ranges, FileRanges::Unread(_))).await.unwrap();
        // A file that appears later.
        std::fs::write(&path, "192.0.2.0/24\n").unwrap();
        ranges.wait_for(|ranges| *ranges == good("192.0.2.0/24")).await.unwrap();
        // Neither an empty nor a broken file is taken, nor none.
        let mut known = good("192.0.2.0/24");
        let mut said = None;
        for text in ["", "192.0.2.1/24\n"] {
            std::fs::write(&path, text).unwrap();
            assert!(!take(&mut known, Some(read(&path)), Some(&path), &mut said), "{text:?}");
            assert!(said.is_some());
        }
        std::fs::remove_file(&path).unwrap();
        assert!(!take(&mut known, Some(read(&path)), Some(&path), &mut said));
        std::fs::write(&path, "198.51.100.0/24\n").unwrap();
        ranges.wait_for(|ranges| *ranges == good("198.51.100.0/24")).await.unwrap();
        // Removing the setting is what ends it.
        change.send_replace(Arc::new(Settings::default()));
        ranges.wait_for(|ranges| *ranges == FileRanges::NotSet).await.unwrap();
        following.abort();
    }
}
