"""Who the app believes to talk to: host, client and scheme, and what a client may not say about them (rows 16–23)."""

import pytest

from client import Wire, request

FORGED = {
    "X-Forwarded-For": "6.6.6.6",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "443",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-Server": "evil",
    "Forwarded": "for=6.6.6.6;proto=https;host=evil.example",
    "X-Real-IP": "6.6.6.6",
    "X-Client-IP": "6.6.6.6",
    "True-Client-IP": "6.6.6.6",
    "CF-Connecting-IP": "6.6.6.6",
    "X-Sendfile-Type": "X-Accel-Redirect",
    "X-Accel-Mapping": "/=/",
    "X-Accel-Redirect": "/etc/passwd",
    "X-Request-Start": "t=1",
}


@pytest.fixture(scope="module")
def direct(module_stand):
    """Trusts nobody."""
    return module_stand.serve(workers=1)


@pytest.fixture(scope="module")
def behind(module_stand):
    """Trusts 127.0.0.1; 127.0.0.2 is a stranger."""
    return module_stand.serve(workers=1, trusted_proxies="127.0.0.1", max_header_bytes="256KiB")


def told(server, fields=(), target="/", **kwargs) -> dict:
    answer = server.get(target, fields, **kwargs)
    assert answer.status == 200
    return answer.json()["environ"]


@pytest.mark.parametrize("name", FORGED)
def test_a_stranger_cannot_say_it(direct, behind, name):
    """20"""
    for environ in told(direct, {name: FORGED[name]}), told(behind, {name: FORGED[name]}, source="127.0.0.2"):
        assert "HTTP_" + name.upper().replace("-", "_") not in environ
        assert environ["REMOTE_ADDR"] in ("127.0.0.1", "127.0.0.2")
        assert environ["wsgi.url_scheme"] == "http" and environ["HTTP_HOST"] == "localhost" and environ["SCRIPT_NAME"] == ""
        assert not any("6.6.6.6" in value or "evil" in value for value in environ.values() if isinstance(value, str))


def test_a_stranger_is_known_by_its_address(behind):
    assert told(behind, source="127.0.0.2")["REMOTE_ADDR"] == "127.0.0.2"


@pytest.mark.parametrize(
    "fields, address",
    [
        ([("X-Forwarded-For", "9.9.9.9")], "9.9.9.9"),
        ([("X-Forwarded-For", "6.6.6.6, 9.9.9.9")], "9.9.9.9"),
        ([("X-Forwarded-For", "6.6.6.6, 9.9.9.9, 127.0.0.1")], "9.9.9.9"),
        ([("X-Forwarded-For", "6.6.6.6"), ("X-Forwarded-For", "9.9.9.9")], "9.9.9.9"),
        ([("X-Forwarded-For", "garbage, 9.9.9.9")], "9.9.9.9"),
        ([("X-Forwarded-For", "6.6.6.6, garbage")], "127.0.0.1"),
        ([("X-Forwarded-For", "2001:db8::1")], "2001:db8::1"),
        ([("X-Forwarded-For", "[2001:db8::1]:1234")], "2001:db8::1"),
        ([("X-Forwarded-For", "9.9.9.9:1234")], "9.9.9.9"),
        ([("X-Forwarded-For", "::ffff:9.9.9.9")], "9.9.9.9"),
        ([("X-Forwarded-For", "")], "127.0.0.1"),
        ([("Forwarded", "for=9.9.9.9")], "9.9.9.9"),
        ([("Forwarded", 'for=6.6.6.6, for="[2001:db8::1]:80"')], "2001:db8::1"),
        ([("Forwarded", "for=6.6.6.6"), ("X-Forwarded-For", "9.9.9.9")], "9.9.9.9"),
    ],
)
def test_the_client_behind_a_trusted_proxy(behind, fields, address):
    """21: from the right, to the first that is not trusted."""
    assert told(behind, fields)["REMOTE_ADDR"] == address


