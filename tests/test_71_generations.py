"""Reloads: a new generation of code and settings serves when all of it can, or nothing has changed.

docs/decisions/0006-generations.md. Every test has a folder with a `bandstand.toml` and a program of its own, changes them
and reloads; where order matters, gates say who comes first.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

import project
from client import DEADLINE, Wire, eventually, request
from server import BINARY, alive, environment

sys.path.insert(0, str(Path(__file__).resolve().parent / "chaos"))

from load import Steady  # noqa: E402

NOTHING_SAID = {"bind": None, "workers": None, "threads": None, "access_log": None, "log_format": None, "pythonpath": None}
"""A flag would win over the file, which is what these tests change."""
RATE = 100

WSGI = '''
import os
import threading
import time

{at_import}

def at_gate(name):
    with open(os.path.join(os.environ["GATES"], name), "rb") as gate:
        gate.read()

def app(environ, start_response):
    word, _, name = environ["PATH_INFO"][1:].partition("/")
    body = environ["wsgi.input"].read()
    if word == "gate":
        at_gate(name)
    if word == "forever":
        while True:
            time.sleep(0.01)
    if word == "order":
        with open(os.environ["SEEN"], "a") as seen:
            seen.write(name + "\\n")
    start_response(name + " Chosen" if word == "status" else "200 OK", [("Content-Type", "text/plain")])
    return [b"{version}"]
'''

ASGI = '''
VERSION = "{version}"

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        for step in ("startup", "shutdown"):
            await receive()
            await send({{"type": f"lifespan.{{step}}.complete"}})
    elif scope["type"] == "websocket":
        await receive()
        await send({{"type": "websocket.accept"}})
        while (message := await receive())["type"] == "websocket.receive":
            await send({{"type": "websocket.send", "text": VERSION + message["text"]}})
    else:
        events = scope["path"] == "/events"
        kind = b"text/event-stream" if events else b"text/plain"
        await send({{"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]}})
        await send({{"type": "http.response.body", "body": VERSION.encode(), "more_body": events}})
        while events and (await receive())["type"] != "http.disconnect":
            pass
'''

AT_GATE = 'with open(os.path.join(os.environ["GATES"], {name!r}), "rb") as gate: gate.read()'


class Site:
    """A folder with a program and a `bandstand.toml`, the server that serves it, and its orders."""

    def __init__(self, stand, text: str = "", program: str = WSGI, env: dict | None = None, **keys):
        self.stand, self.folder, self.program = stand, stand.folder, program
        self.keys = {"bind": ["127.0.0.1:0"], "workers": 2, "threads": 2, "access_log": "-", "log_format": "json"}
        self.socket = self.folder / "c.sock"
        if program:
            self.keys["app"] = "fresh:app"
            self.write(1)
        self.keys |= keys
        self.configure()
        self.server = stand.serve(None, env=env, control=self.socket, **NOTHING_SAID)

    def write(self, version, at_import: str = "") -> None:
        """The program anew; it answers with its version."""
        (self.folder / "fresh.py").write_text(self.program.format(version=version, at_import=at_import))

    def configure(self, **changes) -> None:
        """`bandstand.toml` anew; None takes a key out."""
        self.keys = {name: value for name, value in {**self.keys, **changes}.items() if value is not None}
        # Of the values here JSON is TOML.
        lines = [f"{name} = {json.dumps(value)}" for name, value in self.keys.items()]
        (self.folder / "bandstand.toml").write_text("\n".join(lines) + "\n")

    def command(self, *words: str) -> subprocess.CompletedProcess:
        command = [str(BINARY), *words, "--control", str(self.socket)]
        return subprocess.run(command, cwd=self.folder, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)

    def reload(self, status: int = 0) -> str:
        """What the command printed where it belongs: steps of one that went well, the reason of one that did not."""
        ran = self.command("reload")
        assert ran.returncode == status, ran.stdout + ran.stderr + self.server.output
        return ran.stderr if status else ran.stdout

    def status(self) -> dict:
        ran = self.command("status", "--json")
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    def says(self, target: str = "/", **kwargs) -> str:
        return self.server.get(target, **kwargs).text

    def workers(self, generation: int) -> list[dict]:
        return [worker for worker in self.status()["workers"] if worker["generation"] == generation]

    def settled(self) -> list[int]:
        """All processes of the server, once none of an older or failed generation is left."""

        def look():
            status = self.status()
            known = {worker["pid"] for worker in status["workers"]} | {(status["template"] or {}).get("pid")}
            there = {pid for pid in self.server.descendants() if alive(pid)}
            current = all(worker["generation"] == status["generation"] for worker in status["workers"])
            return sorted(there) if current and there == known - {None, 0} else None

        return eventually(look, "one generation alone")

    @contextmanager
    def nothing_changes(self):
        """Whatever happens to a generation in here, clients get the answers that they got before, and it leaves nothing."""
        before, processes = self.says(), self.settled()
        generation = self.status()["generation"]
        with Steady(self.server.port, RATE, ["/"]) as load:
            load.wait_for(10)
            yield
            load.wait_for(10)
        assert not load.faults, load.faults
        assert self.says() == before
        status = self.status()
        assert status["generation"] == generation and status["state"] == "serving"
        assert self.settled() == processes, "the same processes as before"

    def refuses(self, *words: str) -> str:
        """A reload that fails with these words, for the one who asked, in the status and in the log."""
        said = self.reload(status=1)
        error = self.status()["last_reload"]["error"]
        for word in words:
            assert word in said and word in error, f"{word!r} is missing in:\n{said}"
            self.server.wait_text(word)
        return said


@contextmanager
def reloading(site):
    """A reload under way; afterwards the value is its end."""
    ended = []
    thread = threading.Thread(target=lambda: ended.append(site.command("reload")))
    thread.start()
    try:
        yield ended
    finally:
        thread.join(60)
        assert ended, "the reload has not come to an end"


# -- code


@pytest.mark.parametrize("preload", [True, False])
def test_hup_serves_new_code_on_open_connections(stand, preload):
    site = Site(stand, preload=preload)
    with site.server.wire() as wire:
        assert wire.send(request("GET", "/before")).answer().text == "1"
        site.write(2)
        site.server.signal(signal.SIGHUP)
        site.server.wait_text("generation 2 serves")
        answer = wire.send(request("GET", "/after")).answer()
        assert answer.text == "2" and not answer.closes
    assert [site.server.wait_record(path)["generation"] for path in ("/before", "/after")] == [1, 2]
    site.settled()


def test_the_command_tells_each_step(stand):
    site = Site(stand)
    site.write(2)
    said = site.reload()
    steps = ["reading settings", "importing the project", "imported in", "(1 of 2)", "(2 of 2)", "generation 2 serves"]
    places = [said.find(step) for step in steps]
    assert -1 not in places and places == sorted(places), said
    assert site.says() == "2"


def test_one_thing_after_the_other_under_load(stand):
    """Good reloads, a bad one, and good ones again: no request fails."""
    site = Site(stand)
    with Steady(site.server.port, RATE, ["/"]) as load:
        for version in range(2, 6):
            site.write(version, at_import="import nothing_of_that_name" if version == 4 else "")
            site.reload(status=int(version == 4))
            load.wait_for(10)
            assert site.says() == str(3 if version == 4 else version)
    assert not load.faults, load.faults


def test_twenty_reloads_leave_as_much_as_one(stand):
    site = Site(stand)

    def left() -> tuple[int, int, set[int]]:
        processes = site.settled()
        count = lambda pid: len(os.listdir(f"/proc/{pid}/fd"))
        return len(processes), count(site.server.process.pid), {count(pid) for pid in processes}

    site.reload()
    after_one = left()
    for _ in range(20):
        site.reload()
    assert site.status()["generation"] == 22
    eventually(lambda: left() == after_one, f"as many processes and descriptors as after one reload: {after_one}, not {left()}")


def test_many_hangups_at_once_end_in_the_newest(stand):
    site = Site(stand)
    with Steady(site.server.port, RATE, ["/"]) as load:
        for version in range(2, 12):
            site.write(version)
            site.server.signal(signal.SIGHUP)
            load.wait_for(2)
        site.write(12)
        site.reload()
        assert site.says() == "12"
    assert not load.faults, load.faults
    site.settled()


# -- requests under way


def test_what_is_under_way_is_finished_by_the_old_generation(stand):
    site = Site(stand)
    gate = stand.gate("g")
    with site.server.wire() as wire:
        wire.send(request("GET", "/gate/g"))
        gate.reached()
        site.write(2)
        site.reload()
        assert site.says() == "2"
        [old] = eventually(lambda: left if len(left := site.workers(1)) == 1 else None, "one worker of the old generation")
        assert old["state"] == "draining" and [one["target"] for one in old["running"]] == ["/gate/g"]
        gate.open()
        answer = wire.answer()
        assert answer.text == "1" and not answer.closes
        assert wire.send(request("GET", "/next")).answer().text == "2"
    assert site.server.wait_record("/gate/g")["generation"] == 1
    site.settled()


def test_what_waits_is_given_to_the_new_generation_in_its_order(stand):
    site = Site(stand, workers=1, threads=1)
    gate = stand.gate("g")
    with ExitStack() as stack:
        wires = [stack.enter_context(site.server.wire()) for _ in range(6)]
        wires[0].send(request("GET", "/gate/g"))
        gate.reached()
        for number, wire in enumerate(wires[1:], start=1):
            wire.send(request("GET", f"/order/{number}"))
            eventually(lambda: site.status()["queue"]["length"] == number, "the request in the queue")
        site.write(2)
        site.reload()
        assert [wire.answer().text for wire in wires[1:]] == ["2"] * 5
        assert stand.seen() == ["1", "2", "3", "4", "5"]
        gate.open()
        assert wires[0].answer().text == "1"
    assert not [record for record in site.server.records() if record["status"] != 200]


def test_sockets_and_streams_stay_until_their_time(stand):
    """They are asked to leave one by one in the second half of graceful_timeout; who comes new is served by the new code."""
    sockets = pytest.importorskip("websockets.sync.client")
    from websockets.exceptions import ConnectionClosed

    grace = 4.0
    site = Site(stand, program=ASGI, interface="asgi", graceful_timeout=f"{grace:g}s")
    open_socket = lambda: sockets.connect(f"ws://127.0.0.1:{site.server.port}/", open_timeout=DEADLINE, proxy=None)
    endings: list[float] = []

    def end_of_socket(one):
        with pytest.raises(ConnectionClosed) as ending:
            one.recv(timeout=DEADLINE)
        endings.append(time.monotonic())
        return ending.value.rcvd.code

    def end_of_stream(wire):
        rest = wire.rest()
        endings.append(time.monotonic())
        return rest

    with ExitStack() as stack:
        olds = [stack.enter_context(open_socket()) for _ in range(8)]
        streams = [stack.enter_context(site.server.wire()) for _ in range(4)]
        for wire in streams:
            wire.send(request("GET", "/events", [("Connection", "close")]))
            assert wire.head().status == 200 and wire.until(b"1\r\n1\r\n")
        site.write(2)
        asked = time.monotonic()
        site.reload()
        with open_socket() as new:
            new.send(" new")
            assert new.recv(timeout=DEADLINE) == "2 new"
            for one in olds:
                one.send(" old")
                assert one.recv(timeout=DEADLINE) == "1 old"
            codes, rests = in_parallel(end_of_socket, olds), in_parallel(end_of_stream, streams)
            assert [code() for code in codes] == [1012] * 8
            assert [rest() for rest in rests] == [b"0\r\n\r\n"] * 4, "a clean end"
            new.send(" still")
            assert new.recv(timeout=DEADLINE) == "2 still"
        assert min(endings) - asked >= grace / 2
        assert max(endings) - min(endings) > grace / 40, "one after the other"
        site.settled()
    assert "SIGKILL" not in site.server.output


def in_parallel(question, subjects) -> list:
    """One thread for each; every answer is a function that waits for it."""
    answers = []
    for subject in subjects:
        held = []
        thread = threading.Thread(target=lambda subject=subject, held=held: held.append(question(subject)), daemon=True)
        thread.start()
        answers.append(lambda thread=thread, held=held: (thread.join(DEADLINE), held[0])[1])
    return answers


# -- two reloads at once


def test_the_newer_of_two_reloads_wins(stand):
    site = Site(stand)
    gate = stand.gate("import")
    site.write(2, at_import=AT_GATE.format(name="import"))
    with reloading(site) as first:
        gate.reached()
        importing = site.status()["template"]["pid"]
        site.write(3)
        second = site.reload()
        assert "generation 3 serves" in second and site.says() == "3"
    assert first[0].returncode == 1 and "a newer reload took its place" in first[0].stderr
    assert not alive(importing)
    site.settled()
    assert site.status()["last_reload"]["generation"] == 3


def test_a_newer_reload_that_cannot_be_read_leaves_the_old_generation(stand):
    site = Site(stand)
    gate = stand.gate("import")
    site.write(2, at_import=AT_GATE.format(name="import"))
    with site.nothing_changes(), reloading(site) as first:
        gate.reached()
        (site.folder / "bandstand.toml").write_text("workers = [")
        site.refuses("bandstand.toml")
    assert first[0].returncode == 1


def test_a_stop_ends_a_reload(stand):
    site = Site(stand)
    gate = stand.gate("import")
    site.write(2, at_import=AT_GATE.format(name="import"))
    with reloading(site) as ended:
        gate.reached()
        site.server.stop()
    assert ended[0].returncode == 1 and "the server is stopping" in ended[0].stderr


# -- settings


def test_limits_change(stand):
    site = Site(stand)
    assert site.server.post("/", b"x" * 2000).status == 200
    site.configure(max_body="1KB", timeout="1s")
    site.reload()
    assert site.server.post("/", b"x" * 2000).status == 413
    assert site.server.get("/forever").status == 504
    site.configure(max_body=None)
    site.reload()
    assert site.server.post("/", b"x" * 2000).status == 200


def test_the_number_of_workers_changes(stand):
    site = Site(stand)
    for wanted in (3, 3, 1):
        site.configure(workers=wanted)
        site.reload()
        status = site.status()
        assert status["wanted"] == wanted
        assert len([worker for worker in status["workers"] if worker["state"] == "ready"]) == wanted
        assert len(site.settled()) == wanted + 1


def test_the_access_log_moves_and_changes_its_form(stand):
    first, second = stand.folder / "first.log", stand.folder / "second.log"
    site = Site(stand, access_log=str(first))
    site.server.get("/one")
    eventually(lambda: first.exists() and "/one" in first.read_text(), "a record in the first")
    site.configure(access_log=str(second))
    site.reload()
    site.server.get("/two")
    eventually(lambda: second.exists() and "/two" in second.read_text(), "a record in the second")
    json.loads(second.read_text().splitlines()[0])
    site.configure(log_format="pretty")
    site.reload()
    site.server.get("/three")
    eventually(lambda: "/three" in second.read_text(), "a record in the other form")
    with pytest.raises(ValueError):
        json.loads(second.read_text().splitlines()[-1])
    assert "/two" not in first.read_text()
    # Of the log that nobody writes to any more, no file is held open.
    held = {os.readlink(one) for one in Path(f"/proc/{site.server.process.pid}/fd").iterdir() if one.exists()}
    assert str(first) not in held and str(second) in held


def test_what_django_says_changes(stand):
    """Hosts and static files are the project's own, and the environment file too."""
    project.write(stand.folder)
    (stand.folder / "my.env").write_text("GREETING=one\n")
    site = Site(stand, program="", env_file="my.env")
    assert site.says() == "django says one"
    assert site.server.get("/", host="other.example").status == 421
    assert "teal" in site.says("/assets/site.css")
    project.write(stand.folder, settings='ALLOWED_HOSTS = ["other.example"]\nSTATIC_ROOT = BASE_DIR / "elsewhere"\nSTATIC_URL = "/files/"')
    (stand.folder / "elsewhere").mkdir()
    (stand.folder / "elsewhere/site.css").write_text("body { color: plum }")
    (stand.folder / "my.env").write_text("GREETING=two\n")
    site.reload()
    assert site.says("/", host="other.example") == "django says two"
    assert site.server.get("/").status == 421
    assert "plum" in site.says("/files/site.css", host="other.example")
    assert "django says" in site.says("/assets/site.css", host="other.example")


