"""Gunicorn's hooks: functions of the user's, called where gunicorn would call them.

Owns finding them (``hooks = "package.module"``, or a ``gunicorn.conf.py``), what they are given (`Server`, `Worker`,
`Request`, `Response`: the parts of gunicorn's own that hooks use), and what happens when one raises. Who calls is
elsewhere:

* the template, by itself: ``on_starting`` before it imports the project (the first template of a server alone),
  ``pre_fork`` before each fork;
* the template, told by the edge with ``{"order": "hook", "name": …}``: ``when_ready`` (the ready line was written),
  ``on_reload`` (a reload begins), ``nworkers_changed`` (``new``, ``old`` or null), ``child_exit`` (``pid``, ``age``),
  ``pre_exec`` (an upgrade begins), ``on_exit`` (the end);
* the worker: ``post_fork``, ``post_worker_init``, ``worker_int`` (SIGINT, SIGQUIT), ``worker_abort`` (a request over its
  time), ``pre_request``, ``post_request``, ``worker_exit``.

Invariant: as with gunicorn, ``on_starting``, ``post_fork`` and ``post_worker_init`` fail a start when they raise, and
``pre_request`` fails its request; any other exception is logged with its traceback and forgotten. Without pre_request and
post_request no request takes a step more. Source: gunicorn's ``arbiter.py``, ``workers/`` and ``config.py``, 20 to 27.
"""

import importlib
import inspect
import json
import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from dataclasses import replace

from bandstand import gunicorn, guard

#: Hooks that an order of the edge may name.
ORDERED = ("when_ready", "on_reload", "nworkers_changed", "child_exit", "pre_exec", "on_exit")
#: How long an interruption waits for ``worker_abort``; the edge waits a second for the guard.
ABORT_SECONDS = 0.5


def from_environment(taken):
    """The hooks that the edge's variables name, or None. Raises what the module raises."""
    value = taken.get("BANDSTAND_HOOKS")
    if not value:
        return None
    return load(value, json.loads(taken.get("BANDSTAND_HOOKS_CFG") or "{}"), int(taken.get("BANDSTAND_PARENT") or os.getppid()))


def load(value, settings=None, pid=None):
    """The hooks of a module, or of the file of a path that ends in ``.py``; None when it defines none.

    ``settings``: values by gunicorn's names, for ``server.cfg``; ``pid``: the edge's.
    """
    module = gunicorn.execute(value) if value.endswith(".py") else importlib.import_module(value)
    functions = {}
    for name, count in gunicorn.HOOKS.items():
        function = getattr(module, name, None)
        if function is not None:
            functions[name] = checked(name, function, count)
    if not functions:
        print(f"bandstand: {value} defines none of the hooks: {', '.join(gunicorn.HOOKS)}", file=sys.stderr, flush=True)
        return None
    return Hooks(functions, Cfg(settings or {}, module), os.getppid() if pid is None else pid)


def checked(name, function, count):
    """The function itself, found by its dotted path if need be; ``post_request`` may take fewer arguments."""
    if isinstance(function, str):
        module, _, attribute = function.rpartition(".")
        if not module:
            raise TypeError(f"{name} is {function!r}, which is no dotted path of a function")
        function = getattr(importlib.import_module(module), attribute)
    if not callable(function):
        raise TypeError(f"{name} is {function!r}, which cannot be called")
    if takes(function, count):
        return function
    if name == "post_request" and takes(function, 3):
        return lambda worker, req, environ, resp: function(worker, req, environ)
    if name == "post_request" and takes(function, 2):
        return lambda worker, req, environ, resp: function(worker, req)
    raise TypeError(f"{name} must take {count} argument{'s' if count > 1 else ''}")


def takes(function, count):
    try:
        inspect.signature(function).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # written in C, without a signature
        return True
    return True


