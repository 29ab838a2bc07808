"""What a worker would load at its first requests, loaded before it has any: the URLconf, and what Django leaves for later.

Owns the import of the URLconf, which every start of a worker does, so that a broken view fails the boot instead of every
request; and in a template what its workers then share. Invariant: warming opens no connection, changes no setting, and
fails nothing: what goes wrong here goes wrong again, and is told, where it is asked for. Source: ``django.urls``,
``django.template``, ``django.utils.translation``.
"""

import importlib
import sys

from bandstand import target

#: Parts of the standard library and of Django that requests need and starts do not.
LATER = (
    "email.message",
    "encodings.idna",
    "encodings.latin_1",
    "http.cookies",
    "tempfile",
    "zoneinfo",
)
LATER_OF_DJANGO = (
    "django.core.files.uploadhandler",
    "django.core.handlers.exception",
    "django.core.serializers.json",
    "django.http.multipartparser",
    "django.middleware.csrf",
    "django.template.defaulttags",
    "django.template.loader",
    "django.template.loader_tags",
    "django.views.csrf",
    "django.views.debug",
    "django.views.defaults",
)


def import_urlconf():
    """Where Django answers requests, imports its URLconf; raises whatever that raises."""
    settings = settings_of_django()
    name = settings and getattr(settings, "ROOT_URLCONF", None)
    if not name or not any(f"django.core.handlers.{kind}" in sys.modules for kind in ("wsgi", "asgi")):
        return
    from django.urls import get_resolver

    if isinstance(name, str):
        importlib.import_module(name)  # by itself, without Django's own frames in the traceback
    get_resolver(name).url_patterns  # noqa: B018 (a property that looks at what was imported)


def warm(apps, options):
    """Everything that is worth sharing; nothing that fails matters."""
    steps = [lambda: import_all(LATER), lambda: warm_ours(apps, options)]
    if settings_of_django() is not None:
        steps += [lambda: import_all(LATER_OF_DJANGO), warm_urls, warm_templates, warm_language, warm_backends]
    for step in steps:
        try:
            step()
        except Exception:
            continue  # see above: it is told where it is asked for


def settings_of_django():
    conf = sys.modules.get("django.conf")
    return conf.settings if conf and conf.settings.configured else None


def import_all(names):
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            continue  # of another version


def warm_ours(apps, options):
    import_all(["bandstand.guard"])
    if apps.interface == target.WSGI:
        return
    from bandstand import asgi

    asgi.describe_loop(options.loop)
    if apps.handler is not None or apps.wsgi is not None:
        import_all(["bandstand.bridge", "bandstand.crew"])


def warm_urls():
    """The table by which names become URLs, for the language that requests have by default."""
    from django.conf import settings
    from django.urls import get_resolver
    from django.utils import translation

    if getattr(settings, "ROOT_URLCONF", None):
        with translation.override(settings.LANGUAGE_CODE):
            get_resolver(settings.ROOT_URLCONF).reverse_dict  # noqa: B018


def warm_templates():
    from django.template import engines

    for engine in engines.all():
        inner = getattr(engine, "engine", None)  # Django's own; it makes these when a template is first asked for
        for lazy in ("template_loaders", "template_context_processors"):
            getattr(inner, lazy, None)
        if inner is not None:
            inner.from_string("{# #}{% if a %}{{ a.b|default:'c' }}{% endif %}")  # its regular expressions


def warm_language():
    from django.conf import settings
    from django.utils import formats, translation

    with translation.override(settings.LANGUAGE_CODE):
        translation.gettext("")
        formats.get_format("DATE_FORMAT", use_l10n=True)


def warm_backends():
    """The drivers of databases that no model has asked for yet. Making a backend does not connect it."""
    from django.db import connections

    for alias in connections:
        connections[alias].ops.compiler("SQLCompiler")
