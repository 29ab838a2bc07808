"""PEP 3333 through the wire: what an app sees, and what becomes of its answer (part 1 of the checklist, 1–23)."""

import ast
import hashlib
import os

import pytest

from client import eventually, request


@pytest.fixture(scope="module")
def server(module_stand):
    return module_stand.serve("gateway:app", workers=2, threads=2)


@pytest.fixture(scope="module")
def probe(module_stand):
    return module_stand.serve("probe:app", workers=2, threads=2)


def told(probe, target="/", fields=(), **kwargs) -> dict:
    answer = probe.get(target, fields, **kwargs)
    assert answer.status == 200
    return answer.json()["environ"]


# -- the environ


def test_every_string_is_latin_1(probe):
    """1"""
    with probe.wire() as wire:
        wire.send(b"GET /caf%C3%A9 HTTP/1.1\r\nHost: localhost\r\nX-Latin: caf\xe9\r\nX-Utf: caf\xc3\xa9 \xe2\x82\xac\r\n\r\n")
        answer = wire.answer()
    assert answer.status == 200
    environ, types = answer.json()["environ"], answer.json()["types"]
    assert environ["HTTP_X_LATIN"] == "caf\xe9"
    assert environ["HTTP_X_UTF"].encode("latin-1").decode() == "caf\u00e9 \u20ac"
    assert environ["PATH_INFO"].encode("latin-1").decode() == "/caf\u00e9"
    of_cgi = ("HTTP_", "REQUEST_", "SERVER_", "REMOTE_", "PATH_INFO", "QUERY_STRING", "SCRIPT_NAME", "CONTENT_")
    assert {kind for name, kind in types.items() if name.startswith(of_cgi)} == {"str"}


def test_raw_bytes_in_the_target_arrive_or_are_refused(probe):
    """1, 2: no specification allows them and old clients send them; what must not happen is that they change."""
    with probe.wire() as wire:
        answer = wire.send(b"GET /caf\xc3\xa9?x=\xe9 HTTP/1.1\r\nHost: localhost\r\n\r\n").answer()
    if answer.status != 400:
        environ = answer.json()["environ"]
        assert (environ["PATH_INFO"], environ["QUERY_STRING"]) == ("/caf\xc3\xa9", "x=\xe9")


@pytest.mark.parametrize(
    "target, path, query",
    [
        ("/", "/", ""),
        ("/a%20b", "/a b", ""),
        ("/caf%C3%A9", "/caf\xc3\xa9", ""),
        ("/caf%E9", "/caf\xe9", ""),
        ("/a%2Fb", "/a%2Fb", ""),
        ("/a%2fb", "/a%2fb", ""),
        ("/a%252Fb", "/a%2Fb", ""),
        ("//a//b/", "//a//b/", ""),
        ("/a/../b/./c", "/a/../b/./c", ""),
        ("/a;b=c", "/a;b=c", ""),
        ("/a+b", "/a+b", ""),
        ("/a?x=%2F&y=a+b", "/a", "x=%2F&y=a+b"),
        ("/a?", "/a", ""),
        ("/a??b", "/a", "?b"),
        ("/a%3Fb", "/a?b", ""),
        ("/a%23b", "/a#b", ""),
        ("/%E2%82%AC", "/\xe2\x82\xac", ""),
    ],
)
def test_the_path(probe, target, path, query):
    """2, 3"""
    environ = told(probe, target)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"], environ["QUERY_STRING"]) == ("", path, query)
    assert environ["RAW_URI"] == environ["REQUEST_URI"] == target, "both names are in use, and both mean what was sent"


def test_content_type_and_length(probe):
    """4"""
    without = told(probe)
    assert without.get("CONTENT_TYPE", "") == "" and without.get("CONTENT_LENGTH", "") == ""
    environ = probe.post("/", b"hello", {"Content-Type": "text/x-test"}).json()["environ"]
    assert environ["CONTENT_TYPE"] == "text/x-test" and environ["CONTENT_LENGTH"] == "5"
    assert "HTTP_CONTENT_TYPE" not in environ and "HTTP_CONTENT_LENGTH" not in environ


