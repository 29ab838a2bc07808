"""The bridge: async views of a Django project whose middleware runs on threads; what they may rely on, one by one."""

import json
import struct

import pytest
from scripted_edge import CANCELLED, CHUNK, END, FREE, GRANT, MOVED, RESPONSE, WINDOW, decode_response, frame

pytest.importorskip("django")

SETTINGS = """
SECRET_KEY = "x"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "site_urls"
USE_I18N = True
MIDDLEWARE = ["site_urls.around"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "site.sqlite3"}}
"""

URLS = """
import asyncio, contextvars, gc, json, os, threading, traceback, weakref
from asgiref.local import Local
from asgiref.sync import async_to_sync, sync_to_async
from django.core.signals import request_finished
from django.db import connection, transaction
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.utils import translation

var = contextvars.ContextVar("var", default="unset")
local = Local()

def note(text):
    with open("notes", "a") as notes:
        notes.write(text + "\\n")

request_finished.connect(lambda **_: note(f"finished in {threading.current_thread().name}"), weak=False)

def around(get_response):
    def middleware(request):
        var.set("from middleware")
        local.value = "from middleware"
        translation.activate("de")
        request.thread = threading.get_ident()
        response = get_response(request)
        if response.status_code == 200 and not response.streaming:
            response["X-After"] = f"{var.get()}, {local.value}, {translation.get_language()}"
            response["X-Same-Thread"] = str(threading.get_ident() == request.thread)
        return response
    return middleware

def kind(request):
    return type(request).__name__

def plain(request):
    return HttpResponse(kind(request))

async def quick(request):
    return HttpResponse(kind(request))

gate = asyncio.Event()

async def waits(request):
    await gate.wait()
    return HttpResponse(kind(request))

async def blocks(request):
    open(request.GET["gate"]).read()
    return HttpResponse(kind(request))

async def opens(request):
    gate.set()
    return HttpResponse(kind(request))

async def pauses(request):
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return HttpResponse(kind(request))

async def variables(request):
    seen = f"{var.get()}, {local.value}, {translation.get_language()}"
    if "wait" in request.GET:
        await asyncio.sleep(0)
        inner = await sync_to_async(lambda: f"{var.get()}, {local.value}, {translation.get_language()}")()
        assert inner == seen, inner
    var.set("from view")
    local.value = "from view"
    translation.activate("fr")
    return HttpResponse(seen)

async def thread(request):
    idents = [await sync_to_async(threading.get_ident)() for _ in range(3)]
    idents += await asyncio.gather(*(sync_to_async(threading.get_ident)() for _ in range(3)))
    return JsonResponse([set(idents) == {request.thread}, threading.get_ident() == request.thread], safe=False)

async def atomic(request):
    def look():
        with connection.cursor() as cursor:
            cursor.execute("select 1")
        return connection.in_atomic_block, id(connection.connection)
    return JsonResponse([await sync_to_async(look)(), request.look()], safe=False)

def atomically(get_response):
    def middleware(request):
        with transaction.atomic():
            request.look = lambda: (connection.in_atomic_block, 0)
            connection.ensure_connection()
            raw = id(connection.connection)
            request.look = lambda: (True, raw)
            return get_response(request)
    return middleware

async def nested(request):
    task = asyncio.current_task()
    async def inside():
        return [asyncio.get_running_loop() is loop, await sync_to_async(threading.get_ident)() == request.thread]
    loop = asyncio.get_running_loop()
    answers = await sync_to_async(lambda: async_to_sync(inside)())()
    return JsonResponse([isinstance(task, asyncio.Task), asyncio.current_task() is task, *answers], safe=False)

def sync_inside(request):
    async def inside():
        await asyncio.sleep(0)
        return threading.get_ident()
    return JsonResponse(async_to_sync(inside)() != threading.main_thread().ident, safe=False)

async def unsafe(request):
    connection.cursor()

class Marker:
    pass

markers = []

async def fails(request):
    marker = Marker()
    markers.append(weakref.ref(marker))
    if "wait" in request.GET:
        await asyncio.sleep(0)
    raise LookupError("from the view")

async def left(request):
    gc.disable()
    return JsonResponse([marker() is None for marker in markers], safe=False)

def caught(get_response):
    def middleware(request):
        return get_response(request)
    def process_exception(request, exception):
        frames = [f.name for f in traceback.extract_tb(exception.__traceback__)]
        return HttpResponse(f"{exception} {frames[-1]} {threading.get_ident() == request.thread}")
    middleware.process_exception = process_exception
    return middleware

async def cancelled(request):
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        note("cancelled")
        raise
    finally:
        note("finally")

async def cancels_itself(request):
    raise asyncio.CancelledError

async def background(request):
    async def later():
        await asyncio.sleep(0.01)
        note("later in " + await sync_to_async(lambda: threading.current_thread().name)())
    request.task = background.task = asyncio.get_running_loop().create_task(later())
    return HttpResponse("started")

def stream(request):
    async def parts():
        try:
            note(f"stream {translation.get_language()} {threading.current_thread().name}")
            yield b"one "
            await gate.wait()
            yield await sync_to_async(lambda: b"two")()
        finally:
            note("iterator closed")
    response = StreamingHttpResponse(parts(), headers={"X-Kind": kind(request)})
    response.set_cookie("a", "b")
    return response

async def stream_async(request):
    return stream(request)

async def endless(request):
    async def parts():
        try:
            while True:
                yield b"x" * 10_000
        finally:
            note("iterator closed")
    return StreamingHttpResponse(parts())

async def silent(request):
    async def parts():
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            note("iterator closed")
    return StreamingHttpResponse(parts())

async def breaks(request):
    async def parts():
        yield b"one"
        raise LookupError("in the iterator")
    return StreamingHttpResponse(parts())

views = [plain, quick, waits, opens, blocks, pauses, variables, thread, atomic, nested, sync_inside, unsafe, fails, left, cancelled]
views += [cancels_itself, background, stream, stream_async, endless, silent, breaks]
urlpatterns = [path(f"{view.__name__}/", view) for view in views]
"""


