"""Hooks by gunicorn's names: found, called where gunicorn calls them, and what happens when one raises."""

import asyncio
import gc
import json
import os
import signal
import sys
import textwrap
import threading
import weakref
from types import SimpleNamespace

import pytest
from scripted_edge import PACKAGE, PATIENCE
from scripted_supervisor import Supervisor, become_subreaper

sys.path.insert(0, PACKAGE)
from bandstand import hooks as subject  # noqa: E402

APP = """
import os
def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/raise":
        raise KeyError("app")
    start_response("200 OK", [("x-path", path)])
    if path == "/file":
        return environ["wsgi.file_wrapper"](open(__file__, "rb"))
    if path == "/parts":
        return (part for part in (b"a", b"b"))
    if path == "/early":
        environ["wsgi.early_hints"]([("link", "</x>")])
    if path == "/gate":
        open(environ["QUERY_STRING"]).read()
    return [str(os.getpid()).encode()]
"""

NOTING = """
import json
def note(name, *values):
    with open("notes", "a") as notes:
        notes.write(json.dumps([name, *values]) + "\\n")
"""

ALL = (
    NOTING
    + """
def on_starting(server): note("on_starting", server.pid, server.num_workers, server.address)
def when_ready(server): note("when_ready", sorted(server.WORKERS))
def on_reload(server): note("on_reload")
def pre_exec(server): note("pre_exec")
def on_exit(server): note("on_exit")
def nworkers_changed(server, new, old): note("nworkers_changed", new, old, server.num_workers)
def child_exit(server, worker): note("child_exit", worker.pid, worker.age, sorted(server.WORKERS))
def pre_fork(server, worker): note("pre_fork", worker.age, worker.pid)
def post_fork(server, worker):
    note("post_fork", worker.age, worker.pid, worker.ppid, worker.cfg.timeout)
    worker.log.info("Worker spawned (pid: %s)", worker.pid)
def post_worker_init(worker): note("post_worker_init", worker.booted)
def worker_exit(server, worker): note("worker_exit", worker.pid, worker.nr)
def pre_request(worker, req):
    note("pre_request", req.method, req.path, req.uri, req.query, req.remote_addr, dict(req.headers)["X-ONE"])
    req.mine = 1
def post_request(worker, req, environ, resp):
    note("post_request", req.mine, environ["PATH_INFO"], resp.status, resp.status_code, resp.headers, resp.sent)
"""
)


def notes(folder):
    path = folder / "notes"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture(autouse=True, scope="module")
def subreaper():
    become_subreaper()


@pytest.fixture
def template(tmp_path):
    made = []

    def start(source, value="my_hooks", app=APP, ready=True, cfg=None):
        (tmp_path / "my_hooks.py").write_text(textwrap.dedent(source))
        env = {"BANDSTAND_HOOKS": value, "BANDSTAND_HOOKS_CFG": json.dumps(cfg or {})}
        supervisor = Supervisor(tmp_path, app, env=env)
        made.append(supervisor)
        if ready:
            supervisor.expect("ready")
        return supervisor

    yield start
    for supervisor in made:
        supervisor.close()


def ordered(supervisor, name, **details):
    supervisor.send({"order": "hook", "name": name, **details})


CFG = {"timeout": 30, "workers": 2, "bind": ["127.0.0.1:8000", "[::1]:8001", "unix:/run/x"], "loglevel": "info"}


