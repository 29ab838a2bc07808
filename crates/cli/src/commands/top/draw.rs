//! The picture: a function of two looks and a size.
//!
//! Owns the layout and its colours. Parts that do not fit are left out, from the least wanted: the line of rates, columns of the
//! table, the slowest requests. Colours are the terminal's own sixteen, so that they fit its theme, and never the only sign.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Padding, Paragraph, Row, Sparkline, Table, Widget};

use super::sight::Sight;
use crate::figures::{bytes, count, many, plain, rate, seconds, time};
use bandstand_edge::control::{Memory, Running, Status, Worker};

const DIM: Style = Style::new().fg(Color::DarkGray);
const NAME: Style = Style::new().fg(Color::Cyan);
/// A request that runs so long is marked, in seconds.
const LONG: f64 = 1.0;
/// Lines of the panel of rates and times.
const PANEL: u16 = 6;
/// Columns that the figures of the panel take; the line of rates has the rest, from `SPARK_LEAST` on.
const FIGURES: u16 = 68;
const SPARK_LEAST: u16 = 16;
/// Lines of the screen, beside the workers, from which the parts stand apart.
const AIRY: u16 = 18;
/// Slowest requests in a text.
const TEXT_REQUESTS: u16 = 10;

/// What is to be drawn.
pub(super) struct View<'v> {
    pub(super) sight: Sight<'v>,
    /// Requests a second at earlier looks, the newest last.
    pub(super) history: &'v [f64],
    /// The row that keys mean.
    pub(super) selected: Option<usize>,
    pub(super) paused: bool,
    /// Why the last look failed.
    pub(super) trouble: Option<&'v str>,
    pub(super) page: &'v Page,
    /// Say what keys do.
    pub(super) keys: bool,
}

/// What fills the screen.
pub(super) enum Page {
    /// Everything.
    Overview,
    /// Lines to scroll through.
    Text {
        title: String,
        lines: Vec<String>,
        /// The first line shown.
        top: usize,
    },
}

/// Draws the view into the area.
pub(super) fn draw(view: &View<'_>, area: Rect, buffer: &mut Buffer) {
    if let Page::Text { title, lines, top } = view.page {
        return text_page(title, lines, *top, area, buffer);
    }
    let sight = &view.sight;
    let fits = |lines: u16| if area.height >= lines { lines } else { 0 };
    let workers = u16::try_from(sight.now.workers.len()).unwrap_or(u16::MAX).saturating_add(2);
    // Empty lines between the parts, where they cost no row.
    let airy = view.keys && area.height >= AIRY.saturating_add(workers);
    let [head, panel, facts, table, slowest, foot] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(if area.height >= 14 { PANEL + 1 } else { 1 }),
        Constraint::Length(if airy { 2 } else { 1 }),
        Constraint::Max(workers.saturating_add(u16::from(airy))),
        Constraint::Fill(1),
        Constraint::Length(u16::from(view.keys && fits(6) > 0)),
    ])
    .areas(area);
    header(view, head, buffer);
    figures(view, panel, buffer);
    Paragraph::new(standing(sight.now)).render(facts, buffer);
    workers_table(view, table, buffer);
    if slowest.height > 2 {
        slowest_requests(sight, slowest, buffer);
    }
    if view.keys {
        keys(foot, buffer);
    }
}

/// The view without a terminal: every worker, a few requests, no keys.
pub(super) fn text(sight: Sight<'_>, width: u16) -> String {
    let page = Page::Overview;
    let rows = |n: usize| u16::try_from(n).unwrap_or(u16::MAX / 4);
    let requests = rows(sight.running.len()).min(TEXT_REQUESTS);
    let height = (PANEL + 8 + requests).saturating_add(rows(sight.now.workers.len()));
    let view =
        View { sight, history: &[], selected: None, paused: false, trouble: None, page: &page, keys: false };
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    draw(&view, area, &mut buffer);
    lines(&buffer)
}

