"""Protected downloads: the app names a file, bandstand sends it; nothing else leaves, and nobody reaches it without the app."""

import os
import time
from types import SimpleNamespace
from urllib.parse import quote

import pytest

from client import eventually

TEXT = b"0123456789" * 1000
LARGE = os.urandom(1 << 20)


@pytest.fixture(scope="module", params=["dressed:app", "dressed:application"], ids=["wsgi", "asgi"])
def site(request, module_stand):
    folder = module_stand.folder / request.param.replace(":", "-")
    files, invoices = folder / "private", folder / "invoices"
    files.mkdir(parents=True)
    invoices.mkdir()
    (folder / "secret.txt").write_text("outside")
    (files / "a.txt").write_bytes(TEXT)
    (files / "large.bin").write_bytes(LARGE)
    (files / "a b%é?.txt").write_bytes(b"odd")
    (files / "page.html").write_text("<p>private</p>")
    (files / "sub").mkdir()
    (files / "link").symlink_to("../secret.txt")
    (files / "absolute").symlink_to("/etc/passwd")
    os.mkfifo(files / "pipe")
    (invoices / "7.pdf").write_bytes(b"%PDF-")
    (folder / "bandstand.toml").write_text(f'[protected]\n"/protected/" = "{files}"\n"/protected/invoices/" = "{invoices}"\n')
    server = module_stand.serve(request.param, folder=folder, env={"FILES": str(files)}, workers=1)
    return SimpleNamespace(server=server, folder=folder, files=files)


def named(site, fields=(), method="GET", **said):
    query = "&".join(f"{name.replace('_', '-')}={quote(str(value))}" for name, value in said.items())
    return site.server.request(method, f"/named/?{query}", fields)


def leaks(answer) -> list:
    return [name for name, _ in answer.fields if name.lower().startswith(("x-accel", "x-sendfile"))]


@pytest.mark.parametrize("name, content", [("a.txt", TEXT), ("large.bin", LARGE), ("a%20b%25%C3%A9%3F.txt", b"odd"), ("invoices/7.pdf", b"%PDF-"), ("a.txt?x=y", TEXT)])
def test_row_75_a_file_by_its_url(site, name, content):
    answer = named(site, X_Accel_Redirect=f"/protected/{name}")
    assert (answer.status, answer.body) == (200, content)
    assert answer.get("Content-Length") == str(len(content))
    assert answer.get("Accept-Ranges") == "bytes"
    assert answer.get("ETag") and answer.get("Last-Modified")
    assert answer.get("Set-Cookie").startswith("seen=yes")
    assert answer.get("Cache-Control") == "private"
    assert not leaks(answer)


def test_row_75_a_file_by_its_path(site):
    answer = named(site, X_Sendfile=quote(str(site.files / "a b%é?.txt")))
    assert (answer.status, answer.body, leaks(answer)) == (200, b"odd", [])


@pytest.mark.parametrize(
    "said",
    [
        {"X_Accel_Redirect": "/etc/passwd"},
        {"X_Accel_Redirect": "/protectedx/a.txt"},
        {"X_Accel_Redirect": "/protected/../secret.txt"},
        {"X_Accel_Redirect": "/protected/%2e%2e/secret.txt"},
        {"X_Accel_Redirect": "/protected/%00"},
        {"X_Accel_Redirect": "/protected/%zz"},
        {"X_Accel_Redirect": "https://example.com/a"},
        {"X_Sendfile": "/etc/passwd"},
        {"X_Sendfile": "a.txt"},
        {"X_Accel_Redirect": "/protected/a.txt", "X_Sendfile": "/etc/passwd"},
    ],
    ids=str,
)
def test_row_48_outside_of_the_folders(site, said):
    answer = named(site, **said)
    assert (answer.status, leaks(answer)) == (500, [])
    assert b"root:" not in answer.body and b"outside" not in answer.body
    site.server.wait_text("the app names")


