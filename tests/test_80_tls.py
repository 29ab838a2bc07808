"""TLS with own certificates, and the PROXY protocol. Numbers are rows of part 2 of the checklist."""

import asyncio
import hashlib
import os
import signal
import socket
import ssl
import struct

import pytest
from certificates import Authority
from client import Wire, eventually, request
from server import refused

AUTHORITY = Authority()


def serve(stand, *pairs, app="probe:app", **settings):
    """A server with these `(cert, key)` files."""
    certs = {"tls_cert": [cert for cert, _ in pairs], "tls_key": [key for _, key in pairs if key]}
    return stand.serve(app, **({"workers": 1, "redirect_https": "off"} | certs | settings))


def secure(server, name="shop.example", context=None, session=None, before=b"", timeout=20.0) -> Wire:
    """A connection after its handshake; `before` is sent in front of it."""
    wire = Wire(("127.0.0.1", server.port), timeout=timeout)
    if before:
        wire.send(before)
    context = context or AUTHORITY.client()
    try:
        wire.socket = context.wrap_socket(wire.socket, server_hostname=name, session=session)
    except BaseException:
        wire.socket.close()
        raise
    return wire


def get(server, target="/", name="shop.example", fields=(), **kwargs):
    with secure(server, name, **kwargs) as wire:
        return wire.send(request("GET", target, {"Host": name or "shop.example", **dict(fields)})).answer()


def shown(server, name, **kwargs) -> set[str]:
    """The names of the certificate that is shown to who asks for `name`."""
    with secure(server, name, **kwargs) as wire:
        return {value for _, value in wire.socket.getpeercert()["subjectAltName"]}


@pytest.fixture(scope="module")
def shop(module_stand):
    """One name, one certificate."""
    return serve(module_stand, AUTHORITY.put(module_stand.folder / "shop", "shop.example", "127.0.0.1"))


@pytest.fixture(scope="module")
def many(module_stand):
    folder = module_stand.folder / "many"
    pairs = [AUTHORITY.put(folder, name, file=f"{number}") for number, name in enumerate(["shop.example", "*.shop.example", "other.example"])]
    return serve(module_stand, *pairs)


def test_the_app_is_told(shop):
    answer = get(shop, "/a?b").json()["environ"]
    assert (answer["wsgi.url_scheme"], answer["HTTPS"], answer["SSL_PROTOCOL"]) == ("https", "on", "TLSv1.3")
    assert answer["SSL_CIPHER"].startswith("TLS_") and answer["SSL_CLIENT_VERIFY"] == "NONE"
    assert "SSL_CLIENT_S_DN" not in answer
    record = shop.wait_record("/a")
    assert (record["tls"], record["scheme"], record["protocol"]) == ("TLSv1.3", "https", "HTTP/1.1")
    assert shop.addresses == [f"https://127.0.0.1:{shop.port}"]


def test_the_app_is_told_over_asgi(stand):
    server = serve(stand, AUTHORITY.put(stand.folder, "shop.example"), app="asgi_probe:app")
    told = get(server, "/").json()["scope"]
    assert told["scheme"] == "https"
    tls = told["extensions"]["tls"]
    assert tls["tls_version"] == 0x0304 and tls["cipher_suite"] in (0x1301, 0x1302, 0x1303)
    assert (tls["client_cert_chain"], tls["client_cert_name"], tls["client_cert_error"], tls["server_cert"]) == ([], None, None, None)


@pytest.mark.parametrize(
    "name, wanted",
    [
        ("shop.example", "shop.example"),
        ("SHOP.example", "shop.example"),
        ("www.shop.example", "*.shop.example"),
        ("other.example", "other.example"),
    ],
)
def test_the_certificate_of_the_name(many, name, wanted):
    assert shown(many, name) == {wanted}


def test_without_a_name_the_first_answers(many):
    context = AUTHORITY.client()
    context.check_hostname = False
    assert shown(many, None, context=context) == {"shop.example"}


@pytest.mark.parametrize("name", ["unknown.example", "a.b.shop.example", "example"])
def test_row_16_an_unknown_name_is_refused(many, name):
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        secure(many, name)


