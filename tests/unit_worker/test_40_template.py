"""The template: one import, workers forked from it that share nothing they should not, and live without it."""

import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from scripted_edge import PACKAGE, PATIENCE, frame
from scripted_supervisor import Supervisor, become_subreaper

STACKS, STACK = 0x09, 0x4E
APP = """
import os, random, sys
def app(environ, start_response):
    start_response("200 OK", [])
    path = environ["PATH_INFO"]
    if path == "/exit":
        os._exit(3)
    return [{"/": "here", "/pid": str(os.getpid()), "/random": str(random.random())}[path].encode()]
"""
SETTINGS = 'SECRET_KEY = "x"\nROOT_URLCONF = "site_urls"\nMIDDLEWARE = []\nALLOWED_HOSTS = ["*"]\nDATABASES = {}\n'
SQLITE = "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': 'db.sqlite3'}}\n"
URLS = """
from django.http import HttpResponse
from django.urls import path
urlpatterns = [path("page/", lambda request: HttpResponse("page"))]
"""


@pytest.fixture(autouse=True, scope="module")
def subreaper():
    become_subreaper()


@pytest.fixture
def template(tmp_path):
    """`template(source)` starts one whose `app.py` is that text; most tests wait until it is ready."""
    made = []

    def start(source=APP, ready=True, **options):
        supervisor = Supervisor(tmp_path, source, **options)
        made.append(supervisor)
        if ready:
            supervisor.warnings = supervisor.expect("ready")["warnings"]
        return supervisor

    yield start
    for supervisor in made:
        supervisor.close()


@pytest.fixture
def django(template, tmp_path):
    """As `template`, with a Django project: lines for its settings, its URLconf."""
    pytest.importorskip("django")

    def start(settings="", urls=URLS, env=None, **options):
        (tmp_path / "site_settings.py").write_text(SETTINGS + settings)
        (tmp_path / "site_urls.py").write_text(urls)
        env = {"DJANGO_SETTINGS_MODULE": "site_settings", **(env or {})}
        return template(None, app="", env=env, **options)

    return start


# The import


def test_a_template_tells_that_it_is_ready(template):
    supervisor = template()
    assert supervisor.warnings == []


