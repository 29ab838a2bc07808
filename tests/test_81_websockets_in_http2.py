"""WebSockets in a stream of HTTP/2 (RFC 8441): by hand, and by the browser that has them.

The frames inside are those of HTTP/1.1 and are tried there (`test_91_websocket`); here it is the way they come: the extended
CONNECT, windows, the ends of a stream, and that both ways meet the same gateway.
"""

import json
import shutil
import signal
import struct

import h2.errors
import h2.events
import h2.settings
import pytest
from client import eventually
from test_41_browser import CHROMIUM, QUIET
from test_81_http2 import AUTHORITY, Client, of
from test_90_asgi import remarked, settled
from test_91_websocket import BINARY, CLOSE, PING, PONG, TEXT, frame

pytestmark = pytest.mark.ours


class Socket:
    """A WebSocket in a stream of `client`. What comes is acknowledged only when `take` says so."""

    def __init__(self, client: Client, path: str, fields=(), protocol="websocket", end=False, version="13"):
        self.client, self.unread = client, b""
        self.stream = client.h2.get_next_available_stream_id()
        pseudo = [(":method", "CONNECT"), (":protocol", protocol), (":scheme", "http"), (":authority", "localhost"), (":path", path)]
        client.h2.send_headers(self.stream, [*pseudo, ("sec-websocket-version", version), *fields], end_stream=end)
        client.flush()

    def answered(self) -> tuple[int, dict]:
        event = self.client.wait(of(h2.events.ResponseReceived, self.stream))
        fields = dict(event.headers)
        return int(fields.pop(":status")), fields

    def open(self) -> "Socket":
        status, self.fields = self.answered()
        assert status == 200, (status, self.fields)
        return self

    def send(self, *frames: bytes) -> None:
        rest = b"".join(frames)
        while rest:
            room = min(self.client.h2.local_flow_control_window(self.stream), self.client.h2.max_outbound_frame_size)
            if not room:
                self.client.wait(of(h2.events.WindowUpdated))
                continue
            self.client.h2.send_data(self.stream, rest[:room])
            rest = rest[room:]
            self.client.flush()

    def take(self, count: int) -> bytes:
        while len(self.unread) < count:
            event = self.client.wait(lambda event: getattr(event, "stream_id", None) == self.stream)
            if isinstance(event, h2.events.DataReceived):
                self.unread += event.data
            elif not isinstance(event, h2.events.WindowUpdated):
                raise EOFError(event)
        taken, self.unread = self.unread[:count], self.unread[count:]
        return taken

    def frame(self) -> tuple[int, bytes]:
        """The next one, with those that continue it."""
        first, payload = self.part()
        opcode = first & 15
        while not first & 0x80:
            first, more = self.part()
            assert first & 15 == 0
            payload += more
        return opcode, payload

    def part(self) -> tuple[int, bytes]:
        first, second = self.take(2)
        size = second & 127
        size = struct.unpack("!H", self.take(2))[0] if size == 126 else struct.unpack("!Q", self.take(8))[0] if size == 127 else size
        return first, self.take(size)

    def message(self) -> bytes:
        while (got := self.frame())[0] == PING:
            pass
        return got[1]

    def close_code(self) -> int:
        while (got := self.frame())[0] != CLOSE:
            pass
        return struct.unpack("!H", got[1][:2])[0]

    def ended(self) -> bool:
        """The stream comes to a good end: no reset (RFC 8441 §5)."""
        event = self.client.wait(lambda event: isinstance(event, (h2.events.StreamEnded, h2.events.StreamReset)) and event.stream_id == self.stream)
        return isinstance(event, h2.events.StreamEnded)


@pytest.fixture(scope="module")
def server(module_stand):
    return module_stand.serve("asgi_socket:app", workers=1, h2c="on", websocket_max_size="8MB")


@pytest.fixture
def client(server):
    with Client(server.address) as client:
        yield client


def test_the_offer_is_made(client):
    client.wait(of(h2.events.RemoteSettingsChanged))
    assert client.h2.remote_settings[h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL] == 1


def test_messages_of_any_size_come_back(server, client):
    """Larger than every window, in both directions; other streams go on beside it."""
    socket = Socket(client, "/echo").open()
    assert not {"sec-websocket-accept", "upgrade", "connection", "content-length"} & socket.fields.keys()
    for opcode, message in ((TEXT, b"hello"), (BINARY, b""), (BINARY, b"\0\xff" * 40_000), (TEXT, b"x" * 1_000_000)):
        socket.send(frame(opcode, message))
        assert socket.frame() == (opcode, message)
        assert json.loads(client.get("/")[2])["open"] >= 1
    socket.send(frame(PING, b"now"))
    assert socket.frame() == (PONG, b"now")
    socket.send(frame(CLOSE, struct.pack("!H", 1000)))
    assert socket.close_code() == 1000 and socket.ended()
    record = server.wait_record("/echo")
    # 101, as in HTTP/1.1: in the log too a WebSocket is a WebSocket.
    assert (record["protocol"], record["method"], record["status"]) == ("HTTP/2.0", "GET", 101)
    assert record["bytes_in"] > 1_080_000 and record["bytes_out"] > 1_080_000


