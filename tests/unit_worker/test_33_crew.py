"""The threads of Django's ASGI handler: how many there are, who shares them, and what a neighbour may not do."""

import asyncio
import gc
import importlib.metadata
import json
import os
import sys
import weakref
from concurrent.futures import Future

import pytest
from scripted_edge import PACKAGE, RESPONSE, Edge, decode_response
from scripted_loop import LoopEdge
from test_30_interface import describe

pytest.importorskip("django")
sys.path.insert(0, PACKAGE)
from bandstand import crew  # noqa: E402

SETTINGS = """
SECRET_KEY = "x"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "site_urls"
USE_I18N = False
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "site.sqlite3"}}
"""

URLS = """
import asyncio, threading
from asgiref.sync import sync_to_async
from django.core import signals
from django.db import connection, connections, transaction
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from django.utils.deprecation import MiddlewareMixin

gate, begun = asyncio.Event(), []

def sync_only(get_response):
    return lambda request: get_response(request)

class Steps(MiddlewareMixin):
    def process_request(self, request):
        pass

def connect():
    connection.ensure_connection()
    return id(connection.connection), threading.current_thread().name

async def name(request):
    return HttpResponse(await sync_to_async(lambda: threading.current_thread().name)())

async def waits(request):
    begun.append(await sync_to_async(threading.get_ident)())
    await gate.wait()
    begun.append(await sync_to_async(threading.get_ident)())
    return HttpResponse("done")

async def count(request):
    mine = [thread.name for thread in threading.enumerate() if thread.name.startswith("bandstand-asgi")]
    others = [t.name for t in threading.enumerate() if t.name not in mine and not t.name.startswith(("MainT", "bandstand"))]
    return JsonResponse([len(begun), len(mine), len(others)], safe=False)

async def threads(request):
    return JsonResponse(len(set(begun)), safe=False)

async def opens(request):
    gate.set()
    return HttpResponse("opened")

async def holds(request):
    # Keeps a connection in use across others' requests, as aiterator() does.
    before = await sync_to_async(connect)()
    begun.append(1)
    await gate.wait()
    return JsonResponse([await sync_to_async(lambda: connection.connection is not None)(), before == await sync_to_async(connect)()], safe=False)

async def uses(request):
    raw, thread = await sync_to_async(connect)()
    return HttpResponse(thread)

async def is_open(request):
    # request_started has been here already
    return HttpResponse(str(await sync_to_async(lambda: connection.connection is not None)()))

entered, asked = asyncio.Event(), []

async def transacts(request):
    while len(begun) < 4:
        await asyncio.sleep(0)
    atomic = transaction.atomic()
    await sync_to_async(atomic.__enter__)()
    entered.set()
    while len(asked) < 4:
        await asyncio.sleep(0)
    told = await sync_to_async(lambda: len(answered))()
    if "leave" not in request.GET:
        await sync_to_async(atomic.__exit__)(None, None, None)
    return HttpResponse(f"{told} came between")

answered = []

def look():
    answered.append(connection.in_atomic_block)
    return answered[-1]

async def looks(request):
    await sync_to_async(connect)()
    begun.append(1)
    await entered.wait()
    asked.append(1)
    return HttpResponse(str(await sync_to_async(look)()))

inside = []

async def background(request):
    async def later():
        await gate.wait()
        inside.append(await sync_to_async(lambda: threading.current_thread().name)())
    background.task = asyncio.create_task(later())
    return HttpResponse("started")

async def where(request):
    await background.task
    return HttpResponse(inside[0])

async def fails(request):
    await sync_to_async(lambda: 1 / 0)()

async def stream(request):
    async def parts():
        yield b"x"
        yield (await sync_to_async(lambda: threading.current_thread().name)()).encode()
    return StreamingHttpResponse(parts())

closed = []

def note_end(**_):
    closed.append(threading.current_thread().name)

signals.request_finished.connect(note_end)

views = [name, waits, count, threads, opens, holds, uses, is_open, transacts, looks, background, where, fails, stream]
urlpatterns = [path(f"{view.__name__}/", view) for view in views]
"""


