//! The explanation as text: one block a heading, columns under each other.
//!
//! Owns the look for people; a block that has nothing to say is left out. Programs read the JSON form instead.

use bandstand_config::describe::{Finding, Middleware, Road};

use super::{App, Explanation, Workers};
use crate::report;

/// The whole text.
pub(super) fn text(explanation: &Explanation) -> String {
    let blocks = [
        listeners(explanation),
        edge(explanation),
        app(explanation),
        access(explanation),
        middleware(&explanation.middleware),
        routes(explanation),
        websockets(explanation),
        notes(explanation),
    ];
    blocks.into_iter().filter(|block| !block.is_empty()).collect::<Vec<_>>().join("\n")
}

fn listeners(explanation: &Explanation) -> String {
    let rows = explanation.listeners.iter();
    block("Listens on", rows.map(|row| vec![row.address.clone(), row.origin.clone()]).collect())
}

fn edge(explanation: &Explanation) -> String {
    let pages = explanation
        .pages
        .iter()
        .map(|page| vec![page.path.clone(), page.answer.to_owned(), page.origin.clone()]);
    let files = explanation.files.iter().map(|files| {
        let missing = if files.exists { "" } else { ", which does not exist" };
        vec![format!("{}…", files.url), format!("files of {}{missing}", files.root), files.origin.clone()]
    });
    block("Answered without Python", pages.chain(files).collect())
}

fn app(explanation: &Explanation) -> String {
    let App { name, interface, reason, event_loop, root_path, python, django, .. } = &explanation.app;
    let mut rows = vec![vec!["interface".to_owned(), format!("{interface}: {reason}")]];
    let versions =
        [python.as_ref().map(|v| format!("Python {v}")), django.as_ref().map(|v| format!("Django {v}"))];
    rows.push(vec!["runs on".to_owned(), versions.into_iter().flatten().collect::<Vec<_>>().join(", ")]);
    rows.push(vec!["workers".to_owned(), workers(&explanation.workers, event_loop.as_deref())]);
    rows.push(vec![
        "WebSockets".to_owned(),
        if explanation.app.websockets { "yes" } else { "no" }.to_owned(),
    ]);
    if !root_path.is_empty() {
        rows.push(vec!["mounted at".to_owned(), root_path.clone()]);
    }
    for pin in &explanation.paths {
        rows.push(vec![format!("{}…", pin.prefix), format!("goes over {} ({})", pin.interface, pin.origin)]);
    }
    rows.retain(|row| !row[1].is_empty());
    block(&format!("Everything else: {name}"), rows)
}

fn access(explanation: &Explanation) -> String {
    let rows = explanation.access.iter().map(|rule| {
        let shown = if rule.prefix == "/" { "/".to_owned() } else { format!("{}…", rule.prefix) };
        vec![shown, rule.rules.join("; ")]
    });
    block("Who may ask", rows.collect())
}

fn workers(workers: &Workers, event_loop: Option<&str>) -> String {
    let threads = workers.threads.map(|threads| match workers.threads_max {
        Some(most) => format!("{threads} threads (up to {most} while some wait)"),
        None => format!("{threads} threads"),
    });
    let event_loop = event_loop.unwrap_or("an event loop");
    let tasks = workers.tasks.map(|tasks| format!("{event_loop} for up to {tasks} tasks"));
    let each: Vec<String> = [threads, tasks].into_iter().flatten().collect();
    format!("{}, each with {}", workers.processes, each.join(" and "))
}

fn middleware(all: &[Middleware]) -> String {
    let rows = all.iter().map(|one| {
        let how = match (one.sync, one.is_async) {
            (true, true) => "sync and async",
            (false, true) => "async only: every request takes the ASGI handler",
            _ => "sync only: on the ASGI handler it costs a hop to a thread",
        };
        vec![one.name.clone(), how.to_owned()]
    });
    block("Middleware, outermost first", rows.collect())
}

fn routes(explanation: &Explanation) -> String {
    let rows = explanation.routes.iter().map(|route| {
        let view = format!("{}{}", if route.is_async { "async " } else { "" }, route.view);
        vec![format!("/{}", route.pattern), view, route.road.as_str().to_owned(), route.why.clone()]
    });
    let mut out = block("URL patterns", rows.collect());
    if !out.is_empty() {
        out.push('\n');
        let legend = explanation
            .roads()
            .into_iter()
            .map(|road| vec![road.as_str().to_owned(), meaning(road).to_owned()]);
        out += &columns(legend.collect());
    }
    out
}

fn meaning(road: Road) -> &'static str {
    match road {
        Road::Thread => "WSGI handler, on a thread",
        Road::Bridge => "middleware on a thread, the view's coroutine on the event loop",
        Road::Loop => "ASGI handler, on the event loop",
        Road::Pinned => "as [paths] says",
    }
}

fn websockets(explanation: &Explanation) -> String {
    let rows = explanation.websocket_routes.iter();
    block("WebSockets", rows.map(|row| vec![format!("/{}", row.pattern), row.consumer.clone()]).collect())
}

fn notes(explanation: &Explanation) -> String {
    let mut lines: Vec<String> =
        explanation.findings.iter().map(|finding: &Finding| report::line(finding)).collect();
    lines.extend(explanation.notes.iter().map(|note| format!("note: {note}")));
    block("Worth knowing", lines.into_iter().map(|line| vec![line]).collect())
}

/// A heading with its rows; nothing without rows.
fn block(heading: &str, rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() {
        return String::new();
    }
    format!("{heading}\n{}", columns(rows))
}

