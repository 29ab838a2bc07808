"""What is around the server: systemd, upgrades in place, process 1 of a container, and hooks of gunicorn's.

The service manager is a datagram socket of the test's own: it hears what systemd would hear (sd_notify(3)), keeps the
descriptors it is given, and hands them to the next start as systemd does (sd_listen_fds(3)).
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from websockets.sync.client import connect

from client import DEADLINE, Wire, eventually, request
from server import READY_DEADLINE, Server, _children, alive
from test_73_control import command

APP = '''
import json, os, subprocess

def app(environ, start_response):
    kind, _, rest = environ["PATH_INFO"][1:].partition("/")
    if kind == "gate":
        with open(os.path.join(os.environ["GATES"], rest)) as gate:
            gate.read()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [{{"environ": lambda: json.dumps(dict(os.environ)), "orphan": orphan, "kill": lambda: str(os.kill(int(rest), 9)),
             "exists": lambda: str(os.path.exists("/proc/" + rest))}}.get(kind, lambda: "{version} " + str(os.getpid()))().encode()]

def orphan():
    """The process id of one that has no parent here any more."""
    return subprocess.run("sleep 1000 >/dev/null 2>&1 & echo $!", shell=True, capture_output=True, text=True).stdout
'''


def write_app(folder: Path, version=1) -> None:
    (folder / "site_in_service.py").write_text(APP.format(version=version))


def break_app(folder: Path) -> None:
    (folder / "site_in_service.py").write_text("import no_module_of_this_name\n")


# -- the service manager


class Manager:
    """The end of NOTIFY_SOCKET."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="manager-")  # a socket's path must be short
        self.path = f"{self._folder.name}/notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(READY_DEADLINE)
        self.heard: list[dict] = []
        #: Name to descriptor.
        self.stored: dict[str, int] = {}

    def hear(self) -> dict:
        """The next message: its lines by name."""
        data, descriptors, _, _ = socket.recv_fds(self._socket, 65536, 8)
        message = dict(line.split("=", 1) for line in data.decode().splitlines())
        self.heard.append(message)
        if message.get("FDSTORE") == "1":
            [self.stored[message["FDNAME"]]] = descriptors
        if message.get("FDSTOREREMOVE") == "1":
            os.close(self.stored.pop(message["FDNAME"]))
        return message

    def wait(self, *names: str) -> dict:
        """The next message that says all of these."""
        while not set(names) <= set(message := self.hear()):
            pass
        return message

    def launch(self, **variables: str) -> list[str]:
        """Words before a command: it is started with what systemd puts into its environment, its own process id and
        the stored descriptors included."""
        words = [sys.executable, "-c", LAUNCHER, str(len(self.stored))]
        variables = {"NOTIFY_SOCKET": self.path, **variables}
        names = ":".join(self.stored)
        return [*words, *map(str, self.stored.values()), names, *(f"{name}={value}" for name, value in variables.items()), "--"]

    def close(self) -> None:
        self._socket.close()
        for descriptor in self.stored.values():
            os.close(descriptor)
        self._folder.cleanup()


LAUNCHER = """
import fcntl, os, sys
count, words = int(sys.argv[1]), sys.argv[2:]
given, names, words = [int(word) for word in words[:count]], words[count], words[count + 1:]
copies = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 100) for number in given]
for number in given:
    os.close(number)
for place, number in enumerate(copies):
    os.dup2(number, 3 + place)
end = words.index("--")
os.environ.update(word.split("=", 1) for word in words[:end])
if count:
    os.environ.update(LISTEN_FDS=str(count), LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES=names)
if "WATCHDOG_USEC" in os.environ:
    os.environ["WATCHDOG_PID"] = str(os.getpid())
os.execv(words[end + 1], words[end + 1:])
"""


@pytest.fixture
def manager():
    manager = Manager()
    yield manager
    manager.close()


@pytest.fixture
def serve(stand, manager):
    """Starts the app of this file under the manager."""
    write_app(stand.folder)

    def start(variables=None, **settings):
        settings = {"workers": 1, "pythonpath": stand.folder, **settings}
        return stand.serve("site_in_service:app", wrap=manager.launch(**(variables or {})), **settings)

    return start


def test_ready_is_the_ready_line(serve, manager):
    server = serve()
    told = manager.wait("READY")
    assert told["READY"] == "1"
    assert server.wait_text("bandstand: ready on ") == f"bandstand: {told['STATUS']}"
    assert not any("STOPPING" in message or "RELOADING" in message for message in manager.heard)


