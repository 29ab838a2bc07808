"""Compression: what leaves in which coding, what is left alone, and static siblings that the project has not made."""

import gzip
import io
import os
import zlib

import brotli
import pytest
import zstandard

from client import eventually, request

ALL = {"Accept-Encoding": "gzip, deflate, br, zstd"}
ROW = b"<tr><td>the same again and again, and one more time</td></tr>\n"


def decode(answer) -> bytes:
    coding = answer.get("Content-Encoding")
    return {
        None: lambda body: body,
        "gzip": gzip.decompress,
        "br": brotli.decompress,
        "zstd": lambda body: zstandard.ZstdDecompressor().stream_reader(io.BytesIO(body)).read(),
    }[coding](answer.body)


def expected(size: int) -> bytes:
    return (ROW * (size // len(ROW) + 1))[:size]


@pytest.fixture(scope="module")
def site(module_stand):
    folder = module_stand.folder / "project"
    folder.mkdir()
    (folder / "bandstand.toml").write_text('[paths."/plain"]\ncompress = false\n')
    return module_stand.serve("dressed:app", folder=folder, env={"FILES": str(folder)}, workers=1)


@pytest.mark.parametrize("size", [2_000, 60_000, 100_000, 240_000, 2_000_000])
@pytest.mark.parametrize(
    "accept, coding",
    [("gzip, deflate, br, zstd", "zstd"), ("gzip, deflate, br", "gzip"), ("br", "br"), ("gzip;q=0.5, br", "br"), ("gzip;q=0, *", "zstd")],
)
def test_row_76_by_quality(site, size, accept, coding):
    answer = site.get(f"/page/{size}/", {"Accept-Encoding": accept})
    assert answer.get("Content-Encoding") == coding
    assert answer.get("Vary") == "Accept-Encoding"
    assert len(answer.body) < size / 3
    assert decode(answer) == expected(size)


@pytest.mark.parametrize("accept", [None, "identity", "gzip;q=0", "*;q=0", "identity;q=0", "deflate"])
def test_nobody_gets_what_they_did_not_ask_for(site, accept):
    answer = site.get("/page/5000/", {"Accept-Encoding": accept} if accept else {})
    assert (answer.get("Content-Encoding"), answer.get("Content-Length")) == (None, "5000")
    assert answer.get("Vary") == "Accept-Encoding"
    assert answer.body == expected(5000)


@pytest.mark.parametrize(
    "target",
    [
        "/page/1023/",
        "/page/5000/?Content-Type=image/png",
        "/page/5000/?Content-Type=text/event-stream",
        "/page/5000/?Cache-Control=no-transform",
        "/page/5000/?Content-Encoding=identity",
        "/plain/5000/",
    ],
)
def test_row_76_what_is_left_alone(site, target):
    answer = site.get(target, ALL)
    assert answer.get("Content-Encoding") is None
    assert answer.get("Vary") is None
    assert answer.body == expected(int(target.split("/")[2]))


def test_row_79_what_django_compressed_stays(site):
    answer = site.get("/packed/5000/", ALL)
    assert answer.get("Content-Encoding") == "gzip"
    assert gzip.decompress(answer.body) == expected(5000)


@pytest.mark.parametrize("fields, compressed", [({"Sec-Fetch-Site": "cross-site"}, True), ({"Sec-Fetch-Site": "cross-site", "Cookie": "a=b"}, False), ({"Sec-Fetch-Site": "same-origin", "Cookie": "a=b"}, True)])
def test_row_53_breach_finds_no_lengths(site, fields, compressed):
    answer = site.get("/page/5000/", ALL | fields)
    assert (answer.get("Content-Encoding") is not None) == compressed
    assert answer.get("Vary") == "Accept-Encoding"


def test_the_app_is_asked_what_the_client_asked(site):
    answer = site.get("/echo/", ALL)
    assert b'"accept_encoding": "gzip, deflate, br, zstd"' in decode(answer)


def test_tags_become_weak_and_still_confirm(site):
    plain = site.get("/page/5000/")
    packed = site.get("/page/5000/", ALL)
    assert packed.get("ETag") == "W/" + plain.get("ETag")
    again = site.get("/page/5000/", ALL | {"If-None-Match": packed.get("ETag")})
    assert (again.status, again.get("ETag"), again.get("Vary")) == (304, packed.get("ETag"), "Accept-Encoding")
    again = site.get("/page/5000/", {"If-None-Match": plain.get("ETag")})
    assert (again.status, again.get("ETag")) == (304, plain.get("ETag"))


def test_head_says_what_get_says(site):
    # With a tag of the view's own: `ConditionalGetMiddleware` tags answers to GET only.
    target = '/page/5000/?ETag="mine"'
    get, head = site.get(target, ALL), site.request("HEAD", target, ALL)
    assert (get.get("Content-Encoding"), get.get("ETag")) == ("zstd", 'W/"mine"')
    for name in "Content-Encoding", "Vary", "ETag", "Content-Type":
        assert head.get(name) == get.get(name), name
    assert head.get("Content-Length") in (None, get.get("Content-Length"))


def test_the_connection_goes_on(site):
    with site.wire() as wire:
        for size in 2_000, 100_000, 500_000:
            wire.send(request("GET", f"/page/{size}/", ALL))
            assert decode(wire.answer()) == expected(size)
        wire.send(request("GET", "/large-stream/", ALL))
        answer = wire.answer()
        assert answer.chunked and decode(answer) == ROW * 10_000
        wire.send(request("GET", "/page/10/", ALL))
        assert wire.answer().body == expected(10)


FEWER = """
def app(environ, start_response):
    promised, given = (int(number) for number in environ["PATH_INFO"].strip("/").split("/"))
    start_response("200 OK", [("Content-Type", "text/html"), ("Content-Length", str(promised))])
    return (b"x" * 10_000 for _ in range(given // 10_000))
"""


@pytest.mark.parametrize("promised, given", [(100_000, 50_000), (2_000_000, 1_000_000), (100_000, 150_000), (2_000_000, 2_010_000)])
def test_row_58_a_body_that_is_not_what_was_promised_is_not_made_whole(stand, promised, given):
    """Compressed it has no length that could give it away: it must not end as a whole one does, nor hold what was not promised."""
    (stand.folder / "fewer.py").write_text(FEWER)
    server = stand.serve("fewer:app", workers=1)
    with server.wire() as wire:
        wire.send(request("GET", f"/{promised}/{given}", {"Accept-Encoding": "gzip"}))
        try:
            answer = wire.answer()
        except ConnectionResetError:
            return
    if answer.status == 200 and answer.complete:
        assert given > promised and decode(answer) == b"x" * promised
    else:
        assert answer.status in (200, 500, 502)


DECODERS = {
    "gzip": lambda: zlib.decompressobj(31).decompress,
    "zstd": lambda: zstandard.ZstdDecompressor().decompressobj().decompress,
    "br": lambda: brotli.Decompressor().process,
}


@pytest.mark.parametrize("coding", DECODERS)
def test_row_76_each_piece_of_a_stream_can_be_read_at_once(site, module_stand, coding):
    gate = module_stand.gate(f"piece-{coding}")
    with site.wire() as wire:
        wire.send(request("GET", f"/stream/text/?gate={gate.name}", {"Accept-Encoding": coding}))
        head = wire.head()
        assert head.get("Content-Encoding") == coding
        more, read = DECODERS[coding](), b""
        # Nothing more comes before the gate is opened: what is read here is all there is.
        while read != b"data: first\n\n":
            length = int(wire.until(b"\r\n"), 16)
            data = b""
            while len(data) < length + 2:
                data += wire.some()
            wire._unread, data = data[length + 2 :], data[:length]
            read += more(data)
        gate.open()
        rest = wire.until(b"0\r\n\r\n")
        length, _, rest = rest.partition(b"\r\n")
        assert more(rest[: int(length, 16)]) == b"data: second\n\n"


def test_events_are_sent_as_they_are(site, module_stand):
    gate = module_stand.gate("events")
    with site.wire() as wire:
        wire.send(request("GET", f"/stream/events/?gate={gate.name}", ALL))
        head = wire.head()
        assert head.get("Content-Encoding") is None and head.get("Vary") is None
        wire.until(b"data: first\n\n")
        gate.open()
        wire.until(b"data: second\n\n")


def test_events_are_compressed_where_that_is_asked_for(stand):
    server = stand.serve("dressed:app", env={"FILES": "/"}, workers=1, compress_types="text/event-stream")
    gate = stand.gate("events")
    with server.wire() as wire:
        wire.send(request("GET", f"/stream/events/?gate={gate.name}", {"Accept-Encoding": "gzip"}))
        assert wire.head().get("Content-Encoding") == "gzip"
        more = zlib.decompressobj(31)
        length = int(wire.until(b"\r\n"), 16)
        data = wire.some()
        while len(data) < length:
            data += wire.some()
        assert more.decompress(data[:length]) == b"data: first\n\n"
        gate.open()


def test_it_can_be_switched_off(stand):
    server = stand.serve("dressed:app", env={"FILES": "/"}, workers=1, compress="off")
    answer = server.get("/page/5000/", ALL)
    assert (answer.get("Content-Encoding"), answer.get("Vary")) == (None, None)


STYLE = "".join(f".row-{n} {{ width: {n * 37 % 401}px }}\n" for n in range(300))


def with_static(stand, **settings):
    static = stand.folder / "static"
    static.mkdir()
    (static / "style.css").write_text(STYLE)
    (static / "noise.css").write_bytes(os.urandom(4000))
    (static / "own.css").write_text(STYLE)
    (static / "own.css.gz").write_bytes(gzip.compress(STYLE.encode()))
    settings = {"state_dir": stand.folder / "state"} | settings
    return static, stand.serve(static=f"/static/={static}", workers=1, **settings)


def get_coded(server, name, accept, coding):
    return eventually(lambda: (answer := server.get(f"/static/{name}", {"Accept-Encoding": accept})).get("Content-Encoding") == coding and answer, f"{name} in {coding}")


def test_row_76_siblings_are_made_and_never_of_an_earlier_file(stand):
    static, server = with_static(stand)
    first = server.get("/static/style.css", ALL)
    assert decode(first).decode() == STYLE
    for accept, coding in ("gzip", "gzip"), ("br", "br"), ("zstd", "zstd"):
        answer = get_coded(server, "style.css", accept, coding)
        assert decode(answer).decode() == STYLE
        assert answer.get("Vary").lower() == "accept-encoding"
        assert len(answer.body) < len(STYLE) * 0.5
        assert coding in answer.get("ETag")
    changed = STYLE.replace("width", "niche")
    (static / "style.css").write_text(changed)
    # The same length within the same second: what was made of the earlier one is never sent for it.
    answer = eventually(lambda: (answer := server.get("/static/style.css")).text == changed and answer, "the changed file")
    for accept, coding in ("gzip", "gzip"), ("br", "br"), ("zstd", "zstd"):
        assert decode(get_coded(server, "style.css", accept, coding)).decode() == changed
    state = stand.folder / "state/static"
    assert state.stat().st_mode & 0o777 == 0o700
    assert not [name for name in os.listdir(static) if name not in ("style.css", "noise.css", "own.css", "own.css.gz")], "the project's folder is not ours"


def test_row_79_what_the_project_made_is_taken(stand):
    _, server = with_static(stand)
    assert decode(server.get("/static/own.css", {"Accept-Encoding": "gzip"})).decode() == STYLE
    get_coded(server, "style.css", "br", "br")
    # All that was asked for before has been made by now; nothing was made beside what the project has.
    assert server.get("/static/own.css", {"Accept-Encoding": "br"}).get("Content-Encoding") is None


def test_siblings_without_a_folder_for_them(stand):
    (stand.folder / "state").write_text("a file is in the way")
    _, server = with_static(stand)
    server.wait_text("static files are sent uncompressed")
    assert server.get("/static/style.css", ALL).text == STYLE


def test_siblings_can_be_switched_off(stand):
    _, server = with_static(stand, static_compress="off")
    assert server.get("/static/style.css", ALL).text == STYLE
    assert not (stand.folder / "state/static").exists()
