"""What an ASGI app learns of a request: rows 24 to 27, 37, 40 and 46 of the checklist, ASGI HTTP and WebSocket 2.5."""

import pytest
from scripted_edge import WEBSOCKET, WHOLE
from scripted_loop import APPS

ECHO = APPS + """
async def application(scope, receive, send):
    if scope["type"] == "http":
        await answer(send, scope)
    elif scope["type"] == "websocket":
        await send({"type": "websocket.http.response.start", "status": 200, "headers": []})
        await send({"type": "websocket.http.response.body", "body": repr(scope).encode()})
"""


@pytest.fixture
def scope_of(loop_worker):
    edge = loop_worker(ECHO)

    def ask(*args, **options):
        return eval(edge.get(*args, **options).text)  # noqa: S307 (our own repr)

    return ask


def test_24_the_whole_scope(scope_of):
    assert scope_of("/", method="GET", query=b"a=%20", https=True, fields=[("Host", "shop.example")]) == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"a=%20",
        "root_path": "",
        "headers": [(b"host", b"shop.example"), (b"x-request-id", b"req-1")],
        "client": ("192.0.2.7", 50000),
        "server": ("shop.example", 8000),
        "extensions": {
            "http.response.pathsend": {},
            "http.response.zerocopysend": {},
            "http.response.early_hint": {},
        },
    }


@pytest.mark.parametrize("version, text", [(10, "1.0"), (11, "1.1"), (20, "2"), (30, "3")])
def test_24_versions(scope_of, version, text):
    scope = scope_of("/", version=version)
    assert scope["http_version"] == text
    assert ("http.response.early_hint" in scope["extensions"]) == (version != 10)


@pytest.mark.parametrize(
    "path, raw_path, root, expected",
    [
        ("/café".encode(), "/caf%C3%A9", "", ("/café", b"/caf%C3%A9", "")),
        ("/shop/cart", "/shop/cart", "/shop", ("/shop/cart", b"/shop/cart", "/shop")),
        (b"/a\xff/b", "/a%FF/b", "", ("/a%FF/b", b"/a%FF/b", "")),
        ("/empty", "/empty?", "", ("/empty", b"/empty", "")),
        ("/a b", "/a%20b", "", ("/a b", b"/a%20b", "")),
    ],
)
def test_24_paths(scope_of, path, raw_path, root, expected):
    scope = scope_of(path, raw_path=raw_path, root_path=root)
    assert (scope["path"], scope["raw_path"], scope["root_path"]) == expected


def test_24_methods_are_upper_case(scope_of):
    assert scope_of("/", method="propfind")["method"] == "PROPFIND"


def test_25_addresses(scope_of):
    assert scope_of("/", client=(b"2001:db8::1", 1))["client"] == ("2001:db8::1", 1)
    assert scope_of("/", client=(b"", 0))["client"] is None
    assert scope_of("/", client=(b"192.0.2.8", 2), server=(b"other", 1))["client"] == ("192.0.2.8", 2)
    assert scope_of("/", server=(b"other", 443))["server"] == ("other", 443)


def test_26_headers_keep_their_order_and_are_lower_case(scope_of):
    fields = [("B", "1"), ("a", "2"), ("B", "\xe9"), ("x_y", "3"), ("Proxy", "4"), ("X-Empty", "")]
    assert scope_of("/", fields=fields)["headers"][:-1] == [
        (b"b", b"1"),
        (b"a", b"2"),
        (b"b", b"\xe9"),
        (b"x-empty", b""),
    ]


def test_26_a_body_without_a_length_gets_one(scope_of):
    headers = dict(scope_of("/", method="POST", body=b"abc", fields=[("Transfer-Encoding", "chunked")])["headers"])
    assert headers[b"content-length"] == b"3" and b"transfer-encoding" not in headers
    headers = scope_of("/", method="POST", body=b"abc", fields=[("Content-Length", "3"), ("a", "b")])["headers"]
    assert headers[:2] == [(b"content-length", b"3"), (b"a", b"b")] and len(headers) == 3