def test_a_slow_start_asks_for_time(serve, manager):
    serve(boot_timeout="90s")
    manager.wait("READY")
    assert manager.heard[0] == {"EXTEND_TIMEOUT_USEC": "90000000"}


def test_a_reload_begins_and_ends(serve, manager, stand):
    server = serve()
    manager.wait("READY")
    for break_it, status in [(False, "generation 2 serves"), (True, "the last reload failed"), (False, "generation 4 serves")]:
        (break_app if break_it else write_app)(stand.folder)
        before = time.monotonic_ns() // 1000
        server.signal(signal.SIGHUP)
        began = manager.wait("RELOADING")
        assert began["RELOADING"] == "1"
        assert before <= int(began["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
        assert manager.wait("READY")["STATUS"].startswith(status)
    assert server.get().status == 200


def test_stopping_is_said_before_the_end(serve, manager, stand):
    server = serve()
    gate = stand.gate("g")
    with server.wire() as wire:
        wire.send(request("GET", "/gate/g"))
        gate.reached()
        server.signal(signal.SIGTERM)
        assert manager.wait("STOPPING")["STOPPING"] == "1"
        assert server.process.poll() is None
        gate.open()
        assert wire.answer().status == 200
    assert server.exit_status() == 0


def test_a_sign_of_life_again_and_again(serve, manager):
    serve({"WATCHDOG_USEC": "200000"})
    for _ in range(3):
        assert manager.wait("WATCHDOG") == {"WATCHDOG": "1"}


OF_THE_MANAGER = ["NOTIFY_SOCKET", "FDSTORE", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "MAINPID"]


@pytest.mark.parametrize("preload", ["on", "off"])
def test_workers_know_nothing_of_the_manager(serve, manager, preload):
    told = {"FDSTORE": "16", "WATCHDOG_USEC": "60000000", "MAINPID": "1", "OF_THE_USER": "kept"}
    environ = serve(told, preload=preload).get("/environ").json()
    assert environ["OF_THE_USER"] == "kept"
    assert [name for name in environ if name in OF_THE_MANAGER or name.startswith(("BANDSTAND_", "HEIR_"))] == []


def test_sockets_wait_in_the_store_while_the_server_is_restarted(serve, manager, stand):
    path = stand.folder / "web.sock"
    settings = {"bind": ["127.0.0.1:0", f"unix:{path}"]}
    first = serve({"FDSTORE": "16"}, **settings)
    assert manager.wait("READY")
    assert sorted(manager.stored) == ["bandstand-127.0.0.1|0", f"bandstand-unix|{path}"]
    addresses = [first.address, str(path)]
    first.stop()
    waiting = [Wire(address).send(request("GET", "/")) for address in addresses]
    second = serve({"FDSTORE": "16"}, pass_fds=list(manager.stored.values()), **settings)
    assert second.address == first.address
    for wire in waiting:
        with wire:
            assert wire.answer().status == 200


def test_the_store_follows_a_reload(serve, manager, stand):
    """A socket that nobody serves any more would go on to accept in the store."""
    toml = stand.folder / "bandstand.toml"
    toml.write_text(f"bind = ['127.0.0.1:0', 'unix:{stand.folder}/old']\n")
    server = serve({"FDSTORE": "16"}, bind=None)
    manager.wait("READY")
    toml.write_text(f"bind = ['127.0.0.1:0', 'unix:{stand.folder}/new']\n")
    server.signal(signal.SIGHUP)
    manager.wait("RELOADING")
    manager.wait("READY")
    assert sorted(manager.stored) == ["bandstand-127.0.0.1|0", f"bandstand-unix|{stand.folder}/new"]
    assert not (stand.folder / "old").exists()


def test_what_the_store_holds_and_nobody_serves_is_taken_from_it(serve, manager):
    with socket.create_server(("127.0.0.1", 0)) as left:
        manager.stored["bandstand-127.0.0.1|1"] = os.dup(left.fileno())
    serve({"FDSTORE": "16"}, pass_fds=list(manager.stored.values()))
    manager.wait("READY")
    assert sorted(manager.stored) == ["bandstand-127.0.0.1|0"]


# -- upgrade in place


class Line:
    """A server and those that took over from it, oldest first."""

    def __init__(self, server: Server, pid_file: Path):
        self.server, self.pid_file = server, pid_file
        self.pids = [self.told_pid()]
        self.family: set[int] = set()

    def told_pid(self) -> int:
        return int(self.pid_file.read_text())

    def ready_lines(self) -> int:
        return sum("bandstand: ready on " in line for line in self.server.lines)

    def upgrade(self) -> int:
        """USR2 to the newest program; the process id of the next one, which serves."""
        before = self.pids[-1]
        os.kill(before, signal.SIGUSR2)
        self.pids.append(eventually(lambda: self.told_pid() != before and self.told_pid(), "a new process id in the file", READY_DEADLINE))
        self.family |= set(self.descendants(self.pids[-1]))
        return self.pids[-1]

    def first_is_gone(self) -> None:
        assert self.server.exit_status() == 0, self.server.output

    def end(self) -> None:
        """TERM to the newest, which ends with everything it has."""
        newest = self.pids[-1]
        if len(self.pids) > 1:
            self.family |= set(self.descendants(newest))
            os.kill(newest, signal.SIGTERM)
            eventually(lambda: not alive(newest), "the end of the newest program")
            eventually(lambda: not any(map(alive, self.family)), "every process of the newest program gone")

    def kill(self) -> None:
        for pid in [*self.pids[1:], *self.family]:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)

    @staticmethod
    def descendants(pid: int) -> list[int]:
        found, ask = [], [pid]
        while ask:
            for child in _children(ask.pop()):
                found.append(child)
                ask.append(child)
        return found


@pytest.fixture
def line(serve, stand):
    lines = []

    def start(variables=None, **settings):
        pid_file = stand.folder / "pid"
        server = serve(variables, pid=pid_file, control=stand.folder / "c.sock", **settings)
        lines.append(Line(server, pid_file))
        return lines[-1]

    yield start
    for line in lines:
        line.kill()


def test_an_upgrade_hands_everything_over(line, manager, stand):
    path, log = stand.folder / "web.sock", stand.folder / "access.log"
    servers = line(bind=["127.0.0.1:0", f"unix:{path}"], access_log=log, workers=2)
    server, inode = servers.server, os.stat(path).st_ino
    manager.wait("READY")
    gate = stand.gate("g")
    with server.wire() as running:
        running.send(request("GET", "/gate/g"))
        gate.reached()
        write_app(stand.folder, version=2)
        old, new = servers.pids[0], servers.upgrade()
        assert manager.wait("MAINPID")["MAINPID"] == str(new)
        # What runs goes on in the old program, and nobody is refused by the new one.
        for address in [server.address, str(path)]:
            with Wire(address) as wire:
                assert wire.send(request("GET", "/")).answer().text.startswith("2 ")
        assert server.process.poll() is None
        assert f'"pid": {new}' in command("status", "--json", "--control", str(stand.folder / "c.sock"), folder=stand.folder).stdout
        gate.open()
        assert running.answer().text.startswith("1 ")
    servers.first_is_gone()
    assert (servers.told_pid(), os.stat(path).st_ino) == (new, inode) and old != new
    with Wire(str(path)) as wire:
        assert wire.send(request("GET", "/last")).answer().status == 200
    assert command("status", "--control", str(stand.folder / "c.sock"), folder=stand.folder).returncode == 0
    assert not any("STOPPING" in message for message in manager.heard), "the service does not stop"
    servers.end()
    paths = [line.split('"path":"')[1].split('"')[0] for line in log.read_text().splitlines()]
    assert sorted(paths) == ["/", "/", "/gate/g", "/last"]
    assert not path.exists() and not servers.pid_file.exists() and not (stand.folder / "c.sock").exists()


def test_two_upgrades_in_a_row(line, manager):
    servers = line()
    address = servers.server.address
    for _ in range(2):
        servers.upgrade()
        with Wire(address) as wire:
            assert wire.send(request("GET", "/environ")).answer().status == 200
    servers.first_is_gone()
    assert len(set(servers.pids)) == 3
    eventually(lambda: not alive(servers.pids[1]), "the end of the second program")
    servers.end()


def test_workers_of_an_heir_know_nothing_of_it(line):
    servers = line({"FDSTORE": "16", "WATCHDOG_USEC": "60000000"})
    address = servers.server.address
    servers.upgrade()
    with Wire(address) as wire:
        environ = wire.send(request("GET", "/environ")).answer().json()
    assert [name for name in environ if name in OF_THE_MANAGER or name.startswith(("BANDSTAND_", "HEIR_"))] == []
    servers.first_is_gone()
    servers.end()


@pytest.mark.parametrize("fault", ["app", "settings"])
def test_a_program_that_cannot_start_changes_nothing(line, manager, stand, fault):
    path = stand.folder / "web.sock"
    toml = stand.folder / "bandstand.toml"
    toml.write_text("max_body = '1MB'\n")
    servers = line(bind=["127.0.0.1:0", f"unix:{path}"])
    server = servers.server
    if fault == "app":
        break_app(stand.folder)
    else:
        toml.write_text("max_body = 'a lot'\n")
    for count in [1, 2]:
        server.signal(signal.SIGUSR2)
        eventually(lambda: sum("the upgrade failed, this program serves on: " in line for line in server.lines) == count, "the reason")
    server.wait_text("no_module_of_this_name" if fault == "app" else "a lot")
    assert servers.told_pid() == server.process.pid
    for address in [server.address, str(path)]:
        with Wire(address) as wire:
            assert wire.send(request("GET", "/")).answer().status == 200
    assert f'"pid": {server.process.pid}' in command("status", "--json", "--control", str(stand.folder / "c.sock"), folder=stand.folder).stdout
    # What is right again can take over.
    write_app(stand.folder)
    toml.write_text("max_body = '1MB'\n")
    servers.upgrade()
    servers.first_is_gone()
    servers.end()


def test_websockets_of_the_old_program_are_told_to_come_back(stand, tmp_path):
    pid_file = stand.folder / "pid"
    server = stand.serve("asgi_socket:app", workers=1, pid=pid_file)
    servers = Line(server, pid_file)
    try:
        with connect(f"ws://127.0.0.1:{server.port}/echo") as client:
            client.send("before")
            assert client.recv(DEADLINE) == "before"
            servers.upgrade()
            with pytest.raises(Exception) as ended:
                client.recv(DEADLINE)
            assert ended.value.rcvd.code == 1012
        with connect(f"ws://127.0.0.1:{server.port}/echo") as client:
            client.send("after")
            assert client.recv(DEADLINE) == "after"
        servers.first_is_gone()
        servers.end()
    finally:
        servers.kill()


# -- process 1


def namespaces() -> bool:
    try:
        return subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not namespaces(), reason="this machine lets nobody make a pid namespace")
