"""The guard line: where a request is whose time is over, how it ends, and that nobody else is ever hit."""

import contextlib
import gc
import random
import re
import socket
import sqlite3
import struct
import sys
import threading
from types import SimpleNamespace

import pytest
from scripted_edge import (
    BROKEN,
    CANCEL,
    CANCELLED,
    CHUNK,
    END,
    FREE,
    INTERRUPT,
    MOVED,
    PACKAGE,
    PLACES,
    RESPONSE,
    STACKS,
    WHOLE,
    decode_response,
    frame,
)
from scripted_loop import APPS
from test_31_bridge import SETTINGS

sys.path.insert(0, PACKAGE)
from bandstand import _worker  # noqa: E402
from bandstand import guard as subject  # noqa: E402

WSGI = """
import threading, time
from bandstand import RequestTimeout

def say(text):
    with open("notes", "a") as notes:
        notes.write(text + "\\n")

def reach(name):
    open(name).read()

def application(environ, start_response):
    start_response("200 OK", [])
    return globals()[environ["PATH_INFO"].split("/")[1]](environ)

def gate(environ):
    reach(environ["QUERY_STRING"])
    return [b"through"]

def quick(environ):
    return [threading.current_thread().name.encode()]

def spins(environ):
    say("begun")
    try:
        while True:
            spun = sum(range(100))  # the line that spins
    except Exception:
        return [b"swallowed"]
    finally:
        say("finally")

def keeps(environ):
    try:
        spins(environ)
    except RequestTimeout:
        return [b"kept"]

class Answer:
    def __init__(self, items, closing=lambda: None):
        self.items, self.closing = items, closing
    def __iter__(self):
        return iter(self.items)
    def close(self):
        self.closing()
        say("closed")

def stream(environ):
    def items():
        yield b"first"
        try:
            spins(environ)
        finally:
            say("left")
    return Answer(items())

def closes(environ):
    def closing():
        say("closing")
        reach(environ["QUERY_STRING"])
        for _ in range(10000):
            pass
    return Answer([b"all"], closing)

lock = threading.Lock()
lock.acquire()

def takes(environ):
    say("begun")
    while not lock.acquire(False): time.sleep(0)
    return [b"taken"]

class Cleaning:
    def __enter__(self):
        say("begun")
    def __exit__(self, *_):
        self.clean()
    def clean(self):
        while lock.locked():
            time.sleep(0)

def cleans(environ):
    with Cleaning():
        pass
    return [b"taken"]

def renames(environ):
    take = lock.acquire
    say("begun")
    while not take(False):
        time.sleep(0)
    return [b"taken"]

class Beginning(Cleaning):
    def __enter__(self):
        say("begun")
        self.clean()
    def __exit__(self, *_):
        pass

def begins(environ):
    with Beginning():
        return [b"taken"]

def releases(environ):
    lock.release()
    return [b"released"]

def deep(environ):
    def down(left):
        if left:
            return up(left - 1)
        return gate(environ)
    def up(left):
        return down(left)
    return down(450)
"""


def lines(edge, folder, count):
    path = folder / "notes"
    while True:
        noted = path.read_text().splitlines() if path.exists() else []
        if len(noted) >= count:
            return noted
        assert edge.process.poll() is None, edge.stderr()


def last_line(answer):
    return answer["stack"].rstrip().splitlines()[-1].strip()


def complaints(edge):
    return [line for line in edge.stderr().splitlines() if "RequestTimeout" in line]


@pytest.fixture
def spinning(worker, tmp_path):
    """`(edge, id)` of a worker whose request spins."""

    def start(path="/spins", **options):
        edge = worker(WSGI, **options)
        id = edge.request(path=path)
        lines(edge, tmp_path / "0", 1)
        return edge, id

    return start


