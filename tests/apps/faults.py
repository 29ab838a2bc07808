"""Workers that die, hang or lie. A file named by the path tells a second attempt from the first."""

import os
import signal
import socket

from probe import app as probe
from probe import last, note, reply, wait_at_gate

GATES = os.environ["GATES"]


def app(environ, start_response):
    page = PAGES.get(environ["PATH_INFO"].split("/")[1])
    if page is None:
        return probe(environ, start_response)
    note(environ)
    return page(environ, start_response)


def first_time(environ) -> bool:
    try:
        os.close(os.open(os.path.join(GATES, f"mark-{last(environ)}"), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def dies_once(environ, start_response):
    if first_time(environ):
        os.kill(os.getpid(), signal.SIGKILL)
    return reply(start_response, b"survived")


def dies(environ, start_response):
    os.kill(os.getpid(), signal.SIGKILL)


def exits_mid_answer(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"first\n"
    wait_at_gate(last(environ))
    os._exit(1)


def garbage(environ, start_response):
    """Once, writes nonsense into every connected Unix socket of this process: one of them is the channel to the edge."""
    if first_time(environ):
        for name in os.listdir("/proc/self/fd"):
            _spoil(int(name))
    return reply(start_response, b"spoke")


def _spoil(descriptor: int) -> None:
    try:
        channel = socket.socket(fileno=os.dup(descriptor))
    except OSError:
        return
    with channel:
        if channel.family == socket.AF_UNIX:
            try:
                channel.send(b"\xff" * 4096, socket.MSG_DONTWAIT)
            except OSError:
                pass


PAGES = {"dies-once": dies_once, "dies": dies, "exits-mid-answer": exits_mid_answer, "garbage": garbage}
