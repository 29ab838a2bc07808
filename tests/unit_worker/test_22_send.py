"""An ASGI app's answer: rows 31, 32, 34, 36 and 38 of the checklist, and its length as on the WSGI side (14 to 18)."""

import os

import pytest
from scripted_edge import CHUNK, CHUNK_MAX, END, FREE, IDLE, NOTIFY, RESPONSE, TRAILERS, WHOLE, decode_fields, decode_response, lines_of
from scripted_loop import APPS

RAISES = APPS + """
async def before(scope, receive, send):
    raise ValueError("oops")
async def held(scope, receive, send):
    await start(send)
    raise ValueError("oops")
async def midway(scope, receive, send):
    await start(send)
    await body(send, b"some", True)
    raise ValueError("oops")
async def after(scope, receive, send):
    await answer(send, b"all")
    raise ValueError("oops")
async def leaves(scope, receive, send):
    await answer(send, b"all")
    raise SystemExit(3)
async def nothing(scope, receive, send):
    pass
async def only_start(scope, receive, send):
    await start(send)
async def unfinished(scope, receive, send):
    await start(send)
    await body(send, b"some", True)
def no_coroutine(scope, receive, send):
    return 5
"""


@pytest.mark.parametrize("app", ["before", "held", "no_coroutine"])
def test_31_an_exception_before_the_first_body_is_a_500(loop_worker, app):
    edge = loop_worker(RAISES)
    assert edge.get("/" + app).failed
    assert edge.get("/after").status == 200
    assert lines_of(edge.stderr(), rf"^bandstand: request req-1 \(GET /{app}\): exception in the app$")
    assert lines_of(edge.stderr(), "ValueError: oops|TypeError")


def test_34_an_exception_midway_breaks_the_answer_off(loop_worker):
    edge = loop_worker(RAISES)
    answer = edge.get("/midway")
    assert (answer.status, answer.body, answer.broken) == (200, b"some", True)
    assert lines_of(edge.stderr(), "ValueError: oops")


@pytest.mark.parametrize("app, error", [("after", "ValueError: oops"), ("leaves", "SystemExit: 3")])
def test_34_an_exception_after_the_answer_is_only_logged(loop_worker, app, error):
    edge = loop_worker(RAISES)
    for _ in range(3):
        assert edge.get("/" + app).text == "all"
    assert edge.stop() == 0
    assert len(lines_of(edge.stderr(), error)) == 3


@pytest.mark.parametrize("app", ["nothing", "only_start"])
def test_34_returning_without_an_answer_is_a_500(loop_worker, app):
    edge = loop_worker(RAISES)
    assert edge.get("/" + app).failed
    assert edge.stop() == 0
    assert edge.stderr() == f"bandstand: request req-1 (GET /{app}): the app returned without an answer\n"


def test_34_returning_before_the_end_breaks_the_answer_off(loop_worker):
    edge = loop_worker(RAISES)
    assert edge.get("/unfinished").broken
    assert edge.stop() == 0
    assert "the app returned before its answer was complete" in edge.stderr()


WRONG = APPS + """
START = {"type": "http.response.start", "status": 200}
BODY = {"type": "http.response.body"}
MORE = {"type": "http.response.body", "body": b"x", "more_body": True}
TABLE = TABLE_HERE
async def wrong(scope, receive, send):
    for message in TABLE[:-1]:
        await send(message)
    try:
        await send(TABLE[-1])
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        print(text, flush=True)
"""


