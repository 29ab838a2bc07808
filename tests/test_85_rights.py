"""Rights: what the server gives away, what workers cannot read, and when a project with DEBUG is not served.

Most of it needs root, and a Python that other users can run.
"""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import project
from client import eventually
from server import APPS, BINARY, Server, command, environment, refused

EDGE, WORKERS = 65534, 4242
ALL_DENIED = "PermissionError"


def package(*modules: str) -> str:
    """The folders that `bandstand` and the modules are imported from."""
    found = [importlib.util.find_spec(name) for name in ("bandstand", *modules)]
    return os.pathsep.join(dict.fromkeys(str(Path(one.origin).parent.parent) for one in found if one))


def others_python(*modules: str) -> str | None:
    """A Python that everybody may run, and that finds the package and the modules."""
    for python in (sys.executable, "/usr/bin/python3"):
        try:
            tried = [python, "-c", "import " + ", ".join(["bandstand._worker", *modules])]
            if subprocess.run(tried, user=EDGE, cwd="/", env={"PYTHONPATH": package(*modules)}, capture_output=True).returncode == 0:
                return python
        except OSError:
            continue
    return None


PYTHON = others_python() if os.geteuid() == 0 else None
as_root = pytest.mark.skipif(PYTHON is None, reason="needs root, and a Python that others can run")


@pytest.fixture
def open_folder():
    """A folder that other users can enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="bandstand-rights-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture
def serve(stand, open_folder):
    def start(wrap=None, **settings):
        settings = {"python": PYTHON, "state_dir": open_folder / "state", "control": open_folder / "control", "workers": 1} | settings
        server = Server.start("rights:app", open_folder, env={"PYTHONPATH": package()}, wrap=wrap, **settings)
        stand.servers.append(server)
        return server

    return start


def certificate(folder: Path) -> tuple[Path, Path]:
    """A pair whose key is root's alone."""
    cert, key = folder / "own.crt", folder / "own.key"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=own.test"]
    subprocess.run([*made, "-addext", "subjectAltName=DNS:own.test", "-keyout", key, "-out", cert], check=True, capture_output=True)
    key.chmod(0o600)
    return cert, key


def who(server) -> dict:
    return server.get("/").json()


def opens(server, path) -> str:
    return server.get(f"/open?{path}").json()


