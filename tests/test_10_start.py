"""`bandstand serve` from a command line to the ready line, or to a sentence and an exit status."""

import json
import os
import pwd
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

import project
from client import Wire, eventually, request
from server import APPS, BINARY, Server, environment, refused


def told(server: Server, target: str = "/") -> dict:
    return server.get(target).json()["environ"]


# -- what is served


def test_a_django_folder_needs_no_arguments(stand):
    server = stand.serve(None, folder=project.write(stand.folder), pythonpath=None)
    assert server.get("/").text == "django says hello"
    assert server.get("/assets/site.css").text == "body { color: teal }\n"


def test_the_ready_line_tells_address_workers_and_app(stand):
    server = stand.serve(None, folder=project.write(stand.folder), workers=3)
    assert server.wait_text("bandstand: ready on ").endswith(f"ready on http://127.0.0.1:{server.port} (3 workers, mysite.wsgi)")
    assert server.port > 0


def test_one_worker_is_not_called_workers(stand):
    server = stand.serve(workers=1)
    assert "(1 worker, " in server.wait_text("bandstand: ready on ")


def test_django_settings_module_wins_over_manage_py(stand):
    folder = project.write(stand.folder)
    (folder / "mysite/other.py").write_text("from .settings import *\nSTATIC_URL = '/other/'\n")
    server = stand.serve(None, folder=folder, env={"DJANGO_SETTINGS_MODULE": "mysite.other"})
    assert server.get("/other/site.css").status == 200


@pytest.mark.parametrize(
    "app, expected",
    [
        ("factories:application", "the default attribute"),
        ("factories", "the default attribute"),
        ("factories:holder.inner", "a dotted attribute"),
        ("factories:instance", "an instance"),
        ("factories:create()", "made for nobody"),
        ("factories:create('anna')", "made for anna"),
        ("factories:create(name='anna')", "made for anna"),
    ],
)
def test_forms_of_app(stand, app, expected):
    assert stand.serve(app, workers=1).get().text == expected


def test_an_app_in_a_package(stand):
    package = stand.folder / "pack/inner"
    package.mkdir(parents=True)
    (stand.folder / "pack/__init__.py").touch()
    (package / "__init__.py").write_text("from factories import application as app\n")
    assert stand.serve("pack.inner:app", workers=1).get().text == "the default attribute"


def test_chdir_is_the_project_folder(stand):
    folder = stand.folder / "elsewhere"
    folder.mkdir()
    (folder / "local.py").write_text(
        "import os\ndef app(environ, start):\n    start('200 OK', [])\n    return [os.getcwd().encode()]\n"
    )
    server = stand.serve("local:app", chdir=folder, workers=1)
    assert Path(server.get().text) == folder


def test_pythonpath_comes_before_the_project_folder(stand):
    for place in "first", "second":
        (stand.folder / place).mkdir()
        (stand.folder / place / "twice.py").write_text(
            f"def app(environ, start):\n    start('200 OK', [])\n    return [b'{place}']\n"
        )
    server = stand.serve("twice:app", chdir=stand.folder / "second", pythonpath=stand.folder / "first", workers=1)
    assert server.get().text == "first"


def test_the_python_of_its_own_environment_runs_the_app(stand):
    """Even where another one comes first on PATH."""
    if not (BINARY.parent / "python").exists():
        pytest.skip("bandstand is not installed in an environment")
    decoy = stand.folder / "bin"
    decoy.mkdir()
    for name in "python", "python3":
        (decoy / name).write_text("#!/bin/sh\nexit 9\n")
        (decoy / name).chmod(0o755)
    (stand.folder / "which.py").write_text(
        "import sys\ndef app(environ, start):\n    start('200 OK', [])\n    return [sys.prefix.encode()]\n"
    )
    server = stand.serve("which:app", env={"PATH": f"{decoy}:{os.environ['PATH']}", "VIRTUAL_ENV": None, "BANDSTAND_PYTHON": None}, workers=1)
    assert Path(server.get().text) == BINARY.parent.parent


def test_python_dash_m_is_the_same_program():
    python = BINARY.parent / "python"
    if not python.exists():
        pytest.skip("bandstand is not installed in an environment")
    direct = subprocess.run([BINARY, "version"], capture_output=True, text=True, timeout=30)
    module = subprocess.run([python, "-m", "bandstand", "version"], capture_output=True, text=True, timeout=30)
    assert direct.returncode == module.returncode == 0
    assert direct.stdout == module.stdout != ""