# -- addresses


def test_addresses_come_and_go_and_stay(stand):
    site = Site(stand)
    added = stand.folder / "added.sock"
    ask = lambda wire: wire.send(request("GET", "/")).answer()
    with site.server.wire() as stays:
        assert ask(stays).text == "1"
        site.configure(bind=["127.0.0.1:0", f"unix:{added}"])
        site.reload()
        assert site.status()["addresses"] == [site.server.url, f"unix:{added}"]
        gate = stand.gate("g")
        with Wire(str(added)) as rests, Wire(str(added)) as works:
            assert ask(rests).text == "1"
            works.send(request("GET", "/gate/g"))
            gate.reached()
            site.configure(bind=["127.0.0.1:0"])
            site.reload()
            assert not added.exists()
            assert rests.closed(), "nobody is left on an address that is gone"
            gate.open()
            answer = works.answer()
            assert answer.text == "1" and answer.complete, "what was under way is answered"
            assert works.closed()
        assert site.status()["addresses"] == [site.server.url]
        assert ask(stays).text == "1", "the connection that was there first"


def test_an_address_that_overlaps_with_ones_own_is_refused(stand):
    """One socket of `:PORT` has the port on every address of the machine, `127.0.0.1` too."""
    site = Site(stand, bind=[":0"])
    port = site.server.port
    added = stand.folder / "added.sock"
    with site.nothing_changes():
        site.configure(bind=[f"unix:{added}", f"127.0.0.1:{port}"])
        said = site.refuses(f"cannot listen on 127.0.0.1:{port}: this server itself has that port")
        assert "another program" not in said, said
        assert not added.exists(), "nothing is left of those that could be bound"
    site.configure(bind=[":0"])
    site.reload()
    assert site.server.port == port and site.says() == "1"


