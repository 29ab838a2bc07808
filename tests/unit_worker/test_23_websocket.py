"""WebSockets in an ASGI app: rows 39, 40, 42 and 44 of the checklist, credit both ways, ASGI WebSocket 2.5."""

import struct

import pytest
from scripted_edge import CLOSE, FREE, PIECE_MAX, RESPONSE, SEND, TEXT, WANT, WHOLE, WINDOW, decode_response, lines_of, message_cost
from scripted_loop import APPS

ECHO = APPS + """
async def echo(scope, receive, send):
    seen = [await receive()]
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            print(seen + [message, await receive()], flush=True)
            return
        await send({"type": "websocket.send", **{k: v for k, v in message.items() if k != "type"}})
"""


@pytest.mark.parametrize("data", ["hello", "", "é" * 100, b"\x00\xff", b"", "x" * 200_000, b"y" * 200_000])
def test_39_messages_both_ways(loop_worker, data):
    edge = loop_worker(ECHO)
    id = edge.connect("/echo")
    raw = data.encode() if isinstance(data, str) else data
    pieces = [raw[i : i + PIECE_MAX] for i in range(0, len(raw), PIECE_MAX)] or [b""]
    for number, piece in enumerate(pieces):
        text = isinstance(data, str)
        edge.message(id, piece.decode() if text else piece, whole=number == len(pieces) - 1)
    got = b""
    while True:
        kind, flags, _, _, payload, _ = edge.receive()
        if kind == WANT:
            continue
        assert kind == SEND and len(payload) <= PIECE_MAX and bool(flags & TEXT) == isinstance(data, str)
        got += payload
        if flags & WHOLE:
            break
    assert got == raw


@pytest.mark.parametrize("code, reason", [(1000, ""), (1001, "going"), (1005, ""), (1006, ""), (1012, "restart"), (4001, "é")])
def test_42_disconnect_has_code_and_reason(loop_worker, code, reason):
    edge = loop_worker(ECHO)
    id = edge.connect("/echo")
    edge.closed(id, code, reason)
    message = {"type": "websocket.disconnect", "code": code, "reason": reason}
    assert edge.process.stdout.readline().decode() == f"{[{'type': 'websocket.connect'}, message, message]}\n"
    assert edge.stop() == 0
    assert edge.word() == (0, FREE) and edge.stderr() == ""


def test_42_a_lost_client_is_1006(loop_worker):
    edge = loop_worker(ECHO)
    id = edge.connect("/echo")
    edge.cancel(id)
    assert b"'code': 1006" in edge.process.stdout.readline()
    edge.close_of(id)


LEAVES = ECHO + '''
async def closes(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    assert (await receive())["type"] == "websocket.disconnect"
    await send({"type": "websocket.close"})

async def raises(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    await receive()
    await send({"type": "websocket.send", "text": "too late"})

async def unsent(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    await asyncio.wait({asyncio.ensure_future(send({"type": "websocket.send", "bytes": bytes(1 << 20)}))}, timeout=0)
    await send({"type": "websocket.close"})
'''


@pytest.mark.parametrize("app", ["echo", "closes", "raises", "unsent"])
def test_42_the_edge_is_told_once_that_the_app_has_done_with_a_closed_socket(loop_worker, app):
    """Else its place is never free, and a worker that leaves is waited for."""
    edge = loop_worker(LEAVES)
    id = edge.connect(f"/{app}")
    edge.closed(id, 1012)
    while (got := edge.receive())[0] == SEND:
        pass
    assert got[0] == CLOSE
    again = edge.connect("/echo")
    edge.message(again, "nothing came between")
    assert edge.sent(again) == "nothing came between"


def test_44_the_end_of_the_lane_is_a_restart(loop_worker):
    edge = loop_worker(ECHO)
    edge.connect("/echo")
    assert edge.stop() == 0
    assert b"'code': 1012" in edge.process.stdout.readline()


def test_42_queued_messages_come_before_the_disconnect(loop_worker, gate):
    edge = loop_worker(
        APPS
        + f"""
async def app(scope, receive, send):
    await receive()
    await send({{"type": "websocket.accept"}})
    await asyncio.get_running_loop().run_in_executor(None, lambda: open({gate.path!r}).read())
    print([(await receive()).get("text") for _ in range(3)], flush=True)
"""
    )
    id = edge.connect("/app")
    for text in "ab":
        edge.message(id, text)
    edge.closed(id)
    gate.open()
    assert edge.process.stdout.readline() == b"['a', 'b', None]\n"


