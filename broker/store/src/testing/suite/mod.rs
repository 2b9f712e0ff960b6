//! What every implementation of the store must keep, as tests that take the implementation as their parameter.
//!
//! `store_suite!` makes a test of each; it is given an expression that makes an [`Opener`] on a new, empty store.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "these are tests; a failure is a panic"
)]

pub mod clients;
pub mod commits;
pub mod families;
pub mod groups;
pub mod keys;
pub mod lives;
pub mod owners;
pub mod rows;
pub mod status;
pub mod status_bits;
pub mod trail;

use std::sync::Arc;

use agentwrit_protocol::clock::ManualClock;
use agentwrit_protocol::status_list::Bounds;
use async_trait::async_trait;

use super::{Recorder, surroundings};
use crate::command::Closure;
use crate::{Command, Declared, Installation, Result, Store, Surroundings, TakesAuthority, Tx, TxFuture};

/// Opens one store of an implementation, as often as it is asked to; a store that is open is closed first by the caller.
#[async_trait]
pub trait Opener: Send + Sync {
    /// Opens it for brokers of this installation.
    ///
    /// # Errors
    /// Why it can't be opened.
    async fn open_as(&self, surroundings: Surroundings, ours: Installation, declared: Declared) -> Result<Store>;

    /// Opens it.
    async fn open(&self, surroundings: Surroundings) -> Store {
        let opened = self.open_as(surroundings, Installation::default(), Declared::default());
        opened.await.unwrap()
    }
}

/// An open store, and what is around it.
pub struct Bench {
    /// The store.
    pub store: Store,
    /// Its clock.
    pub clock: Arc<ManualClock>,
    /// What it has told.
    pub recorder: Arc<Recorder>,
}

impl Bench {
    /// Opens the store.
    pub async fn open(opener: &dyn Opener) -> Self {
        Self::open_with(opener, Bounds::default()).await
    }

    /// Opens the store with so many status indexes.
    pub async fn open_with(opener: &dyn Opener, status_lists: Bounds) -> Self {
        let (mut surroundings, clock, recorder) = surroundings();
        surroundings.status_lists = status_lists;
        Self {
            store: opener.open(surroundings).await,
            clock,
            recorder,
        }
    }

    /// Closes the store and opens it again.
    pub async fn reopened(self, opener: &dyn Opener) -> Self {
        self.store.close().await.unwrap();
        Self::open(opener).await
    }

    /// Commits a closure.
    ///
    /// # Errors
    /// As for [`Store::commit`].
    pub async fn commit<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: for<'t> FnOnce(&'t mut dyn Tx) -> TxFuture<'t, T> + Send + 'static,
    {
        self.store.commit(Closure(work)).await
    }
}

/// Takes authority away from nobody.
struct TakeAway;

#[async_trait]
impl Command for TakeAway {
    type Outcome = ();
    const TAKES_AUTHORITY: TakesAuthority<Self> = TakesAuthority::Once;

    async fn run(self, _tx: &mut dyn Tx) -> Result<()> {
        Ok(())
    }
}

/// Issues nothing.
struct Issue;

#[async_trait]
impl Command for Issue {
    type Outcome = ();
    const ISSUES: bool = true;

    async fn run(self, _tx: &mut dyn Tx) -> Result<()> {
        Ok(())
    }
}

/// Makes a `#[tokio::test]` of each test of the suite.
#[macro_export]
macro_rules! store_suite {
    ($opener:expr) => {
        $crate::store_suite!(@each $opener;
            commits::a_command_that_fails_changes_nothing,
            commits::the_outcome_is_answered_after_the_commit,
            commits::of_parallel_commands_one_uses_a_token_up,
            commits::the_listener_hears_before_the_caller,
            commits::what_waits_is_committed_before_the_close,
            commits::nothing_is_taken_after_the_close,
            trail::the_events_of_all_commands_are_one_chain,
            trail::a_page_holds_what_was_appended_before_it,
            trail::a_query_filters_and_pages,
            trail::a_denial_that_the_gate_refuses_is_not_in_the_trail,
            trail::a_long_trail_is_signed_in_between,
            rows::a_session_is_renewed_once_and_ends_once,
            rows::a_session_is_found_by_each_of_its_ids,
            families::delegations_stand_below_what_has_ended,
            rows::the_name_of_an_active_app_is_taken,
            rows::a_nonce_is_burned_once,
            rows::a_policy_replaces_the_one_of_its_name,
            clients::an_app_is_found_by_its_client_id,
            rows::a_tombstone_of_a_pod_stays,
            rows::a_pod_whose_task_is_revoked_is_quarantined,
            rows::a_revocation_extends_and_can_be_lifted,
            rows::a_revocation_of_a_long_target_is_found,
            status::each_session_has_a_status_index_of_its_own,
            status::a_command_that_fails_gives_its_indexes_back,
            status::full_lists_refuse_what_opens_and_nothing_else,
            status::an_index_is_free_an_hour_after_the_last_token,
            status::an_index_is_freed_by_the_earlier_of_both_clocks,
            status_bits::an_end_sets_the_bits_of_all_below,
            status_bits::a_superseded_session_is_set_when_its_overlap_ends,
            keys::a_signing_key_is_published_once_and_changes,
            keys::the_last_exp_of_all_sessions_is_known,
            keys::a_person_begins_an_epoch,
            groups::pods_are_found_by_what_people_know,
            groups::a_pod_that_launched_otherwise_is_found_by_both,
            groups::what_pods_hold_is_counted,
            groups::many_pods_are_quarantined_at_once,
            groups::what_many_pods_hold_is_revoked_at_once,
            groups::the_other_pods_of_a_policy_are_counted,
            groups::the_room_of_a_policy_is_kept_until_it_is_written_anew,
            lives::nothing_is_issued_while_the_clock_is_wrong,
            lives::a_store_that_refuses_still_takes_authority_away,
        );
    };
    (@each $opener:expr; $($room:ident::$name:ident),+ $(,)?) => {
        $(
            #[tokio::test]
            async fn $name() {
                $crate::testing::suite::$room::$name(&$opener).await;
            }
        )+
    };
}

/// The same for what only a store that survives its process must keep.
#[macro_export]
macro_rules! lasting_store_suite {
    ($opener:expr) => {
        $crate::store_suite!(@each $opener;
            lives::what_was_committed_is_there_after_a_new_opening,
            lives::a_mark_of_an_unknown_epoch_makes_a_new_epoch,
            lives::the_mark_of_where_it_stands_changes_nothing,
            lives::a_chain_that_another_key_signed_goes_on,
            owners::a_store_of_another_installation_is_refused,
            owners::a_store_of_another_trust_domain_is_refused,
            owners::an_adopted_store_is_the_new_owners_and_says_so,
            status::a_new_opening_holds_the_same_indexes,
            status_bits::a_restored_store_sets_all_bits,
        );
    };
}