@pytest.mark.parametrize("entry", ["6.6.6.6", "127.0.0.1", "garbage"])
def test_ten_thousand_entries(behind, entry):
    """21"""
    environ = told(behind, {"X-Forwarded-For": ", ".join([entry] * 10_000 + ["9.9.9.9"])})
    assert environ["REMOTE_ADDR"] == "9.9.9.9"
    assert told(behind, {"X-Forwarded-For": ", ".join([entry] * 10_000)})["REMOTE_ADDR"] in (entry, "127.0.0.1")


def test_scheme_and_host_behind_a_trusted_proxy(behind):
    environ = told(behind, {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "shop.example", "X-Forwarded-For": "9.9.9.9"})
    assert environ["wsgi.url_scheme"] == "https"
    assert environ["HTTP_HOST"] == "shop.example"
    assert environ["SERVER_PORT"] == "443"


@pytest.mark.parametrize("proto", ["gopher", "https://", "", "https\t,http", "javascript"])
def test_a_scheme_that_is_none_leaves_http(behind, proto):
    assert told(behind, {"X-Forwarded-Proto": proto})["wsgi.url_scheme"] == "http"


@pytest.mark.parametrize("host", ["evil example", "a/b", "user@x", "a,b c"])
def test_a_forwarded_host_that_is_none_is_not_believed(behind, host):
    assert told(behind, {"X-Forwarded-Host": host})["HTTP_HOST"] == "localhost"


def test_the_platform_variable_trusts_too(stand):
    server = stand.serve(workers=1, env={"FORWARDED_ALLOW_IPS": "127.0.0.0/8"})
    assert told(server, {"X-Forwarded-For": "9.9.9.9"}, source="127.0.0.2")["REMOTE_ADDR"] == "9.9.9.9"


def test_peers_on_a_unix_socket_are_trusted_only_when_said(stand):
    path = stand.folder / "web.sock"
    for trusted, address in [(None, None), ("unix", "9.9.9.9")]:
        server = stand.serve(workers=1, bind=f"unix:{path}", trusted_proxies=trusted)
        with Wire(str(path)) as wire:
            environ = wire.send(request("GET", "/", {"X-Forwarded-For": "9.9.9.9"})).answer().json()["environ"]
        if address:
            assert environ["REMOTE_ADDR"] == address
        else:
            assert environ["REMOTE_ADDR"] != "9.9.9.9"
        assert environ["SERVER_NAME"] and environ["SERVER_PORT"]
        server.stop()


@pytest.mark.parametrize("name", ["X_Forwarded_For", "X_Forwarded-For", "Remote_User", "Content_Length", "Content_Type", "Host_", "X_Real_IP", "_", "Transfer_Encoding", "X_A"])
def test_names_with_an_underscore_never_arrive(direct, behind, name):
    """18: in the environ they could not be told from the real ones."""
    for server in direct, behind:
        environ = told(server, {name: "forged"})
        assert "forged" not in environ.values()


def test_an_underscore_does_not_hide_the_real_field(direct):
    environ = told(direct, [("X-Token", "real"), ("X_Token", "forged")])
    assert environ["HTTP_X_TOKEN"] == "real"


def test_httpoxy(direct):
    """19"""
    assert "HTTP_PROXY" not in told(direct, {"Proxy": "http://evil.example/"})


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.9", "localhost.evil.example", "[::2]"])
def test_a_host_that_the_project_does_not_allow(shop, host):
    """16: Django is not woken for it."""
    answer = shop.get("/api/ping/", host=host)
    assert answer.status in (400, 421)
    assert answer.get("Proxy-Status"), "bandstand's own answer"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "localhost.", "localhost:8000", "127.0.0.1", "[::1]"])
def test_a_host_that_the_project_allows(shop, host):
    assert shop.get("/api/ping/", host=host).status == 200


@pytest.mark.parametrize(
    "target, host, path",
    [
        ("http://real.example/p?q=1", "real.example", "/p"),
        ("http://real.example:81", "real.example:81", "/"),
        ("HTTP://real.example/", "real.example", "/"),
        ("http://real.example?q", "real.example", "/"),
    ],
)
def test_the_host_of_an_absolute_target_wins(direct, target, host, path):
    """17"""
    environ = told(direct, target=target, host="other.example")
    assert (environ["HTTP_HOST"], environ["PATH_INFO"]) == (host, path)