HANDSHAKES = APPS + """
async def accept(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept", "subprotocol": "chat", "headers": [(b"X-A", b"1"), [b"upgrade", b"x"]]})
    await send({"type": "websocket.close"})
async def close(scope, receive, send):
    await send({"type": "websocket.close", "code": 4000})
    print((await receive())["type"], (await receive())["type"], flush=True)
async def denial(scope, receive, send):
    await receive()
    await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"www-authenticate", b"x")]})
    await send({"type": "websocket.http.response.body", "body": b"no ", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b"entry"})
async def raises(scope, receive, send):
    raise ValueError("oops")
async def returns(scope, receive, send):
    await receive()
async def denial_raises(scope, receive, send):
    await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
    raise ValueError("oops")
"""


def test_40_accept_with_a_subprotocol_and_headers(loop_worker):
    edge = loop_worker(HANDSHAKES)
    id = edge.handshake("/accept")
    head = edge.accepted(id)
    assert (head.status, head.fields) == (101, [(b"X-A", b"1"), (b"sec-websocket-protocol", b"chat")])
    assert edge.close_of(id) == (1000, "")


def test_39_close_before_accept_is_a_403(loop_worker):
    edge = loop_worker(HANDSHAKES)
    answer = edge.answer(edge.handshake("/close"))
    assert (answer.status, answer.body, answer.whole) == (403, b"", True)
    assert edge.process.stdout.readline() == b"websocket.connect websocket.disconnect\n"


def test_39_a_denial_is_any_answer(loop_worker):
    edge = loop_worker(HANDSHAKES)
    answer = edge.answer(edge.handshake("/denial"))
    assert (answer.status, answer.body, answer.fields) == (401, b"no entry", [(b"www-authenticate", b"x")])


@pytest.mark.parametrize("app", ["raises", "returns", "denial_raises"])
def test_39_failing_before_accept_is_a_500(loop_worker, app):
    edge = loop_worker(HANDSHAKES)
    assert edge.answer(edge.handshake("/" + app)).failed
    assert lines_of(edge.stderr(), "returned without an answer to the handshake|ValueError: oops")


ENDS = APPS + """
async def ends(scope, receive, send):
    await send({"type": "websocket.accept"})
    if scope["query_string"] == b"raise":
        raise ValueError("oops")
    if scope["query_string"] == b"close":
        await send({"type": "websocket.close", "code": 4999, "reason": "é" * 100})
        print([(await receive())["type"], await receive(), await receive()], flush=True)
"""


@pytest.mark.parametrize(
    "query, code, reason", [(b"", 1000, ""), (b"raise", 1011, ""), (b"close", 4999, "é" * 61)]
)
def test_39_the_app_ends_it(loop_worker, query, code, reason):
    edge = loop_worker(ENDS)
    id = edge.connect("/ends", query=query)
    assert edge.close_of(id) == (code, reason)
    if query == b"close":
        disconnect = {"type": "websocket.disconnect", "code": code, "reason": reason}
        assert edge.process.stdout.readline().decode() == f"{['websocket.connect', disconnect, disconnect]}\n"
    edge.stop()
    assert bool(lines_of(edge.stderr(), "ValueError: oops")) == (query == b"raise")
    assert edge.word() == (0, FREE)


WRONG = APPS + """
ACCEPT = {"type": "websocket.accept"}
CLOSE = {"type": "websocket.close"}
SEND = {"type": "websocket.send", "text": "x"}
async def wrong(scope, receive, send):
    table = TABLE_HERE
    for message in table[:-1]:
        await send(message)
    try:
        await send(table[-1])
    except Exception as error:
        print(f"{type(error).__name__}: {error}", flush=True)
"""


@pytest.mark.parametrize(
    "messages, error",
    [
        ("[SEND]", "RuntimeError: this message may not come now: the WebSocket has not been accepted"),
        ("[ACCEPT, ACCEPT]", "RuntimeError: this message may not come now: the WebSocket has been accepted"),
        ("[ACCEPT, CLOSE, SEND]", "RuntimeError: nothing can be sent any more: the app has closed the WebSocket"),
        ("[CLOSE, CLOSE]", "RuntimeError: nothing can be sent any more"),
        ("[CLOSE, ACCEPT]", "RuntimeError: nothing can be sent any more"),
        ("[ACCEPT, {'type': 'websocket.http.response.start', 'status': 200}]", "RuntimeError: this message may not"),
        ("[{**ACCEPT, 'headers': [(b'Sec-WebSocket-Protocol', b'x')]}]", "ValueError: websocket.accept names"),
        ("[{**ACCEPT, 'headers': [(b'a', b'\\n')]}]", "ValueError: the value of header"),
        ("[{**ACCEPT, 'subprotocol': 'a\\r\\nb'}]", "ValueError: the value of header"),
        ("[ACCEPT, {'type': 'websocket.send'}]", "ValueError: websocket.send must have either text or bytes"),
        ("[ACCEPT, {**SEND, 'bytes': b'x'}]", "ValueError: websocket.send must have either text or bytes"),
        ("[ACCEPT, {**SEND, 'text': b'x'}]", "TypeError: text must be a str, not b'x'"),
        ("[ACCEPT, {**SEND, 'text': '\\ud800'}]", "UnicodeEncodeError"),
        ("[ACCEPT, {**CLOSE, 'code': 1015}]", "ValueError: 1015 is no code to close with"),
        ("[ACCEPT, {**CLOSE, 'code': 99}]", "ValueError: 99 is no code to close with"),
        ("[{'type': 'http.response.start', 'status': 200}]", "ValueError: \"http.response.start\" is not a message"),
    ],
)
def test_34_wrong_messages_raise_in_send(loop_worker, messages, error):
    edge = loop_worker(WRONG.replace("TABLE_HERE", messages))
    edge.handshake("/wrong")
    assert edge.process.stdout.readline().decode().startswith(error)


