"""Processes that the app forks: none of them holds a worker's lines to the edge, or answers in its place.

A child by ``fork`` (``multiprocessing``, ``os.fork``) has all of its parent's descriptors. Were the channel among them, the
edge would not see it end when the worker dies. Owns what happens in such a child; what the native half must not do there is
``crates/worker/src/child.rs``'s. Invariant: the numbers stay taken, by a socket that has ended, so that nothing of ours can
write into, or close, what the child opens later. Children by ``exec`` get none of them. Source: ``os.register_at_fork``.
"""

import os
import socket

from bandstand import _worker


def disown_at_fork(options):
    """From now on, for every child of this process; ``options`` are ``worker.Options``. For workers only."""
    lines = {number: identity(number) for number in (options.channel_fd, options.loop_fd, options.guard_fd) if number >= 0}
    # Made here: in a child of a process that has no descriptor left, it could not be.
    ended, other = socket.socketpair()
    other.close()
    for number in lines:
        os.set_inheritable(number, False)

    def disown():
        _worker.disown()
        for number, line in lines.items():
            if identity(number) == line:
                os.dup2(ended.fileno(), number, inheritable=False)

    os.register_at_fork(after_in_child=disown)


def identity(number):
    """What a descriptor stands for: its number may be another's once it is closed. None: for nothing."""
    try:
        status = os.fstat(number)
    except OSError:
        return None
    return status.st_dev, status.st_ino