/// The characters of a buffer, without the spaces at the ends of lines and the empty lines at its own.
fn lines(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width.max(1));
    let rows = buffer.content().chunks(width);
    let text: Vec<String> = rows
        .map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>().trim_end().to_owned())
        .collect();
    let last = text.iter().rposition(|line| !line.is_empty()).map_or(0, |at| at + 1);
    text[..last].iter().map(|line| format!("{line}\n")).collect()
}

fn header(view: &View<'_>, area: Rect, buffer: &mut Buffer) {
    let status = view.sight.now;
    let mut first = vec![
        Span::raw(" "),
        "bandstand".bold(),
        Span::raw(format!(" {}  ", status.version)),
        Span::styled(status.state.clone(), of_state(&status.state)),
        Span::raw(format!("  generation {}", status.generation)),
    ];
    if let Some(current) = status.generations.iter().find(|one| one.number == status.generation) {
        first.push(Span::raw(format!(" for {}", seconds(current.since))));
    }
    for other in status.generations.iter().filter(|one| one.number != status.generation) {
        first.push(Span::styled(format!("  {} is {}", other.number, other.state), of_state(&other.state)));
    }
    first.push(Span::styled(format!("  up {}, pid {}", seconds(status.uptime), status.pid), DIM));
    if view.paused {
        first.push(Span::styled("  paused", Style::new().fg(Color::Yellow)));
    }
    let second = match view.trouble {
        Some(why) => Line::from(Span::styled(format!(" {}", plain(why, 200)), Style::new().fg(Color::Red))),
        None => Line::from(vec![
            Span::styled(format!(" {}", status.addresses.join(", ")), NAME),
            Span::styled(format!("  {}", status.project), DIM),
        ]),
    };
    Paragraph::new(vec![Line::from(first), second]).render(area, buffer);
}

/// Rates and times to the left, the line of rates to the right.
fn figures(view: &View<'_>, area: Rect, buffer: &mut Buffer) {
    let sight = &view.sight;
    let mut rates = vec![
        Span::styled(" requests/s  ", NAME),
        Span::styled(format!("{:<9}", rate(sight.rate)), Style::new().bold()),
    ];
    for (name, class) in sight.classes {
        let bad = name == "5xx" && class > 0.0;
        let style = if bad { Style::new().fg(Color::Red).bold() } else { Style::new() };
        if name != "left" || class > 0.0 {
            rates.push(Span::styled(format!("{name} "), if bad { style } else { DIM }));
            rates.push(Span::styled(format!("{:<7}", rate(class)), style));
        }
    }
    if area.height < PANEL {
        return Paragraph::new(Line::from(rates)).render(area, buffer);
    }
    let heading = format!("{:<13}{:<11}{:<11}{:<11}{}", "", "p50", "p90", "p99", "n");
    let mut lines = vec![Line::raw(""), Line::from(rates), Line::styled(heading, DIM)];
    lines.extend(sight.times.iter().enumerate().map(|(at, (name, times))| {
        let indent = if at == 0 { "" } else { "  " };
        let at = |share| times.quantile(share).map_or_else(|| "-".to_owned(), time);
        Line::from(vec![
            Span::styled(format!(" {:<12}", format!("{indent}{name}")), NAME),
            Span::raw(format!("{:<11}{:<11}{:<11}", at(0.5), at(0.9), at(0.99))),
            Span::styled(count(times.count), DIM),
        ])
    }));
    let [left, _, right] =
        Layout::horizontal([Constraint::Max(FIGURES), Constraint::Length(2), Constraint::Fill(1)])
            .areas(area);
    Paragraph::new(lines).render(left, buffer);
    if right.width >= SPARK_LEAST && !view.history.is_empty() {
        spark(view.history, right, buffer);
    }
}

