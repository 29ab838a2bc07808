"""Which road each request takes, and what is said of it beforehand: routes, middleware, findings."""

import json

import pytest
from scripted_edge import MOVED
from test_30_interface import ASGI, ROUTER, describe

pytest.importorskip("django")

SETTINGS = """
SECRET_KEY = "x"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "site_urls"
USE_I18N = True
LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
MIDDLEWARE = ["django.middleware.locale.LocaleMiddleware", "site_urls.switches"]
"""

URLS = """
import functools
from django.conf.urls.i18n import i18n_patterns
from django.http import HttpResponse
from django.urls import include, path, re_path
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt

def switches(get_response):
    def middleware(request):
        if request.path == "/moved-by-middleware/":
            request.urlconf = "site_urls"
            request.path_info = "/sync/"
        return get_response(request)
    return middleware

def answer(request, *args, **kwargs):
    return HttpResponse(type(request).__name__)

async def answer_async(request, *args, **kwargs):
    return answer(request)

class Sync(View):
    def get(self, request, *args, **kwargs):
        return answer(request)

class Async(View):
    async def get(self, request, *args, **kwargs):
        return answer(request)
    async def post(self, request, *args, **kwargs):
        return answer(request)

inner = [path("sync/", answer), path("async/", answer_async, name="inner")]
urlpatterns = [
    path("sync/", answer),
    path("async/", answer_async, name="async"),
    path("class/sync/", Sync.as_view()),
    path("class/async/", csrf_exempt(Async.as_view())),
    path("partial/", functools.partial(answer_async, x=1)),
    path("items/<int:pk>/", answer_async),
    path("items/<slug:name>/", answer),
    path("inside/", include((inner, "app"), namespace="space")),
    re_path(r"^re/(?P<n>[0-9]+)/$", answer_async),
    *i18n_patterns(path("local/", answer_async), path("local/sync/", answer), prefix_default_language=False),
]
"""


@pytest.fixture
def site(worker, tmp_path):
    def start(settings="", urls=URLS, asgi=ASGI, app="site_asgi:application", **env):
        (tmp_path / "site_settings.py").write_text(SETTINGS + settings)
        (tmp_path / "site_urls.py").write_text(urls)
        (tmp_path / "site_asgi.py").write_text(asgi)
        env = {"DJANGO_SETTINGS_MODULE": "site_settings", "BANDSTAND_PYTHONPATH": str(tmp_path), **env}
        edge = worker(app=app, env=env, hello=False)
        edge.project = json.loads(edge.hello()[2])
        return edge

    return start


def road(edge, path, method="GET"):
    """What the answer says, and whether the request moved to the loop."""
    id = edge.request(method, path)
    kind, _, _, _, _, _ = first = edge.receive()
    if kind == MOVED:
        return edge.answer(id).text, True
    edge.buffer = repack(first) + edge.buffer
    return edge.answer(id).text, False


def repack(received):
    from scripted_edge import frame

    kind, flags, place, id, payload, _ = received
    return frame(kind, payload, flags, place, id)


THREAD, LOOP = ("WSGIRequest", False), ("ASGIRequest", True)


@pytest.mark.parametrize(
    "path, taken",
    [
        ("/sync/", THREAD),
        ("/async/", LOOP),
        ("/class/sync/", THREAD),
        ("/class/async/", LOOP),
        ("/partial/", LOOP),
        ("/items/5/", LOOP),
        ("/items/five/", THREAD),
        ("/inside/sync/", THREAD),
        ("/inside/async/", LOOP),
        ("/re/5/", LOOP),
        ("/local/", LOOP),
        ("/de/local/", LOOP),
        ("/de/local/sync/", THREAD),
        ("/local/sync/", THREAD),
        ("/moved-by-middleware/", THREAD),
    ],
)
def test_the_view_decides_when_there_is_no_bridge(site, path, taken):
    edge = site(BANDSTAND_BRIDGE="0")
    assert [road(edge, path), road(edge, path)] == [taken, taken]


def test_what_the_urlconf_does_not_know_stays_on_a_thread(site):
    edge = site(BANDSTAND_BRIDGE="0")
    for path in ("/missing/", "/" + "x" * 5000, "/\udcff/".encode(errors="surrogateescape")):
        text, moved = road(edge, path)
        assert ("Not Found" in text, moved) == (True, False)
    edge.lane.close()
    assert edge.stop() == 0
    assert edge.stderr().count("Traceback") == 0


def test_the_mount_point_is_no_part_of_the_path(site):
    edge = site(BANDSTAND_BRIDGE="0")
    id = edge.request("GET", "/shop/async/", root_path=b"/shop")
    edge.expect(MOVED, id)
    assert edge.answer(id).text == "ASGIRequest"


def test_with_the_bridge_nobody_is_asked(site):
    edge = site()
    assert road(edge, "/async/") == ("WSGIRequest", False)
    assert road(edge, "/class/async/", "POST") == ("WSGIRequest", False)


