"""WebSockets through the wire: handshake, messages, limits, back-pressure, close codes (part 1 of the checklist, 39–44; part 2, 61).

Ordinary clients are the library `websockets`; what it would refuse to send is written by hand.
"""

import base64
import hashlib
import json
import os
import signal
import struct
from contextlib import ExitStack

import pytest

from client import DEADLINE, eventually, request
from server import Server
from test_90_asgi import remarked, settled

websockets = pytest.importorskip("websockets")
from websockets.exceptions import ConnectionClosed, InvalidStatus  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

KEY = base64.b64encode(b"sixteen bytes!!!").decode()
ACCEPT = base64.b64encode(hashlib.sha1(KEY.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


@pytest.fixture(scope="module")
def server(module_stand):
    return module_stand.serve("asgi_socket:app", workers=1)


def open_socket(server, path: str, **options):
    settings = {"open_timeout": DEADLINE, "close_timeout": DEADLINE, "proxy": None, "max_size": None}
    return connect(f"ws://127.0.0.1:{server.port}{path}", **settings | options)


def refused(server, path: str, **options):
    """The answer to a handshake that is not accepted."""
    with pytest.raises(InvalidStatus) as refusal:
        open_socket(server, path, **options).close()
    return refusal.value.response


def closed(socket) -> ConnectionClosed:
    """How the socket ended, after whatever came before."""
    with pytest.raises(ConnectionClosed) as ending:
        while True:
            socket.recv(timeout=DEADLINE)
    return ending.value


# -- frames by hand


def handshake(path="/echo", fields=(), **changes) -> bytes:
    pairs = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": KEY} | changes
    return request("GET", path, [*((name, value) for name, value in pairs.items() if value is not None), *fields])


def frame(opcode: int, payload: bytes = b"", fin=True, masked=True, reserved=0, length: int | None = None) -> bytes:
    size = len(payload) if length is None else length
    head = bytes([fin << 7 | reserved << 4 | opcode])
    head += bytes([masked << 7 | size]) if size < 126 else bytes([masked << 7 | 126]) + struct.pack("!H", size) if size < 65536 else bytes([masked << 7 | 127]) + struct.pack("!Q", size)
    mask = b"\1\2\3\4" if masked else b""
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)) if masked else head + payload


class Frames:
    """A connection after its handshake; reads frames as they are."""

    def __init__(self, server, path="/echo", fields=()):
        self.wire = server.wire()
        self.answer = self.wire.send(handshake(path, fields)).answer()
        assert self.answer.status == 101, self.answer
        self.unread = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.wire.__exit__()

    def send(self, *frames: bytes):
        self.wire.try_send(b"".join(frames))
        return self

    def take(self, count: int) -> bytes:
        while len(self.unread) < count:
            part = self.wire.some()
            if not part:
                raise EOFError(self.unread)
            self.unread += part
        taken, self.unread = self.unread[:count], self.unread[count:]
        return taken

    def frame(self) -> tuple[int, bytes]:
        first, second = self.take(2)
        assert not second & 0x80, "a server does not mask"
        size = second & 127
        size = struct.unpack("!H", self.take(2))[0] if size == 126 else struct.unpack("!Q", self.take(8))[0] if size == 127 else size
        return first & 15, self.take(size)

    def message(self) -> bytes:
        """The next one that is no ping."""
        while (got := self.frame())[0] == PING:
            pass
        return got[1]

    def close_code(self) -> int | None:
        """The code of the close frame that comes; None for a connection that just ends."""
        try:
            while True:
                opcode, payload = self.frame()
                if opcode == CLOSE:
                    return struct.unpack("!H", payload[:2])[0] if payload else 1005
        except (EOFError, ConnectionResetError):
            return None


# -- handshake (39–41)


def test_text_and_bytes_come_back(server):
    with open_socket(server, "/echo") as socket:
        for message in ("hello", "", "caf\u00e9 \U0001f3ba", b"", b"\0\xff" * 1000, "x" * 100_000, os.urandom(1_000_000)):
            socket.send(message)
            assert socket.recv(timeout=DEADLINE) == message


