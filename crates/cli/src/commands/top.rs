//! `bandstand top`: the running server, looked at each second.
//!
//! Owns the loop, the keys and the terminal. What is compared is `top/sight.rs`, what is drawn `top/draw.rs`, both pure.
//! Without a terminal, and with `--once`, one look is printed as text. Invariant: however it ends (a key, a signal, an error, a
//! panic), the terminal is as it was.

mod draw;
mod sight;

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bandstand_edge::control::{Command, Connection, Stacks, Status, Whose};
use clap::ArgMatches;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use self::draw::{Page, View};
use self::sight::Sight;
use super::stacks;
use crate::report::{self, Failure};
use crate::running;

/// Every so many looks the proportional memory is asked for, which costs the server's kernel milliseconds a process.
const PSS_EVERY: u64 = 5;
/// Looks that are kept for the line of rates.
const HISTORY: usize = 240;
/// A signal is noticed within this time.
const SLICE: Duration = Duration::from_millis(200);

/// Watches until a key or a signal ends it.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let asked = matches.get_one::<f64>("interval").copied().unwrap_or(1.0);
    let interval = Duration::try_from_secs_f64(asked)
        .ok()
        .filter(|interval| (0.1..=3600.0).contains(&interval.as_secs_f64()))
        .ok_or_else(|| Failure::Run {
            sentence: format!("--interval {asked} is not between 0.1 and 3600"),
            code: 2,
        })?;
    let server = running::server(matches)?;
    if matches.get_flag("once") || !std::io::stdout().is_terminal() {
        return once(&server, interval);
    }
    let first = look(&server, None, true)?;
    let mut terminal = Terminal::take()?;
    let outcome = Top::new(server, interval, first).watch(&mut terminal);
    drop(terminal);
    outcome
}

/// Two looks, so that there are rates, and their picture as text.
fn once(server: &Connection, interval: Duration) -> Result<(), Failure> {
    let before = look(server, None, true)?;
    std::thread::sleep(interval);
    let after = look(server, None, true)?;
    report::print(&draw::text(Sight::between(&before, &after), TEXT_WIDTH))
}

/// Columns of the text without a terminal.
const TEXT_WIDTH: u16 = 110;

fn look(server: &Connection, last: Option<&Status>, pss: bool) -> Result<Status, Failure> {
    let mut status: Status = server.ask(&Command::Status { pss }, "status")?;
    if let Some(last) = last.filter(|_| !pss) {
        carry(&mut status, last);
    }
    Ok(status)
}

/// What was measured at an earlier look, until it is measured again.
fn carry(status: &mut Status, last: &Status) {
    let known: HashMap<u32, Option<u64>> =
        last.workers.iter().map(|worker| (worker.pid, worker.memory.pss)).collect();
    for worker in &mut status.workers {
        worker.memory.pss = known.get(&worker.pid).copied().flatten();
    }
    if status.pid == last.pid {
        status.memory.pss = last.memory.pss;
    }
}

/// The terminal as ours; given back on drop, and by a hook before a panic is told.
struct Terminal {
    inner: ratatui::DefaultTerminal,
    /// TERM, HUP or INT came.
    told: Arc<AtomicBool>,
}

impl Terminal {
    fn take() -> Result<Self, Failure> {
        let cannot = |error: std::io::Error| Failure::Run {
            sentence: format!("the terminal cannot be used: {error}; try --once"),
            code: 1,
        };
        let told = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP, signal_hook::consts::SIGINT]
        {
            signal_hook::flag::register(signal, told.clone()).map_err(cannot)?;
        }
        Ok(Self { inner: ratatui::try_init().map_err(cannot)?, told })
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Nothing can be done where this fails, and nobody be told: the terminal is gone.
        let _ = ratatui::try_restore();
    }
}

/// What is watched and how.
struct Top {
    server: Connection,
    interval: Duration,
    before: Status,
    after: Status,
    /// Requests a second, the newest last.
    history: Vec<f64>,
    looks: u64,
    paused: bool,
    /// The worker that keys mean, by its row.
    selected: usize,
    page: Page,
    /// Why the last look failed.
    trouble: Option<String>,
}

/// Whether it goes on.
enum Next {
    Go,
    End,
}

impl Top {
    fn new(server: Connection, interval: Duration, first: Status) -> Self {
        Self {
            server,
            interval,
            before: first.clone(),
            after: first,
            history: Vec::new(),
            looks: 0,
            paused: false,
            selected: 0,
            page: Page::Overview,
            trouble: None,
        }
    }

