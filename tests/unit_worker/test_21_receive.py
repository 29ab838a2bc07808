"""The request's body and the client's leaving: rows 28 to 30, 33 and 35 of the checklist."""

import os

import pytest
from scripted_edge import BODY, BROKEN, DESCRIPTOR, END, FREE, RESPONSE, STREAM, WANT, WHOLE, WINDOW, frame, lines_of
from scripted_loop import APPS

READ = APPS + """
async def read(scope, receive, send):
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())
    data = b"".join(message["body"] for message in messages)
    await answer(send, (len(messages), len(data), data[:10], data[-10:]))
"""


def file_of(data):
    file = os.memfd_create("body")
    os.write(file, data)
    return file


@pytest.mark.parametrize("body", [b"", b"abc", b"x" * 200_000])
def test_28_an_inline_body_is_one_message(loop_worker, body):
    edge = loop_worker(READ)
    assert edge.get("/read", method="POST", body=body).text == repr((1, len(body), body[:10], body[-10:]))


def test_28_a_body_in_a_file_comes_in_pieces(loop_worker):
    data = os.urandom(300_000)
    edge = loop_worker(READ)
    file = file_of(data)
    id = edge.request("POST", "/read", flags=DESCRIPTOR, body_length=len(data), descriptors=[file])
    os.close(file)
    count, length, first, last = eval(edge.answer(id).text)  # noqa: S307
    assert (length, first, last) == (len(data), data[:10], data[-10:]) and count >= 5


def test_28_a_body_in_a_file_that_is_too_short_is_an_error(loop_worker):
    edge = loop_worker(READ)
    file = file_of(b"abc")
    id = edge.request("POST", "/read", flags=DESCRIPTOR, body_length=5, descriptors=[file])
    os.close(file)
    assert edge.answer(id).failed
    assert "shorter than announced" in edge.stderr()


def test_28_a_streamed_body_is_asked_for(loop_worker):
    edge = loop_worker(READ)
    id = edge.request("POST", "/read", flags=STREAM, body_length=None)
    assert edge.expect(WANT, id)[4] == WINDOW.to_bytes(4, "little")
    edge.send(frame(BODY, b"abc", 0, edge.place, id))
    edge.send(frame(BODY, b"def", WHOLE, edge.place, id))
    assert eval(edge.answer(id).text)[1:3] == (6, b"abcdef")  # noqa: S307


def test_28_a_streamed_body_that_breaks_off_is_a_disconnect(loop_worker):
    edge = loop_worker(
        APPS
        + """
async def app(scope, receive, send):
    await answer(send, [(await receive())["type"] for _ in range(3)])
"""
    )
    id = edge.request("POST", "/app", flags=STREAM, body_length=None)
    edge.expect(WANT, id)
    edge.send(frame(BODY, b"", BROKEN, edge.place, id))
    assert edge.answer(id).text == repr(["http.disconnect"] * 3)


WAIT = APPS + """
async def wait(scope, receive, send):
    await receive()
    await start(send)
    await body(send, b"waits", True)
    print([(await receive())["type"] for _ in range(3)], flush=True)

async def after(scope, receive, send):
    await answer(send, b"done")
    print([(await receive())["type"] for _ in range(3)], flush=True)

async def both(scope, receive, send):
    await receive()
    waiting = asyncio.create_task(receive())
    await asyncio.sleep(0)
    await answer(send, b"done")
    print((await waiting)["type"], flush=True)
"""


def test_28_receive_waits_until_the_client_leaves(loop_worker):
    edge = loop_worker(WAIT)
    id = edge.request("GET", "/wait")
    edge.expect(RESPONSE, id)
    edge.cancel(id)
    assert edge.process.stdout.readline() == b"['http.disconnect', 'http.disconnect', 'http.disconnect']\n"
    assert edge.expect(END, id)[1] == BROKEN
    assert edge.stderr() == ""


@pytest.mark.parametrize("app, printed", [("after", b"['http.disconnect', 'http.disconnect', 'http.disconnect']\n"), ("both", b"http.disconnect\n")])
def test_28_receive_after_the_answer_is_a_disconnect(loop_worker, app, printed):
    edge = loop_worker(WAIT)
    assert edge.get("/" + app).text == "done"
    assert edge.process.stdout.readline() == printed


def test_29_a_cancelled_receive_is_cancelled(loop_worker):
    edge = loop_worker(
        APPS
        + """
async def app(scope, receive, send):
    await receive()
    for _ in range(10):
        try:
            await asyncio.wait_for(receive(), 0.001)
        except asyncio.TimeoutError:
            pass
    waiting = asyncio.create_task(receive())
    await asyncio.sleep(0)
    waiting.cancel()
    try:
        await waiting
    except asyncio.CancelledError:
        await answer(send, b"cancelled")
"""
    )
    assert edge.get("/app").text == "cancelled"


OVER = APPS + '''
async def waits(scope, receive, send):
    print("begun", flush=True)
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        print("cancelled", (await receive())["type"], (await receive())["type"], flush=True)

async def streams(scope, receive, send):
    await start(send)
    await body(send, b"first", more=True)
    await waits(scope, receive, send)

async def told(scope, receive, send):
    await receive()
    print("begun", flush=True)
    global going
    going = asyncio.get_running_loop().create_future()
    await going
    print((await receive())["type"] + ", and goes on", flush=True)

async def answered(scope, receive, send):
    await answer(send, b"done")
    await told(scope, receive, send)

async def next(scope, receive, send):
    await answer(send, b"")
    going.set_result(None)
'''


