"""A worker process: import the app, hand it to the native half, leave when the edge says so.

Started by the edge as ``PYTHON -m bandstand.worker`` in the project's folder, or forked by a ``template``, which is the
same command. What it needs to know comes in ``BANDSTAND_*`` variables, which are taken out of the environment before the
app is imported. Which app, and how it is called, is ``target``'s; serving is ``bandstand._worker``'s, with a loop
``asgi``'s. With ``--describe`` nothing is served: ``survey`` tells what is known of the project. Invariant: both ways to
start a worker meet in `start`, and it serves alike after that.
"""

import atexit
import faulthandler
import gc
import importlib
import json
import os
import platform
import signal
import sys
import traceback
from dataclasses import dataclass

from bandstand import _worker, children, guard, target


@dataclass
class Options:
    """What the edge says about this worker."""

    #: -1 in a template; each worker that it forks has its own.
    channel_fd: int
    board_fd: int
    #: The loop's lane; -1 from an edge that gives none.
    loop_fd: int
    #: The line of ``guard``; -1 from an edge that gives none.
    guard_fd: int
    threads: int
    multiprocess: bool
    #: Requests that the loop works on at once.
    tasks: int
    #: Threads, while some of them wait for async views.
    threads_max: int
    bridge: bool
    #: auto, asyncio or uvloop.
    loop: str
    #: auto, on or off.
    lifespan: str
    #: Seconds that a request may take; None: as long as it likes. The edge counts them.
    timeout: "float | None"
    #: What must answer before this worker is ready: ``databases``, ``caches``.
    ready_check: "tuple[str, ...]"
    #: A worker of ``bandstand dev``.
    dev: bool = False
    browser_reload: bool = True
    #: ``hooks.Hooks``; None: the project has none.
    hooks: object = None


def main():
    taken = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("BANDSTAND_")}
    # Not left in the environment: a server that the app starts is not behind this edge.
    if taken.get("BANDSTAND_PROTECTED", "[]") != "[]":
        from bandstand import downloads

        downloads.told(taken["BANDSTAND_PROTECTED"])
    if "BANDSTAND_TEMPLATE_FD" in taken:
        from bandstand import template

        return template.main(taken)
    prepare_process(taken.get("BANDSTAND_PYTHONPATH", ""))
    if sys.argv[1:2] == ["--gunicorn"]:
        from bandstand import gunicorn

        return gunicorn.main(sys.argv[1:])
    if sys.argv[1:]:
        from bandstand import survey

        return survey.main(sys.argv[1:], *app_and_interface(taken), taken)
    options = read_options(taken)
    children.disown_at_fork(options)
    return boot(taken, options)


def boot(taken, options):
    """A worker that imports the app by itself; the exit status."""
    try:
        if taken.get("BANDSTAND_HOOKS"):
            from bandstand import hooks

            options.hooks = options.hooks or hooks.from_environment(taken)
            if options.hooks is not None:
                options.hooks.post_fork()
        apps, project = load(taken)
    except BaseException as error:  # SystemExit too: whatever keeps the app from being imported is told to the edge
        _worker.fail(options.channel_fd, explain(error))
        return 1
    return start(apps, options, project)


def load(taken):
    """The apps, and what the edge is told about them; raises whatever the project raises."""
    from bandstand import warm

    apps = target.load(*app_and_interface(taken))
    warm.import_urlconf()
    return apps, describe(apps)


def app_and_interface(taken):
    return taken.get("BANDSTAND_APP"), taken.get("BANDSTAND_INTERFACE") or target.AUTO


class NotReady(Exception):
    """This worker cannot serve; the message is for people."""


def start(apps, options, project):
    """Serves until the edge wants no more; the exit status."""
    try:
        apps, project = get_ready(apps, options, project)
    except BaseException as error:  # SystemExit too, as for the import
        _worker.fail(options.channel_fd, str(error) if isinstance(error, NotReady) else explain(error))
        return 1
    # What the import made lives as long as the process; the collector need not look at it again.
    gc.collect()
    gc.freeze()
    try:
        return serve(apps, options, project)
    except Exception as error:
        print(f"bandstand: {error}", file=sys.stderr, flush=True)
        return 1
    finally:
        if options.hooks is not None:
            options.hooks.worker_exit()


