"""What becomes of the app's answer: rules 9 to 19, 22 and 23 of the checklist, PEP 3333."""

import gzip
import os

import pytest
from scripted_edge import CHUNK_MAX, INTERIM, WINDOW, lines_of

# Apps are chosen by path, so that one worker serves the tests of a table. `closed` counts calls of close().
COMMON = """
import sys

class Body:
    closed = 0

    def __init__(self, items):
        self.items = iter(items)

    def __iter__(self):
        return self

    def __next__(self):
        item = next(self.items)
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self):
        Body.closed += 1

def application(environ, start_response):
    name = environ["PATH_INFO"][1:]
    if name == "closed":
        start_response("200 OK", [])
        return [str(Body.closed).encode()]
    return globals()[name](environ, start_response)
"""


@pytest.fixture
def apps(worker):
    return lambda source, **options: worker(COMMON + source, **options)


def exc_info_app(first_sends):
    return f"""
def app(environ, start_response):
    start_response("200 OK", [("X-First", "1")])
    {"yield b'started'" if first_sends else ""}
    try:
        raise ValueError("oops")
    except ValueError:
        start_response("500 Oops", [("X-Second", "2")], sys.exc_info())
    yield b"error page"
"""


def test_09_start_response_twice_raises(apps):
    edge = apps(
        """
def app(environ, start_response):
    start_response("200 OK", [])
    try:
        start_response("201 Created", [])
    except AssertionError as error:
        return [str(error).encode()]
"""
    )
    answer = edge.get("/app")
    assert (answer.status, answer.text) == (200, "start_response() was called twice without exc_info")


def test_09_exc_info_before_the_headers_replaces_all(apps):
    answer = apps(exc_info_app(False)).get("/app")
    assert (answer.status, answer.reason, answer.body) == (500, b"Oops", b"error page")
    assert answer.header("x-first") == [] and answer.header("x-second") == ["2"]


def test_09_exc_info_after_the_headers_raises_again(apps):
    edge = apps(exc_info_app(True))
    answer = edge.get("/app")
    assert (answer.status, answer.body, answer.broken) == (200, b"started", True)
    assert "ValueError: oops" in edge.stderr()


def test_10_write_comes_before_the_iterable(apps):
    edge = apps(
        """
def app(environ, start_response):
    write = start_response("200 OK", [])
    write(b"")
    write(b"a")
    write(b"b")
    return Body([b"c", b"d"])
def listed(environ, start_response):
    write = start_response("200 OK", [])
    write(b"a")
    return [b"b", b"", b"c"]
def only(environ, start_response):
    start_response("200 OK", [("Content-Length", "3")])(b"abc")
    return []
"""
    )
    for name, body in [("app", b"abcd"), ("listed", b"abc"), ("only", b"abc")]:
        answer = edge.get("/" + name)
        assert (answer.body, answer.broken) == (body, False), name


def test_10_write_after_the_end_sends_nothing(apps):
    edge = apps(
        """
def app(environ, start_response):
    global write
    write = start_response("200 OK", [])
    return [b"a"]
def late(environ, start_response):
    write(b"late")
    start_response("200 OK", [])
    return [b"b"]
"""
    )
    assert edge.get("/app").body == b"a"
    assert edge.get("/late").body == b"b"


FAILING = """
def raises(environ, start_response):
    raise ValueError("oops")
def raises_after_start(environ, start_response):
    start_response("200 OK", [])
    raise ValueError("oops")
def first_item(environ, start_response):
    start_response("200 OK", [])
    return Body([ValueError("oops")])
def after_empty_items(environ, start_response):
    start_response("200 OK", [])
    return Body([b"", b"", ValueError("oops")])
def generator(environ, start_response):
    start_response("200 OK", [])
    raise ValueError("oops")
    yield b""
def system_exit(environ, start_response):
    sys.exit("oops")
def keyboard_interrupt(environ, start_response):
    raise KeyboardInterrupt("oops")
def no_start(environ, start_response):
    return [b"oops"]
def no_start_empty(environ, start_response):
    return Body([])
def none(environ, start_response):
    start_response("200 OK", [])
def text(environ, start_response):
    start_response("200 OK", [])
    return ["oops"]
def text_items(environ, start_response):
    start_response("200 OK", [])
    return Body(["oops"])
def close_raises_too(environ, start_response):
    class Bad(Body):
        def close(self):
            raise KeyError("close")
    return Bad([b"x"])
"""


