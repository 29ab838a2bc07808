"""HTTP/3: the same server over QUIC (RFC 9114), and how clients learn of it."""

import asyncio
import hashlib
import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from client import eventually
from quic import EXCESSIVE_LOAD, MESSAGE_ERROR, NO_ERROR, Closed, Reset, certificate, connection, frame, headers, section, visit
from server import refused


@pytest.fixture(scope="module")
def site(module_stand):
    """Certificate, key and the settings for them."""
    chain, key = certificate(module_stand.folder, "localhost", "shop.test")
    return {"tls_cert": chain, "tls_key": key, "http3": "on"}


@pytest.fixture(scope="module")
def wsgi(module_stand, site):
    files = module_stand.folder / "files"
    files.mkdir()
    (files / "small.txt").write_bytes(b"two thousand bytes" * 111)
    (files / "large.bin").write_bytes(bytes(range(256)) * 40_000)
    return module_stand.serve(static=f"/static/={files}", **site)


@pytest.fixture(scope="module")
def asgi(module_stand, site):
    return module_stand.serve("asgi_probe:app", **site)


def told(reply) -> dict:
    return json.loads(reply.body)


def test_a_request_as_over_any_other_version(wsgi, site):
    async def story(client):
        reply = await client.get("/tell?a=b%20c", [("x-y", "z"), ("cookie", "a=1"), ("cookie", "b=2")])
        assert reply.status == 200
        environ = told(reply)["environ"]
        assert environ["SERVER_PROTOCOL"] in ("HTTP/3", "HTTP/3.0")
        assert (environ["PATH_INFO"], environ["QUERY_STRING"], environ["HTTP_X_Y"]) == ("/tell", "a=b%20c", "z")
        assert environ["wsgi.url_scheme"] == "https"
        assert environ["HTTP_COOKIE"] == "a=1; b=2"
        assert environ["HTTP_HOST"] == f"localhost:{wsgi.port}" and environ["SERVER_PORT"] == str(wsgi.port)
        assert environ["REMOTE_ADDR"] == "127.0.0.1"
        assert (await client.get("/status/404")).status == 404

    visit(wsgi.port, site["tls_cert"], story)
    assert wsgi.wait_record("/tell")["status"] == 200


def test_bodies(asgi, site):
    async def story(client):
        body = bytes(range(256)) * 4000
        for fields in ([], [("content-length", str(len(body)))]):
            reply = await client.ask("POST", "/tell", body, fields)
            assert told(reply)["body"]["sha256"] == hashlib.sha256(body).hexdigest()
        # In frames of every size, empty ones too, with trailers behind.
        pieces = b"".join(frame(0, body[at : at + size]) for at, size in [(0, 1), (1, 0), (1, 70), (71, 20_000)])
        data = headers(client.head("POST", "/tell")) + pieces + headers([("x-checksum", "1")])
        reply = await client.send(data)
        assert told(reply)["body"]["length"] == 20_071
        data = headers(client.head("POST", "/tell", [("expect", "100-continue")]))
        stream = client.begin(data)
        client.more(stream, frame(0, b"abc"), True)
        assert told(await client.reply(stream))["body"]["length"] == 3

    visit(asgi.port, site["tls_cert"], story)


def test_files_and_large_answers(wsgi, site):
    async def story(client):
        small = await client.get("/static/small.txt")
        assert (small.status, len(small.body)) == (200, 1998)
        assert (await client.get("/static/small.txt", [("if-none-match", small.get("etag"))])).status == 304
        part = await client.get("/static/large.bin", [("range", "bytes=256-259")])
        assert (part.status, part.body) == (206, bytes(range(4)))
        large = await client.get("/static/large.bin")
        assert large.body == bytes(range(256)) * 40_000
        made = await client.get("/large/64")
        assert len(made.body) == 64 * 65_536

    visit(wsgi.port, site["tls_cert"], story)


