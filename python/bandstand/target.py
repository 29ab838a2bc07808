"""Which application is served, and how it is called: WSGI, ASGI, or each request as is cheaper for it.

Owns the import of the app and the choice of the interface, always with the reason in a sentence. Which road one request
takes is ``roads``'; what is found here is only looked at, never called. A project's own word (``interface``) wins over
what is found, or the start fails and says why. Sources: PEP 3333, ASGI 3.0, asgiref's ``is_double_callable``, Channels'
routers (known by their names: Channels is never imported).
"""

import ast
import asyncio
import functools
import importlib
import importlib.util
import inspect
import os
import sys
from dataclasses import dataclass
from typing import Any

WSGI, ASGI, BOTH, AUTO = "wsgi", "asgi", "both", "auto"


@dataclass
class Apps:
    """What was found. ``wsgi`` is missing with interface ``asgi``, ``asgi`` with interface ``wsgi``."""

    interface: str
    reason: str
    name: str
    wsgi: Any = None
    asgi: Any = None
    #: Django's own ASGI handler, where it answers HTTP: alone or behind Channels' router.
    handler: Any = None
    #: Channels' router of HTTP paths, where only some of them lead to Django.
    router: Any = None
    #: The ASGI app takes WebSockets.
    websockets: bool = False


def load(target, wanted=AUTO):
    """The apps of ``module:attribute``, or without one those of the Django project of this environment."""
    if not target:
        return load_django(wanted)
    app, name = load_target(target)
    if is_exactly(app, "django.core.handlers.asgi", "ASGIHandler") or (
        is_router(app, "ProtocolTypeRouter") and has_django_settings()
    ):
        return choose_for_django(wanted, None, None, app, name)
    kind = kind_of(app, target)
    if kind == WSGI and wanted in (ASGI, BOTH) and is_exactly(app, "django.core.handlers.wsgi", "WSGIHandler"):
        return choose_for_django(wanted, app, name, None, None)
    if wanted not in (AUTO, kind):
        raise TypeError(f'interface is "{wanted}", but {target} is {"an ASGI" if kind == ASGI else "a WSGI"} application')
    reason = f"{target} is {'an ASGI' if kind == ASGI else 'a WSGI'} application"
    if kind == WSGI:
        return Apps(WSGI, reason, name, wsgi=app)
    return Apps(ASGI, reason, name, asgi=app, websockets=True)


# Django


def load_django(wanted):
    import django
    from django.conf import settings

    django.setup()
    dotted = getattr(settings, "WSGI_APPLICATION", None)
    target = colon(dotted) if dotted else "django.core.wsgi:get_wsgi_application()"
    if wanted == WSGI:
        wsgi, name = load_target(target)
        return Apps(WSGI, 'interface is "wsgi"', name, wsgi=wsgi)
    wsgi = name = asgi = asgi_name = None
    if wanted != ASGI:
        wsgi, name = load_target(target)
    found = find_asgi(settings, dotted)
    if found:
        try:
            asgi, asgi_name = load_target(found)
            if kind_of(asgi, found) != ASGI:
                raise TypeError(f"{found} is not an ASGI application")
        except Exception as error:
            # Many projects carry an asgi.py that nobody has ever started.
            if wanted != AUTO:
                raise
            return Apps(WSGI, f"{found} cannot be used: {plain(error)}", name, wsgi=wsgi)
    elif wanted == AUTO:
        view, broken = first_async_view()
        if not view:
            without = f"its URLconf does not import ({broken})" if broken else "no async view"
            return Apps(WSGI, f"the project has no ASGI application and {without}", name, wsgi=wsgi)
        return choose_for_django(wanted, wsgi, name, None, None, f"the project has async views ({view})")
    return choose_for_django(wanted, wsgi, name, asgi, asgi_name)


