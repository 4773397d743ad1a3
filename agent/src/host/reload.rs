//! Noticing that files have changed.
//!
//! The folder is watched rather than the file: editors and the kubelet replace files (or a symbolic link to their
//! folder) and do not write into them. Where watching is not possible, and for files that appear later, somebody
//! looks every few seconds. Deliberately not here: reading.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::Notify;
use tracing::debug;

/// A look without having been told.
const LOOK: Duration = Duration::from_secs(5);

/// Changes in some folders.
pub struct Changes {
    changed: Arc<Notify>,
    _watcher: Option<notify::RecommendedWatcher>,
}

impl Changes {
    /// Watches one folder, not what is below it.
    pub fn of(folder: &Path) -> Self {
        Self::of_all([folder])
    }

    /// Watches several folders, not what is below them.
    pub fn of_all<'a>(folders: impl IntoIterator<Item = &'a Path>) -> Self {
        let changed = Arc::new(Notify::new());
        let told = Arc::clone(&changed);
        let tell = move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                told.notify_one();
            }
        };
        let mut watcher = notify::recommended_watcher(tell)
            .inspect_err(|error| debug!(%error, "cannot watch files; looking every {LOOK:?}"))
            .ok();
        for folder in folders {
            if let Some(Err(error)) = watcher.as_mut().map(|watcher| watcher.watch(folder, RecursiveMode::NonRecursive))
            {
                debug!(folder = %folder.display(), %error, "cannot watch; looking every {LOOK:?}");
            }
        }
        Self { changed, _watcher: watcher }
    }

    /// Watches the folder of a file.
    pub fn of_file(file: &Path) -> Self {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        Self::of(folder.unwrap_or(Path::new(".")))
    }

    /// Waits until there may be something new.
    pub async fn next(&self) {
        let _ = tokio::time::timeout(LOOK, self.changed.notified()).await;
    }
}
