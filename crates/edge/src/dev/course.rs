//! What a change leads to: a reload, or only pages that load again; one at a time, and the newest save wins.
//!
//! Owns the order of events from the first sign of a change to the log line at its end. While code is being reloaded the
//! gate is held: whoever asks waits for the new code, and a save that comes meanwhile keeps it shut for another round.
//! Reloading itself is the conductor's (`server/`). Invariant: the gate never stays held without a reload under way.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::Dev;
use super::rules::Kind;
use super::settle::{Burst, Settle};
use super::watcher::Change;
use crate::server::orders::{Order, Orders, Progress};

/// Follows changes until the watcher or the server ends. To be dropped with them: nothing is lost then.
pub(crate) async fn follow(dev: Arc<Dev>, changes: mpsc::Receiver<Change>, orders: Orders) {
    Course { dev, changes, orders, settle: Settle::default() }.run().await;
}

/// What became of a reload.
enum Outcome {
    /// This generation serves, or why none does.
    Over(Result<u32, String>),
    /// Code was saved again before it was over.
    Newer(Burst),
}

struct Course {
    dev: Arc<Dev>,
    changes: mpsc::Receiver<Change>,
    orders: Orders,
    settle: Settle,
}

impl Course {
    async fn run(&mut self) {
        while let Some(burst) = self.next_burst().await {
            match burst.kind {
                Kind::Code => {
                    if self.reload(burst).await.is_none() {
                        return;
                    }
                }
                kind => {
                    tracing::info!("{} changed: pages are told", self.show(&burst));
                    self.dev.changed(kind != Kind::Style);
                }
            }
        }
    }

    /// The next burst that is over; `None`: there are no more.
    async fn next_burst(&mut self) -> Option<Burst> {
        loop {
            if let Some(burst) = self.settle.take(Instant::now()) {
                return Some(burst);
            }
            let due = self.settle.due();
            tokio::select! {
                change = self.changes.recv() => self.note(&change?),
                () = sleep_until(due) => {}
            }
        }
    }

    /// From the first sign on, nobody is served by the code of before.
    fn note(&mut self, change: &Change) {
        if change.kind == Kind::Code {
            self.dev.hold();
        }
        self.settle.note(Instant::now(), &change.path, change.kind);
    }

    /// `None`: the server is ending.
    async fn reload(&mut self, mut burst: Burst) -> Option<()> {
        loop {
            // The first start has its own outcome; what was saved meanwhile is for the next.
            self.dev.first_outcome().await;
            self.dev.hold();
            tracing::info!("{} changed: reloading", self.show(&burst));
            let outcome = match self.order(&burst).await? {
                Outcome::Newer(newer) => {
                    burst = newer;
                    continue;
                }
                Outcome::Over(outcome) => outcome,
            };
            // Saved again at the last moment: what has just started is old already.
            if self.settle.pending() == Some(Kind::Code) {
                burst = self.next_burst().await?;
                continue;
            }
            match outcome {
                Ok(generation) => {
                    let took = burst.first.elapsed().as_secs_f64();
                    tracing::info!("reloaded in {took:.2} s (generation {generation})");
                    self.dev.mended();
                }
                Err(reason) => self.dev.broke(&reason).await,
            }
            return Some(());
        }
    }

    /// Asks for a new generation and waits for its outcome. A save meanwhile is not kept waiting: the conductor gives up the
    /// generation that is on its way for the next.
    async fn order(&mut self, burst: &Burst) -> Option<Outcome> {
        let (progress, mut told) = mpsc::unbounded_channel();
        self.dev.begins();
        self.orders.send(Order::Reload { hold: false, progress }).await.ok()?;
        loop {
            match self.settle.take(Instant::now()) {
                Some(newer) if newer.kind == Kind::Code => return Some(Outcome::Newer(newer)),
                Some(other) => self.dev.changed(other.kind != Kind::Style),
                None => {}
            }
            let due = self.settle.due();
            tokio::select! {
                step = told.recv() => match step {
                    Some(Progress::Step(step)) => tracing::debug!(path = %burst.path.display(), "{step}"),
                    Some(Progress::Done { generation }) => return Some(Outcome::Over(Ok(generation))),
                    Some(Progress::Failed { reason }) => return Some(Outcome::Over(Err(reason))),
                    None => return None,
                },
                change = self.changes.recv() => self.note(&change?),
                () = sleep_until(due) => {}
            }
        }
    }

    fn show(&self, burst: &Burst) -> String {
        let path = short(&burst.path, &self.dev.project);
        match burst.count {
            1 => path,
            2 => format!("{path} and one more file"),
            n => format!("{path} and {} more files", n - 1),
        }
    }
}