@pytest.mark.parametrize("name", ["none", "link", "absolute", "sub", "pipe", "a.txt/more"])
def test_row_48_what_is_no_file_beneath(site, name):
    answer = named(site, X_Accel_Redirect=f"/protected/{name}")
    assert (answer.status, leaks(answer)) == (404, [])
    assert b"root:" not in answer.body and b"outside" not in answer.body


@pytest.mark.parametrize("prefix", ["", "/x"])
def test_row_48_a_header_cannot_be_split(site, prefix):
    """Django refuses line ends in a field; the app fails and nothing of it leaves."""
    answer = named(site, X_Accel_Redirect=f"{prefix}/protected/a.txt\r\nSet-Cookie: evil=1")
    assert answer.status in (400, 500)
    assert not [value for value in answer.all("Set-Cookie") if "evil" in value]


def test_nobody_reaches_the_files_without_the_app(site):
    for target in "/protected/a.txt", "/protected/../protected/a.txt", "//protected/a.txt", "/protected/invoices/7.pdf":
        answer = site.server.get(target)
        assert answer.status in (301, 400, 404) and answer.body != TEXT, target
    answer = site.server.get("/page/10/", {"X-Accel-Redirect": "/protected/a.txt", "X-Sendfile": "/protected/a.txt"})
    assert len(answer.body) == 10


def test_row_49_ranges(site):
    said = {"X_Accel_Redirect": "/protected/a.txt"}
    answer = named(site, {"Range": "bytes=0-0"}, **said)
    assert (answer.status, answer.body, answer.get("Content-Range")) == (206, b"0", f"bytes 0-0/{len(TEXT)}")
    answer = named(site, {"Range": "bytes=-5"}, **said)
    assert (answer.status, answer.body) == (206, TEXT[-5:])
    answer = named(site, {"Range": "bytes=0-1,5-6"}, X_Accel_Redirect="/protected/a.txt", Content_Type="text/x-own")
    assert answer.status == 206 and answer.body.count(b"text/x-own") == 2
    answer = named(site, {"Range": "bytes=10000-"}, **said)
    assert (answer.status, answer.get("Content-Range")) == (416, f"bytes */{len(TEXT)}")
    answer = named(site, {"Range": "bytes=" + ",".join(["0-"] * 1000)}, **said)
    assert (answer.status, answer.body) == (200, TEXT)


def test_row_50_conditions(site):
    said = {"X_Accel_Redirect": "/protected/a.txt"}
    first = named(site, **said)
    answer = named(site, {"If-None-Match": first.get("ETag")}, **said)
    assert (answer.status, answer.body, answer.get("Content-Disposition")) == (304, b"", None)
    assert answer.get("Set-Cookie")
    answer = named(site, {"If-Modified-Since": first.get("Last-Modified")}, **said)
    assert answer.status == 304
    answer = named(site, {"If-Match": '"other"'}, **said)
    assert answer.status == 412
    answer = named(site, {"Range": "bytes=0-0", "If-Range": '"stale"'}, **said)
    assert (answer.status, answer.body) == (200, TEXT)
    # The tag of an empty body, which ConditionalGetMiddleware gives to each answer that names a file.
    assert "d41d8cd98f00b204e9800998ecf8427e" not in first.get("ETag")


def test_the_app_may_give_tag_and_date(site):
    said = {"X_Accel_Redirect": "/protected/a.txt", "ETag": '"mine"', "Last_Modified": "Sun, 06 Nov 1994 08:49:37 GMT"}
    answer = named(site, **said)
    assert (answer.get("ETag"), answer.get("Last-Modified")) == ('"mine"', "Sun, 06 Nov 1994 08:49:37 GMT")
    answer = named(site, {"Range": "bytes=0-0", "If-Range": '"mine"'}, **said)
    assert (answer.status, answer.body) == (206, b"0")


def test_head_and_other_methods(site):
    get, head = (named(site, method=method, X_Accel_Redirect="/protected/a.txt") for method in ("GET", "HEAD"))
    assert (head.body, head.get("Content-Length"), head.get("ETag")) == (b"", str(len(TEXT)), get.get("ETag"))
    answer = named(site, X_Accel_Redirect="/protected/a.txt", status=403)
    assert (answer.status, answer.body) == (403, TEXT)


