"""What a worker of ``bandstand dev`` does beside serving: says what to watch, what a request did, and where pages reload.

Owns the files that matter (imported modules, templates, translations, static files), the note on each answer of Django
(route, SQL), static files by Django's own finders, and the script tag in whole HTML pages. The edge watches, reloads and
prints. Notes travel in a field of the answer that the edge takes out, and believes from workers of ``dev`` alone.
Invariant: outside ``dev`` this module is never imported, and what an app answers differs only as said here.
Source: ``django.utils.autoreload``, ``django.template.autoreload``, ``runserver`` of ``django.contrib.staticfiles``.
"""

import json
import os
import site
import sys
import sysconfig
import time
from contextvars import ContextVar
from pathlib import Path

#: The field of an answer that is the edge's alone.
FIELD = "X-Bandstand-Dev"
#: Bytes of file names in one note; the rest waits for the next answer.
NOTE_BYTES = 6000
#: Different statements of one request that are told apart.
STATEMENTS = 2000
#: Put before ``</body>``.
SCRIPT = b'<script src="/-/dev/reload.js" defer></script>'


def prepare(apps, browser_reload=True):
    """The apps of this worker as `dev` calls them. Once, after the import and before the first request."""
    tellers.clear()
    modules = Modules()
    if apps_are_django():
        watch_sql()
        observe_handlers(modules, browser_reload)
        serve_static(apps)
        return apps
    if apps.wsgi is not None:
        apps.wsgi = note_on_wsgi(apps.wsgi, modules)
    if apps.asgi is not None:
        apps.asgi = note_on_asgi(apps.asgi, modules)
    return apps


def watched():
    """What the hello says under ``watch``. Folders are absolute; files are those of modules imported so far."""
    modules = tellers[-1] if tellers else Modules()
    found = {"files": modules.take(None), "templates": [], "locale": [], "static": []}
    if apps_are_django():
        found |= {"templates": template_folders(), "locale": locale_folders(), "static": static_folders()}
    return found


def apps_are_django():
    conf = sys.modules.get("django.conf")
    return bool(conf and conf.settings.configured)


# Files


class Modules:
    """The files of the project's modules, each told once."""

    def __init__(self):
        self.told = set()
        self.waiting = []
        self.seen = 0
        self.outside = [folder for folder in map(real, library_folders()) if folder]
        self.here = real(os.getcwd())
        tellers.append(self)

    def take(self, most=NOTE_BYTES):
        """Files that have not been told, at most so many bytes of them; most often none, which costs nothing."""
        if len(sys.modules) != self.seen:
            self.look()
        if most is None:
            taken, self.waiting = self.waiting, []
            return taken
        taken = []
        while self.waiting and most >= 0:
            most -= len(self.waiting[-1])
            taken.append(self.waiting.pop())
        return taken

    def look(self):
        modules = list(sys.modules.values())
        self.seen = len(modules)
        for module in modules:
            name = getattr(module, "__file__", None)
            if not isinstance(name, str) or name in self.told:
                continue
            self.told.add(name)
            path = os.path.abspath(name)
            if self.is_watched(path):
                self.waiting.append(path)

    def is_watched(self, path):
        """Not what is installed: the standard library, site-packages. An editable install lies outside of them."""
        path = real(path)
        if any(is_below(path, folder) for folder in self.outside if not is_below(self.here, folder)):
            return False
        return os.path.isfile(path)


#: The one of this process; a list, so that ``prepare`` and ``watched`` mean the same.
tellers = []