def test_an_address_of_another_program_is_refused(stand):
    site = Site(stand)
    with socket.create_server(("127.0.0.1", 0)) as other, site.nothing_changes():
        site.configure(bind=["127.0.0.1:0", f"127.0.0.1:{other.getsockname()[1]}"])
        site.refuses("in use by another program")


@pytest.mark.parametrize(
    "text, words",
    [
        pytest.param("workers = [", ["bandstand.toml"], id="not TOML"),
        pytest.param("workerz = 2", ["bandstand.toml", "workerz", "workers"], id="a key that is none"),
        pytest.param('timeout = "soon"', ["bandstand.toml", "timeout", "soon"], id="a value that is none"),
        pytest.param('env_file = "not.there"', ["not.there"], id="a file that is not there"),
        pytest.param('access_log = "no/such/folder/a.log"', ["no/such/folder"], id="a log that cannot be opened"),
    ],
)
def test_settings_that_cannot_be_read_are_refused(stand, text, words):
    site = Site(stand)
    site.write(2)
    with site.nothing_changes():
        file = site.folder / "bandstand.toml"
        kept = [line for line in file.read_text().splitlines() if line.split()[0] != text.split()[0]]
        file.write_text("\n".join([*kept, text]))
        site.refuses(*words)
        site.server.signal(signal.SIGHUP)
        site.server.wait_line(lambda line: "reload failed" in line, "the failure of the second")
    site.configure()
    site.reload()
    assert site.says() == "2"