def test_many_requests_at_once(wsgi, site):
    async def story(client):
        paths = [f"/static/small.txt?{n}" if n % 2 else f"/tell?n={n}" for n in range(150)]
        replies = await asyncio.gather(*(client.get(path) for path in paths))
        assert {reply.status for reply in replies} == {200}
        for path, reply in list(zip(paths, replies))[::2]:
            assert told(reply)["environ"]["QUERY_STRING"] == path.partition("?")[2]

    visit(wsgi.port, site["tls_cert"], story)


def test_a_stream_comes_as_it_is_made(module_stand, asgi, site):
    gate = module_stand.gate("h3-event")

    async def story(client):
        stream = client.begin(headers(client.head("GET", "/sse/h3-event")), True)
        queue = client._streams[stream]
        while not getattr(await asyncio.wait_for(queue.get(), 20), "data", b""):
            pass  # the head, and then the first event while the second is not made
        await asyncio.to_thread(gate.open)
        while not (await asyncio.wait_for(queue.get(), 20)).stream_ended:
            pass

    visit(asgi.port, site["tls_cert"], story)


def test_a_client_that_leaves_is_told_to_the_app(module_stand, asgi, site):
    def remarks(count):
        said = [line.split()[1] for line in module_stand.seen() if line.startswith("# ") and line.endswith(" h3-left")]
        return said if len(said) >= count else None

    async def story(client):
        stream = client.begin(headers(client.head("GET", "/leave/h3-left")), True)
        await asyncio.to_thread(eventually, lambda: remarks(1), "the request at the app")
        client.cancel(stream)
        assert await asyncio.to_thread(eventually, lambda: remarks(4), "what it was told") == ["waiting"] + ["http.disconnect"] * 3
        assert (await client.get("/tell")).status == 200

    visit(asgi.port, site["tls_cert"], story)
    assert asgi.wait_record("/leave/h3-left")["status"] == 499


MALFORMED = [
    (39, [("X-Upper", "y")]),
    (39, [(":method", "GET")]),
    (39, [("x", "y"), (":path", "/")]),
    (40, [("connection", "close")]),
    (40, [("transfer-encoding", "chunked")]),
    (40, [("te", "gzip")]),
    (40, [("x", "a\r\nb: c")]),
    (40, [("content-length", "5")]),
]


def test_rows_39_and_40_malformed_messages_end_their_stream_only(wsgi, site):
    async def story(client):
        for row, more in MALFORMED:
            with pytest.raises(Reset) as reset:
                await client.ask("POST", "/tell", b"abc", more)
            assert not isinstance(reset.value, Closed) and reset.value.code == MESSAGE_ERROR, (row, more)
        for missing in (":method", ":scheme", ":path"):
            with pytest.raises(Reset) as reset:
                await client.send(headers([pair for pair in client.head("GET", "/tell") if pair[0] != missing]))
            assert reset.value.code == MESSAGE_ERROR, missing
        assert (await client.get("/tell")).status == 200

    visit(wsgi.port, site["tls_cert"], story)


def test_row_37_field_sections_that_are_too_large(wsgi, site):
    """30,004 fields in 30,013 bytes, and a length that nobody sends: 431, and the server goes on."""

    async def story(client):
        bomb = frame(1, section(client.head("GET", "/tell")) + bytes([0xC0 | 31]) * 30_004)
        assert (await client.send(bomb)).status == 431
        assert (await client.get("/tell", [("x", "y" * 40_000)])).status == 431
        stream = client.begin(b"\x01\xc0\x00\x00\x00\x40\x00\x00\x00")
        assert (await client.reply(stream)).status == 431
        assert (await client.get("/tell")).status == 200

    visit(wsgi.port, site["tls_cert"], story)
    assert "panicked" not in wsgi.output


def test_row_34_rapid_reset(wsgi, site):
    async def story(client):
        async def flood():
            while not client.ended.done():
                client.cancel(client.begin(headers(client.head("GET", "/tell"))[:9]))
                await asyncio.sleep(0)

        await asyncio.wait_for(flood(), 20)
        assert await client.end() == EXCESSIVE_LOAD

    visit(wsgi.port, site["tls_cert"], story)
    assert visit(wsgi.port, site["tls_cert"], lambda client: client.get("/tell")).status == 200