# -- listening


def test_a_second_server_on_the_address_names_it(stand):
    server = stand.serve()
    ran = refused("probe:app", stand.folder, bind=f"127.0.0.1:{server.port}", pythonpath=APPS)
    assert ran.returncode == 1
    assert f"127.0.0.1:{server.port}" in ran.stdout
    assert "panicked" not in ran.stdout and "Traceback" not in ran.stdout
    assert server.get().status == 200


def test_several_binds(stand):
    path = stand.folder / "web.sock"
    server = stand.serve(bind=["127.0.0.1:0", f"unix:{path}", "127.0.0.1:0"])
    assert len(server.addresses) == 3 and f"unix:{path}" in server.addresses
    for text in server.addresses:
        address = str(path) if text.startswith("unix:") else ("127.0.0.1", int(text.rsplit(":", 1)[1].rstrip("/")))
        with Wire(address) as wire:
            assert wire.send(request("GET", "/")).answer().status == 200


def test_ipv6(stand):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    server = stand.serve(bind="[::1]:0")
    assert server.url == f"http://[::1]:{server.port}"
    assert told(server)["REMOTE_ADDR"] == "::1"


def test_a_unix_socket_goes_away_with_the_server(stand):
    path = stand.folder / "web.sock"
    server = stand.serve(bind=f"unix:{path}")
    assert stat.S_ISSOCK(path.stat().st_mode)
    server.stop()
    assert not path.exists()


@pytest.mark.parametrize("umask, mode", [(None, 0o666), ("007", 0o660)])
def test_a_unix_socket_is_for_whom_its_folder_lets_in(stand, umask, mode):
    """A proxy in front is another user."""
    path, later = stand.folder / "web.sock", stand.folder / "later.sock"
    settings = {"umask": umask} if umask else {}
    (stand.folder / "bandstand.toml").write_text(f"bind = ['unix:{path}']\n")
    server = stand.serve(bind=None, **settings)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    (stand.folder / "bandstand.toml").write_text(f"bind = ['unix:{path}', 'unix:{later}']\n")
    server.signal(signal.SIGHUP)
    server.wait_text("generation 2 serves")
    assert stat.S_IMODE(later.stat().st_mode) == mode


def test_a_unix_socket_left_by_a_crash_is_taken_over(stand):
    path = stand.folder / "web.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert stand.serve(bind=f"unix:{path}").get().status == 200


def test_a_unix_socket_in_use_is_left_alone(stand):
    path = stand.folder / "web.sock"
    server = stand.serve(bind=f"unix:{path}")
    ran = refused("probe:app", stand.folder, bind=f"unix:{path}", pythonpath=APPS)
    assert ran.returncode == 1 and str(path) in ran.stdout
    assert server.get().status == 200


def test_a_file_is_not_taken_for_an_old_socket(stand):
    path = stand.folder / "web.sock"
    path.write_text("precious")
    assert refused("probe:app", stand.folder, bind=f"unix:{path}", pythonpath=APPS).returncode == 1
    assert path.read_text() == "precious"


def test_an_inherited_descriptor(stand):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = stand.serve(bind=f"fd://{listener.fileno()}", pass_fds=[listener.fileno()])
        with Wire(listener.getsockname()) as wire:
            assert wire.send(request("GET", "/")).answer().status == 200
        assert server.port == listener.getsockname()[1]


def test_systemd_sockets_are_used_by_themselves(stand):
    """LISTEN_FDS names this very process, so the exec goes through a launcher that knows its own number."""
    launcher = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); "
        "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid())); os.execv(sys.argv[2], sys.argv[2:])"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        wrap = [sys.executable, "-c", launcher, str(listener.fileno())]
        server = stand.serve(bind=None, wrap=wrap, pass_fds=[listener.fileno()])
        assert server.port == listener.getsockname()[1]
        environ = told(server)
    assert environ["SERVER_PORT"] == str(server.port)


def test_the_sockets_of_another_process_are_not_taken(stand):
    ran = refused("probe:app", stand.folder, env={"LISTEN_FDS": "1", "LISTEN_PID": "1"}, bind="systemd", pythonpath=APPS)
    assert ran.returncode in (1, 2) and "systemd" in ran.stdout


