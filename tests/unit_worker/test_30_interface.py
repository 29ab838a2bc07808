"""Which interface a worker takes: what an app is, and what a Django project brings; always with the reason."""

import json
import os
import subprocess
import sys

import pytest
from scripted_edge import PACKAGE

SETTINGS = 'SECRET_KEY = "x"\nROOT_URLCONF = "site_urls"\nMIDDLEWARE = []\nDATABASES = {}\n'
SYNC = "from django.http import HttpResponse\nfrom django.urls import path\nurlpatterns = [path('', HttpResponse)]\n"
ASYNC = SYNC + "async def view(request): return HttpResponse()\nurlpatterns.append(path('a/', view))\n"
WSGI = "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n"
ASGI = "from django.core.asgi import get_asgi_application\napplication = get_asgi_application()\n"
ROUTER = ASGI + "from channels.routing import ProtocolTypeRouter, URLRouter\n"
SOCKETS = "from channels.generic.websocket import WebsocketConsumer\nfrom django.urls import path, re_path\n"
SOCKETS += "ws = URLRouter([path('chat/', WebsocketConsumer.as_asgi())])\n"


def describe(folder, app="", arguments=(), **env):
    """The JSON of ``--describe`` in this folder."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("BANDSTAND_", "PYTHON", "DJANGO_"))}
    process = subprocess.run(
        [sys.executable, "-m", "bandstand.worker", "--describe", *arguments],
        cwd=folder,
        env={**inherited, "PYTHONPATH": PACKAGE, "BANDSTAND_APP": app, **env},
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = json.loads(process.stdout)
    assert process.returncode == (1 if "failed" in said else 0), process.stderr
    return said


@pytest.fixture
def project(tmp_path):
    """Writes a Django project; its parts by name, `config/asgi.py` as `asgi`."""
    pytest.importorskip("django")

    def write(settings="", urls=SYNC, wsgi=WSGI, asgi=None, **others):
        (tmp_path / "config").mkdir()
        parts = {"config/wsgi": wsgi, "config/asgi": asgi, "site_urls": urls, **others}
        if wsgi:
            settings = 'WSGI_APPLICATION = "config.wsgi.application"\n' + settings
        for name, text in {"config/settings": SETTINGS + settings, **parts}.items():
            if text is not None:
                (tmp_path / f"{name}.py").write_text(text)

        def ask(app="", arguments=(), **env):
            return describe(tmp_path, app, arguments, **{"DJANGO_SETTINGS_MODULE": "config.settings", **env})

        return ask

    return write


# Apps that are named


@pytest.mark.parametrize(
    "source, interface",
    [
        ("def app(environ, start_response): pass", "wsgi"),
        ("def app(*args): pass", "wsgi"),
        ("import functools\ndef inner(x, e, s): pass\napp = functools.partial(inner, 1)", "wsgi"),
        ("class App:\n    def __call__(self, environ, start_response): pass\napp = App()", "wsgi"),
        ("class app:\n    def __init__(self, environ, start_response): pass", "wsgi"),
        ("async def app(scope, receive, send): pass", "asgi"),
        ("import functools\nasync def inner(x, s, r, t): pass\napp = functools.partial(inner, 1)", "asgi"),
        ("import functools\nasync def inner(s, r, t): pass\n@functools.wraps(inner)\ndef app(*a): return inner(*a)", "asgi"),
        ("class App:\n    async def __call__(self, scope, receive, send): pass\napp = App()", "asgi"),
        ("def app(scope, receive, send): pass", "asgi"),
        ("def app(scope, *rest): pass", "asgi"),
        ("class Holder:\n    async def call(self, scope, receive, send): pass\napp = Holder().call", "asgi"),
        ("from starlette.applications import Starlette\napp = Starlette()", "asgi"),
        ("from fastapi import FastAPI\napp = FastAPI()", "asgi"),
        ("from channels.routing import ProtocolTypeRouter\napp = ProtocolTypeRouter({})", "asgi"),
    ],
)
def test_an_app_is_known_by_how_it_is_called(tmp_path, source, interface):
    for name in ("starlette", "fastapi", "channels"):
        if name in source:
            pytest.importorskip(name)
    (tmp_path / "app.py").write_text(source)
    said = describe(tmp_path, "app:app")
    assert (said["interface"], said["app"]) == (interface, "app:app"), said
    assert said["websockets"] is (interface == "asgi")
    assert said["reason"] == f"app:app is {'an ASGI' if interface == 'asgi' else 'a WSGI'} application"
    assert ("loop" in said) is (interface == "asgi")


@pytest.mark.parametrize(
    "source, env, message",
    [
        (
            "class app:\n    def __init__(self, scope): pass\n    async def __call__(self, receive, send): pass",
            {},
            "TypeError: app:app is an ASGI 2 application (a class that takes the scope); bandstand serves ASGI 3: ",
        ),
        ("def app(scope): pass", {}, "TypeError: app:app is an ASGI 2 application (it takes the scope alone); "),
        (
            "class app:\n    async def __call__(self, scope, receive, send): pass",
            {},
            "TypeError: app:app is a class; name an instance of it, such as app:app()",
        ),
        (
            "async def app(scope, receive, send): pass",
            {"BANDSTAND_INTERFACE": "wsgi"},
            'TypeError: interface is "wsgi", but app:app is an ASGI application',
        ),
        (
            "def app(environ, start_response): pass",
            {"BANDSTAND_INTERFACE": "both"},
            'TypeError: interface is "both", but app:app is a WSGI application',
        ),
    ],
)
def test_apps_that_are_refused(tmp_path, source, env, message):
    (tmp_path / "app.py").write_text(source)
    said = describe(tmp_path, "app:app", **env)
    assert said["failed"].startswith(message)
    [finding] = said["findings"]
    assert (finding["level"], finding["where"]) == ("error", "app:app")


def test_an_asgi_app_is_served(worker):
    source = """
