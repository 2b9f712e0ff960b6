//! The repositories: one file for the rows of each.

/// Which delegations may still count below a root: their tokens are kept, and their bits aren't set for good. The terms of the
/// index `sessions_open`. Compared as a row, `kept_until` is no term of the index by `kept_until` alone: a plan made while
/// the table was nearly empty took that one, and looked at every session that is kept.
macro_rules! kept_below {
    ($root:literal, $kept:literal) => {
        concat!(
            "open_root = ",
            $root,
            " AND (open_root, kept_until) >= (",
            $root,
            ", ",
            $kept,
            ")"
        )
    };
}

mod apps;
pub(crate) mod launch;
mod maintenance;
mod meta;
mod pods;
mod policy;
mod revocation;
mod segments;
pub(crate) mod session;
pub(crate) mod signing_keys;
pub(crate) mod status;