@pytest.mark.parametrize(
    "messages, error",
    [
        ("[BODY]", "RuntimeError: response.body may not come now: http.response.start has to come first"),
        ("[START, START]", "RuntimeError: response.start may not come now"),
        ("[START, MORE, START]", "RuntimeError: response.start may not come now"),
        ("[START, BODY, BODY]", "RuntimeError: response.body may not come now: the answer is complete"),
        ("[START, {'type': 'http.response.trailers'}]", "RuntimeError: response.trailers may not come now"),
        ("[START, MORE, {'type': 'http.response.pathsend', 'path': '/'}]", "RuntimeError: response.pathsend may not"),
        ("[START, MORE, {'type': 'http.response.early_hint', 'links': []}]", "RuntimeError: response.early_hint may"),
        ("[{'type': 'http.response.start'}]", "ValueError: .* has no status"),
        ("[{'type': 'http.response.start', 'status': 99}]", "ValueError: status must be a number from 200 to 999"),
        ("[{'type': 'http.response.start', 'status': '200'}]", "ValueError: status must be a number"),
        ("[{**START, 'headers': [('a', b'b')]}]", "TypeError: a header must be a pair of bytes"),
        ("[{**START, 'headers': [(b'a',)]}]", "TypeError: a header must be a pair of bytes"),
        ("[{**START, 'headers': 5}]", "TypeError: headers must be a list"),
        ("[{**START, 'headers': [(b'a b', b'')]}]", "ValueError: \"a b\" is not a header's name"),
        ("[{**START, 'headers': [(b'a', b'b\\r\\nc')]}]", "ValueError: the value of header \"a\" has a control"),
        ("[{**START, 'headers': [(b'content-length', b'-1')]}]", "ValueError: Content-Length must be one"),
        ("[START, {'type': 'http.response.body', 'body': 'text'}]", "TypeError: expected bytes, not 'text'"),
        ("[{'type': 'http.response.nothing'}]", 'ValueError: "http.response.nothing" is not a message'),
        ("[{'type': 'websocket.accept'}]", "ValueError: \"websocket.accept\" is not a message"),
        ("[{}]", "TypeError: a message must have a type"),
        ("[5]", "TypeError: a message must be a dict, not 5"),
    ],
)
def test_34_wrong_messages_raise_in_send(loop_worker, messages, error):
    import re

    edge = loop_worker(WRONG.replace("TABLE_HERE", messages))
    edge.request("GET", "/wrong")
    line = edge.process.stdout.readline().decode()
    assert re.match(error, line), line


LENGTHS = APPS + """
async def exact(scope, receive, send):
    await start(send, (b"content-length", b"6"))
    await body(send, b"abc", True)
    await body(send, b"def", True)
    await body(send)
async def surplus(scope, receive, send):
    await start(send, (b"Content-Length", b"3"))
    await body(send, b"ab", True)
    await body(send, b"cde")
async def short(scope, receive, send):
    await start(send, (b"content-length", b"5"))
    await body(send, b"abc")
async def unlike(scope, receive, send):
    await start(send, (b"content-length", b"5"))
    await body(send, b"abcdefg")
async def none(scope, receive, send):
    await start(send, status=204)
    await body(send, b"abc", True)
    await body(send, b"def")
async def empty(scope, receive, send):
    await answer(send, b"")
async def large(scope, receive, send):
    await answer(send, bytes(200_000))
async def hops(scope, receive, send):
    await answer(send, b"x", (b"Transfer-Encoding", b"chunked"), (b"connection", b"close"), (b"set-cookie", b"a"), (b"set-cookie", b"b"))
async def listed(scope, receive, send):
    await send({"type": "http.response.start", "status": 299, "headers": iter([[b"a", b"\\xe9"]])})
    await send({"type": "http.response.body"})
"""


@pytest.fixture
def lengths(loop_worker):
    return loop_worker(LENGTHS)


@pytest.mark.parametrize(
    "app, method, status, body, broken, whole, length",
    [
        ("exact", "GET", 200, b"abcdef", False, False, None),
        ("surplus", "GET", 200, b"abc", False, False, None),
        ("short", "GET", 200, b"abc", True, False, None),
        ("unlike", "GET", 200, b"abcde", False, False, None),
        ("none", "GET", 204, b"", False, True, None),
        ("exact", "HEAD", 200, b"", False, True, None),
        ("large", "HEAD", 200, b"", False, True, None),
        ("empty", "GET", 200, b"", False, True, 0),
        ("large", "GET", 200, bytes(200_000), False, False, 200_000),
    ],
)
def test_14_18_lengths(lengths, app, method, status, body, broken, whole, length):
    answer = lengths.get("/" + app, method=method)
    assert (answer.status, answer.body, answer.broken, answer.whole) == (status, body, broken, whole)
    assert answer.body_length == length


