"""What a worker of ``dev`` tells and changes: files to watch, notes on answers, static files, the script in pages."""

import json
import subprocess
import sys
import textwrap

import pytest

pytest.importorskip("django")

SETTINGS = """
SECRET_KEY = "x"
DEBUG = True
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "site_urls"
INSTALLED_APPS = ["django.contrib.staticfiles", "shelf"]
STATIC_URL = "/static/"
USE_I18N = True
LOCALE_PATHS = ["words"]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": ["pages"], "APP_DIRS": True}]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
"""

URLS = """
from django.db import connection
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import path

def page(request, name="x"):
    with connection.cursor() as cursor:
        for number in range(int(request.GET.get("n", 0))):
            cursor.execute("SELECT %s", [number])
    return HttpResponse(request.GET.get("html", "<html><body>é</body></html>"))

async def page_async(request):
    return HttpResponse("<html><body>é</body></html>")

def lazy(request):
    import imported_later
    return HttpResponse("part")

urlpatterns = [
    path("page/<slug:name>/", page, name="page"),
    path("async/", page_async),
    path("lazy/", lazy),
    path("text/", lambda request: HttpResponse("<body></body>", "text/plain")),
    path("stream/", lambda request: StreamingHttpResponse(["<html></body>"])),
    path("zip/", lambda request: HttpResponse("</body>", headers={"Content-Encoding": "gzip"})),
    path("load/", lambda request: HttpResponse("</body>", headers={"Content-Disposition": "attachment"})),
    path("twice/", lambda request: HttpResponse("<pre></body></pre></BODY>")),
]
"""

HARNESS = """
import io, json, os, sys
sys.path.insert(0, os.getcwd())
os.environ["DJANGO_SETTINGS_MODULE"] = "site_settings"
from bandstand import dev, target, warm
apps = target.load(None, "both")
warm.import_urlconf()
apps = dev.prepare(apps, RELOAD)
watched = dev.watched()

def get(path, query="", **more):
    told = {}
    def start(status, fields, exc_info=None):
        told.update(status=int(status[:3]), fields={name.lower(): value for name, value in fields})
    environ = dict(REQUEST_METHOD="GET", PATH_INFO=path, QUERY_STRING=query, SERVER_NAME="x", SERVER_PORT="80",
                   SERVER_PROTOCOL="HTTP/1.1", **{"wsgi.input": io.BytesIO(), "wsgi.url_scheme": "http"}, **more)
    told["body"] = b"".join(apps.wsgi(environ, start)).decode()
    told["note"] = json.loads(told["fields"].get("x-bandstand-dev", "null"))
    return told

async def get_async(path):
    told = {"body": b""}
    messages = [{"type": "http.request", "body": b"", "more_body": False}]
    async def receive():
        return messages.pop() if messages else await __import__("asyncio").Event().wait()
    async def send(message):
        if message["type"] == "http.response.start":
            told["fields"] = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        told["body"] += message.get("body", b"")
    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b"", "http_version": "1.1"}
    await apps.asgi(scope, receive, send)
    return {**told, "body": told["body"].decode(), "note": json.loads(told["fields"].get("x-bandstand-dev", "null"))}
"""

SCRIPT = '<script src="/-/dev/reload.js" defer></script>'


@pytest.fixture
def site(tmp_path):
    """`site("expression")`: its value in a process whose apps are those of `dev`, as JSON."""
    for name, text in {
        "site_settings.py": SETTINGS,
        "site_urls.py": URLS,
        "imported_later.py": "",
        "shelf/__init__.py": "",
        "shelf/static/shelf.css": "p {}",
        "shelf/templates/shelf.html": "",
        "pages/base.html": "",
        "words/de/LC_MESSAGES/django.po": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)

    def run(expression, before="", reload=True):
        code = HARNESS.replace("RELOAD", str(reload)) + textwrap.dedent(before) + f"\nprint(json.dumps({expression}))"
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    run.folder = tmp_path
    return run


def test_what_is_watched(site):
    told = site("watched")
    folder = str(site.folder)
    assert sorted(told["files"]) == [f"{folder}/{name}" for name in ("shelf/__init__.py", "site_settings.py", "site_urls.py")]
    assert told["templates"] == [f"{folder}/pages", f"{folder}/shelf/templates"]
    assert told["locale"] == [f"{folder}/words"]
    assert told["static"] == [f"{folder}/shelf/static"]


def test_a_module_imported_later_is_told_once(site):
    told = site("[get('/page/a/')['note'], get('/lazy/')['note'], get('/lazy/')['note']]")
    assert "files" not in told[2]
    assert told[1]["files"] == [f"{site.folder}/imported_later.py"]


def test_many_files_are_told_over_several_answers(site):
    before = """
    for n in range(300):
        modules = dev.tellers[-1]
        modules.waiting.append(f"/some/folder/with/a/long/name/module_{n}.py")
    """
    sizes = site("[len(get('/page/a/')['fields']['x-bandstand-dev']) for _ in range(9)]", before)
    assert max(sizes) < 8000 and sizes[0] > 4000 and sizes[-1] < 100


@pytest.mark.parametrize("how", ["get('/page/a/', 'n=12')", "__import__('asyncio').run(get_async('/page/a/'))"])
def test_route(site, how):
    note = site(how)["note"]
    assert (note["route"], note["view"]) == ("/page/<slug:name>/", "page")


def test_sql_is_counted_without_parameters(site):
    assert site("get('/page/a/', 'n=12')")["note"] | {"sql_ms": 0} == {
        "route": "/page/<slug:name>/",
        "view": "page",
        "sql": 12,
        "sql_ms": 0,
        "same": 12,
    }
    assert "sql" not in site("[get('/page/a/', 'n=3'), get('/page/a/')][1]")["note"], "each request has its own count"


def test_an_unknown_path_has_a_note_and_no_route(site):
    answer = site("get('/nothing/')")
    assert answer["status"] == 404 and "route" not in answer["note"]


@pytest.mark.parametrize("how", ["get('/page/a/')", "__import__('asyncio').run(get_async('/page/a/'))", "get('/async/')"])
def test_the_script_is_in_whole_pages(site, how):
    answer = site(how)
    assert answer["body"] == f"<html><body>é{SCRIPT}</body></html>"
    assert int(answer["fields"].get("content-length", len(answer["body"].encode()))) == len(answer["body"].encode())


@pytest.mark.parametrize("path", ["/text/", "/stream/", "/zip/", "/load/", "/lazy/", "/static/shelf.css"])
def test_the_script_is_nowhere_else(site, path):
    assert SCRIPT not in site(f"get({path!r})")["body"]


def test_the_script_is_before_the_last_end(site):
    assert site("get('/twice/')")["body"] == f"<pre></body></pre>{SCRIPT}</BODY>"


def test_no_script_without_browser_reload(site):
    assert SCRIPT not in site("get('/page/a/')", reload=False)["body"]


@pytest.mark.parametrize("how", ["get('/static/shelf.css')", "__import__('asyncio').run(get_async('/static/shelf.css'))"])
def test_static_files_are_found_and_not_kept(site, how):
    answer = site(how)
    assert answer["body"] == "p {}" and answer["fields"]["cache-control"] == "no-cache"


def test_without_debug_static_files_are_not_found(site):
    (site.folder / "site_settings.py").write_text(SETTINGS.replace("DEBUG = True", "DEBUG = False"))
    assert site("get('/static/shelf.css')")["status"] == 404