@pytest.mark.parametrize(
    "source, message",
    [
        ("import missing", "ModuleNotFoundError: No module named 'missing'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("x = 1", "AttributeError: module 'app' has no attribute 'application'"),
        ("1/0", "ZeroDivisionError: division by zero"),
    ],
)
def test_a_failure_to_import_is_told(template, source, message):
    supervisor = template(source, ready=False)
    assert supervisor.expect("failed")["traceback"].startswith(message)
    assert supervisor.process.wait(PATIENCE) == 1
    assert supervisor.stderr() == ""


def test_a_failure_of_any_length_fits_into_a_packet(template):
    supervisor = template("raise ValueError('first\\n' + '\\x01é\\n' * 100_000)", ready=False)
    traceback = supervisor.expect("failed")["traceback"]
    assert traceback.startswith("ValueError: first\n") and len(traceback) > 4000


def test_threads_of_the_import_are_named_and_the_template_leaves(template):
    source = "import atexit, threading\natexit.register(print, 'goodbye')\n"
    for name, daemon in (("mailer", True), ("poller", False)):
        source += f"threading.Thread(target=threading.Event().wait, name={name!r}, daemon={daemon}).start()\n"
    supervisor = template(source + APP, ready=False)
    assert supervisor.expect("threads") == {"event": "threads", "names": ["mailer", "poller"]}
    assert supervisor.process.wait(PATIENCE) == 0
    assert supervisor.process.stdout.read() == b"goodbye\n", "nobody else has this import's exit handlers"


def test_a_thread_that_threading_does_not_know_counts(template):
    source = "import _thread, sys, time\nlock = _thread.allocate_lock()\nlock.acquire()\ndef wait(): lock.acquire()\n"
    source += "_thread.start_new_thread(wait, ())\nwhile len(sys._current_frames()) < 2: time.sleep(0.001)\n"
    assert template(source + APP, ready=False).expect("threads")["names"] == ["a thread without a name"]


@pytest.mark.parametrize("urls, line", [("import re\nimport missing\n", 2), ("def broken(:\n", 1)])
@pytest.mark.parametrize("way", ["template", "direct"])
def test_a_broken_urlconf_fails_the_boot_with_file_and_line(django, worker, tmp_path, way, urls, line):
    if way == "template":
        text = django(urls=urls, ready=False).expect("failed")["traceback"]
    else:
        (tmp_path / "site_settings.py").write_text(SETTINGS)
        (tmp_path / "site_urls.py").write_text(urls)
        env = {"DJANGO_SETTINGS_MODULE": "site_settings", "BANDSTAND_PYTHONPATH": str(tmp_path)}
        text = worker(app="", env=env, hello=False).failure()
    assert text.startswith(("ModuleNotFoundError: No module named 'missing'\n", "SyntaxError: "))
    assert f'File "{tmp_path}/site_urls.py", line {line}' in text
    assert "django/urls" not in text and "bandstand/" not in text


def test_a_project_without_a_urlconf_starts(django):
    assert django('del ROOT_URLCONF\nWSGI_APPLICATION = "site_settings.app"\n' + APP).fork().get("/").text == "here"


def test_a_urlconf_that_nobody_asks_for_is_not_imported(template):
    source = "from django.conf import settings\nsettings.configure(ROOT_URLCONF='missing')\n" + APP
    pytest.importorskip("django")
    assert template(source).fork().get("/").text == "here"


# Workers


def test_a_forked_worker_answers(template):
    supervisor = template()
    worker = supervisor.fork(hello=False)
    protocol, threads, project = worker.hello()
    assert (protocol, threads, json.loads(project)["app"]) == (4, 1, "app:app")
    assert worker.get("/").text == "here"
    assert worker.stop() == 0
    assert worker.stderr() == "" and supervisor.stderr() == ""


def test_a_django_project_is_forked(django):
    supervisor = django("USE_I18N = True\nTEMPLATES = [{'BACKEND': 'django.template.backends.django.DjangoTemplates'}]\n")
    assert supervisor.warnings == []
    worker = supervisor.fork()
    assert worker.get("/page/").text == "page"
    assert worker.get("/missing/").status == 404
    assert worker.stop() == 0 and supervisor.stderr() == ""


def test_warming_fails_nothing(django):
    settings = "USE_I18N = True\nLANGUAGE_CODE = 'nonsense-'\nTEMPLATES = [{'BACKEND': 'missing.Engine'}]\n"
    assert django(settings + "DATABASES = {'default': {'ENGINE': 'missing.engine'}}\n").fork().socket


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_an_asgi_app_is_forked(template, loop):
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    source = """
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"asgi"})
"""
    supervisor = template(source, env={"BANDSTAND_LOOP": loop})
    for _ in range(2):
        worker = supervisor.fork(hello=False)
        assert json.loads(worker.hello()[2])["loop"].startswith(loop)
        id, data = worker.encode_request()
        worker.send(data, to=worker.lane)
        assert worker.answer(id).text == "asgi"
        worker.lane.shutdown(socket.SHUT_WR)
        assert worker.wait() == 0


def test_workers_share_nothing_they_should_not(template):
    supervisor = template()
    workers = [supervisor.fork(), supervisor.fork()]
    pids = [worker.pid for worker in workers]
    assert [int(worker.get("/pid").text) for worker in workers] == pids
    assert len({worker.get("/random").text for worker in workers}) == 2
    assert [os.getpgid(pid) for pid in pids] == pids, "each has a process group of its own"
    for pid in pids:
        assert parent_of(pid) == os.getpid()


def parent_of(pid):
    return int(re.search(r"^PPid:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.M)[1])


def test_a_worker_has_its_own_descriptors_alone(template):
    supervisor = template()
    first, second = supervisor.fork(), supervisor.fork()
    supervisor.settle()
    inside = lambda pid: {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}  # noqa: E731
    line = {link for link in inside(supervisor.process.pid) if link.startswith("socket:")}
    assert len(line) == 1, "the template keeps nothing of its workers"
    shared = inside(first.pid) & inside(second.pid)
    assert [link for link in shared if link.startswith(("socket:", "pipe:"))] == []


def test_what_was_printed_in_the_template_is_printed_once(template):
    source = "import sys\nsys.stdout.reconfigure(line_buffering=False)\nprint('imported')\n" + APP
    supervisor = template(source)
    worker = supervisor.fork()
    worker.stop()
    assert worker.read_stdout() == ""
    supervisor.stop()
    assert supervisor.process.stdout.read() == b"imported\n"


def test_exit_handlers_run_in_workers_and_not_in_the_template(template):
    supervisor = template("import atexit\natexit.register(print, 'goodbye')\n" + APP)
    worker = supervisor.fork()
    assert worker.stop() == 0
    assert worker.read_stdout() == "goodbye\n"
    assert supervisor.stop() == 0
    assert supervisor.process.stdout.read() == b""


def test_stacks_are_dumped_and_signals_to_stop_ignored(template):
    worker = template().fork()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(worker.pid, number)
        assert worker.get("/").text == "here"
    os.kill(worker.pid, signal.SIGRTMIN + 1)
    while "most recent call first" not in worker.stderr():
        assert worker.get("/").text == "here"


def test_a_worker_has_what_fork_hooks_of_the_project_do(template):
    source = "import os\nseen = []\nos.register_at_fork(after_in_child=lambda: seen.append(os.getpid()))\n" + APP
    source += "inner = app\ndef app(environ, start):\n    inner(environ, start)\n    return [str(seen[-1]).encode()]\n"
    worker = template(source).fork()
    assert worker.get("/").text == str(worker.pid)


@pytest.mark.parametrize("handler", ["SIG_IGN", "SIG_DFL"])
def test_a_project_may_ignore_its_children(template, handler):
    worker = template(f"import signal\nsignal.signal(signal.SIGCHLD, signal.{handler})\n" + APP).fork()
    assert worker.get("/").text == "here"


def test_without_preload_each_worker_imports(template):
    source = "import os\nprint('imported')\nif os.path.exists('broken'): 1/0\n" + APP
    supervisor = template(source, env={"BANDSTAND_PRELOAD": "0"})
    assert supervisor.fork().get("/").text == "here"
    (supervisor.folder / "broken").touch()
    assert supervisor.fork(hello=False).failure().startswith("ZeroDivisionError: division by zero\n")
    assert supervisor.workers[1].wait() == 1
    supervisor.stop()
    assert supervisor.process.stdout.read() == b""


def test_a_forked_worker_is_guarded(template):
    worker = template().fork()
    worker.guard.sendall(frame(STACKS, id=5))
    length, kind, _, _, id = struct.unpack("<IBBHQ", worker.guard.recv(16, socket.MSG_WAITALL))
    told = json.loads(worker.guard.recv(length, socket.MSG_WAITALL))
    assert (kind, id) == (STACK, 5)
    assert "MainThread" in [thread["name"] for thread in told["threads"]]


# Ends


def test_the_end_of_the_line_ends_the_template_and_no_worker(template):
    supervisor = template()
    worker = supervisor.fork()
    assert supervisor.stop() == 0
    assert worker.get("/").text == "here"
    assert parent_of(worker.pid) == os.getpid()


def test_a_killed_template_leaves_its_workers_alone(template):
    supervisor = template()
    workers = [supervisor.fork(), supervisor.fork()]
    assert supervisor.kill() == -signal.SIGKILL
    for worker in workers:
        assert worker.get("/").text == "here"
        assert worker.stop() == 0


def test_the_end_of_a_worker_is_nothing_to_the_template(template):
    supervisor = template()
    first = supervisor.fork()
    first.request(path="/exit")
    assert first.wait() == 3
    assert supervisor.fork().get("/").text == "here"


def test_workers_die_with_the_supervisor(tmp_path):
    """The supervisor is another process here, so that it can be killed."""
    (tmp_path / "app.py").write_text(APP)
    script = """
    import pathlib, sys
    from scripted_supervisor import Supervisor, become_subreaper
    become_subreaper()
    supervisor = Supervisor(pathlib.Path.cwd())
    supervisor.expect("ready")
    print(supervisor.process.pid, supervisor.fork().pid, supervisor.fork().pid, flush=True)
    sys.stdin.read()
    """
    env = {**os.environ, "PYTHONPATH": os.path.dirname(__file__), "BANDSTAND_TEST_PYTHONPATH": PACKAGE}
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=tmp_path,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    template_pid, *pids = [int(word) for word in process.stdout.readline().split()]
    assert len(pids) == 2
    # A worker that hangs reads no end of stream: only the signal ends it.
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    process.kill()
    process.wait(PATIENCE)
    for pid in pids:
        _, status = os.waitpid(pid, 0)  # we are the next subreaper
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
    assert os.waitpid(template_pid, 0)[1] == 0, "the end of its line was enough"
    process.stdin.close()
    process.stdout.close()


def test_a_worker_whose_supervisor_is_gone_does_not_stay(template):
    supervisor = template(parent=2**22)  # no process has this number
    worker = supervisor.fork(hello=False)
    assert worker.wait() == 1


# Orders


@pytest.mark.parametrize(
    "packet",
    [
        b"{",
        b"[]",
        b"\xff\x00",
        b"[" * 60_000,
        b'{"order":"dance"}',
        b'{"order":["fork"]}',
        b'{"order":"hook","name":"when_ready"}',
        b'{"order":"hook","name":7}',
    ],
    ids=lambda packet: packet[:30].decode(errors="replace"),
)
@pytest.mark.parametrize("descriptors", [0, 6])
def test_a_broken_order_ends_nothing_and_leaks_nothing(template, packet, descriptors):
    supervisor = template()
    before = os.listdir(f"/proc/{supervisor.process.pid}/fd")
    supervisor.send(packet, [2] * descriptors)
    assert supervisor.fork().get("/").text == "here"
    supervisor.settle()
    assert os.listdir(f"/proc/{supervisor.process.pid}/fd") == before


@pytest.mark.parametrize("count", [0, 5])
def test_a_fork_without_its_descriptors_is_refused(template, count):
    supervisor = template()
    supervisor.send({"order": "fork", "worker": 9}, [2] * count)
    said = f"{count} descriptors came with the order, not 6"
    assert supervisor.receive() == {"event": "fork_failed", "worker": 9, "error": said}
    assert supervisor.fork().get("/").text == "here"


@pytest.mark.parametrize("which", [1, 2])
def test_a_fork_that_fails_is_told_and_can_be_tried_again(template, which):
    """`os.fork` stands for the system, which has no process left: for the template, or for the child in between."""
    source = f"""
import os
fork, calls = os.fork, []
def failing():
    calls.append(None)
    if not os.path.exists("more") and len(calls) == {which}:
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return fork()
os.fork = failing
"""
    supervisor = template(source + APP)
    supervisor.send({"order": "fork", "worker": 1}, [2] * 6)
    said = supervisor.receive()
    assert said == {"event": "fork_failed", "worker": 1, "error": "[Errno 11] Resource temporarily unavailable"}
    (supervisor.folder / "more").touch()
    assert supervisor.fork().get("/").text == "here"


# What the import left open

OPENS = "from django.db import connection\nconnection.cursor().execute('select 1')\n"
ASKS = """
def page(request):
    from django.db import connection
    was = connection.connection is not None
    with connection.cursor() as cursor:
        return HttpResponse(f"{was} {cursor.execute('select 7').fetchone()[0]}")
urlpatterns.append(path("ask/", page))
"""


def test_database_connections_are_closed_and_named(django):
    supervisor = django(SQLITE, urls=OPENS + URLS + ASKS)
    assert supervisor.warnings == [
        "the database connection 'default' was opened while the project was imported; "
        "it was closed before workers were made, each opens its own"
    ]
    held = {os.readlink(entry) for entry in Path(f"/proc/{supervisor.process.pid}/fd").iterdir()}
    assert not [name for name in held if "db.sqlite3" in name]
    assert supervisor.fork().get("/ask/").text == "False 7"


def test_a_database_that_was_not_opened_is_not_named(django):
    assert django(SQLITE, urls="from django.db import connection\nconnection.ops\n" + URLS).warnings == []


CACHE = """
import socket
from django.core.cache.backends.base import BaseCache
class Cache(BaseCache):
    def __init__(self, location, params):
        super().__init__(params)
        self.location, self.line = location, None
    def get(self, key, default=None, version=None):
        if self.line is None:
            host, port = self.location.split(":")
            self.line = socket.create_connection((host, int(port)))
    def close(self, **kwargs):
        if self.line is not None:
            self.line.close()
            self.line = None
"""


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server, "{}:{}".format(*server.getsockname())


def test_caches_are_closed_and_named(django, listener, tmp_path):
    (tmp_path / "site_cache.py").write_text(CACHE)
    one = {"BACKEND": "site_cache.Cache", "LOCATION": listener[1]}
    settings = f"CACHES = {{'default': {{'BACKEND': 'django.core.cache.backends.locmem.LocMemCache'}}, 'pages': {one}}}\n"
    urls = "from django.core.cache import caches\ncaches['default'].get('x')\ncaches['pages'].get('x')\n" + URLS
    supervisor = django(settings, urls=urls)
    assert supervisor.warnings == [
        "the connection of the cache 'pages' was opened while the project was imported; "
        "it was closed before workers were made, each opens its own"
    ]


def test_open_sockets_are_named_with_their_peer(template, listener, tmp_path):
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(tmp_path / "broker"))
    unix.listen()
    source = f"""
import select, socket
socket.setdefaulttimeout(7)
one = socket.create_connection({listener[0].getsockname()!r})
two = socket.socket(socket.AF_UNIX)
two.connect({str(tmp_path / "broker")!r})
three = socket.create_server(("127.0.0.1", 0))
port = three.getsockname()[1]
print(port, flush=True)
# Nothing that anybody outside would hear of.
four, five, six = socket.socket(), socket.socketpair(), select.epoll()
seven = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
seven.connect(("127.0.0.1", 9))
"""
    supervisor = template(source + APP)
    port = supervisor.process.stdout.readline().decode().strip()
    advice = "would be shared by all workers; open it later, or set preload = off"
    assert supervisor.warnings == [
        f"an open connection to {listener[1]} {advice}",
        f"an open connection to {tmp_path}/broker {advice}",
        f"a socket that listens on 127.0.0.1:{port} {advice}",
    ]
    unix.close()


# Ready checks


@pytest.mark.parametrize("way", ["template", "direct"])
@pytest.mark.parametrize(
    "checks, settings, failure",
    [
        ("databases", SQLITE, None),
        ("caches,databases", SQLITE, None),
        ("/health,databases", "", None),
        (
            "databases",
            SQLITE.replace("db.sqlite3'", "missing/db.sqlite3'"),
            "ready_check: the database 'default' does not answer: "
            "django.db.utils.OperationalError: unable to open database file",
        ),
        (
            "databases,caches",
            "CACHES = {'x': {'BACKEND': 'missing.Cache'}}",
            "ready_check: the cache 'x' does not answer: "
            "django.core.cache.backends.base.InvalidCacheBackendError: Could not find backend 'missing.Cache'",
        ),
        ("", SQLITE.replace("db.sqlite3'", "missing/db.sqlite3'"), None),
    ],
)
def test_ready_checks(django, worker, tmp_path, way, checks, settings, failure):
    if way == "template":
        edge = django(settings, env={"BANDSTAND_READY_CHECK": checks}).fork(hello=False)
    else:
        (tmp_path / "site_settings.py").write_text(SETTINGS + settings)
        (tmp_path / "site_urls.py").write_text(URLS)
        env = {"DJANGO_SETTINGS_MODULE": "site_settings", "BANDSTAND_PYTHONPATH": str(tmp_path)}
        edge = worker(app="", env={**env, "BANDSTAND_READY_CHECK": checks}, hello=False)
    if failure is None:
        edge.hello()
        assert edge.get("/page/").text == "page"
    else:
        said = edge.failure()
        assert said.startswith(failure) and "\n\nTraceback (most recent call last):\n" in said
        assert edge.wait() == 1


def test_a_checked_connection_is_closed_again(django):
    supervisor = django(SQLITE, urls=URLS, env={"BANDSTAND_READY_CHECK": "databases"})
    worker = supervisor.fork()
    held = {os.readlink(entry) for entry in Path(f"/proc/{worker.pid}/fd").iterdir()}
    assert not [name for name in held if "db.sqlite3" in name]


# Memory


def private_bytes(pid):
    """What this process alone holds; see proc(5), smaps_rollup."""
    return 1024 * int(re.search(r"^Private_Dirty:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[1])


def test_a_forked_worker_has_less_memory_of_its_own(django, worker, tmp_path, record_property):
    forked = django().fork()
    env = {"DJANGO_SETTINGS_MODULE": "site_settings", "BANDSTAND_PYTHONPATH": str(tmp_path)}
    direct = worker(app="", env=env)
    measured = {"forked": private_bytes(forked.pid), "direct": private_bytes(direct.process.pid)}
    print({name: f"{count / 2**20:.1f} MiB" for name, count in measured.items()})
    assert measured["forked"] < measured["direct"]
