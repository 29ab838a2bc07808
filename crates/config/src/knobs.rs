//! The table of settings: one row per key, read by the parser, the command line, `bandstand config` and the reference page.
//!
//! Owns names, kinds, ranges, defaults and the sentence that explains each key. What a written value means is `syntax.rs`;
//! which of several writers wins is `load.rs`. A default is text, read by the same parser as a user's text, so it can
//! never break a range. Invariant: keys are unique, and every default parses (tested below).
//! Source: the names follow gunicorn, nginx, uvicorn and Caddy where they have a word for it.

use std::time::Duration;

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Knob {
    /// The name in files: lower case, words joined by `_`. Flag and variable are spelled from it.
    pub key: &'static str,
    /// The heading it stands under in `--help` and in the reference.
    pub group: Group,
    /// What may be written, with unit and range.
    pub kind: Kind,
    /// The default as a user would write it; empty when the setting is simply absent.
    pub default: &'static str,
    /// One sentence for people.
    pub doc: &'static str,
    /// The one-letter flag, as in gunicorn.
    pub short: Option<char>,
    /// Other spellings of the flag, for the habits of gunicorn users.
    pub aliases: &'static [&'static str],
    /// A variable that platforms set and gunicorn honours; `BANDSTAND_*` wins over it.
    pub platform: Option<&'static str>,
    /// Where it may be written.
    pub place: Place,
    /// Its value is never printed.
    pub secret: bool,
}

/// Headings of the reference page, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Which application is served.
    Application,
    /// Where clients are heard.
    Listening,
    /// Processes and threads.
    Workers,
    /// When a worker is replaced though nothing is wrong with it.
    Recycling,
    /// What a WebSocket may do, and who may open one.
    WebSockets,
    /// What a client may ask for, and how slowly.
    Limits,
    /// Memory and disk for bodies and answers.
    Buffers,
    /// Files served without the application.
    Files,
    /// Access log and events.
    Logs,
    /// The process itself.
    Process,
    /// What only `bandstand dev` does.
    Development,
}

/// The places a setting may be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Flag, environment and file.
    Anywhere,
    /// The command line only.
    Flag,
    /// A settings file only, because it is a table of tables.
    File,
}

/// What may be written for a key. Ranges are inclusive.
#[allow(missing_docs)] // `low`, `high` and `word` say what they are
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// `on` or `off`, `true` or `false`.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number, or one of the words `auto` and `off` where allowed.
    Count { low: u64, high: u64, word: Word },
    /// `"30s"`, `"500ms"`, `"2m"`; a plain number is seconds.
    Duration { low: Duration, high: Duration, word: Word },
    /// `"20MB"`, `"64KiB"`; a plain number is bytes.
    Size { low: u64, high: u64, word: Word },
    /// `"500B/s"`; a plain number is bytes a second.
    Rate { low: u64, high: u64, word: Word },
    /// File mode bits in octal text, as `"022"`.
    Octal,
    /// Any text without control characters.
    Text,
    /// `package.module:attribute`, or a call of a factory.
    App,
    /// `package.module`, or the path of a Python file.
    Module,
    /// Requests and words that a generation must answer before it is given clients.
    ReadyCheck,
    /// A path, counted from the project folder when relative.
    Path,
    /// Several paths.
    Paths,
    /// An interpreter: a path, or a bare name looked up on `PATH`.
    Program,
    /// `-` for standard output, `off`, or the path of a file.
    Destination,
    /// A URL path of bandstand's own answers, or `off`.
    UrlPath,
    /// Addresses to listen on.
    Binds,
    /// Addresses, CIDR networks and preset names.
    Proxies,
    /// A folder behind a URL prefix, or `off`.
    Mount,
    /// A URL prefix without its closing `/`; empty for none.
    Prefix,
    /// Web origins (RFC 6454): `https://example.com`, or `same`.
    Origins,
    /// A table of URL prefixes, each with a table of its own.
    PathRules,
}

/// A word allowed in place of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Only numbers.
    None,
    /// `auto`: bandstand chooses. 0 means the same.
    Auto,
    /// `off`: no limit. 0 means the same.
    Off,
}

