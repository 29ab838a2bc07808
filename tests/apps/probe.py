"""The app most tests talk to: it writes down every request it sees, and tells what it saw.

A request is written to the file SEEN before anything else happens, so that a test can prove that one never came through.
"""

import hashlib
import json
import os
import threading

GATES = os.environ.get("GATES", "")
SEEN = os.environ.get("SEEN")


def note(environ) -> None:
    """`METHOD target` as one line of SEEN; appended in one write, so that processes do not mix."""
    if SEEN:
        line = f"{environ['REQUEST_METHOD']} {environ.get('RAW_URI') or environ['PATH_INFO']}\n"
        descriptor = os.open(SEEN, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        os.write(descriptor, line.encode("latin-1"))
        os.close(descriptor)


def remark(text: str) -> None:
    """A line of the app's own in SEEN."""
    note({"REQUEST_METHOD": "#", "RAW_URI": text})


def wait_at_gate(name: str) -> None:
    """Block until the test opens the named pipe."""
    with open(os.path.join(GATES, name), "rb") as gate:
        gate.read()


def last(environ) -> str:
    """The last segment of the path."""
    return environ["PATH_INFO"].rpartition("/")[2]


def app(environ, start_response):
    note(environ)
    # `OPTIONS *` has no slash.
    kind = environ["PATH_INFO"].partition("/")[2].split("/")[0]
    return PAGES.get(kind, tell)(environ, start_response)


def tell(environ, start_response):
    """Everything that arrived, in JSON. Bytes of the body count as read only when the app read them."""
    digest, length = hashlib.sha256(), 0
    while chunk := environ["wsgi.input"].read(65536):
        digest.update(chunk)
        length += len(chunk)
    plain = {name: value if isinstance(value, (str, bool, tuple)) else repr(value) for name, value in environ.items()}
    answer = {
        "environ": plain,
        "types": {name: type(value).__name__ for name, value in environ.items()},
        "body": {"length": length, "sha256": digest.hexdigest()},
        "pid": os.getpid(),
        "thread": threading.get_ident(),
    }
    return reply(start_response, json.dumps(answer).encode(), "application/json")


def blind(environ, start_response):
    """Answers without a look at the body."""
    return reply(start_response, b"blind")


def gated(environ, start_response):
    """/gate/NAME answers when the gate is opened."""
    wait_at_gate(last(environ))
    return reply(start_response, str(os.getpid()).encode())


def stream(environ, start_response):
    """/stream/NAME: a chunk at once, another one when the gate is opened."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return _stream(last(environ))


def _stream(gate):
    yield b"first\n"
    wait_at_gate(gate)
    yield b"second\n"


def large(environ, start_response):
    """/large/COUNT: so many blocks of 64 KiB, each of its own byte."""
    count = int(last(environ))
    start_response("200 OK", [("Content-Type", "application/octet-stream"), ("Content-Length", str(count * 65536))])
    return (bytes([number % 251]) * 65536 for number in range(count))


def endless(environ, start_response):
    """/endless/NAME: until the client has gone; then a remark."""
    start_response("200 OK", [("Content-Type", "application/octet-stream")])
    return Endless(last(environ))


class Endless:
    def __init__(self, name):
        self.name = name

    def __iter__(self):
        return self

    def __next__(self):
        return b"x" * 65536

    def close(self):
        remark(f"closed {self.name}")


def speak(environ, start_response):
    """/speak/WORD: says it on both standard streams, on wsgi.errors and through logging."""
    import logging
    import sys

    word = last(environ)
    print(f"{word} to stdout", flush=True)
    print(f"{word} to stderr", file=sys.stderr, flush=True)
    environ["wsgi.errors"].write(f"{word} to wsgi.errors\n")
    environ["wsgi.errors"].flush()
    logging.getLogger("probe").warning("%s to logging", word)
    return reply(start_response, b"said")


def status(environ, start_response):
    """/status/CODE without a body of its own."""
    code = last(environ)
    start_response(f"{code} Chosen", [("X-Chosen", code)])
    return [b""]


def fail(environ, start_response):
    raise RuntimeError("the app failed on purpose")


def reply(start_response, body, kind="text/plain", code="200 OK"):
    start_response(code, [("Content-Type", kind), ("Content-Length", str(len(body)))])
    return [body]


PAGES = {
    "blind": blind,
    "gate": gated,
    "stream": stream,
    "large": large,
    "endless": endless,
    "speak": speak,
    "status": status,
    "fail": fail,
}