def test_15_wrong_lengths_are_logged(lengths):
    for app in ("surplus", "short"):
        lengths.get("/" + app)
    assert lengths.stop() == 0
    first, second = lengths.stderr().splitlines()
    assert first.endswith("more than the 3 bytes of its Content-Length; the rest was cut")
    assert second.endswith("3 of the 5 bytes of its Content-Length; the answer was broken off")


def test_32_the_app_s_hop_by_hop_fields_are_dropped(lengths):
    assert lengths.get("/hops").fields == [(b"set-cookie", b"a"), (b"set-cookie", b"b")]


def test_headers_may_be_any_pairs(lengths):
    answer = lengths.get("/listed")
    assert (answer.status, answer.fields) == (299, [(b"a", b"\xe9")])


def test_32_each_message_leaves_before_the_next(loop_worker, gate):
    edge = loop_worker(
        APPS
        + f"""
async def events(scope, receive, send):
    await start(send)
    await body(send, b"", True)
    for text in (b"one", b"two"):
        await asyncio.get_running_loop().run_in_executor(None, lambda: open({gate.path!r}).read())
        await body(send, text, True)
    await body(send)
"""
    )
    id = edge.request("GET", "/events")
    assert decode_response(edge.expect(RESPONSE, id)[4]).body == b""
    gate.open()
    assert edge.expect(CHUNK, id)[4] == b"one"
    gate.open()
    assert edge.expect(CHUNK, id)[4] == b"two"
    edge.expect(END, id)


BACKGROUND = APPS + """
async def app(scope, receive, send):
    await answer(send, b"done")
    if scope["path"] == "/app/blocking":
        open(GATE).read()
    else:
        await asyncio.get_running_loop().run_in_executor(None, lambda: open(GATE).read())
"""


@pytest.mark.parametrize("path", ["/app/blocking", "/app/waiting"])
def test_36_work_after_the_answer_does_not_delay_it(loop_worker, gate, path):
    edge = loop_worker(f"GATE = {gate.path!r}\n" + BACKGROUND)
    id = edge.request("GET", path)
    assert edge.answer(id).text == "done"
    gate.open()
    assert edge.stop() == 0
    assert edge.word() == (0, FREE)


def test_36_the_place_is_free_when_the_task_has_ended(loop_worker, gate):
    edge = loop_worker(f"GATE = {gate.path!r}\n" + BACKGROUND + "async def plain(scope, receive, send):\n    await answer(send, b'')")
    id = edge.request("GET", "/app/waiting")
    assert edge.answer(id).text == "done"
    place = edge.place
    edge.add_bit(place, NOTIFY)
    edge.get("/plain")
    assert edge.word(place)[0] == id
    gate.open()
    assert edge.expect(IDLE, id)[2] == place
    assert edge.word(place) == (0, FREE)


def test_answers_of_a_batch_all_come(loop_worker):
    edge = loop_worker(LENGTHS)
    requests = [edge.encode_request(path="/empty") for _ in range(300)]
    edge.send(b"".join(data for _, data in requests))
    seen = {edge.receive()[3] for _ in requests}
    assert seen == {id for id, _ in requests}


# Extensions

