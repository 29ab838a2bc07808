//! `bandstand explain [APP]`: what answers what in this project, and which way each view takes.
//!
//! Owns the collection: settings say who listens and which files are served, the project's Python names views and ways, `[paths]`
//! pins some. How it looks as text is `draw.rs`; as JSON it is `Explanation` itself. Invariant: nothing is guessed about a
//! view; what cannot be known from a pattern alone is said beside it.

mod draw;
mod pins;

use std::path::Path;

use bandstand_config::describe::{Description, Finding, Middleware, Road, Route, WebSocketRoute};
use bandstand_config::{Interface, Loaded, Mount, PathSettings, PathTable};
use clap::ArgMatches;
use serde::Serialize;

use crate::report::{self, Failure};
use crate::{args, gunicorn, project};

/// Prints the explanation.
pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let loaded = gunicorn::load(args::sources(matches)?)?;
    let run = project::find(loaded)?;
    let described = project::describe(&run, &[]).map_err(|why| Failure::Run {
        sentence: format!("the application could not be imported: {why}"),
        code: 1,
    })?;
    let explanation = Explanation::new(&run.loaded.with_django(&described.project), described);
    match matches.get_one::<String>("format").map(String::as_str) {
        Some("json") => report::print(&explanation.to_json()?),
        _ => report::print(&draw::text(&explanation)),
    }
}

/// What answers what.
#[derive(Debug, Serialize)]
struct Explanation {
    listeners: Vec<Listener>,
    pages: Vec<Page>,
    files: Vec<Files>,
    app: App,
    workers: Workers,
    paths: Vec<Pin>,
    access: Vec<Access>,
    middleware: Vec<Middleware>,
    routes: Vec<Route>,
    websocket_routes: Vec<WebSocketRoute>,
    findings: Vec<Finding>,
    notes: Vec<String>,
}

/// An address clients are heard at.
#[derive(Debug, Serialize)]
struct Listener {
    address: String,
    origin: String,
}

/// A path the edge answers itself.
#[derive(Debug, Serialize)]
struct Page {
    path: String,
    answer: &'static str,
    origin: String,
}

/// A folder the edge serves.
#[derive(Debug, Serialize)]
struct Files {
    url: String,
    root: String,
    exists: bool,
    origin: String,
}

/// Who answers the rest.
#[derive(Debug, Serialize)]
struct App {
    name: String,
    interface: &'static str,
    reason: String,
    websockets: bool,
    #[serde(rename = "loop")]
    event_loop: Option<String>,
    root_path: String,
    python: Option<String>,
    django: Option<String>,
}

/// What the application runs in; a number that does not apply to the interface is nothing.
#[derive(Debug, Serialize)]
struct Workers {
    processes: usize,
    threads: Option<usize>,
    threads_max: Option<usize>,
    tasks: Option<usize>,
}

/// A row of `[paths]`.
#[derive(Debug, Serialize)]
struct Pin {
    prefix: String,
    interface: &'static str,
    origin: String,
}

/// Who may ask for what is below a prefix, and how: what it inherits included.
#[derive(Debug, Serialize)]
struct Access {
    prefix: String,
    rules: Vec<String>,
}

impl Explanation {
    fn new(loaded: &Loaded, described: Description) -> Explanation {
        let settings = &loaded.settings;
        let interface = described.project.interface.unwrap_or(Interface::Wsgi);
        let mut routes = described.routes.clone();
        if interface == Interface::Both {
            for route in &mut routes {
                pins::apply(&settings.paths, &settings.root_path, route);
            }
        }
        Explanation {
            listeners: listeners(loaded),
            pages: pages(loaded),
            files: files(loaded),
            app: app(loaded, interface, &described),
            workers: workers(loaded, interface),
            paths: paths(loaded),
            access: access(loaded),
            middleware: described.middleware,
            routes,
            websocket_routes: described.websocket_routes,
            findings: described.findings,
            notes: loaded.notes.clone(),
        }
    }

    fn to_json(&self) -> Result<String, Failure> {
        let text = serde_json::to_string_pretty(self);
        text.map(|text| text + "\n").map_err(|error| Failure::Run { sentence: error.to_string(), code: 1 })
    }