@pytest.mark.parametrize(
    "name, message",
    [
        ("raises", "ValueError: oops"),
        ("raises_after_start", "ValueError: oops"),
        ("first_item", "ValueError: oops"),
        ("after_empty_items", "ValueError: oops"),
        ("generator", "ValueError: oops"),
        ("system_exit", "SystemExit: oops"),
        ("keyboard_interrupt", "KeyboardInterrupt: oops"),
        ("no_start", "RuntimeError: the app gave a body without calling start_response()"),
        ("no_start_empty", "RuntimeError: the app gave a body without calling start_response()"),
        ("none", "TypeError: the app returned no iterable: None"),
        ("text", "TypeError: the app's iterable gave 'oops', not bytes"),
        ("text_items", "TypeError: the app's iterable gave 'oops', not bytes"),
        ("close_raises_too", "KeyError: 'close'"),
    ],
)
def test_11_an_error_before_the_headers_is_a_clean_500(apps, name, message):
    edge = apps(FAILING)
    answer = edge.get("/" + name)
    assert answer.failed and answer.whole and answer.body == b""
    assert edge.get("/closed").status == 200, "the worker lives on"
    assert message in edge.stderr()
    assert lines_of(edge.stderr(), rf"bandstand: request req-1 \(GET /{name}\): exception in the app$")


def test_11_empty_items_do_not_send_the_headers(apps):
    edge = apps(
        """
def app(environ, start_response):
    start_response("200 OK", [])
    yield b""
    try:
        raise ValueError
    except ValueError:
        start_response("404 Not Found", [], sys.exc_info())
    yield b""
"""
    )
    answer = edge.get("/app")
    assert (answer.status, answer.whole, answer.body) == (404, True, b"")


CLOSING = """
def whole(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    return Body([b"ok"])
def streamed(environ, start_response):
    start_response("200 OK", [])
    return Body([b"a", b"b"])
def empty(environ, start_response):
    start_response("200 OK", [])
    return Body([])
def head(environ, start_response):
    start_response("204 No Content", [])
    return Body([b"x", ValueError("never reached")])
def error_first(environ, start_response):
    start_response("200 OK", [])
    return Body([ValueError()])
def error_midway(environ, start_response):
    start_response("200 OK", [])
    return Body([b"a", ValueError()])
def exit_midway(environ, start_response):
    start_response("200 OK", [])
    return Body([b"a", SystemExit()])
def surplus(environ, start_response):
    start_response("200 OK", [("Content-Length", "1")])
    return Body([b"a", b"b"])
def short(environ, start_response):
    start_response("200 OK", [("Content-Length", "3")])
    return Body([b"a", b"b"])
def no_start(environ, start_response):
    return Body([b"a"])
def text(environ, start_response):
    start_response("200 OK", [])
    return Body(["a"])
def not_streaming(environ, start_response):
    start_response("200 OK", [])
    body = Body([b"a", b"b"])
    body.streaming = False
    return body
def not_iterable(environ, start_response):
    start_response("200 OK", [])
    class Odd:
        close = Body([]).close
    return Odd()
"""


@pytest.mark.parametrize("name", [line[4:].split("(")[0] for line in CLOSING.splitlines() if line.startswith("def ")])
def test_12_close_is_called_exactly_once(apps, name):
    edge = apps(CLOSING)
    edge.get("/" + name)
    assert edge.get("/closed").body == b"1"
    edge.get("/" + name, method="HEAD")
    assert edge.get("/closed").body == b"2"


def test_12_close_comes_after_the_answer_has_left(apps, gate):
    edge = apps(
        f"""
class Slow(Body):
    def close(self):
        open({gate.path!r}).read()
def whole(environ, start_response):
    start_response("200 OK", [("Content-Length", "1")])
    return Slow([b"a"])
def streamed(environ, start_response):
    start_response("200 OK", [])
    return Slow([b"a"])
def not_streaming(environ, start_response):
    start_response("200 OK", [])
    Slow.streaming = False
    return Slow([b"a"])
"""
    )
    for name in ["whole", "streamed", "not_streaming"]:
        answer = edge.get("/" + name)
        assert (answer.body, answer.broken) == (b"a", False), name
        assert edge.word()[1] & 0x0F == 2, "the place is held until close() returns"
        gate.open()