def test_row_16_another_host_than_the_name_of_the_handshake(many):
    """The certificate that was shown is not for it: another server was meant."""
    with secure(many, "other.example") as wire:
        assert wire.send(request("GET", "/misled", {"Host": "shop.example"})).answer().status == 421


def test_ecdsa_first_and_rsa_for_who_knows_nothing_else(stand):
    pairs = [AUTHORITY.put(stand.folder, "shop.example", file=kind, rsa_key=kind == "rsa") for kind in ("rsa", "ec")]
    server = serve(stand, *pairs)
    context = AUTHORITY.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with secure(server, context=context) as wire:
        assert "ECDSA" in wire.socket.cipher()[0]
    context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    assert get(server, context=context).json()["environ"]["SSL_CIPHER"] == "ECDHE-RSA-AES128-GCM-SHA256"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_is_resumed(shop, version):
    context = AUTHORITY.client()
    context.minimum_version = context.maximum_version = version
    with secure(shop, context=context) as wire:
        assert wire.send(request("GET", "/-/live", {"Host": "shop.example"})).answer().status == 200
        assert not wire.socket.session_reused
        session = wire.socket.session
    with secure(shop, context=context, session=session) as wire:
        assert wire.socket.session_reused
        assert wire.send(request("GET", "/-/live", {"Host": "shop.example"})).answer().status == 200


def test_row_33_a_session_is_not_resumed_under_another_name(many):
    context = AUTHORITY.client()
    with secure(many, "shop.example", context=context) as wire:
        wire.send(request("GET", "/-/live", {"Host": "shop.example"})).answer()
        session = wire.socket.session
    with secure(many, "other.example", context=context, session=session) as wire:
        assert not wire.socket.session_reused


def test_row_33_a_session_does_not_outlive_another_policy(stand):
    """What was agreed on without a certificate counts for nothing once one is wanted."""
    settings = stand.folder / "bandstand.toml"
    pair = AUTHORITY.put(stand.folder, "shop.example")
    written = f'tls_cert = "{pair[0]}"\ntls_key = "{pair[1]}"\n'
    settings.write_text(written)
    server = stand.serve(workers=1, redirect_https="off", config=settings)
    context = AUTHORITY.client()
    with secure(server, context=context) as wire:
        wire.send(request("GET", "/-/live", {"Host": "shop.example"})).answer()
        session = wire.socket.session
    settings.write_text(f'{written}client_ca = "{AUTHORITY.write(stand.folder / "ca.pem")}"\n')
    server.signal(signal.SIGHUP)
    server.wait_text("generation 2 serves")
    with pytest.raises((ssl.SSLError, AssertionError, ConnectionError)):
        with secure(server, context=context, session=session) as wire:
            wire.send(request("GET", "/-/live", {"Host": "shop.example"})).answer()


def test_row_32_old_versions_are_refused(shop):
    hello = bytes.fromhex("16030100310100002d0301" + "11" * 32 + "000006002f0035000a0100" + "")
    for version in (b"\x03\x00", b"\x03\x01", b"\x03\x02"):
        with Wire(("127.0.0.1", shop.port)) as wire:
            answer = wire.try_send(hello[:9] + version + hello[11:]).rest()
            assert answer[:1] == b"\x15" and answer[5:6] == b"\x02", answer


def test_row_32_a_handshake_has_its_time(stand):
    server = serve(stand, AUTHORITY.put(stand.folder, "shop.example"), tls_handshake_timeout="1s")
    for start in (b"", b"\x16", b"\x16\x03\x01\x02\x00\x01"):
        with Wire(("127.0.0.1", server.port)) as wire:
            wire.send(start)
            assert wire.rest() == b""
    assert get(server).status == 200


def test_row_32_one_handshake_too_many_is_closed_at_once(stand):
    server = serve(stand, AUTHORITY.put(stand.folder, "shop.example"), tls_handshakes=1, tls_handshake_timeout="60s")
    with Wire(("127.0.0.1", server.port)) as silent, Wire(("127.0.0.1", server.port)) as slow, Wire(("127.0.0.1", server.port)) as late:
        assert get(server).status == 200, "who says nothing takes no place"
        slow.send(b"\x16")
        late.send(b"\x16")
        ends = [wire for wire in (slow, late) if _is_closed(wire)] or [eventually(lambda: next(filter(_is_closed, (slow, late)), None), "one of both closed")]
        assert len(ends) == 1
        other = late if ends[0] is slow else slow
        other.socket.close()
        eventually(lambda: _works(server), "a place free again")
        silent.socket.close()


