"""``python -m bandstand.worker --gunicorn FILE``: what a ``gunicorn.conf.py`` says, as JSON on stdout.

Owns running the file as gunicorn does (a module named ``__config__``, the project's folder on ``sys.path``) and telling
its names apart: plain values, hooks, and objects that cannot be told. What a setting means here is a table of the
program's (crates/config). On stdout there is one JSON object and nothing else; a file that cannot be run has its
traceback in ``failed``. Source: gunicorn's ``app/base.py`` and ``config.py``, versions 20 to 27.
"""

import ast
import importlib.util
import json
import os
import signal
import sys
import traceback
import types

from bandstand import forking

#: Gunicorn's hooks, with the number of their arguments.
HOOKS = {
    "on_starting": 1,
    "on_reload": 1,
    "when_ready": 1,
    "pre_fork": 2,
    "post_fork": 2,
    "post_worker_init": 1,
    "worker_int": 1,
    "worker_abort": 1,
    "pre_exec": 1,
    "pre_request": 2,
    "post_request": 4,
    "child_exit": 2,
    "worker_exit": 2,
    "nworkers_changed": 3,
    "on_exit": 1,
}


def main(arguments):
    if len(arguments) != 2:
        print("usage: python -m bandstand.worker --gunicorn FILE", file=sys.stderr)
        return 2
    # The file is the user's own code, and may wait for ever: the server that asks for it does not.
    if forking.LIBC is not None:
        forking.LIBC.prctl(forking.PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    out = os.dup(1)
    os.dup2(2, 1)
    sys.stdout.flush()
    try:
        said = read(arguments[1])
    except BaseException as error:  # SystemExit too
        said = {"failed": explain(error)}
    sys.stdout.flush()
    with os.fdopen(out, "w", encoding="utf-8") as stdout:
        json.dump(said, stdout)
        stdout.write("\n")
    return 1 if "failed" in said else 0


def execute(path):
    """The module that the file makes."""
    path = os.path.abspath(path)
    # Gunicorn has its own folder there, by chance; a file in `deploy/` that imports its neighbour is meant to work.
    folder = os.path.dirname(path)
    if folder not in sys.path:
        sys.path.append(folder)
    spec = importlib.util.spec_from_file_location("__config__", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["__config__"] = module
    spec.loader.exec_module(module)
    return module


def read(path):
    """``settings``: name to plain value; ``hooks``: names; ``objects``: name to what it is; ``lines``: name to line, from 1."""
    said = {"settings": {}, "hooks": [], "objects": {}}
    for name, value in vars(execute(path)).items():
        if name.startswith("_") or isinstance(value, types.ModuleType):
            continue
        if name in HOOKS:
            if value is not None:
                said["hooks"].append(name)
            continue
        try:
            said["settings"][name] = plain(value)
        except TypeError:
            said["objects"][name] = describe(value)
    with open(path, encoding="utf-8") as file:
        said["lines"] = lines(file.read())
    return said


def plain(value):
    """The value as JSON has it; TypeError for what is no value."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise TypeError("no number")
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape").encode("utf-8", "replace").decode()
    if isinstance(value, os.PathLike):
        return plain(os.fspath(value))
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item) for item in value), key=str)
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    raise TypeError(f"{value!r} is not plain")


def describe(value):
    """A class or function by its dotted path, so that ``worker_class`` can be given as a class."""
    name = getattr(value, "__qualname__", None)
    if name is None:
        return f"an instance of {type(value).__module__}.{type(value).__qualname__}"
    return f"{getattr(value, '__module__', '')}.{name}"


def lines(source):
    """The last line at which each name is set or defined at the top of the file."""
    found = {}
    for node in walk(ast.parse(source)):
        targets = []
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, (ast.AnnAssign, ast.AugAssign)):
            targets = [node.target]
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found[node.name] = node.lineno
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                found[alias.asname or alias.name] = node.lineno
        for target in targets:
            for name in getattr(target, "elts", [target]):
                if isinstance(name, ast.Name):
                    found[name.id] = node.lineno
    return found


def walk(node):
    """Statements of the module itself, those in its ``if`` and ``try`` included, in order."""
    for field in ("body", "handlers", "orelse", "finalbody"):
        for child in getattr(node, field, ()):
            yield child
            if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                yield from walk(child)


def explain(error):
    """The traceback without the frames of this package and of the import system."""
    report = traceback.TracebackException.from_exception(error)
    ours = (os.path.dirname(__file__), os.path.dirname(importlib.util.__file__))
    frames = [f for f in report.stack if os.path.dirname(f.filename) not in ours and "<frozen" not in f.filename]
    report.stack = traceback.StackSummary.from_list(frames)
    return "".join(report.format() if frames else report.format_exception_only())
