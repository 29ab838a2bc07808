//! One timer for a connection, armed as seldom as possible.
//!
//! A busy connection moves its deadline with every request; arming a timer each time would cost more than reading the
//! request. So the timer is armed for the first deadline and, when it fires early, armed again for the current one.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::Sleep;

/// A lazily armed timer.
#[derive(Default)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Ready once `deadline` has passed.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let deadline = tokio::time::Instant::from_std(deadline);
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        loop {
            std::task::ready!(sleep.as_mut().poll(context));
            if sleep.deadline() >= deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn deadlines_move_both_ways() {
        let mut timer = Timer::default();
        for (armed, wanted) in [(10, 10), (50, 20), (1, 30)] {
            let start = tokio::time::Instant::now();
            let at = |seconds: u64| (start + Duration::from_secs(seconds)).into_std();
            std::future::poll_fn(|context| {
                assert!(timer.poll(context, at(armed)).is_pending());
                Poll::Ready(())
            })
            .await;
            std::future::poll_fn(|context| timer.poll(context, at(wanted))).await;
            assert_eq!(start.elapsed().as_secs(), wanted);
        }
    }
}
