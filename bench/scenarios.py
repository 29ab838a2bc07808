"""The table of scenarios: what is served, by whom, and what is measured. How it is measured is in `kinds.py`.

A scenario has rows: every server in every variant. All rows of a scenario are measured in turn, then all again, so
that a machine that slows down slows all of them. A variant changes single fields of its scenario.
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
    slow: int = 0  # slow clients, for the kind "slow"
    variants: dict[str, dict] = field(default_factory=lambda: {"": {}})

    def rows(self) -> list[tuple[str, str, "Scenario"]]:
        """(row name, server, the scenario with the variant's fields)"""
        return [
            (f"{server}, {label}" if label else server, server, replace(self, **changes))
            for label, changes in self.variants.items()
            for server in self.servers
            if not (server == BARE and label)
        ]


SHOP = {"app": "config.wsgi:application", "place": "shop", "workers": 2, "threads": 1}

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
}