class DjangoEdge(LoopEdge):
    """A whole worker whose requests all take the loop."""

    def __init__(self, folder, **options):
        Edge.__init__(self, folder, **options)

    def answers(self, ids):
        """Whole answers, in whatever order they come."""
        found = {}
        while len(found) < len(ids):
            # Some may have come before the answer to the request that set them free.
            _, _, _, id, payload, _ = self.stray.pop(0) if self.stray else self.expect(RESPONSE)
            found[id] = decode_response(payload)
        return [found[id] for id in ids]

    def until_begun(self, number):
        """Until so many requests wait; then how many threads there are: the crew's, and others that asgiref made."""
        while (counted := json.loads(self.get("/count/").text))[0] < number:
            assert self.process.poll() is None, self.stderr()
        return counted[1:]


@pytest.fixture(params=["asyncio", "uvloop"])
def site(request, tmp_path):
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    edges = []

    def start(settings="", threads_max=4, **env):
        (tmp_path / "site_settings.py").write_text(SETTINGS + settings)
        (tmp_path / "site_urls.py").write_text(URLS)
        env = {
            "DJANGO_SETTINGS_MODULE": "site_settings",
            "BANDSTAND_PYTHONPATH": str(tmp_path),
            "BANDSTAND_LOOP": request.param,
            "BANDSTAND_INTERFACE": "asgi",
            "BANDSTAND_THREADS_MAX": str(threads_max),
            **env,
        }
        edge = DjangoEdge(tmp_path, app="", env=env)
        edges.append(edge)
        edge.hello()
        return edge

    yield start
    for edge in edges:
        edge.close()


def test_three_hundred_waiting_requests_share_a_few_threads(site):
    edge = site()
    ids = [edge.request("GET", "/waits/") for _ in range(300)]
    assert edge.until_begun(300) == [4, 0]
    assert len(os.listdir(f"/proc/{edge.process.pid}/task")) < 16
    edge.get("/opens/")
    assert {answer.text for answer in edge.answers(ids)} == {"done"}


def test_up_to_the_limit_each_has_its_own_thread(site):
    edge = site()
    ids = [edge.request("GET", "/waits/") for _ in range(4)]
    edge.until_begun(4)
    assert json.loads(edge.get("/threads/").text) == 4
    edge.get("/opens/")
    edge.answers(ids)


def test_threads_are_used_again(site):
    """The end of a request may overlap with the next one, so that it is not always the first."""
    edge = site()
    names = {edge.get("/name/").text for _ in range(100)}
    assert names <= {f"bandstand-asgi-{number}" for number in (1, 2, 3, 4)}
    crew, others = edge.until_begun(0)
    assert crew <= 4 and others == 0


@pytest.mark.parametrize("engine", ["CONN_MAX_AGE = 0", "CONN_MAX_AGE = None"])
def test_a_neighbour_that_ends_closes_no_connection_in_use(site, engine):
    value = engine.partition(" = ")[2]
    edge = site(f'DATABASES["default"]["CONN_MAX_AGE"] = {value}', threads_max=1)
    id = edge.request("GET", "/holds/")
    assert edge.until_begun(1) == [1, 0]
    assert [edge.get("/uses/").text for _ in range(5)] == ["bandstand-asgi-1"] * 5
    edge.get("/opens/")
    assert json.loads(edge.answer(id).text) == [True, True]
    # What was left open for the neighbour is closed afterwards, or kept, as the project says.
    if value == "None":
        assert edge.get("/is_open/").text == "True"
    while value == "0" and edge.get("/is_open/").text == "True":  # the end of one request may overlap with the next
        assert edge.process.poll() is None


def test_connections_are_kept_as_the_project_says(site):
    edge = site('DATABASES["default"]["CONN_MAX_AGE"] = 60', threads_max=1)
    edge.get("/uses/")
    assert edge.get("/is_open/").text == "True"


@pytest.mark.parametrize("query", [b"commit=1", b"leave=1"])
def test_nobody_comes_into_a_transaction(site, query):
    edge = site(threads_max=1)
    ids = [edge.request("GET", "/looks/") for _ in range(4)]
    ids.append(edge.request("GET", "/transacts/", query=query))
    assert [answer.text for answer in edge.answers(ids)] == ["False"] * 4 + ["0 came between"]
    assert edge.get("/looks/").text == "False", "and none is left behind"