def test_workers_do_not_hold_the_listening_socket(stand):
    """A worker that outlives the server must not keep its port."""
    server = stand.serve()
    inode = listening_inode(server.port)
    holders = [pid for pid in server.descendants() if any(f"socket:[{inode}]" == link for link in links(pid))]
    assert holders == []


def listening_inode(port: int) -> str:
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        columns = line.split()
        if columns[1].endswith(f":{port:04X}") and columns[3] == "0A":
            return columns[9]
    raise AssertionError(f"nobody listens on {port}")


def links(pid: int) -> list[str]:
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{name}"))
        except FileNotFoundError:
            pass
    return found


# -- the process


def test_the_pid_file_lives_as_long_as_the_server(stand):
    path = stand.folder / "bandstand.pid"
    server = stand.serve(pid=path)
    assert int(path.read_text()) == server.process.pid
    server.stop()
    assert not path.exists()


def test_a_pid_file_that_cannot_be_written_is_named(stand):
    ran = refused("probe:app", stand.folder, pid=stand.folder / "none/bandstand.pid", pythonpath=APPS)
    assert ran.returncode == 1 and "none/bandstand.pid" in ran.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="changing the user needs root")
def test_edge_and_workers_give_root_away(stand):
    nobody = pwd.getpwnam("nobody")
    for folder in [stand.folder, *stand.folder.parents]:
        if folder.stat().st_uid == 0 and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    if not runs_python(nobody.pw_uid):
        pytest.skip("the interpreter cannot be run by nobody")
    server = stand.serve(user="nobody", group=str(nobody.pw_gid), env={"SEEN": None})
    assert server.get().status == 200
    for pid in [server.process.pid, *server.descendants()]:
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
        assert set(status["Uid"].split()) == {str(nobody.pw_uid)}, pid
        assert set(status["Gid"].split()) == {str(nobody.pw_gid)}, pid
        assert set(status["Groups"].split()) <= {str(nobody.pw_gid)}, pid


def runs_python(user: int) -> bool:
    """A Python below somebody's home is out of reach for others."""
    try:
        return subprocess.run([BINARY.parent / "python", "-c", ""], user=user, capture_output=True).returncode == 0
    except (FileNotFoundError, PermissionError):
        return False


def test_an_unknown_user_is_named(stand):
    ran = refused("probe:app", stand.folder, user="no-such-user", pythonpath=APPS)
    assert ran.returncode in (1, 2) and "no-such-user" in ran.stdout


def test_umask(stand):
    (stand.folder / "masked.py").write_text(
        "import os\ndef app(environ, start):\n    mask = os.umask(0)\n    os.umask(mask)\n    start('200 OK', [])\n    return [oct(mask).encode()]\n"
    )
    assert stand.serve("masked:app", umask="027", workers=1).get().text == "0o27"


def test_env_file_reaches_the_app_and_yields_to_the_environment(stand):
    folder = project.write(stand.folder)
    (folder / "my.env").write_text("# a comment\nGREETING='from the file'\n")
    first = stand.serve(None, folder=folder, env_file="my.env")
    assert first.get().text == "django says from the file"
    second = stand.serve(None, folder=folder, env_file="my.env", env={"GREETING": "from outside"})
    assert second.get().text == "django says from outside"


def test_a_missing_env_file_is_named(stand):
    ran = refused("probe:app", stand.folder, env_file="no.env", pythonpath=APPS)
    assert ran.returncode in (1, 2) and "no.env" in ran.stdout


# -- settings: flag, environment, file, platform, default


def test_precedence(stand):
    file = stand.folder / "bandstand.toml"
    file.write_text("workers = 2\nthreads = 3\n")
    of_file = stand.serve(workers=None, threads=None)
    assert of_file.workers == 2
    of_environment = stand.serve(workers=None, threads=None, env={"BANDSTAND_WORKERS": "3", "WEB_CONCURRENCY": "5"})
    assert of_environment.workers == 3
    of_flag = stand.serve(workers=1, threads=None, env={"BANDSTAND_WORKERS": "3"})
    assert of_flag.workers == 1
    file.unlink()
    of_platform = stand.serve(workers=None, env={"WEB_CONCURRENCY": "4"})
    assert of_platform.workers == 4