FLOOD = APPS + """
import os
async def flood(scope, receive, send):
    await send({"type": "websocket.accept"})
    try:
        for _ in range(1000):
            await send({"type": "websocket.send", "bytes": bytes(1000)})
        await send({"type": "websocket.send", "bytes": bytes(1_000_000)})
    except OSError as error:
        print("OSError", flush=True)
        await send({"type": "websocket.close"})
        raise
async def slow(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        await asyncio.get_running_loop().run_in_executor(None, lambda: open(GATE).read())
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        print(len(message["bytes"]), flush=True)
"""


def test_42_send_waits_for_credit(loop_worker):
    edge = loop_worker(FLOOD)
    id = edge.connect("/flood")
    within = WINDOW // message_cost(1000)
    got = sum(len(edge.expect(SEND, id)[4]) for _ in range(within))
    assert got == within * 1000 and edge.is_silent()
    edge.grant(id, 2_200_000)
    messages = within
    while True:
        kind, flags, _, _, payload, _ = edge.receive()
        if kind == CLOSE:
            break
        assert len(payload) in (1000, PIECE_MAX, 1_000_000 % PIECE_MAX), "pieces are as large as they may be"
        got += len(payload)
        messages += bool(flags & WHOLE)
    assert got == 2_000_000 and struct.unpack("<H", payload) == (1000,)


def test_33_send_after_the_client_has_left_raises(loop_worker):
    edge = loop_worker(FLOOD)
    id = edge.connect("/flood")
    for _ in range(WINDOW // message_cost(1000)):
        edge.expect(SEND, id)
    edge.closed(id, 1001)
    assert edge.process.stdout.readline() == b"OSError\n"
    assert edge.stop() == 0
    assert edge.stderr() == "" and edge.word() == (0, FREE)


def wanted(edge, id):
    return struct.unpack("<I", edge.expect(WANT, id)[4])[0]


def test_42_credit_comes_back_when_the_app_takes_a_message(loop_worker, gate):
    edge = loop_worker(f"GATE = {gate.path!r}\n" + FLOOD)
    id = edge.connect("/slow")
    for _ in range(2):
        edge.message(id, bytes(100_000))
    gate.open()
    assert edge.process.stdout.readline() == b"100000\n"
    assert wanted(edge, id) == message_cost(100_000)
    assert edge.is_silent()
    gate.open()
    assert edge.process.stdout.readline() == b"100000\n"
    assert wanted(edge, id) == message_cost(100_000)
    edge.closed(id)
    gate.open()


def test_42_pieces_of_a_message_are_given_back_at_once_unless_others_wait(loop_worker, gate):
    edge = loop_worker(f"GATE = {gate.path!r}\n" + FLOOD)
    id = edge.connect("/slow")
    edge.message(id, bytes(PIECE_MAX), whole=False)
    assert wanted(edge, id) == message_cost(PIECE_MAX)
    edge.message(id, bytes(10), whole=True)  # waits for the app
    edge.message(id, bytes(PIECE_MAX), whole=False)  # so this is held
    other = edge.handshake("/nowhere")
    edge.expect(RESPONSE, other)  # an app that does not exist fails; the channel was silent until then
    gate.open()
    assert edge.process.stdout.readline() == b"131082\n"
    assert wanted(edge, id) == message_cost(PIECE_MAX) + message_cost(10)
    edge.closed(id)
    gate.open()


def test_many_are_open_at_once(loop_worker):
    edge = loop_worker(ECHO)
    ids = [edge.connect("/echo") for _ in range(300)]
    for id in ids:
        edge.message(id, str(id))
    assert [edge.sent(id) for id in ids] == [str(id) for id in ids]
    for id in ids:
        edge.closed(id)
    assert edge.stop() == 0