def test_input_terminated(probe):
    """5"""
    environ = probe.post("/", b"5\r\nhello\r\n0\r\n\r\n", {"Transfer-Encoding": "chunked"}).json()["environ"]
    assert environ["wsgi.input_terminated"] is True and environ["CONTENT_LENGTH"] == "5"


BODY = b"one\ntwo\r\n\nfour without end"


@pytest.mark.parametrize("size", ["small", "spooled"])
@pytest.mark.parametrize(
    "calls, expected",
    [
        ("read()", [BODY]),
        ("read(-1)", [BODY]),
        ("read(3);read(1);read(100000000);read();read(1)", [b"one", b"\n", BODY[4:], b"", b""]),
        ("read(0);read()", [b"", BODY]),
        ("readline();readline();readline();readline();readline()", [b"one\n", b"two\r\n", b"\n", b"four without end", b""]),
        ("readline(2);readline(2);readline(2)", [b"on", b"e\n", b"tw"]),
        ("readline(-1)", [b"one\n"]),
        ("readlines()", [[b"one\n", b"two\r\n", b"\n", b"four without end"]]),
        ("read(1);readlines();read()", [b"o", [b"ne\n", b"two\r\n", b"\n", b"four without end"], b""]),
        ("list;read()", [[b"one\n", b"two\r\n", b"\n", b"four without end"], b""]),
        ("readline();list", [b"one\n", [b"two\r\n", b"\n", b"four without end"]]),
        ("readline();read(3);readline()", [b"one\n", b"two", b"\r\n"]),
    ],
)
def test_input(server, calls, expected, size):
    """6; a body from a spooled file behaves as one from memory."""
    body = BODY
    if size == "spooled":
        filler = b"x" * 600_000
        body, expected = BODY + filler, with_filler(expected, filler)
    answer = server.post(f"/input?{calls}", body)
    assert ast.literal_eval(answer.text) == expected


def with_filler(value, filler):
    """The last line of the body grows by the filler, wherever it was expected."""
    if isinstance(value, list):
        return [with_filler(one, filler) for one in value]
    return value + filler if value.endswith(BODY[-5:]) else value


def test_input_of_a_request_without_a_body(server):
    """6: never blocks."""
    answer = server.get("/input?read();readline();readlines();list;read(10)")
    assert ast.literal_eval(answer.text) == [b"", b"", [], [], b""]


def test_repeated_fields(probe):
    """7"""
    environ = told(probe, fields=[("X-A", "1"), ("Cookie", "a=1"), ("x-a", "2"), ("cookie", "b=2"), ("X-A", ""), ("Accept", "a/b"), ("Accept", "c/d")])
    assert environ["HTTP_X_A"].replace(", ", ",") == "1,2,"
    assert environ["HTTP_ACCEPT"].replace(", ", ",") == "a/b,c/d"
    assert environ["HTTP_COOKIE"] == "a=1; b=2"


def test_names_that_cannot_be_told_apart_are_dropped(probe):
    """8"""
    environ = told(probe, fields=[("X-Real", "good"), ("X_Real", "bad"), ("X.Dotted", "1")])
    assert environ["HTTP_X_REAL"] == "good"


def test_truths_about_the_server(probe):
    """20"""
    environ = told(probe)
    assert (environ["wsgi.multithread"], environ["wsgi.multiprocess"], environ["wsgi.run_once"]) == (True, True, False)
    assert environ["wsgi.version"] == [1, 0] and environ["wsgi.url_scheme"] == "http"
    assert environ["SERVER_PORT"] == str(probe.port) and environ["SERVER_NAME"]
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.1" and environ["SERVER_SOFTWARE"].startswith("bandstand")
    assert environ["REMOTE_ADDR"] == "127.0.0.1" and environ["REMOTE_PORT"].isdigit()
    assert environ["REQUEST_METHOD"] == "GET" and environ["HTTP_HOST"] == "localhost"


