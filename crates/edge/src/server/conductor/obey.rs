//! Orders, other than a reload: what each of them leads to.
//!
//! Owns the answers to whoever asked. Invariant: an order is answered once, also while the server stops.

use std::ops::ControlFlow;
use std::os::fd::AsFd;

use tokio::sync::mpsc;

use super::super::care::bounds_of;
use super::super::orders::{Order, Progress, Scaling};
use super::super::{service, upgrade};
use super::{Conductor, Flow, Stage, Word};

/// Most workers that anybody can ask for, as the supervisor has it.
const WORKERS_MOST: usize = 1024;

impl Conductor {
    /// Does what is asked.
    pub(super) async fn obey(&mut self, order: Order) -> Flow {
        let stopping = matches!(self.stage, Stage::Stopping { .. });
        match order {
            // Asked a second time, it means it.
            Order::Stop if stopping => return ControlFlow::Break(Ok(())),
            Order::StopNow => return ControlFlow::Break(Ok(())),
            Order::Stop => self.stop(false),
            Order::Reload { hold, progress } => self.reload(hold, progress).await,
            Order::Scale { to, reply } => {
                let outcome = self.scale(to);
                if let Err(why) = &outcome {
                    tracing::warn!("the number of workers stays: {why}");
                }
                drop(reply.send(outcome)); // who asked may have left
            }
            Order::Reopen { reply } => {
                if let Some(log) = &self.shared.state().access_log {
                    log.reopen();
                }
                drop(reply.send(Ok(())));
            }
            Order::DrainWorkers => self.fleet.drain_all(),
            Order::Upgrade { progress } => self.upgrade(progress),
        }
        ControlFlow::Continue(())
    }

    fn scale(&mut self, to: Scaling) -> Result<usize, String> {
        self.is_free()?;
        if self.coming.is_some() {
            return Err("a generation is starting".to_owned());
        }
        let now = self.shared.fleet().wanted;
        let bounds = bounds_of(&self.run.loaded.settings).unwrap_or((1, WORKERS_MOST));
        let wanted = scaled(now, to, bounds);
        self.scale_to(wanted);
        Ok(wanted)
    }

    /// # Errors
    /// The server does something else that excludes it.
    pub(super) fn is_free(&self) -> Result<(), String> {
        match self.stage {
            Stage::Stopping { .. } => Err("the server is stopping".to_owned()),
            Stage::Running if self.is_first() => Err("the server is still starting".to_owned()),
            Stage::Running | Stage::Stranded => Ok(()),
        }
    }

    fn upgrade(&mut self, progress: mpsc::UnboundedSender<Progress>) {
        let began = self.is_free().and_then(|()| {
            let program = self.program.as_ref().ok_or("the system does not say which program this is")?;
            let control = self.control.as_ref();
            let control = control.and_then(|control| Some((control.path().to_str()?, control.as_fd())));
            upgrade::start(program, &self.doors.sockets(), control)
        });
        let mut heir = match began {
            Ok(heir) => heir,
            Err(reason) => return fail(&progress, reason),
        };
        let _ = progress.send(Progress::Step(format!("the new program starts as process {}", heir.pid())));
        let words = self.ears.words();
        tokio::spawn(async move {
            let (outcome, pid) = (heir.ready().await, heir.pid());
            let _ = words.send(Word::Heir { outcome, pid, progress }); // nobody listens any more at the end
        });
    }

    /// The program that is to take over has said that it serves, or will not.
    pub(super) fn on_heir(
        &mut self,
        outcome: Result<(), String>,
        pid: u32,
        progress: &mpsc::UnboundedSender<Progress>,
    ) {
        match outcome {
            Ok(()) if !matches!(self.stage, Stage::Stopping { .. }) => {
                tracing::info!(pid, "the new program serves; this one finishes what it has");
                service::main_process(pid);
                if let Some(control) = &self.control {
                    control.hand_over();
                }
                let generation = self.shared.state().generation;
                let _ = progress.send(Progress::Done { generation });
                self.stop(true);
            }
            Ok(()) => {}
            Err(reason) => fail(progress, reason),
        }
    }
}

fn fail(progress: &mpsc::UnboundedSender<Progress>, reason: String) {
    tracing::error!("the upgrade failed, this program serves on: {reason}");
    let _ = progress.send(Progress::Failed { reason }); // who asked may have left
}

/// The number that is meant, within bounds.
fn scaled(now: usize, to: Scaling, (least, most): (usize, usize)) -> usize {
    let wanted = match to {
        Scaling::By(by) => now.saturating_add_signed(isize::try_from(by).unwrap_or(0)), // pointers have 32 bits or more
        Scaling::To(to) => to,
    };
    wanted.clamp(least, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_workers() {
        let all = (1, WORKERS_MOST);
        for (now, to, bounds, wanted) in [
            (2, Scaling::By(1), all, 3),
            (2, Scaling::By(-1), all, 1),
            (1, Scaling::By(-1), all, 1),
            (0, Scaling::By(1), all, 1),
            (2, Scaling::By(i32::MIN), all, 1),
            (2, Scaling::By(i32::MAX), all, WORKERS_MOST),
            (2, Scaling::To(5), all, 5),
            (2, Scaling::To(0), all, 1),
            (2, Scaling::To(9), (2, 4), 4),
            (2, Scaling::By(-1), (2, 4), 2),
        ] {
            assert_eq!(scaled(now, to, bounds), wanted, "{now} {to:?} {bounds:?}");
        }
    }
}
