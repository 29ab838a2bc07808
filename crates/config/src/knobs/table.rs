//! The rows of the table: every setting, in the order of the reference page.
//!
//! Owns names, kinds, ranges, defaults and sentences. What a row is made of is `knobs.rs`. Invariant: keys are unique, every default
//! parses, every sentence ends (tests of `knobs.rs`).
//! Source: the names follow gunicorn, nginx, uvicorn, certbot and Caddy where they have a word for it.

use std::time::Duration;

use super::{Group, Kind, Knob, Place, Word};

/// Every setting, in the order of the reference page.
pub const TABLE: &[Knob] = &[
    // -- application
    row(Group::Application, "app", Kind::App, "", "WSGI or ASGI application as `package.module:attribute` or a factory call such as `shop:create()`; without it the Django project of the folder is served."),
    row(Group::Application, "interface", Kind::Choice(&["auto", "wsgi", "asgi", "both"]), "auto", "How the application is called: `wsgi` on threads, `asgi` on an event loop, `both` for a Django project whose sync views run on threads, and whose async views and WebSockets run on a loop of the same process; `auto` finds out by itself, and `bandstand explain` says why."),
    row(Group::Application, "paths", Kind::PathRules, "", "Rules for the requests below a prefix: `[paths.\"/api\"]` with `interface = \"wsgi\"` or `\"asgi\"` (the way through the application, whatever its views are), `allow`, `deny`, `rate`, `basic_auth`, `compress` or `max_body`; the longest prefix wins, ends at a `/` of the path, and inherits what it does not say.").file_only(),
    row(Group::Application, "root_path", Kind::Prefix, "", "URL path the application is mounted at, such as `/shop`: WSGI's `SCRIPT_NAME`, ASGI's `root_path`; none by default."),
    row(Group::Application, "lifespan", Kind::Choice(&["auto", "on", "off"]), "auto", "ASGI's startup and shutdown events: `auto` asks the application and goes on without when it has none, `on` fails then, `off` does not ask."),
    row(Group::Application, "chdir", Kind::Path, "", "The project folder: where `manage.py` is looked for, and where relative paths count from; the current folder by default."),
    row(Group::Application, "pythonpath", Kind::Paths, "", "Folders put before the others on `sys.path`."),
    row(Group::Application, "python", Kind::Program, "", "Interpreter of the workers; by default the one of the environment bandstand is installed in, else of `VIRTUAL_ENV`, else `.venv` in the project folder, else `python3` on `PATH`."),
    row(Group::Application, "env_file", Kind::Path, "", "File of `NAME=value` lines put into the environment of the workers; variables already set win over it."),
    row(Group::Application, "config", Kind::Path, "", "Settings file read instead of `bandstand.toml` in the project folder; a Python file is read as gunicorn's (settings and hooks), and what means nothing here is said.").short('c').flag_only(),
    // -- listening
    row(Group::Listening, "bind", Kind::Binds, "127.0.0.1:8000", "Addresses to listen on: `host:port`, `:port` (every address, IPv6 and IPv4), `https://host:port`, `http://host:port`, `unix:/path`, `fd://N`, `systemd` for the sockets systemd passed; those are used by themselves when nothing is written, and `:443` and `:80` with `domains`.").short('b').platform("PORT"),
    row(Group::Listening, "trusted_proxies", Kind::Networks, "", "Peers whose `X-Forwarded-*` and `Forwarded` fields are believed: addresses, CIDR networks, `loopback`, `private`, `cloudflare`, `unix` (peers on Unix sockets), `aws-alb` (as `private`), `*` for everyone.").aliases(&["forwarded-allow-ips"]).platform("FORWARDED_ALLOW_IPS"),
    row(Group::Listening, "proxy_protocol", Kind::Switch, "off", "Connections of `trusted_proxies` begin with a PROXY protocol header (version 1 or 2) that says who the client is; theirs without one are refused, and those of others are read as they are."),
    row(Group::Listening, "http2", Kind::Switch, "on", "Offer HTTP/2 over TLS."),
    row(Group::Listening, "http3", Kind::Switch, "off", "Offer HTTP/3: every address that speaks TLS hears QUIC on the UDP port of the same number, and answers say so (`Alt-Svc`)."),
    row(Group::Listening, "h2c", Kind::Switch, "off", "Take HTTP/2 without TLS from clients that begin with it (prior knowledge), such as a proxy in front."),
    row(Group::Listening, "server_header", Kind::Switch, "on", "Say `Server: bandstand` in answers."),
    row(Group::Listening, "health_path", Kind::UrlPath, "/-/live", "Answered 200 while the edge runs, whatever the Host."),
    row(Group::Listening, "ready_path", Kind::UrlPath, "/-/ready", "Answered 200 when at least one worker is ready, else 503, whatever the Host."),
    row(Group::Listening, "ready_check", Kind::ReadyCheck, "", "What new code must show before it is given clients, at a reload and at the start: paths that must answer 200 to GET, such as `/health/`, and the words `databases` and `caches` for a connection to each of Django's."),
    // -- https
    row(Group::Https, "domains", Kind::Domains, "", "Names to serve over HTTPS: certificates for them are obtained and renewed by themselves (ACME), port 80 redirects, and the first one is the canonical name."),
    row(Group::Https, "tls_cert", Kind::Paths, "", "Certificates of your own, PEM with the chain: files, or a folder of certbot's such as `/etc/letsencrypt/live`; they are picked up again when they change.").aliases(&["certfile", "ssl-certfile"]),
    row(Group::Https, "tls_key", Kind::Paths, "", "Private keys, one for each file of `tls_cert` in the same order; without any, each of those files holds its key too.").aliases(&["keyfile", "ssl-keyfile"]),
    row(Group::Https, "client_ca", Kind::Path, "", "Authorities, in PEM, whose client certificates are asked for.").aliases(&["ca-certs", "ssl-ca-certs"]),
    row(Group::Https, "client_cert", Kind::Choice(&["required", "optional"]), "required", "With `client_ca`: whether a client without a certificate is refused, or served and told apart."),
    row(Group::Https, "acme_directory", Kind::Directories, "letsencrypt", "Authorities to ask for certificates, the first one that answers: `letsencrypt`, `letsencrypt-staging`, `zerossl`, `google`, `buypass`, or the URL of a directory."),
    row(Group::Https, "acme_ca", Kind::Path, "", "Roots, in PEM, that are trusted for the ACME servers instead of the built-in ones: for an authority of your own."),
    row(Group::Https, "acme_email", Kind::Email, "", "Address the authority may write to."),
    row(Group::Https, "acme_eab", Kind::Eab, "", "External account binding as `kid:key`, the key in base64url; some authorities hand it out and want it.").secret(),
    row(Group::Https, "acme_profile", Kind::Text, "", "Profile of the certificates, such as `tlsserver` or `shortlived`, where the authority offers several."),
    row(Group::Https, "acme_challenge", Kind::Choice(&["auto", "http-01", "tls-alpn-01", "dns-01"]), "auto", "How the authority sees that a name is served here: `auto` takes what the addresses allow; `dns-01` needs `acme_dns_hook`, and is the only way for `*.example.com`."),
    row(Group::Https, "acme_dns_hook", Kind::Path, "", "Program for `dns-01` that sets and removes a DNS record."),
    row(Group::Https, "state_dir", Kind::Path, "", "Folder for certificates, keys and accounts that must outlive a restart; by default `STATE_DIRECTORY` (systemd), `/var/lib/bandstand` for root, else `bandstand` in `XDG_STATE_HOME`."),
    row(Group::Https, "local_https", Kind::Switch, "off", "HTTPS with certificates of an authority on this machine, for `localhost`, `*.localhost`, 127.0.0.1, ::1 and `domains`; `bandstand trust` makes browsers believe them."),
    row(Group::Https, "redirect_https", Kind::Switch, "on", "Where HTTPS is spoken, plain requests to known names are redirected to it."),
    row(Group::Https, "canonical_host", Kind::Switch, "off", "Redirect requests for the other `domains` to the first one."),
    row(Group::Https, "tls_handshake_timeout", duration(1, HOUR, Word::None), "10s", "Longest time a TLS handshake may take."),
    // A handshake costs about a millisecond of one CPU, and memory only while it lasts.
    row(Group::Https, "tls_handshakes", count(1, 1_000_000, Word::None), "1000", "TLS handshakes at once; a connection that would be one more is closed."),
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
    // -- access
    row(Group::Access, "allow", Kind::Networks, "", "Clients that may ask: addresses, CIDR networks and the presets of `trusted_proxies`; others get 403, and without this key all may."),
    row(Group::Access, "deny", Kind::Networks, "", "Clients that get 403, whatever `allow` says."),
    row(Group::Access, "rate", Kind::RequestRate, "off", "Requests of one address (IPv6: one /64) in a time, such as `10/s`, `100/m`, `1000/h`, or `10/s burst 20` to take more at once than in one unit; past it 429 with Retry-After."),
    row(Group::Access, "basic_auth", Kind::Passwords, "off", "Names and hashes of passwords that are asked for, as `name:hash` (bcrypt or argon2id), or an htpasswd file; others get 401."),
    // -- answers
    row(Group::Answers, "headers", Kind::Headers, "", "Fields for every answer that has no such field yet: `[headers]` with `Name = \"value\"`; an empty value keeps one away that would be added because of Django's `SECURE_*`.").file_only(),
    row(Group::Answers, "csp_reports", Kind::UrlPath, "off", "URL path where browsers may send reports of violations (Content-Security-Policy), which go to the log, a bounded number of them."),
    row(Group::Answers, "compress", Kind::Switch, "on", "Compress answers of the application with zstd, br or gzip, as the client takes them."),
    // Smaller ones fit one packet with their head.
    row(Group::Answers, "compress_min", size(0, 1 << 30), "1KiB", "Smallest answer that is compressed, where its length is known."),
    row(Group::Answers, "compress_types", Kind::MediaTypes, COMPRESSIBLE, "Media types that are compressed; `text/*` means all of them."),
    // -- buffers
    row(Group::Buffers, "body_buffer", size(1 << 12, 1 << 30), "256KiB", "Part of a request body held in memory; the rest goes to an unlinked file in `spool_dir`."),
    row(Group::Buffers, "answer_buffer", size(1 << 12, 1 << 30), "256KiB", "Part of an answer held in memory for a slow client before it spills to `spool_dir`."),
    row(Group::Buffers, "spool_max", size(0, 1 << 50), "1GiB", "Largest answer part spilled to disk for one client; past it the application waits for the client."),
    row(Group::Buffers, "spool_dir", Kind::Path, "", "Folder of spooled bodies and answers; the system's temporary folder by default."),
    // -- files
    row(Group::Files, "static", Kind::Mount, "", "Static files: a folder, `/url/=folder`, a table `{ url = \"/static/\", root = \"staticfiles\" }`, or `off`; by default `STATIC_URL` and `STATIC_ROOT` of the Django project."),
    row(Group::Files, "media", Kind::Mount, "", "Uploaded files, written like `static`; by default `MEDIA_URL` and `MEDIA_ROOT` of the Django project."),
    row(Group::Files, "protected", Kind::Protected, "", "Folders the application sends files of with `X-Accel-Redirect` or `X-Sendfile`, and nobody else reaches: one folder for `/protected/`, `/url/=folder`, or `[protected]` with `\"/invoices/\" = \"private/invoices\"`."),
    row(Group::Files, "static_compress", Kind::Switch, "on", "Make the compressed siblings of static files in the background where the project has made none."),
    // -- logs
    row(Group::Logs, "access_log", Kind::Destination, "-", "One record a request: `-` for standard output, `off`, or a file.").aliases(&["access-logfile"]),
    row(Group::Logs, "log", Kind::Choice(&["debug", "info", "warning", "error"]), "info", "Least level of the events written to standard error.").aliases(&["log-level"]),
    row(Group::Logs, "log_format", Kind::Choice(&["auto", "json", "pretty"]), "auto", "Form of records and events; `auto` is pretty on a terminal, else JSON."),
    // -- process
    row(Group::Process, "pid", Kind::Path, "", "File that holds the process id while the server runs.").short('p'),
    row(Group::Process, "user", Kind::Text, "", "User, by name or number, to become once the addresses are bound.").short('u'),
    row(Group::Process, "group", Kind::Text, "", "Group, by name or number, to become once the addresses are bound.").short('g'),
    row(Group::Process, "worker_user", Kind::Text, "", "User, by name or number, that workers become; by default that of `user`."),
    row(Group::Process, "umask", Kind::Octal, "", "Mode bits taken from new files, in octal; inherited by default. Unix sockets have 0666 less these bits.").short('m'),
    row(Group::Process, "control", Kind::Path, "", "The control socket, which `bandstand status`, `reload`, `top` and the others speak to; by default a place that follows from the project folder."),
    row(Group::Process, "allow_debug", Kind::Switch, "off", "Serve a project with `DEBUG = True` on an address that others can reach, which is refused otherwise."),
    row(Group::Process, "hooks", Kind::Module, "", "Module, or Python file, with functions of gunicorn's hook names (`on_starting`, `post_fork`, `worker_exit`, …), called as gunicorn calls them; those of a `gunicorn.conf.py` by itself."),
    // -- development
    row(Group::Development, "browser_reload", Kind::Switch, "on", "`bandstand dev` reloads open pages when code, templates or static files change."),
    row(Group::Development, "watch", Kind::Paths, "", "More folders that `bandstand dev` watches, beside the modules, templates and static files of the project."),
    // Containers' bind mounts, network folders and some virtual machines report no changes.
    row(Group::Development, "watch_method", Kind::Choice(&["auto", "native", "poll"]), "auto", "How `bandstand dev` sees changes: `native` file events, or `poll`ing; `auto` polls where there are no events."),
];

/// Keys that are decided (they are part of the documented surface) but that this version does not know yet. Naming one is an error with a
/// sentence of its own, so that nobody believes a limit to be in force that is not.
pub const PLANNED: &[&str] =
    &["admin", "cache", "env", "processes", "redis", "release", "require_env", "upstreams"];

/// Text in the wide sense. Pictures, films, archives and fonts of the web (woff2) are compressed already.
const COMPRESSIBLE: &str = "text/*, application/javascript, application/json, application/ld+json, application/manifest+json, \
     application/problem+json, application/geo+json, application/vnd.api+json, application/xml, application/xhtml+xml, \
     application/rss+xml, application/atom+xml, application/wasm, image/svg+xml, image/bmp, image/x-icon, \
     image/vnd.microsoft.icon, font/ttf, font/otf";

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