# -- generations that fail


@pytest.mark.parametrize(
    "at_import, words",
    [
        ("import nothing_of_that_name", ["ModuleNotFoundError", "nothing_of_that_name", "fresh.py"]),
        ("def broken(:", ["SyntaxError", "fresh.py"]),
        ("raise SystemExit(3)", ["SystemExit"]),
        ("os._exit(3)", ["status 3"]),
        ("os.kill(os.getpid(), 9)", ["SIGKILL"]),
        ("app_of_another_name = app\ndel app", ["app"]),
    ],
)
def test_a_program_that_does_not_import(stand, at_import, words):
    site = Site(stand)
    with site.nothing_changes():
        site.write(2, at_import=at_import)
        site.refuses(*words)
    site.write(3)
    site.reload()
    assert site.says() == "3", "a reload after one that failed"


@pytest.mark.parametrize("at_import, words", [("import nothing_of_that_name", "ModuleNotFoundError"), ("os._exit(3)", "status 3")])
def test_a_program_that_does_not_import_in_the_worker(stand, at_import, words):
    site = Site(stand, preload=False)
    with site.nothing_changes():
        site.write(2, at_import=at_import)
        site.refuses(words)


@pytest.mark.parametrize(
    "files, words",
    [
        (
            {
                "shelf/__init__.py": "",
                "shelf/apps.py": "from django.apps import AppConfig\nclass Shelf(AppConfig):\n    name = 'shelf'\n    def ready(self):\n        raise RuntimeError('not today')\n",
                "mysite/settings.py": "INSTALLED_APPS = ['shelf']",
            },
            ["RuntimeError: not today", "shelf/apps.py"],
        ),
        ({"mysite/views.py": "def broken(:", "mysite/urls.py": "from mysite import views"}, ["SyntaxError", "mysite/views.py"]),
        ({"mysite/settings.py": "SECRET_KEY = undefined_name"}, ["NameError", "undefined_name"]),
    ],
    ids=["ready", "view", "settings"],
)
def test_a_project_of_django_that_does_not_start(stand, files, words):
    project.write(stand.folder)
    site = Site(stand, program="")
    with site.nothing_changes():
        for name, text in files.items():
            path = stand.folder / name
            path.parent.mkdir(exist_ok=True)
            with open(path, "a") as file:
                file.write(f"\n{text}\n")
        site.refuses(*words)


