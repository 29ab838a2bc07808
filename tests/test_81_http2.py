"""HTTP/2 end to end: over TLS as browsers speak it, and in the clear where `h2c` allows it.

The client is the h2 package on a socket of ours, so that a test decides when windows open and when a stream is reset; curl
is there for a second opinion. Malformed frames and floods are tried beside the code. Numbers are rows of part 2 of the
checklist.
"""

import contextlib
import hashlib
import json
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.settings
import pytest
from certificates import Authority
from client import DEADLINE, eventually
from test_90_asgi import remarked

AUTHORITY = Authority()
WINDOW = 65535


class Client:
    """One connection. Events come in order; windows open only when `take` says so."""

    def __init__(self, address, context=None, name="localhost"):
        self.socket = socket.create_connection(address, timeout=DEADLINE)
        if context:
            self.socket = context.wrap_socket(self.socket, server_hostname=name)
            assert self.socket.selected_alpn_protocol() == "h2"
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False)
        self.h2 = h2.connection.H2Connection(config)
        # The library takes a GOAWAY for the end, and all that follows for an error; open streams go on (RFC 9113 §6.8).
        machine, states, inputs = self.h2.state_machine, h2.connection.ConnectionState, h2.connection.ConnectionInputs
        machine._transitions = machine._transitions | {(states.CLIENT_OPEN, inputs.RECV_GOAWAY): (None, states.CLIENT_OPEN)}
        self.h2.initiate_connection()
        self.flush()
        self.events = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def ask(self, path, method="GET", fields=(), body=None, end=True) -> int:
        """A request; gives its stream."""
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "http"), (":authority", "localhost"), (":path", path), *fields]
        self.h2.send_headers(stream, head, end_stream=end and body is None)
        if body is not None:
            self.h2.send_data(stream, body, end_stream=end)
        self.flush()
        return stream

    def wait(self, wanted, take=True):
        """The first event for which `wanted(event)` is true; None when the connection ends before."""
        while True:
            for at, event in enumerate(self.events):
                if wanted(event):
                    del self.events[: at + 1]
                    return event
            self.events = []
            data = self.socket.recv(65536)
            if not data:
                return None
            self.events = self.h2.receive_data(data)
            for event in self.events:
                if take and isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.flush()

    def answer(self, stream):
        """Status, fields, body, in whatever pieces they come."""
        status, fields, body = None, [], b""
        while True:
            event = self.wait(lambda event: getattr(event, "stream_id", None) == stream)
            assert event is not None, "the connection has ended"
            match event:
                case h2.events.ResponseReceived():
                    fields = [(name, value) for name, value in event.headers if not name.startswith(":")]
                    status = int(dict(event.headers)[":status"])
                case h2.events.DataReceived():
                    body += event.data
                case h2.events.StreamEnded():
                    return status, dict(fields), body
                case h2.events.StreamReset():
                    raise Reset(event.error_code, body)

    def get(self, path, **kwargs):
        return self.answer(self.ask(path, **kwargs))


class Reset(Exception):
    """The server has reset the stream."""


@pytest.fixture(scope="module")
def plain(module_stand):
    return module_stand.serve(h2c="on", workers=1, threads=4, send_timeout="2s")


@pytest.fixture
def client(plain):
    with Client(plain.address) as client:
        yield client


def of(kind, stream=None):
    return lambda event: isinstance(event, kind) and stream in (None, getattr(event, "stream_id", None))


def test_the_app_is_told(plain, client):
    crumbs = [("cookie", "a=1"), ("x-own", "y"), ("cookie", "b=2"), ("x_own", "forged"), ("proxy", "x")]
    status, fields, body = client.get("/told%20here?a=b", fields=crumbs)
    environ = json.loads(body)["environ"]
    assert status == 200 and int(fields["content-length"]) == len(body)
    assert (environ["SERVER_PROTOCOL"], environ["HTTP_HOST"], environ["QUERY_STRING"]) == ("HTTP/2.0", "localhost", "a=b")
    assert environ["PATH_INFO"] == "/told here"
    # One field for WSGI, whatever the client did to compress it; rows 18, 19.
    assert (environ["HTTP_COOKIE"], environ["HTTP_X_OWN"]) == ("a=1; b=2", "y")
    assert "HTTP_PROXY" not in environ and "HTTP_TE" not in environ
    assert {"date", "server", "x-request-id"} <= fields.keys()
    record = plain.wait_record("/told")
    assert (record["protocol"], record["status"], record["bytes_out"]) == ("HTTP/2.0", 200, len(body))


