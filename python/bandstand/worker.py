"""A worker process: import the app, hand it to the native half, leave when the edge says so.

Started by the edge as ``PYTHON -m bandstand.worker`` in the project's folder. What it needs to know comes in
``BANDSTAND_*`` variables, which are taken out of the environment before the app is imported. Which app, and how it is
called, is ``target``'s; serving is ``bandstand._worker``'s, with a loop ``asgi``'s. With ``--describe`` nothing is
served: ``survey`` tells what is known of the project.
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

from bandstand import _worker, target


@dataclass
class Options:
    """What the edge says about this worker."""

    channel_fd: int
    board_fd: int
    #: The loop's lane; -1 from an edge that gives none.
    loop_fd: int
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


def main():
    taken = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("BANDSTAND_")}
    prepare_process(taken.get("BANDSTAND_PYTHONPATH", ""))
    app, interface = taken.get("BANDSTAND_APP"), taken.get("BANDSTAND_INTERFACE") or target.AUTO
    if sys.argv[1:]:
        from bandstand import survey

        return survey.main(sys.argv[1:], app, interface, taken)
    options = read_options(taken)
    try:
        apps = target.load(app, interface)
        project = describe(apps)
    except BaseException as error:  # SystemExit too: whatever keeps the app from being imported is told to the edge
        _worker.fail(options.channel_fd, explain(error))
        return 1
    hold_signals()
    # What the import made lives as long as the process; the collector need not look at it again.
    gc.collect()
    gc.freeze()
    try:
        return serve(apps, options, project)
    except Exception as error:
        print(f"bandstand: {error}", file=sys.stderr, flush=True)
        return 1


def serve(apps, options, project):
    if apps.interface != target.WSGI:
        from bandstand import asgi

        return asgi.serve(apps, options, project)
    if options.loop_fd >= 0:
        os.close(options.loop_fd)  # nothing comes over the lane of a worker without a loop
    ours = (options.channel_fd, options.board_fd, options.threads, options.multiprocess)
    _worker.serve(apps.wsgi, *ours, json.dumps(project))
    return 0


def read_options(taken):
    threads = int(taken["BANDSTAND_THREADS"])
    return Options(
        channel_fd=int(taken["BANDSTAND_CHANNEL_FD"]),
        board_fd=int(taken["BANDSTAND_BOARD_FD"]),
        loop_fd=int(taken.get("BANDSTAND_LOOP_FD", -1)),
        threads=threads,
        multiprocess=taken["BANDSTAND_MULTIPROCESS"] == "1",
        tasks=int(taken.get("BANDSTAND_TASKS", 1000)),
        threads_max=max(threads, int(taken.get("BANDSTAND_THREADS_MAX", 16))),
        bridge=has_bridge(taken),
        loop=taken.get("BANDSTAND_LOOP") or "auto",
        lifespan=taken.get("BANDSTAND_LIFESPAN") or "auto",
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
        "secure_ssl_redirect": get("SECURE_SSL_REDIRECT", bool),
        "secure_hsts_seconds": get("SECURE_HSTS_SECONDS", int),
        "data_upload_max_memory_size": get("DATA_UPLOAD_MAX_MEMORY_SIZE", int),
        "storage": storages.get("staticfiles", {}).get("BACKEND") or get("STATICFILES_STORAGE"),
        "default_storage": storages.get("default", {}).get("BACKEND") or get("DEFAULT_FILE_STORAGE"),
    }


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