def find_asgi(settings, wsgi_dotted):
    """Where the project's ASGI application is, as ``module:attribute``."""
    dotted = getattr(settings, "ASGI_APPLICATION", None)
    if dotted:
        return colon(dotted)
    beside = [wsgi_dotted.rpartition(".")[0] if wsgi_dotted else "", getattr(settings, "SETTINGS_MODULE", None) or ""]
    for module in beside:
        package = module.rpartition(".")[0]
        # The settings may be a package of their own: config.settings.production beside config.asgi.
        for candidate in filter(None, (package, package.rpartition(".")[0])):
            if exists(f"{candidate}.asgi"):
                return f"{candidate}.asgi:application"
    return None


def exists(module):
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def choose_for_django(wanted, wsgi, wsgi_name, asgi, asgi_name, why=None):
    """The interface for a Django project, with what the project brings; what is missing, Django makes."""
    if asgi is None:
        from django.core.asgi import get_asgi_application

        asgi, asgi_name = get_asgi_application(), "django.core.asgi:get_asgi_application()"
    handler, router, wraps = look_into(asgi, asgi_name)
    sockets = not is_exactly(asgi, "django.core.handlers.asgi", "ASGIHandler") and takes_websockets(asgi)
    against = wraps or async_only_middleware()
    if wanted == ASGI or (wanted == AUTO and against):
        reason = 'interface is "asgi"' if wanted == ASGI else against
        asgi = with_django_for_http(asgi, handler)
        return Apps(ASGI, reason, asgi_name, asgi=asgi, handler=handler, router=router, websockets=sockets)
    if wraps:
        raise TypeError(f'interface is "both", but {wraps}')
    if wsgi is None:
        wsgi, wsgi_name = load_target(wsgi_target())
    reason = why or f"{asgi_name} leads to Django's own handler"
    if wanted == BOTH:
        reason = 'interface is "both"' + (f", though {against}" if against else "")
    name = wsgi_name if wsgi_name == asgi_name else f"{short(wsgi_name)} + {short(asgi_name)}"
    apps = Apps(BOTH, reason, name, wsgi, with_django_for_http(asgi, handler), handler, router, sockets)
    return apps


def wsgi_target():
    from django.conf import settings

    dotted = getattr(settings, "WSGI_APPLICATION", None)
    return colon(dotted) if dotted else "django.core.wsgi:get_wsgi_application()"


def look_into(app, name):
    """``(Django's handler, router of HTTP paths, why HTTP must stay on this app)``: what answers HTTP in an ASGI app."""
    if is_router(app, "ProtocolTypeRouter"):
        inner = app.application_mapping.get("http")
        if inner is None:
            from django.core.asgi import get_asgi_application

            return get_asgi_application(), None, None
        app, name = inner, f'"http" of {name}'
    if is_exactly(app, "django.core.handlers.asgi", "ASGIHandler"):
        return app, None, None
    if is_router(app, "URLRouter"):
        handler = django_in(app)
        if handler is not None:
            return handler, app, None
    what = "a function" if inspect.isroutine(app) else f"{type(app).__module__}.{type(app).__qualname__}"
    return None, None, f"{name} is {what}, not Django's own handler"


def django_in(router):
    """Django's own handler among the routes of Channels' router, at any depth."""
    for route in router.routes:
        if is_exactly(route.callback, "django.core.handlers.asgi", "ASGIHandler"):
            return route.callback
        if is_router(route.callback, "URLRouter"):
            found = django_in(route.callback)
            if found is not None:
                return found
    return None


def takes_websockets(app):
    return not is_router(app, "ProtocolTypeRouter") or "websocket" in app.application_mapping


def with_django_for_http(app, handler):
    """Channels' router may know WebSockets alone; the HTTP requests that take the loop then go to Django all the same."""
    if not is_router(app, "ProtocolTypeRouter") or "http" in app.application_mapping:
        return app

    async def application(scope, receive, send):
        if scope["type"] == "http":
            return await handler(scope, receive, send)
        return await app(scope, receive, send)

    application.inner = app
    return application


def async_only_middleware():
    """Why the middleware cannot run on a thread; ``None`` when it can."""
    from django.conf import settings
    from django.utils.module_loading import import_string

    for dotted in settings.MIDDLEWARE:
        try:
            middleware = import_string(dotted)
        except ImportError:
            continue  # Django says it better, when the handler is made
        if not getattr(middleware, "sync_capable", True):
            return f"the middleware {dotted} can only be called by a loop (sync_capable is False)"
    return None


