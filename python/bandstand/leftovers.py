"""What the import of a project leaves open that a fork must not share: connections, sockets, threads.

Owns finding and naming them, and the closing of what Django would open again by itself. A connection is closed before the
first fork: closed in a child, it would end the session that its siblings share. Invariant: what is reported was open when
it was looked for, and nothing of the server's own is. Sources: ``django.db``, ``django.core.cache``, proc(5), unix(7).
"""

import os
import socket as sockets
import stat
import sys
import threading
from socket import socket

from bandstand import _worker

ADVICE = "open it later, or set preload = off"


def close_connections():
    """Sentences about the connections of Django that were open and are closed now."""
    db, cache = sys.modules.get("django.db"), sys.modules.get("django.core.cache")
    said = []
    if db is not None:
        said += [opened("database connection", alias) for alias in close_databases(db.connections)]
    if cache is not None:
        said += [opened("connection of the cache", alias) for alias in close_caches(cache.caches)]
    return said


def opened(what, alias):
    then = "it was closed before workers were made, each opens its own"
    return f"the {what} {alias!r} was opened while the project was imported; {then}"


def close_databases(connections):
    for connection in initialized(connections):
        was_open = connection.connection is not None
        try:
            connection.close()
            if hasattr(connection, "close_pool"):
                connection.close_pool()  # its threads would not survive a fork
        except Exception as error:
            print(f"bandstand: closing the database {connection.alias!r}: {error}", file=sys.stderr, flush=True)
        # A database in memory stays open, and each worker has a copy of it.
        if was_open and connection.connection is None:
            yield connection.alias


def close_caches(caches):
    """Nothing tells whether a cache is connected; closing it may leave fewer sockets."""
    for alias in caches.settings:
        before = len(open_sockets())
        for cache in initialized(caches, alias):
            try:
                cache.close()
                # Django's backend for Redis keeps its connections at that.
                for pool in getattr(getattr(cache, "_cache", None), "_pools", {}).values():
                    pool.disconnect()
            except Exception as error:
                print(f"bandstand: closing the cache {alias!r}: {error}", file=sys.stderr, flush=True)
        if len(open_sockets()) < before:
            yield alias


def initialized(handler, *aliases):
    """Those of Django's connections, or caches, that somebody has asked for."""
    made = handler._connections
    return [getattr(made, alias) for alias in aliases or handler if hasattr(made, alias)]


# Sockets


def describe_sockets(ours):
    """Sentences about sockets that are open, other than those numbered ``ours``."""
    default = sockets.getdefaulttimeout()
    sockets.setdefaulttimeout(None)  # with one, looking at a socket would make it non-blocking
    try:
        return [text for number in open_sockets() if number not in ours and (text := describe_socket(number))]
    finally:
        sockets.setdefaulttimeout(default)


def open_sockets():
    numbers = [int(name) for name in os.listdir("/proc/self/fd")]
    return [number for number in sorted(numbers) if is_socket(number)]


def is_socket(number):
    try:
        return stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError:  # that of the listing itself, closed by now
        return False


def describe_socket(number):
    """A sentence, or None: datagrams of several senders do not mix, and a pair without a name has nobody outside."""
    with socket(fileno=os.dup(number)) as it:
        if it.type == sockets.SOCK_DGRAM:
            return None
        try:
            if it.getsockopt(sockets.SOL_SOCKET, sockets.SO_ACCEPTCONN):
                return f"a socket that listens on {name_of(it.getsockname())} would be shared by all workers; {ADVICE}"
            peer = name_of(it.getpeername())
        except OSError:  # not connected, or of a family that knows no peers
            return None
        return peer and f"an open connection to {peer} would be shared by all workers; {ADVICE}"


def name_of(address):
    if isinstance(address, bytes):
        return "@" + address[1:].decode(errors="replace")  # abstract
    if isinstance(address, tuple) and len(address) >= 2:
        return f"[{address[0]}]:{address[1]}" if ":" in str(address[0]) else f"{address[0]}:{address[1]}"
    return str(address)


# Threads


def threads():
    """The names of threads beside the main one, daemons and those that ``threading`` does not know too."""
    names = {ident: "a thread without a name" for ident in _worker.current_frames()}
    names.update((thread.ident, thread.name) for thread in threading.enumerate())
    names.pop(threading.main_thread().ident, None)
    return sorted(names.values())