def library_folders():
    paths = sysconfig.get_paths()
    yield from (paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    yield from getattr(site, "getsitepackages", list)()
    yield site.getusersitepackages() if hasattr(site, "getusersitepackages") else ""
    yield os.path.dirname(os.path.abspath(__file__))
    # Where Debian puts packages, and where a folder was added to the path as a site directory.
    yield from (entry for entry in sys.path if os.path.basename(entry) in ("site-packages", "dist-packages"))


def template_folders():
    from django.conf import settings
    from django.template.utils import get_app_template_dirs

    folders = set()
    for entry in settings.TEMPLATES:
        folders.update(map(str, entry.get("DIRS") or ()))
        options = entry.get("OPTIONS") or {}
        if entry.get("APP_DIRS") or "app_directories" in repr(options.get("loaders")):
            name = "jinja2" if entry.get("BACKEND", "").endswith("Jinja2") else "templates"
            folders.update(map(str, get_app_template_dirs(name)))
        folders.update(folders_in(options.get("loaders") or ()))
    return of_project(folders)


def folders_in(loaders):
    """The folders that loaders are given: ``("…filesystem.Loader", ["templates"])``, at any depth."""
    for loader in loaders:
        if isinstance(loader, (list, tuple)):
            for argument in loader[1:]:
                given = argument if isinstance(argument, (list, tuple)) else [argument]
                yield from (str(one) for one in given if isinstance(one, (str, Path)) and "/" in str(one))
                yield from folders_in([one for one in given if isinstance(one, (list, tuple))])


def locale_folders():
    from django.apps import apps
    from django.conf import settings

    if not settings.USE_I18N:
        return []
    inside = [os.path.join(config.path, "locale") for config in apps.get_app_configs()]
    return of_project([*map(str, settings.LOCALE_PATHS), *inside, "locale"])


def static_folders():
    from django.apps import apps
    from django.conf import settings

    if not apps.is_installed("django.contrib.staticfiles"):
        return []
    # An entry may carry a prefix: ("downloads", "/opt/files").
    given = [entry[1] if isinstance(entry, (list, tuple)) else entry for entry in settings.STATICFILES_DIRS]
    inside = [os.path.join(config.path, "static") for config in apps.get_app_configs()]
    return of_project([*map(str, given), *inside])


def of_project(folders):
    """Those that exist, without what is installed: nobody edits the templates of the admin."""
    modules = tellers[-1] if tellers else Modules()
    there = {os.path.abspath(folder) for folder in folders if os.path.isdir(folder)}
    outside = [folder for folder in modules.outside if not is_below(modules.here, folder)]
    return sorted(path for path in there if not any(is_below(real(path), folder) for folder in outside))


def real(path):
    return os.path.realpath(path) if path else ""


def is_below(path, folder):
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


# Notes


class Tally:
    """What one request asked of its databases."""

    __slots__ = ("count", "seconds", "texts")

    def __init__(self):
        self.count, self.seconds, self.texts = 0, 0.0, {}

    def add(self, text, seconds, times):
        self.count += times
        self.seconds += seconds
        if text in self.texts or len(self.texts) < STATEMENTS:
            self.texts[text] = self.texts.get(text, 0) + times


tally_of_request = ContextVar("bandstand_dev_tally", default=None)


def measure(execute, sql, params, many, context):
    """A wrapper of Django's around each statement; it needs no DEBUG, and keeps no parameters."""
    tally = tally_of_request.get()
    if tally is None:
        return execute(sql, params, many, context)
    started = time.perf_counter()
    try:
        return execute(sql, params, many, context)
    finally:
        tally.add(sql if isinstance(sql, str) else repr(sql), time.perf_counter() - started, 1)


def watch_sql():
    from django.db import connections
    from django.db.backends.signals import connection_created

    connection_created.connect(wrap_connection, dispatch_uid="bandstand.dev")
    for connection in connections.all(initialized_only=True):
        wrap_connection(None, connection)


def wrap_connection(sender, connection, **_):
    if measure not in connection.execute_wrappers:
        connection.execute_wrappers.append(measure)


def observe_handlers(modules, browser_reload):
    """Around every request that Django answers, over WSGI and ASGI alike."""
    from django.core.handlers.base import BaseHandler

    answer, answer_async = BaseHandler.get_response, BaseHandler.get_response_async

    def get_response(handler, request):
        tally = Tally()
        token = tally_of_request.set(tally)
        try:
            response = answer(handler, request)
        finally:
            tally_of_request.reset(token)
        return finish(request, response, tally)

    async def get_response_async(handler, request):
        tally = Tally()
        token = tally_of_request.set(tally)
        try:
            response = await answer_async(handler, request)
        finally:
            tally_of_request.reset(token)
        return finish(request, response, tally)

    def finish(request, response, tally):
        response.headers[FIELD] = note(tally, getattr(request, "resolver_match", None), modules.take())
        if browser_reload:
            add_script(response)
        return response

    BaseHandler.get_response, BaseHandler.get_response_async = get_response, get_response_async


def note(tally, match, files):
    """JSON in ASCII, which any field can carry."""
    told = {}
    if match is not None:
        told["route"] = "/" + (match.route or "").lstrip("^/")
        told["view"] = match.view_name or ""
    if tally.count:
        told |= {"sql": tally.count, "sql_ms": round(tally.seconds * 1e3, 2), "same": max(tally.texts.values(), default=0)}
    if files:
        told["files"] = files
    return json.dumps(told, separators=(",", ":"))


def add_script(response):
    """Into whole pages only: parts of pages, downloads, streams and what is encoded stay as they are."""
    if response.streaming or not response.get("Content-Type", "").startswith("text/html"):
        return
    if response.has_header("Content-Encoding") or response.get("Content-Disposition", "").startswith("attachment"):
        return
    content = response.content
    at = content.lower().rfind(b"</body>")
    if at < 0:
        return
    response.content = content[:at] + SCRIPT + content[at:]
    if response.has_header("Content-Length"):
        response.headers["Content-Length"] = str(len(content) + len(SCRIPT))


# Static files


def serve_static(apps):
    """As ``runserver`` does: with DEBUG, what the finders find is served, and nothing need be collected."""
    from django.apps import apps as installed
    from django.conf import settings

    if not (settings.DEBUG and settings.STATIC_URL and installed.is_installed("django.contrib.staticfiles")):
        return
    from django.contrib.staticfiles import handlers

    class Files:
        """A browser asks each time whether a file is as it was; the answer is most often a 304."""

        def serve(self, request):
            response = super().serve(request)
            response.headers["Cache-Control"] = "no-cache"
            return response

    class StaticFilesHandler(Files, handlers.StaticFilesHandler):
        pass

    class ASGIStaticFilesHandler(Files, handlers.ASGIStaticFilesHandler):
        pass

    if apps.wsgi is not None:
        apps.wsgi = StaticFilesHandler(apps.wsgi)
    if apps.asgi is not None:
        apps.asgi = ASGIStaticFilesHandler(apps.asgi)


# Apps that are not Django's: what they imported is all there is to tell


def note_on_wsgi(app, modules):
    def application(environ, start_response):
        def start(status, headers, *exc_info):
            files = modules.take()
            if files:
                headers = [*headers, (FIELD, json.dumps({"files": files}))]
            return start_response(status, headers, *exc_info)

        return app(environ, start)

    return application


def note_on_asgi(app, modules):
    async def application(scope, receive, send):
        if scope["type"] != "http":
            return await app(scope, receive, send)

        async def tell(message):
            files = modules.take() if message["type"] == "http.response.start" else None
            if files:
                told = json.dumps({"files": files}).encode()
                message = {**message, "headers": [*(message.get("headers") or ()), (FIELD.lower().encode(), told)]}
            await send(message)

        return await app(scope, receive, tell)

    return application
