//! Verbs that do one thing and end, with the tasks that the daemon has: `bootstrap` and `teardown`.
//!
//! | module | what it is |
//! |---|---|
//! | [`bootstrap`] | makes the balancer, and what Kubernetes says of it |
//! | [`teardown`] | removes both |
//! | `ground` | whether there is a Kubernetes, and which exposure is meant |
//! | `work` | one worker, the election, and all that they look at |
//! | `course` | signals and the deadline, while something is awaited |
//! | `show` | what is waited for, on a terminal or line by line |
//!
//! Nothing is decided here that the daemon would decide otherwise: a worker makes the same passes, and the verb looks on
//! until they have come to their end. Whatever it has begun when it is killed, the next one goes on with.

pub mod bootstrap;
mod course;
mod ground;
mod holder;
mod show;
pub mod teardown;
mod work;
