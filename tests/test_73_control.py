"""The control socket: what operators see of a running server, and how they steer it, through the real commands."""

import json
import os
import signal
import socket
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from client import eventually, request
from server import BINARY, alive, environment

SHORT = 60


class Project:
    """A server in a folder of its own, and the commands run there."""

    def __init__(self, stand, **settings):
        self.stand = stand
        self.socket = stand.folder / "c.sock"
        self.app = stand.folder / "site_under_control.py"
        self.app.write_text(APP.format(version=1))
        settings = {"workers": 2, "threads": 2, "control": self.socket, "pythonpath": stand.folder, **settings}
        self.server = stand.serve("site_under_control:app", **settings)

    def run(self, *arguments: str, status: int = 0) -> subprocess.CompletedProcess:
        ran = command(*arguments, "--control", str(self.socket), folder=self.stand.folder)
        assert ran.returncode == status, ran.stdout + ran.stderr
        return ran

    def json(self, *arguments: str):
        return json.loads(self.run(*arguments, "--json").stdout)


APP = '''
import os

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/gate/"):
        with open(os.path.join(os.environ["GATES"], path[6:])) as gate:
            gate.read()
    start_response("404 Not Found" if path == "/missing" else "200 OK", [("Content-Type", "text/plain")])
    return [b"{version}"]
'''


def command(*arguments: str, folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [str(BINARY), *arguments], cwd=folder, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SHORT
    )


@pytest.fixture
def project(stand):
    return Project(stand)