/// Cells under each other. A cell wider than most pushes only its own row.
fn columns(rows: Vec<Vec<String>>) -> String {
    const WIDEST: usize = 60;
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.filter(|width| *width <= WIDEST).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line += &format!("  {cell:width$}");
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use bandstand_config::{Description, Sources, load};

    fn explained(flags: &[(&str, &str)], json: &str) -> String {
        let sources = Sources {
            flags: flags.iter().map(|(key, value)| ((*key).to_owned(), vec![(*value).to_owned()])).collect(),
            app_env: vec![],
            env: vec![],
            cwd: "/nowhere/shop".into(),
            cpus: std::num::NonZeroUsize::MIN,
            pid: 1,
            root: false,
        };
        let described = Description::from_json(json.as_bytes()).unwrap();
        let loaded = load(sources).unwrap().with_django(&described.project);
        text(&Explanation::new(&loaded, described))
    }

    #[test]
    fn a_project_with_both_interfaces() {
        let json = r#"{"interpreter": "3.13.1", "app": "shop.wsgi + shop.asgi", "interface": "both", "reason": "because",
            "loop": "asyncio", "django": {"version": "5.2", "static_url": "/static/", "static_root": "/nowhere/static"},
            "middleware": [{"name": "a.B", "sync": true, "async": true}, {"name": "c.D", "async": true}, {"name": "e.F", "sync": true}],
            "routes": [{"pattern": "", "view": "shop.home", "road": "thread", "why": "sync view"},
                       {"pattern": "find/<q>/", "view": "shop.find", "async": true, "road": "bridge", "why": "async view"}],
            "websocket_routes": [{"pattern": "ws/", "consumer": "shop.Ticker"}],
            "findings": [{"level": "warning", "what": "slow", "where": "shop/urls.py", "do": "less\nof it"}]}"#;
        assert_eq!(
            explained(&[("workers", "2"), ("root_path", "/s")], json),
            "\
Listens on
  127.0.0.1:8000  default

Answered without Python
  /-/live    200 while the edge runs                         default
  /-/ready   200 when a worker is ready, else 503            default
  /static/…  files of /nowhere/static, which does not exist  Django: STATIC_URL, STATIC_ROOT

Everything else: shop.wsgi + shop.asgi
  interface   both: because
  runs on     Python 3.13.1, Django 5.2
  workers     2, each with 2 threads (up to 16 while some wait) and asyncio for up to 1000 tasks
  WebSockets  yes
  mounted at  /s

Middleware, outermost first
  a.B  sync and async
  c.D  async only: every request takes the ASGI handler
  e.F  sync only: on the ASGI handler it costs a hop to a thread

URL patterns
  /           shop.home        thread  sync view
  /find/<q>/  async shop.find  bridge  async view

  thread  WSGI handler, on a thread
  bridge  middleware on a thread, the view's coroutine on the event loop

WebSockets
  /ws/  shop.Ticker

Worth knowing
  warning: slow (shop/urls.py): less of it
"
        );
    }

    #[test]
    fn what_does_not_apply_is_left_out() {
        let wsgi =
            explained(&[], r#"{"app": "shop:app", "interface": "wsgi", "reason": "a WSGI application"}"#);
        assert!(wsgi.contains("  workers     1, each with 2 threads\n  WebSockets  no\n"), "{wsgi}");
        let asgi = explained(&[], r#"{"app": "shop:app", "interface": "asgi", "loop": "uvloop 0.21.0"}"#);
        assert!(
            asgi.contains(
                "  workers     1, each with uvloop 0.21.0 for up to 1000 tasks\n  WebSockets  yes\n"
            ),
            "{asgi}"
        );
        for heading in ["URL patterns", "Middleware", "runs on", "mounted at", "Worth knowing"] {
            assert!(!wsgi.contains(heading), "{heading}: {wsgi}");
        }
    }
    #[test]
    fn rules_of_access_with_what_they_inherit() {
        let folder = std::env::temp_dir().join(format!("bandstand-access-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let text = "rate = '100/s'\n[paths.'/admin']\nallow = ['10.0.0.0/8']\nmax_body = '1MB'\n\
                    [paths.'/admin/login']\nrate = '5/m burst 2'\ndeny = ['10.9.0.0/16']\n\
                    [paths.'/live']\ninterface = 'asgi'\n[paths.'/feed']\nrate = 'off'\ncompress = false\n";
        std::fs::write(folder.join("bandstand.toml"), text).unwrap();
        let sources = Sources {
            flags: vec![],
            app_env: vec![],
            env: vec![],
            cwd: folder.clone(),
            cpus: std::num::NonZeroUsize::MIN,
            pid: 1,
            root: false,
        };
        let described = Description::from_json(br#"{"app": "shop:app", "interface": "asgi"}"#).unwrap();
        let loaded = load(sources).unwrap().with_django(&described.project);
        std::fs::remove_dir_all(&folder).unwrap();
        let block = access(&Explanation::new(&loaded, described));
        let lines: Vec<Vec<&str>> = block
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        let cells: Vec<&[&str]> = lines[1..].iter().map(|line| &line[..]).collect();
        assert_eq!(lines[0], ["Who may ask"]);
        assert_eq!(
            cells,
            [
                ["/", "100/s for each address"],
                [
                    "/admin/login…",
                    "only for 10.0.0.0/8; not for 10.9.0.0/16; 5/m burst 2 for each address; bodies up to 1MB"
                ],
                ["/admin…", "only for 10.0.0.0/8; 100/s for each address; bodies up to 1MB"],
                ["/feed…", "not compressed"],
                ["/live…", "100/s for each address"],
            ]
        );
        assert_eq!(explained(&[], r#"{"app": "shop:app"}"#).find("Who may ask"), None);
    }
}
