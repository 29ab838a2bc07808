"""A Django project in one file: answers that may be compressed, and answers that name files.

`FILES` is the folder that views of files take from; a field of the answer is said by the query: `?X-Accel-Redirect=/protected/a`.
"""

import asyncio
import os
import subprocess
from pathlib import Path

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="only for these tests, forty characters and more",
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF=__name__,
    MIDDLEWARE=["dressed.sometimes_gzip", "django.middleware.http.ConditionalGetMiddleware", "django.middleware.common.CommonMiddleware"],
)
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse  # noqa: E402
from django.middleware.gzip import GZipMiddleware  # noqa: E402
from django.urls import path as at  # noqa: E402

from bandstand.downloads import protected_response  # noqa: E402

ROW = "<tr><td>the same again and again, and one more time</td></tr>\n"


def sometimes_gzip(get_response):
    packed = GZipMiddleware(get_response)
    return lambda request: (packed if request.path.startswith("/packed/") else get_response)(request)


def page(request, size):
    """A page of that size; fields as the query says."""
    response = HttpResponse((ROW * (size // len(ROW) + 1))[:size])
    for name, value in request.GET.items():
        response[name] = value
    return response


def echo(request):
    """What the app was asked, large enough to be compressed."""
    return JsonResponse({"accept_encoding": request.headers.get("Accept-Encoding"), "padding": ROW * 40})


def stream(request, kind):
    """One piece, then a gate of the test, then another."""

    def pieces():
        yield "data: first\n\n"
        with open(Path(os.environ["GATES"]) / request.GET["gate"]) as gate:
            gate.read()
        yield "data: second\n\n"

    return StreamingHttpResponse(pieces(), content_type={"events": "text/event-stream", "text": "text/plain"}[kind])


def large_stream(request):
    return StreamingHttpResponse((ROW * 100 for _ in range(100)), content_type="text/html")


def named(request):
    """An answer with a body of its own that nobody is to see."""
    response = HttpResponse("the app's own words", status=int(request.GET.get("status", 200)))
    response["Content-Type"] = ""
    response.set_cookie("seen", "yes")
    for name, value in request.GET.items():
        if name != "status":
            response[name] = value
    return response


def endless(request):
    """A body that never ends, beside the name of a file."""

    closed = Path(os.environ["GATES"], "closed")

    def pieces():
        try:
            while True:
                yield ROW * 1000
        finally:
            closed.touch()

    async def async_pieces():
        try:
            while True:
                yield ROW * 1000
                await asyncio.sleep(0)
        finally:
            closed.touch()

    response = StreamingHttpResponse(async_pieces() if hasattr(request, "scope") else pieces())
    response["X-Accel-Redirect"] = "/protected/a.txt"
    return response


def inherited(request):
    """The environment of a child of the app."""
    return HttpResponse(subprocess.run(["env"], capture_output=True, check=True).stdout, content_type="text/plain")


def helped(request, name):
    return protected_response(request, name, root=os.environ["FILES"], as_attachment="inline" not in request.GET, filename=request.GET.get("as"))


urlpatterns = [
    at("page/<int:size>/", page),
    at("packed/<int:size>/", page),
    at("plain/<int:size>/", page),
    at("echo/", echo),
    at("stream/<kind>/", stream),
    at("large-stream/", large_stream),
    at("named/", named),
    at("endless/", endless),
    at("helped/<path:name>", helped),
    at("inherited/", inherited),
]

app = get_wsgi_application()
application = get_asgi_application()