def test_bodies_come_whole(client):
    """Several at once, larger than every window."""
    bodies = [bytes([n]) * size for n, size in enumerate((0, 1, 70_000, 300_000))]
    streams = []
    for body in bodies:
        stream = client.ask("/", "POST", end=False)
        rest = body
        while rest:
            room = min(client.h2.local_flow_control_window(stream), client.h2.max_outbound_frame_size)
            if not room:
                client.wait(of(h2.events.WindowUpdated))
                continue
            client.h2.send_data(stream, rest[:room])
            rest = rest[room:]
            client.flush()
        client.h2.end_stream(stream)
        client.flush()
        streams.append(stream)
        told = json.loads(client.answer(stream)[2])["body"]
        assert told == {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}


def test_a_large_answer_comes_whole(client):
    status, _, body = client.get("/large/40")
    assert status == 200 and body == b"".join(bytes([n]) * 65536 for n in range(40))


def test_head_has_the_length_and_no_body(client):
    _, fields, body = client.get("/blind", method="HEAD")
    assert (fields["content-length"], body) == ("5", b"")


def test_a_stream_arrives_as_the_app_makes_it(stand):
    server = stand.serve(h2c="on")
    gate = stand.gate("here")
    with Client(server.address) as client:
        stream = client.ask("/stream/here")
        assert client.wait(of(h2.events.DataReceived, stream)).data == b"first\n"
        assert client.get("/blind")[2] == b"blind", "others are not held up"
        gate.open()
        assert client.wait(of(h2.events.DataReceived, stream)).data == b"second\n"
        assert client.wait(of(h2.events.StreamEnded, stream))


def test_row_30_a_client_that_takes_nothing_holds_no_worker(stand):
    server = stand.serve(h2c="on", workers=1, threads=1, send_timeout="2s")
    with Client(server.address) as client, Client(server.address) as other:
        slow = client.ask("/large/100")
        assert client.wait(of(h2.events.DataReceived, slow), take=False)
        assert other.get("/blind")[2] == b"blind", "the only thread is free"
        reset = client.wait(of(h2.events.StreamReset, slow), take=False)
        assert reset.error_code == h2.errors.ErrorCodes.CANCEL


def test_row_27_a_body_that_is_not_what_was_announced_never_reaches_the_app(module_stand, plain, client):
    for announced, body in (("10", b"hello"), ("3", b"hello")):
        stream = client.ask("/short", "POST", fields=[("content-length", announced)], body=body)
        reset = client.wait(of(h2.events.StreamReset, stream))
        assert reset.error_code == h2.errors.ErrorCodes.PROTOCOL_ERROR
    assert client.get("/blind")[0] == 200
    assert "POST /short" not in module_stand.seen()


def test_row_26_a_body_that_is_too_large_is_refused_before_it_is_sent(stand):
    server = stand.serve(h2c="on", max_body="1KB")
    with Client(server.address) as client:
        fields = [("content-length", "5000"), ("expect", "100-continue")]
        stream = client.ask("/", "POST", fields=fields, end=False)
        status, _, _ = client.answer(stream)
        assert status == 413
        stream = client.ask("/", "POST", fields=[("content-length", "5"), ("expect", "100-continue")], end=False)
        interim = client.wait(of(h2.events.InformationalResponseReceived, stream))
        assert dict(interim.headers)[":status"] == "100"
        client.h2.send_data(stream, b"hello", end_stream=True)
        client.flush()
        assert json.loads(client.answer(stream)[2])["body"]["length"] == 5


