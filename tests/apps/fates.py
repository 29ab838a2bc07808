"""Workers that die in a way of their own, grow, or never come back. A file named by the path tells a second attempt from the first."""

import faulthandler
import os
import re
import signal

from faults import first_time
from probe import app as probe
from probe import note, reply

kept = []


def app(environ, start_response):
    page = PAGES.get(environ["PATH_INFO"].split("/")[1])
    if page is None:
        return probe(environ, start_response)
    note(environ)
    return page(environ, start_response)


def dies(environ, start_response):
    """/dies/HOW/NAME, once."""
    if first_time(environ):
        ENDS[environ["PATH_INFO"].split("/")[2]]()
    return reply(start_response, str(os.getpid()).encode())


def grows(environ, start_response):
    """/grows/: 64 MiB more, for good."""
    kept.append(b"\1" * (64 << 20))
    return reply(start_response, str(os.getpid()).encode())


def spins(environ, start_response):
    while True:
        pass


def holds_interpreter(environ, start_response):
    re.match(r"(a+)+$", "a" * 60 + "b")


ENDS = {
    "segv": faulthandler._sigsegv,
    "abort": os.abort,
    "exit-0": lambda: os._exit(0),
    "exit-3": lambda: os._exit(3),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
}
PAGES = {"dies": dies, "grows": grows, "spins": spins, "holds-interpreter": holds_interpreter}
