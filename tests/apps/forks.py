"""Views that fork. Each answers with the number of the child, which waits at the gate CHILD-NAME and ends."""

import multiprocessing
import os
import socket

from probe import app as probe
from probe import last, note, reply, wait_at_gate


def app(environ, start_response):
    page = PAGES.get(environ["PATH_INFO"].split("/")[1])
    if page is None:
        return probe(environ, start_response)
    note(environ)
    return reply(start_response, str(page(last(environ))).encode())


def starts(name):
    """As most do."""
    child = multiprocessing.get_context("fork").Process(target=wait_at_gate, args=(name,))
    child.start()
    return child.pid


def forks(name):
    pid = os.fork()
    if pid == 0:
        wait_at_gate(name)
        os._exit(0)
    return pid


def keeps(name):
    """The child has what nobody can take from it: other numbers for all the sockets of its parent."""
    kept = [os.dup(int(number)) for number in os.listdir("/proc/self/fd") if is_socket(int(number))]
    assert len(kept) >= 2
    return forks(name)


def is_socket(number) -> bool:
    try:
        with socket.socket(fileno=os.dup(number)) as found:
            return found.family == socket.AF_UNIX
    except OSError:
        return False


def strays(name):
    """A mistake: the child comes back from the view as its parent does, and answers as well."""
    pid = os.fork()
    if pid == 0:
        wait_at_gate(name)
    return pid


PAGES = {"starts": starts, "forks": forks, "keeps": keeps, "strays": strays}