class Hooks:
    """The functions, and the state they are shown. One in a template; each fork goes on with its own copy."""

    def __init__(self, functions, cfg, pid):
        self.functions = functions
        self.log = make_log(cfg)
        self.server = Server(cfg, self.log, pid)
        #: The worker that this process is; None in a template.
        self.worker = None
        self.age = 0
        #: The thread of the last ``worker_abort``.
        self.aborting = None

    def has(self, *names):
        return any(name in self.functions for name in names)

    def run(self, name, *arguments):
        """Calls the hook, and lets it raise."""
        function = self.functions.get(name)
        if function is not None:
            function(*arguments)

    def try_run(self, name, *arguments):
        """Calls the hook; what it raises is logged."""
        try:
            self.run(name, *arguments)
        except BaseException:  # SystemExit too: a hook does not end a process that others need
            self.log.exception("exception in the hook %s", name)

    # In the template

    def on_starting(self):
        """Before the project is imported. Raises what the hook raises: the start fails."""
        self.run("on_starting", self.server)

    def pre_fork(self):
        """The worker that is about to be forked; to be given to `forked` here, and to become `worker` there."""
        self.age += 1
        worker = Worker(self.age, self.server)
        self.try_run("pre_fork", self.server, worker)
        return worker

    def forked(self, worker, pid):
        """In the template, once the fork has a process id."""
        worker.pid = pid
        self.server.WORKERS[pid] = worker

    def call(self, order):
        """An order of the edge, a dict with ``name``; what is not understood is passed over."""
        name = order.get("name")
        if name not in ORDERED:
            return
        server = self.server
        if name == "nworkers_changed":
            new, old = number(order.get("new")), number(order.get("old"))
            server.num_workers = new
            self.try_run(name, server, new, old)
        elif name == "child_exit":
            worker = server.WORKERS.pop(number(order.get("pid")), None)
            if worker is None:  # of a template before this one
                worker = Worker(number(order.get("age")) or 0, server)
                worker.pid = number(order.get("pid"))
            worker.alive = False
            self.try_run(name, server, worker)
        else:
            self.try_run(name, server)

    # In the worker

    def post_fork(self):
        """First in a new worker; once. The template has set `worker`; one that was started directly makes its own."""
        self.worker = self.worker or Worker(1, self.server)
        if self.worker.pid != os.getpid():
            self.worker.pid = os.getpid()
            self.run("post_fork", self.server, self.worker)

    def post_worker_init(self):
        """The project is imported and the worker about to serve."""
        self.worker.booted = True
        if self.has("worker_int"):
            for which in (signal.SIGINT, signal.SIGQUIT):
                signal.signal(which, lambda *_: self.try_run("worker_int", self.worker))
        if self.has("worker_abort"):
            guard.before_interrupt = self.worker_abort
        self.run("post_worker_init", self.worker)

    def worker_abort(self, seconds):
        """A request is over its time and about to be interrupted. The guard calls it, and must answer the edge soon.

        While it runs, for an earlier request, it is not called for another.
        """
        if self.aborting is not None and self.aborting.is_alive():
            return
        arguments = ("worker_abort", self.worker)
        self.aborting = threading.Thread(target=self.try_run, args=arguments, name="worker_abort", daemon=True)
        self.aborting.start()
        self.aborting.join(min(seconds, ABORT_SECONDS))

    def worker_exit(self):
        """Last in a worker."""
        self.worker.alive = False
        self.try_run("worker_exit", self.server, self.worker)

    def wrap(self, apps):
        """The apps (``target.Apps``) with ``pre_request`` and ``post_request`` around each request; the same ones without."""
        if not self.has("pre_request", "post_request"):
            return apps
        return replace(
            apps,
            wsgi=apps.wsgi and wrap_wsgi(self, apps.wsgi),
            asgi=apps.asgi and wrap_asgi(self, apps.asgi),
        )

    def begin(self, request):
        self.worker.nr += 1
        self.run("pre_request", self.worker, request)

    def end(self, request, environ, response):
        self.try_run("post_request", self.worker, request, environ, response)


def number(value):
    return value if isinstance(value, int) else None


# Requests


def wrap_wsgi(hooks, app):
    """The WSGI app between the two hooks. ``post_request`` comes when the answer is closed, as with gunicorn; where nothing
    more of the app's can run (a list, a file that the edge sends by itself), when it is handed over."""

    def application(environ, start_response):
        request, response = Request(environ), Response()

        def start(status, headers, *exc_info):
            response.start(status, headers)
            return start_response(status, headers, *exc_info)

        def end():
            hooks.end(request, environ, response)

        try:
            hooks.begin(request)
            answer = app(environ, start)
        except BaseException:
            end()
            raise
        return closing(answer, end, environ.get("wsgi.file_wrapper"))

    application.inner = app
    return application


def closing(answer, end, file_wrapper):
    """The same answer, with ``end`` called once by its ``close``."""
    if type(answer) in (list, tuple) or (isinstance(file_wrapper, type) and isinstance(answer, file_wrapper)):
        end()
        return answer
    close, is_within = getattr(answer, "close", None), False

    def close_and_end():
        nonlocal end, is_within
        try:
            if close is not None:
                close()
        finally:
            if is_within:  # otherwise it would keep itself alive
                is_within = False
                with suppress(AttributeError):  # the app's code has had it since
                    del answer.close
            ending, end = end, lambda: None
            ending()

    if close is not None:
        try:
            # Django's answers have attributes that the worker looks at, so they stay what they are.
            answer.close = close_and_end
            is_within = True
            return answer
        except (AttributeError, TypeError):
            pass
    return Stream(answer, close_and_end)


class Stream:
    def __init__(self, pieces, close):
        self.pieces = iter(pieces)
        self.close = close

    def __iter__(self):
        return self.pieces


def wrap_asgi(hooks, app):
    """The ASGI app between the two hooks, for HTTP; they run on the loop, so they hold it up for as long as they take."""

    async def application(scope, receive, send):
        if scope["type"] != "http":
            return await app(scope, receive, send)
        environ = environ_of(scope)
        request, response = Request(environ), Response()

        async def sending(message):
            if message.get("type") == "http.response.start":
                headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message.get("headers", ())]
                response.start(str(message.get("status", "")), headers)
            await send(message)

        try:
            hooks.begin(request)
            await app(scope, receive, sending)
        finally:
            hooks.end(request, environ, response)

    application.inner = app
    return application