def test_a_template_that_is_killed_while_it_imports(stand):
    site = Site(stand)
    gate = stand.gate("import")
    site.write(2, at_import=AT_GATE.format(name="import"))
    with site.nothing_changes():
        with reloading(site) as ended:
            gate.reached()
            template = site.status()["template"]
            assert (template["generation"], template["state"]) == (2, "importing")
            os.kill(template["pid"], signal.SIGKILL)
        assert ended[0].returncode == 1 and "SIGKILL" in ended[0].stderr
        assert "SIGKILL" in site.status()["last_reload"]["error"]


@pytest.mark.parametrize("preload", [True, False])
def test_a_worker_that_is_killed_before_its_hello(stand, preload):
    """With preload it is held back between fork and hello by a hook, without by its import."""
    site = Site(stand, preload=preload)
    gate = stand.gate("young")
    if preload:
        lines = ["import os", "def post_fork(server, worker):", "    " + AT_GATE.format(name="young")]
        (stand.folder / "young.py").write_text("\n".join(lines) + "\n")
        site.configure(hooks="young.py")
    else:
        site.write(2, at_import=AT_GATE.format(name="young"))
    with site.nothing_changes():
        with reloading(site) as ended:
            gate.reached()
            young = eventually(lambda: site.workers(2), "workers of the new generation")
            assert {worker["state"] for worker in young} == {"starting"}
            os.kill(young[0]["pid"], signal.SIGKILL)
        assert ended[0].returncode == 1 and "SIGKILL" in ended[0].stderr
        assert f"worker {young[0]['number']}" in site.status()["last_reload"]["error"]