@pytest.fixture(params=["asyncio", "uvloop"])
def site(request, worker, tmp_path):
    if request.param == "uvloop":
        pytest.importorskip("uvloop")

    def start(settings="", threads=1, threads_max=16, **env):
        (tmp_path / "site_settings.py").write_text(SETTINGS + settings)
        (tmp_path / "site_urls.py").write_text(URLS)
        env = {
            "DJANGO_SETTINGS_MODULE": "site_settings",
            "BANDSTAND_PYTHONPATH": str(tmp_path),
            "BANDSTAND_LOOP": request.param,
            "BANDSTAND_THREADS_MAX": str(threads_max),
            **env,
        }
        edge = worker(app="", env=env, threads=threads, hello=False)
        edge.project = json.loads(edge.hello()[2])
        edge.notes = tmp_path / "0" / "notes"
        return edge

    return start


def over_lane(edge, id, kind, payload=b""):
    edge.send(frame(kind, payload, 0, 0, id), to=edge.lane)


def leave(edge, id):
    """The client leaves: on the board, and over the lane."""
    edge.add_bit(edge.place, CANCELLED)
    over_lane(edge, id, 0x07)


def ask(edge, path, query=""):
    id = edge.request(path=path, query=query.encode())
    return id


def quiet_get(edge, path, query=""):
    """An answer that comes without `Moved`."""
    return edge.answer(ask(edge, path, query))


def moving_get(edge, path, query=""):
    """An answer that comes after `Moved`."""
    id = ask(edge, path, query)
    edge.expect(MOVED, id)
    return edge.answer(id)


def wholes(edge, ids):
    """The bodies of answers in one frame, which come in any order."""
    frames, edge.stray = edge.stray, []
    while len(frames) < len(ids):
        frames.append(edge.expect(RESPONSE))
    answers = {id: decode_response(payload).body for _, _, _, id, payload, _ in frames}
    return [answers[id] for id in ids]


def lines(edge, count):
    """The first notes; the app writes them when it likes, so they are waited for."""
    while True:
        noted = edge.notes.read_text().splitlines() if edge.notes.exists() else []
        if len(noted) >= count:
            return noted
        assert edge.process.poll() is None, edge.stderr()


def test_the_hello_says_both(site):
    edge = site(threads=2, BANDSTAND_TASKS="70")
    assert edge.project["interface"] == "both"
    assert edge.project["reason"] == "the project has async views (site_urls.quick)"
    assert edge.project["app"] == "django.core.wsgi:get_wsgi_application() + django.core.asgi:get_asgi_application()"
    assert edge.project["websockets"] is False
    assert edge.tasks == 70