def test_the_host_of_an_absolute_target_is_checked_like_any(shop):
    """17"""
    assert shop.get("http://evil.example/api/ping/", host="localhost").status in (400, 421)


def test_an_absolute_https_target_does_not_make_it_https(direct):
    with direct.wire() as wire:
        answer = wire.send(request("GET", "https://localhost/")).answer()
    assert answer.status in (400, 421) or answer.json()["environ"]["wsgi.url_scheme"] == "http"


@pytest.mark.parametrize(
    "name, value, absent",
    [
        ("Script-Name", "/evil", {"SCRIPT_NAME": ""}),
        ("Path-Info", "/evil", {"PATH_INFO": "/"}),
        ("Remote-Addr", "6.6.6.6", {"REMOTE_ADDR": "127.0.0.1"}),
        ("Server-Port", "1", {}),
        ("Request-Method", "DELETE", {"REQUEST_METHOD": "GET"}),
        ("wsgi.url-scheme", "https", {"wsgi.url_scheme": "http"}),
        ("Https", "on", {"wsgi.url_scheme": "http"}),
    ],
)
def test_fields_stay_among_the_fields(direct, name, value, absent):
    """22: whatever a client names its field, it becomes HTTP_… or nothing."""
    environ = told(direct, {name: value})
    for key, expected in absent.items():
        assert environ[key] == expected
    assert [key for key, found in environ.items() if found == value and not key.startswith("HTTP_")] == []


def test_the_body_fields_come_from_the_framing(direct):
    """22"""
    with direct.wire() as wire:
        wire.send(request("POST", "/", [("Http-Content-Length", "3"), ("Content-Length", "5"), ("Content-Type", "a/b")], b"hello"))
        environ = wire.answer().json()["environ"]
    assert environ["CONTENT_LENGTH"] == "5" and environ["CONTENT_TYPE"] == "a/b"
    assert "HTTP_CONTENT_LENGTH" not in environ and "HTTP_CONTENT_TYPE" not in environ


@pytest.mark.parametrize("victim", ["Content-Length", "Host", "X-Forwarded-For", "X-Forwarded-Proto", "X-Request-ID", "Content-Type", "Cookie"])
def test_connection_cannot_take_away_what_the_edge_sets(behind, victim):
    """23"""
    fields = [
        ("Connection", f"keep-alive, {victim}"),
        ("X-Forwarded-For", "9.9.9.9"),
        ("X-Forwarded-Proto", "https"),
        ("X-Request-ID", "request-of-this-test"),
        ("Content-Type", "text/plain"),
        ("Cookie", "session=1"),
    ]
    with behind.wire() as wire:
        answer = wire.send(request("POST", "/", fields, b"hello")).answer()
        if answer.status == 400:
            return
        environ = answer.json()["environ"]
        assert answer.json()["body"]["length"] == 5
        assert environ["CONTENT_LENGTH"] == "5" and environ["HTTP_HOST"] == "localhost"
        assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == ("9.9.9.9", "https")
        assert environ["HTTP_X_REQUEST_ID"]


def test_hop_by_hop_fields_stop_here(direct):
    environ = told(direct, {"Connection": "X-Hop, close", "X-Hop": "1", "Keep-Alive": "timeout=5", "TE": "trailers", "Proxy-Connection": "close", "Upgrade": "x"})
    for name in "HTTP_X_HOP", "HTTP_KEEP_ALIVE", "HTTP_PROXY_CONNECTION":
        assert name not in environ


def test_an_upgrade_to_h2c_is_not_passed_on(direct):
    environ = told(direct, {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABk"})
    assert environ.get("HTTP_UPGRADE") != "h2c" and "HTTP_HTTP2_SETTINGS" not in environ


def test_a_redirect_of_the_app_goes_where_the_allowed_host_is(shop):
    """60: APPEND_SLASH with a path that looks like a host."""
    answer = shop.get("//evil.example/products")
    location = answer.get("Location") or ""
    assert not location.startswith("//") and "//evil.example" not in location.split("?")[0].removeprefix("http://localhost")
