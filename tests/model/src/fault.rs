//! Rules that are broken on purpose: at least one for each property that must always hold.

/// Which rule is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// None.
    None,
    /// Whether a launch token is unused is looked at before the transaction, and not again in it.
    UseNotConditional,
    /// A replica's view takes a change in before its commit.
    FeedBeforeCommit,
    /// A status index is free again as soon as its session has ended.
    IndexReusedEarly,
    /// A renewal doesn't look whether the bearer's token is still the current one.
    RenewalNotConditional,
    /// The number of a change is announced before its commit, so that a replica takes it for seen.
    NumberBeforeCommit,
    /// A view that is too old answers all the same.
    StaleViewAnswers,
    /// A view is asked for the token's own node only.
    AncestorsNotChecked,
    /// An end sets the bit of its own node only.
    BitsBelowForgotten,
    /// A supersession sets no bit.
    SupersededBitForgotten,
    /// A supersession sets the bits at once.
    SupersededBitEarly,
    /// A replica answers after a restart before it has read what is revoked.
    RestartWithoutLoad,
    /// The same for `min_iat`.
    RestartWithoutMinIat,
    /// Lease epochs are not compared.
    NoFence,
    /// A COMMIT without an answer is taken for done.
    UnknownTakenForDone,
    /// A COMMIT without an answer is done again, and nobody reads back.
    UnknownDoneAgain,
}