def test_one_thread_is_not_called_multithreaded(stand):
    environ = told(stand.serve(workers=1, threads=1))
    assert (environ["wsgi.multithread"], environ["wsgi.multiprocess"]) == (False, False)


def test_methods_keep_their_case(probe):
    assert probe.request("Custom", "/").json()["environ"]["REQUEST_METHOD"] == "Custom"


def test_the_environ_is_fresh(server):
    """21: what one request did to it, the next does not see."""
    with server.wire() as wire:
        for _ in range(10):
            answer = wire.send(request("GET", "/mutate", {"X-Mine": "1"})).answer()
            assert answer.text == "True none"


def test_wsgi_errors_is_a_text_stream(server):
    """20"""
    assert server.get("/errors").text == "ok"
    server.wait_text("one line to wsgi.errors")
    server.wait_text("to wsgi.errors")


def test_threads_run_at_once(stand):
    """As many requests at once as workers × threads."""
    server = stand.serve(workers=2, threads=3)
    gates = [stand.gate(f"g{number}") for number in range(6)]
    wires = [server.wire().send(request("GET", f"/gate/g{number}")) for number in range(6)]
    for gate in gates:
        gate.reached()
    for gate in gates:
        gate.open()
    pids = [wire.answer().text for wire in wires]
    assert sorted(map(pids.count, set(pids))) == [3, 3]
    for wire in wires:
        wire.socket.close()


# -- the answer


def test_write(server):
    """10"""
    assert server.get("/written").body == b"one two three four"


def test_start_response_twice(server):
    """9"""
    assert server.get("/started-twice").text.startswith("raised ")


def test_exc_info_replaces_everything(server):
    """9"""
    answer = server.get("/replaced")
    assert (answer.status, answer.reason, answer.text) == (500, "Changed Mind", "replaced")
    assert answer.get("X-Second") == "2" and answer.get("X-First") is None and answer.get("Set-Cookie") is None


def test_exc_info_too_late(server):
    """9"""
    answer = server.get("/too-late")
    assert (answer.status, answer.text) == (200, "begun raised too late")


def test_an_error_before_the_first_byte_is_a_clean_500(server):
    """11, 31"""
    answer = server.get("/fails-before")
    assert answer.status == 500 and answer.get("X-Promise") is None
    assert "failed before the first byte" not in answer.text, "a traceback is for the log"
    server.wait_text("failed before the first byte")


def test_an_error_in_the_app_is_a_clean_500_with_a_traceback_in_the_log(probe):
    with probe.wire() as wire:
        answer = wire.send(request("GET", "/fail")).answer()
        assert answer.status == 500 and answer.get("Proxy-Status") and "on purpose" not in answer.text
        assert wire.send(request("GET", "/")).answer().status == 200
    probe.wait_text("RuntimeError: the app failed on purpose")
    probe.wait_text("in fail")
    probe.wait_line(lambda line: answer.get("X-Request-ID") in line and "duration_ms" not in line, "the request id beside the traceback")


@pytest.mark.parametrize("page", ["fails-after", "exits-after"])
def test_an_error_after_the_first_byte_cuts_the_answer(server, module_stand, page):
    """15, 23: no clean end, and no second head."""
    gate = module_stand.gate(page)
    with server.wire() as wire:
        wire.send(request("GET", f"/{page}/{page}"))
        wire.until(b"first\n")
        gate.open()
        rest = wire.rest()
    assert b"0\r\n\r\n" not in rest and b"HTTP/1.1" not in rest
    assert server.get("/one-element").status == 200


@pytest.mark.parametrize("page, status", [("closing", 200), ("closing-fault", None), ("closing-never-started", 500), ("closing-empty", 204)])
def test_close_is_called_once(server, module_stand, page, status):
    """12"""
    with server.wire() as wire:
        wire.send(request("GET", f"/{page}/{page}"))
        if status:
            assert wire.answer().status == status
        else:
            wire.rest()
    eventually(lambda: f"# close {page}" in module_stand.seen(), "the close")
    # All that was queued for this worker before has been done when a later request is.
    server.get("/one-element")
    assert module_stand.seen().count(f"# close {page}") == 1