def _is_closed(wire) -> bool:
    wire.socket.setblocking(False)
    try:
        return wire.socket.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    finally:
        wire.socket.settimeout(20)


def _works(server) -> bool:
    try:
        return get(server).status == 200
    except (OSError, ssl.SSLError):
        return False


def test_plain_http_where_tls_is_spoken(stand):
    server = serve(stand, AUTHORITY.put(stand.folder, "shop.example"), domains="shop.example", acme_directory="https://127.0.0.1:1/", state_dir=stand.folder / "state")
    host = f"shop.example:{server.port}"
    answer = server.request("GET", "/a?b", {"Host": host})
    assert (answer.status, answer.get("Location")) == (301, f"https://{host}/a?b")
    answer = server.request("POST", "/a", {"Host": host}, body=b"x")
    assert (answer.status, answer.get("Location")) == (308, f"https://{host}/a")
    with server.wire() as wire:
        wire.send(request("POST", "/large", {"Host": host, "Content-Length": "400000"}) + bytes(400_000))
        answer = wire.answer("POST")
        assert answer.status == 308, "the body does not take the answer away"
    answer = server.get("/a", {"Host": "evil.example"})
    assert answer.status == 400 and answer.get("Location") is None
    assert server.raw(b"\x80\x2e\x01\x03\x01") == b""
    assert stand.seen() == []


def test_row_32_no_cipher_in_common(many):
    """`handshake_failure`, and not `access_denied`: that is what there is to say."""
    context = AUTHORITY.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA")
    with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
        secure(many, context=context)


@pytest.mark.parametrize(
    "offered, wanted",
    [
        ("ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-GCM-SHA256"),
        ("ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"),
    ],
)
def test_the_server_chooses_the_cipher(shop, offered, wanted):
    """But for a client without hardware for AES, which puts ChaCha20 first."""
    context = AUTHORITY.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(offered)
    with secure(shop, context=context) as wire:
        assert wire.socket.cipher()[0] == wanted


def test_keep_alive_uploads_and_downloads(shop, tmp_path):
    upload = os.urandom(3_000_000)
    with secure(shop) as wire:
        for size in (0, 1, 16_384, 16_385, 200_000, len(upload)):
            body = upload[:size]
            told = wire.send(request("POST", "/", {"Host": "shop.example"}, body)).answer("POST").json()["body"]
            assert (told["length"], told["sha256"]) == (size, hashlib.sha256(body).hexdigest())


@pytest.mark.parametrize("politely", [True, False])
@pytest.mark.parametrize("framing", [{"Content-Length": "100"}, {"Transfer-Encoding": "chunked"}])
def test_row_27_a_body_that_is_cut(shop, framing, politely):
    """By `close_notify`, or by a socket that only closes: neither is the end of a body, and the app is not asked."""
    with secure(shop) as wire:
        path = f"/cut-{politely}-{'chunked' if 'Transfer-Encoding' in framing else 'length'}"
        wire.send(request("POST", path, {"Host": "shop.example", **framing}) + b"5\r\nhello\r\n")
        if politely:
            wire.socket.suppress_ragged_eofs = False
            wire.socket.settimeout(20)
            with pytest.raises(ssl.SSLError, match="APPLICATION_DATA_AFTER_CLOSE_NOTIFY"):
                wire.socket.unwrap()
        else:
            socket.socket.shutdown(wire.socket, socket.SHUT_WR)
            assert wire.answer("POST").status == 400
    assert shop.wait_record(path)["status"] == 400


@pytest.mark.parametrize("size", [0, 1, 16_384, 70_000, 10_000_001])
def test_files_arrive_whole(stand, size):
    folder = stand.folder / "media"
    folder.mkdir()
    content = os.urandom(size)
    (folder / "file.bin").write_bytes(content)
    server = serve(stand, AUTHORITY.put(stand.folder, "shop.example"), media=f"/media/={folder}")
    with secure(server) as wire:
        for _ in range(2):
            answer = wire.send(request("GET", "/media/file.bin", {"Host": "shop.example"})).answer()
            assert answer.status == 200 and hashlib.sha256(answer.body).digest() == hashlib.sha256(content).digest()
        if size > 1:
            answer = wire.send(request("GET", "/media/file.bin", {"Host": "shop.example", "Range": f"bytes=1-{size - 1}"})).answer()
            assert answer.status == 206 and answer.body == content[1:]


