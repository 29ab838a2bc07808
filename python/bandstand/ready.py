"""``ready_check``: what must answer before a worker is ready, asked from inside the project.

Owns the words ``databases`` and ``caches``; paths among the checks are asked by the edge. Invariant: a connection that was
opened for a check is closed again, for the threads that serve have their own. Source: ``django.db``, ``django.core.cache``.
"""

import secrets


def failure(words):
    """Why this worker is not ready, for people; None when everything has answered. Words that are not known are paths."""
    for word in words:
        for what, ask in CHECKS.get(word, list)():
            try:
                ask()
            except Exception as error:
                from bandstand import worker

                plain, _, traceback = worker.explain(error).partition("\n\n")
                return f"ready_check: {what} does not answer: {plain}" + (traceback and f"\n\n{traceback}")
    return None


def databases():
    from django.db import connections

    for alias in connections:
        connection = connections[alias]
        if not connection.settings_dict["ENGINE"].endswith(".dummy"):  # a project without a database
            yield f"the database {alias!r}", lambda connection=connection: ask_database(connection)


def ask_database(connection):
    was_open = connection.connection is not None
    try:
        connection.ensure_connection()
    finally:
        if not was_open:
            connection.close()


def caches():
    from django.conf import settings
    from django.core.cache import caches

    for alias in settings.CACHES:
        yield f"the cache {alias!r}", lambda alias=alias: ask_cache(caches, alias)


def ask_cache(caches, alias):
    cache = caches[alias]
    try:
        cache.get(f"bandstand-ready-{secrets.token_hex(8)}")
    finally:
        cache.close()


CHECKS = {"databases": databases, "caches": caches}
