"""Files: found below their root and nowhere else, with the validators, ranges, codings and lifetimes that clients rely on."""

import gzip
import hashlib
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from client import eventually, request

SECRET = "the secret next door"
PLAIN = b"0123456789" * 100
STYLE = b"body { color: teal; background: white }\n" * 200
HASHED = "app.0123456789ab.css"


@pytest.fixture(scope="module")
def site(module_stand):
    """A server over a static and a media folder, with temptations inside and beside them."""
    folder = module_stand.folder
    static, media = folder / "static", folder / "media"
    for path in (static / "sub", static / ".git", static / ".well-known", media, folder / "static-private"):
        path.mkdir(parents=True)
    (folder / "settings.py").write_text(SECRET)
    (folder / "static-private/key").write_text(SECRET)
    for name in ".env", ".git/config", ".htpasswd", "settings.py", "backup~", "sub/.hidden":
        (static / name).write_text(SECRET)
    (static / "plain.txt").write_bytes(PLAIN)
    (static / "empty.txt").write_bytes(b"")
    (static / "sub/page.html").write_text("<p>page</p>")
    (static / "with space & é.txt").write_text("odd name")
    (static / "no-extension").write_bytes(b"\0\1\2")
    (static / "large.bin").write_bytes(os.urandom(10 << 20))
    (static / "app.css").write_bytes(STYLE)
    (static / HASHED).write_bytes(STYLE)
    (static / "looks.fedcba987654.css").write_bytes(STYLE)
    (static / "staticfiles.json").write_text(json.dumps({"paths": {"app.css": HASHED}, "version": "1.1", "hash": "x"}))
    for name in "app.css", HASHED:
        (static / f"{name}.gz").write_bytes(gzip.compress(STYLE))
        # Bandstand hands these out as they are; what is in them is for the client to decode.
        (static / f"{name}.br").write_bytes(b"as if in brotli")
        (static / f"{name}.zst").write_bytes(b"as if in zstd")
    (static / "link-inside.txt").symlink_to("plain.txt")
    (static / "link-outside").symlink_to("/etc/passwd")
    (static / "link-up").symlink_to("../settings.py")
    (static / "link-folder").symlink_to(folder / "static-private")
    os.mkfifo(static / "pipe")
    for name in "page.html", "drawing.svg", "feed.xml", "page.xhtml", "noname", "script.js", "paper.pdf":
        (media / name).write_text("<script>alert(1)</script>")
    (media / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (media / "photo.jpg").write_bytes(b"\xff\xd8\xff")
    server = module_stand.serve(static=f"/static/={static}", media=f"/media/={media}", workers=1)
    return SimpleNamespace(server=server, static=static, media=media, seen=module_stand.seen)


def get(site, name, fields=(), **kwargs):
    return site.server.get(f"/static/{name}", fields, **kwargs)


# -- the ordinary case


@pytest.mark.parametrize(
    "name, kind",
    [
        ("plain.txt", "text/plain"),
        ("app.css", "text/css"),
        ("sub/page.html", "text/html"),
        ("no-extension", "application/octet-stream"),
        ("link-inside.txt", "text/plain"),
        ("empty.txt", "text/plain"),
    ],
)
def test_a_file(site, name, kind):
    answer = get(site, name)
    assert answer.status == 200
    assert answer.body == (site.static / name).read_bytes()
    assert answer.get("Content-Length") == str(len(answer.body))
    assert answer.get("Content-Type").split(";")[0] == kind
    assert answer.get("ETag") and answer.get("Last-Modified") and answer.get("Accept-Ranges") == "bytes"


def test_the_app_is_not_woken_for_files(site):
    before = len(site.seen())
    get(site, "plain.txt"), get(site, "nothing.txt"), get(site, "plain.txt?x=1")
    assert len(site.seen()) == before


def test_text_is_utf_8(site):
    assert "utf-8" in get(site, "plain.txt").get("Content-Type").lower()


def test_an_encoded_name(site):
    assert get(site, "with%20space%20&%20%c3%a9.txt").text == "odd name"


def test_a_large_file(site):
    body = get(site, "large.bin").body
    assert hashlib.sha256(body).digest() == hashlib.sha256((site.static / "large.bin").read_bytes()).digest()


def test_a_large_file_for_many_at_once(site):
    wires = [site.server.wire() for _ in range(8)]
    for wire in wires:
        wire.send(request("GET", "/static/large.bin"))
    expected = (site.static / "large.bin").read_bytes()
    for wire in wires:
        with wire:
            assert wire.answer().body == expected


def test_head(site):
    head, full = site.server.request("HEAD", "/static/plain.txt"), get(site, "plain.txt")
    assert head.body == b"" and head.get("Content-Length") == "1000"
    ours = {"date", "x-request-id"}
    assert {name: value for name, value in head.fields if name.lower() not in ours} == {
        name: value for name, value in full.fields if name.lower() not in ours
    }


def test_keep_alive_over_files(site):
    with site.server.wire() as wire:
        for name, size in [("plain.txt", 1000), ("large.bin", 10 << 20), ("nothing", None), ("empty.txt", 0), ("plain.txt", 1000)]:
            answer = wire.send(request("GET", f"/static/{name}")).answer()
            assert not answer.closes and answer.status == (404 if size is None else 200)
            assert size is None or len(answer.body) == size


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "PROPFIND"])
def test_other_methods(site, method):
    answer = site.server.request(method, "/static/plain.txt", body=b"x")
    assert answer.status == 405
    assert {"GET", "HEAD"} <= {name.strip() for name in answer.get("Allow").split(",")}