def test_the_app_is_told_of_a_websocket(client):
    fields = [("sec-websocket-protocol", "a, b"), ("cookie", "c=1"), ("cookie", "d=2"), ("origin", "http://localhost")]
    told = json.loads(Socket(client, "/scope/x?q=1", fields).open().message())
    scope = told["scope"]
    assert (scope["type"], scope["scheme"], scope["http_version"]) == ("websocket", "ws", "2")
    assert (scope["path"], scope["query_string"], scope["subprotocols"]) == ("/scope/x", "q=1", ["a", "b"])
    assert ["cookie", "c=1; d=2"] in scope["headers"] and "method" not in scope


def test_subprotocol_and_compression_are_agreed_on(client):
    socket = Socket(client, "/subprotocol", [("sec-websocket-protocol", "one,two"), ("sec-websocket-extensions", "permessage-deflate")]).open()
    assert socket.fields["sec-websocket-protocol"] == "two"
    assert socket.fields["sec-websocket-extensions"].startswith("permessage-deflate")


@pytest.mark.parametrize(
    "path, words, status",
    [
        ("/refuse", {}, 403),
        ("/deny", {}, 401),
        ("/raises-before", {}, 500),
        ("/echo", {"version": "12"}, 426),
        ("/echo", {"protocol": "connect-udp"}, 501),
        ("/echo", {"fields": [("content-length", "0")]}, 400),
        ("/echo", {"end": True}, 400),
        # Any success would open it.
        ("/-/live", {}, 501),
    ],
)
def test_what_is_not_accepted_is_answered(server, client, path, words, status):
    assert Socket(client, path, **words).answered()[0] == status
    assert client.get("/")[0] == 200


def test_row_61_origins_hold_here_too(stand):
    server = stand.serve("asgi_socket:app", workers=1, h2c="on", websocket_origins=["same"])
    with Client(server.address) as client:
        for origin, status in (("http://localhost", 200), ("https://evil.example", 403), (None, 403)):
            assert Socket(client, "/echo", [("origin", origin)] if origin else []).answered()[0] == status


def test_a_project_without_websockets_opens_none(module_stand):
    server = module_stand.serve("probe:app", workers=1, h2c="on")
    with Client(server.address) as client:
        assert Socket(client, "/blind").answered()[0] == 501
        assert client.get("/blind")[0] == 200
    assert not any("/blind" in line and "CONNECT" in line for line in module_stand.seen())


@pytest.mark.parametrize("bad, code", [(frame(TEXT, b"\xff"), 1007), (frame(TEXT, b"x", masked=False), 1002), (frame(BINARY, b"", length=1 << 40), 1009)])
def test_row_61_frames_that_break_the_rules(client, bad, code):
    socket = Socket(client, "/echo").open()
    socket.send(bad)
    assert socket.close_code() == code and socket.ended()
    assert client.get("/")[0] == 200


def test_a_reset_is_told_to_the_app(server, client, module_stand):
    """CANCEL is the end of the connection in HTTP/1.1, without a close frame: 1006."""
    socket = Socket(client, "/disconnect/reset").open()
    assert socket.message() == b"ready"
    client.h2.reset_stream(socket.stream, h2.errors.ErrorCodes.CANCEL)
    client.flush()
    assert remarked(module_stand, "reset")[0] == "websocket.disconnect 1006 ''"
    ended = Socket(client, "/disconnect/ended").open()
    assert ended.message() == b"ready"
    client.h2.end_stream(ended.stream)
    client.flush()
    assert remarked(module_stand, "ended")[0] == "websocket.disconnect 1006 ''"


def test_the_close_of_the_app_ends_the_stream(client, module_stand):
    socket = Socket(client, "/close/4321/enough").open()
    assert socket.frame() == (CLOSE, struct.pack("!H", 4321) + b"enough")
    socket.send(frame(CLOSE, struct.pack("!H", 4321)))
    assert socket.ended()


def test_row_30_an_app_waits_for_a_client_that_takes_nothing(stand):
    """What was not taken is bounded, and the rest comes when the window opens."""
    server = stand.serve("asgi_socket:app", workers=1, h2c="on")
    counted, count = stand.gates / "many", 100
    with Client(server.address) as client, Client(server.address) as other:
        socket = Socket(client, f"/flood/{count}/many").open()
        socket.unread = client.wait(of(h2.events.DataReceived, socket.stream), take=False).data
        sent = settled(lambda: counted.stat().st_size if counted.exists() else 0)
        assert 0 < sent < count // 2, "the app is held up"
        assert other.get("/")[0] == 200
        client.h2.increment_flow_control_window(2 * count * 65536)
        client.h2.increment_flow_control_window(2 * count * 65536, socket.stream)
        client.flush()
        assert socket.close_code() == 1000
    assert counted.stat().st_size == count