def test_row_34_work_for_nobody_takes_places(stand):
    """128 streams may be open, and 64 more be worked on for a client that has left them: what is more is refused, for the client to
    ask again."""
    server = stand.serve(h2c="on", workers=1, threads=70)
    gate = stand.gate("here")
    with Client(server.address) as client:
        left = [client.ask("/gate/here") for _ in range(70)]
        eventually(lambda: len(stand.seen()) == 70, "all at the gate")
        for stream in left:
            client.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        client.flush()
        eventually(lambda: len(server.records()) == 70, "their records")
        assert {(record["status"], record["refusal"]) for record in server.records()} == {(499, "client_gone")}
        asked = [client.ask("/blind") for _ in range(128)]
        refused = [client.wait(of(h2.events.StreamReset)) for _ in range(70 + 128 - 192)]
        assert [(event.stream_id, event.error_code) for event in refused] == [(stream, h2.errors.ErrorCodes.REFUSED_STREAM) for stream in asked[122:]]
        gate.open()
        assert {client.wait(of(h2.events.StreamEnded)).stream_id for _ in asked[:122]} == set(asked[:122])
        assert client.get("/blind")[0] == 200, "there is room again"


def test_row_34_resets_end_the_connection(stand):
    """More resets than a person makes: the client is told to calm down, and others are served."""
    server = stand.serve(h2c="on", workers=1, threads=1)
    gate = stand.gate("here")
    with Client(server.address) as client:
        client.ask("/gate/here")
        gate.reached()
        end = None
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(400):
                stream = client.ask("/blind")
                client.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
                client.flush()
        end = client.wait(of(h2.events.ConnectionTerminated))
        assert end.error_code == h2.errors.ErrorCodes.ENHANCE_YOUR_CALM
    gate.open()
    with Client(server.address) as other:
        assert other.get("/blind")[0] == 200


def test_a_client_that_leaves_is_recorded(stand):
    server = stand.serve(h2c="on", workers=1, threads=1)
    gate = stand.gate("here")
    with Client(server.address) as client:
        stream = client.ask("/gate/here")
        gate.reached()
        client.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        client.flush()
        record = server.wait_record("/gate")
        assert (record["status"], record["refusal"]) == (499, "client_gone")
    gate.open()


def test_an_asgi_app_is_told_that_its_client_has_left(stand):
    """By a reset while it waits, and in the middle of its answer; the connection goes on."""
    server = stand.serve("asgi_probe:app", workers=1, h2c="on")
    with Client(server.address) as client:
        waits = client.ask("/leave/l1")
        remarked(stand, "l1")
        client.h2.reset_stream(waits, h2.errors.ErrorCodes.CANCEL)
        client.flush()
        assert remarked(stand, "l1", 4) == ["waiting"] + ["http.disconnect"] * 3
        streams = client.ask("/leave-streaming/l2")
        assert client.wait(of(h2.events.DataReceived, streams)).data == b"first\n"
        client.h2.reset_stream(streams, h2.errors.ErrorCodes.CANCEL)
        client.flush()
        assert remarked(stand, "l2", 2) == ["http.disconnect", "OSError"]
        assert client.get("/blind")[2] == b"blind"


def test_a_worker_that_streams_is_free_once_its_client_has_left(stand):
    server = stand.serve(h2c="on", workers=1, threads=1)
    with Client(server.address) as client:
        stream = client.ask("/endless/e1")
        assert client.wait(of(h2.events.DataReceived, stream), take=False)
        client.h2.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
        client.flush()
        assert remarked(stand, "e1") == ["closed"]
        assert client.get("/blind")[2] == b"blind"


def test_row_30_answers_that_nobody_reads_do_not_fill_the_memory(stand):
    """CVE-2019-9517: windows wide open, and a socket that takes nothing."""
    server = stand.serve(h2c="on", workers=1, threads=2)
    with Client(server.address) as client:
        client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 2**31 - 1})
        client.h2.increment_flow_control_window(2**31 - 1 - WINDOW)
        client.flush()
        assert client.get("/blind")[0] == 200
        before = resident(server)
        for _ in range(100):
            client.ask("/large/20")
        with Client(server.address) as other:
            # One after the other through the same worker: all of the others have been worked on then.
            for _ in range(20):
                assert other.get("/large/1")[0] == 200
            eventually(lambda: len(server.records()) >= 21, "the others' records")
        # 100 times what a stream may have would be some 38 MB.
        grown = resident(server) - before
        assert grown < 24 * 1024, f"{grown} KiB"