def test_options(site):
    answer = site.server.request("OPTIONS", "/static/plain.txt")
    assert answer.status in (200, 204, 405) and "GET" in answer.get("Allow")


def test_a_changed_file_is_served_changed(site):
    path = site.static / "changing.txt"
    path.write_text("before")
    first = get(site, "changing.txt")
    assert first.text == "before"
    path.write_text("after it")
    eventually(lambda: get(site, "changing.txt").text == "after it", "the new content", deadline=10)
    assert get(site, "changing.txt").get("ETag") != first.get("ETag")
    path.unlink()
    eventually(lambda: get(site, "changing.txt").status == 404, "the file gone", deadline=10)


def test_a_file_that_shrinks_while_it_is_sent_cuts_the_answer(site):
    """Its length is promised already: the client must not take the rest for whole."""
    path = site.static / "shrinking.bin"
    path.write_bytes(b"x" * (32 << 20))
    with site.server.wire(receive_buffer=4096) as wire:
        wire.send(request("GET", "/static/shrinking.bin"))
        wire.until(b"\r\n\r\n")
        os.truncate(path, 1 << 20)
        assert len(wire.rest()) < 32 << 20
    assert get(site, "plain.txt").status == 200


# -- nothing else (rows 44–47)


@pytest.mark.parametrize(
    "target",
    [
        "/static/../settings.py",
        "/static/sub/../../settings.py",
        "/static/%2e%2e/settings.py",
        "/static/.%2e/settings.py",
        "/static/%2e%2e%2fsettings.py",
        "/static/..%2fsettings.py",
        "/static/%252e%252e/settings.py",
        "/static/..%5csettings.py",
        "/static/..\\settings.py",
        "/static//settings.py",
        "/static//etc/passwd",
        "/static/%2fetc/passwd",
        "/static/%c0%ae%c0%ae/settings.py",
        "/static/%u002e%u002e/settings.py",
        "/static/.../settings.py",
        "/static/..;/settings.py",
        "/static/./plain.txt",
        "/static/sub/./page.html",
        "/static/sub/../plain.txt",
        "/static/plain.txt/",
        "/static/plain.txt/x",
        "/static/plain.txt%00.css",
        "/static/plain.txt%20",
        "/static/sub%2fpage.html",
        "/static/",
        "/static/sub",
        "/static/sub/",
        "/static/.env",
        "/static/%2eenv",
        "/static/.git/config",
        "/static/.htpasswd",
        "/static/sub/.hidden",
        "/static/settings.py",
        "/static/backup~",
        "/static/link-outside",
        "/static/link-up",
        "/static/link-folder/key",
        "/static/pipe",
        "/static/nothing",
        "/static/" + "x" * 300,
        "/static/" + "x/" * 2000,
    ],
)
def test_not_found(site, target):
    """44–47"""
    with site.server.wire() as wire:
        answer = wire.send(request("GET", target)).answer()
    assert answer.status in ((400, 404) if "%" in target else (404,))
    assert SECRET not in answer.text and "root:" not in answer.text