def test_a_client_waits_for_an_app_that_takes_nothing(stand):
    """The window closes; other streams of the connection go on."""
    server = stand.serve("asgi_socket:app", workers=1, h2c="on", websocket_max_size="8MB")
    gate = stand.gate("taken")
    with Client(server.address) as client:
        socket = Socket(client, "/unread/taken").open()
        assert socket.message() == b"ready"
        piece, sent = frame(BINARY, b"x" * 8_000), 0
        while client.h2.local_flow_control_window(socket.stream) >= len(piece) and sent < 8_000_000:
            client.h2.send_data(socket.stream, piece)
            sent += 8_000
            client.flush()
            # Asked in between, so that what the server gives back is seen.
            assert client.get("/")[0] == 200
        assert sent < 8_000_000, "the window has closed"
        gate.open()
        socket.send(frame(BINARY, b""))
        assert json.loads(socket.message()) == {"total": sent}


def test_many_small_messages_wait_for_an_app_that_takes_nothing(server, client, module_stand):
    """Each in a frame of HTTP/2 of its own: such a flood of frames is no reason to end the connection, as long as it has windows."""
    gate, count = module_stand.gate("small"), 10_000
    socket = Socket(client, "/unread/small").open()
    assert socket.message() == b"ready"
    for number in range(count):
        client.h2.send_data(socket.stream, frame(BINARY, b"x"))
        if number % 500 == 0:
            assert client.get("/")[0] == 200
    client.flush()
    assert client.get("/")[0] == 200
    gate.open()
    socket.send(frame(BINARY, b""))
    assert json.loads(socket.message()) == {"total": count}


def test_when_the_server_stops_it_is_closed_with_1012(stand):
    server = stand.serve("asgi_socket:app", workers=1, h2c="on")
    with Client(server.address) as client:
        socket = Socket(client, "/echo").open()
        socket.send(frame(TEXT, b"x"))
        assert socket.message() == b"x"
        server.signal(signal.SIGTERM)
        assert socket.close_code() == 1012
        socket.send(frame(CLOSE, struct.pack("!H", 1012)))
        assert socket.ended()
    assert server.exit_status() == 0


def test_at_a_reload_it_is_closed_with_1012_and_the_connection_goes_on(stand):
    server = stand.serve("asgi_socket:app", workers=1, h2c="on")
    with Client(server.address) as client:
        first = json.loads(client.get("/")[2])["pid"]
        socket = Socket(client, "/echo").open()
        server.signal(signal.SIGHUP)
        assert socket.close_code() == 1012
        socket.send(frame(CLOSE, struct.pack("!H", 1012)))
        assert socket.ended()
        eventually(lambda: json.loads(client.get("/")[2])["pid"] != first, "the next generation")
        again = Socket(client, "/echo").open()
        again.send(frame(TEXT, b"again"))
        assert again.message() == b"again"


def test_a_silent_client_is_pinged(stand):
    server = stand.serve("asgi_socket:app", workers=1, h2c="on", websocket_ping="1s", websocket_timeout="1s")
    with Client(server.address) as client:
        socket = Socket(client, "/echo").open()
        opcode, payload = socket.frame()
        assert opcode == PING
        socket.send(frame(PONG, payload))
        assert socket.frame()[0] == PING
        assert socket.close_code() == 1011, "the second was not answered"


@pytest.mark.skipif(not shutil.which(CHROMIUM), reason="no chromium")
def test_a_browser_uses_the_connection_that_it_has(stand):
    playwright = pytest.importorskip("playwright.sync_api")
    cert, key = AUTHORITY.put(stand.folder, "localhost", "127.0.0.1")
    server = stand.serve("asgi_socket:app", workers=1, tls_cert=cert, tls_key=key, redirect_https="off")
    script = """async (words) => await new Promise((resolve, reject) => {
        const socket = new WebSocket(`wss://${location.host}/echo`);
        const got = [];
        socket.onmessage = (event) => { got.push(event.data); if (got.length === words.length) socket.close(4000, 'done'); };
        socket.onopen = () => words.forEach((word) => socket.send(word));
        socket.onclose = (event) => resolve([got, event.code, event.wasClean, socket.extensions]);
        socket.onerror = () => reject(new Error('the WebSocket failed'));
    })"""
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = chromium.new_context(ignore_https_errors=True).new_page()
        page.goto(f"https://localhost:{server.port}/")
        words = ["hello", "", "café", "x" * 300_000]
        got, code, clean, extensions = page.evaluate(script, words)
        chromium.close()
    assert (got, code, clean) == (words, 4000, True) and "permessage-deflate" in extensions
    record = server.wait_record("/echo")
    assert (record["protocol"], record["status"], record["tls"]) == ("HTTP/2.0", 101, "TLSv1.3")