def get_ready(apps, options, project):
    """What is between the import and the first request: the apps and the project as they are then.

    Raises `NotReady`, and whatever settings of static files (as in runserver) and hooks (as in gunicorn) raise.
    """
    if options.dev:
        from bandstand import dev

        apps, project = dev.prepare(apps, options.browser_reload), {**project, "watch": dev.watched()}
    if options.ready_check:
        from bandstand import ready

        failure = ready.failure(options.ready_check)
        if failure is not None:
            raise NotReady(failure)
    hold_signals()
    if options.hooks is not None:
        options.hooks.post_fork()
        options.hooks.post_worker_init()
        apps = options.hooks.wrap(apps)
    return apps, project


def serve(apps, options, project):
    if apps.interface != target.WSGI:
        from bandstand import asgi

        return asgi.serve(apps, options, project)
    if options.loop_fd >= 0:
        os.close(options.loop_fd)  # nothing comes over the lane of a worker without a loop
    guard.start(options.guard_fd)
    ours = (options.channel_fd, options.board_fd, options.threads, options.multiprocess)
    _worker.serve(apps.wsgi, *ours, json.dumps(project))
    return 0


def read_options(taken):
    threads = int(taken["BANDSTAND_THREADS"])
    return Options(
        channel_fd=int(taken.get("BANDSTAND_CHANNEL_FD", -1)),
        board_fd=int(taken.get("BANDSTAND_BOARD_FD", -1)),
        loop_fd=int(taken.get("BANDSTAND_LOOP_FD", -1)),
        guard_fd=int(taken.get("BANDSTAND_GUARD_FD", -1)),
        threads=threads,
        multiprocess=taken["BANDSTAND_MULTIPROCESS"] == "1",
        tasks=int(taken.get("BANDSTAND_TASKS", 1000)),
        threads_max=max(threads, int(taken.get("BANDSTAND_THREADS_MAX", 16))),
        bridge=has_bridge(taken),
        loop=taken.get("BANDSTAND_LOOP") or "auto",
        lifespan=taken.get("BANDSTAND_LIFESPAN") or "auto",
        timeout=float(taken.get("BANDSTAND_TIMEOUT") or 0) or None,
        ready_check=tuple(filter(None, taken.get("BANDSTAND_READY_CHECK", "").split(","))),
        dev=taken.get("BANDSTAND_DEV") == "1",
        browser_reload=taken.get("BANDSTAND_BROWSER_RELOAD", "1") == "1",
    )


def has_bridge(taken):
    return taken.get("BANDSTAND_BRIDGE", "1") == "1"


def prepare_process(path):
    """Stack dumps, output and ``sys.path``, before any code of the project runs."""
    # A terminal's Ctrl-C is for the edge; TERM still ends a worker that hangs in its import.
    signal.signal(signal.SIGINT, lambda *_: None)
    faulthandler.enable()
    faulthandler.register(signal.SIGRTMIN + 1, all_threads=True)
    # Into a pipe Python would hold lines back until a block is full.
    sys.stdout.reconfigure(line_buffering=True)
    first = [*filter(None, path.split(os.pathsep)), os.getcwd()]
    sys.path[:] = first + [entry for entry in sys.path if entry and entry not in first]


def hold_signals():
    """From now on the edge decides when to stop. A handler, not SIG_IGN: programs that the app starts would inherit that."""
    signal.signal(signal.SIGTERM, lambda *_: None)
    os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))


def describe(apps):
    """What the edge is told about the project: its hello. ``asgi`` adds the loop."""
    conf = sys.modules.get("django.conf")
    return {
        "interpreter": platform.python_version(),
        "implementation": platform.python_implementation(),
        "app": apps.name,
        "interface": apps.interface,
        "reason": apps.reason,
        "websockets": apps.websockets,
        "django": describe_django(conf.settings) if conf and conf.settings.configured else None,
    }


