//! A look at the store's keys for a token of a key that this replica doesn't know: another may have published it a moment
//! ago.

use std::time::Duration;

use agentwrit_store::{Result as StoreResult, StoreError};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{FollowError, KeyFollower};

/// From the begin of a look to that of the next: the bound of what senders of made-up tokens cost the store.
const APART: Duration = Duration::from_millis(100);

/// The looks of this process, one after the other. Callers share the next look that begins, so that nobody can use up
/// those of others.
#[derive(Debug, Default)]
pub(crate) struct Looks(Mutex<Last>);

#[derive(Debug, Default)]
struct Last {
    /// When the last one began, whether or not the caller that made it stayed until its end.
    began: Option<Instant>,
    /// The last one that came to its end: when it began, and whether it saw anything.
    done: Option<(Instant, bool)>,
}

impl Looks {
    /// Whether a look saw anything that began after this call: this one, or another caller's.
    async fn share(&self, look: impl Future<Output = bool>) -> bool {
        let called = Instant::now();
        let mut last = self.0.lock().await;
        if let Some((_, saw)) = last.done.filter(|(began, _)| *began >= called) {
            return saw;
        }
        if let Some(began) = last.began {
            tokio::time::sleep_until(began + APART).await;
        }
        let began = Instant::now();
        last.began = Some(began);
        let saw = look.await;
        last.done = Some((began, saw));
        saw
    }
}

impl KeyFollower<'_> {
    /// Follows the keys once more, by a look that begins after this call. False when no key can be new, since no other
    /// process writes to the store.
    ///
    /// # Errors
    /// When the store can't be asked: it is not known which keys there are.
    pub(crate) async fn look_again(&self) -> StoreResult<bool> {
        if !self.store.shared() {
            return Ok(false);
        }
        // A problem of the files is told by the regular look, and the keys of the store were taken all the same.
        let look = async { !matches!(self.follow().await, Err(FollowError::Store(_))) };
        let saw = self.looks.share(look).await;
        saw.then_some(true).ok_or(StoreError::NotOpen)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const LOOK: Duration = Duration::from_millis(5);

    async fn count(looks: &AtomicU32, saw: bool) -> bool {
        looks.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(LOOK).await;
        saw
    }

    #[tokio::test(start_paused = true)]
    async fn callers_share_the_next_look_and_looks_stay_apart() {
        let (looks, made) = (Looks::default(), AtomicU32::new(0));
        assert!(looks.share(count(&made, true)).await, "the first begins at once");
        let begun = Instant::now();
        let callers = (0..1_000).map(|_| looks.share(count(&made, false)));
        let answers = futures_util::future::join_all(callers).await;
        assert!(
            answers.iter().all(|saw| !saw),
            "each hears of a look that began after it had come"
        );
        // One look for all that had come before it began.
        assert_eq!(made.load(Ordering::SeqCst), 2);
        assert_eq!(begun.elapsed(), APART, "5 ms of each look, 95 ms between them");
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_comes_during_a_look_waits_for_the_next() {
        let (looks, made) = (Looks::default(), AtomicU32::new(0));
        let late = async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            looks.share(count(&made, true)).await
        };
        let (first, late) = tokio::join!(looks.share(count(&made, false)), late);
        assert_eq!((first, late), (false, true));
        assert_eq!(made.load(Ordering::SeqCst), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn callers_that_hang_up_bring_looks_no_closer() {
        let (looks, made) = (Looks::default(), AtomicU32::new(0));
        let begun = Instant::now();
        for _ in 0..50 {
            let hung_up = tokio::time::timeout(Duration::from_millis(1), looks.share(count(&made, true))).await;
            assert!(hung_up.is_err());
        }
        assert_eq!(made.load(Ordering::SeqCst), 1);
        assert!(looks.share(count(&made, true)).await, "one that stays has its look");
        assert_eq!((made.load(Ordering::SeqCst), begun.elapsed()), (2, APART + LOOK));
    }
}
