"""The bare cost of a view: the application called in a loop, with no server around it.

    python bare.py MODULE:ATTR PATH --seconds S [--road wsgi|asgi|bridge] [--at-once N]

Prints one line of JSON: calls, CPU microseconds a call, calls a second. Each call gets a fresh environ or scope, as a
server must give it; the answer is read to its end and closed. The application is found from the current folder.

Roads: `wsgi` calls a WSGI application in this thread; Django makes a loop for each async view. `asgi` awaits an ASGI
application, on uvloop where there is one. `bridge` calls a WSGI application in N threads, and async views run on a loop
that is already running in a thread of its own. N calls are under way at once, so that a view that waits is worth measuring.
"""

import argparse
import asyncio
import importlib
import io
import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

WARM_UP = 300  # calls: imports, template loading, the database connection
CHUNK = 10  # calls between two looks at the clock


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("app")
    parser.add_argument("path")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--road", choices=ROADS, default="wsgi")
    parser.add_argument("--at-once", type=int, default=1)
    options = parser.parse_args()
    sys.path.insert(0, os.getcwd())
    module, _, attribute = options.app.partition(":")
    app = getattr(importlib.import_module(module), attribute)
    path, _, query = options.path.partition("?")
    calls, cpu, wall, wrong = ROADS[options.road](app, path, query, options.seconds, options.at_once)
    print(json.dumps({"requests": calls, "cpu_us": cpu / calls * 1e6, "rps": calls / wall, "errors": wrong}))


class Meter:
    """Calls until the time is over, how many went wrong, and what they cost this process."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.calls, self.wrong = seconds, 0, 0
        self.start, self.cpu_start = time.perf_counter(), time.process_time()

    def goes_on(self) -> bool:
        return time.perf_counter() - self.start < self.seconds

    def count(self, calls: int, wrong: int) -> None:
        self.calls += calls
        self.wrong += wrong

    def result(self) -> tuple[int, float, float, int]:
        return self.calls, time.process_time() - self.cpu_start, time.perf_counter() - self.start, self.wrong


def by_wsgi(app, path: str, query: str, seconds: float, at_once: int) -> tuple[int, float, float, int]:
    repeat(app, path, query, WARM_UP)
    meter = Meter(seconds)
    while meter.goes_on():
        meter.count(CHUNK, repeat(app, path, query, CHUNK))
    return meter.result()


def by_bridge(app, path: str, query: str, seconds: float, at_once: int) -> tuple[int, float, float, int]:
    import django.core.handlers.base as handlers

    loop = new_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    def to_running_loop(view):
        return lambda *args, **named: asyncio.run_coroutine_threadsafe(view(*args, **named), loop).result()

    handlers.async_to_sync = to_running_loop
    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(lambda _: repeat(app, path, query, CHUNK), range(WARM_UP // CHUNK)))
        meter = Meter(seconds)
        while meter.goes_on():
            for wrong in pool.map(lambda _: repeat(app, path, query, CHUNK), range(at_once)):
                meter.count(CHUNK, wrong)
        return meter.result()


def by_asgi(app, path: str, query: str, seconds: float, at_once: int) -> tuple[int, float, float, int]:
    async def calls() -> tuple[int, float, float, int]:
        for _ in range(WARM_UP // at_once):
            await asyncio.gather(*(acall(app, path, query) for _ in range(at_once)))
        meter = Meter(seconds)
        while meter.goes_on():
            for right in await asyncio.gather(*(acall(app, path, query) for _ in range(at_once))):
                meter.count(1, not right)
        return meter.result()

    return new_loop().run_until_complete(calls())


ROADS = {"wsgi": by_wsgi, "asgi": by_asgi, "bridge": by_bridge}


def new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def repeat(app, path: str, query: str, calls: int) -> int:
    """Calls by WSGI, one after the other; how many were not answered well."""
    wrong = []

    def start_response(status, headers, exc_info=None):
        if not status.startswith("2"):
            wrong.append(status)

    for _ in range(calls):
        answer = app(environ(path, query), start_response)
        try:
            for _ in answer:
                pass
        finally:
            if hasattr(answer, "close"):
                answer.close()
    return len(wrong)


async def acall(app, path: str, query: str) -> bool:
    """One call by ASGI; the client stays until the answer is whole."""
    statuses, events = [], [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive():
        if events:
            return events.pop()
        await asyncio.get_running_loop().create_future()

    async def send(event):
        if event["type"] == "http.response.start":
            statuses.append(event["status"])

    await app(scope(path, query), receive, send)
    return 200 <= statuses[-1] < 300


def environ(path: str, query: str) -> dict:
    return {
        "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": query,
        "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "8000", "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.1:8000",
        "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr,
        "wsgi.multithread": False, "wsgi.multiprocess": True, "wsgi.run_once": False,
    }


def scope(path: str, query: str) -> dict:
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.5"}, "http_version": "1.1", "method": "GET",
        "scheme": "http", "path": path, "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(b"host", b"127.0.0.1:8000")], "client": ("127.0.0.1", 40000), "server": ("127.0.0.1", 8000), "state": {},
    }


if __name__ == "__main__":
    main()