@pytest.mark.parametrize("preload", ["on", "off"])
def test_process_1_of_a_container(stand, preload):
    write_app(stand.folder)
    wrap = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
    server = stand.serve("site_in_service:app", wrap=wrap, pythonpath=stand.folder, preload=preload)
    [init] = _children(server.process.pid)
    orphan = server.get("/orphan").text.strip()
    assert server.get(f"/exists/{orphan}").text == "True"
    server.get(f"/kill/{orphan}")
    eventually(lambda: server.get(f"/exists/{orphan}").text == "False", "the orphan reaped")
    os.kill(init, signal.SIGUSR2)
    server.wait_text("this is process 1 of a container")
    assert server.get().status == 200
    os.kill(init, signal.SIGTERM)
    assert server.exit_status() == 0


# -- hooks


HOOKS = '''
import os

def note(*words):
    descriptor = os.open({path!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, (" ".join(map(str, words)) + "\\n").encode())
    os.close(descriptor)

def on_starting(server): note("on_starting")
def when_ready(server): note("when_ready")
def on_reload(server): note("on_reload")
def pre_exec(server): note("pre_exec")
def on_exit(server): note("on_exit")
def pre_fork(server, worker): note("pre_fork")
def post_fork(server, worker): note("post_fork", worker.pid)
def post_worker_init(worker): note("post_worker_init", worker.pid)
def pre_request(worker, req): note("pre_request", worker.pid, req.path)
def post_request(worker, req, environ, resp): note("post_request", worker.pid, resp.status)
def worker_exit(server, worker): note("worker_exit", worker.pid)
def child_exit(server, worker): note("child_exit", worker.pid)
def nworkers_changed(server, new, old): note("nworkers_changed", new, old)
'''


