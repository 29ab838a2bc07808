"""A worker process: import the app, hand it to the native half, leave when the edge says so.

Started by the edge as ``PYTHON -m bandstand.worker`` in the project's folder. What it needs to know comes in
``BANDSTAND_*`` variables, which are taken out of the environment before the app is imported. All serving is in
``bandstand._worker``; this file knows how projects are found and what their settings say.
"""

import ast
import atexit
import faulthandler
import gc
import importlib
import inspect
import json
import os
import platform
import signal
import sys
import traceback

from bandstand import _worker


def main():
    taken = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("BANDSTAND_")}
    channel, board = int(taken["BANDSTAND_CHANNEL_FD"]), int(taken["BANDSTAND_BOARD_FD"])
    threads, multiprocess = int(taken["BANDSTAND_THREADS"]), taken["BANDSTAND_MULTIPROCESS"] == "1"
    target = taken.get("BANDSTAND_APP")
    prepare_process(taken.get("BANDSTAND_PYTHONPATH", ""))
    try:
        app, name = load_target(target) if target else load_django()
        project = json.dumps(describe(name))
    except BaseException as error:  # SystemExit too: whatever keeps the app from being imported is told to the edge
        _worker.fail(channel, explain(error))
        return 1
    hold_signals()
    # What the import made lives as long as the process; the collector need not look at it again.
    gc.collect()
    gc.freeze()
    try:
        _worker.serve(app, channel, board, threads, multiprocess, project)
    except Exception as error:
        print(f"bandstand: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


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


def load_target(target):
    """``module:attr``, ``module:factory("argument")`` or ``module``, which means its ``application`` or ``app``."""
    module_name, _, expression = target.partition(":")
    module = importlib.import_module(module_name)
    if not expression:
        expression = next((name for name in ("application", "app") if hasattr(module, name)), "application")
    app = evaluate(module, ast.parse(expression, mode="eval").body, expression)
    if not callable(app):
        raise TypeError(f"{target} is {app!r}, which cannot be called")
    if inspect.iscoroutinefunction(app) or inspect.iscoroutinefunction(getattr(app, "__call__", None)):
        raise TypeError(f"{target} is an ASGI application; this version of bandstand serves WSGI, ASGI comes later")
    return app, f"{module_name}:{expression}"


def evaluate(module, node, expression):
    """A name, dotted or not, or a call of one with literal arguments."""
    if isinstance(node, ast.Name):
        return getattr(module, node.id)
    if isinstance(node, ast.Attribute):
        return getattr(evaluate(module, node.value, expression), node.attr)
    if isinstance(node, ast.Call) and all(keyword.arg for keyword in node.keywords):
        factory = evaluate(module, node.func, expression)
        try:
            arguments = [ast.literal_eval(argument) for argument in node.args]
            named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
        except ValueError:
            raise ValueError(f"the arguments in {expression!r} must be literals, such as 1, 'text' or True") from None
        return factory(*arguments, **named)
    raise ValueError(f"{expression!r} is neither a name nor a call of one with literal arguments")


def load_django():
    import django.conf

    django.setup()
    dotted = getattr(django.conf.settings, "WSGI_APPLICATION", None)
    return load_target(":".join(dotted.rsplit(".", 1)) if dotted else "django.core.wsgi:get_wsgi_application()")


def describe(name):
    """What the edge is told about the project: its hello."""
    conf = sys.modules.get("django.conf")
    return {
        "interpreter": platform.python_version(),
        "implementation": platform.python_implementation(),
        "app": name,
        "kind": "wsgi",
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
    frames = [f for f in report.stack if f.filename not in (__file__, importlib.__file__) and "<frozen" not in f.filename]
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