/// Every setting, in the order of the reference page.
pub const TABLE: &[Knob] = &[
    // -- application
    row(Group::Application, "app", Kind::App, "", "WSGI or ASGI application as `package.module:attribute` or a factory call such as `shop:create()`; without it the Django project of the folder is served."),
    row(Group::Application, "interface", Kind::Choice(&["auto", "wsgi", "asgi", "both"]), "auto", "How the application is called: `wsgi` on threads, `asgi` on an event loop, `both` for a Django project whose sync views run on threads, and whose async views and WebSockets run on a loop of the same process; `auto` finds out by itself, and `bandstand explain` says why."),
    row(Group::Application, "paths", Kind::PathRules, "", "Requests below a prefix that take one way through the application, whatever its views are: `[paths.\"/api\"]` with `interface = \"wsgi\"` or `\"asgi\"`; the longest prefix wins, and ends at a `/` of the path.").file_only(),
    row(Group::Application, "root_path", Kind::Prefix, "", "URL path the application is mounted at, such as `/shop`: WSGI's `SCRIPT_NAME`, ASGI's `root_path`; none by default."),
    row(Group::Application, "lifespan", Kind::Choice(&["auto", "on", "off"]), "auto", "ASGI's startup and shutdown events: `auto` asks the application and goes on without when it has none, `on` fails then, `off` does not ask."),
    row(Group::Application, "chdir", Kind::Path, "", "The project folder: where `manage.py` is looked for, and where relative paths count from; the current folder by default."),
    row(Group::Application, "pythonpath", Kind::Paths, "", "Folders put before the others on `sys.path`."),
    row(Group::Application, "python", Kind::Program, "", "Interpreter of the workers; by default the one of the environment bandstand is installed in, else of `VIRTUAL_ENV`, else `.venv` in the project folder, else `python3` on `PATH`."),
    row(Group::Application, "env_file", Kind::Path, "", "File of `NAME=value` lines put into the environment of the workers; variables already set win over it."),
    row(Group::Application, "config", Kind::Path, "", "Settings file read instead of `bandstand.toml` in the project folder; a Python file is read as gunicorn's (settings and hooks), and what means nothing here is said.").short('c').flag_only(),
    // -- listening
    row(Group::Listening, "bind", Kind::Binds, "127.0.0.1:8000", "Addresses to listen on: `host:port`, `:port` (every address, IPv6 and IPv4), `unix:/path`, `fd://N`, `systemd` for the sockets systemd passed; those are used by themselves when nothing is written.").short('b').platform("PORT"),
    row(Group::Listening, "trusted_proxies", Kind::Proxies, "", "Peers whose `X-Forwarded-*` and `Forwarded` fields are believed: addresses, CIDR networks, `loopback`, `private`, `cloudflare`, `unix` (peers on Unix sockets), `*` for everyone.").aliases(&["forwarded-allow-ips"]).platform("FORWARDED_ALLOW_IPS"),
    row(Group::Listening, "server_header", Kind::Switch, "on", "Say `Server: bandstand` in answers."),
    row(Group::Listening, "health_path", Kind::UrlPath, "/-/live", "Answered 200 while the edge runs, whatever the Host."),
    row(Group::Listening, "ready_path", Kind::UrlPath, "/-/ready", "Answered 200 when at least one worker is ready, else 503, whatever the Host."),
    row(Group::Listening, "ready_check", Kind::ReadyCheck, "", "What new code must show before it is given clients, at a reload and at the start: paths that must answer 200 to GET, such as `/health/`, and the words `databases` and `caches` for a connection to each of Django's."),
    // -- workers
    // One process a CPU: Python runs one thread at a time in each. More only adds memory and switches.
    row(Group::Workers, "workers", count(1, 512, Word::Auto), "auto", "Worker processes; `auto` is one a CPU of the quota this process has.").short('w').platform("WEB_CONCURRENCY"),
    // Enough that a few slow pages (a report, a remote call) leave places free; each thread may hold a database connection.
    row(Group::Workers, "threads", count(1, 256, Word::None), "2", "Python threads in each worker: workers × threads requests run at once."),
    // What waits costs memory and perhaps a database connection, and no CPU: more than `threads`, yet bounded.
    row(Group::Workers, "threads_max", count(1, 1024, Word::None), "16", "Threads one worker may have while some of them only wait for async views; `threads` where that is more, when nothing is written."),
    row(Group::Workers, "tasks", count(1, 16_384, Word::None), "1000", "Requests that one worker's event loop works on at once; open WebSockets are not counted."),
    row(Group::Workers, "bridge", Kind::Switch, "on", "With interface `both`: an async view starts on a thread, with its middleware, and goes on in the event loop; `off` gives it to the ASGI handler."),
    row(Group::Workers, "loop", Kind::Choice(&["auto", "asyncio", "uvloop"]), "auto", "Event loop of the workers; `auto` is uvloop where it is installed, else asyncio."),
    row(Group::Workers, "edge_threads", count(1, 256, Word::Auto), "auto", "Threads of the edge, which speaks HTTP and runs no Python; `auto` is the measured choice for this machine."),
    // One import instead of one a worker, and their memory shared; an import that leaves threads running turns it off by itself.
    row(Group::Workers, "preload", Kind::Switch, "on", "Import the project once, in a template process that forks the workers; `off` (also `--no-preload`) starts each worker by itself."),
    row(Group::Workers, "workers_min", count(1, 512, Word::Off), "off", "With `workers_max`: the number of workers follows the wait in the queue, and never goes below this; `workers` is where it begins."),
    row(Group::Workers, "workers_max", count(1, 512, Word::Off), "off", "Most workers when their number follows the wait in the queue; needs `workers_min`."),
    row(Group::Workers, "workers_memory", bytes_or_off(1 << 20, 1 << 50), "off", "Memory of all workers together past which none is added by itself."),
    row(Group::Workers, "timeout", duration(1, 24 * HOUR, Word::Off), "30s", "Longest time one request may spend in the application before its client gets 504.").short('t'),
    // Imports of large projects take minutes on cold disks, and a limit here turns a slow start into a failed one.
    row(Group::Workers, "boot_timeout", duration(1, 24 * HOUR, Word::Off), "off", "Longest time a worker may take to become ready."),
    row(Group::Workers, "graceful_timeout", duration(0, 24 * HOUR, Word::None), "30s", "Time that requests under way get to finish at stop or reload."),
    row(Group::Workers, "queue", count(1, 1_000_000, Word::None), "1024", "Requests that may wait for a place in a worker; the next one gets 503 with Retry-After."),
    row(Group::Workers, "queue_timeout", duration(1, HOUR, Word::None), "30s", "Longest wait in that queue before 503."),
    // -- recycling
    row(Group::Recycling, "max_requests", count(1, 1_000_000_000, Word::Off), "off", "Requests after which a worker is replaced; its successor is ready before it leaves, and one is replaced at a time."),
    row(Group::Recycling, "max_requests_jitter", count(0, 1_000_000_000, Word::None), "0", "Most that is added to `max_requests` by chance, for each worker anew, so that they do not all come to it at once."),
    row(Group::Recycling, "max_age", duration(1, 366 * 24 * HOUR, Word::Off), "off", "Age at which a worker is replaced."),
    row(Group::Recycling, "max_idle", duration(1, 366 * 24 * HOUR, Word::Off), "off", "Time without a request after which a worker that has served some is replaced by a fresh one."),
    row(Group::Recycling, "max_memory", bytes_or_off(1 << 20, 1 << 50), "off", "Memory of one worker past which it is replaced."),
    row(Group::Recycling, "memory_measure", Kind::Choice(&["rss", "pss"]), "rss", "What counts as a worker's memory: `rss`, all that it has in memory, or `pss`, where pages it shares with other processes are divided among them."),
    // -- websockets
    row(Group::WebSockets, "websocket_max_size", size(1 << 10, 1 << 30), "16MiB", "Largest message of a client, after decompression; a larger one closes the WebSocket with 1009.").aliases(&["ws-max-size"]),
    row(Group::WebSockets, "websocket_ping", duration(1, HOUR, Word::Off), "20s", "Silence of a client after which it is sent a ping.").aliases(&["ws-ping-interval"]),
    row(Group::WebSockets, "websocket_timeout", duration(1, HOUR, Word::None), "20s", "Longest wait for a client's pong or close, and for the application's answer to a handshake.").aliases(&["ws-ping-timeout"]),
    row(Group::WebSockets, "websocket_compress", Kind::Switch, "on", "Compress messages (permessage-deflate) for clients that offer it."),
    row(Group::WebSockets, "websocket_origins", Kind::Origins, "", "Pages that may open a WebSocket: origins such as `https://example.com`, and `same` for those of the request's own host; others get 403. By default any may, and the application decides."),
    // -- limits
    // nginx's 1 MB refuses an ordinary phone picture; 20 MB takes a picture or a scan, and what is larger is spooled to disk anyway.
    row(Group::Limits, "max_body", size(0, 1 << 50), "20MB", "Largest request body; a larger one gets 413 before it is read. Raised to Django's `DATA_UPLOAD_MAX_MEMORY_SIZE` where that is more."),
    row(Group::Limits, "max_header_bytes", size(1 << 10, 1 << 18), "16KiB", "Largest request head, request line included; a larger one gets 431."),
    row(Group::Limits, "max_headers", count(8, 1000, Word::None), "100", "Most header fields of a request; more get 431."),
    row(Group::Limits, "header_timeout", duration(1, HOUR, Word::None), "10s", "Longest time from the first byte of a request to the end of its head; then 408."),
    row(Group::Limits, "body_min_rate", Kind::Rate { low: 1, high: 1 << 40, word: Word::Off }, "500B/s", "Slowest pace of a request body, averaged after a grace of a few seconds; below it 408."),
    row(Group::Limits, "idle_timeout", duration(1, HOUR, Word::None), "75s", "How long a connection may stay open between two requests."),
    row(Group::Limits, "send_timeout", duration(1, HOUR, Word::None), "60s", "How long a client may take no byte of its answer before the connection is closed."),
    row(Group::Limits, "max_connections", count(1, 10_000_000, Word::None), "20000", "Open client connections; past it the longest idle one is closed, else the new one."),
    row(Group::Limits, "max_connections_per_ip", count(1, 10_000_000, Word::Off), "1000", "Open connections of one address (IPv6: one /64); loopback and trusted proxies are exempt."),
    // -- buffers
    row(Group::Buffers, "body_buffer", size(1 << 12, 1 << 30), "256KiB", "Part of a request body held in memory; the rest goes to an unlinked file in `spool_dir`."),
    row(Group::Buffers, "answer_buffer", size(1 << 12, 1 << 30), "256KiB", "Part of an answer held in memory for a slow client before it spills to `spool_dir`."),
    row(Group::Buffers, "spool_max", size(0, 1 << 50), "1GiB", "Largest answer part spilled to disk for one client; past it the application waits for the client."),
    row(Group::Buffers, "spool_dir", Kind::Path, "", "Folder of spooled bodies and answers; the system's temporary folder by default."),
    // -- files
    row(Group::Files, "static", Kind::Mount, "", "Static files: a folder, `/url/=folder`, a table `{ url = \"/static/\", root = \"staticfiles\" }`, or `off`; by default `STATIC_URL` and `STATIC_ROOT` of the Django project."),
    row(Group::Files, "media", Kind::Mount, "", "Uploaded files, written like `static`; by default `MEDIA_URL` and `MEDIA_ROOT` of the Django project."),
    // -- logs
    row(Group::Logs, "access_log", Kind::Destination, "-", "One record a request: `-` for standard output, `off`, or a file.").aliases(&["access-logfile"]),
    row(Group::Logs, "log", Kind::Choice(&["debug", "info", "warning", "error"]), "info", "Least level of the events written to standard error.").aliases(&["log-level"]),
    row(Group::Logs, "log_format", Kind::Choice(&["auto", "json", "pretty"]), "auto", "Form of records and events; `auto` is pretty on a terminal, else JSON."),
    // -- process
    row(Group::Process, "pid", Kind::Path, "", "File that holds the process id while the server runs.").short('p'),
    row(Group::Process, "user", Kind::Text, "", "User, by name or number, to become once the addresses are bound.").short('u'),
    row(Group::Process, "group", Kind::Text, "", "Group, by name or number, to become once the addresses are bound.").short('g'),
    row(Group::Process, "umask", Kind::Octal, "", "Mode bits taken from new files, in octal; inherited by default.").short('m'),
    row(Group::Process, "control", Kind::Path, "", "The control socket, which `bandstand status`, `reload`, `top` and the others speak to; by default a place that follows from the project folder."),
    row(Group::Process, "hooks", Kind::Module, "", "Module, or Python file, with functions of gunicorn's hook names (`on_starting`, `post_fork`, `worker_exit`, …), called as gunicorn calls them; those of a `gunicorn.conf.py` by itself."),
    // -- development
    row(Group::Development, "browser_reload", Kind::Switch, "on", "`bandstand dev` reloads open pages when code, templates or static files change."),
    row(Group::Development, "watch", Kind::Paths, "", "More folders that `bandstand dev` watches, beside the modules, templates and static files of the project."),
    // Containers' bind mounts, network folders and some virtual machines report no changes.
    row(Group::Development, "watch_method", Kind::Choice(&["auto", "native", "poll"]), "auto", "How `bandstand dev` sees changes: `native` file events, or `poll`ing; `auto` polls where there are no events."),
];