def test_a_slow_client_gets_all_of_it(stand):
    """More than all buffers hold, taken late."""
    folder = stand.folder / "media"
    folder.mkdir()
    content = os.urandom(20_000_000)
    (folder / "file.bin").write_bytes(content)
    server = serve(stand, AUTHORITY.put(stand.folder, "shop.example"), media=f"/media/={folder}")
    with secure(server) as wire:
        wire.send(request("GET", "/media/file.bin", {"Host": "shop.example"}))
        # Others are served while it takes nothing.
        assert all(get(server, f"/{number}").status == 200 for number in range(20))
        assert wire.answer().body == content


def test_the_end_is_a_good_one(shop):
    """close_notify: a client that minds truncation is content."""
    with secure(shop) as wire:
        wire.socket.suppress_ragged_eofs = False
        wire.send(request("GET", "/", {"Host": "shop.example", "Connection": "close"}))
        assert wire.answer().status == 200
        assert wire.socket.recv(1) == b""


def test_a_new_certificate_is_served_without_a_restart(stand):
    pair = AUTHORITY.put(stand.folder, "shop.example")
    server = serve(stand, pair)
    assert shown(server, "shop.example") == {"shop.example"}
    with secure(server) as open_before:
        AUTHORITY.put(stand.folder, "shop.example", "new.example")
        eventually(lambda: shown(server, "shop.example") == {"shop.example", "new.example"}, "the new certificate")
        assert open_before.send(request("GET", "/", {"Host": "shop.example"})).answer().status == 200
    # A key that does not fit is told, and the pair before it stays.
    pair[1].write_text(AUTHORITY.issue("shop.example")[1])
    server.wait_text("the one before it stays")
    assert shown(server, "shop.example") == {"shop.example", "new.example"}


def test_a_certbot_tree_is_read_in_place(stand):
    live = stand.folder / "letsencrypt" / "live"
    archive = stand.folder / "letsencrypt" / "archive"

    def issue(name, number):
        cert, key = AUTHORITY.put(archive / name, name, file=f"x{number}")
        (live / name).mkdir(parents=True, exist_ok=True)
        for path, link in ((cert, "fullchain.pem"), (key, "privkey.pem")):
            (live / name / f"{link}.new").symlink_to(path)
            (live / name / f"{link}.new").rename(live / name / link)
        return cert

    issue("a.example", 1)
    issue("b.example", 1)
    server = serve(stand, (live, None))
    assert shown(server, "a.example") == {"a.example"} and shown(server, "b.example") == {"b.example"}
    serial = ssl.PEM_cert_to_DER_cert(issue("a.example", 2).read_text())

    def is_new():
        with secure(server, "a.example") as wire:
            return wire.socket.getpeercert(binary_form=True) == serial

    eventually(is_new, "the renewed certificate")


@pytest.mark.parametrize("mode", ["required", "optional"])
def test_certificates_of_clients(stand, mode):
    ca = AUTHORITY.write(stand.folder / "ca.pem")
    alice = AUTHORITY.put(stand.folder, subject="alice", file="alice")
    server = serve(stand, AUTHORITY.put(stand.folder, "shop.example"), client_ca=ca, client_cert=mode)
    told = get(server, context=AUTHORITY.client(cert=alice)).json()["environ"]
    assert (told["SSL_CLIENT_VERIFY"], told["SSL_CLIENT_S_DN"]) == ("SUCCESS", "CN=alice,O=Shop\\, Ltd")
    assert told["SSL_CLIENT_I_DN"] == "CN=Test Authority"
    assert ssl.PEM_cert_to_DER_cert(told["SSL_CLIENT_CERT"]) == ssl.PEM_cert_to_DER_cert(alice[0].read_text())
    assert int(told["SSL_CLIENT_M_SERIAL"], 16) > 0
    stranger = Authority("Another").put(stand.folder, subject="mallory", file="mallory")
    with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
        get(server, context=AUTHORITY.client(cert=stranger))
    if mode == "optional":
        assert get(server).json()["environ"]["SSL_CLIENT_VERIFY"] == "NONE"
    else:
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError)):
            get(server)
    # Nobody can claim it: these are fields of the request, and become no variables of TLS.
    forged = get(server, fields={"SSL-Client-S-DN": "CN=root", "Ssl-Client-Verify": "SUCCESS"}, context=AUTHORITY.client(cert=alice)).json()["environ"]
    assert forged["SSL_CLIENT_S_DN"].startswith("CN=alice") and forged["HTTP_SSL_CLIENT_S_DN"] == "CN=root"


