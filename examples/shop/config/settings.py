"""Settings of the shop: shaped for production, and working at once with no environment at all.

| variable             | default                        | meaning                                            |
| -------------------- | ------------------------------ | -------------------------------------------------- |
| SHOP_DEBUG           | 0                              | Django's debug pages, files through `runserver`    |
| SHOP_SECRET_KEY      | kept in .secret_key            | signs sessions and tokens                          |
| SHOP_ALLOWED_HOSTS   | localhost,127.0.0.1,[::1],testserver | names the shop answers to, by commas         |
| SHOP_HTTPS           | 0                              | cookies over HTTPS only, redirects, HSTS           |
| SHOP_DB              | db.sqlite3                     | the database file                                  |
| SHOP_STATIC_ROOT     | staticfiles                    | where `collectstatic` puts the files               |
| SHOP_MEDIA_ROOT      | media                          | product pictures and uploads, public               |
| SHOP_PRIVATE_ROOT    | media-private                  | invoices; only the shop itself gives them out      |
| SHOP_TEST_VIEWS      | 0                              | adds /api/echo/, which repeats what it was sent    |
| REDIS_URL            | –                              | the stock ticker's processes tell each other there |
"""

import os
from pathlib import Path

from .keyfile import secret_key

BASE_DIR = Path(__file__).resolve().parent.parent


def _on(name: str) -> bool:
    return os.environ.get(name, "").lower() in {"1", "true", "yes", "on"}


def _folder(name: str, default: str) -> Path:
    return BASE_DIR / os.environ.get(name, default)


DEBUG = _on("SHOP_DEBUG")
SECRET_KEY = os.environ.get("SHOP_SECRET_KEY") or secret_key(BASE_DIR / ".secret_key")
ALLOWED_HOSTS = os.environ.get("SHOP_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1],testserver").split(",")
TEST_VIEWS = _on("SHOP_TEST_VIEWS")

if _on("SHOP_HTTPS"):
    SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    SECURE_HSTS_SECONDS = 3600

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "shop",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
ASGI_APPLICATION = "config.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "shop.cart.context",
            ],
        },
    },
]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": _folder("SHOP_DB", "db.sqlite3"),
        # A connection stays with its thread: opening one and setting it up costs as much as a query.
        "CONN_MAX_AGE": 60,
        "OPTIONS": {
            # Writers queue at BEGIN, for up to `timeout` seconds, instead of failing half way.
            "transaction_mode": "IMMEDIATE",
            "timeout": 10,
            # Readers go on while one process writes.
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-8000",
        },
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "orders"
LOGOUT_REDIRECT_URL = "home"

# Live pages (shop/live). Without a broker each process reads the database; with one (`pip install channels-redis`) it is told.
REDIS_URL = os.environ.get("REDIS_URL", "")
CHANNEL_LAYERS = {
    "default": {"BACKEND": "channels_redis.core.RedisChannelLayer", "CONFIG": {"hosts": [REDIS_URL]}}
    if REDIS_URL
    else {"BACKEND": "channels.layers.InMemoryChannelLayer"}
}
LIVE_SECONDS = 1.0
"""How often a process with open live pages looks for what is new."""

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_I18N = False  # the shop speaks English only, and its pages take a seventh less time
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = _folder("SHOP_STATIC_ROOT", "staticfiles")
MEDIA_URL = "/media/"
MEDIA_ROOT = _folder("SHOP_MEDIA_ROOT", "media")
PRIVATE_ROOT = _folder("SHOP_PRIVATE_ROOT", "media-private")

STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    # Names carry a hash of the content, so that browsers may keep the files for ever.
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {"django": {"handlers": ["stderr"], "level": "INFO", "propagate": False}},
}