fn short(path: &Path, project: &Path) -> String {
    path.strip_prefix(project).unwrap_or(path).display().to_string()
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::Gate;

    struct Story {
        dev: Arc<Dev>,
        changes: mpsc::Sender<Change>,
        orders: mpsc::Receiver<Order>,
    }

    impl Story {
        fn begin() -> Self {
            let dev = Dev::for_tests();
            let (changes, changed) = mpsc::channel(16);
            let (sender, orders) = mpsc::channel(4);
            tokio::spawn(follow(dev.clone(), changed, sender));
            Self { dev, changes, orders }
        }

        async fn save(&self, path: &str, kind: Kind) {
            self.changes.send(Change { path: path.into(), kind }).await.unwrap();
        }

        async fn ordered(&mut self) -> mpsc::UnboundedSender<Progress> {
            match self.orders.recv().await {
                Some(Order::Reload { progress, .. }) => progress,
                other => panic!("{other:?}"),
            }
        }

        async fn until(&self, wanted: impl Fn(&Gate) -> bool) {
            self.dev.gate.subscribe().wait_for(|gate| wanted(gate)).await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_save_holds_reloads_and_opens() {
        let mut story = Story::begin();
        story.dev.mended();
        let before = *story.dev.seen.borrow();
        story.save("/p/shop/views.py", Kind::Code).await;
        story.until(|gate| matches!(gate, Gate::Held)).await;
        let progress = story.ordered().await;
        assert!(matches!(*story.dev.gate.borrow(), Gate::Held));
        progress.send(Progress::Step("booting".into())).unwrap();
        progress.send(Progress::Done { generation: 2 }).unwrap();
        story.until(|gate| matches!(gate, Gate::Open)).await;
        assert_ne!(*story.dev.seen.borrow(), before, "pages load again");
    }

    #[tokio::test]
    async fn a_save_during_a_reload_is_another_one_and_nobody_gets_the_one_between() {
        let mut story = Story::begin();
        story.dev.mended();
        story.save("/p/a.py", Kind::Code).await;
        let first = story.ordered().await;
        story.save("/p/b.py", Kind::Code).await;
        // It does not wait for the first, which the conductor gives up.
        let second = story.ordered().await;
        let _ = first.send(Progress::Failed { reason: "a newer reload took its place".into() });
        assert!(matches!(*story.dev.gate.borrow(), Gate::Held));
        second.send(Progress::Done { generation: 3 }).unwrap();
        story.until(|gate| matches!(gate, Gate::Open)).await;
    }

    #[tokio::test]
    async fn broken_code_is_shown_until_a_save_mends_it() {
        let mut story = Story::begin();
        story.dev.mended();
        story.save("/p/a.py", Kind::Code).await;
        let failed = "NameError: x\n\nTraceback…".to_owned();
        story.ordered().await.send(Progress::Failed { reason: failed }).unwrap();
        story.until(|gate| matches!(gate, Gate::Broken(_))).await;
        story.save("/p/a.py", Kind::Code).await;
        story.ordered().await.send(Progress::Done { generation: 2 }).unwrap();
        story.until(|gate| matches!(gate, Gate::Open)).await;
    }

    /// What was wrong need not have been a watched file: a module elsewhere, a database.
    #[tokio::test]
    async fn broken_code_is_mended_by_a_reload_that_somebody_else_asked_for() {
        let mut story = Story::begin();
        story.dev.mended();
        story.save("/p/a.py", Kind::Code).await;
        let progress = story.ordered().await;
        story.dev.serves();
        assert!(matches!(*story.dev.gate.borrow(), Gate::Held), "not what was saved");
        progress.send(Progress::Failed { reason: "no database".into() }).unwrap();
        story.until(|gate| matches!(gate, Gate::Broken(_))).await;
        story.dev.serves();
        assert!(matches!(*story.dev.gate.borrow(), Gate::Open));
        let before = *story.dev.seen.borrow();
        story.dev.serves();
        assert_ne!(*story.dev.seen.borrow(), before, "pages load again");
    }

    #[tokio::test]
    async fn what_is_saved_during_the_first_start_waits_for_its_outcome() {
        let mut story = Story::begin();
        story.save("/p/a.py", Kind::Code).await;
        let ordered = tokio::time::timeout(std::time::Duration::from_millis(50), story.orders.recv()).await;
        assert!(ordered.is_err(), "{ordered:?}");
        story.dev.broke("no module named shop").await;
        story.ordered().await.send(Progress::Done { generation: 2 }).unwrap();
        story.until(|gate| matches!(gate, Gate::Open)).await;
    }

    #[tokio::test]
    async fn static_files_reload_nothing_but_pages() {
        let mut story = Story::begin();
        story.dev.mended();
        for kind in [Kind::Style, Kind::Page] {
            let before = *story.dev.seen.borrow();
            story.save("/p/static/a", kind).await;
            story.dev.seen.subscribe().wait_for(|seen| *seen != before).await.unwrap();
        }
        assert!(matches!(*story.dev.gate.borrow(), Gate::Open));
        assert!(story.orders.try_recv().is_err());
    }
}