fn spark(history: &[f64], area: Rect, buffer: &mut Buffer) {
    let area = Rect { y: area.y + 1, height: area.height - 2, width: area.width - 1, ..area };
    let [graph, label] = Layout::vertical([Constraint::Fill(1), Constraint::Length(1)]).areas(area);
    let shown = &history[history.len().saturating_sub(usize::from(graph.width))..];
    // Tenths, so that a quiet server has a line too.
    let data: Vec<u64> = shown.iter().map(|rate| (rate * 10.0) as u64).collect();
    let most = shown.iter().copied().fold(0.0, f64::max);
    // To the right: the newest is where the eye expects it.
    let free = graph.width.saturating_sub(u16::try_from(data.len()).unwrap_or(u16::MAX));
    let graph = Rect { x: graph.x + free, width: graph.width - free, ..graph };
    Sparkline::default().data(&data).style(Style::new().fg(Color::Cyan)).render(graph, buffer);
    Line::styled(format!("requests/s, most {}", rate(most)), DIM).right_aligned().render(label, buffer);
}

/// What there is at this moment, on one line.
fn standing(status: &Status) -> Line<'static> {
    let sockets: usize = status.workers.iter().map(|worker| worker.sockets).sum();
    let mut spans = vec![Span::styled(" queue  ", NAME)];
    spans.push(match status.queue.length {
        0 => Span::raw("empty"),
        length => Span::styled(
            format!("{} waiting, the oldest for {}", count(length as u64), seconds(status.queue.oldest)),
            Style::new().fg(Color::Yellow),
        ),
    });
    spans.push(Span::styled("   connections  ", NAME));
    spans.push(Span::raw(count(status.connections as u64)));
    if sockets > 0 {
        spans.push(Span::styled("   WebSockets  ", NAME));
        spans.push(Span::raw(count(sockets as u64)));
    }
    spans.push(Span::styled("   edge  ", NAME));
    spans.push(Span::raw(size(&status.memory)));
    if let Some(template) = &status.template {
        spans.push(Span::styled("   template  ", NAME));
        spans.push(Span::styled(template.state.clone(), of_state(&template.state)));
    }
    Line::from(spans)
}

/// A column: heading, width, the least width of the screen that has it, and its text.
type Column = (&'static str, u16, u16, fn(&Worker, f64) -> String);

/// The columns of workers; what they run follows.
const COLUMNS: &[Column] = &[
    ("worker", 6, 0, |worker, _| worker.number.to_string()),
    ("pid", 8, 90, |worker, _| worker.pid.to_string()),
    ("gen", 4, 60, |worker, _| worker.generation.to_string()),
    ("state", 8, 0, |worker, _| worker.state.clone()),
    ("age", 10, 100, |worker, _| seconds(worker.age)),
    ("served", 10, 80, |worker, _| count(worker.served)),
    ("req/s", 6, 40, |_, served| rate(served)),
    ("busy", 6, 50, |worker, _| busy(worker)),
    ("memory", 7, 70, |worker, _| size(&worker.memory)),
];

fn workers_table(view: &View<'_>, area: Rect, buffer: &mut Buffer) {
    let status = view.sight.now;
    let columns = || COLUMNS.iter().filter(|column| area.width >= column.2);
    let text = |name: &str, text: String, width: u16| match name {
        "state" => Line::raw(text),
        _ => Line::raw(format!("{text:>width$}", width = usize::from(width))),
    };
    let header = Row::new(
        columns().map(|column| text(column.0, column.0.to_owned(), column.1)).chain([Line::raw("runs")]),
    );
    let room = usize::from(area.height.saturating_sub(2)).max(1);
    // The chosen row stays in sight.
    let first = view.selected.map_or(0, |selected| (selected + 1).saturating_sub(room));
    let shown = status.workers.iter().zip(&view.sight.served).enumerate().skip(first).take(room);
    let rows = shown.map(|(at, (worker, served))| {
        let cells = columns().map(|column| {
            let cell = Cell::from(text(column.0, (column.3)(worker, *served), column.1));
            if column.0 == "state" && view.selected != Some(at) {
                cell.style(of_state(&worker.state))
            } else {
                cell
            }
        });
        let row = Row::new(cells.chain([Cell::from(runs(worker))]));
        if view.selected == Some(at) { row.reversed() } else { row }
    });
    let widths = columns().map(|column| Constraint::Length(column.1)).chain([Constraint::Fill(1)]);
    let title = format!(" {} of {} ", ready(status), many(status.wanted, "worker"));
    Table::new(rows, widths)
        .header(header.style(DIM))
        .column_spacing(2)
        .block(section(title))
        .render(area, buffer);
}

fn ready(status: &Status) -> usize {
    status.workers.iter().filter(|worker| worker.state == "ready").count()
}

/// The oldest of what it works on, and how many more.
fn runs(worker: &Worker) -> Line<'static> {
    let Some(first) = worker.running.first() else { return Line::raw("") };
    let mut spans = vec![since(first), Span::raw(format!("  {}", asked(first)))];
    if worker.running.len() > 1 {
        spans.push(Span::styled(format!("  +{}", worker.running.len() - 1), DIM));
    }
    Line::from(spans)
}