class Hooked:
    """A server with all hooks, and what they wrote."""

    def __init__(self, stand, app=None, **settings):
        self.notes = stand.folder / "notes"
        (stand.folder / "gunicorn.conf.py").write_text(HOOKS.format(path=str(self.notes)))
        (stand.folder / "site_in_service.py").write_text(app) if app else write_app(stand.folder)
        settings = {"workers": 1, "pythonpath": stand.folder, "config": stand.folder / "gunicorn.conf.py", **settings}
        self.server = stand.serve("site_in_service:app", **settings)
        self.read = 0

    def take(self, last: str) -> list[str]:
        """What was noted since, once there is a note that begins with this."""

        def look():
            notes = self.notes.read_text().splitlines()[self.read :] if self.notes.exists() else []
            return any(note.startswith(last) for note in notes) and notes

        try:
            notes = eventually(look, f"{last} noted", READY_DEADLINE)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.notes.read_text()}\n{self.server.output}") from None
        self.read += len(notes)
        return notes


def names(notes: list[str]) -> list[str]:
    return [note.split()[0] for note in notes]


def in_order(notes: list[str], *wanted: str) -> bool:
    """Whether these are among the notes, in this order: what different processes note may come between."""
    left = iter(notes)
    return all(any(note.startswith(one) for note in left) for one in wanted)


