//! From a value for every row of the table to `Settings`: one line per key.
//!
//! Owns nothing else. Whether a value fits is long decided (`syntax.rs`).

use super::{
    AcmeChallenge, ClientCert, EventLoop, Interface, Level, Lifespan, LogFormat, MemoryMeasure, Settings,
    WatchMethod,
};
use crate::access::{PathSettings, PathTable, Secret};
use crate::values::Values;

impl Settings {
    /// One line per key.
    pub(crate) fn from_values(values: &Values) -> Settings {
        Settings {
            app: values.text("app"),
            interface: values.word(
                "interface",
                &[
                    ("auto", Interface::Auto),
                    ("wsgi", Interface::Wsgi),
                    ("asgi", Interface::Asgi),
                    ("both", Interface::Both),
                ],
            ),
            paths: values.path_rules("paths"),
            root_path: values.text("root_path").unwrap_or_default(),
            lifespan: values
                .word("lifespan", &[("auto", Lifespan::Auto), ("on", Lifespan::On), ("off", Lifespan::Off)]),
            chdir: values.required_path("chdir"),
            pythonpath: values.paths("pythonpath"),
            python: values.path("python"),
            env_file: values.path("env_file"),
            bind: values.binds("bind"),
            trusted_proxies: values.networks("trusted_proxies").unwrap_or_default(),
            proxy_protocol: values.switch("proxy_protocol"),
            http2: values.switch("http2"),
            http3: values.switch("http3"),
            h2c: values.switch("h2c"),
            domains: values.texts("domains"),
            tls_cert: values.paths("tls_cert"),
            tls_key: values.paths("tls_key"),
            client_ca: values.path("client_ca"),
            client_cert: values.word(
                "client_cert",
                &[("required", ClientCert::Required), ("optional", ClientCert::Optional)],
            ),
            acme_directory: values.texts("acme_directory"),
            acme_ca: values.path("acme_ca"),
            acme_email: values.text("acme_email"),
            acme_eab: values.text("acme_eab").map(Secret),
            acme_profile: values.text("acme_profile"),
            acme_challenge: values.word(
                "acme_challenge",
                &[
                    ("auto", AcmeChallenge::Auto),
                    ("http-01", AcmeChallenge::Http01),
                    ("tls-alpn-01", AcmeChallenge::TlsAlpn01),
                    ("dns-01", AcmeChallenge::Dns01),
                ],
            ),
            acme_dns_hook: values.path("acme_dns_hook"),
            state_dir: values.required_path("state_dir"),
            local_https: values.switch("local_https"),
            redirect_https: values.switch("redirect_https"),
            canonical_host: values.switch("canonical_host"),
            tls_handshake_timeout: values.required_duration("tls_handshake_timeout"),
            tls_handshakes: values.required_count("tls_handshakes"),
            server_header: values.switch("server_header"),
            health_path: values.text("health_path"),
            ready_path: values.text("ready_path"),
            ready_check: values.ready_check("ready_check"),
            workers: values.required_count("workers"),
            threads: values.required_count("threads"),
            threads_max: values.required_count("threads_max"),
            tasks: values.required_count("tasks"),
            bridge: values.switch("bridge"),
            event_loop: values.word(
                "loop",
                &[("auto", EventLoop::Auto), ("asyncio", EventLoop::Asyncio), ("uvloop", EventLoop::Uvloop)],
            ),
            edge_threads: values.count("edge_threads"),
            preload: values.switch("preload"),
            workers_min: values.count("workers_min"),
            workers_max: values.count("workers_max"),
            workers_memory: values.limit_bytes("workers_memory"),
            max_requests: values.limit("max_requests"),
            max_requests_jitter: values.whole("max_requests_jitter"),
            max_age: values.duration("max_age"),
            max_idle: values.duration("max_idle"),
            max_memory: values.limit_bytes("max_memory"),
            memory_measure: values
                .word("memory_measure", &[("rss", MemoryMeasure::Rss), ("pss", MemoryMeasure::Pss)]),
            timeout: values.duration("timeout"),
            boot_timeout: values.duration("boot_timeout"),
            graceful_timeout: values.required_duration("graceful_timeout"),
            queue: values.required_count("queue"),
            queue_timeout: values.required_duration("queue_timeout"),
            websocket_max_size: values.size("websocket_max_size"),
            websocket_ping: values.duration("websocket_ping"),
            websocket_timeout: values.required_duration("websocket_timeout"),
            websocket_compress: values.switch("websocket_compress"),
            websocket_origins: values.texts("websocket_origins"),
            max_body: values.size("max_body"),
            max_header_bytes: values.size("max_header_bytes") as usize,
            max_headers: values.required_count("max_headers").get(),
            header_timeout: values.required_duration("header_timeout"),
            body_min_rate: values.rate("body_min_rate"),
            idle_timeout: values.required_duration("idle_timeout"),
            send_timeout: values.required_duration("send_timeout"),
            max_connections: values.required_count("max_connections"),
            max_connections_per_ip: values.count("max_connections_per_ip"),
            headers: values.headers("headers"),
            csp_reports: values.text("csp_reports"),
            compress: values.switch("compress"),
            compress_min: values.size("compress_min"),
            compress_types: values.texts("compress_types"),
            body_buffer: values.size("body_buffer"),
            answer_buffer: values.size("answer_buffer"),
            spool_max: values.size("spool_max"),
            spool_dir: values.required_path("spool_dir"),
            static_files: values.mount("static"),
            media: values.mount("media"),
            protected: values.protected("protected"),
            static_compress: values.switch("static_compress"),
            access_log: values.destination("access_log"),
            log: values.word(
                "log",
                &[
                    ("debug", Level::Debug),
                    ("info", Level::Info),
                    ("warning", Level::Warning),
                    ("error", Level::Error),
                ],
            ),
            log_format: values.word(
                "log_format",
                &[("auto", LogFormat::Auto), ("json", LogFormat::Json), ("pretty", LogFormat::Pretty)],
            ),
            pid: values.path("pid"),
            user: values.text("user"),
            group: values.text("group"),
            worker_user: values.text("worker_user"),
            umask: values.octal("umask"),
            control: values.path("control"),
            allow_debug: values.switch("allow_debug"),
            hooks: values.module("hooks"),
            browser_reload: values.switch("browser_reload"),
            watch: values.paths("watch"),
            watch_method: values.word(
                "watch_method",
                &[("auto", WatchMethod::Auto), ("native", WatchMethod::Native), ("poll", WatchMethod::Poll)],
            ),
            by_path: PathTable::resolve(base(values), &values.path_rules("paths")),
        }
    }
}

/// What holds for every path that `[paths]` does not name.
fn base(values: &Values) -> PathSettings {
    PathSettings {
        interface: None,
        allow: values.networks("allow"),
        deny: values.networks("deny").unwrap_or_default(),
        rate: values.request_rate("rate"),
        basic_auth: values.passwords("basic_auth"),
        compress: values.switch("compress"),
        max_body: values.size("max_body"),
    }
}