    fn watch(mut self, terminal: &mut Terminal) -> Result<(), Failure> {
        let lost = |error: std::io::Error| Failure::Run {
            sentence: format!("the terminal is lost: {error}"),
            code: 1,
        };
        let mut due = Instant::now() + self.interval;
        loop {
            let view = self.view();
            terminal.inner.draw(|frame| draw::draw(&view, frame.area(), frame.buffer_mut())).map_err(lost)?;
            drop(view);
            loop {
                if terminal.told.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let now = Instant::now();
                if now >= due {
                    break;
                }
                if !event::poll((due - now).min(SLICE)).map_err(lost)? {
                    continue;
                }
                match event::read().map_err(lost)? {
                    Event::Key(key) if key.kind != KeyEventKind::Release => match self.key(key) {
                        Next::Go => break,
                        Next::End => return Ok(()),
                    },
                    Event::Resize(..) => break,
                    _ => {}
                }
            }
            if Instant::now() >= due {
                self.look();
                due = Instant::now() + self.interval;
            }
        }
    }

    fn view(&self) -> View<'_> {
        View {
            sight: Sight::between(&self.before, &self.after),
            history: &self.history,
            selected: Some(self.selected),
            paused: self.paused,
            trouble: self.trouble.as_deref(),
            page: &self.page,
            keys: true,
        }
    }

    fn look(&mut self) {
        if self.paused {
            return;
        }
        self.looks += 1;
        match look(&self.server, Some(&self.after), self.looks.is_multiple_of(PSS_EVERY)) {
            Ok(status) => {
                self.before = std::mem::replace(&mut self.after, status);
                self.history.push(Sight::between(&self.before, &self.after).rate);
                let over = self.history.len().saturating_sub(HISTORY);
                self.history.drain(..over);
                self.trouble = None;
            }
            // It may be on its way back.
            Err(failure) => self.trouble = Some(failure.sentence()),
        }
        self.selected = self.selected.min(self.after.workers.len().saturating_sub(1));
    }

    fn key(&mut self, key: KeyEvent) -> Next {
        let interrupt = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
        match (&mut self.page, key.code) {
            _ if interrupt => return Next::End,
            (Page::Overview, KeyCode::Char('q') | KeyCode::Esc) => return Next::End,
            (Page::Text { .. }, KeyCode::Char('q') | KeyCode::Esc | KeyCode::Enter) => {
                self.page = Page::Overview
            }
            (Page::Text { top, .. }, KeyCode::Up | KeyCode::Char('k')) => *top = top.saturating_sub(1),
            (Page::Text { top, lines, .. }, KeyCode::Down | KeyCode::Char('j')) => {
                *top = (*top + 1).min(lines.len().saturating_sub(1));
            }
            (Page::Text { top, .. }, KeyCode::PageUp) => *top = top.saturating_sub(20),
            (Page::Text { top, lines, .. }, KeyCode::PageDown) => {
                *top = (*top + 20).min(lines.len().saturating_sub(1));
            }
            (Page::Overview, KeyCode::Char(' ')) => self.paused = !self.paused,
            (Page::Overview, KeyCode::Up | KeyCode::Char('k')) => {
                self.selected = self.selected.saturating_sub(1)
            }
            (Page::Overview, KeyCode::Down | KeyCode::Char('j')) => {
                self.selected = (self.selected + 1).min(self.after.workers.len().saturating_sub(1));
            }
            (Page::Overview, KeyCode::Char('s') | KeyCode::Enter) => self.stacks(),
            _ => {}
        }
        Next::Go
    }

    fn stacks(&mut self) {
        let Some(worker) = self.after.workers.get(self.selected) else { return };
        let asked: Result<Vec<Stacks>, _> =
            self.server.ask(&Command::Stacks(Whose::Worker(worker.number)), "stacks");
        let text = asked.map_or_else(|gone| gone.to_string(), |told| stacks::shown(&told));
        let title = format!("stacks of worker {}", worker.number);
        self.page = Page::Text { title, lines: text.lines().map(str::to_owned).collect(), top: 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bandstand_edge::control::{Memory, Worker};

    #[test]
    fn what_was_measured_stays_with_its_process() {
        let memory = |pss| Memory { rss: Some(9), pss };
        let worker = |pid, pss| Worker { pid, memory: memory(pss), ..Worker::default() };
        let last = Status {
            pid: 1,
            memory: memory(Some(5)),
            workers: vec![worker(7, Some(6))],
            ..Status::default()
        };
        let mut now = Status {
            pid: 1,
            memory: memory(None),
            workers: vec![worker(7, None), worker(8, None)],
            ..Status::default()
        };
        carry(&mut now, &last);
        assert_eq!(now.memory.pss, Some(5));
        assert_eq!(now.workers.iter().map(|worker| worker.memory.pss).collect::<Vec<_>>(), [Some(6), None]);
    }
}
