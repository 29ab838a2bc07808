"""Each view says where it runs: which handler made its request, which thread, which loop."""

import asyncio
import functools
import os
import tempfile
import threading

from asgiref.sync import markcoroutinefunction, sync_to_async
from django.core.exceptions import PermissionDenied
from django.core.signals import request_finished, request_started
from django.db import connection
from django.http import FileResponse, Http404, HttpResponse, JsonResponse, StreamingHttpResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET
from django.views.generic import RedirectView

from asgi_probe import gate
from probe import remark, wait_at_gate

from .middleware import word

counts = {"started": 0, "finished": 0}


def _count(name):
    def count(**kwargs):
        counts[name] += 1

    return count


COUNTERS = [_count("started"), _count("finished")]
request_started.connect(COUNTERS[0])
request_finished.connect(COUNTERS[1])


def here(request, view, **more) -> dict:
    try:
        loop = id(asyncio.get_running_loop())
    except RuntimeError:
        loop = None
    return {
        "view": view,
        "request": type(request).__name__,
        "main_thread": threading.current_thread() is threading.main_thread(),
        "middleware_in_main": request.middleware_thread == threading.main_thread().ident,
        "same_thread": request.middleware_thread == threading.get_ident(),
        "loop": loop,
        "pid": os.getpid(),
        "word": word.get(),
        **more,
    }


def told(request, view, **more):
    return JsonResponse(here(request, view, **more))


# -- shapes


def sync(request, **kwargs):
    return told(request, "sync", **kwargs)


async def later(request, **kwargs):
    """An async view that is ready at its first step."""
    return told(request, "async", **kwargs)


async def suspended(request):
    """An async view that really waits, a little."""
    before = asyncio.get_running_loop()
    await asyncio.sleep(0.01)
    return told(request, "suspended", loop_kept=asyncio.get_running_loop() is before)


class SyncClass(View):
    def get(self, request):
        return told(request, "sync class")


class AsyncClass(View):
    async def get(self, request):
        return told(request, "async class")

    async def post(self, request):
        return told(request, "async class", post=dict(request.POST.lists()))


@method_decorator(csrf_exempt, name="dispatch")
class DecoratedClass(View):
    @method_decorator(never_cache)
    async def get(self, request):
        await asyncio.sleep(0)
        return told(request, "decorated class")


@csrf_exempt
@never_cache
@require_GET
async def decorated(request):
    return told(request, "decorated")


def own_decorator(view):
    """As projects write them: it makes an async view of whatever it gets."""

    @functools.wraps(view)
    async def wrapped(request, *args, **kwargs):
        answer = await sync_to_async(view)(request, *args, **kwargs)
        answer["X-Wrapped"] = "1"
        return answer

    return wrapped


@own_decorator
def wrapped_sync(request):
    return told(request, "wrapped sync")


class Callable:
    def __init__(self):
        markcoroutinefunction(self)

    async def __call__(self, request):
        return told(request, "callable")


redirect = RedirectView.as_view(url="/sync/")


# -- what an app may rely on


async def orm(request):
    """Thread-sensitive work inside an async view: in which thread, and with which connection."""

    def work():
        with connection.cursor() as cursor:
            cursor.execute("SELECT 6 * 7")
            return {
                "answer": cursor.fetchone()[0],
                "work_in_main": threading.current_thread() is threading.main_thread(),
                "work_in_middleware_thread": threading.get_ident() == request.middleware_thread,
                "middlewares_connection": id(connection.connection) == request.middleware_connection,
                "work_word": word.get(),
            }

    first = await sync_to_async(work)()
    await asyncio.sleep(0)
    second = await sync_to_async(work)()
    return told(request, "orm", steady=first == second, **first)


async def sets_word(request):
    word.set("from the view")
    await asyncio.sleep(0)
    return told(request, "sets word")


async def waits(request, name):
    """/waits/NAME/: until the gate is opened, or the client leaves."""
    remark(f"waiting {name}")
    try:
        await gate(name)
    except asyncio.CancelledError:
        remark(f"cancelled {name}")
        raise
    return told(request, "waits")


def holds(request, name):
    """/holds/NAME/: the same in a thread."""
    wait_at_gate(name)
    return told(request, "holds")


async def gathers(request):
    """Two tasks of its own."""
    async def one(number):
        await asyncio.sleep(0.01)
        return number

    return told(request, "gathers", sum=sum(await asyncio.gather(one(1), one(2))))


async def uploads(request):
    files = [{"name": file.name, "size": file.size} for file in request.FILES.values()]
    return told(request, "uploads", files=files, body=len(request.body) if not files else None)


uploads = csrf_exempt(uploads)


async def stream(request, name):
    """/stream/NAME/: an async iterator with a wait in its middle."""

    async def parts():
        try:
            yield f"first {threading.current_thread() is threading.main_thread()}\n"
            await gate(name)
            yield "second\n"
        except asyncio.CancelledError:
            remark(f"stream cancelled {name}")
            raise
        finally:
            remark(f"stream closed {name}")

    return StreamingHttpResponse(parts(), content_type="text/event-stream")


async def endless(request, name):
    async def parts():
        try:
            while True:
                yield b"x" * 65536
        finally:
            remark(f"stream closed {name}")

    return StreamingHttpResponse(parts(), content_type="application/octet-stream")


async def stream_fails(request):
    async def parts():
        yield b"first\n"
        await asyncio.sleep(0)
        raise RuntimeError("the async stream failed on purpose")

    return StreamingHttpResponse(parts())


async def sync_stream(request):
    return StreamingHttpResponse(iter([b"a", b"b"]))


async def file(request):
    made = tempfile.TemporaryFile()
    made.write(b"0123456789" * 30_000)
    made.seek(0)
    return FileResponse(made, filename="numbers.txt")


async def fails(request):
    await asyncio.sleep(0)
    raise RuntimeError("the async view failed on purpose")


async def fails_softly(request, how):
    await asyncio.sleep(0)
    raise {"404": Http404("not here"), "403": PermissionDenied("no"), "middleware": RuntimeError("for the middleware")}[how]


def signals(request):
    return JsonResponse({**counts, "pid": os.getpid()})


async def no_answer(request):
    return None


async def plain(request):
    return HttpResponse("plain")
