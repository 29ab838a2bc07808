"""The loop itself: lifespan (rows 45 and 46 of the checklist), start and end, stalls, and what the edge may do wrong."""

import os
import re
import select
import struct
import sys

import pytest
from scripted_edge import BODY, CLOSED, DESCRIPTOR, DRAIN, GRANT, HELLO, MESSAGE, WHOLE, frame, lines_of
from scripted_loop import APPS

LIFESPAN = """
async def application(scope, receive, send):
    if scope["type"] != "lifespan":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": repr(sorted(scope)).encode()})
        return
    print(scope["asgi"], flush=True)
    LIFE_HERE
"""
GOOD = """
    print((await receive())["type"], flush=True)
    await send({"type": "lifespan.startup.complete"})
    print((await receive())["type"], flush=True)
    await send({"type": "lifespan.shutdown.complete"})
    print("left", flush=True)
"""


def life(text):
    return LIFESPAN.replace("    LIFE_HERE\n", text)


def lines(edge):
    return edge.process.stdout.read().decode().splitlines()[1:]


def test_45_startup_comes_before_the_hello_and_shutdown_after_the_last_request(loop_worker, gate):
    app = f"""
    import asyncio
    print((await receive())["type"], flush=True)
    await send({{"type": "lifespan.startup.complete"}})
    await receive()
    print("shutdown", flush=True)
    await send({{"type": "lifespan.shutdown.complete"}})
"""
    source = life(app).replace(
        "        await send({\"type\": \"http.response.start\"",
        f"        import asyncio\n        await asyncio.get_running_loop().run_in_executor(None, lambda: open({gate.path!r}).read())\n"
        "        print('answered', flush=True)\n        await send({\"type\": \"http.response.start\"",
    )
    edge = loop_worker(source)
    id = edge.request("GET", "/")
    edge.send(frame(DRAIN))
    gate.open()
    assert edge.answer(id).status == 200
    assert edge.wait() == 0
    assert lines(edge) == ["lifespan.startup", "answered", "shutdown"]


def test_45_complete(loop_worker):
    edge = loop_worker(life(GOOD))
    assert "'state'" in edge.get("/").text
    assert edge.stop() == 0
    assert lines(edge) == ["lifespan.startup", "lifespan.shutdown", "left"]
    assert edge.stderr() == ""


@pytest.mark.parametrize(
    "app", ["    raise ValueError('http only')\n", "    assert scope['type'] == 'http'\n", "    return\n", "    await receive()\n    1/0\n"]
)
def test_45_no_lifespan_is_no_error(loop_worker, app):
    edge = loop_worker(life(app))
    assert "state" not in edge.get("/").text
    assert edge.stop() == 0
    assert edge.stderr() == ""


@pytest.mark.parametrize(
    "app, message",
    [("    raise ValueError('http only')\n", "ValueError: http only"), ("    return\n", "it returned without")],
)
def test_45_no_lifespan_is_an_error_if_it_has_to_be(loop_worker, app, message):
    edge = loop_worker(life(app), hello=False, env={"BANDSTAND_LIFESPAN": "on"})
    failure = edge.failure()
    assert failure.startswith("lifespan is on, but the app does not support it: ") and message in failure
    assert edge.wait() == 1


def test_45_off(loop_worker):
    edge = loop_worker(life(GOOD), env={"BANDSTAND_LIFESPAN": "off"})
    assert "state" not in edge.get("/").text
    assert edge.stop() == 0
    assert edge.process.stdout.read() == b""


@pytest.mark.parametrize("then", ["", "    raise ValueError('after')\n"])
def test_45_startup_failed_stops_the_worker_with_its_message(loop_worker, then):
    app = "    await receive()\n    await send({'type': 'lifespan.startup.failed', 'message': 'no database'})\n" + then
    edge = loop_worker(life(app), hello=False)
    assert edge.failure() == "no database"
    assert edge.wait() == 1


def test_45_shutdown_failed_is_logged(loop_worker):
    app = GOOD.replace('"lifespan.shutdown.complete"', '"lifespan.shutdown.failed", "message": "lost"')
    edge = loop_worker(life(app))
    assert edge.stop() == 0
    assert edge.stderr() == "bandstand: the app's shutdown failed: lost\n"


def test_45_an_exception_at_shutdown_is_logged(loop_worker):
    edge = loop_worker(life(GOOD.replace('    await send({"type": "lifespan.shutdown.complete"})', "    1/0")))
    assert edge.stop() == 0
    assert "bandstand: exception in the app's lifespan" in edge.stderr() and "ZeroDivisionError" in edge.stderr()


def test_45_the_same_loop(loop_worker):
    edge = loop_worker(
        """
import asyncio
async def application(scope, receive, send):
    global loop, started
    if scope["type"] == "lifespan":
        loop, started = asyncio.get_running_loop(), asyncio.Event()
        await receive()
        await send({"type": "lifespan.startup.complete"})
        asyncio.get_running_loop().call_soon(started.set)
        await receive()
        return
    await started.wait()
    same = loop is asyncio.get_running_loop()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": repr(same).encode()})
"""
    )
    assert edge.get("/").text == "True"
    assert edge.stop() == 0
    assert edge.stderr() == ""


def test_the_loop_that_was_asked_for(loop_worker):
    source = APPS + "async def app(scope, receive, send):\n    await answer(send, type(asyncio.get_running_loop()).__module__)"
    edge = loop_worker(source)
    assert edge.get("/app").text in ("'asyncio.unix_events'", "'uvloop'")


def test_uvloop_that_is_missing_is_told(loop_worker):
    source = "import sys; sys.modules['uvloop'] = None\n" + APPS
    edge = loop_worker(source, hello=False, env={"BANDSTAND_LOOP": "uvloop"})
    assert edge.failure().startswith("loop is set to uvloop, but uvloop is not installed")
    assert edge.wait() == 1