def test_12_errors_of_close_are_logged_only(apps):
    edge = apps(
        """
def app(environ, start_response):
    class Bad(Body):
        def close(self):
            raise ValueError("in close")
    start_response("200 OK", [])
    return Bad([b"fine"])
"""
    )
    answer = edge.get("/app")
    assert (answer.status, answer.body, answer.broken) == (200, b"fine", False)
    edge.get("/closed")
    assert lines_of(edge.stderr(), r"req-1 \(GET /app\): exception in close\(\)")
    assert "ValueError: in close" in edge.stderr()


def test_13_each_item_leaves_before_the_next_is_asked_for(apps, gate):
    edge = apps(
        f"""
def app(environ, start_response):
    start_response("200 OK", [])
    for n in range(3):
        yield b"tick %d" % n
        yield b""
        open({gate.path!r}).read()
def length(environ, start_response):
    start_response("200 OK", [("Content-Length", "2")])
    yield b"ab"
    open({gate.path!r}).read()
"""
    )
    id = edge.request("GET", "/app")
    for n in range(3):
        _, _, _, got, payload, _ = edge.receive()
        assert got == id and payload.endswith(b"tick %d" % n)
        assert edge.is_silent()
        gate.open()
    answer = edge.get("/length")
    assert (answer.body, answer.whole) == (b"ab", True)
    gate.open()


def test_13_write_leaves_at_once(apps, gate):
    edge = apps(
        f"""
def app(environ, start_response):
    write = start_response("200 OK", [])
    write(b"first")
    open({gate.path!r}).read()
    return [b"second"]
"""
    )
    id = edge.request("GET", "/app")
    assert edge.receive()[4].endswith(b"first")
    gate.open()
    assert edge.receive()[4] == b"second"
    edge.expect(0x45, id)


LENGTHS = """
def one(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]
def several(environ, start_response):
    start_response("200 OK", [])
    return (b"hel", b"", b"lo")
def no_items(environ, start_response):
    start_response("302 Found", [("Location", "/")])
    return []
def not_streaming(environ, start_response):
    start_response("200 OK", [])
    body = Body([b"hel", b"lo"])
    body.streaming = False
    return body
def no_content(environ, start_response):
    start_response("204 No Content", [])
    return [b"hello"]
def not_modified(environ, start_response):
    start_response("304 Not Modified", [("Content-Length", "5")])
    return [b"hello"]
"""


@pytest.mark.parametrize(
    "method, name, length, body",
    [
        ("GET", "one", 5, b"hello"),
        ("GET", "several", 5, b"hello"),
        ("GET", "no_items", 0, b""),
        ("GET", "not_streaming", 5, b"hello"),
        ("HEAD", "one", None, b""),
        ("HEAD", "several", None, b""),
        ("GET", "no_content", None, b""),
        ("GET", "not_modified", None, b""),
    ],
)
def test_14_the_length_is_told_where_it_is_known(apps, method, name, length, body):
    answer = apps(LENGTHS).get("/" + name, method=method)
    assert (answer.whole, answer.body_length, answer.body) == (True, length, body)


OFF = """
def over_list(environ, start_response):
    start_response("200 OK", [("Content-Length", "3")])
    return [b"abcde"]
def over_items(environ, start_response):
    start_response("200 OK", [("Content-Length", "3")])
    return Body([b"ab", b"cde", b"f"])
def over_after_whole(environ, start_response):
    start_response("200 OK", [("Content-Length", "3")])
    return Body([b"abc", b"d", b"e"])
def over_zero(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return Body([b"abc"])
def under_list(environ, start_response):
    start_response("200 OK", [("Content-Length", "10")])
    return [b"abc"]
def under_items(environ, start_response):
    start_response("200 OK", [("Content-Length", "10")])
    return Body([b"a", b"bc"])
def under_nothing(environ, start_response):
    start_response("200 OK", [("Content-Length", "10")])
    return []
def midway(environ, start_response):
    start_response("200 OK", [])
    yield b"abc"
    raise SystemExit
"""


@pytest.mark.parametrize(
    "name, body, broken, log",
    [
        ("over_list", b"abc", False, "sent more than the 3 bytes"),
        ("over_items", b"abc", False, "sent more than the 3 bytes"),
        ("over_after_whole", b"abc", False, "sent more than the 3 bytes"),
        ("over_zero", b"", False, "sent more than the 0 bytes"),
        ("under_list", b"abc", True, "sent 3 of the 10 bytes"),
        ("under_items", b"abc", True, "sent 3 of the 10 bytes"),
        ("under_nothing", b"", True, "sent 0 of the 10 bytes"),
        ("midway", b"abc", True, "exception in the app"),
    ],
)
def test_15_never_more_than_content_length_never_a_clean_end_with_less(apps, name, body, broken, log):
    edge = apps(OFF)
    answer = edge.get("/" + name)
    assert (answer.body, answer.broken) == (body, broken)
    edge.get("/closed")
    assert len(lines_of(edge.stderr(), log)) == 1
    assert "req-1" in edge.stderr()