def test_27_cookies_are_one_field(scope_of):
    fields = [("Cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")]
    assert scope_of("/", fields=fields)["headers"][:2] == [(b"cookie", b"a=1; b=2; c=3"), (b"x", b"y")]


def test_37_each_request_has_a_fresh_context(loop_worker):
    edge = loop_worker(
        APPS
        + """
from contextvars import ContextVar
var = ContextVar("var", default="unset")
async def app(scope, receive, send):
    seen = var.get()
    var.set(scope["path"])
    if scope["path"] == "/app/slow":
        await asyncio.sleep(0)
    await answer(send, seen)
"""
    )
    for path in ("/app/a", "/app/slow", "/app/b", "/app/slow", "/app/c"):
        assert edge.get(path).text == "'unset'"


def test_38_trailers_only_if_the_client_takes_them(scope_of):
    for fields, offered in [((), False), ([("TE", "gzip, trailers")], True), ([("te", "gzip")], False)]:
        assert ("http.response.trailers" in scope_of("/", fields=fields)["extensions"]) == offered


def test_40_the_scope_of_a_websocket(scope_of):
    fields = [("Sec-WebSocket-Protocol", "chat, superchat"), ("sec-websocket-protocol", "third")]
    scope = scope_of("/ws/a", https=True, flags=WHOLE | WEBSOCKET, body_length=None, fields=fields)
    assert "method" not in scope
    assert {key: scope[key] for key in ("type", "scheme", "path", "subprotocols", "extensions")} == {
        "type": "websocket",
        "scheme": "wss",
        "path": "/ws/a",
        "subprotocols": ["chat", "superchat", "third"],
        "extensions": {"websocket.http.response": {}},
    }
    assert scope_of("/ws/a", flags=WHOLE | WEBSOCKET, body_length=None)["scheme"] == "ws"


@pytest.mark.parametrize("flags, length", [(WHOLE, 0), (WHOLE | WEBSOCKET, None)])
def test_the_tls_extension(scope_of, flags, length):
    """ASGI's TLS extension 0.2, on both kinds of scope."""

    def told(tls):
        return scope_of("/", https=True, tls=tls, flags=flags, body_length=length)["extensions"].get("tls")

    tls = (0x0304, 0x1301, "TLSv1.3", "TLS_AES_128_GCM_SHA256")
    without = {
        "server_cert": None,
        "client_cert_chain": [],
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": 0x0304,
        "cipher_suite": 0x1301,
    }
    assert told(None) is None, "a proxy in front speaks it"
    assert told(tls) == without
    assert told((tls[0], 0, tls[2], "")) == {**without, "cipher_suite": None}
    client = ("CN=Zoë,O=Shop", "CN=Shop", "0A", "-----BEGIN CERTIFICATE-----\n")
    assert told((*tls, client)) == {**without, "client_cert_chain": [client[3]], "client_cert_name": "CN=Zoë,O=Shop"}


def test_46_state_is_a_shallow_copy_for_each(loop_worker):
    edge = loop_worker(
        APPS
        + """
async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        scope["state"].update(shared=[], own=1)
        assert (await receive())["type"] == "lifespan.startup"
        await send({"type": "lifespan.startup.complete"})
        await receive()
        return await send({"type": "lifespan.shutdown.complete"})
    state = scope["state"]
    state["own"] += 1
    state["shared"].append(state["own"])
    await answer(send, state)
"""
    )
    assert edge.get("/").text == "{'shared': [2], 'own': 2}"
    assert edge.get("/").text == "{'shared': [2, 2], 'own': 2}"


def test_a_scope_is_its_own(loop_worker):
    edge = loop_worker(
        APPS
        + """
async def app(scope, receive, send):
    seen = (len(scope), sorted(scope["extensions"]), scope["asgi"])
    scope["more"] = 1
    scope["extensions"]["more"] = 1
    scope["asgi"]["more"] = 1
    await answer(send, seen)
"""
    )
    assert edge.get("/app").text == edge.get("/app").text