def test_row_42_nothing_is_taken_before_the_handshake_is_done(wsgi, site):
    """Tickets that are given allow no early data, so no request can be replayed."""
    tickets = []

    async def story(client):
        client._quic.tls.new_session_ticket_cb = tickets.append
        assert (await client.get("/tell")).status == 200

    visit(wsgi.port, site["tls_cert"], story)
    assert all(not ticket.max_early_data_size for ticket in tickets)


def test_row_43_a_client_whose_port_changes(wsgi, site):
    async def story(client):
        for _ in range(3):
            assert (await client.get("/tell")).status == 200
            await client.move()
        body = bytes(500_000)
        assert told(await client.ask("POST", "/tell", body))["body"]["length"] == 500_000

    visit(wsgi.port, site["tls_cert"], story)


def test_a_name_that_nobody_has_is_refused(wsgi, site):
    with pytest.raises(ConnectionError):
        visit(wsgi.port, site["tls_cert"], lambda client: client.get("/tell"), name="other.test")


def test_answers_over_tls_tell_of_it(wsgi, site):
    def over_tcp():
        context = ssl.create_default_context(cafile=site["tls_cert"])
        client = http.client.HTTPSConnection("localhost", wsgi.port, context=context, timeout=20)
        for path in ("/tell", "/static/small.txt", "/status/404"):
            client.request("GET", path)
            answer = client.getresponse()
            answer.read()
            yield answer.getheader("Alt-Svc")

    assert set(over_tcp()) == {f'h3=":{wsgi.port}"; ma=86400'}

    async def story(client):
        assert (await client.get("/tell")).get("alt-svc") is None

    visit(wsgi.port, site["tls_cert"], story)


def test_it_is_off_by_default(stand, site):
    server = stand.serve(tls_cert=site["tls_cert"], tls_key=site["tls_key"])
    context = ssl.create_default_context(cafile=site["tls_cert"])
    client = http.client.HTTPSConnection("localhost", server.port, context=context, timeout=20)
    client.request("GET", "/tell")
    assert client.getresponse().getheader("Alt-Svc") is None


def test_plain_http_tells_nothing_of_it(stand, site):
    """`Alt-Svc` is for the addresses that have HTTP/3, in both versions that are not it."""
    server = stand.serve(**site | {"bind": ["127.0.0.1:0", "http://127.0.0.1:0"]})
    secure = next(url for url in server.addresses if url.startswith("https"))
    plain = next(url for url in server.addresses if url.startswith("http:"))
    port = secure.rpartition(":")[2]
    for version in "--http1.1", "--http2":
        asked = ["curl", "-sS", version, "--cacert", site["tls_cert"], "--resolve", f"localhost:{port}:127.0.0.1", "-D-", "-o", os.devnull]
        ran = subprocess.run([*asked, f"https://localhost:{port}/tell"], capture_output=True, text=True, timeout=20)
        assert f'alt-svc: h3=":{port}"; ma=86400' in ran.stdout.lower(), ran
    ran = subprocess.run(["curl", "-sS", "-D-", "-o", os.devnull, f"{plain}/tell"], capture_output=True, text=True, timeout=20)
    assert "alt-svc" not in ran.stdout.lower() and ran.stdout, ran


def test_a_reload_turns_it_off_and_on(stand, site):
    """Off: clients are told to go, and nothing tells of it. On again while the last of them is still here."""

    def configure(http3):
        lines = [f"{name} = {json.dumps(str(value))}" for name, value in site.items() if name != "http3"]
        (stand.folder / "bandstand.toml").write_text("\n".join([*lines, f"http3 = {http3}"]) + "\n")

    def offer():
        context = ssl.create_default_context(cafile=site["tls_cert"])
        client = http.client.HTTPSConnection("localhost", server.port, context=context, timeout=20)
        client.request("GET", "/tell")
        return client.getresponse().getheader("Alt-Svc")

    def reload(http3, generation):
        configure(http3)
        server.signal(signal.SIGHUP)
        server.wait_text(f"generation {generation} serves")

    configure("true")
    server = stand.serve()
    gate = stand.gate("held")
    assert offer()

    async def story(client):
        stream = client.begin(headers(client.head("GET", "/gate/held")), True)
        await asyncio.to_thread(gate.reached)
        await asyncio.to_thread(reload, "false", 2)
        await asyncio.wait_for(client.went_away.wait(), 20)
        assert await asyncio.to_thread(offer) is None
        await asyncio.to_thread(reload, "true", 3)
        assert await asyncio.to_thread(offer)
        async with connection(server.port, site["tls_cert"]) as other:
            assert (await other.get("/tell")).status == 200
        await asyncio.to_thread(gate.open)
        assert (await client.reply(stream)).status == 200
        assert await client.end() == NO_ERROR

    visit(server.port, site["tls_cert"], story)
    reload("false", 4)

    def is_free():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taker:
            try:
                taker.bind(("127.0.0.1", server.port))
                return True
            except OSError:
                return False

    eventually(is_free, "the end of the socket")
    reload("true", 5)
    assert visit(server.port, site["tls_cert"], lambda client: client.get("/tell")).status == 200


