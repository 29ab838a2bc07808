"""The bare cost of a view: the application called in a loop, with no server around it.

    python bare.py MODULE:ATTR PATH --seconds S

Prints one line of JSON: calls, CPU microseconds a call, calls a second. Each call gets a fresh environ, as a
server must give it; the answer is read to its end and closed. The application is found from the current folder.
"""

import argparse
import importlib
import io
import json
import os
import sys
import time


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("app")
    parser.add_argument("path")
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    sys.path.insert(0, os.getcwd())
    module, _, attribute = options.app.partition(":")
    app = getattr(importlib.import_module(module), attribute)
    path, _, query = options.path.partition("?")
    statuses: list[str] = []

    repeat(app, path, query, statuses, calls=300)  # imports, template loading, the database connection
    chunk = calls_in(app, path, query, statuses, seconds=0.1)
    calls, cpu, wall = 0, time.process_time(), time.perf_counter()
    while time.perf_counter() - wall < options.seconds:
        repeat(app, path, query, statuses, chunk)
        calls += chunk
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    wrong = sum(not status.startswith("2") for status in statuses)
    print(json.dumps({"requests": calls, "cpu_us": cpu / calls * 1e6, "rps": calls / wall, "errors": wrong}))


def calls_in(app, path, query, statuses, seconds: float) -> int:
    start, calls = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        repeat(app, path, query, statuses, 1)
        calls += 1
    return max(calls, 1)


def repeat(app, path: str, query: str, statuses: list[str], calls: int) -> None:
    def start_response(status, headers, exc_info=None):
        if not status.startswith("2"):
            statuses.append(status)

    for _ in range(calls):
        answer = app(environ(path, query), start_response)
        try:
            for _ in answer:
                pass
        finally:
            if hasattr(answer, "close"):
                answer.close()


def environ(path: str, query: str) -> dict:
    return {
        "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": path, "QUERY_STRING": query,
        "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "8000", "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.1:8000",
        "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(), "wsgi.errors": sys.stderr,
        "wsgi.multithread": False, "wsgi.multiprocess": True, "wsgi.run_once": False,
    }


if __name__ == "__main__":
    main()