def test_certificates_of_clients_over_asgi(stand):
    ca = AUTHORITY.write(stand.folder / "ca.pem")
    alice = AUTHORITY.put(stand.folder, subject="alice", file="alice")
    server = serve(stand, AUTHORITY.put(stand.folder, "shop.example"), app="asgi_probe:app", client_ca=ca)
    tls = get(server, context=AUTHORITY.client(cert=alice)).json()["scope"]["extensions"]["tls"]
    assert tls["client_cert_name"] == "CN=alice,O=Shop\\, Ltd"
    assert [ssl.PEM_cert_to_DER_cert(pem) for pem in tls["client_cert_chain"]] == [ssl.PEM_cert_to_DER_cert(alice[0].read_text())]


@pytest.mark.parametrize(
    "broken, sentence",
    [
        ({"tls_key": "other.key"}, "belongs to another certificate"),
        ({"tls_cert": "missing.pem"}, "missing.pem"),
        ({"tls_cert": "empty.pem"}, "there is no certificate"),
        ({"client_ca": "empty.pem"}, "there is no certificate"),
    ],
)
def test_what_cannot_be_used_is_said_at_the_start(tmp_path, broken, sentence):
    cert, key = AUTHORITY.put(tmp_path, "shop.example")
    AUTHORITY.put(tmp_path, "shop.example", file="other")
    (tmp_path / "empty.pem").write_text("")
    settings = {"tls_cert": cert, "tls_key": key} | {name: tmp_path / file for name, file in broken.items()}
    ran = refused("probe:app", tmp_path, pythonpath=os.path.join(os.path.dirname(__file__), "apps"), **settings)
    assert ran.returncode in (1, 2) and sentence in ran.stdout, ran.stdout


def test_a_reload_with_a_broken_certificate_changes_nothing(stand):
    pair = AUTHORITY.put(stand.folder, "shop.example")
    server = serve(stand, pair)
    pair[0].write_text("nothing")
    server.signal(signal.SIGHUP)
    server.wait_text("the reload failed")
    assert shown(server, "shop.example") == {"shop.example"}
    AUTHORITY.put(stand.folder, "shop.example", "new.example")
    server.signal(signal.SIGHUP)
    server.wait_text("generation 2 serves")
    assert shown(server, "shop.example") == {"shop.example", "new.example"}


def test_a_stop_finishes_what_runs(stand):
    server = serve(stand, AUTHORITY.put(stand.folder, "shop.example"))
    gate = stand.gate("slow")
    with secure(server) as wire:
        wire.send(request("GET", "/gate/slow", {"Host": "shop.example"}))
        gate.reached()
        server.signal(signal.SIGTERM)
        server.wait_text("stop")
        gate.open()
        answer = wire.answer()
        assert answer.status == 200 and answer.closes
    assert server.exit_status() == 0


def test_a_stop_does_not_wait_for_who_says_nothing(stand):
    """A browser opens connections before it needs them."""
    server = serve(stand, AUTHORITY.put(stand.folder, "shop.example"), tls_handshake_timeout="10m", graceful_timeout="10m")
    with Wire(("127.0.0.1", server.port)) as silent:
        assert get(server).status == 200
        server.signal(signal.SIGTERM)
        assert silent.rest() == b""
        assert server.exit_status() == 0


