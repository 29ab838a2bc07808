//! The table of gunicorn's settings: what each means here.
//!
//! Owns one row per setting of gunicorn's documentation, hooks aside; a test compares it with the names of gunicorn itself
//! (`names.txt`, and the module where it is installed). A row that says "nothing" says why, in words for people.
//! Source: gunicorn's `config.py`, 27.0.

use super::reading::{self, Reading};

/// One setting of gunicorn's.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its name in a `gunicorn.conf.py`.
    pub name: &'static str,
    pub(crate) meaning: Meaning,
    /// Words that ask for nothing, beside `None`, `False` and what is empty.
    pub(crate) harmless: &'static [&'static str],
}

/// What it means.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Meaning {
    /// This key of ours.
    Key(&'static str, Reading),
    /// The project folder, counted from the current one.
    Folder,
    /// `worker_class`.
    Class,
    /// Variables for the application.
    Variables,
    /// Nothing, because of this.
    Nothing(&'static str),
    /// Not here yet, and going on without it would be worse than not starting; with what to do instead.
    Missing(&'static str),
}

use Meaning::{Class, Folder, Key, Missing, Nothing, Variables};

/// The row of `name`.
pub fn find(name: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.name == name)
}

const fn row(name: &'static str, meaning: Meaning) -> Row {
    Row { name, meaning, harmless: &[] }
}

impl Row {
    const fn unless(mut self, words: &'static [&'static str]) -> Row {
        self.harmless = words;
        self
    }
}

const DIRTY: &str = "there is no dirty arbiter; long work belongs in a task queue";
const HTTP2: &str = "the limits of HTTP/2 are fixed";
const STRICT: &str = "requests are read strictly, and there is no switch";
const NO_SYSLOG: &str = "events go to standard error, which the service manager or the container collects";
const NO_STATSD: &str = "statsd is not spoken in this version";
const PYTHON_LOG: &str = "the server's own log is not Python's; LOGGING of the project counts as always";
const TLS: &str = "TLS 1.2 and 1.3 are spoken with the ciphers of today, and there is no switch";
const NO_CONTEXT: &str =
    "TLS is not Python's here: set certfile and keyfile, and ca_certs for clients' certificates";
const NAMES: &str = "processes keep their names";
const PASTE: &str = "PasteDeploy files are not read; name the application as package.module:attribute";

