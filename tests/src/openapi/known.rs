//! What differs from the document and shall: each row has its reason in `tests/CONFORMANCE.md`.

use super::check::{Difference, Side};
use super::schema::Kind;

/// A difference that has its reason.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Its name in `tests/CONFORMANCE.md`.
    pub id: &'static str,
    /// Whether it explains a difference.
    pub(super) fits: fn(&Difference) -> bool,
}

/// The table.
pub const KNOWN: &[Known] = &[
    known("next-page-id", |it| {
        it.side == Side::Answered && it.misfit.at == "nextPageId" && it.misfit.kind == Kind::Pattern
    }),
    known("numbers-as-strings", |it| it.side == Side::Taken && it.misfit.kind == Kind::NumberAsText),
    known("null-is-absent", |it| it.side == Side::Taken && it.misfit.kind == Kind::Null && !it.misfit.at.is_empty()),
    known("request-id-is-replaced", |it| it.side == Side::Taken && it.misfit.at == "X-Request-ID"),
    known("read-only-is-ignored", |it| it.side == Side::Taken && it.misfit.kind == Kind::ReadOnly),
];

const fn known(id: &'static str, fits: fn(&Difference) -> bool) -> Known {
    Known { id, fits }
}