@pytest.mark.parametrize("status", [204, 304])
def test_an_answer_that_has_no_body_gets_none(site, status):
    answer = named(site, X_Accel_Redirect="/protected/a.txt", status=status)
    assert (answer.status, answer.body, leaks(answer)) == (status, b"", [])
    assert answer.get("Content-Length") in (None, "0") or status == 304


def test_what_the_app_says_stays(site):
    answer = named(site, X_Accel_Redirect="/protected/page.html", Content_Type="text/plain", Content_Disposition="attachment", Cache_Control="no-store", Content_Security_Policy="default-src 'none'", Content_Encoding="gzip", Vary="Cookie")
    assert answer.body == b"<p>private</p>"
    assert [answer.get(name) for name in ("Content-Type", "Content-Disposition", "Cache-Control", "Content-Security-Policy", "Content-Encoding", "Vary")] == [
        "text/plain", "attachment", "no-store", "default-src 'none'", None, "Cookie"
    ]
    assert named(site, X_Accel_Redirect="/protected/page.html").get("Content-Type").startswith("text/html")


def test_row_75_companions(site):
    answer = named(site, X_Accel_Redirect="/protected/a.txt", X_Accel_Expires=60, X_Accel_Charset="koi8-r", X_Accel_Buffering="no")
    assert answer.get("Cache-Control") == "private, max-age=60" and answer.get("Expires")
    assert answer.get("Content-Type") == "text/plain; charset=koi8-r"
    assert not leaks(answer)


def test_row_75_a_rate_is_kept(site):
    rate = 400_000
    begun = time.monotonic()
    answer = named(site, X_Accel_Redirect="/protected/large.bin", X_Accel_Limit_Rate=rate)
    taken = time.monotonic() - begun
    assert answer.body == LARGE
    # One second's worth leaves at once; the rest must not come sooner than its rate allows.
    assert taken >= (len(LARGE) - rate) / rate * 0.95


def test_the_bodies_of_apps_are_dropped_and_hold_nobody_up(site):
    closed = site.server.folder.parent / "gates/closed"
    closed.unlink(missing_ok=True)
    for _ in range(3):
        assert site.server.get("/endless/").body == TEXT
    eventually(closed.exists, "the app's body closed")
    assert site.server.get("/page/10/").status == 200


def test_a_file_is_never_answered_from_memory(site):
    path = site.files / "fresh.txt"
    for content in b"one", b"two", b"six":
        path.write_bytes(content)
        assert named(site, X_Accel_Redirect="/protected/fresh.txt").body == content
    path.unlink()
    assert named(site, X_Accel_Redirect="/protected/fresh.txt").status == 404


def test_the_helper(site):
    answer = site.server.get("/helped/a.txt")
    assert (answer.status, answer.body) == (200, TEXT)
    assert answer.get("Content-Type") == "text/plain"
    assert answer.get("Content-Disposition") == 'attachment; filename="a.txt"'
    answer = site.server.get(f"/helped/{quote('a b%é?.txt')}?inline=1&as=b.txt", {"Range": "bytes=1-"})
    assert (answer.status, answer.body, answer.get("Content-Disposition")) == (206, b"dd", 'inline; filename="b.txt"')
    for name in "none", "link", "absolute", "sub", "..%2fsecret.txt":
        assert site.server.get(f"/helped/{name}").status == 404, name


@pytest.mark.parametrize("preload", ["on", "off"])
def test_the_helper_knows_the_edge_however_its_worker_was_started(stand, preload):
    """And nobody else does: the app's own children have no word of it in their environment."""
    files = stand.folder / "private"
    files.mkdir()
    (files / "a.txt").write_bytes(TEXT)
    (stand.folder / "bandstand.toml").write_text(f'protected = "{files}"\n')
    server = stand.serve("dressed:app", env={"FILES": str(files)}, workers=1, preload=preload)
    answer = server.get("/helped/a.txt", {"Range": "bytes=0-0"})
    assert (answer.status, answer.body) == (206, b"0")
    assert b"BANDSTAND_" not in server.get("/inherited/").body