def resident(server) -> int:
    """KiB of the edge."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1])


def test_rows_14_15_refusals_are_pages(client):
    assert client.get("/" + "a" * 9000)[0] == 414
    assert client.get("/", fields=[(f"x-{n}", "y") for n in range(101)])[0] == 431
    assert client.get("/", fields=[("x", "y" * 20_000)])[0] == 431
    assert client.get("/%zz")[0] == 400
    assert client.get("/blind")[0] == 200


def test_open_streams_end_when_the_server_stops(stand):
    server = stand.serve(h2c="on")
    gate = stand.gate("here")
    with Client(server.address) as client:
        stream = client.ask("/gate/here")
        gate.reached()
        server.signal(signal.SIGTERM)
        assert client.wait(of(h2.events.ConnectionTerminated)).error_code == 0
        gate.open()
        assert client.wait(of(h2.events.DataReceived, stream))
        assert client.wait(of(h2.events.StreamEnded, stream))
    assert server.exit_status() == 0


def test_row_41_h2c_only_when_asked(stand):
    server = stand.serve()
    with server.wire() as wire:
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert wire.answer("GET").status == 505
    upgrade = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"}
    told = server.get("/", upgrade).json()["environ"]
    assert "HTTP_UPGRADE" not in told and "HTTP_HTTP2_SETTINGS" not in told


def test_browsers_get_it_over_tls(stand):
    cert, key = AUTHORITY.put(stand.folder, "localhost", "127.0.0.1")
    server = stand.serve(tls_cert=cert, tls_key=key, redirect_https="off")
    with Client(("127.0.0.1", server.port), AUTHORITY.client(protocols=("h2", "http/1.1"))) as client:
        environ = json.loads(client.get("/")[2])["environ"]
        assert (environ["wsgi.url_scheme"], environ["SERVER_PROTOCOL"], environ["HTTPS"]) == ("https", "HTTP/2.0", "on")
        assert client.get("/large/10")[2] == b"".join(bytes([n]) * 65536 for n in range(10))
    record = server.wait_record("/large")
    assert (record["tls"], record["scheme"]) == ("TLSv1.3", "https")


def test_http2_can_be_switched_off(stand):
    cert, key = AUTHORITY.put(stand.folder, "localhost", "127.0.0.1")
    server = stand.serve(tls_cert=cert, tls_key=key, redirect_https="off", http2="off")
    context = AUTHORITY.client(protocols=("h2", "http/1.1"))
    with socket.create_connection(("127.0.0.1", server.port)) as raw, context.wrap_socket(raw, server_hostname="localhost") as secured:
        assert secured.selected_alpn_protocol() == "http/1.1"


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl")
def test_curl_agrees(stand, plain, tmp_path):
    """Both in the clear, and one after the other on one connection over TLS. (Some versions of curl cannot use a connection of
    prior knowledge twice: curl/curl#10634.)"""
    upload = tmp_path / "upload"
    upload.write_bytes(b"x" * 400_000)
    cert, key = AUTHORITY.put(stand.folder, "localhost", "127.0.0.1")
    secured = stand.serve(tls_cert=cert, tls_key=key, redirect_https="off")
    authority = AUTHORITY.write(tmp_path / "authority.pem")

    def curl(*words):
        ran = subprocess.run(["curl", "--silent", "--fail", "--max-time", "20", *map(str, words)], capture_output=True)
        assert ran.returncode == 0, (words, ran)
        return ran.stdout

    url = f"http://127.0.0.1:{plain.port}/"
    assert json.loads(curl("--http2-prior-knowledge", "--data-binary", f"@{upload}", url))["body"]["length"] == 400_000
    assert curl("--http2-prior-knowledge", f"{url}large/20").endswith(bytes([19]) * 65536)
    url = f"https://127.0.0.1:{secured.port}/"
    first = ["--http2", "--cacert", authority, "--data-binary", f"@{upload}", "--output", tmp_path / "told", url]
    second = ["--http2", "--cacert", authority, "--output", tmp_path / "large", "--write-out", "%{http_version} %{num_connects}", f"{url}large/20"]
    assert curl(*first, "--next", *second) == b"2 0", "the second needs no connection of its own"
    assert json.loads((tmp_path / "told").read_bytes())["body"]["length"] == 400_000
    assert (tmp_path / "large").read_bytes() == b"".join(bytes([n]) * 65536 for n in range(20))

