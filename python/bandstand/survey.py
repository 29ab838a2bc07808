"""``python -m bandstand.worker --describe [--check [--deploy]]``: what is known of a project, as JSON, and nothing served.

Owns routes, middleware and findings: what each view costs here and why, and what Django's own checks say. The program
asks for it (``bandstand explain``, ``bandstand check``). On stdout there is one JSON object and nothing else: what the
project prints goes to stderr. A project that does not import has its reason in ``failed``.
"""

import inspect
import json
import os
import sys

from bandstand import roads, target

ERROR, WARNING, INFO = "error", "warning", "info"


def main(arguments, app, interface, taken):
    unknown = set(arguments) - {"--describe", "--check", "--deploy"}
    if unknown or "--describe" not in arguments:
        print("usage: python -m bandstand.worker --describe [--check [--deploy]]", file=sys.stderr)
        return 2
    out = os.dup(1)
    os.dup2(2, 1)
    sys.stdout.flush()
    said = survey(app, interface, taken, "--check" in arguments, "--deploy" in arguments)
    sys.stdout.flush()
    with os.fdopen(out, "w", encoding="utf-8") as stdout:
        json.dump(said, stdout)
        stdout.write("\n")
    return 1 if "failed" in said else 0


def survey(app, interface, taken, check, deploy):
    from bandstand import worker

    try:
        apps = target.load(app, interface)
        said = worker.describe(apps)
    except BaseException as error:
        reason = worker.explain(error)
        finding = found(ERROR, reason.splitlines()[0], app or "", "the traceback says where the import fails")
        return {"failed": reason, "findings": [finding]}
    bridge = worker.has_bridge(taken)
    if apps.interface != target.WSGI:
        from bandstand import asgi

        said["loop"] = asgi.describe_loop(taken.get("BANDSTAND_LOOP") or "auto")
    said["websocket_routes"] = [{"pattern": p, "consumer": c} for p, c in sockets(apps)]
    said["routes"], said["middleware"], said["findings"] = [], [], []
    if said["django"]:
        describe_project(said, apps, bridge)
        if check:
            said["findings"] += django_checks(deploy) + migrations()
    return said


def sockets(apps):
    try:
        return list(roads.walk_sockets(apps.asgi)) if apps.websockets else []
    except Exception:
        return []  # an app with routes of another make


def describe_project(said, apps, bridge):
    chain = list(middleware())
    said["middleware"] = [
        {"name": name, "sync": can_sync(factory), "async": can_async(factory)} for name, factory in chain
    ]
    try:
        routes = list(roads.walk())
    except Exception as error:
        said["findings"].append(found(ERROR, f"the URLconf does not import: {target.plain(error)}", "ROOT_URLCONF", ""))
        routes = []
    for route in routes:
        road, why = road_of(route, apps, bridge)
        described = {"pattern": route.pattern, "name": route.name, "view": route.view, "async": route.is_async}
        said["routes"].append({**described, "road": road, "why": why})
    said["findings"] += findings(apps, bridge, routes, chain)


def road_of(route, apps, bridge):
    if apps.interface == target.ASGI:
        return roads.LOOP, "every request takes the ASGI application"
    if not route.is_async:
        return roads.THREAD, "sync view"
    if apps.interface == target.WSGI:
        return roads.THREAD, "async view in a worker without a loop: an event loop is made for each call"
    if not bridge:
        return roads.LOOP, "async view, and the bridge is off"
    return roads.BRIDGE, "async view: middleware on a thread, the view on the loop"


def middleware():
    """``(dotted path, factory or None)``, outermost first."""
    from django.conf import settings
    from django.utils.module_loading import import_string

    for dotted in settings.MIDDLEWARE:
        try:
            yield dotted, import_string(dotted)
        except ImportError:
            yield dotted, None  # Django says it better, when the handler is made


def can_sync(factory):
    return bool(getattr(factory, "sync_capable", True))


def can_async(factory):
    return bool(getattr(factory, "async_capable", False))


def hops(factory):
    """Whether the loop leaves its thread for it: Django's own mixin says it can be awaited, and then calls a thread."""
    if not can_async(factory):
        return True
    from django.utils.deprecation import MiddlewareMixin

    awaited = getattr(factory, "__acall__", None)
    by_mixin = awaited is not None and awaited is MiddlewareMixin.__acall__
    return by_mixin and any(hasattr(factory, name) for name in ("process_request", "process_response"))


# Findings

BOTH_DOES = 'interface = "both" with the bridge on calls them all on one thread'


def found(level, what, where, do):
    return {"level": level, "what": what, "where": where, "do": do}


