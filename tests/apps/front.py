"""A Django project in one module; FRONT holds more settings as JSON. Its pages tell what Django made of a request."""

import json
import os

from django.conf import settings

settings.configure(
    **{
        "SECRET_KEY": "k" * 60,
        "ROOT_URLCONF": __name__,
        "ALLOWED_HOSTS": ["*"],
        "MIDDLEWARE": [
            "django.middleware.security.SecurityMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.clickjacking.XFrameOptionsMiddleware",
        ],
        "DATABASES": {},
        "USE_TZ": True,
        **json.loads(os.environ.get("FRONT", "{}")),
    }
)

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import HttpResponse, JsonResponse  # noqa: E402
from django.urls import re_path  # noqa: E402
from django.views.decorators.clickjacking import xframe_options_exempt  # noqa: E402

import probe  # noqa: E402


def tell(request):
    return JsonResponse(
        {
            "secure": request.is_secure(),
            "uri": request.build_absolute_uri(),
            "host": request.get_host(),
            "port": request.get_port(),
            "address": request.META["REMOTE_ADDR"],
            "meta": {name: value for name, value in request.META.items() if name.startswith("HTTP_")},
            "length": len(request.body),
        }
    )


@xframe_options_exempt
def framed(request):
    return HttpResponse("framed")


def own(request):
    return HttpResponse("own", headers={"Referrer-Policy": "origin", "Content-Security-Policy": "default-src 'self'; report-uri /-/csp"})


def fail(request):
    raise RuntimeError("on purpose")


def form(request):
    return JsonResponse({"fields": len(request.POST), "files": len(request.FILES)})


urlpatterns = [re_path(r"^form$", form), re_path(r"^framed$", framed), re_path(r"^own$", own), re_path(r"^fail$", fail), re_path(r"", tell)]
django = get_wsgi_application()


def app(environ, start_response):
    probe.note(environ)
    return django(environ, start_response)