FORKED = ["pre_fork", "post_fork", "post_worker_init"]


@pytest.mark.parametrize("preload", ["on", "off"])
def test_every_hook_at_its_time(stand, preload):
    hooked = Hooked(stand, preload=preload)
    server = hooked.server
    start = hooked.take("when_ready")
    assert names(start) == ["on_starting", *FORKED, "nworkers_changed", "when_ready"]
    assert "nworkers_changed 1 None" in start
    first = server.get("/hello").text.split()[1]
    assert hooked.take("post_request") == [f"pre_request {first} /hello", f"post_request {first} 200 OK"]

    server.signal(signal.SIGHUP)
    reload = hooked.take("child_exit")
    assert "on_starting" not in reload and "when_ready" not in reload
    assert in_order(reload, "on_reload", *FORKED, "nworkers_changed 1 1", f"child_exit {first}")
    assert in_order(reload, *FORKED, f"worker_exit {first}", f"child_exit {first}")
    second = server.get("/").text.split()[1]
    assert hooked.take("post_request") and second != first

    server.signal(signal.SIGTTIN)
    more = hooked.take("post_worker_init")
    assert in_order(more, "nworkers_changed 2 1", *FORKED)
    third = more[names(more).index("post_fork")].split()[1]

    server.stop()
    end = hooked.take("on_exit")
    for worker in [second, third]:
        assert in_order(end, f"worker_exit {worker}", f"child_exit {worker}", "on_exit")
    assert end[-1] == "on_exit" and sorted(names(end)) == ["child_exit"] * 2 + ["on_exit"] + ["worker_exit"] * 2


THREADED = """
import threading
threading.Thread(target=threading.Event().wait, name="left-running", daemon=True).start()
"""


def test_hooks_where_the_import_leaves_threads(stand):
    """Such a project cannot be forked; what calls the hooks can."""
    hooked = Hooked(stand, app=THREADED + APP.format(version=1))
    assert names(hooked.take("when_ready")) == ["on_starting", *FORKED, "nworkers_changed", "when_ready"]
    assert "left-running" in hooked.server.wait_text("each worker imports by itself")
    assert hooked.server.get().status == 200
    hooked.server.stop()
    assert in_order(hooked.take("on_exit"), "pre_request", "worker_exit", "child_exit", "on_exit")


def test_on_exit_also_where_the_end_is_not_waited_for(stand):
    hooked = Hooked(stand)
    hooked.server.signal(signal.SIGINT)
    assert hooked.server.exit_status() == 0
    assert in_order(hooked.take("on_exit"), "when_ready", "child_exit", "on_exit")


def test_a_template_that_is_lost_does_not_start_the_server_again(stand):
    hooked = Hooked(stand)
    hooked.take("when_ready")
    [template] = [pid for pid in _children(hooked.server.process.pid) if not any(f" {pid}" in note for note in hooked.notes.read_text().splitlines())]
    os.kill(template, signal.SIGKILL)
    hooked.server.wait_text("the template is lost")
    hooked.server.signal(signal.SIGTTIN)
    assert "on_starting" not in hooked.take("post_worker_init")


def test_pre_exec_before_an_upgrade(stand):
    pid_file = stand.folder / "pid"
    hooked = Hooked(stand, pid=pid_file)
    hooked.take("when_ready")
    servers = Line(hooked.server, pid_file)
    try:
        servers.upgrade()
        servers.first_is_gone()
        both = hooked.take("on_exit")
        assert in_order(both, "pre_exec", "on_exit")
        servers.end()
        both += hooked.take("on_exit")
        assert in_order(both, "on_starting", "when_ready", "on_exit") and both[-1] == "on_exit"
    finally:
        servers.kill()