def test_pyproject_is_read(stand):
    (stand.folder / "pyproject.toml").write_text("[project]\nname = 'x'\nversion = '1'\n[tool.bandstand]\nworkers = 3\napp = 'factories:create()'\n")
    server = stand.serve(None, workers=None)
    assert (server.workers, server.get().text) == (3, "made for nobody")


def test_config_tells_each_value_with_its_origin(stand):
    (stand.folder / "bandstand.toml").write_text('max_body = "3MB"\n')
    ran = subprocess.run(
        [BINARY, "config", "--format", "json", "--threads", "7"],
        cwd=stand.folder,
        env=environment(BANDSTAND_WORKERS="5"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    text = json.dumps(json.loads(ran.stdout))
    for origin in "BANDSTAND_WORKERS", "--threads", "bandstand.toml:1", "default":
        assert origin in text, origin


@pytest.mark.parametrize(
    "line, sentence, nearest",
    [
        ('max_boddy = "1MB"', "max_boddy", "max_body"),
        ("wokers = 2", "wokers", "workers"),
        ('timeout = "soon"', "timeout", None),
        ("workers = 0.5", "workers", None),
        ('log_format = "xml"', "log_format", "json"),
        ("workers = [", "", None),
    ],
)
def test_a_mistake_in_the_file_is_shown_with_a_caret(stand, line, sentence, nearest):
    (stand.folder / "bandstand.toml").write_text(f"# one\nthreads = 2\n{line}\n")
    ran = refused("probe:app", stand.folder, workers=None, pythonpath=APPS)
    assert ran.returncode == 2, ran.stdout
    assert "bandstand.toml:3" in ran.stdout and sentence in ran.stdout
    assert line in ran.stdout and "^" in ran.stdout
    assert nearest is None or nearest in ran.stdout


def test_every_mistake_is_told_at_once(stand):
    (stand.folder / "bandstand.toml").write_text("wokers = 2\ntreads = 2\n")
    ran = refused("probe:app", stand.folder, workers=None, pythonpath=APPS)
    assert ran.returncode == 2 and "workers" in ran.stdout and "threads" in ran.stdout


def test_a_wrong_variable_is_named(stand):
    ran = refused("probe:app", stand.folder, env={"BANDSTAND_TIMEOUT": "soon"}, pythonpath=APPS)
    assert ran.returncode == 2 and "BANDSTAND_TIMEOUT" in ran.stdout


def test_a_wrong_flag_is_wrong_usage(stand):
    ran = subprocess.run([BINARY, "serve", "--wokers", "2"], cwd=stand.folder, env=environment(), capture_output=True, text=True, timeout=30)
    assert ran.returncode == 2 and "--wokers" in ran.stderr and "--workers" in ran.stderr


def test_gunicorn_habits(stand):
    ran = subprocess.Popen(
        [BINARY, "serve", "probe:app", "-w", "1", "-b", f"unix:{stand.folder}/habit.sock", "--pythonpath", APPS, "--log-level", "info"],
        cwd=stand.folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        eventually(lambda: answers(f"{stand.folder}/habit.sock"), "an answer on the socket of -b")
    finally:
        ran.send_signal(signal.SIGTERM)
        assert ran.wait(30) == 0


def answers(path: str) -> bool:
    try:
        with Wire(path) as wire:
            return wire.send(request("GET", "/")).answer().status == 200
    except OSError:
        return False


# -- starts that must fail


@pytest.mark.parametrize(
    "app, words",
    [
        ("no_such_module:app", ["no_such_module", "ModuleNotFoundError"]),
        ("probe:no_such_name", ["probe", "no_such_name"]),
        ("factories:not_callable", ["not_callable", "callable"]),
        ("factories:fails()", ["RuntimeError", "the factory failed"]),
        ("factories:create(1, 2)", ["TypeError"]),
        ("factories:create(open('x'))", ["create(open('x'))", "literals"]),
    ],
)
def test_an_app_that_cannot_be_had(stand, app, words):
    ran = refused(app, stand.folder, workers=2, pythonpath=APPS)
    assert ran.returncode == 1, ran.stdout
    assert all(word in ran.stdout for word in words), ran.stdout
    assert "panicked" not in ran.stdout and "bandstand: ready" not in ran.stdout


@pytest.mark.parametrize("app", ["factories:", ":app", "factories:create(", "a b:c"])
def test_an_app_that_cannot_be_meant(stand, app):
    ran = refused(app, stand.folder, pythonpath=APPS)
    assert ran.returncode == 2, ran.stdout
    assert app in ran.stdout


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"settings": "THIS IS NOT PYTHON"}, ["SyntaxError", "settings.py"]),
        ({"settings": "raise RuntimeError('database password missing')"}, ["Traceback", "database password missing"]),
        ({"settings": "INSTALLED_APPS = ['not_installed_app']"}, ["Traceback", "not_installed_app"]),
        ({"wsgi": "import a_missing_module"}, ["Traceback", "a_missing_module"]),
    ],
)
def test_a_project_that_does_not_import_shows_its_traceback_once(stand, changes, words):
    ran = refused(None, project.write(stand.folder, **changes), workers=2)
    assert ran.returncode == 1, ran.stdout
    assert all(word in ran.stdout for word in words), ran.stdout
    assert ran.stdout.count("Traceback (most recent call last)") <= 2, "the same traceback from every worker"