def test_tasks_have_the_loop_to_themselves_and_end_with_it(loop_worker, gate):
    edge = loop_worker(
        APPS
        + f"""
async def app(scope, receive, send):
    await asyncio.get_running_loop().run_in_executor(None, lambda: open({gate.path!r}).read())
    await answer(send, b"late")
"""
    )
    id = edge.request("GET", "/app")
    edge.lane.shutdown(1)  # nothing more comes; what is in hand is answered
    gate.open()
    assert edge.answer(id).text == "late"
    assert edge.wait() == 0


def test_without_an_edge_whoever_waits_is_told(loop_worker):
    edge = loop_worker(
        APPS
        + """
async def app(scope, receive, send):
    await receive()
    await answer(send, b"", status=200) if scope["path"] == "/app/now" else None
    print((await receive())["type"], flush=True)
"""
    )
    edge.request("GET", "/app")
    edge.get("/app/now")
    edge.socket.close()
    edge.lane.close()
    assert edge.wait() == 0
    assert edge.process.stdout.read() == b"http.disconnect\nhttp.disconnect\n"


def test_a_recalled_request_is_dropped(loop_worker):
    edge = loop_worker(APPS + "async def app(scope, receive, send):\n    await answer(send, scope['path'])")
    _, first = edge.encode_request(path="/app/recalled", place=1, offer=False)
    kept, second = edge.encode_request(path="/app/kept", place=2)
    edge.send(first + second)
    assert edge.answer(kept).text == "'/app/kept'"
    assert edge.stray == []


def test_frames_for_what_is_over_are_dropped(loop_worker):
    edge = loop_worker(APPS + "async def app(scope, receive, send):\n    await answer(send, b'')")
    id = edge.request("GET", "/app")
    edge.answer(id)
    edge.grant(id, 5)
    edge.send(frame(BODY, b"x", WHOLE, 0, id) + frame(MESSAGE, b"x", WHOLE, 0, id) + frame(CLOSED, b"\xe8\x03", 0, 0, id))
    assert edge.get("/app").status == 200


@pytest.mark.parametrize(
    "data, reason",
    [
        (frame(HELLO, b""), "a frame"),
        (frame(0x7F, b""), "unknown frame kind 0x7f"),
        (struct.pack("<IBBHQ", 2**31, GRANT, 0, 0, 1), "over the limit"),
        (frame(DRAIN)[:7], "within a frame"),
    ],
)
def test_an_edge_that_breaks_the_protocol_ends_the_worker(loop_worker, data, reason):
    edge = loop_worker(APPS)
    edge.send(data)
    edge.lane.shutdown(1)
    assert edge.wait() == 1
    assert edge.stderr().startswith("bandstand: the channel to the edge broke: ") and reason in edge.stderr()


def test_a_descriptor_that_does_not_come_ends_the_worker(loop_worker):
    edge = loop_worker(APPS)
    edge.request("POST", "/", flags=DESCRIPTOR, body_length=3)
    assert edge.wait() == 1
    assert "a descriptor was announced" in edge.stderr()


def test_a_full_socket_never_blocks_the_loop(loop_worker):
    """Answers of 50 MB, nobody reads: the loop still answers to its own timer, and later all of it comes."""
    edge = loop_worker(
        APPS
        + """
async def large(scope, receive, send):
    await answer(send, bytes(60_000))
async def tick(scope, receive, send):
    await receive()
    for _ in range(3):
        await asyncio.sleep(0.001)
    print("ticked", flush=True)
    await answer(send, b"")
"""
    )
    ids = []
    for _ in range(100):
        ids.append(edge.request("GET", "/large"))
    ids.append(edge.request("GET", "/tick"))
    assert edge.process.stdout.readline() == b"ticked\n"
    seen = [edge.receive()[3] for _ in ids]
    assert sorted(seen) == ids


STALL = "import bandstand.asgi\nbandstand.asgi.STALL_SECONDS = 0.2\nbandstand.asgi.GLANCE_SECONDS = 0.05\n" + APPS + """
async def inner(gate):
    open(gate).read()
async def stall(scope, receive, send):
    await inner(GATE)
    await answer(send, b"")
"""


def test_a_loop_that_stands_still_is_reported_once(loop_worker, gate):
    edge = loop_worker(f"GATE = {gate.path!r}\n" + STALL)
    id = edge.request("GET", "/stall")
    while not lines_of(edge.stderr(), r"open\(gate\)"):
        os.sched_yield()
    gate.open()
    edge.answer(id)
    assert edge.stop() == 0
    (line,) = lines_of(edge.stderr(), "has not turned")
    assert re.match(
        r"bandstand: the event loop has not turned for 0.2 s: coroutine inner \(.*app.py:\d+\), .*, GET '/stall'$", line
    )
    if sys.version_info >= (3, 11):
        assert lines_of(edge.stderr(), "in stall")


def test_an_idle_worker_does_not_wake(loop_worker):
    edge = loop_worker("import bandstand.asgi\nbandstand.asgi.GLANCE_SECONDS = 0.01\n" + APPS + "async def app(scope, receive, send):\n    await answer(send, b'')")
    edge.get("/app")

    def switches():
        total = 0
        for task in os.listdir(f"/proc/{edge.process.pid}/task"):
            status = open(f"/proc/{edge.process.pid}/task/{task}/status").read()
            total += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.M).group(1))
        return total

    before = switches()
    quiet = 0
    while quiet < 20:  # twenty looks in a row at rest, each longer than the shortest interval
        select.select([], [], [], 0.02)
        now = switches()
        quiet = quiet + 1 if now == before else 0
        before = now
    assert edge.get("/app").status == 200