def test_close_is_called_for_head(server, module_stand):
    """12, 18"""
    answer = server.request("HEAD", "/closing/of-head")
    assert answer.status == 200 and answer.body == b""
    eventually(lambda: "# close of-head" in module_stand.seen(), "the close")


def test_close_is_called_when_the_client_leaves(probe, module_stand):
    """12: an endless answer ends with its client."""
    with probe.wire() as wire:
        wire.send(request("GET", "/endless/leaver"))
        wire.until(b"xxxx")
        wire.reset()
    eventually(lambda: "# closed leaver" in module_stand.seen(), "the close")


def test_each_chunk_leaves_before_the_next_is_asked_for(probe, module_stand):
    """13"""
    gate = module_stand.gate("flushed")
    with probe.wire() as wire:
        wire.send(request("GET", "/stream/flushed"))
        wire.until(b"first\n")
        gate.open()
        wire.until(b"second\n")


def test_empty_chunks_end_nothing(server):
    """13"""
    answer = server.get("/empty-chunks")
    assert answer.complete and answer.body == b"ab"


def test_one_element_has_a_length(server):
    """14"""
    answer = server.get("/one-element")
    assert answer.get("Content-Length") == "12" and not answer.chunked


@pytest.mark.parametrize("page", ["promise", "file-promise"])
def test_never_more_than_promised(server, page):
    """15: the connection cannot be trusted after it, or nothing but the promised bytes went out."""
    with server.wire() as wire:
        answer = wire.send(request("GET", f"/{page}/4")).answer()
        if answer.status == 200:
            assert answer.body == b"0123"
            if not answer.closes:
                assert wire.send(request("GET", "/one-element")).answer().text == "twelve bytes"
        else:
            assert answer.status in (500, 502)


@pytest.mark.parametrize("page", ["promise", "file-promise"])
def test_fewer_than_promised_closes(server, page):
    """15"""
    with server.wire() as wire:
        answer = wire.send(request("GET", f"/{page}/20")).answer()
        assert answer.status in (500, 502) or (not answer.complete and len(answer.body) <= 10)
    assert server.get("/one-element").status == 200


def test_hop_by_hop_fields_of_the_app_are_left_out(server):
    """16; 59 of part 2"""
    with server.wire() as wire:
        answer = wire.send(request("GET", "/hop-by-hop")).answer()
        assert answer.status == 200 and answer.body == b"ok" and not answer.chunked
        for name in "Keep-Alive", "Transfer-Encoding", "Upgrade", "Trailer", "Proxy-Connection", "TE":
            assert answer.get(name) is None, name
        assert "X-Private" not in (answer.get("Connection") or "")
        assert not answer.closes and wire.send(request("GET", "/one-element")).answer().status == 200


def test_cookies_stay_apart_and_values_are_latin_1(server):
    """16"""
    answer = server.get("/cookies")
    assert answer.all("Set-Cookie") == ["a=1; Path=/", "b=2; Path=/"]
    assert answer.get("X-Latin") == "caf\xe9"


def test_date_and_server_of_the_app_are_kept(server):
    """16"""
    answer = server.get("/own-date")
    assert answer.get("Date") == "Sun, 06 Nov 1994 08:49:37 GMT" and answer.get("Server") == "mine"


def test_the_reason_is_kept(server):
    """17"""
    answer = server.get("/reason")
    assert (answer.status, answer.reason) == (299, "My Reason")


BAD_HEADS = """crlf-value lf-value cr-value nul-value crlf-name space-name empty-name crlf-status no-code code-99 code-1000
bytes-status int-value unicode-value two-lengths bad-length""".split()


@pytest.mark.parametrize("name", BAD_HEADS)
def test_a_head_that_would_forge_something(server, name):
    """17; 58 of part 2: 500 or 502, and nothing of it goes out."""
    answer = server.get(f"/bad-head/{name}")
    assert answer.status in (500, 502)
    assert not any("injected" in f"{key} {value}".lower() for key, value in answer.fields)
    assert "Injected" not in answer.text
    assert server.get("/one-element").status == 200


