//! Turns at something that only a few may do at once: waiting sources take turns, however many requests each has.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use crate::Source;

/// Too many wait, and this source has most of those that do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many requests of this source wait for their turn")]
pub struct Crowded;

#[derive(Default)]
struct State {
    free: usize,
    waiting: usize,
    queues: HashMap<Source, VecDeque<oneshot::Sender<Turn>>>,
    /// Sources with a queue, the next one first.
    ring: VecDeque<Source>,
}

/// A number of turns that sources share: round robin over the sources that wait.
#[derive(Clone)]
pub struct Turns {
    most_waiting: usize,
    state: Arc<Mutex<State>>,
}

impl std::fmt::Debug for Turns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turns").finish_non_exhaustive()
    }
}

impl Turns {
    /// `parallel` turns at once; beyond `most_waiting` requests that wait, the source with the longest queue is refused.
    pub fn new(parallel: usize, most_waiting: usize) -> Self {
        let state = State {
            free: parallel,
            ..State::default()
        };
        Self {
            most_waiting,
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Waits for a turn. It ends when the answer is dropped.
    ///
    /// # Errors
    /// [`Crowded`] when too many wait and this source has most of them.
    pub async fn acquire(&self, source: Source) -> Result<Turn, Crowded> {
        let receiver = {
            let mut state = self.lock();
            if state.free > 0 {
                state.free -= 1;
                return Ok(self.turn());
            }
            if state.waiting >= self.most_waiting && !state.displace(source) {
                return Err(Crowded);
            }
            let (sender, receiver) = oneshot::channel();
            let queue = state.queues.entry(source).or_default();
            queue.push_back(sender);
            let first = queue.len() == 1;
            state.waiting += 1;
            if first {
                state.ring.push_back(source);
            }
            receiver
        };
        let mut waiting = Waiting {
            turns: self,
            source,
            receiver,
        };
        // Without a turn the sender went because another source needed the room.
        (&mut waiting.receiver).await.map_err(|_| Crowded)
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.lock().waiting
    }

    fn turn(&self) -> Turn {
        Turn {
            turns: Some(self.clone()),
        }
    }

    /// Gives a free turn to the source that is next.
    fn pass_on(&self) {
        loop {
            let sender = {
                let mut state = self.lock();
                let Some(sender) = state.next() else {
                    state.free += 1;
                    return;
                };
                sender
            };
            // A request that was given up while it waited has no receiver: the next one then.
            match sender.send(self.turn()) {
                Ok(()) => return,
                Err(mut unused) => unused.turns = None,
            }
        }
    }
}

impl State {
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        let source = self.ring.pop_front()?;
        let queue = self.queues.get_mut(&source)?;
        let sender = queue.pop_front();
        if queue.is_empty() {
            self.queues.remove(&source);
        } else {
            self.ring.push_back(source);
        }
        self.waiting = self.waiting.saturating_sub(1);
        sender
    }

    /// Takes requests that were given up out of a source's queue.
    fn forget_closed(&mut self, source: Source) {
        let Some(queue) = self.queues.get_mut(&source) else {
            return;
        };
        let before = queue.len();
        queue.retain(|sender| !sender.is_closed());
        self.waiting = self.waiting.saturating_sub(before - queue.len());
        if queue.is_empty() {
            self.queues.remove(&source);
            self.ring.retain(|waiting| *waiting != source);
        }
    }

    /// Makes room in a full line for `source`: the newest request of the longest queue goes. False when `source` itself
    /// has the longest.
    fn displace(&mut self, source: Source) -> bool {
        let own = self.queues.get(&source).map_or(0, VecDeque::len);
        let longest = self.queues.iter().max_by_key(|(_, queue)| queue.len());
        let Some((longest, _)) = longest
            .filter(|(_, queue)| queue.len() > own + 1)
            .map(|(s, q)| (*s, q.len()))
        else {
            return false;
        };
        if let Some(queue) = self.queues.get_mut(&longest) {
            queue.pop_back();
            self.waiting = self.waiting.saturating_sub(1);
        }
        true
    }
}

/// A request in a queue; it leaves the queue when it is given up.
struct Waiting<'a> {
    turns: &'a Turns,
    source: Source,
    receiver: oneshot::Receiver<Turn>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.receiver.close();
        // A turn that came at this moment is passed on, which must not happen under the lock.
        drop(self.receiver.try_recv());
        self.turns.lock().forget_closed(self.source);
    }
}

/// A turn that is under way.
#[derive(Debug)]
pub struct Turn {
    turns: Option<Turns>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.turns.take() {
            turns.pass_on();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(last: u8) -> Source {
        Source::of([192, 0, 2, last].into())
    }

    /// Starts waiting, so far that its place in the line is taken.
    fn wait(turns: &Turns, of: u8) -> tokio::task::JoinHandle<Result<Turn, Crowded>> {
        let turns = turns.clone();
        tokio::spawn(async move { turns.acquire(source(of)).await })
    }

    async fn settle() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn sources_take_turns_whatever_each_asks_for() {
        let turns = Turns::new(1, 100);
        let running = turns.acquire(source(1)).await.unwrap();
        let mut flood = Vec::new();
        for _ in 0..20 {
            flood.push(wait(&turns, 1));
            settle().await;
        }
        let honest = wait(&turns, 2);
        settle().await;
        drop(running);
        settle().await;
        assert!(flood[0].is_finished() && !honest.is_finished(), "the first in line");
        drop(flood.remove(0).await.unwrap());
        settle().await;
        assert!(honest.is_finished(), "then the other source, not the flood's second");
        assert!(!flood[0].is_finished());
        drop(honest.await.unwrap());
        for waiting in flood {
            drop(waiting.await.unwrap());
        }
        assert_eq!(turns.waiting(), 0);
        assert_eq!(turns.lock().free, 1);
    }

    #[tokio::test]
    async fn a_full_line_loses_a_request_of_the_longest_queue() {
        let turns = Turns::new(1, 4);
        let running = turns.acquire(source(1)).await.unwrap();
        let mut flood = Vec::new();
        for _ in 0..4 {
            flood.push(wait(&turns, 1));
            settle().await;
        }
        assert_eq!(
            turns.acquire(source(1)).await.unwrap_err(),
            Crowded,
            "it has the longest itself"
        );
        let honest = wait(&turns, 2);
        settle().await;
        assert_eq!(
            flood.pop().unwrap().await.unwrap().unwrap_err(),
            Crowded,
            "its newest went"
        );
        drop(running);
        drop(flood.remove(0).await.unwrap().unwrap());
        assert!(honest.await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_request_that_gave_up_delays_no_other() {
        let turns = Turns::new(1, 100);
        let running = turns.acquire(source(1)).await.unwrap();
        let gone = wait(&turns, 2);
        settle().await;
        let next = wait(&turns, 3);
        settle().await;
        assert_eq!(turns.waiting(), 2);
        gone.abort();
        settle().await;
        assert_eq!(turns.waiting(), 1, "nor does it take room");
        drop(running);
        assert!(next.await.unwrap().is_ok());
        settle().await;
        assert_eq!(turns.waiting(), 0);
        assert_eq!(turns.lock().free, 1);
    }
}