def first_async_view():
    """``(view or None, why the URLconf could not be read)``."""
    from bandstand import roads

    try:
        return next((route.view for route in roads.walk() if route.is_async), None), None
    except Exception as error:
        return None, plain(error)  # a start fails with it a moment later, see warm


def is_exactly(app, module, name):
    """An instance of this class itself: a subclass may do anything with a request."""
    return type(app).__module__ == module and type(app).__qualname__ == name


def is_router(app, name):
    return any(c.__module__ == "channels.routing" and c.__qualname__ == name for c in type(app).__mro__)


def has_django_settings():
    conf = sys.modules.get("django.conf")
    return bool(conf and (conf.settings.configured or os.environ.get(conf.ENVIRONMENT_VARIABLE)))


# What an app is


def kind_of(app, name):
    """``wsgi`` or ``asgi``; refuses what is neither."""
    if inspect.isclass(app):
        return kind_of_class(app, name)
    if is_coroutine_function(app) or is_coroutine_function(getattr(app, "__call__", None)):
        return ASGI
    takes = [n for n in (1, 2, 3) if can_take(app, n)]
    if takes == [1]:
        raise TypeError(f"{name} is an ASGI 2 application (it takes the scope alone); {UPGRADE}")
    if takes == [3] or (3 in takes and first_parameter(app) == "scope"):
        return ASGI
    return WSGI


def kind_of_class(app, name):
    if is_coroutine_function(getattr(app, "__call__", None)):
        if can_take(app, 1):
            raise TypeError(f"{name} is an ASGI 2 application (a class that takes the scope); {UPGRADE}")
        raise TypeError(f"{name} is a class; name an instance of it, such as {name}()")
    return WSGI  # PEP 3333: calling the class makes the iterable


UPGRADE = "bandstand serves ASGI 3: wrap it in asgiref.compatibility.guarantee_single_callable"


def is_coroutine_function(app):
    while isinstance(app, functools.partial):
        app = app.func
    app = inspect.unwrap(app) if callable(app) else app
    # Up to Python 3.11 a function that only behaves like one is marked with asyncio's own mark.
    marked = sys.version_info < (3, 12) and asyncio.iscoroutinefunction(app)
    return marked or inspect.iscoroutinefunction(app)


def can_take(app, count):
    try:
        inspect.signature(app).bind(*[None] * count)
    except TypeError:
        return False
    except ValueError:  # written in C, without a signature
        return count == 2
    return True


def first_parameter(app):
    return next(iter(inspect.signature(app).parameters), None)


# Finding it


def load_target(target):
    """``module:attr``, ``module:factory("argument")`` or ``module``, which means its ``application`` or ``app``."""
    module_name, _, expression = target.partition(":")
    module = importlib.import_module(module_name)
    if not expression:
        expression = next((name for name in ("application", "app") if hasattr(module, name)), "application")
    app = evaluate(module, ast.parse(expression, mode="eval").body, expression)
    if not callable(app):
        raise TypeError(f"{target} is {app!r}, which cannot be called")
    return app, f"{module_name}:{expression}"


def evaluate(module, node, expression):
    """A name, dotted or not, or a call of one with literal arguments."""
    if isinstance(node, ast.Name):
        return getattr(module, node.id)
    if isinstance(node, ast.Attribute):
        return getattr(evaluate(module, node.value, expression), node.attr)
    if isinstance(node, ast.Call) and all(keyword.arg for keyword in node.keywords):
        factory = evaluate(module, node.func, expression)
        try:
            arguments = [ast.literal_eval(argument) for argument in node.args]
            named = {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords}
        except ValueError:
            raise ValueError(f"the arguments in {expression!r} must be literals, such as 1, 'text' or True") from None
        return factory(*arguments, **named)
    raise ValueError(f"{expression!r} is neither a name nor a call of one with literal arguments")


def colon(dotted):
    return ":".join(dotted.rsplit(".", 1))


def short(name):
    return name.removesuffix(":application")


def plain(error):
    return f"{type(error).__name__}: {error}".splitlines()[0]