@pytest.mark.parametrize("threads", [1, 3])
def test_a_thread_that_spins_is_shown_and_ended(spinning, tmp_path, threads):
    edge, id = spinning(threads=threads)
    place = edge.place
    told = edge.interrupt(id)
    assert (told["found"], told["kind"], told["interrupted"], told["route"]) == (True, "thread", True, None)
    assert re.search(r'app\.py", line \d+, in spins\n    spun = sum\(range\(100\)\)  # the line that spins', told["stack"])
    assert told["stack"].splitlines()[0].endswith("in application"), "nothing of ours, nothing of threading"
    assert told["name"] == ("MainThread" if threads == 1 else "bandstand-1") or threads == 3
    assert edge.answer(id).failed
    assert lines(edge, tmp_path / "0", 2) == ["begun", "finally"], "and `except Exception` did not swallow it"
    assert edge.get("/quick").status == 200
    assert edge.stop() == 0
    assert edge.word(place) == (0, FREE)
    assert edge.stderr().splitlines() == [
        f"bandstand: request req-{id} (GET /spins): its time was over: RequestTimeout was raised in the app"
    ]


def test_an_app_may_keep_its_answer(spinning):
    edge, id = spinning("/keeps")
    assert edge.interrupt(id)["interrupted"]
    assert edge.answer(id).text == "kept"
    assert edge.get("/quick").status == 200
    assert edge.stderr() == ""


def test_a_neighbour_is_untouched(spinning, gate):
    edge, id = spinning(threads=2)
    neighbour = edge.request(path="/gate", query=gate.path.encode())
    while not any("in gate" in thread["stack"] for thread in edge.stacks()["threads"]):
        pass
    assert edge.interrupt(id)["interrupted"]
    assert edge.answer(id).failed
    gate.open()
    assert edge.answer(neighbour).text == "through"


def test_a_thread_in_a_system_call_hears_of_it_when_that_returns(worker, gate):
    edge = worker(WSGI)
    id = edge.request(path="/gate", query=gate.path.encode())
    while not (told := edge.stacks()["threads"][0])["stack"]:
        pass
    assert (told["name"], told["place"], told["id"]) == ("MainThread", id, id)
    told = edge.interrupt(id)
    assert told["interrupted"] and last_line(told) == "open(name).read()"
    gate.open()
    assert edge.answer(id).failed
    assert len(complaints(edge)) == 1


def test_a_stream_is_ended_and_closed(spinning, tmp_path):
    edge, id = spinning("/stream")
    assert decode_response(edge.expect(RESPONSE, id)[4]).body == b"first"
    assert edge.interrupt(id)["interrupted"]
    assert edge.expect(END, id)[1] == BROKEN
    assert lines(edge, tmp_path / "0", 4) == ["begun", "finally", "left", "closed"]
    assert edge.get("/quick").status == 200
    assert len(edge.stderr().splitlines()) == 1


def test_close_is_not_interrupted(worker, gate, tmp_path):
    edge = worker(WSGI)
    id = edge.request(path="/closes", query=gate.path.encode())
    assert edge.answer(id).text == "all"
    lines(edge, tmp_path / "0", 1)
    told = edge.interrupt(id)
    assert (told["found"], told["interrupted"]) == (True, False)
    assert "in closing" in told["stack"]
    gate.open()
    assert lines(edge, tmp_path / "0", 2) == ["closing", "closed"]
    assert edge.get("/quick").status == 200
    assert edge.stderr() == ""


@pytest.mark.parametrize("path", ["/takes", "/renames", "/begins", "/cleans"])
def test_a_thread_is_left_alone_where_a_lock_would_stay_taken_or_a_cleanup_undone(spinning, path):
    edge, id = spinning(path, threads=2)
    told = edge.interrupt(id)
    assert (told["found"], told["interrupted"]) == (True, False)
    assert edge.get("/releases").text == "released"
    assert edge.answer(id).text == "taken"
    assert edge.stderr() == ""


def test_where_it_is_safe_is_not_read_from_a_source_that_has_changed(spinning, tmp_path):
    edge, id = spinning()
    (tmp_path / "0" / "app.py").write_text("lock.acquire()\n" * 200)
    assert edge.interrupt(id)["interrupted"]
    assert edge.answer(id).failed