/// Keys that are decided (they are part of the documented surface) but that this version does not know yet. Naming one is an error with a
/// sentence of its own, so that nobody believes a limit to be in force that is not.
pub const PLANNED: &[&str] = &[
    "acme_ca",
    "acme_directory",
    "acme_eab",
    "acme_email",
    "admin",
    "allow",
    "basic_auth",
    "cache",
    "client_ca",
    "compress",
    "deny",
    "domains",
    "env",
    "headers",
    "http3",
    "processes",
    "protected",
    "rate",
    "redis",
    "release",
    "require_env",
    "tls_cert",
    "tls_key",
    "upstreams",
];

/// The row of `key`.
pub fn find(key: &str) -> Option<&'static Knob> {
    TABLE.iter().find(|knob| knob.key == key)
}

impl Knob {
    /// The long flag without its dashes: `max-body`.
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// The environment variable: `BANDSTAND_MAX_BODY`.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.key.to_ascii_uppercase())
    }

    const fn short(mut self, letter: char) -> Knob {
        self.short = Some(letter);
        self
    }

    const fn aliases(mut self, names: &'static [&'static str]) -> Knob {
        self.aliases = names;
        self
    }

    const fn platform(mut self, variable: &'static str) -> Knob {
        self.platform = Some(variable);
        self
    }

    const fn flag_only(mut self) -> Knob {
        self.place = Place::Flag;
        self
    }

    const fn file_only(mut self) -> Knob {
        self.place = Place::File;
        self
    }
}

