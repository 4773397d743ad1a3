//! How many sockets this process may have.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the limit of open files as far as an ordinary process may, and gives back what it is then. A connection that is
/// carried takes two.
pub fn raise_file_limit() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return 0 };
    if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft }
}