    /// The ways that occur, in the order of their cost.
    fn roads(&self) -> Vec<Road> {
        let all = [Road::Thread, Road::Bridge, Road::Loop, Road::Pinned];
        all.into_iter().filter(|road| self.routes.iter().any(|route| route.road == *road)).collect()
    }
}

fn origin(loaded: &Loaded, key: &str) -> String {
    loaded.origins.get(key).map_or_else(|| "default".to_owned(), ToString::to_string)
}

fn listeners(loaded: &Loaded) -> Vec<Listener> {
    let origin = origin(loaded, "bind");
    let all = loaded.settings.bind.iter();
    all.map(|bind| Listener { address: bind.to_string(), origin: origin.clone() }).collect()
}

fn pages(loaded: &Loaded) -> Vec<Page> {
    let settings = &loaded.settings;
    let rows = [
        ("health_path", &settings.health_path, "200 while the edge runs"),
        ("ready_path", &settings.ready_path, "200 when a worker is ready, else 503"),
    ];
    let found = rows.into_iter().filter_map(|(key, path, answer)| {
        Some(Page { path: path.clone()?, answer, origin: origin(loaded, key) })
    });
    found.collect()
}

fn files(loaded: &Loaded) -> Vec<Files> {
    let rows = [("static", &loaded.settings.static_files), ("media", &loaded.settings.media)];
    let found = rows.into_iter().filter_map(|(key, mount)| {
        let Mount { url, root } = mount.as_ref()?;
        let exists = Path::new(root).is_dir();
        let root = root.display().to_string();
        Some(Files { url: url.clone(), root, exists, origin: origin(loaded, key) })
    });
    found.collect()
}

fn app(loaded: &Loaded, interface: Interface, described: &Description) -> App {
    let said = &described.project;
    App {
        name: said.app.clone().unwrap_or_default(),
        interface: interface.as_str(),
        reason: said.reason.clone().unwrap_or_default(),
        websockets: said.takes_websockets(),
        event_loop: said.event_loop.clone(),
        root_path: loaded.settings.root_path.clone(),
        python: said.interpreter.clone(),
        django: said.django.as_ref().and_then(|django| django.version.clone()),
    }
}

fn workers(loaded: &Loaded, interface: Interface) -> Workers {
    let settings = &loaded.settings;
    let (threads, tasks) = (interface != Interface::Asgi, interface != Interface::Wsgi);
    Workers {
        processes: settings.workers.get(),
        threads: threads.then(|| settings.threads.get()),
        threads_max: (threads && tasks).then(|| settings.threads_max.get()),
        tasks: tasks.then(|| settings.tasks.get()),
    }
}

fn paths(loaded: &Loaded) -> Vec<Pin> {
    let origin = origin(loaded, "paths");
    let all = loaded.settings.paths.all();
    let pin = |(prefix, interface): (&str, bandstand_config::PathInterface)| Pin {
        prefix: prefix.to_owned(),
        interface: interface.as_str(),
        origin: origin.clone(),
    };
    all.map(pin).collect()
}

/// `/` first, then the prefixes, the longest first; those that everybody may ask for are left out, unless one around them says
/// otherwise.
fn access(loaded: &Loaded) -> Vec<Access> {
    let table = &loaded.settings.by_path;
    let base = ("/", &table.base, table.base.phrases(&table.base));
    let further = table.prefixes.iter();
    let further =
        further.map(|(prefix, settings)| (prefix.as_str(), settings, settings.phrases(&table.base)));
    let all = std::iter::once(base).chain(further);
    let is_said =
        |prefix: &str, rules: &[String]| !rules.is_empty() || prefix != "/" && is_open(table, prefix);
    let told = all.filter(|(prefix, _, rules)| is_said(prefix, rules));
    let rule = |(prefix, _, rules): (&str, &PathSettings, Vec<String>)| Access {
        prefix: prefix.to_owned(),
        rules: if rules.is_empty() { vec!["for everybody".to_owned()] } else { rules },
    };
    told.map(rule).collect()
}

/// Whether `prefix` opens what one around it closes.
fn is_open(table: &PathTable, prefix: &str) -> bool {
    let around = table.prefixes.iter().filter(|(other, _)| prefix.starts_with(&format!("{other}/")));
    let mut around = around.map(|(_, settings)| settings).chain([&table.base]);
    around.any(|settings| !settings.phrases(&table.base).is_empty())
}
