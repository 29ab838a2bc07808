"""The one task that owns the server's course: it hears every order, whatever else is under way, and leaves nothing behind.

What a reload or an upgrade leads to when all goes well is test_71's and test_75's; here orders meet each other.
"""

import os
import signal

import pytest

from client import Wire, eventually, request
from server import BINARY, alive
from test_71_generations import Site
from test_75_services import Line

AT_GATE = """
import os
def wait(name):
    with open(os.path.join(os.environ["GATES"], name)) as gate:
        gate.read()
"""


@pytest.fixture
def site(stand):
    """Starts a site; programs that took over from it are killed at the end, should they live."""
    lines = []

    def start(**keys):
        pid_file = stand.folder / "pid"
        site = Site(stand, pid=str(pid_file), **{"workers": 1, **keys})
        site.line = Line(site.server, pid_file)
        lines.append(site.line)
        return site

    yield start
    for line in lines:
        line.kill()


def wait_in_import(site, stand, name="import"):
    """The program waits in its import for the gate, from the next start on."""
    gate = stand.gate(name)
    site.write(2, at_import=AT_GATE + f"wait({name!r})")
    return gate


def programs(server) -> list[int]:
    """Every process of this program below the server, without its workers."""
    path = os.path.realpath(BINARY)
    exe = lambda pid: os.readlink(f"/proc/{pid}/exe")  # noqa: E731
    found = []
    for pid in server.descendants():
        try:
            found += [pid] if exe(pid) == path else []
        except OSError:
            continue
    return found


# -- upgrades


def test_a_second_upgrade_waits_for_the_first(site, stand):
    site = site()
    gate = wait_in_import(site, stand)
    site.server.signal(signal.SIGUSR2)
    gate.reached()
    [heir] = programs(site.server)
    site.server.signal(signal.SIGUSR2)
    site.server.wait_text("an upgrade is under way")
    assert programs(site.server) == [heir]
    gate.open()
    eventually(lambda: site.line.told_pid() == heir, "the new program in the file")
    site.line.pids.append(heir)
    site.line.first_is_gone()
    site.line.end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_ends_an_upgrade(site, stand, number):
    site = site()
    gate = wait_in_import(site, stand)
    site.server.signal(signal.SIGUSR2)
    gate.reached()
    family = site.server.descendants()
    assert len(programs(site.server)) == 1
    site.server.signal(number)
    assert site.server.exit_status() == 0, site.server.output
    eventually(lambda: not any(map(alive, family)), "the end of every process of both programs")


def test_the_old_program_finishes_what_runs_though_it_is_told_to_stop(site, stand):
    site = site()
    gate = stand.gate("g")
    with site.server.wire() as running:
        running.send(request("GET", "/gate/g"))
        gate.reached()
        site.line.upgrade()
        site.server.wait_text("this one finishes what it has")
        site.server.signal(signal.SIGTERM)
        with site.server.wire() as other:
            assert other.send(request("GET", "/")).answer().status == 200
        assert site.server.process.poll() is None
        gate.open()
        assert running.answer().status == 200
    site.line.first_is_gone()
    site.line.end()


# -- reloads


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_obeyed_while_settings_are_read(stand, number):
    conf = stand.folder / "gunicorn.conf.py"
    conf.write_text("workers = 1\n")
    (stand.folder / "plain.py").write_text(AT_GATE + "def app(e, s):\n    s('200 OK', [])\n    return [b'']\n")
    server = stand.serve("plain:app", pythonpath=stand.folder, config=conf)
    gate = stand.gate("conf")
    conf.write_text(AT_GATE + "wait('conf')\n")
    server.signal(signal.SIGHUP)
    gate.reached()
    assert server.get().status == 200
    family = server.descendants()
    server.signal(number)
    assert server.exit_status() == 0, server.output
    eventually(lambda: not any(map(alive, family)), "the end of every process")


def test_the_newer_reload_wins_while_settings_are_read(stand):
    conf = stand.folder / "gunicorn.conf.py"
    conf.write_text("workers = 1\n")
    (stand.folder / "plain.py").write_text("def app(e, s):\n    s('200 OK', [])\n    return [b'1']\n")
    server = stand.serve("plain:app", pythonpath=stand.folder, config=conf)
    gate = stand.gate("conf")
    conf.write_text(AT_GATE + "wait('conf')\n")
    server.signal(signal.SIGHUP)
    gate.reached()
    conf.write_text("workers = 1\n")
    server.signal(signal.SIGHUP)
    server.wait_text("generation 2 serves")
    gate.open()
    assert server.get().status == 200


def test_a_descriptor_is_none_of_a_reloads(site):
    site = site()
    with site.nothing_changes():
        site.configure(bind=["127.0.0.1:0", "fd://9"])
        site.refuses("cannot listen on fd://9: it can be had at a start only")
    site.configure(bind=["127.0.0.1:0"])
    site.reload()


def test_a_refused_reload_is_told_in_the_log(site, stand):
    site = site()
    gate = stand.gate("g")
    with site.server.wire() as running:
        running.send(request("GET", "/gate/g"))
        gate.reached()
        site.server.signal(signal.SIGTERM)
        site.server.wait_text("stopping: no new connections")
        site.server.signal(signal.SIGHUP)
        site.server.wait_text("no reload: the server is stopping")
        gate.open()
        assert running.answer().status == 200
    assert site.server.exit_status() == 0


# -- the first generation


ONE_OF_TWO = """
import os
def wait(name):
    with open(os.path.join(os.environ["GATES"], name)) as gate:
        gate.read()
try:
    os.mkdir(os.path.join(os.environ["GATES"], "first"))
except FileExistsError:
    wait("second")
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"1"]
"""


def test_a_first_generation_that_lacks_a_worker_can_be_reloaded(stand):
    """It serves from its first worker on, and obeys from then on."""
    gate = stand.gate("second")
    path = stand.folder / "web.sock"
    (stand.folder / "half.py").write_text(ONE_OF_TWO)
    toml = stand.folder / "bandstand.toml"
    toml.write_text("preload = false\n")
    env = {"GATES": str(stand.gates)}
    server = stand.kind("half:app", stand.folder, env=env, bind=f"unix:{path}", workers=2, pythonpath=stand.folder)
    stand.servers.append(server)
    gate.reached()

    def answered():
        try:
            with Wire(str(path)) as wire:
                return wire.send(request("GET", "/")).answer().status == 200
        except OSError:
            return False

    eventually(answered, "an answer of the first worker")
    assert "bandstand: ready on" not in server.output
    (stand.folder / "half.py").write_text("def app(e, s):\n    s('200 OK', [])\n    return [b'2']\n")
    server.signal(signal.SIGHUP)
    server.wait_text("generation 2 serves")
    server.wait_text("bandstand: ready on")
    with Wire(str(path)) as wire:
        assert wire.send(request("GET", "/")).answer().text == "2"
    gate.leave()


# -- draining


def test_drained_workers_come_back_with_a_reload(site):
    site = site(workers=2)
    old = {worker["pid"] for worker in site.status()["workers"]}
    site.server.signal(signal.SIGWINCH)
    eventually(lambda: not any(map(alive, old)), "the end of all workers")
    site.reload()
    assert len(site.status()["workers"]) == 2
    assert site.says() == "1"
