//! A future with a last step.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

/// What is done with the outcome of a future.
pub(in crate::http) trait Finish<Outcome> {
    /// What comes of it.
    type Output;

    /// Does it.
    fn finish(self, outcome: Outcome) -> Self::Output;
}

pin_project! {
    /// A future whose outcome is finished by `T`, which carries what it needs for that.
    pub(in crate::http) struct After<F, T> {
        #[pin]
        future: F,
        finish: Option<T>,
    }
}

impl<F, T> After<F, T> {
    pub(super) fn new(future: F, finish: T) -> Self {
        Self {
            future,
            finish: Some(finish),
        }
    }
}

impl<F: Future, T: Finish<F::Output>> Future for After<F, T> {
    type Output = T::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let outcome = ready!(this.future.poll(cx));
        match this.finish.take() {
            Some(finish) => Poll::Ready(finish.finish(outcome)),
            // Polled after its end.
            None => Poll::Pending,
        }
    }
}