def test_the_life_of_a_server(template, tmp_path):
    supervisor = template(ALL, cfg=CFG)
    address = [["127.0.0.1", 8000], ["::1", 8001], "/run/x"]
    assert notes(tmp_path) == [["on_starting", os.getpid(), 2, address]]
    worker = supervisor.fork()
    ordered(supervisor, "when_ready")
    ordered(supervisor, "nworkers_changed", new=3, old=2)
    ordered(supervisor, "on_reload")
    ordered(supervisor, "pre_exec")
    other = supervisor.fork()
    for one in (worker, other):
        assert one.stop() == 0
        ordered(supervisor, "child_exit", pid=one.pid, age=one.number)
    ordered(supervisor, "child_exit", pid=1, age=77)
    ordered(supervisor, "on_exit")
    assert supervisor.stop() == 0
    said = notes(tmp_path)
    template_said = [note for note in said if note[0] not in ("post_fork", "post_worker_init", "worker_exit")]
    assert template_said[1:] == [
        ["pre_fork", 1, "[booting]"],
        ["when_ready", [worker.pid]],
        ["nworkers_changed", 3, 2, 3],
        ["on_reload"],
        ["pre_exec"],
        ["pre_fork", 2, "[booting]"],
        ["child_exit", worker.pid, 1, [other.pid]],
        ["child_exit", other.pid, 2, []],
        ["child_exit", 1, 77, []],
        ["on_exit"],
    ]
    for one in (worker, other):
        mine = [note for note in said if note not in template_said and (one.pid in note or note[0] == "post_worker_init")]
        assert ["post_fork", one.number, one.pid, os.getpid(), 30] in mine
        assert ["worker_exit", one.pid, 0] in mine
        assert f"[INFO] Worker spawned (pid: {one.pid})\n" in one.stderr()
    assert said.count(["post_worker_init", True]) == 2


def test_requests_pass_between_the_two_hooks(template, tmp_path):
    worker = template(ALL, cfg=CFG).fork()
    for path in ("/", "/parts", "/file", "/early"):
        answer = worker.get(path, raw_path=path, query=b"a=b", fields=[("x-one", "1")])
        assert answer.status == 200, path
        # The edge reads the file by itself: nothing stands between.
        assert (answer.descriptor is not None) == (path == "/file")
        if path == "/":
            assert answer.body_length == len(answer.body), "a list of one is still known by its length"
        if path == "/early":
            assert len(answer.interim) == 1
    assert worker.get("/raise", fields=[("x-one", "1")]).status == 500
    assert worker.stop() == 0
    said = [note for note in notes(tmp_path) if note[0].endswith("request")]
    for path in ("/", "/parts", "/file", "/early"):
        assert said.pop(0) == ["pre_request", "GET", path, f"{path}?a=b", "a=b", "192.0.2.7", "1"]
        assert said.pop(0) == ["post_request", 1, path, "200 OK", 200, [["x-path", path]], None]
    assert [said[0][:2], said[1]] == [["pre_request", "GET"], ["post_request", 1, "/raise", None, None, [], None]]
    assert ["worker_exit", worker.pid, 5] in notes(tmp_path)


def test_a_worker_without_a_template_has_its_own_hooks(worker, tmp_path):
    folder = tmp_path / "0"
    env = {"BANDSTAND_HOOKS": str(tmp_path / "gunicorn.conf.py"), "BANDSTAND_HOOKS_CFG": json.dumps(CFG)}
    (tmp_path / "gunicorn.conf.py").write_text(ALL)
    edge = worker(APP, env=env)
    assert edge.get("/", fields=[("x-one", "1")]).status == 200
    assert edge.stop() == 0
    assert [note[0] for note in notes(folder)] == [
        "post_fork",
        "post_worker_init",
        "pre_request",
        "post_request",
        "worker_exit",
    ]
    assert notes(folder)[0] == ["post_fork", 1, edge.process.pid, os.getpid(), 30]


# What raises


@pytest.mark.parametrize("source", ["1/0", "def on_starting(server): 1/0", "def on_starting(server, more): pass"])
def test_a_template_whose_hooks_fail_does_not_start(template, source):
    failure = template(source, ready=False).expect("failed")["traceback"]
    wanted = "TypeError: on_starting must take 1 argument" if "more" in source else "ZeroDivisionError"
    assert failure.startswith(wanted)