def status(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


def plain() -> str:
    """An address that speaks no TLS although there are certificates."""
    return "http://127.0.0.1:0"


@as_root
def test_a_unix_socket_is_the_users(serve, open_folder):
    serve(bind=f"unix:{open_folder}/web.sock", user=EDGE)
    found = (open_folder / "web.sock").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (EDGE, EDGE, 0o666)


@as_root
@pytest.mark.parametrize("preload", ["on", "off"])
def test_workers_of_another_user_can_read_no_key(serve, open_folder, preload):
    cert, key = certificate(open_folder)
    own = {"tls_cert": cert, "tls_key": key, "local_https": "on"}
    server = serve(bind=plain(), user=EDGE, worker_user=WORKERS, preload=preload, **own)
    told, edge = who(server), status(server.process.pid)
    assert told["Uid"] == told["Gid"] == [str(WORKERS)] * 4
    assert told["Groups"] == [str(WORKERS)]
    assert told["NoNewPrivs"] == ["1"] and {int(told[name][0], 16) for name in ("CapEff", "CapPrm", "CapAmb")} == {0}
    assert told["parent"] == server.process.pid
    assert edge["Uid"] == [str(WORKERS), *[str(EDGE)] * 3]
    assert edge["NoNewPrivs"] == ["1"] and int(edge["CapPrm"][0], 16) == 0
    state = open_folder / "state"
    assert state.stat().st_uid == EDGE
    for secret in (key, state, state / "local", state / "local/authority.key", f"/proc/{server.process.pid}/mem", f"/proc/{server.process.pid}/environ"):
        assert opens(server, secret) == ALL_DENIED, secret
    assert "set `worker_user`" not in server.output


@as_root
def test_it_reloads_although_keys_were_roots_to_read(serve, open_folder):
    cert, key = certificate(open_folder)
    server = serve(bind=plain(), user=EDGE, worker_user=WORKERS, tls_cert=cert, tls_key=key)
    server.wait_text("cannot be read any more as 65534")
    first = who(server)["parent"]
    server.signal(signal.SIGHUP)
    server.wait_text("generation 2 serves")
    assert who(server)["parent"] == first == server.process.pid


@as_root
def test_a_shared_user_is_said_to_be_one(serve, open_folder):
    server = serve(bind=plain(), user=EDGE, local_https="on")
    assert who(server)["Uid"] == [str(EDGE)] * 4
    server.wait_text("set `worker_user`")
    # The files are the user's own; the memory of the server is nobody's.
    assert opens(server, open_folder / "state/local/authority.key") == "opened, 1"
    assert opens(server, f"/proc/{server.process.pid}/mem") == ALL_DENIED


@as_root
def test_a_hanging_worker_of_another_user_is_ended(serve, open_folder):
    """Signals reach workers without any capability."""
    server = serve(bind=plain(), user=EDGE, worker_user=WORKERS, preload="off")
    worker = next(pid for pid in server.descendants() if status(pid)["Uid"][0] == str(WORKERS))
    os.kill(worker, signal.SIGSTOP)  # it hears of no end now
    server.signal(signal.SIGINT)
    assert server.exit_status() == 0
    eventually(lambda: not Path(f"/proc/{worker}").exists(), "the end of the worker")


@as_root
def test_an_upgrade_in_place_keeps_both_users(serve, open_folder):
    server = serve(bind=plain(), user=EDGE, worker_user=WORKERS, local_https="on")
    server.signal(signal.SIGUSR2)
    server.wait_line(lambda line: line.startswith("bandstand: ready on") and server.output.count("bandstand: ready on") == 2, "another ready line")
    assert server.exit_status() == 0
    told = eventually(lambda: who(server), "an answer of the heir")
    heir = told["parent"]
    assert told["Uid"] == [str(WORKERS)] * 4
    assert status(heir)["Uid"] == [str(WORKERS), *[str(EDGE)] * 3]
    assert opens(server, f"/proc/{heir}/mem") == ALL_DENIED
    os.kill(heir, signal.SIGTERM)
    eventually(lambda: not Path(f"/proc/{heir}").exists(), "the end of the heir")


def as_nobody(*capabilities: str) -> list[str]:
    ids = ["setpriv", f"--reuid={EDGE}", f"--regid={EDGE}", "--clear-groups"]
    if capabilities:
        caps = ",".join(f"+{name}" for name in capabilities)
        ids += [f"--inh-caps={caps}", f"--ambient-caps={caps}"]
    return [*ids, "--"]


@as_root
def test_workers_of_another_user_need_a_right(open_folder):
    settings = {"bind": "127.0.0.1:0", "worker_user": WORKERS, "python": PYTHON, "pythonpath": APPS}
    ran = subprocess.run(
        [*as_nobody(), *command("rights:app", settings)], cwd=open_folder, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 1
    assert "CAP_SETUID and CAP_SETGID" in ran.stderr


@as_root
def test_the_capability_to_change_users_is_used_once(serve, open_folder):
    open_folder.chmod(0o777)
    server = serve(bind=plain(), worker_user=WORKERS, wrap=as_nobody("setuid", "setgid"))
    assert who(server)["Uid"] == [str(WORKERS)] * 4
    edge = status(server.process.pid)
    assert edge["Uid"] == [str(WORKERS), *[str(EDGE)] * 3]
    assert all(int(edge[name][0], 16) & (1 << 6 | 1 << 7) == 0 for name in ("CapPrm", "CapEff", "CapInh", "CapAmb"))


def low_port() -> int:
    for port in range(600, 1024):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    pytest.skip("every low port is taken")


@as_root
@pytest.mark.skipif(int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) < 1024, reason="low ports are everybody's here")
def test_what_a_start_without_root_could_do_is_said(serve, open_folder):
    open_folder.chmod(0o777)
    port = low_port()
    server = serve(bind=f"127.0.0.1:{port}", wrap=as_nobody("net_bind_service"))
    server.wait_text(f"runs as user {EDGE}, not root: 127.0.0.1:{port} by the capability CAP_NET_BIND_SERVICE; workers are the same user")
    assert int(status(server.process.pid)["CapEff"][0], 16) == 1 << 10
    told = who(server)  # the application has no use for it
    assert {int(told[name][0], 16) for name in ("CapEff", "CapPrm", "CapAmb")} == {0}


@as_root
def test_root_without_a_user_is_warned(serve):
    server = serve(bind=plain())
    server.wait_text("bandstand runs as root, and so does the application: set `user`")


def test_row_98_debug_is_not_served_to_others(tmp_path):
    folder = project.write(tmp_path, settings="DEBUG = True")
    ran = refused(None, folder, bind="0.0.0.0:0")
    assert ran.returncode == 1
    assert "DEBUG is True and others can reach 0.0.0.0:" in ran.stdout
    checked = subprocess.run(
        [BINARY, "check", "--bind=0.0.0.0:0"], cwd=folder, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert checked.returncode == 1 and "error: DEBUG is True" in checked.stdout


@pytest.mark.parametrize("settings", [{"bind": "127.0.0.1:0"}, {"bind": "0.0.0.0:0", "allow_debug": "on"}])
def test_row_98_debug_is_served_to_oneself_or_when_told(stand, tmp_path, settings):
    folder = project.write(tmp_path, settings="DEBUG = True")
    server = stand.serve(None, folder=folder, pythonpath=None, **settings)
    assert server.get("/").text == "django says hello"


def test_row_98_a_reload_with_debug_changes_nothing(stand, tmp_path):
    folder = project.write(tmp_path)
    server = stand.serve(None, folder=folder, pythonpath=None, bind="0.0.0.0:0")
    project.write(folder, settings="DEBUG = True")
    server.signal(signal.SIGHUP)
    server.wait_text("the reload failed, everything is as it was: DEBUG is True and others can reach")
    assert server.get("/").text == "django says hello"