def test_a_websocket_over_tls(stand):
    """Several one after the other. The client is one of asyncio: one thread, because two must not share an OpenSSL connection."""
    from websockets.asyncio.client import connect

    server = serve(stand, AUTHORITY.put(stand.folder, "127.0.0.1"), app="asgi_socket:app")
    context = AUTHORITY.client()

    async def talk():
        async with connect(f"wss://127.0.0.1:{server.port}/echo", ssl=context) as peer:
            for message in ("hello", b"\x00" * 300_000):
                await peer.send(message)
                assert await asyncio.wait_for(peer.recv(), 20) == message

    async def all_of_them():
        for _ in range(10):
            await asyncio.gather(*(talk() for _ in range(4)))

    asyncio.run(all_of_them())


def v1(source="192.0.2.7", port=4711) -> bytes:
    return f"PROXY TCP4 {source} 127.0.0.1 {port} 443\r\n".encode()


def v2(source="192.0.2.7", port=4711, extensions=b"") -> bytes:
    ends = socket.inet_aton(source) + socket.inet_aton("127.0.0.1") + struct.pack(">HH", port, 443) + extensions
    return b"\r\n\r\n\x00\r\nQUIT\n\x21\x11" + struct.pack(">H", len(ends)) + ends


LOCAL = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"


@pytest.fixture(scope="module")
def proxied(module_stand):
    return module_stand.serve(workers=1, proxy_protocol="on", trusted_proxies="127.0.0.1")


@pytest.mark.parametrize("header", [v1(), v2(), v2(extensions=b"\x02\x00\x0cshop.example")])
def test_a_proxy_says_who_the_client_is(proxied, header):
    with proxied.wire() as wire:
        told = wire.send(header + request("GET", "/")).answer().json()["environ"]
        assert (told["REMOTE_ADDR"], told["REMOTE_PORT"]) == ("192.0.2.7", "4711")
        # What the client says of itself is still nothing: it is no trusted proxy.
        told = wire.send(request("GET", "/", {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https"})).answer().json()["environ"]
        assert (told["REMOTE_ADDR"], told["wsgi.url_scheme"]) == ("192.0.2.7", "http")


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n"])
def test_a_proxy_speaks_for_itself(proxied, header):
    with proxied.wire() as wire:
        assert wire.send(header + request("GET", "/")).answer().json()["environ"]["REMOTE_ADDR"] == "127.0.0.1"


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"PROXY TCP4 a b c d\r\n", b"\r\n\r\n\x00\r\nQUIT\n\x31\x11\x00\x00"])
def test_row_65_a_trusted_proxy_without_its_header(proxied, start):
    assert proxied.raw(start) == b""


def test_row_65_a_stranger_with_a_header(proxied):
    with Wire(proxied.address, source="127.0.0.2") as wire:
        assert wire.try_send(v1() + request("GET", "/")).rest() == b""


def test_row_65_half_a_header(proxied):
    """It is waited for, five seconds, and meanwhile others are served."""
    with proxied.wire() as wire:
        wire.send(v1()[:20])
        with proxied.wire() as other:
            assert other.send(v1() + request("GET", "/")).answer().status == 200
        assert wire.rest() == b""


def test_row_65_half_a_header_and_the_end(proxied):
    """All that comes has come: nobody waits for the rest, and nothing spins meanwhile."""
    for header in (v1()[:20], v1()[:-1], v2()[:14], v2()[:-1]):
        with proxied.wire() as wire, proxied.wire() as other:
            wire.send(header).socket.shutdown(socket.SHUT_WR)
            assert wire.rest() == b""
            assert other.send(v1() + request("GET", "/")).answer().status == 200


def test_a_proxy_in_front_of_tls(stand):
    server = serve(stand, AUTHORITY.put(stand.folder, "shop.example"), proxy_protocol="on", trusted_proxies="127.0.0.1")
    for header in (v1(), v2()):
        told = get(server, before=header).json()["environ"]
        assert (told["REMOTE_ADDR"], told["HTTPS"]) == ("192.0.2.7", "on")


def test_shares_of_connections_are_those_of_the_true_clients(stand):
    server = stand.serve(workers=1, proxy_protocol="on", trusted_proxies="127.0.0.1", max_connections_per_ip=1)
    with server.wire() as first, server.wire() as second, server.wire() as other:
        assert first.send(v1() + request("GET", "/")).answer().status == 200
        assert second.try_send(v1() + request("GET", "/")).rest() == b""
        assert other.send(v1("192.0.2.8") + request("GET", "/")).answer().status == 200