@pytest.mark.parametrize("app", ["waits", "streams"])
def test_a_request_whose_time_is_over_is_cancelled(loop_worker, app):
    edge = loop_worker(OVER)
    id = edge.request("GET", f"/{app}")
    assert edge.process.stdout.readline() == b"begun\n"
    edge.cancel(id, BROKEN)
    assert edge.process.stdout.readline() == b"cancelled http.disconnect http.disconnect\n"
    assert edge.stop() == 0
    assert edge.stderr() == "" and edge.word() == (0, FREE)


@pytest.mark.parametrize("app, flags", [("told", 0), ("answered", BROKEN)])
def test_who_is_told_of_a_client_that_left_or_has_answered_is_not_cancelled(loop_worker, app, flags):
    edge = loop_worker(OVER)
    id = edge.request("GET", f"/{app}")
    assert edge.process.stdout.readline() == b"begun\n"
    edge.cancel(id, flags)
    edge.get("/next")
    assert edge.process.stdout.readline() == b"http.disconnect, and goes on\n"


def test_29_results_that_are_there_are_coroutines_too(loop_worker):
    edge = loop_worker(
        APPS
        + """
from collections.abc import Coroutine
async def app(scope, receive, send):
    first, second = receive(), send({"type": "http.response.start", "status": 200})
    assert isinstance(first, Coroutine) and isinstance(second, Coroutine)
    seen = [(await asyncio.create_task(first))["body"], await asyncio.gather(second)]
    try:
        await first
    except RuntimeError as error:
        seen.append(str(error))
    first.close()
    for thrown in (ValueError, ValueError("x")):
        try:
            second.throw(thrown)
        except ValueError:
            seen.append("thrown")
    await body(send, repr(seen).encode())
"""
    )
    expected = [b"", [None], "cannot reuse already awaited coroutine", "thrown", "thrown"]
    assert edge.get("/app").text == repr(expected)


STREAMING = APPS + """
import os
sent = 0
async def stream(scope, receive, send):
    global sent
    await start(send)
    try:
        while sent < 3_000_000:
            await body(send, b"x" * 10_000, True)
            sent += 10_000
    except OSError as error:
        print(type(error).__mro__[-4].__name__, sent < 3_000_000, flush=True)
        raise
    await body(send)
    print("whole", flush=True)
async def count(scope, receive, send):
    await answer(send, sent)
async def large(scope, receive, send):
    await start(send)
    await body(send, bytes(1_000_000))
async def cut(scope, receive, send):
    await start(send)
    try:
        await asyncio.wait_for(body(send, bytes(1_000_000), True), 0.01)
    except asyncio.TimeoutError:
        pass
    await body(send, b"end")
"""


def test_30_send_waits_for_credit(loop_worker):
    edge = loop_worker(STREAMING)
    id = edge.request("GET", "/stream")
    got = len(edge.expect(RESPONSE, id)[4]) - 26
    while got < WINDOW:
        got += len(edge.receive()[4])
    assert got == WINDOW and edge.is_silent()
    other = edge.request("GET", "/count")
    while edge.receive()[3] != other:
        pass
    edge.grant(id, 3_000_000)
    total = got
    while (frame := edge.receive())[0] != END:
        total += len(frame[4])
    assert (total, frame[1]) == (3_000_000, 0)
    assert edge.process.stdout.readline() == b"whole\n"


@pytest.mark.parametrize("app, length", [("large", 1_000_000), ("cut", 1_000_003)])
def test_30_a_large_message_waits_too(loop_worker, app, length):
    edge = loop_worker(STREAMING)
    answer = edge.get("/" + app)
    assert (len(answer.body), answer.broken) == (length, False)
    assert answer.body.endswith(b"end") == (app == "cut")


def test_33_send_after_the_client_has_left_raises_and_is_not_logged(loop_worker):
    edge = loop_worker(STREAMING)
    id = edge.request("GET", "/stream")
    got = len(edge.expect(RESPONSE, id)[4]) - 26
    while got < WINDOW:
        got += len(edge.receive()[4])
    edge.cancel(id)
    assert edge.expect(END, id)[1] == BROKEN
    assert edge.process.stdout.readline() == b"OSError True\n"
    assert edge.get("/count").status == 200
    assert edge.stderr() == ""


def test_33_the_app_s_own_errors_are_logged_still(loop_worker):
    edge = loop_worker(
        APPS
        + """
async def app(scope, receive, send):
    await receive()
    await receive()
    try:
        await start(send)
    except OSError:
        pass
    raise ValueError("oops")
async def fine(scope, receive, send):
    await answer(send, b"")
"""
    )
    id = edge.request("GET", "/app")
    edge.get("/fine")
    edge.cancel(id)
    assert edge.expect(RESPONSE, id)[1] == WHOLE
    assert lines_of(edge.stderr(), "ValueError: oops")


def test_35_buffers_are_copied(loop_worker):
    edge = loop_worker(
        APPS
        + """
async def app(scope, receive, send):
    await start(send)
    buffer = bytearray(b"first")
    await body(send, buffer, True)
    buffer[:] = b"xxxxx"
    buffer = bytearray(400_000)
    task = asyncio.create_task(body(send, memoryview(buffer), True))
    await asyncio.sleep(0)
    buffer[:] = b"x" * 400_000
    await task
    await body(send, memoryview(b"abcdef")[::2])
"""
    )
    assert edge.get("/app").body == b"first" + bytes(400_000) + b"ace"