def test_a_view_that_does_not_wait_is_not_announced(site):
    edge = site()
    for path in ("/plain/", "/quick/", "/quick/"):
        assert quiet_get(edge, path).text == "WSGIRequest"
    edge.lane.close()
    assert edge.stop() == 0
    assert edge.stderr() == ""


def test_a_view_that_waits_is_announced_once_and_another_thread_takes_its_turn(site):
    edge = site()
    waiting = ask(edge, "/waits/")
    edge.expect(MOVED, waiting)
    assert quiet_get(edge, "/plain/").text == "WSGIRequest"
    assert moving_get(edge, "/pauses/").text == "WSGIRequest"
    assert quiet_get(edge, "/opens/").text == "WSGIRequest"
    assert wholes(edge, [waiting]) == [b"WSGIRequest"]
    assert edge.stray == []
    edge.lane.close()
    assert edge.stop() == 0


@pytest.mark.parametrize("query", ["", "wait=1"])
def test_variables_go_both_ways(site, query):
    edge = site()
    for _ in range(2):
        id = ask(edge, "/variables/", query)
        if query:
            edge.expect(MOVED, id)
        answer = edge.answer(id)
        assert answer.text == "from middleware, from middleware, de"
        assert answer.header("x-after") == ["from view, from view, fr"]
        assert answer.header("x-same-thread") == ["True"]


def test_thread_sensitive_work_is_done_in_the_waiting_thread(site):
    assert json.loads(moving_get(site(), "/thread/").text) == [True, False]


def test_view_and_middleware_share_connection_and_transaction(site):
    edge = site('MIDDLEWARE += ["site_urls.atomically"]')
    view, middleware = json.loads(moving_get(edge, "/atomic/").text)
    assert view == middleware and view[0] is True


def test_sync_and_async_within_each_other(site):
    edge = site()
    assert json.loads(moving_get(edge, "/nested/").text) == [True, True, True, True]
    # Nothing of it is left on the thread: async_to_sync of a sync view makes a loop of its own, as ever.
    assert json.loads(quiet_get(edge, "/sync_inside/").text) is True


def test_django_still_refuses_its_database_on_the_loop(site):
    edge = site('MIDDLEWARE += ["site_urls.caught"]')
    assert "from an async context" in quiet_get(edge, "/unsafe/").text


@pytest.mark.parametrize("query", ["", "wait=1"])
def test_exceptions_arrive_with_their_frames_and_leave_no_cycles(site, query):
    edge = site('MIDDLEWARE += ["site_urls.caught"]')
    assert json.loads(quiet_get(edge, "/left/").text) == []
    for _ in range(2):
        id = ask(edge, "/fails/", query)
        if query:
            edge.expect(MOVED, id)
        assert edge.answer(id).text == "from the view fails True"
    assert json.loads(quiet_get(edge, "/left/").text) == [True, True]


def test_a_client_that_leaves_cancels_the_view(site):
    edge = site()
    id = ask(edge, "/cancelled/")
    edge.expect(MOVED, id)
    place = edge.place
    leave(edge, id)
    assert edge.answer(id).status == 500, "the place is freed with an answer that nobody sees"
    assert lines(edge, 3) == ["cancelled", "finally", "finished in bandstand-1"]
    assert quiet_get(edge, "/plain/").text == "WSGIRequest"
    edge.lane.close()
    assert edge.stop() == 0
    assert edge.word(place) == (0, FREE)
    assert edge.stderr() == ""


def test_a_view_that_raises_cancelled_error_by_itself_has_failed(site):
    edge = site()
    assert quiet_get(edge, "/cancels_itself/").failed
    assert lines(edge, 1) == ["finished in bandstand-1"]
    assert "CancelledError" in edge.stderr()


def test_a_task_that_outlives_its_view_finds_another_thread(site):
    edge = site()
    assert quiet_get(edge, "/background/").text == "started"
    first, second = sorted(lines(edge, 2))
    assert first == "finished in bandstand-1"
    assert second.startswith("later in ") and "bandstand" not in second


