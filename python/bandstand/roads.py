"""Which road a request takes in a worker that has both: a thread, a thread with the bridge, or the loop.

Owns what is known of the project's URLconf: which view answers a path and whether it is a coroutine function. A guess
here decides what a request costs, never what it answers: both handlers call both kinds of view. So what is not known
(no match, an exception, a URLconf that a middleware will set) takes the thread.
Source: ``django.urls.resolvers``; Channels' ``URLRouter`` strips the first slash and goes on with the rest of the path.
"""

import asyncio
import functools
import inspect
import sys
from dataclasses import dataclass
from typing import Any

THREAD, BRIDGE, LOOP = "thread", "bridge", "loop"

#: Paths whose answer is remembered. A site with more of them at a time resolves some again, some ten microseconds each.
REMEMBERED = 4096


@dataclass
class Route:
    """One URL pattern with its view."""

    pattern: str
    name: "str | None"
    view: str
    callback: Any
    is_async: bool


class Chooser:
    """Tells, ahead of Django, whether a request is better off on the loop. Called by the threads, any of them at once."""

    def __init__(self, router=None):
        self.router = router
        self.loop = functools.lru_cache(REMEMBERED)(self.resolve)

    def __call__(self, path):
        """``path`` as in ``PATH_INFO``: decoded, without the mount point. True: the loop."""
        try:
            return self.loop(path)
        except Exception:
            return False

    def resolve(self, path):
        if self.router is not None and not leads_to_django(self.router, path.lstrip("/")):
            return True
        return is_async_view(resolve_view(path))


def chooser(apps, bridge):
    """``(callable or None, for every request)``: who is asked for the road, and whether even with threads to spare.

    Without async views there is nothing to choose, and nobody is asked.
    """
    if apps.interface != "both":
        return None, False
    if apps.router is not None:
        return Chooser(apps.router), True
    try:
        any_async = any(route.is_async for route in walk())
    except Exception:
        any_async = True  # not known
    return (Chooser(), not bridge) if any_async else (None, False)


def resolve_view(path):
    """The view of Django's own URLconf for a path; raises when there is none."""
    from django.conf import settings
    from django.conf.urls.i18n import is_language_prefix_patterns_used
    from django.urls import get_resolver
    from django.utils import translation

    resolver = get_resolver(settings.ROOT_URLCONF)
    if not is_language_prefix_patterns_used(settings.ROOT_URLCONF)[0]:
        return resolver.resolve(path).func
    # A prefix only matches while its language is active, which LocaleMiddleware sees to.
    language = translation.get_language_from_path(path) or settings.LANGUAGE_CODE
    with translation.override(language):
        return resolver.resolve(path).func


def leads_to_django(router, path):
    """Whether the first route that matches in Channels' router is Django's own handler."""
    for route in router.routes:
        match = route.pattern.match(path)
        if match:
            if is_url_router(route.callback):
                return leads_to_django(route.callback, match[0])
            return is_django(route.callback)
    return False


def walk_handlers(router):
    """Django's own handlers among the routes of Channels' router, at any depth; each once."""
    found = {}
    for route in router.routes:
        if is_url_router(route.callback):
            found.update((id(handler), handler) for handler in walk_handlers(route.callback))
        elif is_django(route.callback):
            found[id(route.callback)] = route.callback
    return found.values()


def is_django(app):
    from bandstand.target import is_exactly

    return is_exactly(app, "django.core.handlers.asgi", "ASGIHandler")


def is_url_router(app):
    from bandstand.target import is_router

    return is_router(app, "URLRouter")


def is_async_view(view):
    """As Django asks: a view that is marked counts as one, and so does a partial of one."""
    return (sys.version_info < (3, 12) and asyncio.iscoroutinefunction(view)) or inspect.iscoroutinefunction(view)


# All of them


def walk(resolver=None, prefix="", space=""):
    """The URL patterns in the order in which they are tried, each with its whole pattern."""
    if resolver is None:
        from django.conf import settings
        from django.urls import get_resolver

        resolver = get_resolver(settings.ROOT_URLCONF)
    for entry in resolver.url_patterns:
        pattern = prefix + text_of(entry.pattern)
        if hasattr(entry, "url_patterns"):
            yield from walk(entry, pattern, f"{space}{entry.namespace}:" if entry.namespace else space)
        else:
            name = entry.name and space + entry.name
            yield Route(pattern, name, entry.lookup_str, entry.callback, is_async_view(entry.callback))


def text_of(pattern):
    if hasattr(pattern, "language_prefix"):
        return "<language>/" if pattern.prefix_default_language else "[<language>/]"
    return str(pattern).removeprefix("^")


def walk_sockets(app):
    """``(pattern, consumer)`` of the WebSocket routes, as far as they can be seen through the wrappers around them."""
    seen = set()
    while app is not None and id(app) not in seen:
        seen.add(id(app))
        if is_url_router(app):
            yield from walk_router(app)
            return
        mapping = getattr(app, "application_mapping", None)
        app = mapping.get("websocket") if isinstance(mapping, dict) else inner_of(app)


def walk_router(router, prefix=""):
    for route in router.routes:
        pattern = prefix + str(route.pattern)
        if is_url_router(route.callback):
            yield from walk_router(route.callback, pattern)
        else:
            yield pattern, dotted(route.callback)


def inner_of(app):
    """Channels' middleware keep what they wrap in ``inner``, its validators in ``application``."""
    return getattr(app, "inner", None) or getattr(app, "application", None)


def dotted(app):
    """A name for people: of the class whose ``as_asgi()`` it is, of a function, of an object's class."""
    app = getattr(app, "consumer_class", app)
    while isinstance(app, functools.partial):
        app = app.func
    named = app if hasattr(app, "__qualname__") else type(app)
    return f"{named.__module__}.{named.__qualname__}"