def test_the_handshake_is_answered_as_it_should(server):
    """41"""
    with server.wire() as wire:
        answer = wire.send(handshake()).answer()
    assert (answer.status, answer.get("Sec-WebSocket-Accept")) == (101, ACCEPT)
    assert answer.get("Upgrade").lower() == "websocket" and answer.get("Connection").lower() == "upgrade"
    assert answer.get("Content-Length") is None and answer.get("Transfer-Encoding") is None and answer.get("Sec-WebSocket-Protocol") is None


@pytest.mark.parametrize(
    "changes, status",
    [
        ({"Sec-WebSocket-Version": "12"}, {426, 400}),
        ({"Sec-WebSocket-Version": None}, {426, 400}),
        ({"Sec-WebSocket-Key": None}, {400}),
        ({"Sec-WebSocket-Key": "short"}, {400}),
        ({"Sec-WebSocket-Key": "not base64 at all !!"}, {400}),
        ({"Sec-WebSocket-Key": base64.b64encode(b"seventeen bytes!!").decode()}, {400}),
    ],
)
@pytest.mark.ours
def test_bad_handshakes(server, changes, status):
    """41: no version 13 → 426 with the one that is known, a bad key → 400."""
    answer = server.raw(handshake(Connection="Upgrade", **changes))
    code = int(answer.split()[1])
    assert code in status
    if "Sec-WebSocket-Version" in changes:
        assert code == 426 and b"sec-websocket-version: 13" in answer.lower()


@pytest.mark.ours
@pytest.mark.parametrize("method", ["POST", "HEAD"])
def test_only_get_upgrades(server, method):
    with server.wire() as wire:
        answer = wire.send(handshake().replace(b"GET", method.encode(), 1)).answer(method)
    assert answer.status != 101


def test_upgrades_to_something_else_are_ordinary_requests(server):
    assert server.get("/", {"Connection": "Upgrade", "Upgrade": "h2c"}).status == 200


def test_the_scope_of_a_websocket(server):
    """24–26, 39, 44"""
    with open_socket(server, "/scope/caf%C3%A9?q=%C3%A9", subprotocols=["a", "b"], additional_headers={"X-Own": "1", "Cookie": "c=1"}) as socket:
        told = json.loads(socket.recv(timeout=DEADLINE))
    scope, types = told["scope"], told["types"]
    assert (scope["type"], scope["scheme"], scope["http_version"]) == ("websocket", "ws", "1.1")
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/scope/caf\u00e9", "/scope/caf%C3%A9", "q=%C3%A9")
    assert scope["subprotocols"] == ["a", "b"] and scope["asgi"]["version"] == "3.0"
    assert type(scope["client"][1]) is int and ["x-own", "1"] in scope["headers"] and ["cookie", "c=1"] in scope["headers"]
    assert "method" not in scope and types["query_string"] == "bytes" and "state" in scope


def test_subprotocols_are_split_and_joined(server):
    """40: by commas and over several fields."""
    with Frames(server, "/subprotocol", [("Sec-WebSocket-Protocol", "one,two"), ("Sec-WebSocket-Protocol", "three")]) as socket:
        assert socket.answer.get("Sec-WebSocket-Protocol") == "three"
        assert json.loads(socket.message()) == ["one", "two", "three"]
    with open_socket(server, "/subprotocol") as socket:
        assert socket.subprotocol is None


def test_headers_of_the_accept(server):
    """40"""
    with Frames(server, "/headers") as socket:
        assert socket.answer.get("X-One") == "caf\xe9" and socket.answer.all("Set-Cookie") == ["a=1", "b=2"]


@pytest.mark.ours
def test_a_subprotocol_header_is_refused(server, module_stand):
    """40"""
    assert refused(server, "/protocol-header").status_code == 500
    assert any(line.startswith("# raised") for line in module_stand.seen())


def test_close_before_accept_is_403(server):
    """39"""
    assert refused(server, "/refuse").status_code == 403


@pytest.mark.parametrize("path", ["/raises-before", "/returns-before"])
def test_a_fault_before_accept_is_500(server, path):
    """39"""
    assert refused(server, path).status_code == 500


def test_a_denial_is_the_apps_own_answer(server):
    """39"""
    answer = refused(server, "/deny")
    assert (answer.status_code, answer.headers["WWW-Authenticate"], answer.body) == (401, "Basic", b"who are you?")