def environ_of(scope):
    """What a hook looks for in a WSGI environ."""
    root, path = scope.get("root_path", ""), scope.get("path", "")
    client, server = scope.get("client") or ("", ""), scope.get("server") or ("", None)
    query = (scope.get("query_string") or b"").decode("latin-1")
    raw = (scope.get("raw_path") or path.encode()).decode("latin-1")
    environ = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": root,
        "PATH_INFO": path.removeprefix(root) if root else path,
        "QUERY_STRING": query,
        "RAW_URI": f"{raw}?{query}" if query else raw,
        "SERVER_PROTOCOL": f"HTTP/{scope.get('http_version', '1.1')}",
        "SERVER_NAME": server[0],
        "SERVER_PORT": str(server[1] or ""),
        "REMOTE_ADDR": client[0],
        "REMOTE_PORT": str(client[1]),
        "wsgi.url_scheme": scope.get("scheme", "http"),
        "asgi.scope": scope,
    }
    for name, value in scope.get("headers", ()):
        key = name.decode("latin-1").upper().replace("-", "_")
        key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
        value = value.decode("latin-1")
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    return environ


class Request:
    """What ``req`` of gunicorn's hooks is read for. Hooks may put attributes of their own on it."""

    def __init__(self, environ):
        self.method = environ["REQUEST_METHOD"]
        # As gunicorn: the path as the client wrote it.
        self.uri = environ.get("RAW_URI") or environ.get("PATH_INFO", "")
        self.path = self.uri.partition("?")[0]
        self.query = environ.get("QUERY_STRING", "")
        self.fragment = ""
        self.scheme = environ.get("wsgi.url_scheme", "http")
        self.remote_addr = environ.get("REMOTE_ADDR", "")
        self.peer_addr = (self.remote_addr, environ.get("REMOTE_PORT", ""))
        self.environ = environ

    @property
    def version(self):
        major, _, minor = self.environ.get("SERVER_PROTOCOL", "HTTP/1.1").removeprefix("HTTP/").partition(".")
        return int(major), int(minor or 0)

    @property
    def headers(self):
        """``[(NAME, value)…]``, upper case."""
        return [
            (key.removeprefix("HTTP_").replace("_", "-"), value)
            for key, value in self.environ.items()
            if key.startswith("HTTP_") or key in ("CONTENT_TYPE", "CONTENT_LENGTH")
        ]


class Response:
    """What ``resp`` of ``post_request`` is read for."""

    def __init__(self):
        #: ``"200 OK"``; None when there was no answer.
        self.status = None
        self.status_code = None
        self.headers = []
        #: Bytes sent: the edge counts them, for its access log.
        self.sent = None

    def start(self, status, headers):
        self.status, self.headers = status, list(headers)
        self.status_code = int(status[:3]) if status[:3].isdigit() else None

    @property
    def headers_sent(self):
        return self.status is not None


# What hooks are given


class Server:
    """Stands in for gunicorn's arbiter."""

    def __init__(self, cfg, log, pid):
        self.cfg, self.log, self.pid = cfg, log, pid
        self.address = getattr(cfg, "address", [])
        self.num_workers = getattr(cfg, "workers", None)
        self.proc_name = "bandstand"
        #: Process id to `Worker`. A worker knows itself and those that were forked before it.
        self.WORKERS = {}


class Worker:
    def __init__(self, age, server):
        #: 1 for the first of a template, 2 for the next.
        self.age = age
        #: ``"[booting]"`` until it is known, as with gunicorn.
        self.pid = "[booting]"
        self.ppid = server.pid
        self.cfg, self.log = server.cfg, server.log
        self.timeout = getattr(server.cfg, "timeout", None)
        #: Requests begun; counted where pre_request or post_request is defined.
        self.nr = 0
        self.booted, self.alive = False, True

    def __str__(self):
        return f"<Worker {self.pid}>"

    def notify(self):
        """Nothing: there is no heartbeat to keep up."""


class Cfg:
    """Settings by gunicorn's names: those in force, then what the file of the hooks says besides."""

    def __init__(self, settings, module):
        self.settings = settings
        self._module = module

    def __getattr__(self, name):
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self.settings:
            return self.settings[name]
        try:
            return getattr(self._module, name)
        except AttributeError:
            raise AttributeError(f"the setting {name} of gunicorn's is not known here") from None

    @property
    def address(self):
        """``(host, port)`` or a path, for each address."""
        return [parse_address(bind) for bind in self.settings.get("bind", [])]


def parse_address(bind):
    if bind.startswith("unix:"):
        return bind.removeprefix("unix:")
    host, _, port = bind.rpartition(":")
    return (host.strip("[]"), int(port)) if port.isdigit() else bind


def make_log(cfg):
    """A logger that the project's LOGGING cannot turn off: hooks speak for the server."""
    log = logging.Logger("gunicorn.error", getattr(logging, str(getattr(cfg, "loglevel", "info")).upper(), logging.INFO))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("[%(levelname)s] %(message)s"))
    log.addHandler(handler)
    return log
