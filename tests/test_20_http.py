"""TABLE of malformed requests: each is refused, the connection ends, and what was hidden behind it is never answered.

The number in a row is its row in the list of inputs of the checklist (part 2). `head` is sent as it stands, a request for
/smuggled/… follows in the same write. Neither it nor the refused request may reach the app.
"""

import hashlib
import itertools
import re

import pytest

from client import chunks, request

END = b"\r\n\r\n"
POST = b"POST /victim HTTP/1.1\r\nHost: localhost\r\n"
GET = b"GET /victim HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

REFUSED = [
    # number, name, bytes, statuses
    (1, "length and chunked", POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
    (1, "chunked and length", POST + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", {400}),
    (1, "length 0 and chunked", POST + b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
    (1, "length and identity", POST + b"Content-Length: 5\r\nTransfer-Encoding: identity\r\n\r\nhello", {400, 501}),
    (2, "two lengths", POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", {400}),
    (2, "two equal lengths", POST + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", {400}),
    (2, "length list", POST + b"Content-Length: 5, 6\r\n\r\nhello!", {400}),
    (2, "equal length list", POST + b"Content-Length: 5, 5\r\n\r\nhello", {400}),
    *(
        (3, f"length {length!r}", POST + b"Content-Length: " + length + END + b"hello", {400})
        for length in (b"+5", b"-1", b"0x5", b"1_0", b"", b" ", b"5 5", b"5;", b"5.0", b"1e3", b"\xb2", b"\xa05", b"99999999999999999999", b"18446744073709551621")
    ),
    *(
        (4, f"coding {coding!r}", POST + b"Transfer-Encoding: " + coding + END + b"0\r\n\r\n", {400, 501})
        for coding in (
            b"xchunked",
            b",chunked",
            b"chunked,",
            b"chunked, identity",
            b"chunked, chunked",
            b"identity",
            b"gzip",
            b"gzip, chunked",
            b"\xa0chunked",
            b"\x0bchunked",
            b"chunked\x00",
            b'"chunked"',
            b"chunked;q=1",
            b"chunked chunked",
            b"",
        )
    ),
    (5, "two codings", POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
    (5, "identity then chunked", POST + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400, 501}),
    (5, "chunked in 1.0", b"POST /victim HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
    (5, "chunked in 1.0 with keep-alive", b"POST /victim HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
    *(
        (6, f"chunk size {size!r}", CHUNKED + size + b"\r\nhello\r\n0\r\n\r\n", {400})
        for size in (b"0x5", b"5_0", b" 5", b"\t5", b"", b"-5", b"+5", b"5 5", b"g", b"5,", b"\xb5", b"10000000000000005", b"fffffffffffffffff", b"5\x00", b";x")
    ),
    (7, "chunk ended by CR X", CHUNKED + b"5\r\nhello\rX0\r\n\r\n", {400}),
    (7, "chunk ended by LF", CHUNKED + b"5\r\nhello\n0\r\n\r\n", {400}),
    (7, "chunk ended by other bytes", CHUNKED + b"5\r\nhelloXX0\r\n\r\n", {400}),
    (7, "chunk longer than said", CHUNKED + b"4\r\nhello\r\n0\r\n\r\n", {400}),
    (7, "size ended by LF", CHUNKED + b"5\nhello\r\n0\r\n\r\n", {400}),
    (7, "size ended by CR", CHUNKED + b"5\rhello\r\n0\r\n\r\n", {400}),
    (7, "size ended by CR X", CHUNKED + b"5\rXhello\r\n0\r\n\r\n", {400}),
    (7, "last chunk ended by LF", CHUNKED + b"5\r\nhello\r\n0\n\n", {400}),
    (7, "trailers ended by LF", CHUNKED + b"5\r\nhello\r\n0\r\n\n", {400}),
    (8, "extension of 64 KiB", CHUNKED + b"5;" + b"x" * 65536 + b"\r\nhello\r\n0\r\n\r\n", {400}),
    (8, "extensions of 64 KiB in all", CHUNKED + b"1;" * 1 + b"x" * 60 + b"\r\nh\r\n" + (b"1;" + b"x" * 60 + b"\r\nh\r\n") * 1100 + b"0\r\n\r\n", {400}),
    (8, "CR in extension", CHUNKED + b"5;a\rb\r\nhello\r\n0\r\n\r\n", {400}),
    (8, "LF in extension", CHUNKED + b"5;a\nb\r\nhello\r\n0\r\n\r\n", {400}),
    (8, "NUL in extension", CHUNKED + b"5;a\0b\r\nhello\r\n0\r\n\r\n", {400}),
    (9, "trailer without colon", CHUNKED + b"0\r\nnonsense\r\n\r\n", {400}),
    (9, "trailer with space before colon", CHUNKED + b"0\r\nX-A : 1\r\n\r\n", {400}),
    (9, "folded trailer", CHUNKED + b"0\r\nX-A: 1\r\n 2\r\n\r\n", {400}),
    (9, "trailers of 64 KiB", CHUNKED + b"0\r\nX-A: " + b"x" * 65536 + b"\r\n\r\n", {400, 431}),
    (10, "LF as line end", b"GET /victim HTTP/1.1\nHost: localhost\n\n", {400}),
    (10, "LF after request line", b"GET /victim HTTP/1.1\nHost: localhost\r\n\r\n", {400}),
    (10, "LF after field", b"GET /victim HTTP/1.1\r\nHost: localhost\nX-A: 1\r\n\r\n", {400}),
    (10, "LF for the empty line", GET + b"\n", {400}),
    (10, "LF LF at the end", b"GET /victim HTTP/1.1\r\nHost: localhost\n\n", {400}),
    (10, "CR as line end", b"GET /victim HTTP/1.1\rHost: localhost\r\r", {400}),
    (10, "CR in value", GET + b"X-A: 1\rX-B: 2\r\n\r\n", {400}),
    (10, "CR CR LF", GET + b"X-A: 1\r\r\n\r\n", {400}),
    (10, "folded field", GET + b"X-A: 1\r\n 2\r\n\r\n", {400}),
    (10, "field folded by tab", GET + b"X-A: 1\r\n\t2\r\n\r\n", {400}),
    (10, "folded coding", POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", {400}),
    (11, "space before colon", POST + b"Content-Length : 5\r\n\r\nhello", {400}),
    (11, "tab before colon", GET + b"X-A\t: 1\r\n\r\n", {400}),
    (11, "space before the first field", b"GET /victim HTTP/1.1\r\n Host: localhost\r\n\r\n", {400}),
    (11, "line of a space", b"GET /victim HTTP/1.1\r\n \r\nHost: localhost\r\n\r\n", {400}),
    (11, "no colon", GET + b"nonsense\r\n\r\n", {400}),
    (11, "empty name", GET + b": value\r\n\r\n", {400}),
    *(
        (12, f"{byte!r} in {place}", GET + (b"X-" + byte + b"A: 1" if place == "name" else b"X-A: 1" + byte + b"2") + END, {400})
        for place in ("name", "value")
        for byte in (b"\0", b"\x01", b"\x07", b"\x0b", b"\x0c", b"\x1b", b"\x7f")
    ),
    *((12, f"{byte!r} in name", GET + b"X" + byte + b"A: 1" + END, {400}) for byte in (b"(", b'"', b"/", b"@", b"[", b"\\", b"{", b"\xe9", b";", b",", b" ")),
    *((13, f"method {method!r}", method + b" /victim HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 501}) for method in (b"G(T", b"G\0T", b"G\xe9T", b"GET:", b"", b'"GET"', b"G" * 33, b"G" * 1024)),
    *(
        (13, f"version {version!r}", b"GET /victim " + version + b"\r\nHost: localhost\r\n\r\n", {400, 501, 505})
        for version in (b"HTTP/1.32", b"HTTP/2.0", b"HTTP/0.9", b"HTTP/3", b"HTTP/1", b"HTTP/1.", b"http/1.1", b"HTTP/01.1", b"HTTP/1.1x", b"HTTPS/1.1", b"ICY/1.1", b"HTTP/1,1", b"HTTP /1.1", b"HTTP/-1.1")
    ),
    (13, "no version", b"GET /victim\r\nHost: localhost\r\n\r\n", {400, 505}),
    (13, "two spaces before the target", b"GET  /victim HTTP/1.1\r\nHost: localhost\r\n\r\n", {400}),
    (13, "two spaces before the version", b"GET /victim  HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 505}),
    (13, "tab before the target", b"GET\t/victim HTTP/1.1\r\nHost: localhost\r\n\r\n", {400}),
    (13, "space after the version", b"GET /victim HTTP/1.1 \r\nHost: localhost\r\n\r\n", {400}),
    (13, "space before the method", b" GET /victim HTTP/1.1\r\nHost: localhost\r\n\r\n", {400}),
    (13, "space in the target", b"GET /victim x HTTP/1.1\r\nHost: localhost\r\n\r\n", {400, 505}),
    (13, "control byte in the target", b"GET /vic\x01tim HTTP/1.1\r\nHost: localhost\r\n\r\n", {400}),
    (13, "fragment in the target", b"GET /victim#x HTTP/1.1\r\nHost: localhost\r\n\r\n", {400}),
    (13, "relative target", b"GET victim HTTP/1.1\r\nHost: localhost\r\n\r\n", {400}),
    (13, "asterisk for GET", b"GET * HTTP/1.1\r\nHost: localhost\r\n\r\n", {400}),
    (13, "CONNECT", b"CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n", {400, 405, 501}),
    (13, "foreign scheme", b"GET ftp://localhost/victim HTTP/1.1\r\nHost: localhost\r\n\r\n", {400}),
    (13, "HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 501, 505}),
    (13, "TLS client hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64 + b"\r\n\r\n", {400}),
    (14, "request line of 9 KiB", b"GET /victim?" + b"x" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", {414}),
    (14, "request line without an end", b"GET /victim?" + b"x" * 70000, {414}),
    (14, "field of 17 KiB", GET + b"X-A: " + b"x" * 17000 + END, {431}),
    (14, "fields of 17 KiB", GET + b"".join(b"X-%d: " % n + b"x" * 1000 + b"\r\n" for n in range(17)) + b"\r\n", {431}),
    (14, "field without an end", GET + b"X-A: " + b"x" * 70000, {431}),
    (14, "name without an end", GET + b"X" * 70000, {431}),
    (14, "101 fields", GET + b"".join(b"X-%d: 1\r\n" % n for n in range(100)) + b"\r\n", {431}),
    (15, "no Host", b"GET /victim HTTP/1.1\r\nX-A: 1\r\n\r\n", {400}),
    (15, "two Hosts", GET + b"Host: localhost\r\n\r\n", {400}),
    (15, "two differing Hosts", GET + b"Host: evil.example\r\n\r\n", {400}),
    (15, "absolute target and two Hosts", b"GET http://localhost/victim HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", {400}),
    *(
        (15, f"Host {host!r}", b"GET /victim HTTP/1.1\r\nHost: " + host + END, {400})
        for host in (b"user@localhost", b"local host", b"localhost/x", b"localhost:x", b"localhost:99999", b"localhost:80:80", b"localhost, evil.example", b"[::1", b"[::g]", b":80", b"localhost?x", b"localhost#x", b"localhost\\x", b"a..b", b"\xe9.example", b"localhost%00")
    ),
    (15, "target with userinfo", b"GET http://user@localhost/victim HTTP/1.1\r\nHost: localhost\r\n\r\n", {400}),
    (15, "target without a host", b"GET http:///victim HTTP/1.1\r\nHost: localhost\r\n\r\n", {400}),
    (47, "two Content-Types", POST + b"Content-Type: text/plain\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello", {400}),
]

ACCEPTED = [
    # number, name, bytes, the body the app must have got
    (5, "chunked in another case", POST + b"Transfer-Encoding: Chunked\r\n\r\n" + chunks(b"hello"), b"hello"),
    (5, "chunked between tabs", POST + b"Transfer-Encoding:\tchunked \r\n\r\n" + chunks(b"hello"), b"hello"),
    (3, "length with leading zeros", POST + b"Content-Length: 0005\r\n\r\nhello", b"hello"),
    (3, "length 0", POST + b"Content-Length: 0\r\n\r\n", b""),
    (6, "chunk size with leading zeros", CHUNKED + b"0005\r\nhello\r\n0\r\n\r\n", b"hello"),
    (6, "chunk size in capitals", CHUNKED + b"A\r\n0123456789\r\n000\r\n\r\n", b"0123456789"),
    (8, "chunk extensions", CHUNKED + b'5;a=b;c="d e"\r\nhello\r\n0;last\r\n\r\n', b"hello"),
    (9, "a trailer", CHUNKED + b"5\r\nhello\r\n0\r\nX-Checksum: 1\r\n\r\n", b"hello"),
    (10, "an empty line before the request", b"\r\n" + GET + b"\r\n", b""),
    (12, "Latin-1 in a value", GET + b"X-A: caf\xe9\r\n\r\n", b""),
    (12, "tab in a value", GET + b"X-A: 1\t2\r\n\r\n", b""),
    (12, "empty value", GET + b"X-A:\r\n\r\n", b""),
    (13, "unknown method", b"PROPFIND /victim HTTP/1.1\r\nHost: localhost\r\n\r\n", b""),
    (13, "method of 32 bytes", b"G" * 32 + b" /victim HTTP/1.1\r\nHost: localhost\r\n\r\n", b""),
    (14, "request line of 7 KiB", b"GET /victim?" + b"x" * 7000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b""),
    (14, "100 fields", GET + b"".join(b"X-%d: 1\r\n" % n for n in range(99)) + b"\r\n", b""),
    (15, "Host with a port", b"GET /victim HTTP/1.1\r\nHost: localhost:80\r\n\r\n", b""),
    (15, "Host in IPv6", b"GET /victim HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", b""),
    (15, "HTTP/1.0 without Host", b"GET /victim HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", b""),
    (17, "absolute target", b"GET http://localhost/victim HTTP/1.1\r\nHost: localhost\r\n\r\n", b""),
    (41, "h2c upgrade is ignored", GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n", b""),
]

_serial = itertools.count(1)


@pytest.fixture(scope="module")
def server(module_stand):
    return module_stand.serve(workers=1, header_timeout="5s")


def named(rows):
    return [pytest.param(*row[2:], id=f"{row[0]}: {row[1][:60]}") for row in rows]


def own_path(data: bytes) -> tuple[bytes, str]:
    """A path that no other case uses, so that the record of seen requests speaks of this one alone."""
    name = f"victim-{next(_serial)}"
    return data.replace(b"/victim", b"/" + name.encode()), name


@pytest.mark.parametrize("data, statuses", named(REFUSED))
def test_refused(server, module_stand, data, statuses):
    data, name = own_path(data)
    smuggled = request("GET", f"/smuggled-{name}")
    with server.wire() as wire:
        wire.try_send(data + smuggled)
        answer = wire.answer()
        assert answer.status in statuses
        assert answer.closes, "the close is announced"
        assert wire.closed(), "bytes behind the answer: something was read after a refused request"
    assert_own_answer(answer)
    # One request after it, and what was queued before it must be in the record too.
    server.get(f"/after-{name}")
    seen = [line for line in module_stand.seen() if name in line]
    assert seen == [f"GET /after-{name}"], "a refused request reached the app"


@pytest.mark.parametrize("data, body", named(ACCEPTED))
def test_accepted(server, data, body):
    with server.wire() as wire:
        wire.send(data)
        answer = wire.answer()
        assert answer.status == 200
        assert answer.json()["body"]["sha256"] == hashlib.sha256(body).hexdigest()
        # The connection stays in step: the next answer belongs to the next request.
        if not answer.closes:
            wire.send(request("GET", "/next"))
            assert wire.answer().json()["environ"]["PATH_INFO"] == "/next"


@pytest.mark.parametrize("cut", [1, 2, 3, 5, 7, 11])
def test_a_request_cut_anywhere_is_the_same_request(server, cut):
    """Wherever the network parts the bytes, they are one request."""
    data = POST + b"Transfer-Encoding: chunked\r\nX-A: 1\r\n\r\n" + b"3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\nX-T: 1\r\n\r\n"
    with server.wire() as wire:
        for start in range(0, len(data), cut):
            wire.send(data[start : start + cut])
        told = wire.answer().json()
    assert told["body"]["length"] == 5 and told["environ"]["CONTENT_LENGTH"] == "5"


@pytest.mark.parametrize(
    "data, statuses",
    [
        pytest.param(POST + b"Content-Length: 100\r\n\r\nhello", {400}, id="27: body shorter than its length"),
        pytest.param(CHUNKED + b"5\r\nhel", {400}, id="27: cut in a chunk"),
        pytest.param(CHUNKED + b"5\r\nhello\r\n", {400}, id="27: cut before the last chunk"),
        pytest.param(CHUNKED + b"5\r\nhello\r\n0\r\n", {400}, id="27: cut before the end of the trailers"),
        pytest.param(GET + b"X-A: 1", {400}, id="27: cut in the head"),
    ],
)
def test_a_request_that_ends_too_early(server, module_stand, data, statuses):
    """The client ends its side; the app must never see what would look like a shorter form."""
    data, name = own_path(data)
    with server.wire() as wire:
        answer = wire.send(data).shut().answer()
        assert answer.status in statuses and wire.closed()
    server.get(f"/after-{name}")
    assert [line for line in module_stand.seen() if name in line] == [f"GET /after-{name}"]


@pytest.mark.parametrize("trailer", ["Content-Length: 3", "Transfer-Encoding: gzip", "Host: evil.example", "Authorization: Basic eA==", "X-Forwarded-For: 6.6.6.6", "Cookie: admin=1"])
def test_trailers_never_become_fields(server, trailer):
    """9"""
    with server.wire() as wire:
        wire.send(CHUNKED + b"5\r\nhello\r\n0\r\n" + trailer.encode() + b"\r\n\r\n")
        answer = wire.answer()
    if answer.status == 400:
        return
    environ = answer.json()["environ"]
    assert environ["CONTENT_LENGTH"] == "5" and environ["HTTP_HOST"] == "localhost"
    for name in "HTTP_AUTHORIZATION", "HTTP_COOKIE", "HTTP_TRANSFER_ENCODING", "HTTP_X_FORWARDED_FOR":
        assert name not in environ


@pytest.mark.parametrize("path", ["/a%00b", "/a%", "/a%2", "/a%zz", "/%c0%af", "/%c0%ae%c0%ae/", "/%e0%80%af", "/%f0%80%80%af"])
def test_paths_that_mean_nothing_good(server, module_stand, path):
    """45"""
    seen = len(module_stand.seen())
    assert server.get(path).status == 400
    assert len(module_stand.seen()) == seen


def test_a_bad_path_does_not_cost_the_connection(server):
    """The framing was sound, so the next request is."""
    with server.wire() as wire:
        wire.send(request("GET", "/a%00b") + request("GET", "/next"))
        assert wire.answer().status == 400
        assert wire.answer().json()["environ"]["PATH_INFO"] == "/next"


def test_a_body_behind_get_is_not_a_request(server, module_stand):
    """24: a GET with a body and an upgrade; the body is no second request."""
    body = request("GET", "/smuggled-in-a-body")
    with server.wire() as wire:
        wire.send(request("GET", "/carrier", {"Connection": "Upgrade", "Upgrade": "websocket"}, body) + request("GET", "/next"))
        assert wire.answer().json()["environ"]["PATH_INFO"] == "/carrier"
        assert wire.answer().json()["environ"]["PATH_INFO"] == "/next"
    assert not any("smuggled-in-a-body" in line for line in module_stand.seen())


def test_own_answers_come_in_the_form_asked_for(server):
    for accept, kind in [
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html"),
        ("application/json", "application/json"),
        ("application/json;q=0.5, text/html", "text/html"),
        ("application/problem+json", "application/"),
        ("text/plain", "text/plain"),
        ("*/*", "text/plain"),
        (None, "text/plain"),
    ]:
        answer = server.get("/a%00b", {"Accept": accept} if accept else {})
        assert answer.get("Content-Type").startswith(kind), accept
        if kind == "application/json":
            assert answer.get("X-Request-ID") in answer.text and answer.json()


def test_an_own_answer_repeats_nothing_that_a_browser_could_run(server):
    answer = server.get("/%zz<script>alert(1)</script>", {"Accept": "text/html", "X-Request-ID": "<script>"})
    assert answer.status == 400 and b"<script" not in answer.body


def assert_own_answer(answer):
    assert answer.get("Server") == "bandstand"
    assert re.match(r"bandstand\b", answer.get("Proxy-Status")), "RFC 9209: the name of who says it, then why"
    assert "error=" in answer.get("Proxy-Status") or "details=" in answer.get("Proxy-Status")
    assert answer.get("Date") and answer.get("X-Request-ID")
    assert answer.get("X-Request-ID") in answer.text