FILES = APPS + """
async def path(scope, receive, send):
    await start(send, *[(b"content-length", b"3")] * (scope["path"] == "/path/cut"))
    await send({"type": "http.response.pathsend", "path": PATH})
async def missing(scope, receive, send):
    await start(send)
    await send({"type": "http.response.pathsend", "path": "/nowhere/at/all"})
async def folder(scope, receive, send):
    await start(send)
    await send({"type": "http.response.pathsend", "path": "/"})
async def too_long(scope, receive, send):
    await start(send, (b"content-length", b"100"))
    await send({"type": "http.response.pathsend", "path": PATH})
async def zero(scope, receive, send):
    await start(send)
    with open(PATH, "rb") as file:
        await send({"type": "http.response.zerocopysend", "file": file, **eval(scope["query_string"])})
async def parts(scope, receive, send):
    await start(send)
    with open(PATH, "rb", buffering=0) as file:
        await send({"type": "http.response.zerocopysend", "file": file, "count": 2, "more_body": True})
        await send({"type": "http.response.body", "body": b"-", "more_body": True})
        await send({"type": "http.response.zerocopysend", "file": file, "count": 2, "more_body": True})
        await send({"type": "http.response.zerocopysend", "file": file.fileno(), "offset": 0, "count": 1})
"""


@pytest.fixture
def files(loop_worker, tmp_path):
    (tmp_path / "file").write_bytes(b"0123456789")
    return loop_worker(f"PATH = {str(tmp_path / 'file')!r}\n" + FILES)


def content(answer):
    return os.pread(answer.descriptor, answer.body_length, answer.offset)


@pytest.mark.parametrize(
    "target, query, expected",
    [
        ("/path", b"", b"0123456789"),
        ("/path/cut", b"", b"012"),
        ("/zero", b"{'offset': 4}", b"456789"),
        ("/zero", b"{'offset': 4, 'count': 3}", b"456"),
        ("/zero", b"{'offset': 8, 'count': 100}", b"89"),
    ],
)
def test_38_a_file_is_answered_by_its_descriptor(files, target, query, expected):
    answer = files.get(target, query=query)
    assert content(answer) == expected and answer.body == b""


def test_38_a_file_from_where_it_stands_is_copied(files):
    answer = files.get("/zero", query=b"{}")
    assert (answer.descriptor, answer.body) == (None, b"0123456789")
    assert files.get("/parts").body == b"01-230"


def test_38_a_file_and_head(files):
    answer = files.get("/path", method="HEAD")
    assert (answer.descriptor, answer.body_length, answer.body, answer.whole) == (None, 10, b"", True)


@pytest.mark.parametrize(
    "app, error",
    [
        ("missing", "FileNotFoundError"),
        ("folder", "FileNotFoundError: / is not a plain file"),
        ("too_long", "OSError: the file is shorter than the answer's Content-Length"),
    ],
)
def test_38_a_file_that_cannot_be_sent_raises(files, app, error):
    assert files.get("/" + app).failed
    assert lines_of(files.stderr(), error)


TRAILING = APPS + """
async def app(scope, receive, send):
    await start(send, trailers=True)
    await body(send, b"abc")
    await send({"type": "http.response.trailers", "headers": [(b"a", b"1")], "more_trailers": True})
    await send({"type": "http.response.trailers", "headers": [(b"b", b"2")]})
"""


def test_38_trailers(loop_worker):
    edge = loop_worker(TRAILING)
    id = edge.request("GET", "/app", fields=[("TE", "trailers")])
    head = decode_response(edge.expect(RESPONSE, id)[4])
    assert (head.body, head.body_length) == (b"abc", None)
    assert decode_fields(edge.expect(TRAILERS, id)[4], 0)[0] == [(b"a", b"1"), (b"b", b"2")]
    assert edge.expect(END, id)[1] == 0


def test_38_trailers_that_the_client_does_not_take_are_dropped(loop_worker):
    answer = loop_worker(TRAILING).get("/app")
    assert (answer.body, answer.broken) == (b"abc", False)


def test_38_early_hints(loop_worker):
    edge = loop_worker(
        APPS
        + """
async def app(scope, receive, send):
    await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload", b"</b.js>"]})
    await answer(send, b"x")
"""
    )
    answer = edge.get("/app")
    assert [(i.status, i.fields) for i in answer.interim] == [
        (103, [(b"link", b"</a.css>; rel=preload"), (b"link", b"</b.js>")])
    ]
    assert edge.get("/app", version=10).interim == []