def test_frames_of_all_threads_leave_garbage_collection_as_it_was():
    for switch in (gc.disable, gc.enable):
        switch()
        assert threading.get_ident() in _worker.current_frames()
        assert gc.isenabled() == (switch is gc.enable)


def test_the_guard_waits_for_many_threads_as_long_as_for_a_few(monkeypatch):
    now = [0.0]

    def sleep(seconds):
        now[0] += seconds

    ours, edge = socket.socketpair()
    monkeypatch.setattr(subject, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    monkeypatch.setattr(subject.signal, "pthread_sigmask", lambda *_: None)
    asked = []

    def interrupt(ident, key, spot):
        asked.append(ident)
        return True, False, None

    holders = [(id, id, id, {}, None) for id in range(1, 101)]
    monkeypatch.setattr(subject, "_worker", SimpleNamespace(holders=lambda: holders, interrupt=interrupt, current_frames=dict))
    monkeypatch.setattr(subject.stacks, "_worker", subject._worker)
    monkeypatch.setattr(subject, "before_interrupt", lambda seconds: sleep(min(0.3, seconds)))
    guard = subject.Guard(ours.detach(), None, None, 0)
    for id in range(1, 101):
        edge.sendall(frame(INTERRUPT, b"", 0, id, id))
    edge.shutdown(socket.SHUT_WR)
    guard.work()
    assert set(asked) == set(range(1, 101)), "each is tried"
    assert len(asked) > 120, "and not given up at once"
    assert now[0] < 0.7
    with edge:
        answers = b"".join(iter(lambda: edge.recv(65536), b""))
    assert answers.count(b'"found":true') == 100


def test_what_is_over_is_not_found(worker):
    edge = worker(WSGI, threads=2)
    id = edge.request(path="/quick")
    place = edge.place
    edge.answer(id)
    while edge.word(place)[1] != FREE:
        pass
    assert edge.interrupt(id) == {"found": False}
    assert edge.interrupt(2**64 - 1, place=PLACES - 1) == {"found": False}
    assert edge.interrupt(0, place=0) == {"found": False}


def test_another_place_is_another_exchange(spinning):
    edge, id = spinning()
    assert edge.interrupt(id, place=id + 1) == {"found": False}
    assert edge.interrupt(id)["found"]
    assert edge.answer(id).failed


def test_a_deep_stack_is_cut_at_its_outer_end(worker, gate):
    edge = worker(WSGI)
    id = edge.request(path="/deep", query=gate.path.encode())
    while "in reach" not in edge.stacks()["threads"][0]["stack"]:
        pass
    told = edge.interrupt(id)
    assert 50_000 < len(told["stack"].encode()) <= 60 * 1024
    assert told["stack"].startswith("  (outer frames are left out)\n  File ")
    assert last_line(told) == "open(name).read()"
    gate.open()
    assert edge.answer(id).failed


@pytest.mark.parametrize(
    "garbage",
    [
        b"\xff" * 64,
        struct.pack("<IBBHQ", 2**32 - 1, 0x08, 0, 0, 1),
        struct.pack("<IBBHQ", 0, 0x77, 0xFF, 0xFFFF, 2**64 - 1) + b"GET / HTTP/1.1\r\n\r\n",
        frame(0x08)[:7],
    ],
)
def test_garbage_on_the_guard_line_does_not_hurt_requests(worker, garbage):
    edge = worker(WSGI)
    edge.guard.sendall(garbage)
    edge.guard.shutdown(socket.SHUT_WR)
    with contextlib.suppress(ConnectionResetError):  # it has not read all
        while edge.guard.recv(4096):
            pass
    assert edge.get("/quick").status == 200
    assert edge.stop() == 0
    assert len([line for line in edge.stderr().splitlines() if line.startswith("bandstand:")]) <= 1


def test_what_a_later_edge_may_ask_is_skipped(worker):
    edge = worker(WSGI)
    edge.guard.sendall(frame(0x0A, b"x" * 5000))
    assert edge.interrupt(12345) == {"found": False}


def test_no_guard_line(worker):
    edge = worker(WSGI, env={"BANDSTAND_GUARD_FD": "-1"})
    assert edge.get("/quick").status == 200


def test_the_end_of_the_guard_line_is_no_end_of_requests(worker):
    edge = worker(WSGI)
    edge.guard.close()
    assert edge.get("/quick").status == 200
    assert edge.stop() == 0
    assert edge.stderr() == ""


def test_stacks_of_all_threads(spinning):
    edge, id = spinning(threads=3)
    told = edge.stacks()
    assert told["tasks"] == []
    threads = {thread["name"]: thread for thread in told["threads"]}
    assert set(threads) == {"MainThread", "bandstand-1", "bandstand-2", "bandstand-3"}
    busy = [thread for thread in threads.values() if thread["id"] is not None]
    assert [(thread["place"], thread["id"]) for thread in busy] == [(id, id)]
    assert "in spins" in busy[0]["stack"]
    assert [thread["stack"] for thread in threads.values() if thread["id"] is None] == ["", "", ""]
    assert edge.interrupt(id)["interrupted"]
    assert edge.answer(id).failed


# Nobody else

SHORT = """
import sys

# The guard gets its turn in the middle of the shortest request.
sys.setswitchinterval(1e-6)

def work(environ):
    total = 0
    for number in range(int(environ["QUERY_STRING"])):
        total += number
    return total

class Closing:
    def __init__(self, environ):
        self.environ = environ
    def __iter__(self):
        for _ in range(3):
            work(self.environ)
            yield b"x"
    def close(self):
        # Not the app's any more for the guard: this is always whole.
        work(self.environ)
        closed.append(self.environ["HTTP_X_REQUEST_ID"])

closed = []

def application(environ, start_response):
    if environ["PATH_INFO"] == "/closed":
        start_response("200 OK", [])
        return [" ".join(closed).encode()]
    work(environ)
    start_response("200 OK", [])
    return Closing(environ) if environ["PATH_INFO"] == "/stream" else [str(work(environ)).encode()]
"""


@pytest.mark.parametrize("threads", [1, 4])
def test_no_request_but_the_interrupted_one_ever_sees_it(worker, threads):
    edge = worker(SHORT, threads=threads)
    dice = random.Random(41)
    asked, ended, streams = set(), {}, {}
    for _ in range(600):
        ids = []
        for _ in range(8):
            path = dice.choice(["/", "/", "/stream"])
            ids.append(edge.request(path=path, query=str(dice.choice([0, 10, 300, 3000, 10000])).encode()))
            streams[ids[-1]] = path == "/stream"
        for id in dice.sample(ids, 4):
            edge.ask_guard(INTERRUPT, id % PLACES, id)
        open_ids, heads = set(ids), {}
        while open_ids:
            kind, flags, _, id, payload, _ = edge.receive()
            if kind == RESPONSE:
                heads[id] = decode_response(payload).status
                if not flags & WHOLE:
                    continue
            elif kind == END:
                heads[id] = heads[id] if not flags & BROKEN else 0
            else:
                assert kind == CHUNK
                continue
            ended[id] = heads[id]
            open_ids.discard(id)
        for _ in range(4):
            _, id, told = edge.hear_guard()
            if told.get("interrupted"):
                asked.add(id)
    hit = {id for id, status in ended.items() if status != 200}
    assert len(ended) == 4800
    assert hit <= asked, "somebody else's"
    assert len(hit) > 20, "nobody was hit: this proved nothing"
    # A stream whose app was interrupted before it returned one has nothing to close.
    closing = {id for id, is_stream in streams.items() if is_stream and id not in hit}
    while not closing <= {int(id[4:]) for id in edge.get("/closed").text.split()}:  # close() comes after the answer
        assert edge.process.poll() is None
    assert edge.stop() == 0
    named = [int(re.search(r"request req-(\d+) ", line)[1]) for line in edge.stderr().splitlines()]
    assert set(named) <= asked and len(named) == len(set(named)), "one line for each that was hit"
    assert edge.stderr().count("its time was over") == len(named)


# On the loop

LOOP = APPS + """
import threading

async def quick(scope, receive, send):
    await answer(send, b"quick")

async def sleeps(scope, receive, send):
    try:
        await wait_long()
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        raise

async def wait_long():
    await asyncio.sleep(1000)  # the line that sleeps

async def nested(scope, receive, send):
    await asyncio.wait([asyncio.create_task(within()), asyncio.create_task(asyncio.sleep(1000))])

async def within():
    async with asyncio.timeout(900) if hasattr(asyncio, "timeout") else asyncio.Lock():
        await asyncio.gather(items())

async def items():
    async for item in generate():
        pass

async def generate():
    await wait_long()
    yield 1

async def blocks(scope, receive, send):
    open(scope["query_string"].decode()).read()
    await answer(send, b"done")

async def socket(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    await wait_long()
"""


def at_rest(edge, text):
    """Waits until a stack says that the app has come there."""
    while not any(text in row["stack"] for rows in edge.stacks().values() for row in rows):
        assert edge.process.poll() is None, edge.stderr()


@pytest.mark.parametrize("path", ["/sleeps", "/nested"])
def test_a_task_is_shown_down_to_its_innermost_await(loop_worker, path):
    edge = loop_worker(LOOP)
    id = edge.request(path=path)
    at_rest(edge, "the line that sleeps")
    told = edge.interrupt(id)
    assert (told["found"], told["kind"], told["interrupted"], told["route"]) == (True, "task", True, None)
    assert "await asyncio.sleep(1000)  # the line that sleeps" in told["stack"]
    assert "bandstand/" not in told["stack"]
    if path == "/nested":
        assert [name in told["stack"] for name in ("in within", "in items", "in generate")] == [True] * 3
    assert edge.get("/quick").text == "quick"
    edge.cancel(id, BROKEN)
    assert edge.answer(id).status == 500
    assert edge.interrupt(id) == {"found": False}
    assert edge.stderr() == ""


def test_a_websocket_is_a_task_too(loop_worker):
    edge = loop_worker(LOOP)
    id = edge.connect("/socket")
    at_rest(edge, "the line that sleeps")
    told = edge.interrupt(id)
    assert told["found"] and "in socket" in told["stack"]
    edge.cancel(id, BROKEN)


def test_a_loop_that_is_held_up_is_shown(loop_worker, gate):
    edge = loop_worker(LOOP)
    id = edge.request(path="/blocks", query=gate.path.encode())
    at_rest(edge, "in blocks")
    told = edge.interrupt(id)
    assert (told["found"], told["kind"], told["interrupted"]) == (True, "task", False)
    assert last_line(told) == 'open(scope["query_string"].decode()).read()'
    gate.open()
    assert edge.answer(id).text == "done"


def test_stacks_of_all_tasks(loop_worker):
    edge = loop_worker(LOOP)
    ids = [edge.request(path="/sleeps"), edge.request(path="/nested")]
    while len(found := [task for task in edge.stacks()["tasks"] if "the line that sleeps" in task["stack"]]) < 3:
        pass
    assert {(task["place"], task["id"]) for task in found} == {(id, id) for id in ids}
    for id in ids:
        edge.cancel(id, BROKEN)


def test_many_stacks_stay_within_their_bounds(loop_worker):
    edge = loop_worker(LOOP)
    ids = [edge.request(path="/sleeps") for _ in range(3000)]
    at_rest(edge, "the line that sleeps")
    edge.ask_guard(STACKS)
    head = b""
    while len(head) < 16:
        head += edge.guard.recv(16 - len(head))
    length = struct.unpack_from("<I", head)[0]
    assert 100_000 < length <= 512 * 1024
    for id in ids:
        edge.cancel(id, BROKEN)


# Both

URLS = """
import asyncio, threading
from asgiref.sync import sync_to_async
from django.core.signals import request_finished
from django.db import connection, transaction
from django.http import HttpResponse, StreamingHttpResponse
from django.urls import include, path
from bandstand import RequestTimeout

def note(text):
    with open("notes", "a") as notes:
        notes.write(text + "\\n")

request_finished.connect(lambda **_: note("finished"), weak=False)

def around(get_response):
    def middleware(request):
        try:
            return get_response(request)
        except BaseException as error:
            note(type(error).__name__)
            raise
    return middleware

def plain(request, name=""):
    return HttpResponse(threading.current_thread().name)

def spin(request):
    note("begun")
    while True:
        spun = sum(range(100))  # the line that spins

def spins(request, name=""):
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("create table torn (x)")
        spin(request)

def tables(request):
    return HttpResponse(str(connection.connection is None) + " " + " ".join(connection.introspection.table_names()))

async def sleeps(request):
    note("begun")
    try:
        await asyncio.sleep(1000)  # the line that sleeps
    finally:
        note("finally")

async def lends(request):
    await asyncio.sleep(0)
    await sync_to_async(spin)(request)

async def cleans(request):
    note("begun")
    try:
        await asyncio.sleep(1000)  # the line that sleeps
    finally:
        note(await sync_to_async(lambda: "cleaned in " + threading.current_thread().name)())

def stream(request):
    async def parts():
        yield b"first"
        await asyncio.sleep(1000)  # the line that sleeps
    return StreamingHttpResponse(parts())

views = [plain, spins, tables, sleeps, lends, cleans, stream]
urlpatterns = [path(f"{view.__name__}/", view) for view in views]
urlpatterns += [path("shop/", include([path("<slug:name>/", spins)]))]
"""


@pytest.fixture(params=["asyncio", "uvloop"])
def site(request, worker, tmp_path):
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    pytest.importorskip("django")

    def start(threads=1, more="", **env):
        (tmp_path / "site_settings.py").write_text(SETTINGS)
        (tmp_path / "site_urls.py").write_text(URLS + more)
        env = {
            "DJANGO_SETTINGS_MODULE": "site_settings",
            "BANDSTAND_PYTHONPATH": str(tmp_path),
            "BANDSTAND_LOOP": request.param,
            **env,
        }
        return worker(app="", env=env, threads=threads)

    return start


def begin(edge, tmp_path, path):
    id = edge.request(path=path)
    lines(edge, tmp_path / "0", 1)
    return id


@pytest.mark.parametrize("path, route", [("/spins/", "spins/"), ("/shop/lamp/", "shop/<slug:name>/")])
def test_a_sync_view_among_both(site, tmp_path, path, route):
    edge = site()
    id = begin(edge, tmp_path, path)
    told = edge.interrupt(id)
    assert (told["kind"], told["name"], told["route"], told["interrupted"]) == ("thread", "bandstand-1", route, True)
    assert last_line(told) == "spun = sum(range(100))  # the line that spins"
    assert edge.answer(id).failed
    assert lines(edge, tmp_path / "0", 3) == ["begun", "RequestTimeout", "finished"]
    assert edge.get("/tables/").text == "True ", "the transaction was rolled back, its connection closed"
    edge.lane.close()
    assert edge.stop() == 0
    assert len(edge.stderr().splitlines()) == 1


@pytest.mark.parametrize("first", ["lane", "guard"])
@pytest.mark.parametrize("path, cleaned", [("/sleeps/", "finally"), ("/cleans/", "cleaned in bandstand-1")])
def test_an_async_view_that_a_thread_waits_for(site, tmp_path, first, path, cleaned):
    edge = site()
    id = begin(edge, tmp_path, path)
    edge.expect(MOVED, id)
    place = edge.place
    edge.add_bit(place, CANCELLED)
    if first == "guard":
        told = edge.interrupt(id)
        assert (told["kind"], told["route"], told["interrupted"]) == ("task", path[1:], True)
        assert re.fullmatch(r"Task-\d+ \(begun on bandstand-1\)", told["name"])
        assert "in middleware" in told["stack"] and "\n  (on the loop, Task-" in told["stack"]
        assert "await asyncio.sleep(1000)  # the line that sleeps" in told["stack"].split("on the loop")[1]
    edge.send(frame(CANCEL, b"", BROKEN, place, id), to=edge.lane)
    assert edge.answer(id).status == 500
    assert lines(edge, tmp_path / "0", 4) == ["begun", cleaned, "RequestTimeout", "finished"]
    assert edge.interrupt(id) == {"found": False}
    assert edge.get("/plain/").status == 200
    edge.lane.close()
    assert edge.stop() == 0
    assert edge.word(place) == (0, FREE)
    assert len(edge.stderr().splitlines()) == 1 and "RequestTimeout" in edge.stderr()


def test_a_view_on_the_loop_whose_thread_spins_for_it(site, tmp_path):
    edge = site()
    id = begin(edge, tmp_path, "/lends/")
    edge.expect(MOVED, id)
    told = edge.interrupt(id)
    assert "(in the thread that waits for it)" in told["stack"] and "in lends" in told["stack"]
    assert last_line(told) == "spun = sum(range(100))  # the line that spins"
    assert told["interrupted"]
    assert edge.answer(id).failed
    assert lines(edge, tmp_path / "0", 3) == ["begun", "RequestTimeout", "finished"]
    assert edge.get("/plain/").status == 200
    assert len(complaints(edge)) == 1


def test_a_stream_of_the_loop(site):
    edge = site()
    id = edge.request(path="/stream/")
    edge.expect(MOVED, id)
    assert decode_response(edge.expect(RESPONSE, id)[4]).body == b"first"
    at_rest(edge, "the line that sleeps")
    told = edge.interrupt(id)
    assert (told["kind"], told["route"], told["interrupted"]) == ("task", "stream/", True)
    assert "the line that sleeps" in told["stack"]
    edge.send(frame(CANCEL, b"", BROKEN, edge.place, id), to=edge.lane)


def test_stacks_of_both(site, tmp_path):
    edge = site()
    id = begin(edge, tmp_path, "/sleeps/")
    edge.expect(MOVED, id)
    told = edge.stacks()
    thread = next(thread for thread in told["threads"] if thread["name"] == "bandstand-1")
    task = next(task for task in told["tasks"] if "the line that sleeps" in task["stack"])
    assert (thread["place"], thread["id"]) == (task["place"], task["id"]) == (id, id)
    assert edge.interrupt(id)["interrupted"]
    assert edge.answer(id).failed


def test_the_thread_under_a_task_of_djangos_asgi_handler(site, tmp_path):
    edge = site(BANDSTAND_INTERFACE="asgi")
    id, data = edge.encode_request(path="/spins/")
    place = edge.place
    edge.send(data, to=edge.lane)
    lines(edge, tmp_path / "0", 1)
    told = edge.interrupt(id)
    assert (told["kind"], told["route"], told["interrupted"]) == ("task", "spins/", True)
    assert re.search(r"\n  \(in bandstand-asgi-\d+\)\n", told["stack"])
    assert last_line(told) == "spun = sum(range(100))  # the line that spins"
    edge.add_bit(place, CANCELLED)
    edge.send(frame(CANCEL, b"", BROKEN, place, id), to=edge.lane)
    assert edge.answer(id).status == 500
    id, data = edge.encode_request(path="/tables/")
    edge.send(data, to=edge.lane)
    assert edge.answer(id).text.endswith(" "), "rolled back"
    edge.lane.close()
    assert edge.stop() == 0


TORN = """
from django.db import connections
connections.settings["default"]["CONN_MAX_AGE"] = None

def torn(request):
    with connection.cursor() as cursor:
        cursor.execute("create table kept (x)")
        cursor.execute("begin")  # as in the middle of atomic(): Django does not know yet
    spin(request)

def hides(request):
    try:
        torn(request)
    except BaseException:
        raise ValueError

def jams(request):
    transaction.atomic().__enter__()
    connection.close = lambda: 1 / 0
    spin(request)

def writes(request):
    with connection.cursor() as cursor:
        cursor.execute("create table if not exists kept (x)")
        cursor.execute("insert into kept values (1)")
    return HttpResponse(str(connection.in_atomic_block))

urlpatterns += [path(f"{view.__name__}/", view) for view in (torn, hides, jams, writes)]
"""


@pytest.mark.parametrize("interface", ["auto", "asgi"])
@pytest.mark.parametrize("path", ["/torn/", "/hides/", "/jams/"])
def test_no_connection_that_code_was_torn_from_is_used_again(site, tmp_path, interface, path):
    edge = site(more=TORN, BANDSTAND_INTERFACE=interface)
    line = edge.lane if interface == "asgi" else None
    id, data = edge.encode_request(path=path)
    place = edge.place
    edge.send(data, to=line)
    lines(edge, tmp_path / "0", 1)
    assert edge.interrupt(id)["interrupted"]
    if interface == "asgi":
        edge.add_bit(place, CANCELLED)
        edge.send(frame(CANCEL, b"", BROKEN, place, id), to=edge.lane)
    assert edge.answer(id).status == 500
    id, data = edge.encode_request(path="/writes/")
    edge.send(data, to=line)
    assert edge.answer(id).text == "False"
    with contextlib.closing(sqlite3.connect(tmp_path / "0" / "site.sqlite3")) as database:
        assert database.execute("select count(*) from kept").fetchone() == (1,), "it was committed"
    assert ("the connection 'default' could not be closed" in edge.stderr()) == (path == "/jams/")


LEAVING = """
def leave(**_):
    open("../gate").read()
    1 / 0
request_finished.connect(leave, weak=False)
"""


def test_a_request_is_answered_at_once_and_over_when_all_is_tidy(site, tmp_path, gate):
    edge = site(more=LEAVING)
    id = begin(edge, tmp_path, "/spins/")
    place = edge.place
    assert edge.interrupt(id)["interrupted"]
    assert edge.answer(id).failed
    while not any("in leave" in thread["stack"] for thread in edge.stacks()["threads"]):
        assert edge.process.poll() is None
    assert edge.word(place) != (0, FREE)
    gate.open()
    while edge.word(place) != (0, FREE):
        assert edge.process.poll() is None
    assert "leave" in edge.stderr() and "ZeroDivisionError" in edge.stderr()


STORM = """
import sys
sys.setswitchinterval(1e-6)

async def stormy(request):
    total = 0
    for number in range(3):
        await asyncio.sleep(0)
        total += await sync_to_async(lambda: sum(1 for _ in range(300)))()
    return HttpResponse(str(total))
urlpatterns += [path("stormy/", stormy)]
request_finished.receivers.clear()
"""


def test_no_neighbour_is_hit_where_threads_wait_for_the_loop(site):
    edge = site(threads=2, more=STORM)
    dice = random.Random(42)
    asked, ended = set(), {}
    for _ in range(250):
        ids = [edge.request(path=dice.choice(["/plain/", "/stormy/"])) for _ in range(6)]
        for id in dice.sample(ids, 3):
            edge.ask_guard(INTERRUPT, id % PLACES, id)
        open_ids = set(ids)
        while open_ids:
            kind, flags, _, id, payload, _ = edge.receive()
            if kind == RESPONSE:
                assert flags & WHOLE
                ended[id] = decode_response(payload).status
                open_ids.discard(id)
            else:
                assert kind == MOVED
        for _ in range(3):
            _, id, told = edge.hear_guard()
            if told.get("interrupted"):
                asked.add(id)
    hit = {id for id, status in ended.items() if status != 200}
    assert hit <= asked
    assert len(ended) == 1500 and hit
    edge.lane.close()
    assert edge.stop() == 0