@pytest.mark.parametrize("hook", ["post_fork(server, worker)", "post_worker_init(worker)"])
def test_a_worker_whose_first_hooks_fail_does_not_start(template, hook):
    worker = template(f"def {hook}: 1/0").fork(hello=False)
    failure = worker.failure()
    assert failure.startswith("ZeroDivisionError") and "my_hooks.py" in failure


def test_other_exceptions_are_logged_and_forgotten(template, tmp_path):
    names = ("when_ready(server)", "pre_fork(server, worker)", "child_exit(server, worker)", "on_exit(server)")
    names += ("worker_exit(server, worker)", "post_request(worker, req)", "nworkers_changed(server, new, old)")
    supervisor = template("".join(f"def {name}: raise SystemExit(7)\n" for name in names))
    worker = supervisor.fork()
    ordered(supervisor, "when_ready")
    ordered(supervisor, "nworkers_changed", new="x", old=None)
    ordered(supervisor, "child_exit", pid="x")
    ordered(supervisor, "on_nothing")
    assert worker.get("/").status == 200
    assert worker.stop() == 0
    ordered(supervisor, "on_exit")
    assert supervisor.stop() == 0
    for name in ("when_ready", "pre_fork", "child_exit", "on_exit", "nworkers_changed"):
        assert f"[ERROR] exception in the hook {name}\nTraceback" in supervisor.stderr()
    for name in ("worker_exit", "post_request"):
        assert f"[ERROR] exception in the hook {name}\nTraceback" in worker.stderr()


def test_a_pre_request_that_raises_fails_its_request(template, tmp_path):
    source = NOTING + "def pre_request(worker, req): assert req.path != '/no'\n"
    source += "def post_request(worker, req, environ): note(environ['PATH_INFO'])\n"
    worker = template(source).fork()
    assert worker.get("/no").failed
    assert worker.get("/").status == 200
    assert worker.stop() == 0
    assert notes(tmp_path) == [["/no"], ["/"]] and "AssertionError" in worker.stderr()


# Signals and time


def test_a_request_over_its_time_is_told_to_worker_abort(template, tmp_path, gate):
    source = NOTING + "def worker_abort(worker): note('worker_abort', worker.pid)"
    worker = template(source).fork()
    late = worker.request(path="/gate", query=gate.path.encode())
    while not gate.is_reached():
        pass
    # It is past the gate or about to be; a guard that finds nothing calls nothing.
    told = worker.interrupt(late)
    worker.answer(late)
    assert worker.stop() == 0
    assert notes(tmp_path) == ([["worker_abort", worker.pid]] if told["found"] else [])


def test_worker_abort_is_not_called_while_it_runs():
    found = subject.Hooks({}, None, 1)
    begun, gate = [], threading.Event()

    def abort(worker):
        begun.append(worker)
        gate.wait()

    found.functions["worker_abort"] = abort
    for _ in range(3):
        found.worker_abort(0.001)
    gate.set()
    found.aborting.join()
    assert begun == [None]
    found.worker_abort(1)
    assert begun == [None, None]


def test_worker_int_by_signal(template, tmp_path):
    source = "import os, signal\ndef post_worker_init(worker): os.kill(worker.pid, signal.SIGINT)\n"
    source += NOTING + "def worker_int(worker): note('worker_int', worker.pid)"
    worker = template(source).fork()
    assert worker.get("/").status == 200
    assert worker.stop() == 0
    assert notes(tmp_path) == [["worker_int", worker.pid]]


# In this process


def module(name, tmp_path, text):
    path = tmp_path / f"{name}.py"
    path.write_text(text)
    return str(path)


def test_a_module_without_hooks_is_said(tmp_path, capsys):
    assert subject.load(module("none", tmp_path, "workers = 3")) is None
    assert "defines none of the hooks: on_starting, " in capsys.readouterr().err
    assert subject.from_environment({}) is None
    assert subject.from_environment({"BANDSTAND_HOOKS": ""}) is None