@pytest.mark.parametrize(
    "target",
    [
        "/static../settings.py",
        "/static..%2fsettings.py",
        "/static-private/key",
        "/staticplain.txt",
        "//static/../settings.py",
        "/./static/../settings.py",
        "/x/../static/plain.txt",
        "/%2fstatic/plain.txt",
        "/STATIC/plain.txt",
        "/static",
        "/static%2fplain.txt",
        "/media/../static/.env",
    ],
)
def test_a_path_beside_the_prefix_is_not_ours(site, target):
    """44: the prefix ends where a segment ends; what only resembles it belongs to the app, which sees it as it was sent."""
    answer = site.server.get(target)
    assert answer.status in (200, 400, 404)
    assert SECRET not in answer.text and "0123456789" * 100 not in answer.text
    if answer.status == 200:
        assert answer.json()["environ"]["RAW_URI"] == target


def test_the_prefix_may_be_encoded(site):
    assert site.server.get("/st%61tic/plain.txt").body == PLAIN


def test_a_404_says_nothing_about_the_disk(site):
    answer = get(site, "nothing.txt")
    assert answer.status == 404 and str(site.static) not in answer.text
    assert answer.get("Proxy-Status") and answer.get("X-Request-ID")


def test_a_link_planted_later_is_not_followed(site):
    """47: also when a file of that name was served, and perhaps kept, before."""
    path = site.media / "avatar.png"
    path.write_bytes(b"\x89PNG")
    assert site.server.get("/media/avatar.png").status == 200
    path.unlink()
    path.symlink_to("/etc/passwd")
    eventually(lambda: site.server.get("/media/avatar.png").status == 404, "the link refused", deadline=10)


# -- conditional requests


def test_not_modified(site):
    full = get(site, "plain.txt")
    tag, date = full.get("ETag"), full.get("Last-Modified")
    for fields in (
        {"If-None-Match": tag},
        {"If-None-Match": f"W/{tag.removeprefix('W/')}"},
        {"If-None-Match": f'"other", {tag}'},
        {"If-None-Match": "*"},
        {"If-Modified-Since": date},
        {"If-Modified-Since": "Fri, 31 Dec 2100 23:59:59 GMT"},
        {"If-None-Match": tag, "If-Modified-Since": "Mon, 01 Jan 1990 00:00:00 GMT"},
    ):
        answer = get(site, "plain.txt", fields)
        assert answer.status == 304, fields
        assert answer.get("ETag") == tag and answer.get("Cache-Control") == full.get("Cache-Control")
        assert answer.get("Content-Type") is None or answer.get("Content-Type") == full.get("Content-Type")


@pytest.mark.parametrize(
    "fields",
    [
        {"If-None-Match": '"other"'},
        {"If-None-Match": "garbage"},
        {"If-Modified-Since": "Mon, 01 Jan 1990 00:00:00 GMT"},
        {"If-Modified-Since": "yesterday"},
        {"If-None-Match": '"other"', "If-Modified-Since": "Fri, 31 Dec 2100 23:59:59 GMT"},
        {"If-Match": "*"},
        {"If-Unmodified-Since": "Fri, 31 Dec 2100 23:59:59 GMT"},
    ],
    ids=str,
)
def test_modified(site, fields):
    assert get(site, "plain.txt", fields).body == PLAIN


@pytest.mark.parametrize("fields", [{"If-Match": '"other"'}, {"If-Unmodified-Since": "Mon, 01 Jan 1990 00:00:00 GMT"}], ids=str)
def test_precondition_failed(site, fields):
    assert get(site, "plain.txt", fields).status == 412


# -- ranges (rows 49, 50)