def test_routes_of_channels_that_do_not_lead_to_django_take_the_loop(site):
    pytest.importorskip("channels")
    asgi = (
        ROUTER
        + """
from django.urls import path, re_path
async def other(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"other"})
http = URLRouter([path("events/", other), path("deep/", URLRouter([path("er/", other)])), re_path("", application)])
application = ProtocolTypeRouter({"http": http})
"""
    )
    edge = site(asgi=asgi)
    assert edge.project["interface"] == "both"
    for path, taken in [
        ("/events/", ("other", True)),
        ("/deep/er/", ("other", True)),
        ("/sync/", THREAD),
        ("/async/", LOOP),
    ]:
        assert road(edge, path) == taken


# What is said beforehand


@pytest.fixture
def survey(tmp_path):
    def ask(*arguments, settings="", urls=URLS, asgi=ASGI, **env):
        (tmp_path / "site_settings.py").write_text(SETTINGS + settings)
        (tmp_path / "site_urls.py").write_text(urls)
        (tmp_path / "site_asgi.py").write_text(asgi)
        env = {"DJANGO_SETTINGS_MODULE": "site_settings", **env}
        return describe(tmp_path, "site_asgi:application", arguments, **env)

    return ask


def test_every_route_has_its_road_and_reason(survey):
    said = survey()
    routes = {route["pattern"]: route for route in said["routes"]}
    assert routes["sync/"] == {
        "pattern": "sync/",
        "name": None,
        "view": "site_urls.answer",
        "async": False,
        "road": "thread",
        "why": "sync view",
    }
    assert routes["class/async/"]["view"] == "site_urls.Async"
    assert routes["inside/async/"]["name"] == "space:inner"
    assert routes["re/(?P<n>[0-9]+)/$"]["road"] == "bridge"
    assert "[<language>/]local/" in routes
    roads = {pattern: route["road"] for pattern, route in routes.items() if route["async"]}
    assert set(roads.values()) == {"bridge"} and len(roads) == 7
    for env, road in [({"BANDSTAND_BRIDGE": "0"}, "loop"), ({"BANDSTAND_INTERFACE": "asgi"}, "loop")]:
        assert {route["road"] for route in survey(**env)["routes"] if route["async"]} == {road}


def test_middleware_and_how_it_can_be_called(survey):
    assert survey()["middleware"] == [
        {"name": "django.middleware.locale.LocaleMiddleware", "sync": True, "async": True},
        {"name": "site_urls.switches", "sync": True, "async": False},
    ]


@pytest.mark.parametrize(
    "options, level, what, where",
    [
        ({}, "info", "async views take the bridge: site_urls.answer_async", "site_urls.py:21"),
        (
            {"BANDSTAND_BRIDGE": "0"},
            "info",
            "async views take Django's ASGI handler (site_urls.answer_async, site_urls.Async): "
            "bridge is off",
            "site_urls.py:21",
        ),
        (
            {"BANDSTAND_BRIDGE": "0"},
            "warning",
            "each request on the loop hops to a thread and back for 2 middleware: django.middleware.locale.LocaleMiddleware",
            "MIDDLEWARE",
        ),
        (
            {"settings": 'DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "ATOMIC_REQUESTS": True}}'},
            "error",
            "site_urls.answer_async is async and the database 'default' has ATOMIC_REQUESTS: Django refuses the request",
            "site_urls.py:21",
        ),
        (
            {
                "settings": "MIDDLEWARE += ['site_urls.only']",
                "urls": URLS
                + "def only(get):\n    async def m(r): return await get(r)\n    return m\n"
                + "only.sync_capable, only.async_capable = False, True",
            },
            "warning",
            "site_urls.only can only be called by a loop, so there is no bridge and all HTTP takes the ASGI handler",
            "MIDDLEWARE",
        ),
        ({"urls": "import missing", "settings": "MIDDLEWARE = []"}, "error", "the URLconf does not import: ModuleNotFoundError: ", "ROOT_URLCONF"),
    ],
)
def test_findings(survey, options, level, what, where):
    findings = survey(**options)["findings"]
    assert [f["where"] for f in findings if f["level"] == level and f["what"].startswith(what)] == [where], findings


def test_checks_and_migrations(survey):
    sqlite = 'DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "site.sqlite3"}}\n'
    installed = 'INSTALLED_APPS = ["django.contrib.contenttypes"]\nDEFAULT_AUTO_FIELD = 5\n'
    said = survey(settings=sqlite + installed)
    assert not any("migrations" in finding["what"] for finding in said["findings"]), "only with --check"
    said = survey("--check", "--deploy", settings=sqlite + installed.replace("5", '"django.db.models.AutoField"'))
    whats = [finding["what"] for finding in said["findings"]]
    unapplied = "2 migrations are not applied to the database 'default': contenttypes.0001_initial, "
    assert any(what.startswith(unapplied) for what in whats)
    assert any(what.endswith("(security.W009)") for what in whats)
    absent = 'DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "/missing/site.sqlite3"}}\n'
    said = survey("--check", settings=absent + 'INSTALLED_APPS = ["django.contrib.contenttypes"]')
    [finding] = [f for f in said["findings"] if "cannot be asked" in f["what"]]
    assert finding["level"] == "warning" and finding["where"] == "DATABASES['default']"


def test_what_the_project_prints_is_not_in_the_way(survey):
    said = survey(urls="import os\nprint('noise')\nos.system('echo noise')\n" + URLS)
    assert len(said["routes"]) == 12