/// Every setting, in the order of gunicorn's documentation.
pub const TABLE: &[Row] = &[
    // -- config file
    row("config", Nothing("only -c says which file is read")),
    row("wsgi_app", Key("app", reading::text)),
    // -- control
    row(
        "control_socket",
        Nothing("the control socket speaks to `bandstand` alone; `control` says where it is"),
    ),
    row("control_socket_disable", Nothing("the control socket is always there, for its owner alone")),
    row("control_socket_mode", Nothing("the control socket is for its owner alone")),
    // -- debugging
    row("reload", Nothing("serve does not watch files; use `bandstand dev`, which does")),
    row("reload_engine", Key("watch_method", reading::reload_engine)),
    row(
        "reload_extra_files",
        Nothing("`bandstand dev` finds the project's files; `watch` names more folders"),
    ),
    row("spew", Nothing("no line of Python is traced; `bandstand stacks` shows where workers are")),
    row("check_config", Nothing("use `bandstand check`")),
    row("print_config", Nothing("use `bandstand config`")),
    // -- dirty arbiters
    row("dirty_apps", Nothing(DIRTY)),
    row("dirty_workers", Nothing(DIRTY)),
    row("dirty_timeout", Nothing(DIRTY)),
    row("dirty_threads", Nothing(DIRTY)),
    row("dirty_graceful_timeout", Nothing(DIRTY)),
    row("on_dirty_starting", Nothing(DIRTY)),
    row("dirty_post_fork", Nothing(DIRTY)),
    row("dirty_worker_init", Nothing(DIRTY)),
    row("dirty_worker_exit", Nothing(DIRTY)),
    // -- HTTP/2
    row("http_protocols", Key("http3", reading::protocols)),
    row("http2_cleartext", Key("h2c", reading::same)),
    row("http2_max_concurrent_streams", Nothing(HTTP2)),
    row("http2_initial_window_size", Nothing(HTTP2)),
    row("http2_max_frame_size", Nothing(HTTP2)),
    row("http2_max_header_list_size", Nothing(HTTP2)),
    // -- logging
    row("accesslog", Key("access_log", reading::destination)),
    row(
        "access_log_format",
        Nothing("access records have a form of their own; `log_format` chooses between pretty and JSON"),
    ),
    row("disable_redirect_access_to_syslog", Nothing(NO_SYSLOG)),
    row("errorlog", Nothing("events go to standard error; send that to a file where one is wanted"))
        .unless(&["-"]),
    row("loglevel", Key("log", reading::level)),
    row("capture_output", Nothing("what the application prints always reaches the log")),
    row("logger_class", Nothing(PYTHON_LOG)),
    row("logconfig", Nothing(PYTHON_LOG)),
    row("logconfig_dict", Nothing(PYTHON_LOG)),
    row("logconfig_json", Nothing(PYTHON_LOG)),
    row("syslog", Nothing(NO_SYSLOG)),
    row("syslog_addr", Nothing(NO_SYSLOG)),
    row("syslog_prefix", Nothing(NO_SYSLOG)),
    row("syslog_facility", Nothing(NO_SYSLOG)),
    row("enable_stdio_inheritance", Nothing("workers' output is always read and logged line by line")),
    row("statsd_host", Nothing(NO_STATSD)),
    row("statsd_prefix", Nothing(NO_STATSD)),
    row("dogstatsd_tags", Nothing(NO_STATSD)),
    row(
        "enable_backlog_metric",
        Nothing("requests wait in the edge's own queue, which `bandstand status` shows"),
    ),
    // -- process naming
    row("proc_name", Nothing(NAMES)),
    row("default_proc_name", Nothing(NAMES)),
    // -- SSL
    row("keyfile", Key("tls_key", reading::text)),
    row("certfile", Key("tls_cert", reading::text)),
    row("ca_certs", Key("client_ca", reading::text)),
    row("ssl_context", Missing(NO_CONTEXT)),
    row("ssl_version", Nothing(TLS)),
    row("cert_reqs", Key("client_cert", reading::certificate_requirement)),
    row("suppress_ragged_eofs", Nothing(TLS)),
    row("do_handshake_on_connect", Nothing(TLS)),
    row("ciphers", Nothing(TLS)),
    // -- security
    row("limit_request_line", Key("max_header_bytes", reading::head_bytes)),
    row("limit_request_fields", Key("max_headers", reading::field_count)),
    row("limit_request_field_size", Key("max_header_bytes", reading::head_bytes)),
    // -- server mechanics
    row("preload_app", Key("preload", reading::same)),
    row("sendfile", Nothing("the edge sends files by itself")),
    row("reuse_port", Nothing("one process accepts for all workers")),
    row("chdir", Folder),
    row("daemon", Nothing("the server stays in the foreground; systemd or the container keeps it running")),
    row("raw_env", Variables),
    row("pidfile", Key("pid", reading::text)),
    row("worker_tmp_dir", Nothing("heartbeats need no files")),
    row("user", Key("user", reading::text)),
    row("group", Key("group", reading::text)),
    row("umask", Key("umask", reading::umask)),
    row("initgroups", Nothing("the user's other groups are always taken")),
    row("tmp_upload_dir", Key("spool_dir", reading::text)),
    row(
        "secure_scheme_headers",
        Nothing("X-Forwarded-Proto and Forwarded of trusted proxies are understood"),
    ),
    row("forwarded_allow_ips", Key("trusted_proxies", reading::same)),
    row(
        "forwarder_headers",
        Nothing("trusted proxies may say X-Forwarded-* and Forwarded; a mount point is `root_path`"),
    ),
    row("header_map", Nothing("fields whose names a WSGI application could confuse are always dropped")),
    row("pythonpath", Key("pythonpath", reading::text)),
    row("paste", Missing(PASTE)),
    row("raw_paste_global_conf", Nothing(PASTE)),
    row("proxy_protocol", Key("proxy_protocol", reading::proxy_protocol)),
    row("proxy_allow_ips", Nothing("the PROXY protocol is taken from `forwarded_allow_ips`")),
    row("protocol", Missing("only HTTP is spoken here")).unless(&["http"]),
    row("uwsgi_allow_ips", Nothing("only HTTP is spoken here")),
    row("root_path", Key("root_path", reading::text)),
    row("strip_header_spaces", Nothing(STRICT)),
    row("permit_unconventional_http_method", Nothing(STRICT)),
    row("permit_unconventional_http_version", Nothing(STRICT)),
    row("permit_obsolete_folding", Nothing(STRICT)),
    row("casefold_http_method", Nothing(STRICT)),
    // -- server socket
    row("bind", Key("bind", reading::binds)),
    row("backlog", Nothing("connections are accepted at once, and requests wait in `queue`")),
    // -- worker processes
    row("workers", Key("workers", reading::at_least_one)),
    row("worker_class", Class),
    row("threads", Key("threads", reading::at_least_one)),
    row(
        "worker_connections",
        Nothing(
            "connections cost workers nothing: `max_connections` limits them, and `tasks` what a loop works on",
        ),
    ),
    row("max_requests", Key("max_requests", reading::same)),
    row("max_requests_jitter", Key("max_requests_jitter", reading::same)),
    row("timeout", Key("timeout", reading::same)),
    row("graceful_timeout", Key("graceful_timeout", reading::same)),
    row("keepalive", Key("idle_timeout", reading::keepalive)),
    row("asgi_loop", Key("loop", reading::text)),
    row("asgi_lifespan", Key("lifespan", reading::text)),
    row(
        "asgi_disconnect_grace_period",
        Nothing("a request hears from receive() that its client has left, and ends by itself"),
    ),
    row("http_parser", Nothing("HTTP is never parsed in Python")),
    row("websocket_max_message_size", Key("websocket_max_size", reading::same)),
];