@pytest.mark.parametrize(
    "ranges, slice_",
    [
        ("bytes=0-0", slice(0, 1)),
        ("bytes=0-9", slice(0, 10)),
        ("bytes=990-", slice(990, 1000)),
        ("bytes=990-5000", slice(990, 1000)),
        ("bytes=-10", slice(990, 1000)),
        ("bytes=-5000", slice(0, 1000)),
        ("bytes=0-", slice(0, 1000)),
        ("Bytes=5-6", slice(5, 7)),
        ("bytes= 5-6", slice(5, 7)),
    ],
)
def test_a_range(site, ranges, slice_):
    answer = get(site, "plain.txt", {"Range": ranges})
    if ranges == "bytes= 5-6" and answer.status == 200:
        return
    assert answer.status == 206 and answer.body == PLAIN[slice_]
    assert answer.get("Content-Range") == f"bytes {slice_.start}-{slice_.stop - 1}/1000"
    assert answer.get("Content-Length") == str(slice_.stop - slice_.start)


@pytest.mark.parametrize("ranges", ["bytes=1000-", "bytes=1000-1001", "bytes=-0", "bytes=5000-, 6000-"])
def test_an_unsatisfiable_range(site, ranges):
    answer = get(site, "plain.txt", {"Range": ranges})
    assert answer.status == 416 and answer.get("Content-Range") == "bytes */1000"


@pytest.mark.parametrize(
    "ranges",
    ["bytes=", "bytes=,", "bytes=5-2", "bytes=a-b", "bytes=0x0-5", "lines=0-5", "0-5", "bytes=--5", "bytes=1-2-3", "bytes=" + ",".join(f"{n}-{n}" for n in range(0, 1000, 2))],
    ids=lambda ranges: ranges[:20],
)
def test_a_range_that_is_none_gets_the_whole(site, ranges):
    answer = get(site, "plain.txt", {"Range": ranges})
    assert answer.status == 200 and answer.body == PLAIN


def test_several_ranges(site):
    answer = get(site, "plain.txt", {"Range": "bytes=0-4, 100-104, -5"})
    assert answer.status == 206
    kind, boundary = re.fullmatch(r'(multipart/byteranges); boundary="?([^"]+)"?', answer.get("Content-Type")).groups()
    parts = answer.body.split(b"--" + boundary.encode())
    assert parts[0].strip() == b"" and parts[-1].strip() == b"--"
    read = []
    for part in parts[1:-1]:
        head, _, body = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        assert {name.lower() for name in fields} == {"content-type", "content-range"}
        read.append(({name.lower(): value for name, value in fields.items()}["content-range"], body.removesuffix(b"\r\n")))
    assert read == [("bytes 0-4/1000", PLAIN[:5]), ("bytes 100-104/1000", PLAIN[100:105]), ("bytes 995-999/1000", PLAIN[-5:])]


@pytest.mark.parametrize("ranges", ["bytes=" + ",".join(["0-"] * 1000), "bytes=" + ",".join(["0-"] * 8), "bytes=0-999,0-999,0-999"], ids=["1000", "8", "3"])
def test_overlapping_ranges_multiply_nothing(site, ranges):
    """49"""
    answer = get(site, "plain.txt", {"Range": ranges})
    assert answer.status in (200, 206) and len(answer.body) <= 2 * len(PLAIN)


def test_if_range(site):
    full = get(site, "plain.txt")
    for value, status in [
        (full.get("ETag"), 206),
        (full.get("Last-Modified"), 206),
        ('"other"', 200),
        (f"W/{full.get('ETag')}", 200),
        ("Mon, 01 Jan 1990 00:00:00 GMT", 200),
        ("garbage", 200),
    ]:
        answer = get(site, "plain.txt", {"Range": "bytes=0-4", "If-Range": value})
        assert (answer.status, answer.body) == (status, PLAIN[:5] if status == 206 else PLAIN), value


def test_ranges_of_a_large_file(site):
    content = (site.static / "large.bin").read_bytes()
    for start, stop in [(0, 1), (1 << 20, 2 << 20), (len(content) - 1, len(content)), (12345, 9_000_000)]:
        answer = get(site, "large.bin", {"Range": f"bytes={start}-{stop - 1}"})
        assert answer.status == 206 and answer.body == content[start:stop]


def test_range_of_an_empty_file(site):
    assert get(site, "empty.txt", {"Range": "bytes=0-"}).status in (200, 416)


def test_preconditions_come_before_ranges(site):
    tag = get(site, "plain.txt").get("ETag")
    assert get(site, "plain.txt", {"Range": "bytes=0-4", "If-None-Match": tag}).status == 304
    assert get(site, "plain.txt", {"Range": "bytes=0-4", "If-Match": '"other"'}).status == 412


