//! One pass at a time. Whole stories are told elsewhere.

mod contested;
mod lanes;
mod operations;
mod scene;
mod unresolved;
