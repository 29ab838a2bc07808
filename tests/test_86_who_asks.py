"""Who asks, and what an answer wears: scheme, host and address in Django, security fields, redirects, hosts.

Numbers are rows of part 2 of the checklist.
"""

import json
import os
from pathlib import Path

import pytest

from client import request


def front(stand, django=None, **settings):
    return stand.serve("front:app", env={"FRONT": json.dumps(django or {})}, **({"workers": 1} | settings))


@pytest.fixture(scope="module")
def behind(module_stand):
    """Trusts 127.0.0.1; 127.0.0.2 is a stranger. The project has no setting for proxies."""
    return front(module_stand, trusted_proxies="127.0.0.1")


@pytest.fixture(scope="module")
def old(module_stand):
    """The same server for a project that was made for nginx in front of it."""
    return front(module_stand, {"SECURE_PROXY_SSL_HEADER": ["HTTP_X_FORWARDED_PROTO", "https"], "USE_X_FORWARDED_HOST": True, "USE_X_FORWARDED_PORT": True}, trusted_proxies="127.0.0.1")


@pytest.fixture(scope="module")
def odd(module_stand):
    """Its proxy says https in a field of its own."""
    return front(module_stand, {"SECURE_PROXY_SSL_HEADER": ["HTTP_X_SCHEME", "https"]}, trusted_proxies="127.0.0.1")


HTTPS = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "shop.example", "X-Forwarded-For": "6.6.6.6, 9.9.9.9"}


@pytest.mark.parametrize("which", ["behind", "old"])
def test_django_knows_scheme_host_and_address_with_old_settings_and_without(which, request):
    """20: what a trusted proxy says arrives, once."""
    server = request.getfixturevalue(which)
    told = server.get("/a?b=c", HTTPS).json()
    assert (told["secure"], told["uri"], told["address"]) == (True, "https://shop.example/a?b=c", "9.9.9.9")
    assert told["port"] == "443"
    assert told["meta"]["HTTP_X_FORWARDED_FOR"] == "9.9.9.9"


@pytest.mark.parametrize("which", ["behind", "old", "odd"])
@pytest.mark.parametrize("proto", ["https", "http", "https, https"])
def test_a_stranger_is_never_secure(which, proto, request):
    """20: whatever field the project believes."""
    server = request.getfixturevalue(which)
    fields = {**HTTPS, "X-Forwarded-Proto": proto, "X-Scheme": "https", "X-Forwarded-Port": "443", "Forwarded": "proto=https;host=evil.example"}
    told = server.get("/", fields, source="127.0.0.2").json()
    assert (told["secure"], told["host"], told["address"]) == (False, "localhost", "127.0.0.2")
    assert "evil.example" not in json.dumps(told) and "6.6.6.6" not in json.dumps(told)


def test_a_project_of_proxies_gets_the_fields_of_one(old, behind):
    """70 of the rows: for apps that read them; a client of its own has none of them."""
    assert old.get("/", source="127.0.0.2").json()["meta"]["HTTP_X_FORWARDED_FOR"] == "127.0.0.2"
    assert not [name for name in behind.get("/", source="127.0.0.2").json()["meta"] if name.startswith("HTTP_X_FORWARDED")]


def test_a_field_of_the_proxys_own(odd):
    told = odd.get("/", {"X-Scheme": "https", "X-Forwarded-For": "9.9.9.9"}).json()
    assert (told["secure"], told["uri"], told["meta"]["HTTP_X_SCHEME"]) == (True, "https://localhost/", "https")
    # A second one may be the client's.
    assert odd.get("/", [("X-Scheme", "https"), ("X-Scheme", "http")]).json()["secure"] is False
    assert odd.get("/", {"X-Scheme": "https", "X-Forwarded-Proto": "http"}).json()["secure"] is False


def test_a_setting_that_matches_nothing_is_said(stand):
    server = front(stand, {"SECURE_PROXY_SSL_HEADER": ["X-Forwarded-Proto", "https"]})
    server.wait_text("can match no request")


SECURE = {
    "SECURE_HSTS_SECONDS": 3600,
    "SECURE_HSTS_INCLUDE_SUBDOMAINS": True,
    "X_FRAME_OPTIONS": "SAMEORIGIN",
    "STATIC_URL": "/static/",
}
WORN = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "X-Frame-Options": "SAMEORIGIN",
}
HSTS = "max-age=3600; includeSubDomains"


@pytest.fixture(scope="module")
def dressed(module_stand):
    root = module_stand.folder / "collected"
    root.mkdir()
    (root / "a.css").write_text("a{}")
    folder = module_stand.folder / "dressed"
    folder.mkdir()
    (folder / "bandstand.toml").write_text('[headers]\nPermissions-Policy = "camera=()"\nServer = ""\n')
    return front(module_stand, {**SECURE, "STATIC_ROOT": str(root)}, folder=folder, trusted_proxies="127.0.0.1")


def worn(answer) -> dict:
    """The fields by name; `get` asserts that there is one of each."""
    return {name: answer.get(name) for name in WORN}


