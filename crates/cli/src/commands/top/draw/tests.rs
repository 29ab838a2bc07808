//! The picture at several sizes, as text. After a change that is meant: `BANDSTAND_BLESS=1 cargo test -p bandstand-cli draws`, then look.

use std::path::Path;

use bandstand_edge::control::{Counts, Generation, Queue, Template, Times};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;

fn times(pairs: &[(u64, u64)]) -> Times {
    Times {
        count: pairs.iter().map(|pair| pair.1).sum(),
        sum_us: pairs.iter().map(|pair| pair.0 * pair.1).sum(),
        buckets: pairs.to_vec(),
    }
}

fn worker(number: u32, generation: u32, state: &str, running: &[(&str, f64)]) -> Worker {
    let ready = state != "starting";
    Worker {
        number,
        pid: 4710 + number,
        generation,
        state: state.to_owned(),
        age: 725.0 * f64::from(number),
        served: if ready { 1000 * u64::from(number) } else { 0 },
        threads: if ready { 4 } else { 0 },
        busy: running.len(),
        tasks_most: if number == 2 { 512 } else { 0 },
        sockets: if number == 2 { 31 } else { 0 },
        memory: Memory { rss: Some(90_000_000), pss: (number == 1).then_some(58_400_000) },
        running: running
            .iter()
            .map(|(target, since)| Running {
                request_id: format!("{number:032x}"),
                method: "GET".to_owned(),
                target: (*target).to_owned(),
                since: *since,
                on: "thread".to_owned(),
                worker: number,
            })
            .collect(),
        ..Worker::default()
    }
}

fn before() -> Status {
    let mut before = now();
    before.uptime -= 1.0;
    before.counters = Counts::default();
    before.workers.iter_mut().for_each(|worker| worker.served /= 2);
    before
}

fn now() -> Status {
    Status {
        version: "0.1.0".to_owned(),
        pid: 4700,
        project: "/srv/shop".to_owned(),
        state: "reloading".to_owned(),
        uptime: 11_520.0,
        addresses: vec!["https://shop.example".to_owned(), "http://127.0.0.1:8000".to_owned()],
        generation: 2,
        generations: vec![
            Generation { number: 2, state: "current".to_owned(), since: 725.0, workers: 2 },
            Generation { number: 3, state: "booting".to_owned(), since: 1.2, workers: 1 },
        ],
        template: Some(Template {
            generation: 3,
            state: "ready".to_owned(),
            pid: Some(4709),
            ..Template::default()
        }),
        wanted: 2,
        workers: vec![
            worker(1, 2, "ready", &[("/reports/2026/november/", 3.21), ("/cart/", 0.012)]),
            worker(2, 2, "ready", &[]),
            worker(3, 3, "starting", &[]),
        ],
        queue: Queue { length: 3, oldest: 0.42 },
        connections: 312,
        memory: Memory { rss: Some(24_000_000), pss: None },
        counters: Counts {
            requests: 1234,
            success: 1200,
            redirection: 20,
            client_error: 12,
            server_error: 2,
            total: times(&[(3_968, 900), (11_776, 300), (79_872, 34)]),
            queue: times(&[(14, 1000), (96, 200), (2_944, 34)]),
            app: times(&[(3_840, 900), (11_264, 300), (77_824, 34)]),
            ..Counts::default()
        },
        ..Status::default()
    }
}

fn picture(now: &Status, width: u16, height: u16, change: impl FnOnce(&mut View<'_>)) -> String {
    let before = before();
    let history: Vec<f64> = (0..60).map(|at| f64::from(at * at % 37 * 40)).collect();
    let mut view = View {
        sight: Sight::between(&before, now),
        history: &history,
        selected: Some(0),
        paused: false,
        trouble: None,
        page: &Page::Overview,
        keys: true,
    };
    change(&mut view);
    shown(&view, width, height)
}

fn shown(view: &View<'_>, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(view, frame.area(), frame.buffer_mut())).unwrap();
    lines(terminal.backend().buffer())
}

fn golden(name: &str, drawn: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/commands/top/draw/golden").join(name);
    if std::env::var_os("BANDSTAND_BLESS").is_some() {
        std::fs::write(&path, drawn).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(drawn == wanted, "{name} is drawn as\n{drawn}\nand was\n{wanted}");
}

#[test]
fn draws_a_wide_screen() {
    golden("wide.txt", &picture(&now(), 120, 30, |_| {}));
}

#[test]
fn draws_eighty_columns() {
    golden("eighty.txt", &picture(&now(), 80, 24, |_| {}));
}

#[test]
fn draws_a_narrow_screen() {
    golden("narrow.txt", &picture(&now(), 48, 16, |_| {}));
}

#[test]
fn draws_a_low_screen() {
    golden("low.txt", &picture(&now(), 100, 8, |_| {}));
}

#[test]
fn draws_trouble_and_a_pause() {
    let drawn = picture(&now(), 100, 8, |view| {
        view.paused = true;
        view.trouble = Some("the server is gone:\nConnection refused");
    });
    let head: Vec<&str> = drawn.lines().take(2).collect();
    assert!(head[0].ends_with("paused"), "{drawn}");
    assert_eq!(head[1], " the server is gone:\u{fffd}Connection refused");
}

#[test]
fn draws_text_without_a_terminal() {
    let (before, now) = (before(), now());
    golden("text.txt", &text(Sight::between(&before, &now), 110));
}

#[test]
fn draws_stacks_from_where_one_has_scrolled() {
    let lines = (0..50).map(|at| format!("line {at}")).collect();
    let page = Page::Text { title: "stacks of worker 1".to_owned(), lines, top: 7 };
    let now = now();
    let sight = Sight::between(&now, &now);
    let view =
        View { sight, history: &[], selected: None, paused: false, trouble: None, page: &page, keys: true };
    let drawn = shown(&view, 60, 6);
    assert!(drawn.contains("line 7\n line 8\n") && !drawn.contains("line 6\n"), "{drawn}");
}

#[test]
fn draws_something_at_every_size() {
    let empty = Status::default();
    for width in [1, 2, 10, 39, 67, 68, 84, 85, 86, 200] {
        for height in [1, 2, 3, 5, 6, 7, 13, 14, 15, 60] {
            let drawn = picture(&now(), width, height, |_| {});
            assert!(width < 10 || !drawn.is_empty(), "{width}×{height}");
            picture(&empty, width, height, |view| view.history = &[]);
        }
    }
}

#[test]
fn the_chosen_worker_stays_in_sight() {
    let mut many = now();
    many.workers = (1..=40).map(|number| worker(number, 2, "ready", &[])).collect();
    let drawn = picture(&many, 100, 24, |view| view.selected = Some(39));
    assert!(drawn.contains("4750"), "{drawn}");
}