@pytest.mark.parametrize("path", ["/stream/", "/stream_async/"])
def test_an_async_stream_leaves_its_thread(site, path):
    edge = site(threads_max=2)
    id = ask(edge, path)
    edge.expect(MOVED, id)
    head = decode_response(edge.expect(RESPONSE, id)[4])
    assert head.body == b"one "
    assert (head.status, head.header("x-kind"), head.header("set-cookie")) == (200, ["WSGIRequest"], ["a=b; Path=/"])
    assert quiet_get(edge, "/opens/").text == "WSGIRequest"
    while len(edge.stray) < 2:
        edge.stray.append(edge.receive())
    kind, flags, _, _, payload, _ = edge.stray[0]
    assert (kind, flags, payload) == (CHUNK, 0, b"two")
    assert edge.stray[1][:2] == (END, 0)
    noted = [line for line in lines(edge, 4) if line != "finished in bandstand-1"]
    assert noted[:2] == ["stream de MainThread", "iterator closed"]
    assert noted[2].startswith("finished in ")
    edge.lane.close()
    assert edge.stop() == 0
    assert edge.stderr() == ""


def test_a_stream_waits_for_the_client(site):
    edge = site()
    id = ask(edge, "/endless/")
    edge.expect(MOVED, id)

    def read_window(received):
        while received < WINDOW:
            received += len(edge.expect(CHUNK, id)[4])
        return received - WINDOW

    assert read_window(len(decode_response(edge.expect(RESPONSE, id)[4]).body)) == 0
    assert quiet_get(edge, "/plain/").text == "WSGIRequest"
    over_lane(edge, id, GRANT, struct.pack("<I", WINDOW))
    assert read_window(0) == 0
    edge.place = id
    leave(edge, id)
    assert "iterator closed" in lines(edge, 3)


def test_a_client_that_leaves_ends_a_silent_stream(site):
    edge = site()
    id = ask(edge, "/silent/")
    edge.expect(MOVED, id)
    place = edge.place
    assert decode_response(edge.expect(RESPONSE, id)[4]).body == b"first"
    leave(edge, id)
    noted = lines(edge, 2)
    assert noted[0] == "iterator closed" and noted[1].startswith("finished in ")
    edge.lane.close()
    assert edge.stop() == 0
    assert edge.word(place) == (0, FREE)
    assert edge.stderr() == ""


def test_a_stream_that_fails_is_broken_off(site):
    edge = site()
    id = ask(edge, "/breaks/")
    edge.expect(MOVED, id)
    answer = edge.answer(id)
    assert (answer.body, answer.broken) == (b"one", True)
    assert lines(edge, 1)[0].startswith("finished in ")
    assert "LookupError: in the iterator" in edge.stderr()


def test_a_head_request_begins_no_stream(site):
    edge = site()
    answer = edge.get("/stream/", method="HEAD")
    assert (answer.status, answer.body) == (200, b"")
    assert lines(edge, 1) == ["finished in bandstand-1"]


def test_threads_are_bounded_and_the_rest_takes_the_loop(site):
    edge = site(threads=2, threads_max=6)
    ids = []
    for number in range(100):
        ids.append(ask(edge, "/waits/"))
        edge.expect(MOVED, ids[-1])
        if number % 30 == 0:
            assert quiet_get(edge, "/plain/").text == "WSGIRequest", "threads are left for sync views"
    assert moving_get(edge, "/opens/").text == "ASGIRequest"
    assert wholes(edge, ids) == [b"WSGIRequest"] * 4 + [b"ASGIRequest"] * 96
    for _ in range(10):
        assert quiet_get(edge, "/quick/").text == "WSGIRequest", "and afterwards all is as before"
    edge.lane.close()
    assert edge.stop() == 0


def test_without_the_bridge_async_views_take_the_loop(site):
    edge = site(BANDSTAND_BRIDGE="0")
    assert quiet_get(edge, "/plain/").text == "WSGIRequest"
    assert moving_get(edge, "/quick/").text == "ASGIRequest"
    assert quiet_get(edge, "/missing/").status == 404
    edge.lane.close()
    assert edge.stop() == 0


def test_a_view_that_holds_up_the_loop_is_named(site, gate):
    edge = site()
    id = ask(edge, "/blocks/", f"gate={gate.path}")
    while "has not turned" not in edge.stderr():
        assert edge.process.poll() is None
    gate.open()
    assert edge.answer(id).text == "WSGIRequest"
    line = next(line for line in edge.stderr().splitlines() if "has not turned" in line)
    assert "coroutine blocks (" in line and "GET '/blocks/'" in line