async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"asgi"})
"""
    edge = worker(source, env={"BANDSTAND_TASKS": "7"}, hello=False)
    protocol, threads, project = edge.hello()
    assert (protocol, threads, edge.tasks) == (4, 0, 7)
    assert json.loads(project)["interface"] == "asgi"
    _, data = edge.encode_request()
    edge.send(data, to=edge.lane)
    assert edge.answer(1).text == "asgi"
    edge.lane.close()
    assert edge.wait() == 0


# Django projects


@pytest.mark.parametrize(
    "parts, env, interface, app, reason",
    [
        ({}, {}, "wsgi", "config.wsgi:application", "the project has no ASGI application and no async view"),
        (
            {"urls": "import missing"},
            {},
            "wsgi",
            "config.wsgi:application",
            "the project has no ASGI application and its URLconf does not import "
            "(ModuleNotFoundError: No module named 'missing')",
        ),
        (
            {"urls": ASYNC},
            {},
            "both",
            "config.wsgi + django.core.asgi:get_asgi_application()",
            "the project has async views (site_urls.view)",
        ),
        ({"asgi": ASGI}, {}, "both", "config.wsgi + config.asgi", "config.asgi:application leads to Django's own handler"),
        (
            {"asgi": ASGI, "wsgi": None},
            {},
            "both",
            "django.core.wsgi:get_wsgi_application() + config.asgi",
            "config.asgi:application leads to Django's own handler",
        ),
        ({"asgi": ASGI}, {"BANDSTAND_INTERFACE": "wsgi"}, "wsgi", "config.wsgi:application", 'interface is "wsgi"'),
        ({"asgi": ASGI}, {"BANDSTAND_INTERFACE": "asgi"}, "asgi", "config.asgi:application", 'interface is "asgi"'),
        (
            {},
            {"BANDSTAND_INTERFACE": "both"},
            "both",
            "config.wsgi + django.core.asgi:get_asgi_application()",
            'interface is "both"',
        ),
        (
            {"asgi": "import missing"},
            {},
            "wsgi",
            "config.wsgi:application",
            "config.asgi:application cannot be used: ModuleNotFoundError: No module named 'missing'",
        ),
        (
            {"asgi": ASGI + "inner = application\nasync def application(s, r, t): await inner(s, r, t)"},
            {},
            "asgi",
            "config.asgi:application",
            "config.asgi:application is a function, not Django's own handler",
        ),
        (
            {"asgi": ASGI, "settings": "MIDDLEWARE = ['late.no']", "late": "def no(g): pass\nno.sync_capable = False"},
            {},
            None,
            None,
            None,
        ),
        (
            {
                "asgi": ASGI,
                "settings": "MIDDLEWARE = ['late.only']",
                "late": "def only(g):\n    async def m(r): return await g(r)\n    return m\n"
                "only.sync_capable, only.async_capable = False, True",
            },
            {},
            "asgi",
            "config.asgi:application",
            "the middleware late.only can only be called by a loop (sync_capable is False)",
        ),
    ],
)
def test_a_django_project_takes_what_it_can(project, parts, env, interface, app, reason):
    said = project(**parts)(**env)
    if interface is None:
        assert "sync_capable/async_capable" in said["failed"]
        return
    assert (said["interface"], said["app"], said["reason"]) == (interface, app, reason)
    assert said["websockets"] is ("not Django" in said["reason"])


@pytest.mark.parametrize(
    "mapping, interface, websockets, reason",
    [
        ("{'http': application, 'websocket': ws}", "both", True, "config.asgi:application leads to Django's own handler"),
        ("{'websocket': ws}", "both", True, "config.asgi:application leads to Django's own handler"),
        ("{'http': application}", "both", False, "config.asgi:application leads to Django's own handler"),
        (
            "{'http': URLRouter([path('x/', ws), re_path('', application)])}",
            "both",
            False,
            "config.asgi:application leads to Django's own handler",
        ),
        (
            "{'http': ws, 'websocket': ws}",
            "asgi",
            True,
            '"http" of config.asgi:application is channels.routing.URLRouter, not Django\'s own handler',
        ),
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_channels_routers_are_looked_into(project, mapping, interface, websockets, reason, named):
    pytest.importorskip("channels")
    ask = project(asgi=ROUTER + SOCKETS + f"application = ProtocolTypeRouter({mapping})")
    said = ask("config.asgi:application" if named else "")
    assert (said["interface"], said["websockets"], said["reason"]) == (interface, websockets, reason)
    if websockets:
        consumer = "channels.generic.websocket.WebsocketConsumer"
        assert said["websocket_routes"] == [{"pattern": "chat/", "consumer": consumer}]


@pytest.mark.parametrize(
    "target, interface", [("config.asgi:application", "both"), ("config.wsgi:application", "wsgi"), ("config.asgi", "both")]
)
def test_a_named_app_of_a_django_project(project, target, interface):
    assert project(asgi=ASGI, urls=ASYNC)(target)["interface"] == interface


def test_the_asgi_module_beside_a_package_of_settings(project, tmp_path):
    ask = project(asgi=ASGI, wsgi=None)
    (tmp_path / "config" / "settings").mkdir()
    (tmp_path / "config" / "settings.py").rename(tmp_path / "config" / "settings" / "production.py")
    assert ask(DJANGO_SETTINGS_MODULE="config.settings.production")["app"].endswith(" + config.asgi")


def test_the_setting_names_the_asgi_application(project):
    ask = project(settings='ASGI_APPLICATION = "other.entry"', other=ASGI + "entry = application")
    assert ask()["app"] == "config.wsgi + other:entry"


def test_what_cannot_be_both_says_so(project):
    ask = project(asgi="async def application(scope, receive, send): pass")
    said = ask(BANDSTAND_INTERFACE="both")
    assert said["failed"].startswith('TypeError: interface is "both", but config.asgi:application is a function')
