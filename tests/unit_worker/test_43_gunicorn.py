"""`python -m bandstand.worker --gunicorn FILE`: what a gunicorn.conf.py says, as real files that a real interpreter runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from scripted_edge import PACKAGE

NAMES = Path(__file__).resolve().parents[2] / "crates/config/tests/golden/gunicorn-names.txt"


def run(folder, text, name="gunicorn.conf.py", env=None):
    """`(exit status, answer, stderr)`."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("BANDSTAND_", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-m", "bandstand.worker", "--gunicorn", str(path)],
        cwd=folder,
        env={**inherited, "PYTHONPATH": PACKAGE, **(env or {})},
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done.returncode, json.loads(done.stdout), done.stderr


MANY = '''\
import multiprocessing, os
from pathlib import Path
from logging import Formatter

bind = ["0.0.0.0:8000", "unix:/run/shop.sock"]
workers = 2 * 3 + 1
if workers > 3:
    timeout = 60
    loglevel = "info"
loglevel = "debug"
keepalive, backlog = 5, 64
chdir: str = os.environ["WHERE"]
pidfile = Path("/run") / "x.pid"
raw_env = ("A=1", "B=2")
forwarded_allow_ips = {"10.0.0.2", "10.0.0.1"}
accesslog = None
preload_app = True
logconfig_dict = {"version": 1, "formatters": {"x": {"()": Formatter}}}
secure_scheme_headers = {"X-FORWARDED-PROTO": "https"}
worker_class = Formatter
limit = float("nan")
_private = 3
print("a word from the file")

def post_fork(server, worker):
    pass

def helper(x):
    return x

when_ready = "package.module.function"
on_exit = None
'''


def test_settings_hooks_objects_and_lines(tmp_path):
    status, said, stderr = run(tmp_path, MANY, env={"WHERE": "/srv/shop"})
    assert status == 0
    assert said["settings"] == {
        "bind": ["0.0.0.0:8000", "unix:/run/shop.sock"],
        "workers": 7,
        "timeout": 60,
        "loglevel": "debug",
        "keepalive": 5,
        "backlog": 64,
        "chdir": "/srv/shop",
        "pidfile": "/run/x.pid",
        "raw_env": ["A=1", "B=2"],
        "forwarded_allow_ips": ["10.0.0.1", "10.0.0.2"],
        "accesslog": None,
        "preload_app": True,
        "secure_scheme_headers": {"X-FORWARDED-PROTO": "https"},
    }
    assert said["hooks"] == ["post_fork", "when_ready"]
    assert said["objects"]["worker_class"] == "logging.Formatter"
    assert said["objects"]["helper"] == "__config__.helper"
    assert set(said["objects"]) == {"Path", "Formatter", "logconfig_dict", "worker_class", "limit", "helper"}
    lines = MANY.splitlines()
    for name in ("bind", "workers", "timeout", "loglevel", "keepalive", "backlog", "chdir", "post_fork", "when_ready"):
        assert name in lines[said["lines"][name] - 1], name
    assert said["lines"]["loglevel"] == lines.index('loglevel = "debug"') + 1, "the last one counts"
    assert stderr == "a word from the file\n", "stdout is for the answer alone"


def test_the_project_and_the_files_own_folder_can_be_imported(tmp_path):
    (tmp_path / "beside_project.py").write_text("workers = 3")
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy/beside_file.py").write_text("threads = 4")
    text = "from beside_project import *\nfrom beside_file import threads\nhere = __file__\nname = __name__"
    status, said, _ = run(tmp_path, text, "deploy/gunicorn.conf.py")
    here = str(tmp_path / "deploy/gunicorn.conf.py")
    assert (status, said["settings"]) == (0, {"workers": 3, "threads": 4, "here": here, "name": "__config__"})
    assert said["lines"]["threads"] == 2 and "workers" not in said["lines"]


@pytest.mark.parametrize(
    "text, ending",
    [
        ("workers = 2\nthreads = missing", "NameError: name 'missing' is not defined"),
        ("def broken(:\n    pass", "SyntaxError: "),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import gone", "ModuleNotFoundError: No module named 'gone'"),
    ],
)
def test_a_file_that_cannot_be_run_has_its_traceback(tmp_path, text, ending):
    status, said, _ = run(tmp_path, text)
    assert status == 1 and set(said) == {"failed"}
    assert said["failed"].splitlines()[-1].startswith(ending)
    assert f'File "{tmp_path}/gunicorn.conf.py", line {len(text.splitlines()) if "missing" in text else 1}' in said["failed"]
    assert "bandstand/gunicorn.py" not in said["failed"] and "importlib" not in said["failed"]


def test_a_file_that_is_gone(tmp_path):
    (tmp_path / "x").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "bandstand.worker", "--gunicorn", "gone.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": PACKAGE},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 1 and "FileNotFoundError" in json.loads(done.stdout)["failed"]


def test_the_committed_names_are_gunicorns_own():
    """The Rust table is compared with the same list."""
    config = pytest.importorskip("gunicorn.config")
    assert sorted(setting.name for setting in config.KNOWN_SETTINGS) == NAMES.read_text().split()


def test_every_hook_of_gunicorn_is_known():
    sys.path.insert(0, PACKAGE)
    try:
        from bandstand.gunicorn import HOOKS
    finally:
        sys.path.remove(PACKAGE)
    assert set(HOOKS) < set(NAMES.read_text().split())
    config = pytest.importorskip("gunicorn.config")
    theirs = {s.name for s in config.KNOWN_SETTINGS if s.section == "Server Hooks"} - {"ssl_context"}
    assert set(HOOKS) == theirs