fn slowest_requests(sight: &Sight<'_>, area: Rect, buffer: &mut Buffer) {
    let room = usize::from(area.height.saturating_sub(1));
    let rows = sight.running.iter().take(room).map(|running| {
        Row::new([
            Line::from(since(running)).right_aligned(),
            Line::raw(running.worker.to_string()).right_aligned(),
            Line::raw(running.on.clone()),
            Line::raw(asked(running)),
            Line::styled(plain(&running.request_id, 32), DIM),
        ])
    });
    let ids = if area.width >= 90 { 32 } else { 0 };
    let widths = [
        Constraint::Length(8),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Fill(1),
        Constraint::Length(ids),
    ];
    let title = match sight.running.len() {
        0 => " nothing runs ".to_owned(),
        1 => " 1 request runs ".to_owned(),
        n => format!(" {} requests run, the longest first ", count(n as u64)),
    };
    Table::new(rows, widths).column_spacing(2).block(section(title)).render(area, buffer);
}

fn since(running: &Running) -> Span<'static> {
    let style = if running.since >= LONG { Style::new().fg(Color::Yellow) } else { Style::new() };
    Span::styled(seconds(running.since), style)
}

fn asked(running: &Running) -> String {
    format!("{} {}", plain(&running.method, 16), plain(&running.target, 200))
}

fn busy(worker: &Worker) -> String {
    match (worker.threads, worker.tasks_most) {
        (0, 0) => String::new(),
        (0, _) => worker.tasks.to_string(),
        (threads, 0) => format!("{}/{threads}", worker.busy),
        (threads, _) => format!("{}/{threads}+{}", worker.busy, worker.tasks),
    }
}

/// The proportional size where it is known: it can be added up.
fn size(memory: &Memory) -> String {
    memory.pss.or(memory.rss).map_or_else(|| "-".to_owned(), bytes)
}

fn of_state(state: &str) -> Style {
    match state {
        "serving" | "ready" | "current" => Style::new().fg(Color::Green),
        "failed" | "lost" => Style::new().fg(Color::Red),
        _ => Style::new().fg(Color::Yellow),
    }
}

fn section(title: String) -> Block<'static> {
    Block::new()
        .borders(Borders::TOP)
        .border_style(DIM)
        .padding(Padding::left(1))
        .title(Line::from(Span::styled(title, Style::new().fg(Color::Reset).bold())))
}

fn keys(area: Rect, buffer: &mut Buffer) {
    let keys = [("q", "quit"), ("space", "pause"), ("↑↓", "choose a worker"), ("s", "its stacks")];
    let spans = keys.iter().flat_map(|(key, does)| {
        [Span::styled(format!(" {key}"), NAME), Span::styled(format!(" {does}  "), DIM)]
    });
    Paragraph::new(Line::from(spans.collect::<Vec<_>>())).render(area, buffer);
}

fn text_page(title: &str, lines: &[String], top: usize, area: Rect, buffer: &mut Buffer) {
    let [body, foot] = Layout::vertical([Constraint::Fill(1), Constraint::Length(1)]).areas(area);
    let shown: Vec<Line<'_>> = lines.iter().skip(top).map(|line| Line::raw(line.as_str())).collect();
    Paragraph::new(shown).block(section(format!(" {title} "))).render(body, buffer);
    Line::styled(" ↑↓ scroll   esc back", DIM).render(foot, buffer);
}

#[cfg(test)]
mod tests;
