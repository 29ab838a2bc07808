"""Sync and async views of every shape. MIXED_MIDDLEWARE adds classes of `middleware.py`, MIXED_LIGHT takes
out those that are sync only, MIXED_ASGI chooses what `asgi.py` is."""

import os

SECRET_KEY = "only for these tests, forty characters and more"
ALLOWED_HOSTS = ["localhost", "127.0.0.1"]
ROOT_URLCONF = "mixed_site.urls"
WSGI_APPLICATION = "mixed_site.wsgi.application"
ASGI_APPLICATION = "mixed_site.asgi.application"
INSTALLED_APPS = []
LIGHT = "MIXED_LIGHT" in os.environ
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    *(["mixed_site.middleware.Light"] if LIGHT else ["mixed_site.middleware.Trace", "mixed_site.middleware.AnswersItself"]),
    *(f"mixed_site.middleware.{name}" for name in os.environ.get("MIXED_MIDDLEWARE", "").split(",") if name),
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ.get("MIXED_DB", ":memory:")}}
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"stderr": {"class": "logging.StreamHandler"}},
    "loggers": {"django": {"handlers": ["stderr"], "level": "INFO"}},
}
