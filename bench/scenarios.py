"""The table of scenarios: what is served, by whom, and what is measured. How it is measured is in `kinds.py`.

A scenario has rows: every server in every variant. All rows of a scenario are measured in turn, then all again, so
that a machine that slows down slows all of them. A variant changes single fields of its scenario. The scenarios
up to `calls` are WSGI and the edge; below them ASGI and WebSockets.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from servers import BARE

APP_SERVERS = ("bandstand", "granian", "fastpysgi", "nginx+gunicorn", "gunicorn-sync", "gunicorn-gthread", "pyuwsgi",
               "bjoern", "caddysnake")
PLAIN_SERVERS = ("bandstand", "granian", "bjoern", "fastpysgi", "pyuwsgi", "gunicorn-sync", "gunicorn-gthread",
                 "caddysnake")


@dataclass(frozen=True)
class Scenario:
    title: str
    kind: str  # a key of kinds.KINDS
    servers: tuple[str, ...]
    app: str = "plain:app"
    place: str = "apps"  # "apps" or "shop": the folder that holds the application
    path: str = "/"
    expect: str = ""  # must be in the body before anything is measured
    length: int | None = None  # the body's length, where it is known
    workers: int = 1
    threads: int = 1
    connections: int = 64
    rate: int = 1000  # requests a second, for the kind "rate"
    scheme: str = "http"
    streams: int = 32  # on each connection, for the kinds "h2" and "h3"
    resumed: bool = False  # for the kind "handshakes"
    accept: str = ""  # the client's Accept-Encoding, for the kind "load"
    slow: int = 0  # slow clients, for the kind "slow"
    road: str = "wsgi"  # how the bare rows call the application, a key of bare.ROADS
    at_once: int = 1  # calls that the bare rows have under way at the same time
    variants: dict[str, dict] = field(default_factory=lambda: {"": {}})
    bare: dict[str, dict] = field(default_factory=dict)  # more rows with no server: name, fields changed

    def rows(self) -> list[tuple[str, str, "Scenario"]]:
        """(row name, server, the scenario with the variant's fields)"""
        served = [
            (f"{server}, {label}" if label else server, server, replace(self, **changes))
            for label, changes in self.variants.items()
            for server in self.servers
            if not (server == BARE and label)
        ]
        return served + [(f"{BARE}, {label}", BARE, replace(self, **changes)) for label, changes in self.bare.items()]


SHOP = {"app": "config.wsgi:application", "place": "shop", "workers": 2, "threads": 1}
SHOP_ASGI = SHOP | {"app": "config.asgi:application"}
BY_WSGI = {"app": "config.wsgi:application", "road": "wsgi"}
BY_ASGI = {"app": "config.asgi:application", "road": "asgi"}
BY_BRIDGE = {"app": "config.wsgi:application", "road": "bridge"}
WEBSOCKET_SERVERS = ("bandstand-asgi", "granian-ws", "uvicorn", "uvicorn-websockets", "uvicorn-wsproto")

SCENARIOS: dict[str, Scenario] = {
    "plain": Scenario(
        "Plain WSGI callable, 1 worker × 1 thread", "load", (*PLAIN_SERVERS, BARE), expect="Hello, world!",
    ),
    "json": Scenario(
        "Shop, JSON view `/api/ping/`, 2 workers × 1 thread", "load", (*APP_SERVERS, BARE), path="/api/ping/", **SHOP,
    ),
    "list": Scenario(
        "Shop, list page `/products/` (template and ORM), 2 workers × 1 thread", "load", (*APP_SERVERS, BARE),
        path="/products/", expect="<", **SHOP,
    ),
    "static": Scenario(
        "Static files", "load", ("bandstand", "nginx", "nginx-system"),
        variants={
            "2 KB": {"path": "/static/2k.css", "length": 2048},
            "10 MB": {"kind": "download", "path": "/static/10m.bin", "length": 10_000_000},
            "10 MB by wrk": {"path": "/static/10m.bin", "length": 10_000_000},
        },
    ),
    "idle": Scenario(
        "10,000 idle keep-alive connections, each after one request", "idle", ("bandstand", "nginx+gunicorn"),
        expect="Hello, world!", connections=10_000,
    ),
    "slow": Scenario(
        "2 slow clients (half a head, half a body) for every thread; 2 workers × 1 thread", "slow",
        ("bandstand", "granian", "nginx+gunicorn", "gunicorn-sync", "gunicorn-gthread"), app="reader:app",
        expect="Hello, world!", workers=2,
        variants={"alone": {}, "slow clients": {"slow": 4}},
    ),
    "stall": Scenario(
        "20 fast requests during one of 6 s; 2 workers × 1 thread", "stall", APP_SERVERS, path="/api/ping/", **SHOP,
    ),
    "rate": Scenario(
        "CPU a request at 1000 requests/s", "rate", ("bandstand", "granian", "nginx+gunicorn"), expect="Hello, world!",
        variants={
            "2 workers, 64 connections": {"workers": 2},
            "16 workers, 64 connections": {"workers": 16},
            "64 workers, 64 connections": {"workers": 64},
            "2 workers, 10,000 connections": {"workers": 2, "connections": 10_000},
        },
    ),
    "calls": Scenario(
        "System calls and wake-ups a request at saturation", "calls", ("bandstand", "granian", "nginx+gunicorn"),
        variants={
            "plain": {"expect": "Hello, world!"},
            "json": {"path": "/api/ping/", **SHOP},
        },
    ),
    "asgi-plain": Scenario(
        "Plain ASGI callable, 1 worker", "load",
        ("bandstand-asgi", "granian-asgi", "granian-asgi-mt", "uvicorn", "hypercorn", "daphne"), app="plain_asgi:app",
        expect="Hello, world!", bare={"ASGI callable": {"road": "asgi"}},
    ),
    "asgi-sync-json": Scenario(
        "Shop deployed for ASGI, sync JSON view `/api/ping/`, 2 workers", "load",
        ("bandstand-both", "granian-asgi", "uvicorn"), path="/api/ping/", **SHOP_ASGI,
        bare={"sync view, WSGI handler": BY_WSGI, "sync view, ASGI handler": BY_ASGI},
    ),
    "asgi-async-json": Scenario(
        "Shop deployed for ASGI, async JSON view `/api/ping/async/`, default middleware, 2 workers", "load",
        ("bandstand-both", "bandstand-asgi", "granian-asgi", "uvicorn"), path="/api/ping/async/", **SHOP_ASGI,
        bare={
            "async view, WSGI handler": BY_WSGI,
            "async view, WSGI handler, coroutine to a running loop": BY_BRIDGE,
            "async view, ASGI handler": BY_ASGI,
        },
    ),
    "asgi-wait": Scenario(
        "500 requests at once to `/api/wait/`, an async view that awaits 50 ms, 2 workers", "burst",
        ("bandstand-both", "bandstand-asgi", "granian-asgi", "uvicorn", "mirror"), path="/api/wait/", connections=500,
        **SHOP_ASGI, bare={"bridge": BY_BRIDGE | {"at_once": 16}, "ASGI handler": BY_ASGI | {"at_once": 50}},
    ),
    "ws-echo": Scenario(
        "WebSocket echo of 100 bytes, 100 clients, each with one message under way", "echo",
        (*WEBSOCKET_SERVERS, "mirror"), app="plain_asgi:echo", expect="Hello, world!", connections=100,
        variants={"1 worker": {}, "2 workers": {"workers": 2}},
    ),
    "ws-idle": Scenario(
        "5,000 open WebSockets, each after one echo, 1 worker", "websockets", WEBSOCKET_SERVERS, app="plain_asgi:echo",
        expect="Hello, world!", connections=5000,
    ),
    "tls-json": Scenario(
        "Shop, JSON view over HTTPS, 2 workers × 1 thread", "load", ("bandstand-tls", "nginx+gunicorn-tls", "granian-tls"),
        path="/api/ping/", scheme="https", **SHOP,
        variants={"HTTP/1.1": {}, "HTTP/2": {"kind": "h2", "connections": 4}},
    ),
    "tls-handshakes": Scenario(
        "TLS handshakes by 4 clients", "handshakes", ("bandstand-tls", "nginx-tls"), path="/static/2k.css", scheme="https",
        variants={"full": {}, "resumed": {"resumed": True}},
    ),
    "tls-static": Scenario(
        "Static files over HTTPS", "load", ("bandstand-tls", "nginx-tls"), scheme="https",
        variants={
            "2 KB, HTTP/1.1": {"path": "/static/2k.css", "length": 2048},
            "2 KB, HTTP/2": {"kind": "h2", "path": "/static/2k.css", "length": 2048, "connections": 4},
            "10 MB": {"path": "/static/10m.bin", "length": 10_000_000, "connections": 16},
        },
    ),
    "tls-idle": Scenario(
        "10,000 idle TLS connections, each after one request", "tls-idle", ("bandstand-tls", "nginx-tls"),
        path="/static/2k.css", scheme="https", connections=10_000,
    ),
    "compress": Scenario(
        "A page of 100 KB of HTML, compressed on the fly, 1 worker × 1 thread", "load",
        ("bandstand", "nginx+gunicorn-gzip"), app="page:app", expect="<li class",
        variants={"gzip": {"accept": "gzip"}, "a browser": {"accept": "gzip, deflate, br, zstd"}},
    ),
    "h3-static": Scenario(
        "A file of 2 KB over HTTP/3", "h3", ("bandstand-h3", "caddy"), path="/static/2k.css", length=2048, scheme="https",
        connections=4,
    ),
}