def test_hooks_by_dotted_path_and_by_class(tmp_path):
    text = "class Hook:\n    def __call__(self, server): server.seen = True\nwhen_ready = Hook()\non_exit = 'os.path.basename'\n"
    found = subject.load(module("odd", tmp_path, text), pid=5)
    found.call({"name": "when_ready"})
    assert found.server.seen and found.functions["on_exit"] is os.path.basename and found.server.pid == 5
    for wrong in ("on_exit = 3", "on_exit = 'nothing'", "def pre_fork(server): pass", "def post_request(worker): pass"):
        with pytest.raises(TypeError):
            subject.load(module("wrong", tmp_path, wrong))


def test_cfg_knows_settings_then_the_file_and_nothing_else(tmp_path):
    found = subject.load(module("conf", tmp_path, "proc_name = 'shop'\ntimeout = 5\ndef on_exit(server): pass"), {"timeout": 7})
    assert (found.server.cfg.timeout, found.server.cfg.proc_name) == (7, "shop")
    with pytest.raises(AttributeError):
        found.server.cfg.nothing


def test_an_asgi_app_between_the_two_hooks(tmp_path):
    found = subject.load(module("conf", tmp_path, "def on_exit(server): pass"))
    found.worker = subject.Worker(1, found.server)
    said = []
    found.functions |= {
        "pre_request": lambda worker, req: said.append((req.method, req.uri, req.version, req.headers)),
        "post_request": lambda worker, req, environ, resp: said.append((environ["PATH_INFO"], resp.status_code, resp.headers)),
    }
    sent = []

    async def app(scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 201, "headers": [(b"a", b"b")]})
            await send({"type": "http.response.body", "body": b"x"})
        else:
            sent.append(scope["type"])

    async def send(message):
        sent.append(message["type"])

    scope = {"type": "http", "method": "PUT", "path": "/shop/ü", "raw_path": b"/shop/%C3%BC", "root_path": "/shop"}
    scope |= {"query_string": b"q", "http_version": "2", "headers": [(b"host", b"h"), (b"x-a", b"1"), (b"x-a", b"2")]}
    wrapped = subject.wrap_asgi(found, app)
    asyncio.run(wrapped(scope, None, send))
    assert said == [("PUT", "/shop/%C3%BC?q", (2, 0), [("HOST", "h"), ("X-A", "1,2")]), ("/ü", 201, [("a", "b")])]
    asyncio.run(wrapped({"type": "lifespan"}, None, send))
    assert sent == ["http.response.start", "http.response.body", "lifespan"] and len(said) == 2


def test_without_request_hooks_the_apps_are_what_they_were(tmp_path):
    found = subject.load(module("conf", tmp_path, "def on_exit(server): pass"))
    apps = SimpleNamespace(wsgi=print, asgi=None)
    assert found.wrap(apps) is apps


def test_an_answer_that_was_closed_does_not_keep_itself_alive():
    class Answer:
        def close(self):
            pass

    gc.disable()
    try:
        answer = subject.closing(Answer(), lambda: None, None)
        answer.close()
        seen = weakref.ref(answer)
        del answer
        assert seen() is None
    finally:
        gc.enable()


def test_an_answer_is_closed_once_and_stays_what_it_is():
    class Answer(list):
        closed = 0

        def close(self):
            self.closed += 1

    ended = []
    answer = Answer([b"a"])
    assert subject.closing(answer, lambda: ended.append(1), None) is answer
    answer.close()
    answer.close()
    assert (answer.closed, ended) == (2, [1])
    parts = [b"a", b"b"]
    assert subject.closing(parts, lambda: ended.append(2), None) is parts and ended == [1, 2]
    generator = (part for part in (b"a",))
    stream = subject.closing(generator, lambda: ended.append(3), None)
    assert list(stream) == [b"a"]
    stream.close()
    assert ended == [1, 2, 3]