def test_range_means_nothing_for_head(site):
    answer = site.server.request("HEAD", "/static/plain.txt", {"Range": "bytes=0-4"})
    assert answer.status == 200 and answer.get("Content-Length") == "1000"


# -- ready-compressed siblings


@pytest.mark.parametrize(
    "accept, coding",
    [
        (None, None),
        ("", None),
        ("identity", None),
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("br", "br"),
        ("zstd", "zstd"),
        ("gzip, br;q=0, zstd;q=0", "gzip"),
        ("gzip;q=0.5, br;q=0.9", "br"),
        ("gzip;q=1.0, br;q=0.1", "gzip"),
        ("gzip;q=0", None),
        ("*;q=0", None),
        ("gzip;q=0, *;q=0", None),
        ("deflate, compress", None),
        ("gzip;q=garbage", None),
        ("x-gzip", "gzip"),
    ],
)
def test_precompressed(site, accept, coding):
    answer = get(site, "app.css", {} if accept is None else {"Accept-Encoding": accept})
    if accept in ("*;q=0", "gzip;q=0, *;q=0"):
        assert answer.status in (200, 406) and answer.get("Content-Encoding") is None
        return
    if accept in ("x-gzip", "gzip;q=garbage"):
        assert answer.get("Content-Encoding") in (None, "gzip")
        return
    assert answer.status == 200 and answer.get("Content-Encoding") == coding
    suffix = {"gzip": ".gz", "br": ".br", "zstd": ".zst", None: ""}[coding]
    assert answer.body == (site.static / f"app.css{suffix}").read_bytes()
    assert answer.get("Content-Type").startswith("text/css")


def test_precompressed_for_all_of_a_browsers_codings(site):
    assert get(site, "app.css", {"Accept-Encoding": "gzip, deflate, br, zstd"}).get("Content-Encoding") in ("br", "zstd")
    assert get(site, "app.css", {"Accept-Encoding": "*"}).status == 200


def test_vary_and_etag_tell_the_codings_apart(site):
    answers = [get(site, "app.css", {"Accept-Encoding": coding}) for coding in ("identity", "gzip", "br", "zstd")]
    assert len({answer.get("ETag") for answer in answers}) == 4
    for answer in answers:
        assert "accept-encoding" in answer.get("Vary").lower()
    # Where there is nothing to choose from, Vary would only split caches.
    assert get(site, "plain.txt", {"Accept-Encoding": "gzip"}).get("Content-Encoding") is None


def test_not_modified_is_decided_for_the_coding_asked_for(site):
    """50"""
    tags = {coding: get(site, "app.css", {"Accept-Encoding": coding}).get("ETag") for coding in ("identity", "gzip")}
    for coding, other in ("identity", "gzip"), ("gzip", "identity"):
        assert get(site, "app.css", {"Accept-Encoding": coding, "If-None-Match": tags[coding]}).status == 304
        assert get(site, "app.css", {"Accept-Encoding": coding, "If-None-Match": tags[other]}).status == 200


def test_a_range_is_of_the_bytes_that_are_sent(site):
    """50"""
    answer = get(site, "app.css", {"Accept-Encoding": "gzip", "Range": "bytes=0-9"})
    whole = (site.static / ("app.css.gz" if answer.get("Content-Encoding") == "gzip" else "app.css")).read_bytes()
    assert answer.status == 206 and answer.body == whole[:10]
    assert answer.get("Content-Range") == f"bytes 0-9/{len(whole)}"


def test_a_range_of_one_coding_is_not_joined_to_another(site):
    """50"""
    plain = get(site, "app.css", {"Accept-Encoding": "identity"}).get("ETag")
    answer = get(site, "app.css", {"Accept-Encoding": "gzip", "Range": "bytes=10-", "If-Range": plain})
    assert answer.status == 200 or answer.get("Content-Encoding") is None


def test_a_sibling_by_its_own_name(site):
    answer = get(site, "app.css.gz")
    assert answer.status in (200, 404)
    assert answer.get("Content-Encoding") is None


# -- lifetimes