def describe_django(settings):
    def get(setting, kind=str):
        value = getattr(settings, setting, None)
        return None if value is None else kind(value)

    storages = get("STORAGES", dict) or {}
    plain = ("static_url", "static_root", "media_url", "media_root", "force_script_name")
    return {
        "version": sys.modules["django"].get_version(),
        "settings_module": get("SETTINGS_MODULE") or os.environ.get("DJANGO_SETTINGS_MODULE"),
        **{name: get(name.upper()) for name in plain},
        "debug": get("DEBUG", bool),
        "allowed_hosts": [str(host) for host in get("ALLOWED_HOSTS", list) or []],
        **describe_protection(settings, get),
        "data_upload_max_memory_size": get("DATA_UPLOAD_MAX_MEMORY_SIZE", int),
        "storage": storages.get("staticfiles", {}).get("BACKEND") or get("STATICFILES_STORAGE"),
        "default_storage": storages.get("default", {}).get("BACKEND") or get("DEFAULT_FILE_STORAGE"),
    }


def describe_protection(settings, get):
    """What the project says about schemes, proxies and security headers.

    A default that no middleware acts on says nothing: a project that left ``SecurityMiddleware`` out gets what it wrote
    down itself.
    """

    def acted_on(setting, kind, middleware):
        written = getattr(settings, "is_overridden", lambda _: True)(setting)
        return get(setting, kind) if written or has_middleware(settings, middleware) else None

    def secure(setting, kind):
        return acted_on(setting, kind, "django.middleware.security.SecurityMiddleware")

    def joined(value):
        parts = value.split(",") if isinstance(value, str) else value
        return ",".join(str(part).strip() for part in parts)

    def pair(value):
        return [str(part) for part in value] if isinstance(value, (list, tuple)) and len(value) == 2 else None

    clickjacking = "django.middleware.clickjacking.XFrameOptionsMiddleware"
    return {
        "secure_ssl_redirect": bool(getattr(settings, "SECURE_SSL_REDIRECT", False)),
        "secure_hsts_seconds": secure("SECURE_HSTS_SECONDS", lambda seconds: max(0, int(seconds))),
        "secure_hsts_include_subdomains": secure("SECURE_HSTS_INCLUDE_SUBDOMAINS", bool),
        "secure_hsts_preload": secure("SECURE_HSTS_PRELOAD", bool),
        "secure_content_type_nosniff": secure("SECURE_CONTENT_TYPE_NOSNIFF", bool),
        "secure_referrer_policy": secure("SECURE_REFERRER_POLICY", joined),
        "secure_cross_origin_opener_policy": secure("SECURE_CROSS_ORIGIN_OPENER_POLICY", str),
        "x_frame_options": acted_on("X_FRAME_OPTIONS", lambda value: str(value).upper(), clickjacking),
        "secure_proxy_ssl_header": get("SECURE_PROXY_SSL_HEADER", pair),
        "use_x_forwarded_host": bool(getattr(settings, "USE_X_FORWARDED_HOST", False)),
        "use_x_forwarded_port": bool(getattr(settings, "USE_X_FORWARDED_PORT", False)),
    }


def has_middleware(settings, wanted):
    """Whether it, or a class made from it, is in ``MIDDLEWARE``; the handler has imported them all by now."""

    def find(dotted):
        module, _, name = dotted.rpartition(".")
        return getattr(sys.modules.get(module), name, None)

    base = find(wanted)
    if not isinstance(base, type):
        return wanted in (getattr(settings, "MIDDLEWARE", None) or ())
    classes = map(find, getattr(settings, "MIDDLEWARE", None) or ())
    return any(isinstance(one, type) and issubclass(one, base) for one in classes)


def explain(error):
    """One plain line, then the traceback without the frames that every import has."""
    report = traceback.TracebackException.from_exception(error)
    plain = list(report.format_exception_only())
    ours = (os.path.dirname(__file__), os.path.dirname(importlib.__file__))
    frames = [f for f in report.stack if os.path.dirname(f.filename) not in ours and "<frozen" not in f.filename]
    report.stack = traceback.StackSummary.from_list(frames)
    first = next((line for line in plain if not line.startswith(" ")), plain[-1]).splitlines()[0]
    if not frames and len(plain) == 1:
        return plain[0]
    return f"{first}\n\n" + "".join(report.format() if frames else plain)


def leave(status):
    """As at any exit, but without waiting for threads that the app left running: nobody would end them."""
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
    finally:
        os._exit(status)


if __name__ == "__main__":
    leave(main())
