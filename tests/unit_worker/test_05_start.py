"""How a worker starts and leaves: finding the app, the hello, failures in words, signals."""

import json
import os
import signal
import sys

import pytest
from scripted_edge import PACKAGE

ANSWERS = """
def answering(text):
    def app(environ, start_response):
        start_response("200 OK", [])
        return [text.encode()]
    return app
"""


@pytest.mark.parametrize(
    "target, source, body",
    [
        ("app", "application = answering('application'); app = None", "application"),
        ("app", "app = answering('app')", "app"),
        ("app:other", "other = answering('other')", "other"),
        ("app:make()", "def make(): return answering('made')", "made"),
        ("app:make('a', n=[1, 2])", "def make(a, n): return answering(a + str(n))", "a[1, 2]"),
        ("app:Holder.app", "class Holder: app = staticmethod(answering('held'))", "held"),
    ],
)
def test_the_app_is_found(worker, target, source, body):
    edge = worker(ANSWERS + source, app=target, hello=False)
    protocol, threads, project = edge.hello()
    assert (protocol, threads, edge.tasks) == (4, 1, 0)
    assert json.loads(project)["app"].startswith(target)
    assert edge.get("/").text == body


@pytest.mark.parametrize(
    "target, source, message",
    [
        ("missing", "", "ModuleNotFoundError: No module named 'missing'"),
        ("app", "import missing", "ModuleNotFoundError: No module named 'missing'"),
        ("app", "x = 1", "AttributeError: module 'app' has no attribute 'application'"),
        ("app:nothing", "x = 1", "AttributeError: module 'app' has no attribute 'nothing'"),
        ("app", "app = 5", "TypeError: app is 5, which cannot be called"),
        ("app", "def broken(:", "SyntaxError: "),
        ("app", "raise SystemExit(3)", "SystemExit: 3"),
        ("app", "raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("app", "1/0", "ZeroDivisionError: division by zero"),
        ("app:make(open)", "def make(x): pass", "ValueError: the arguments in 'make(open)' must be literals"),
        ("app:1+1", "", "ValueError: '1+1' is neither a name nor a call of one with literal arguments"),
        ("app:", "raise ValueError('two\\nlines')", "ValueError: two\n"),
    ],
)
def test_a_failure_to_import_is_told(worker, target, source, message):
    edge = worker(source, app=target, hello=False)
    failure = edge.failure()
    assert failure.startswith(message)
    assert "bandstand/worker.py" not in failure and "importlib" not in failure
    assert edge.wait() == 1
    assert edge.stderr() == ""
    with pytest.raises(EOFError):
        edge.receive()


def test_the_traceback_starts_with_the_project(worker):
    failure = worker("def inner():\n    1/0\ninner()", hello=False).failure()
    lines = failure.splitlines()
    assert lines[:3] == ["ZeroDivisionError: division by zero", "", "Traceback (most recent call last):"]
    assert "app.py" in lines[3] and "line 3" in lines[3]


def test_the_hello_without_django(worker):
    edge = worker(ANSWERS + "app = answering('')", hello=False)
    assert json.loads(edge.hello()[2]) == {
        "interpreter": sys.version.split()[0],
        "implementation": sys.implementation.name.replace("cpython", "CPython"),
        "app": "app:app",
        "interface": "wsgi",
        "reason": "app is a WSGI application",
        "websockets": False,
        "django": None,
    }


SETTINGS = """
from pathlib import Path
SECRET_KEY = "x"
DEBUG = False
ALLOWED_HOSTS = ["shop.example", ".shop.example"]
ROOT_URLCONF = "site_urls"
STATIC_URL = "assets/"
STATIC_ROOT = Path("/srv/static")
MEDIA_URL = "/media/"
MEDIA_ROOT = "/srv/media"
SECURE_SSL_REDIRECT = True
SECURE_HSTS_SECONDS = 60
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}
"""
URLS = """
import io, tempfile
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.urls import path

def upload(request):
    return HttpResponse(f"{len(request.FILES['f'].read())} {request.POST['a']} {request.method}")

def file(request):
    f = tempfile.TemporaryFile()
    f.write(b"0123456789" * 1000)
    f.seek(0)
    return FileResponse(f, filename="x.txt")

urlpatterns = [
    path("page/", lambda request: HttpResponse("page of " + request.get_host())),
    path("stream/", lambda request: StreamingHttpResponse(iter([b"a", b"b"]))),
    path("file/", file),
    path("memory/", lambda request: FileResponse(io.BytesIO(b"memory"))),
    path("upload/", upload),
    path("error/", lambda request: 1 / 0),
]
"""


@pytest.fixture
def django(worker, tmp_path):
    pytest.importorskip("django")
    (tmp_path / "site_settings.py").write_text(SETTINGS)
    (tmp_path / "site_wsgi.py").write_text(
        "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n"
    )
    (tmp_path / "site_urls.py").write_text(URLS)

    def start(settings="", app="", **env):
        (tmp_path / "site_settings.py").write_text(SETTINGS + settings)
        env = {"DJANGO_SETTINGS_MODULE": "site_settings", "BANDSTAND_PYTHONPATH": str(tmp_path), **env}
        return worker(app=app, env=env, hello=False)

    return start


@pytest.mark.parametrize(
    "settings, target, name",
    [
        ("", "", "django.core.wsgi:get_wsgi_application()"),
        ("WSGI_APPLICATION = 'site_wsgi.application'", "", "site_wsgi:application"),
        ("", "site_wsgi", "site_wsgi:application"),
    ],
)
def test_a_django_project_is_found_and_described(django, settings, target, name):
    import django as package

    edge = django(settings, target)
    project = json.loads(edge.hello()[2])
    assert project["app"] == name
    assert project["django"] == {
        "version": package.get_version(),
        "settings_module": "site_settings",
        "debug": False,
        "static_url": "/assets/",
        "static_root": "/srv/static",
        "media_url": "/media/",
        "media_root": "/srv/media",
        "allowed_hosts": ["shop.example", ".shop.example"],
        "secure_ssl_redirect": True,
        "secure_hsts_seconds": 60,
        "secure_hsts_include_subdomains": None,
        "secure_hsts_preload": None,
        "secure_content_type_nosniff": None,
        "secure_referrer_policy": None,
        "secure_cross_origin_opener_policy": None,
        "x_frame_options": None,
        "secure_proxy_ssl_header": None,
        "use_x_forwarded_host": False,
        "use_x_forwarded_port": False,
        "data_upload_max_memory_size": 2621440,
        "storage": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage",
        "default_storage": "django.core.files.storage.FileSystemStorage",
        "force_script_name": None,
    }
    assert edge.get("/page/", fields=[("Host", "shop.example")]).text == "page of shop.example"


def test_django_answers_of_all_kinds(django):
    edge = django()
    edge.hello()
    answer = edge.get("/page/", fields=[("Host", "shop.example")])
    assert (answer.whole, answer.text) == (True, "page of shop.example")
    answer = edge.get("/stream/")
    assert (answer.whole, answer.body) == (False, b"ab")
    answer = edge.get("/file/")
    assert answer.header("content-length") == ["10000"]
    assert os.pread(answer.descriptor, answer.body_length, answer.offset) == b"0123456789" * 1000
    os.close(answer.descriptor)
    assert edge.get("/memory/").body == b"memory"
    assert edge.get("/error/").status == 500
    assert edge.get("/missing/").status == 404
    form = b'--B\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--B\r\n'
    form += b'Content-Disposition: form-data; name="f"; filename="f"\r\n\r\n' + b"y" * 100_000 + b"\r\n--B--\r\n"
    answer = edge.get("/upload/", method="POST", body=form, fields=[("Content-Type", "multipart/form-data; boundary=B")])
    assert answer.text == "100000 x POST"


@pytest.mark.parametrize(
    "settings, message",
    [
        ("1/0", "ZeroDivisionError: division by zero"),
        ("WSGI_APPLICATION = 'missing.application'", "ModuleNotFoundError: No module named 'missing'"),
        ("INSTALLED_APPS = ['missing']", "ModuleNotFoundError: No module named 'missing'"),
        ("INSTALLED_APPS = ['missing", "SyntaxError: "),
    ],
)
def test_a_django_project_that_does_not_start(django, settings, message):
    edge = django(settings)
    assert edge.failure().startswith(message)
    assert edge.wait() == 1


def test_the_path_comes_first_then_the_folder(worker, tmp_path):
    extra = tmp_path / "extra"
    extra.mkdir()
    (extra / "helper_of_test.py").write_text("name = 'extra'")
    edge = worker(
        """
import sys
import helper_of_test
def app(environ, start_response):
    start_response("200 OK", [])
    return ["\\n".join(sys.path[:2] + [helper_of_test.name]).encode()]
""",
        env={"BANDSTAND_PYTHONPATH": f"{extra}:"},
    )
    assert edge.get("/").text.splitlines() == [str(extra), str(tmp_path / "0"), "extra"]


def test_variables_are_taken_out_of_the_environment(worker):
    edge = worker(
        """
import os, subprocess, sys
def app(environ, start_response):
    start_response("200 OK", [])
    code = "import os; print([k for k in os.environ if k.startswith('BANDSTAND_')], os.listdir('/proc/self/fd'))"
    return [subprocess.check_output([sys.executable, "-c", code], close_fds=False)]
"""
    )
    assert edge.get("/").text.split(" ", 1)[0] == "[]"
    assert "'4'" not in edge.get("/").text, "the channel and the board are not inherited further"


@pytest.mark.parametrize("threads", [1, 2])
def test_signals_to_stop_are_the_edges_business(worker, threads):
    edge = worker(ANSWERS + "app = answering('alive')", threads=threads)
    for number in (signal.SIGINT, signal.SIGTERM):
        edge.process.send_signal(number)
        assert edge.get("/").text == "alive"
    assert edge.stop() == 0


@pytest.mark.parametrize("threads", [1, 2])
def test_signal_handlers_of_the_app_run_while_it_is_idle(worker, gate, threads):
    edge = worker(
        ANSWERS
        + f"""
import signal
seen = []
def handler(*args):
    # More of them come while the first is being handled.
    if seen:
        return
    seen.append(True)
    open({gate.path!r}).read()
    raise ValueError("from the handler")
signal.signal(signal.SIGUSR1, handler)
app = answering("alive")
""",
        threads=threads,
    )
    assert edge.get("/").text == "alive"
    # The answer leaves just before the thread waits: a signal in between is seen with the next one.
    while not gate.is_reached():
        edge.process.send_signal(signal.SIGUSR1)
    assert edge.get("/").text == "alive"
    assert edge.stop() == 0
    assert "ValueError: from the handler" in edge.stderr()


def test_stacks_are_dumped_on_a_signal(worker, gate):
    edge = worker(f"def app(e, s):\n    open({gate.path!r}).read()\n    s('200 OK', [])\n    return []")
    id = edge.request()
    with open(gate.path, "w"):
        edge.process.send_signal(signal.SIGRTMIN + 1)
        while "in app" not in edge.stderr():
            assert edge.process.poll() is None
    assert edge.answer(id).status == 200


def test_leaving_runs_exit_handlers_and_waits_for_no_thread(worker):
    edge = worker(
        ANSWERS
        + """
import atexit, threading
atexit.register(print, "goodbye")
threading.Thread(target=threading.Event().wait).start()
app = answering("")
"""
    )
    assert edge.stop() == 0
    assert edge.process.stdout.read() == b"goodbye\n"


def test_output_is_not_held_back(worker):
    edge = worker("def app(e, s):\n    print('heard')\n    s('200 OK', [])\n    return []")
    edge.get("/")
    assert edge.process.stdout.readline() == b"heard\n"


def test_children_of_the_app_can_be_terminated(worker):
    edge = worker(
        """
import multiprocessing, os, signal, subprocess, time
def app(environ, start_response):
    program = subprocess.Popen(["sleep", "100"])
    program.terminate()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, b"x")
        signal.pause()
    os.read(read, 1)
    os.kill(child, signal.SIGTERM)
    start_response("200 OK", [])
    return [f"{program.wait()} {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}".encode()]
"""
    )
    assert edge.get("/").text == "-15 -15"


def test_wsgiref_validate_is_content(worker):
    edge = worker(
        """
from wsgiref.validate import validator
import wsgiref.util
def inner(environ, start_response):
    source = environ["wsgi.input"]
    parts = [source.read(3), source.readline(), source.readline(5), *source.readlines(), *source]
    environ["wsgi.errors"].write("")
    environ["wsgi.errors"].flush()
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/write":
        write(b"written ")
    if environ["PATH_INFO"] == "/file":
        return environ["wsgi.file_wrapper"](open(__file__, "rb"))
    return iter([b"got ", b"".join(parts)])
app = validator(inner)
""",
        env={"PYTHONWARNINGS": "error::wsgiref.validate.WSGIWarning"},
    )
    for path, body in [("/", b"got one\ntwo\nthree"), ("/write", b"written got one\ntwo\nthree")]:
        answer = edge.get(path, method="POST", body=b"one\ntwo\nthree", fields=[("Content-Type", "text/plain")])
        assert (answer.status, answer.body) == (200, body)
    assert edge.get("/file").status == 200
    assert edge.get("/", root_path=b"", method="HEAD").status == 200
    edge.stop()
    assert edge.stderr() == ""


def test_the_package_is_where_the_tests_look():
    assert os.path.exists(os.path.join(PACKAGE, "bandstand", "worker.py"))