impl Group {
    /// All headings, in order.
    pub const ALL: [Group; 11] = [
        Group::Application,
        Group::Listening,
        Group::Workers,
        Group::Recycling,
        Group::WebSockets,
        Group::Limits,
        Group::Buffers,
        Group::Files,
        Group::Logs,
        Group::Process,
        Group::Development,
    ];

    /// The heading itself.
    pub fn title(self) -> &'static str {
        match self {
            Group::Application => "Application",
            Group::Listening => "Listening",
            Group::Workers => "Workers",
            Group::Recycling => "Recycling",
            Group::WebSockets => "WebSockets",
            Group::Limits => "Limits",
            Group::Buffers => "Buffers",
            Group::Files => "Files",
            Group::Logs => "Logs",
            Group::Process => "Process",
            Group::Development => "Development",
        }
    }
}

/// What every variable of bandstand begins with.
pub const PREFIX: &str = "BANDSTAND_";

const HOUR: u64 = 3600;

const fn row(group: Group, key: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Knob {
    Knob {
        key,
        group,
        kind,
        default,
        doc,
        short: None,
        aliases: &[],
        platform: None,
        place: Place::Anywhere,
        secret: false,
    }
}

const fn count(low: u64, high: u64, word: Word) -> Kind {
    Kind::Count { low, high, word }
}

/// Bounds in seconds.
const fn duration(low: u64, high: u64, word: Word) -> Kind {
    Kind::Duration { low: Duration::from_secs(low), high: Duration::from_secs(high), word }
}

/// Bounds in bytes.
const fn size(low: u64, high: u64) -> Kind {
    Kind::Size { low, high, word: Word::None }
}

/// The same, or `off`.
const fn bytes_or_off(low: u64, high: u64) -> Kind {
    Kind::Size { low, high, word: Word::Off }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::Raw;
    use crate::syntax;

    #[test]
    fn keys_flags_and_letters_are_unique() {
        let mut flags: Vec<String> = TABLE.iter().map(Knob::flag).collect();
        flags.extend(TABLE.iter().flat_map(|k| k.aliases).map(|alias| alias.to_string()));
        let mut letters: Vec<char> = TABLE.iter().filter_map(|k| k.short).collect();
        let (flag_count, letter_count) = (flags.len(), letters.len());
        flags.sort();
        flags.dedup();
        letters.sort();
        letters.dedup();
        assert_eq!((flags.len(), letters.len()), (flag_count, letter_count));
    }

    #[test]
    fn every_default_is_what_a_user_may_write() {
        for knob in TABLE.iter().filter(|k| !k.default.is_empty()) {
            let read = syntax::read(knob.kind, &Raw::text(knob.default));
            assert!(read.is_ok(), "{}: {read:?}", knob.key);
        }
    }

    #[test]
    fn planned_keys_are_not_in_the_table() {
        assert!(PLANNED.iter().all(|key| find(key).is_none()));
    }

    #[test]
    fn every_row_has_one_sentence() {
        for knob in TABLE {
            assert!(knob.doc.ends_with('.'), "{}", knob.key);
            assert!(knob.key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", knob.key);
        }
    }
}