def test_hashed_names_never_change(site):
    cache = get(site, HASHED).get("Cache-Control")
    assert "immutable" in cache and "public" in cache and int(re.search(r"max-age=(\d+)", cache)[1]) >= 31_536_000
    assert "immutable" in get(site, HASHED, {"Accept-Encoding": "gzip"}).get("Cache-Control")


@pytest.mark.parametrize("name", ["plain.txt", "app.css", "looks.fedcba987654.css"])
def test_other_names_may_change(site, name):
    """Only the manifest knows what was hashed; a name that merely looks like it is no promise."""
    cache = get(site, name).get("Cache-Control")
    assert "immutable" not in cache and int(re.search(r"max-age=(\d+)", cache)[1]) <= 3600


def test_an_own_404_is_not_kept(site):
    assert "immutable" not in get(site, "nothing.0123456789ab.css").get("Cache-Control", "")


def test_the_shop_is_served_from_what_its_settings_say(shop, shop_folder):
    manifest = json.loads((shop_folder / "staticfiles/staticfiles.json").read_text())
    name = manifest["paths"]["shop/shop.css"]
    answer = shop.get(f"/static/{name}")
    assert answer.body == (shop_folder / "staticfiles" / name).read_bytes()
    assert "immutable" in answer.get("Cache-Control")
    assert shop.get("/static/staticfiles.json").status in (200, 404)
    picture = next((shop_folder / "media/products").glob("*.png"))
    assert shop.get(f"/media/products/{picture.name}").body == picture.read_bytes()
    assert shop.get("/media-private/").status == 404


# -- uploads (row 51)


@pytest.mark.parametrize("name", ["page.html", "drawing.svg", "feed.xml", "page.xhtml", "noname", "script.js", "paper.pdf", "photo.png", "photo.jpg"])
def test_an_upload_cannot_run_as_a_page(site, name):
    answer = site.server.get(f"/media/{name}")
    assert answer.status == 200 and answer.get("X-Content-Type-Options") == "nosniff"
    harmless = (answer.get("Content-Type") or "").startswith(("image/png", "image/jpeg", "application/pdf", "application/octet-stream", "text/plain"))
    attached = (answer.get("Content-Disposition") or "").startswith("attachment")
    sandboxed = any("sandbox" in value for value in answer.all("Content-Security-Policy"))
    assert harmless or attached or sandboxed


def test_a_picture_is_shown_in_place(site):
    answer = site.server.get("/media/photo.png")
    assert answer.get("Content-Type") == "image/png" and "attachment" not in (answer.get("Content-Disposition") or "")


def test_an_upload_is_never_immutable(site):
    (site.media / "user.0123456789ab.png").write_bytes(b"\x89PNG")
    assert "immutable" not in site.server.get("/media/user.0123456789ab.png").get("Cache-Control", "")


def test_an_upload_is_not_swapped_for_its_sibling(site):
    """A user who uploads a.txt.gz must not answer for another user's a.txt."""
    (site.media / "a.txt").write_text("mine")
    (site.media / "a.txt.gz").write_bytes(gzip.compress(b"yours"))
    answer = site.server.get("/media/a.txt", {"Accept-Encoding": "gzip"})
    assert answer.get("Content-Encoding") is None and answer.text == "mine"


# -- files named by the app (row 48)


@pytest.mark.parametrize("name", ["X-Accel-Redirect", "X-Sendfile", "x-sendfile"])
def test_a_file_outside_every_root_is_not_sent_for_the_app(stand, name):
    """48: no root is declared for it, so every path is outside."""
    server = stand.serve("gateway:app", workers=1)
    answer = server.get(f"/accel?{name}")
    assert answer.status in (500, 502) and "root:" not in answer.text
    assert not any("/etc/passwd" in value for _, value in answer.fields)
    assert answer.get(name) is None


def test_files_are_served_while_every_worker_is_busy(stand):
    folder = Path(stand.folder / "files")
    folder.mkdir()
    (folder / "a.txt").write_text("a file")
    server = stand.serve(static=f"/static/={folder}", workers=1, threads=1)
    gate = stand.gate("busy")
    with server.wire() as held:
        held.send(request("GET", "/gate/busy"))
        gate.reached()
        assert server.get("/static/a.txt").text == "a file"
        gate.open()
        held.answer()
