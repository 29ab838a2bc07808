//! Orders, other than a reload: what each of them leads to.
//!
//! Owns the answers to whoever asked. Invariant: an order is answered once, also while the server stops.

use std::ops::ControlFlow;
use std::os::fd::AsFd;

use tokio::sync::{mpsc, oneshot};

use super::super::care::bounds_of;
use super::super::orders::{Order, Progress, Scaling};
use super::super::service;
use super::super::upgrade::{self, Hold};
use super::{Conductor, Flow, Stage, Word};

/// Most workers that anybody can ask for, as the supervisor has it.
const WORKERS_MOST: usize = 1024;

impl Conductor {
    /// Does what is asked.
    pub(super) async fn obey(&mut self, order: Order) -> Flow {
        match order {
            Order::StopNow => return ControlFlow::Break(Ok(())),
            Order::Stop if let Stage::Stopping { heir, asked } = self.stage => {
                // Asked a second time, it means it.
                if asked {
                    return ControlFlow::Break(Ok(()));
                }
                self.stage = Stage::Stopping { heir, asked: true };
            }
            Order::Stop => self.stop(false),
            Order::Reload { hold, progress } => self.reload(hold, progress),
            Order::Scale { to, reply } => {
                let outcome = self.scale(to);
                self.advance().await; // with fewer workers the first generation may be complete
                if let Err(why) = &outcome {
                    tracing::warn!("the number of workers stays: {why}");
                }
                drop(reply.send(outcome)); // who asked may have left
            }
            Order::Reopen { reply } => self.reopen(reply),
            Order::DrainWorkers => self.drain_workers(),
            Order::Upgrade { progress } => self.upgrade(progress),
        }
        ControlFlow::Continue(())
    }

    /// Beside everything else: the disk may be slow.
    fn reopen(&self, reply: oneshot::Sender<Result<(), String>>) {
        let log = self.shared.state().access_log.clone();
        tokio::spawn(async move {
            let outcome = match log {
                Some(log) => log.reopen().await,
                None => Ok(()),
            };
            if let Err(why) = &outcome {
                tracing::error!("{why}; lines still go to the file that was open");
            }
            drop(reply.send(outcome)); // who asked may have left
        });
    }

    fn scale(&mut self, to: Scaling) -> Result<usize, String> {
        self.is_free()?;
        let first = self.shared.state().generation;
        if self.coming.as_ref().is_some_and(|coming| coming.generation != first) {
            return Err("a generation is starting".to_owned());
        }
        let now = self.shared.fleet().wanted;
        let bounds = bounds_of(&self.run.loaded.settings).unwrap_or((1, WORKERS_MOST));
        let wanted = scaled(now, to, bounds);
        self.scale_to(wanted);
        if let Some(coming) = &mut self.coming {
            coming.wanted = wanted;
        }
        Ok(wanted)
    }

    /// All workers finish and leave, and none follows until somebody scales or reloads: as in gunicorn, requests wait.
    fn drain_workers(&mut self) {
        let coming = || self.coming.is_some().then(|| "a generation is starting".to_owned());
        match self.is_free().and_then(|()| coming().map_or(Ok(()), Err)) {
            Ok(()) => self.fleet.drain_all(),
            Err(why) => tracing::warn!("the workers stay: {why}"),
        }
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
            if self.heir.is_some() {
                return Err("an upgrade is under way".to_owned());
            }
            let program = self.program.as_ref().ok_or("the system does not say which program this is")?;
            let control = self.control.as_ref();
            let control = control.and_then(|control| Some((control.path().to_str()?, control.as_fd())));
            let launch = upgrade::prepare(program, &self.doors.sockets(), control)?;
            self.hook("pre_exec", String::new());
            Ok(launch)
        });
        let launch = match began {
            Ok(launch) => launch,
            Err(reason) => return fail(&progress, reason),
        };
        let (words, steps) = (self.ears.words(), progress.clone());
        let begun = move |pid| {
            let _ = steps.send(Progress::Step(format!("the new program starts as process {pid}")));
        };
        let tell = move |outcome| {
            let _ = words.send(Word::Heir { outcome, progress }); // nobody listens any more at the end
        };
        self.heir = Some(Hold::follow(launch, begun, tell));
    }

    /// The program that is to take over has said that it serves, or will not.
    pub(super) fn on_heir(
        &mut self,
        outcome: Result<u32, String>,
        progress: &mpsc::UnboundedSender<Progress>,
    ) {
        // One that is not wanted any more is waited for at the end.
        let Some(heir) = self.heir.take_if(|heir| heir.is_wanted()) else {
            let _ = progress.send(Progress::Failed { reason: "the server is stopping".to_owned() });
            return;
        };
        match outcome {
            Ok(pid) => {
                tracing::info!(pid, "the new program serves; this one finishes what it has");
                // The manager hears of it before the heir may tell anything itself.
                service::main_process(pid);
                heir.release();
                if let Some(control) = &self.control {
                    control.hand_over();
                }
                let generation = self.shared.state().generation;
                let _ = progress.send(Progress::Done { generation });
                self.stop(true);
            }
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