def test_16_hop_by_hop_headers_are_dropped_and_cookies_kept_apart(apps):
    edge = apps(
        r"""
def app(environ, start_response):
    start_response("200 OK", [("Connection", "close"), ("Keep-Alive", "1"), ("Transfer-Encoding", "chunked"),
        ("Upgrade", "x"), ("TE", "x"), ("Trailer", "x"), ("Proxy-Connection", "x"), ("X-Bandstand-Failure", "app"),
        ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Name", "caf\xe9"), ("x-empty", "")])
    return [b""]
"""
    )
    fields = [(b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2"), (b"X-Name", b"caf\xe9"), (b"x-empty", b"")]
    assert edge.get("/app").fields == fields


@pytest.mark.parametrize(
    "status, code, reason",
    [("299 My Reason", 299, b"My Reason"), ("200 ", 200, b""), ("200", 200, b""), ("200 \xe9t\xe9", 200, b"\xe9t\xe9")],
)
def test_17_the_reason_is_kept(apps, status, code, reason):
    answer = apps(f"def app(e, s):\n    s({status!r}, [])\n    return []").get("/app")
    assert (answer.status, answer.reason) == (code, reason)


@pytest.mark.parametrize(
    "arguments, error",
    [
        ("'200 OK\\r\\nX: y', []", "ValueError"),
        ("'200 OK\\0', []", "ValueError"),
        ("'OK', []", "ValueError"),
        ("'20 OK', []", "ValueError"),
        ("'099 Low', []", "ValueError"),
        ("'2000 OK', []", "ValueError"),
        ("'200-OK', []", "ValueError"),
        ("'200 \\u20ac', []", "ValueError"),
        ("b'200 OK', []", "TypeError"),
        ("200, []", "TypeError"),
        ("'200 OK', [('X', 'a\\r\\nSet-Cookie: evil=1')]", "ValueError"),
        ("'200 OK', [('X', 'a\\nb')]", "ValueError"),
        ("'200 OK', [('X', 'a\\0')]", "ValueError"),
        ("'200 OK', [('X\\r\\nY', 'a')]", "ValueError"),
        ("'200 OK', [('X:', 'a')]", "ValueError"),
        ("'200 OK', [('X Y', 'a')]", "ValueError"),
        ("'200 OK', [('', 'a')]", "ValueError"),
        ("'200 OK', [('X', '\\u20ac')]", "ValueError"),
        ("'200 OK', [('X', '\\ud800')]", "ValueError"),
        ("'200 OK', [('X', 1)]", "TypeError"),
        ("'200 OK', [(b'X', b'1')]", "TypeError"),
        ("'200 OK', [('X',)]", "TypeError"),
        ("'200 OK', ['X']", "TypeError"),
        ("'200 OK', None", "TypeError"),
        ("'200 OK', [('Content-Length', '-1')]", "ValueError"),
        ("'200 OK', [('Content-Length', '5'), ('content-length', '6')]", "ValueError"),
        ("'200 OK', [('X', 'a' * 1000000)]", "ValueError"),
        ("'200 OK', [('X', 'a')] * 2000", "ValueError"),
    ],
)
def test_17_what_could_end_a_head_early_is_refused(apps, arguments, error):
    edge = apps(f"def app(environ, start_response):\n    start_response({arguments})\n    return [b'never']")
    assert edge.get("/app").failed
    assert f"{error}: " in edge.stderr()


def test_17_equal_lengths_become_one(apps):
    source = "def app(e, s):\n    s('200 OK', [('Content-Length', '2'), ('content-length', '2')])\n    return [b'ab']"
    assert apps(source).get("/app").header("content-length") == ["2"]


@pytest.mark.parametrize("name", ["listed", "generator", "written", "big"])
def test_18_head_keeps_headers_and_sends_no_body(apps, name):
    edge = apps(
        """
def listed(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]
def generator(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])
    yield b"hel"
    yield b"lo"
def written(environ, start_response):
    start_response("200 OK", [("Content-Length", "5")])(b"hello")
    return []
def big(environ, start_response):
    start_response("200 OK", [("Content-Length", "5000000")])
    return [b"x" * 5000000]
"""
    )
    answer = edge.get("/" + name, method="HEAD")
    assert (answer.status, answer.whole, answer.body, answer.body_length) == (200, True, b"", None)
    assert answer.header("content-length")
    edge.get("/closed")
    assert edge.stderr() == ""


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_18_no_body_where_none_may_be(apps, status):
    edge = apps(f"def app(e, s):\n    s({status!r}, [])\n    yield b'x'\n    yield b'y'")
    answer = edge.get("/app")
    assert (answer.whole, answer.body, answer.body_length) == (True, b"", None)


# 19: file_wrapper

FILES = """
import gzip, io, os, tempfile
PATH = os.environ["FILE"]
def served(file, headers=()):
    def app(environ, start_response):
        start_response("200 OK", list(headers))
        opened = file()
        return environ["wsgi.file_wrapper"](opened, 1000)
    return app
def at_100():
    f = open(PATH, "rb"); f.read(100); return f
class Counted(io.FileIO):
    def close(self):
        if not self.closed: Body.closed += 1
        super().close()
class Proxy:
    def __init__(self, file): self.file = file
    read = property(lambda self: self.file.read)
    fileno = property(lambda self: self.file.fileno)
    tell = property(lambda self: self.file.tell)
    def close(self): Body.closed += 1; self.file.close()
class Shouting:
    def __init__(self, file): self.file = file
    def read(self, n): return self.file.read(n).upper()
    def fileno(self): return self.file.fileno()
    def tell(self): return self.file.tell()
class Memory(io.BytesIO):
    def close(self): Body.closed += 1; super().close()
def piped():
    r, w = os.pipe(); os.write(w, b"piped"); os.close(w); return open(r, "rb")
def named():
    f = tempfile.NamedTemporaryFile(); f.write(b"n" * 5000); f.seek(10); return f
plain = served(lambda: open(PATH, "rb"))
unbuffered = served(lambda: open(PATH, "rb", buffering=0))
offset = served(at_100)
offset_length = served(at_100, [("Content-Length", "50")])
too_long = served(at_100, [("Content-Length", "999999")])
at_end = served(lambda: (lambda f: (f.seek(0, 2), f)[1])(open(PATH, "rb")))
proxied = served(lambda: Proxy(open(PATH, "rb")))
temporary = served(named)
zipped = served(lambda: gzip.open(PATH + ".gz"))
shouting = served(lambda: Shouting(open(PATH, "rb")))
memory = served(lambda: Memory(b"in memory"))
pipe = served(piped)
subclass = served(lambda: Counted(PATH))
def inside(environ, start_response):
    start_response("200 OK", [])
    return iter(environ["wsgi.file_wrapper"](open(PATH, "rb")))
def written(environ, start_response):
    start_response("200 OK", [])(b"first:")
    return environ["wsgi.file_wrapper"](open(PATH, "rb"))
def derived(environ, start_response):
    class Own(environ["wsgi.file_wrapper"]):
        def __next__(self): return super().__next__().upper()
    start_response("200 OK", [])
    return Own(open(PATH, "rb"))
"""
CONTENT = bytes(range(97, 123)) * 200


@pytest.fixture
def files(apps, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    with gzip.open(str(path) + ".gz", "wb") as file:
        file.write(CONTENT)
    return apps(FILES, env={"FILE": str(path)})


@pytest.mark.parametrize(
    "name, content",
    [
        ("plain", CONTENT),
        ("unbuffered", CONTENT),
        ("offset", CONTENT[100:]),
        ("offset_length", CONTENT[100:150]),
        ("proxied", CONTENT),
        ("temporary", b"n" * 4990),
    ],
)
def test_19_a_file_is_passed_as_a_descriptor(files, name, content):
    answer = files.get("/" + name)
    assert answer.descriptor is not None
    with open(answer.descriptor, "rb") as file:
        assert os.pread(file.fileno(), answer.body_length, answer.offset) == content


@pytest.mark.parametrize(
    "name, content, broken",
    [
        ("too_long", CONTENT[100:], True),
        ("at_end", b"", False),
        ("zipped", CONTENT, False),
        ("shouting", CONTENT.upper(), False),
        ("memory", b"in memory", False),
        ("pipe", b"piped", False),
        ("subclass", CONTENT, False),
        ("inside", CONTENT, None),
        ("written", b"first:" + CONTENT, False),
        ("derived", CONTENT.upper(), False),
    ],
)
def test_19_what_is_not_plainly_a_file_is_iterated(files, name, content, broken):
    answer = files.get("/" + name)
    if broken is None:  # an iterator that is the wrapper itself: either way
        if answer.descriptor is not None:
            answer.body = os.pread(answer.descriptor, answer.body_length, answer.offset)
            os.close(answer.descriptor)
    else:
        assert answer.descriptor is None
        assert answer.broken == broken
    assert answer.body == content


def test_19_close_is_called_and_the_worker_goes_on(files):
    os.close(files.get("/proxied").descriptor)
    assert files.get("/closed").body == b"1"
    files.get("/memory")
    assert files.get("/closed").body == b"2"
    assert files.get("/subclass").body == CONTENT
    assert files.get("/closed").body == b"3"


def test_19_head_gives_the_length_and_no_descriptor(files):
    answer = files.get("/offset", method="HEAD")
    assert (answer.whole, answer.descriptor, answer.body_length) == (True, None, len(CONTENT) - 100)


def test_19_descriptors_keep_their_order_with_other_answers(files):
    ids, data = [], b""
    for place in range(40):
        id, request = files.encode_request("GET", ["/plain", "/closed", "/offset"][place % 3], place=place)
        ids.append(id)
        data += request
    files.send(data)
    for n, id in enumerate(ids):
        answer = files.answer(id)
        if n % 3 == 1:
            assert answer.descriptor is None
        else:
            with open(answer.descriptor, "rb") as file:
                start = 0 if n % 3 == 0 else 100
                assert os.pread(file.fileno(), answer.body_length, answer.offset) == CONTENT[start:]
    assert files.stray == []


def test_22_early_hints(apps):
    edge = apps(
        """
LINK = [("Link", "</style.css>; rel=preload")]
def app(environ, start_response):
    environ["wsgi.early_hints"](LINK)
    environ["wsgi.early_hints"](LINK)
    write = start_response("200 OK", [])
    write(b"a")
    environ["wsgi.early_hints"](LINK)
    return [b"b"]
def bad(environ, start_response):
    environ["wsgi.early_hints"]([("Link", "a\\r\\nb")])
"""
    )
    answer = edge.get("/app")
    assert [(i.status, i.fields) for i in answer.interim] == [(103, [(b"Link", b"</style.css>; rel=preload")])] * 2
    assert answer.body == b"ab"
    assert edge.get("/app", version=10).interim == []
    assert edge.get("/bad").failed


def test_22_early_hints_leave_at_once(apps, gate):
    edge = apps(
        f"""
def app(environ, start_response):
    environ["wsgi.early_hints"]([("Link", "x")])
    open({gate.path!r}).read()
    start_response("200 OK", [])
    return []
"""
    )
    id = edge.request("GET", "/app")
    edge.expect(INTERIM, id)
    gate.open()
    assert edge.answer(id).status == 200


def test_23_an_exit_after_the_headers_writes_no_second_answer(apps):
    edge = apps(
        """
def app(environ, start_response):
    start_response("200 OK", [])
    yield b"a"
    raise SystemExit(3)
def whole(environ, start_response):
    start_response("200 OK", [("Content-Length", "1")])
    yield b"a"
    raise SystemExit(3)
"""
    )
    answer = edge.get("/app")
    assert (answer.body, answer.broken) == (b"a", True)
    answer = edge.get("/whole")
    assert (answer.body, answer.whole) == (b"a", True)
    assert edge.get("/closed").status == 200
    assert edge.stray == []


@pytest.mark.parametrize("size", [0, 1, CHUNK_MAX, CHUNK_MAX + 1, WINDOW, WINDOW + 1, 3_000_000])
@pytest.mark.parametrize("shape", ["[data]", "(data[:7], data[7:])", "Body([data])", "io(data)"])
def test_bodies_of_all_sizes_arrive(apps, size, shape):
    edge = apps(
        f"""
import io as _io
def io(data):
    body = Body([data[:9], data[9:]]); body.streaming = False; return body
def app(environ, start_response):
    data = bytes(n % 251 for n in range(1000)) * {size // 1000 + 1}
    data = data[:{size}]
    start_response("200 OK", [])
    return {shape}
"""
    )
    answer = edge.get("/app")
    assert len(answer.body) == size and not answer.broken
    assert answer.body == (bytes(n % 251 for n in range(1000)) * (size // 1000 + 1))[:size]
    if shape == "[data]":
        assert answer.body_length == size