def kinds(server, fields):
    """One answer of each maker: app, file, not modified, refusal, own page."""
    file = server.get("/static/a.css", fields)
    yield 200, server.get("/", fields)
    yield 500, server.get("/fail", fields)
    yield 200, file
    yield 304, server.get("/static/a.css", {**fields, "If-None-Match": file.get("ETag")})
    yield 404, server.get("/static/none", fields)
    yield 405, server.post("/static/a.css", b"", fields)
    yield 400, server.get("/%00", fields)
    yield 200, server.get("/-/live", fields)


def test_every_answer_wears_the_same_once(dressed):
    """68 of the rows: static files, 304 and errors too."""
    for fields, hsts in [({}, None), (HTTPS, HSTS)]:
        for status, answer in kinds(dressed, fields):
            assert answer.status == status
            assert worn(answer) == WORN, answer
            assert answer.get("Permissions-Policy") == "camera=()"
            assert answer.get("Strict-Transport-Security") == hsts, "41 of the rows: over HTTPS only"


def test_an_answer_to_what_is_no_request_wears_it_too(dressed):
    answer = dressed.raw(b"nonsense\r\n\r\n").decode()
    assert answer.startswith("HTTP/1.1 400 ") and answer.count("X-Content-Type-Options: nosniff\r\n") == 1
    assert "Strict-Transport-Security" not in answer


def test_the_app_has_the_first_word(dressed):
    answer = dressed.get("/own")
    assert answer.get("Referrer-Policy") == "origin"
    assert answer.get("Content-Security-Policy") == "default-src 'self'; report-uri /-/csp", "69 of the rows: as it is"
    framed = dressed.get("/framed")
    assert (framed.get("X-Frame-Options"), framed.get("X-Content-Type-Options")) == (None, "nosniff"), "a view that is exempt"


def test_what_the_project_switched_off_stays_off(stand):
    off = {"SECURE_CONTENT_TYPE_NOSNIFF": False, "SECURE_REFERRER_POLICY": None, "SECURE_CROSS_ORIGIN_OPENER_POLICY": None}
    answer = front(stand, {**off, "ALLOWED_HOSTS": ["shop.example"]}).get("/", host="other.example")
    assert answer.status == 421
    assert worn(answer) == {**dict.fromkeys(WORN), "X-Frame-Options": "DENY"}


def test_a_project_without_the_middleware_gets_what_it_wrote(stand):
    answer = front(stand, {"MIDDLEWARE": [], "SECURE_REFERRER_POLICY": ["no-referrer", "origin"]}).get("/")
    assert worn(answer) == {**dict.fromkeys(WORN), "Referrer-Policy": "no-referrer,origin"}


def test_no_tls_no_redirect(stand):
    """39 of the rows: without TLS here it is Django's, and it ends where a proxy says https."""
    server = front(stand, {"SECURE_SSL_REDIRECT": True}, trusted_proxies="127.0.0.1")
    answer = server.get("/a?b")
    assert (answer.status, answer.get("Location")) == (301, "https://localhost/a?b")
    assert server.get("/a", HTTPS).status == 200


@pytest.mark.parametrize(
    "hosts, served, refused",
    [
        (["shop.example", ".many.example"], ["shop.example", "SHOP.example:81", "shop.example.", "a.b.many.example"], ["evil.example", "127.0.0.1", "[::1]", "xmany.example"]),
        (["127.0.0.1", "[::1]"], ["127.0.0.1:8000", "[::1]"], ["localhost", "127.0.0.2"]),
    ],
)
def test_hosts(stand, hosts, served, refused):
    """16: Django is not woken for others, and health is told to all."""
    server = front(stand, {"ALLOWED_HOSTS": hosts})
    for host in served:
        assert server.get("/served", host=host).status == 200, host
    for host in refused:
        assert server.get("/refused", host=host).status == 421, host
    for host in ["a b", "user@shop.example", "shop.example:99999", "a,b"]:
        assert server.get("/malformed", host=host).status == 400, host
    assert server.get("/-/live", host=refused[0]).status == 200
    assert server.get("/-/ready", host=refused[0]).status == 200
    assert stand.seen() == ["GET /served"] * len(served)


def test_hosts_of_a_project_in_debug(stand):
    server = front(stand, {"DEBUG": True, "ALLOWED_HOSTS": []}, allow_debug=True)
    for host, status in [("localhost", 200), ("a.localhost", 200), ("127.0.0.1", 200), ("[::1]", 200), ("shop.example", 421)]:
        assert server.get("/", host=host).status == status, host
    assert len(stand.seen()) == 4


def test_the_app_sees_one_answer_to_where_it_is_mounted(stand):
    """10 of the rows: the prefix is never a client's to say."""
    server = front(stand, root_path="/shop")
    assert server.get("/shop/x", {"X-Forwarded-Prefix": "/evil", "X-Script-Name": "/evil"}).json()["uri"] == "http://localhost/shop/x"