def test_both_families_of_addresses(stand, site):
    """One socket for IPv6 and IPv4: each client is answered from the address that it asked, and known by its own."""
    server = stand.serve(**site | {"bind": ":0"})
    for host, seen in ("127.0.0.1", "127.0.0.1"), ("::1", "::1"):
        reply = visit(server.port, site["tls_cert"], lambda client: client.get("/tell"), host=host)
        assert told(reply)["environ"]["REMOTE_ADDR"] == seen


def test_a_udp_port_that_somebody_has(stand, site):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        outcome = refused("probe:app", stand.folder, bind=f"127.0.0.1:{port}", **site)
    assert outcome.returncode == 1 and f"udp 127.0.0.1:{port}" in outcome.stdout


def test_a_stop_finishes_what_runs(stand, site):
    server = stand.serve(**site)
    gate = stand.gate("last")

    async def story(client):
        assert (await client.get("/tell")).status == 200
        stream = client.begin(headers(client.head("GET", "/gate/last")), True)
        await asyncio.to_thread(gate.reached)
        server.signal(signal.SIGTERM)
        await asyncio.wait_for(client.went_away.wait(), 20)
        await asyncio.to_thread(gate.open)
        assert (await client.reply(stream)).status == 200
        assert await client.end() == NO_ERROR

    visit(server.port, site["tls_cert"], story)
    assert server.exit_status() == 0


def test_a_reload_keeps_connections_and_shows_the_new_certificate(stand, site):
    chain, key = certificate(stand.folder, "localhost")
    server = stand.serve(tls_cert=chain, tls_key=key, http3="on")
    old = chain.read_bytes()

    async def story(client):
        assert (await client.get("/tell")).status == 200
        certificate(stand.folder, "localhost")
        server.signal(signal.SIGHUP)
        await asyncio.to_thread(server.wait_text, "generation 2 serves")
        assert (await client.get("/tell")).status == 200

    visit(server.port, chain, story)
    assert chain.read_bytes() != old
    assert visit(server.port, chain, lambda client: client.get("/tell")).status == 200


def test_an_upgrade_in_place_keeps_serving(stand, site):
    """USR2: the new program has the same UDP socket; a client of the old one is told to go, and comes back to the new."""
    pid_file = stand.folder / "pid"
    server = stand.serve(pid=pid_file, **site)
    gate = stand.gate("upgraded")

    async def story(client):
        stream = client.begin(headers(client.head("GET", "/gate/upgraded")), True)
        await asyncio.to_thread(gate.reached)
        server.signal(signal.SIGUSR2)
        await asyncio.wait_for(client.went_away.wait(), 60)
        await asyncio.to_thread(gate.open)
        assert (await client.reply(stream)).status == 200
        assert await client.end() == NO_ERROR

    visit(server.port, site["tls_cert"], story)
    assert server.exit_status() == 0
    heir = int(pid_file.read_text())
    assert heir != server.process.pid
    try:
        assert visit(server.port, site["tls_cert"], lambda client: client.get("/tell")).status == 200
    finally:
        os.kill(heir, signal.SIGTERM)
        eventually(lambda: not Path(f"/proc/{heir}").exists(), "the end of the heir")