@pytest.mark.ours
@pytest.mark.parametrize("path, status", [("/refuse", 403), ("/deny", 401), ("/raises-before", 500)])
def test_after_a_refusal_the_connection_goes_on(server, path, status):
    with server.wire() as wire:
        answer = wire.send(handshake(path)).answer()
        assert answer.status == status and not answer.closes
        assert wire.send(request("GET", "/")).answer().status == 200


@pytest.mark.ours
def test_a_handshake_that_the_app_never_answers(stand):
    server = stand.serve("asgi_socket:app", workers=1, websocket_timeout="1s")
    assert refused(server, "/never/h1").status_code in (503, 504)
    assert server.get("/").status == 200


def test_a_late_accept(server, module_stand):
    gate = module_stand.gate("late1")
    with server.wire() as wire:
        wire.send(handshake("/late/late1"))
        gate.open()
        assert wire.answer().status == 101


def test_a_client_that_leaves_before_the_accept(server, module_stand):
    gate = module_stand.gate("late2")
    with server.wire() as wire:
        wire.send(handshake("/late/late2"))
        gate.reached()
    gate.open()
    with open_socket(server, "/echo") as socket:
        socket.send("others go on")
        assert socket.recv(timeout=DEADLINE) == "others go on"


@pytest.mark.ours
def test_frames_that_come_with_the_handshake_are_not_lost(server):
    with server.wire() as wire:
        wire.send(handshake() + frame(TEXT, b"eager"))
        assert wire.answer().status == 101
        assert wire.until(b"eager")


@pytest.mark.ours
@pytest.mark.parametrize(
    "origins, origin, status",
    [
        (["same"], "http://localhost", 101),
        (["same"], "https://evil.example", 403),
        (["same"], "null", 403),
        (["same"], None, 403),
        (["https://good.example"], "https://good.example", 101),
        (["https://good.example"], "https://good.example.evil.example", 403),
        (["https://good.example", "same"], "http://localhost", 101),
        (None, "https://evil.example", 101),
    ],
)
def test_origins(stand, origins, origin, status):
    """61: a page of another site."""
    server = stand.serve("asgi_socket:app", workers=1, websocket_origins=origins)
    with server.wire() as wire:
        answer = wire.send(handshake(fields=[("Origin", origin)] if origin else [])).answer()
    assert answer.status == status
    assert ("WEBSOCKET /echo" in " ".join(stand.seen())) == (status == 101)


# -- messages (41)


def test_what_the_app_gets(server):
    with open_socket(server, "/messages") as socket:
        for message, kind in (("text", "str"), (b"bytes", "bytes"), ("", "str"), (b"", "bytes")):
            socket.send(message)
            told = json.loads(socket.recv(timeout=DEADLINE))
            assert (told["type"], told["length"]) == (kind, len(message)), told


def test_fragments_are_joined_and_pings_between_them_answered(server):
    """41"""
    with Frames(server, "/messages") as socket:
        socket.send(frame(TEXT, b"caf\xc3", fin=False), frame(PING, b"now"), frame(0, b"\xa9 and", fin=False), frame(0, b" more"))
        got = [socket.frame(), socket.frame()]
        assert (PONG, b"now") in got
        assert json.loads(next(payload for opcode, payload in got if opcode == TEXT))["length"] == len("café and more")


@pytest.mark.parametrize(
    "frames, code",
    [
        ([frame(TEXT, b"\xff")], 1007),
        ([frame(TEXT, b"\xed\xa0\x80")], 1007),
        ([frame(TEXT, b"caf\xc3")], 1007),
        ([frame(TEXT, b"x", masked=False)], 1002),
        ([frame(TEXT, b"x", reserved=4)], 1002),
        ([frame(3, b"x")], 1002),
        ([frame(11, b"x")], 1002),
        ([frame(0, b"x")], 1002),
        ([frame(TEXT, b"x", fin=False), frame(TEXT, b"y")], 1002),
        ([frame(PING, b"x", fin=False)], 1002),
        ([frame(PING, b"x" * 126)], 1002),
        ([frame(CLOSE, b"x")], 1002),
        ([frame(CLOSE, struct.pack("!H", 1005))], 1002),
        ([frame(CLOSE, struct.pack("!H", 999))], 1002),
        ([frame(CLOSE, struct.pack("!H", 1000) + b"\xff")], 1007),
    ],
)
def test_frames_that_break_the_rules(server, frames, code):
    """41, 61"""
    with Frames(server) as socket:
        socket.send(*frames)
        assert socket.close_code() == code or (type(server) is not Server and code == 1002)
    with open_socket(server, "/echo") as other:
        other.send("alive")
        assert other.recv(timeout=DEADLINE) == "alive"