def test_a_task_that_outlives_its_request_finds_another_thread(site):
    edge = site()
    assert edge.get("/background/").text == "started"
    edge.get("/opens/")
    assert not edge.get("/where/").text.startswith("bandstand")


def test_exceptions_come_through(site):
    edge = site()
    assert [edge.get("/fails/").status for _ in range(3)] == [500] * 3
    assert edge.get("/name/").text.startswith("bandstand-asgi-")


def test_streams_have_a_thread_of_the_crew(site):
    assert site().get("/stream/").body == b"xbandstand-asgi-1"


def test_a_request_whose_calls_are_over_does_not_wait_for_the_loop():
    seat = crew.Seat(None)
    seat.calls = [Future(), Future()]
    for call in seat.calls:
        call.set_result(None)
    with pytest.raises(StopIteration):
        seat.rest().send(None)


def test_a_thread_keeps_nothing_of_a_request_that_is_over():
    """An answer that is a stream ends with its last reference: one kept here would leave its generator open."""

    class Answer:
        pass

    kept = []

    def make():
        answer = Answer()
        kept.append(weakref.ref(answer))
        return answer

    hired = crew.Crew(1, True)
    seat = crew.Seat(hired)
    member = hired.take()
    seat.member = member
    assert isinstance(seat.submit(make).result(20), Answer)
    hired.give_back(member, seat)
    member.submit(None, int).result(20)  # the thread is past the call's end
    gc.collect()
    assert kept[0]() is None


def test_a_request_waits_for_its_call_however_often_it_is_cancelled():
    """asgiref lets go of the call of a cancelled task, and its thread goes on with it."""

    async def rest():
        seat, call = crew.Seat(None), Future()
        seat.calls = [call]
        resting = asyncio.ensure_future(seat.rest())
        for _ in range(3):
            await asyncio.sleep(0)
            assert not resting.done()
            resting.cancel()
        call.set_result(None)
        await resting

    asyncio.run(rest())


OBSTACLES = [
    ('MIDDLEWARE += ["site_urls.sync_only"]', "the middleware site_urls.sync_only is sync only and holds a thread while its request waits"),
    ('MIDDLEWARE += ["site_urls.Steps"]', "the middleware site_urls.Steps may keep something of its request on the thread"),
]


# asgiref 3.6 and 3.7 hang when sync-only middleware waits on several threads at once (3.6 without our threads too).
asgiref = tuple(int(number) for number in importlib.metadata.version("asgiref").split(".")[:2])


@pytest.mark.skipif(asgiref < (3, 8), reason="asgiref 3.6 and 3.7 hang")
@pytest.mark.parametrize("settings, why", OBSTACLES)
def test_where_threads_cannot_be_shared_each_request_has_its_own(site, settings, why):
    edge = site(settings, threads_max=2)
    ids = [edge.request("GET", "/waits/") for _ in range(12)]
    crew, _ = edge.until_begun(12)
    assert crew >= 13, "and at least one that counts"
    edge.get("/opens/")
    assert {answer.text for answer in edge.answers(ids)} == {"done"}
    while json.loads(edge.get("/count/").text)[1] > 2:  # what is more than the limit ends when it is idle
        assert edge.process.poll() is None


@pytest.mark.parametrize(
    "settings, why", [*OBSTACLES, ('DATABASES["x"] = {"ENGINE": "tenants.backend"}', "the engine tenants.backend may keep something of a request with its connection")]
)
def test_the_survey_says_so(tmp_path, settings, why):
    findings = survey(tmp_path, settings)
    assert f"each request at Django's ASGI handler has a thread of its own, however many there are: {why}" in findings


def test_the_survey_has_nothing_to_say_of_shared_threads(tmp_path):
    assert not any("thread of its own" in finding for finding in survey(tmp_path, ""))


def survey(folder, settings):
    (folder / "site_settings.py").write_text(SETTINGS + settings)
    (folder / "site_urls.py").write_text(URLS)
    env = {"DJANGO_SETTINGS_MODULE": "site_settings", "BANDSTAND_INTERFACE": "asgi"}
    return [finding["what"] for finding in describe(folder, "", **env)["findings"]]