@pytest.mark.parametrize("page", ["bad-chunk", "not-started", "no-iterable"])
def test_an_app_that_breaks_the_rules_is_a_500(server, page):
    answer = server.get(f"/{page}")
    assert answer.status in (500, 502)
    assert server.get("/one-element").status == 200


def test_head_runs_the_app_and_keeps_its_length(server):
    """18"""
    with server.wire() as wire:
        head = wire.send(request("HEAD", "/head-length")).answer("HEAD")
        assert head.get("X-Method") == "HEAD" and head.get("Content-Length") == "1234"
        assert wire.send(request("GET", "/one-element")).answer().status == 200


@pytest.mark.parametrize("code", [204, 304])
@pytest.mark.parametrize("page", ["body", "lengths"])
def test_no_body_where_none_may_be(server, code, page):
    """18; 58 of part 2"""
    with server.wire() as wire:
        wire.send(request("GET", f"/{page}/{code}"))
        answer = wire.answer()
        if answer.status == code:
            assert not answer.closes or wire.closed()
            assert answer.closes or wire.send(request("GET", "/one-element")).answer().text == "twelve bytes"
        else:
            assert answer.status in (500, 502)


# -- files from the app


def test_file_wrapper(server, module_stand):
    """19"""
    answer = server.get("/file-whole/whole")
    assert answer.body == b"0123456789" * 30000 and answer.get("Content-Length") == "300000"
    eventually(lambda: "# close whole" in module_stand.seen(), "the close of the file")


@pytest.mark.parametrize(
    "page, body",
    [
        ("file-offset", b"5678901234"),
        ("file-no-length", b"23456789"),
        ("file-in-memory", b"in memory"),
        ("file-pipe", b"through a pipe"),
        ("file-in-list", b"before wrapped after"),
    ],
)
def test_kinds_of_files(server, page, body):
    """19"""
    answer = server.get(f"/{page}")
    assert answer.complete and answer.body == body


def test_file_wrapper_for_head(server, module_stand):
    """18, 19"""
    answer = server.request("HEAD", "/file-whole/head")
    assert answer.get("Content-Length") == "300000" and answer.body == b""
    eventually(lambda: "# close head" in module_stand.seen(), "the close of the file")


def test_descriptors_do_not_leak(server):
    """19: each file answer hands one over; all must be given back on both sides."""
    def count() -> int:
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in [server.process.pid, *server.descendants()])

    server.get("/file-whole/leak")
    before = count()
    for _ in range(100):
        assert server.get("/file-whole/leak").status == 200
        server.post("/input?read(1)", b"x" * 400_000)
    eventually(lambda: count() <= before + 20, f"descriptors back to about {before}; now {count()}")


# -- early hints


def test_early_hints(server):
    """22"""
    answer = server.get("/hints")
    assert answer.text == "body end"
    assert [hint.status for hint in answer.interim] in ([], [103])
    for hint in answer.interim:
        assert hint.get("Link") == "</static/a.css>; rel=preload"


def test_no_early_hints_for_http_1_0(server):
    """22"""
    with server.wire() as wire:
        answer = wire.send(b"GET /hints HTTP/1.0\r\nHost: localhost\r\n\r\n").answer()
    assert answer.interim == [] and answer.text == "body end"


# -- the referee


def test_wsgiref_validate(stand):
    server = stand.serve("validated:app", workers=1)
    for answer in (
        server.get("/a%20b?x=y", {"Cookie": "a=1", "X-Latin": "caf\xe9"}),
        server.post("/", b"and read"),
        server.post("/", b"8\r\nand read\r\n0\r\n\r\n", {"Transfer-Encoding": "chunked"}),
        server.request("HEAD", "/"),
        server.request("OPTIONS", "/"),
    ):
        assert answer.status == 200, server.output
    assert "AssertionError" not in server.output
    assert server.post("/", b"and read").text == "clean and read"


def test_large_bodies_both_ways_at_once(probe):
    body = b"0123456789abcdef" * 500_000
    answer = probe.post("/", body)
    assert answer.json()["body"] == {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}