@pytest.mark.parametrize("preload", [True, False])
def test_a_boot_that_takes_too_long(stand, preload):
    site = Site(stand, preload=preload)
    stand.gate("import")
    site.configure(boot_timeout="1s")
    site.write(2, at_import=AT_GATE.format(name="import"))
    with site.nothing_changes():
        site.refuses("after 1 s")


@pytest.mark.parametrize("code", [500, 404])
def test_a_probe_that_is_not_answered_with_200(stand, code):
    site = Site(stand)
    with site.nothing_changes():
        site.configure(ready_check=["/", f"/status/{code}"])
        site.refuses(f"/status/{code} was answered with {code}, not 200")
    site.configure(ready_check=["/"])
    site.write(2)
    assert "probing /" in site.reload()
    assert site.says() == "2"


def test_a_database_that_does_not_answer(stand):
    database = "DATABASES = {{'default': {{'ENGINE': 'django.db.backends.sqlite3', 'NAME': BASE_DIR / '{}'}}}}"
    project.write(stand.folder, settings=database.format("here.sqlite3"))
    site = Site(stand, program="", ready_check=["databases"])
    with site.nothing_changes():
        project.write(stand.folder, settings=database.format("no/such/folder/db.sqlite3"))
        site.refuses("the database 'default' does not answer", "OperationalError")


# -- what an import leaves behind


def test_threads_of_the_import_turn_the_template_off(stand):
    site = Site(stand)
    site.write(2, at_import='threading.Thread(target=threading.Event().wait, name="busybody", daemon=True).start()')
    assert "busybody" in site.reload()
    site.server.wait_text("the import left threads running")
    assert site.says() == "2" and site.status()["template"]["state"] == "none"
    site.write(3)
    site.reload()
    assert site.says() == "3" and site.status()["template"]["state"] == "ready"
    site.settled()


def test_a_database_connection_of_the_import_is_closed_and_named(stand):
    database = "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': BASE_DIR / 'here.sqlite3'}}"
    project.write(stand.folder, settings=database)
    site = Site(stand, program="")
    project.write(stand.folder, settings=database, urls="from django.db import connection\nconnection.ensure_connection()")
    site.reload()
    site.server.wait_text("the database connection 'default' was opened while the project was imported")
    assert site.says() == "django says hello"
    held = [os.readlink(one) for pid in site.settled() for one in Path(f"/proc/{pid}/fd").iterdir()]
    assert not [name for name in held if "here.sqlite3" in name]