def test_only_the_owner_may_connect(project):
    found = os.lstat(project.socket)
    assert stat.S_ISSOCK(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o600


def test_status(project):
    for target in ["/", "/", "/missing"]:
        project.server.get(target)
    status = project.json("status")
    assert status["state"] == "serving" and status["pid"] == project.server.process.pid
    assert status["addresses"] == project.server.addresses
    assert status["generation"] == 1 and status["wanted"] == 2
    workers = status["workers"]
    assert [worker["state"] for worker in workers] == ["ready", "ready"]
    assert all(alive(worker["pid"]) and worker["memory"]["rss"] > 1_000_000 for worker in workers)
    assert sum(worker["served"] for worker in workers) == 3
    counters = status["counters"]
    assert (counters["requests"], counters["success"], counters["client_error"]) == (3, 2, 1)
    assert sum(count for _, count in counters["total"]["buckets"]) == counters["app"]["count"] == 3
    text = project.run("status").stdout
    assert "is serving" in text and project.server.url in text and "3: 2xx 2, 4xx 1" in text


def test_counters_do_not_need_a_log(stand):
    project = Project(stand, access_log="off")
    project.server.get("/")
    assert project.json("status")["counters"]["requests"] == 1


def test_what_runs_and_where_it_is(project):
    gate = project.stand.gate("g")
    with project.server.wire() as wire:
        wire.send(request("GET", "/gate/g?secret=1", [("X-Request-ID", "the-slow-one")]))
        gate.reached()
        [running] = project.json("requests")
        assert running["request_id"] == "the-slow-one" and running["target"] == "/gate/g" and running["on"] == "thread"
        assert "the-slow-one" in project.run("requests").stdout
        [worker] = project.json("stacks", "the-slow-one")
        [thread] = worker["threads"]
        assert worker["worker"] == running["worker"] and thread["request_id"] == "the-slow-one"
        assert "site_under_control.py" in thread["stack"] and "gate.read()" in thread["stack"]
        of_all = project.json("stacks")
        assert sorted(one["worker"] for one in of_all) == [1, 2]
        assert f"worker {running['worker']} (pid" in project.run("stacks", str(running["worker"])).stdout
        gate.open()
        assert wire.answer().status == 200
    assert project.run("requests").stdout == "nothing runs\n"
    assert "is over" in project.run("stacks", "the-slow-one", status=1).stderr
    assert "there is no worker 99" in project.run("stacks", "99", status=1).stderr


def test_scale(project):
    assert project.run("scale", "+1").stdout == "3 workers\n"
    eventually(lambda: [worker["state"] for worker in project.json("status")["workers"]] == ["ready"] * 3, "three workers")
    assert project.run("scale", "1").stdout == "1 worker\n"
    eventually(lambda: len(project.json("status")["workers"]) == 1, "one worker")
    assert project.server.get("/").status == 200
    assert "no number of workers" in project.run("scale", "many", status=2).stderr


def test_a_reload_serves_new_code(project):
    project.app.write_text(APP.format(version=2))
    ran = project.run("reload")
    assert project.server.get("/").body == b"2"
    assert "generation 2 serves" in ran.stdout
    status = project.json("status")
    assert status["generation"] == 2 and status["last_reload"]["generation"] == 2


def test_a_reload_of_broken_code_changes_nothing_and_says_why(project):
    project.app.write_text("import nothing_of_that_name")
    ran = project.run("reload", status=1)
    assert "ModuleNotFoundError: No module named 'nothing_of_that_name'" in ran.stderr and "site_under_control.py" in ran.stderr
    assert project.server.get("/").body == b"1"
    status = project.json("status")
    assert status["generation"] == 1 and status["state"] == "serving"
    assert "nothing_of_that_name" in status["last_reload"]["error"]
    assert "the last reload failed" in project.run("status").stdout


def test_reopen(stand):
    log = stand.folder / "access.log"
    project = Project(stand, access_log=log)
    project.server.get("/")
    eventually(lambda: log.read_text(), "a record")
    log.rename(stand.folder / "access.log.1")
    project.run("reopen")
    project.server.get("/after")
    eventually(lambda: log.exists() and "/after" in log.read_text(), "a record in the new file")


def test_a_log_that_cannot_be_opened_anew_is_no_success(stand):
    folder = stand.folder / "logs"
    folder.mkdir()
    project = Project(stand, access_log=folder / "access.log")
    folder.rename(stand.folder / "moved")
    said = project.run("reopen", status=1).stderr
    assert "cannot be opened anew" in said and str(folder / "access.log") in said
    # A signal has nobody to answer but the log.
    for times in (1, 2):
        eventually(lambda: len(complaints(project.server)) == times, f"{times} complaints")
        project.server.signal(signal.SIGUSR1)
    project.server.get("/after")
    former = stand.folder / "moved/access.log"
    eventually(lambda: "/after" in former.read_text(), "a record in the former file")


def complaints(server) -> list[str]:
    return [line for line in server.output.splitlines() if '"level":"error"' in line and "cannot be opened anew" in line]


def test_stop_waits_until_it_is_gone(project):
    gate = project.stand.gate("g")
    with project.server.wire() as wire:
        wire.send(request("GET", "/gate/g"))
        gate.reached()
        stopping = threading.Thread(target=project.run, args=("stop",))
        stopping.start()
        project.server.wait_text("stopping")
        assert stopping.is_alive() and alive(project.server.process.pid)
        gate.open()
        assert wire.answer().status == 200
        stopping.join(SHORT)
    assert not alive(project.server.process.pid), "it was not gone"
    assert project.server.exit_status() == 0
    assert not project.socket.exists()
    gone = project.run("status", status=1)
    assert "not running for this project" in gone.stderr and str(project.socket) in gone.stderr


def test_stop_now(project):
    project.stand.gate("g")
    with project.server.wire() as wire:
        wire.send(request("GET", "/gate/g"))
        eventually(lambda: project.json("requests"), "the request in a worker")
        project.run("stop", "--now")
    assert project.server.exit_status() == 0 and not project.socket.exists()


def test_top_without_a_terminal(project):
    project.server.get("/")
    text = project.run("top", "--interval", "0.1").stdout
    assert text.startswith(" bandstand ") and "2 of 2 workers" in text and "\x1b" not in text


def test_the_project_is_enough_to_find_the_server(stand):
    """The name of the socket follows from folder and settings; a second server of the project has the next one."""
    run = lambda *arguments: command(*arguments, folder=stand.folder)
    first = stand.serve("probe:app")
    assert json.loads(run("status", "--json").stdout)["pid"] == first.process.pid
    second = stand.serve("probe:app")
    both = run("status")
    assert both.returncode == 1 and f"pid {first.process.pid}, {first.url}" in both.stderr and f"pid {second.process.pid}" in both.stderr
    chosen = next(line.split()[1] for line in both.stderr.splitlines() if f"pid {second.process.pid}" in line)
    assert run("stop", "--control", chosen).returncode == 0
    assert second.exit_status() == 0
    assert run("status").returncode == 0


def test_a_socket_that_a_killed_server_left_is_taken_over(project):
    project.server.kill()
    assert project.socket.exists()
    again = project.stand.serve("site_under_control:app", control=project.socket, pythonpath=project.stand.folder)
    assert project.json("status")["pid"] == again.process.pid


def test_strangers_on_the_socket_do_no_harm(project):
    for data in [b"\n", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 70_000, b'{"bandstand":99,"command":"stop"}\n']:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(project.socket))
            client.settimeout(SHORT)
            try:
                client.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                pass
            said = json.loads(client.makefile().readline())
            assert said["done"] and not said["ok"] and said["error"]
    assert project.json("status")["state"] == "serving"