def test_a_folder_without_a_project_says_what_to_do(stand):
    ran = refused(None, stand.folder)
    assert ran.returncode in (1, 2) and "manage.py" in ran.stdout


def test_a_worker_that_exits_at_import_does_not_hang_the_start(stand):
    (stand.folder / "quitter.py").write_text("import os\nos._exit(7)\n")
    ran = refused("quitter:app", stand.folder)
    assert ran.returncode == 1 and "7" in ran.stdout


def test_a_static_root_that_is_not_there_is_named(stand):
    """Everything else goes on: the folder may come with the first upload or the first collectstatic."""
    server = stand.serve(static=f"/static/={stand.folder}/nowhere", media=f"/media/={stand.folder}/later")
    server.wait_text(f"{stand.folder}/nowhere")
    server.wait_text(f"{stand.folder}/later")
    assert server.get("/").status == 200
    assert server.get("/static/a.css").status == 404


def test_a_static_root_that_is_a_file_is_named(stand):
    (stand.folder / "file").touch()
    ran = refused("probe:app", stand.folder, static=f"/static/={stand.folder}/file", pythonpath=APPS)
    assert ran.returncode in (1, 2) and f"{stand.folder}/file" in ran.stdout


def test_uncollected_static_files_of_django_do_not_stop_it(stand):
    """A project is served before its first collectstatic too; a warning says what is missing."""
    folder = project.write(stand.folder, settings="STATIC_ROOT = BASE_DIR / 'not-collected'")
    server = stand.serve(None, folder=folder)
    assert server.get("/").status == 200
    assert "collectstatic" in server.wait_text("not-collected")


def test_a_chdir_that_is_not_there_is_named(stand):
    ran = refused("probe:app", stand.folder, chdir=stand.folder / "nowhere", pythonpath=APPS)
    assert ran.returncode in (1, 2) and "nowhere" in ran.stdout


def test_a_python_that_is_not_there_is_named(stand):
    ran = refused("probe:app", stand.folder, python="/no/such/python", pythonpath=APPS)
    assert ran.returncode in (1, 2) and "/no/such/python" in ran.stdout


# -- health


def test_live_and_ready(stand):
    server = stand.serve()
    for path in "/-/live", "/-/ready":
        for host in "localhost", "10.1.2.3:8000", "nobody.example":
            answer = server.get(path, host=host)
            assert answer.status == 200, (path, host)
            assert "no-store" in answer.get("Cache-Control", ""), path
        assert server.request("HEAD", path).status == 200
    assert stand.seen() == []


def test_health_is_answered_while_every_worker_is_busy(stand):
    server = stand.serve(workers=1, threads=1)
    gate = stand.gate("busy")
    with server.wire() as held:
        held.send(request("GET", "/gate/busy"))
        gate.reached()
        assert server.get("/-/live").status == 200
        assert server.get("/-/ready").status == 200
        gate.open()
        assert held.answer().status == 200


def test_health_paths_can_be_moved_and_switched_off(stand):
    server = stand.serve(health_path="/up", ready_path="off")
    assert server.get("/up").status == 200 and stand.seen() == []
    assert server.get("/-/live").json()["environ"]["PATH_INFO"] == "/-/live"
    assert server.get("/-/ready").json()["environ"]["PATH_INFO"] == "/-/ready"