@pytest.mark.ours
@pytest.mark.parametrize("declared", [1 << 20, 1 << 30, 1 << 62])
def test_a_message_that_is_too_large_is_refused_by_its_length(stand, declared):
    """41, 61: 1009, before any of it has come."""
    server = stand.serve("asgi_socket:app", workers=1, websocket_max_size="64KB")
    with Frames(server) as socket:
        assert socket.send(frame(BINARY, b"", length=declared)).close_code() == 1009


@pytest.mark.ours
def test_a_flood_of_fragments_is_refused(stand):
    """61"""
    server = stand.serve("asgi_socket:app", workers=1, websocket_max_size="64KB")
    with Frames(server) as socket:
        socket.send(frame(BINARY, b"x" * 1000, fin=False), *[frame(0, b"x" * 1000, fin=False)] * 70)
        assert socket.close_code() == 1009


@pytest.mark.ours
def test_a_deflate_bomb_is_refused(stand):
    """61: the limit is for what comes out."""
    import zlib

    server = stand.serve("asgi_socket:app", workers=1, websocket_max_size="1MB")
    deflate = zlib.compressobj(9, wbits=-15)
    bomb = (deflate.compress(bytes(100_000_000)) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
    assert len(bomb) < 200_000
    with Frames(server, fields=[("Sec-WebSocket-Extensions", "permessage-deflate")]) as socket:
        assert "permessage-deflate" in socket.answer.get("Sec-WebSocket-Extensions")
        assert socket.send(frame(BINARY, bomb, reserved=4)).close_code() == 1009


@pytest.mark.parametrize("compression", ["deflate", None])
def test_compression_is_negotiated(server, compression):
    """43"""
    with open_socket(server, "/echo", compression=compression) as socket:
        offered = "permessage-deflate" in socket.response.headers.get("Sec-WebSocket-Extensions", "")
        assert offered == (compression == "deflate")
        for message in ("again and again " * 5000, os.urandom(50_000), "", "again"):
            socket.send(message)
            assert socket.recv(timeout=DEADLINE) == message


@pytest.mark.ours
def test_compression_can_be_turned_off(stand):
    server = stand.serve("asgi_socket:app", workers=1, websocket_compress="false")
    with open_socket(server, "/echo") as socket:
        assert "Sec-WebSocket-Extensions" not in socket.response.headers


@pytest.mark.parametrize("kind", ["send-first", "empty", "text-as-bytes", "unknown", "http", "accept-twice", "both-none", "bytes-as-text", "surrogate"])
@pytest.mark.ours
def test_wrong_messages_raise_in_send(server, kind):
    """34 for WebSockets"""
    with open_socket(server, f"/wrong/{kind}") as socket:
        assert socket.recv(timeout=DEADLINE).startswith("raised")


@pytest.mark.ours
@pytest.mark.parametrize("kind, reason", [("close-code", ""), ("long-reason", "x" * 123)])
def test_a_close_that_the_protocol_does_not_know_is_mended(server, kind, reason):
    """An app that passes on the 1005 it was told, or says too much, gets a close that is allowed; never a broken frame."""
    with open_socket(server, f"/wrong/{kind}") as socket:
        ending = closed(socket).rcvd
    assert (ending.code, ending.reason) == (1000, reason)


def test_send_and_receive_at_once(server):
    with open_socket(server, "/pusher") as socket:
        socket.send("hello")
        got = [json.loads(socket.recv(timeout=DEADLINE)) for _ in range(6)]
    assert [one["push"] for one in got if "push" in one] == [0, 1, 2, 3, 4] and {"heard": "hello"} in got


def test_state_is_copied_for_each_socket(server):
    """46"""
    told = []
    for _ in range(2):
        with open_socket(server, "/state") as socket:
            told.append(json.loads(socket.recv(timeout=DEADLINE)))
    assert [one["number"] for one in told] == [2, 2] and told[1]["hits"] == told[0]["hits"] + 1 and told[0]["same_loop"]


# -- the end (42)


@pytest.mark.parametrize(
    "code, reason, told",
    [(1000, "", "1000 ''"), (1001, "gone home", "1001 'gone home'"), (4321, "caf\u00e9", "4321 'caf\u00e9'"), (3000, "x" * 123, f"3000 '{'x' * 123}'")],
)
def test_the_app_learns_how_the_client_left(server, module_stand, code, reason, told):
    """42"""
    name = f"d{code}"
    with open_socket(server, f"/disconnect/{name}") as socket:
        assert socket.recv(timeout=DEADLINE) == "ready"
        socket.close(code, reason)
    said = remarked(module_stand, name, 2)
    assert said[0].replace("None", "''").encode("latin-1", "replace") in (f"websocket.disconnect {told}".encode("latin-1"),)
    assert said[1] in ("OSError", "nothing raised")


def test_a_close_without_a_code_is_1005(server, module_stand):
    """42"""
    with Frames(server, "/disconnect/d5") as socket:
        socket.message()
        socket.send(frame(CLOSE))
        assert socket.close_code() in (1005, 1000)
    assert remarked(module_stand, "d5")[0].startswith("websocket.disconnect 1005")


@pytest.mark.ours
def test_a_lost_client_is_1006(server, module_stand):
    """42"""
    with Frames(server, "/disconnect/d6") as socket:
        socket.message()
        socket.wire.reset()
    assert remarked(module_stand, "d6")[0].startswith("websocket.disconnect 1006")


@pytest.mark.parametrize("code, reason", [(1000, ""), (1001, "closing"), (3000, "caf\u00e9"), (4999, "x" * 123)])
def test_the_app_closes(server, code, reason):
    from urllib.parse import quote

    with open_socket(server, f"/close/{code}/{quote(reason)}") as socket:
        ending = closed(socket)
    assert (ending.rcvd.code, ending.rcvd.reason) == (code, reason)


def test_a_fault_after_the_accept(server):
    """34"""
    with open_socket(server, "/raises-after") as socket:
        ending = closed(socket)
    assert (ending.rcvd.code if ending.rcvd else 1006) in (1011, 1006)
    server.wait_text("failed on purpose, after the accept")
    if type(server) is Server:
        assert ending.rcvd.code == 1011


def test_an_app_that_returns_ends_the_socket(server):
    with open_socket(server, "/returns-after") as socket:
        assert closed(socket) is not None


def test_nothing_stays_open(server):
    eventually(lambda: server.get("/").json()["open"] <= 1, "the sockets of this module closed")


# -- pings, pressure, many (43)


@pytest.mark.ours
def test_the_server_pings_and_drops_who_does_not_answer(stand):
    """43"""
    server = stand.serve("asgi_socket:app", workers=1, websocket_ping="1s", websocket_timeout="1s")
    with Frames(server, "/disconnect/p1") as silent, open_socket(server, "/echo") as lively:
        assert silent.message() == b"ready"
        assert silent.frame()[0] == PING
        assert silent.close_code() in (1011, 1002, 1006, None)
        assert remarked(stand, "p1")[0].startswith("websocket.disconnect")
        lively.send("still here")
        assert lively.recv(timeout=DEADLINE) == "still here"


def test_a_client_that_does_not_read_holds_back_the_app(server, module_stand):
    """43: nothing piles up in between."""
    name, count = "wsflood", 512  # 32 MiB
    counted = module_stand.gates / name
    with server.wire(receive_buffer=65536) as wire:
        wire.send(handshake(f"/flood/{count}/{name}"))
        sent = settled(lambda: counted.stat().st_size if counted.exists() else 0)
        assert 0 < sent < count // 2, f"{sent} of {count} messages went out to a client that does not read"
        length = 0
        while part := wire.some():
            length += len(part)
            if length > count * 65536:
                break
    assert length > count * 65536


def test_an_app_that_does_not_receive_holds_back_the_client(server, module_stand):
    """43"""
    gate = module_stand.gate("wsunread")
    with server.wire() as wire:
        wire.send(handshake("/unread/wsunread"))
        wire.until(b"ready")
        wire.socket.settimeout(1)
        piece, sent = frame(BINARY, bytes(60_000)), 0
        with pytest.raises(TimeoutError):
            while sent < 500:
                wire.send(piece)
                sent += 1
        gate.reached()
        # The client itself is in the middle of a frame: what it has sent so far is all that is held anywhere.
        assert 0 < sent < 400, f"{sent} messages of 60 KB went to an app that does not read"
        gate.open()


def test_a_hundred_at_once(server):
    with ExitStack() as stack:
        sockets = [stack.enter_context(open_socket(server, "/echo", compression=None)) for _ in range(100)]
        for round in range(3):
            for number, socket in enumerate(sockets):
                socket.send(f"{round} {number}")
            assert [socket.recv(timeout=DEADLINE) for socket in sockets] == [f"{round} {number}" for number in range(100)]
        assert server.get("/").json()["open"] >= 100


# -- stop, death (42, 44)


@pytest.mark.ours
def test_at_a_stop_everybody_is_told_1012(stand):
    """44"""
    server = stand.serve("asgi_socket:app", workers=2)
    with ExitStack() as stack:
        sockets = [stack.enter_context(open_socket(server, f"/disconnect/s{number}")) for number in range(10)]
        for socket in sockets:
            socket.recv(timeout=DEADLINE)
        server.signal(signal.SIGTERM)
        assert [closed(socket).rcvd.code for socket in sockets] == [1012] * 10
    assert server.exit_status() == 0
    assert all(remarked(stand, f"s{number}")[0].startswith("websocket.disconnect 1012") for number in range(10))


@pytest.mark.ours
def test_a_client_that_ignores_the_stop_is_dropped(stand):
    """44"""
    server = stand.serve("asgi_socket:app", workers=1, graceful_timeout="2s", websocket_timeout="1s")
    with Frames(server) as socket:
        server.signal(signal.SIGTERM)
        assert socket.close_code() == 1012
        assert server.exit_status() == 0


@pytest.mark.ours
def test_a_worker_that_dies_with_a_hundred_sockets(stand):
    """Clients get 1012, those of the other worker notice nothing, and new ones connect at once."""
    server = stand.serve("asgi_socket:app", workers=2)
    with ExitStack() as stack:
        sockets = [stack.enter_context(open_socket(server, "/echo", compression=None)) for _ in range(100)]
        victim = server.get("/").json()["pid"]
        os.kill(victim, signal.SIGKILL)
        with open_socket(server, "/echo") as fresh:
            fresh.send("at once")
            assert fresh.recv(timeout=DEADLINE) == "at once"
        lost = 0
        for socket in sockets:
            try:
                socket.send("still there?")
                assert socket.recv(timeout=DEADLINE) == "still there?"
            except ConnectionClosed as ending:
                assert ending.rcvd and ending.rcvd.code == 1012, ending
                lost += 1
        assert 0 < lost < 100, "the sockets of the other worker live on"
    eventually(server.ready, "ready")


@pytest.mark.ours
def test_the_only_worker_dies_with_a_hundred_sockets(stand):
    """All clients get 1012; who comes while there is no worker waits for the next."""
    server = stand.serve("asgi_socket:app", workers=1)
    with ExitStack() as stack:
        sockets = [stack.enter_context(open_socket(server, "/echo", compression=None)) for _ in range(100)]
        victim = server.get("/").json()["pid"]
        os.kill(victim, signal.SIGKILL)
        assert [closed(socket).rcvd.code for socket in sockets] == [1012] * 100
        with open_socket(server, "/echo") as fresh:
            fresh.send("at once")
            assert fresh.recv(timeout=DEADLINE) == "at once"
    told = server.get("/").json()
    assert told["pid"] != victim and told["open"] <= 1


@pytest.mark.ours
def test_many_idle_sockets_take_no_places_from_requests(stand):
    """Sockets beyond `tasks` are still taken; requests go on."""
    server = stand.serve("asgi_socket:app", workers=1)
    with ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(server.wire()).send(handshake()).answer()
        assert server.get("/").json()["open"] == 500


# -- where no WebSocket can be


@pytest.mark.ours
def test_a_wsgi_app_takes_no_websockets(stand):
    """It sees an ordinary request, and the page falls back."""
    server = stand.serve("probe:app", workers=1)
    with server.wire() as wire:
        answer = wire.send(handshake("/")).answer()
        assert answer.status == 200 and answer.get("Upgrade") is None
        assert wire.send(request("GET", "/")).answer().status == 200
