"""Django's database connections of a thread whose code was interrupted.

Owns that none of them is used again. Code may have been torn from one at any instruction: in the middle of a transaction
that Django knows nothing of yet, so nothing short of another connection makes sure that the next request's writes are
committed. Which thread, and when, is ``crew``'s and the native half's. Invariant: what goes wrong with one connection or
one receiver of a signal is reported and keeps nothing else from being done. Source: ``django.utils.connection`` and
``BaseDatabaseWrapper.close``, Django 4.2 to 6.0.
"""

import sys
import traceback


def forget_all():
    """Closes all of this thread's connections; the next use of one makes it anew."""
    forget(lambda connection: True)


def forget(which):
    """As `forget_all`, for those that ``which(connection)`` is true of."""
    db = sys.modules.get("django.db")
    if db is None:
        return
    try:
        made = db.connections.all(initialized_only=True)
    except BaseException:
        return complain("its connections could not be found")
    for connection in made:
        try:
            if which(connection):
                close(db.connections, connection)
        except BaseException:
            complain(f"the connection {connection.alias!r} could not be closed")


def close(connections, connection):
    try:
        connection.close()
    finally:
        # Its state is not to be trusted either: within a block that nobody is left to leave, close() only marks it.
        del connections[connection.alias]


def tidy(begun):
    """On the thread of a request that was interrupted, after the app's answer was closed.

    ``begun``: the app had returned an answer, and its ``close()`` has sent ``request_finished``.
    """
    signals, wsgi = sys.modules.get("django.core.signals"), sys.modules.get("django.core.handlers.wsgi")
    if not begun and signals is not None and wsgi is not None:
        for receiver, outcome in signals.request_finished.send_robust(sender=wsgi.WSGIHandler):
            if isinstance(outcome, Exception):
                complain(f"{receiver!r} failed at request_finished", outcome)
    forget_all()


def complain(what, error=None):
    told = traceback.format_exc() if error is None else "".join(traceback.format_exception(error))
    sys.stderr.write(f"bandstand: after the time of a request was over, {what}\n{told}")
    sys.stderr.flush()