def findings(apps, bridge, routes, chain):
    from django.conf import settings

    views = list({route.view: route for route in routes if route.is_async}.values())
    yield from asgi_module_findings(apps)
    if apps.interface == target.ASGI or (apps.interface == target.BOTH and views):
        yield from thread_findings(apps, bridge)
    for alias, database in settings.DATABASES.items():
        if not database.get("ATOMIC_REQUESTS"):
            continue
        for route in views:
            if alias not in getattr(route.callback, "_non_atomic_requests", ()):
                what = f"{route.view} is async and the database {alias!r} has ATOMIC_REQUESTS: Django refuses the request"
                yield found(ERROR, what, where(route.callback), "decorate it with transaction.non_atomic_requests")
    only_async = [name for name, factory in chain if not can_sync(factory)]
    for name in only_async:
        what = f"{name} can only be called by a loop, so there is no bridge and all HTTP takes the ASGI handler"
        yield found(WARNING, what, "MIDDLEWARE", "give it sync_capable = True and a sync path")
    hopping = [name for name, factory in chain if hops(factory)]
    if hopping and (apps.interface == target.ASGI or (apps.interface == target.BOTH and views and not bridge)):
        what = f"each request on the loop hops to a thread and back for {len(hopping)} middleware: {', '.join(hopping[:3])}"
        what += ", …" if len(hopping) > 3 else ""
        do = "give them __acall__, or sync_capable to those that lack it" if only_async else BOTH_DOES
        yield found(WARNING, what, "MIDDLEWARE", do)
    if views:
        yield cost_of_async(apps, bridge, views)
    if apps.interface == target.BOTH and not target.is_exactly(apps.wsgi, "django.core.handlers.wsgi", "WSGIHandler"):
        what = f"the WSGI application wraps Django in {type(apps.wsgi).__module__}.{type(apps.wsgi).__qualname__}"
        what += ": answers that stream from async iterators may be collected before they are sent"
        yield found(INFO, what, "WSGI_APPLICATION", "pin their paths to the ASGI handler in [paths]")


def asgi_module_findings(apps):
    if apps.interface == target.WSGI and "cannot be used" in apps.reason:
        do = 'mend it, remove it, or set interface = "wsgi"'
        yield found(WARNING, f"{apps.reason}; the project is served without a loop", "ASGI_APPLICATION", do)


def thread_findings(apps, bridge):
    from bandstand import crew

    against = crew.obstacle() if apps.handler is not None else None
    if against is not None:
        why, place = against
        what = f"each request at Django's ASGI handler has a thread of its own, however many there are: {why}"
        rare = apps.interface == target.BOTH and bridge
        yield found(INFO if rare else WARNING, what, place, "docs/guides/async.md says when threads are shared")


def cost_of_async(apps, bridge, views):
    names = ", ".join(route.view for route in views[:3]) + (", …" if len(views) > 3 else "")
    first = where(views[0].callback)
    if apps.interface == target.WSGI:
        what = f"async views make an event loop for each call, because the worker has none ({names}): {apps.reason}"
        return found(WARNING, what, first, 'interface = "both" gives them one')
    if apps.interface == target.ASGI or not bridge:
        why = apps.reason if apps.interface == target.ASGI else "bridge is off"
        what = f"async views take Django's ASGI handler ({names}): {why}"
        return found(INFO, what, first, "docs/guides/async.md says what that costs")
    return found(INFO, f"async views take the bridge: {names}", first, "")


def where(view):
    """File and line of a view, as an editor opens it."""
    view = inspect.unwrap(getattr(view, "view_class", view))
    try:
        return f"{os.path.relpath(inspect.getsourcefile(view))}:{inspect.getsourcelines(view)[1]}"
    except (TypeError, OSError):
        return ""


def django_checks(deploy):
    from django.core import checks

    try:
        messages = checks.run_checks(include_deployment_checks=deploy)
    except Exception as error:
        return [found(ERROR, f"Django's checks failed: {target.plain(error)}", "", "run manage.py check")]
    return [
        found(
            ERROR if message.level >= checks.ERROR else WARNING if message.level >= checks.WARNING else INFO,
            f"{message.msg} ({message.id})" if message.id else str(message.msg),
            "" if message.obj is None else str(getattr(getattr(message.obj, "_meta", None), "label", message.obj)),
            message.hint or "",
        )
        for message in messages
        if not message.is_silenced()
    ]


def migrations():
    from django.db import connections
    from django.db.migrations.executor import MigrationExecutor

    listed = []
    for alias in connections:
        try:
            if not connections[alias].settings_dict.get("ENGINE", "").endswith(".dummy"):
                executor = MigrationExecutor(connections[alias])
                plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
                listed += unapplied(alias, plan)
        except Exception as error:
            what = f"the database {alias!r} cannot be asked for its migrations: {target.plain(error)}"
            listed.append(found(WARNING, what, f"DATABASES[{alias!r}]", "start it, or mend its settings"))
    return listed


def unapplied(alias, plan):
    if not plan:
        return []
    names = ", ".join(f"{m.app_label}.{m.name}" for m, _ in plan[:3]) + (", …" if len(plan) > 3 else "")
    what = f"{len(plan)} migrations are not applied to the database {alias!r}: {names}"
    return [found(WARNING, what, f"DATABASES[{alias!r}]", "run manage.py migrate")]
