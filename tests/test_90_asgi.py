"""ASGI 3 over HTTP through the wire: scope, receive, send, extensions, lifespan (part 1 of the checklist, 24–38, 45–46)."""

import hashlib
import os
import re
import signal
from contextlib import ExitStack

import pytest

from client import chunks, eventually, request
from server import APPS, Server, refused


@pytest.fixture(scope="module")
def server(module_stand):
    return module_stand.serve("asgi_probe:app", workers=1)


def scope(server, target="/", fields=(), **kwargs) -> dict:
    answer = server.get(target, fields, **kwargs)
    assert answer.status == 200, answer.text
    return answer.json()["scope"]


def seen(stand, line: str) -> None:
    eventually(lambda: line in stand.seen(), f"{line!r} in {stand.seen()[-5:]}")


def remarked(stand, name: str, count: int = 1) -> list[str]:
    """What the app remarked with this name at the end of the line, once it is so much."""
    said = lambda: [line.removeprefix("# ").removesuffix(f" {name}") for line in stand.seen() if line.startswith("# ") and line.endswith(f" {name}")]
    eventually(lambda: len(said()) >= count, f"{count} remarks of {name}: {stand.seen()[-8:]}")
    return said()


def settled(question):
    """The answer once it has been the same twenty looks in a row."""
    kept = []

    def same() -> bool:
        kept.append(question())
        return len(kept) >= 20 and len(set(kept[-20:])) == 1

    eventually(same, "an end of the changes")
    return kept[-1]


# -- the scope


def test_the_scope_names_its_versions(server):
    """24"""
    told = scope(server)
    assert told["type"] == "http" and told["asgi"]["version"] == "3.0" and told["asgi"]["spec_version"] >= "2.3"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_the_http_version_is_exact(server, version):
    """24"""
    with server.wire() as wire:
        answer = wire.send(f"GET / HTTP/{version}\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()).answer()
    assert answer.json()["scope"]["http_version"] == version


@pytest.mark.parametrize(
    "target, path, raw, query",
    [
        ("/caf%C3%A9?q=%C3%A9&q=2", "/caf\u00e9", "/caf%C3%A9", "q=%C3%A9&q=2"),
        ("/a%20b", "/a b", "/a%20b", ""),
        ("/a+b?", "/a+b", "/a+b", ""),
        ("/?a?b", "/", "/", "a?b"),
    ],
)
def test_path_raw_path_and_query(server, target, path, raw, query):
    """24: the path is decoded UTF-8, raw_path are its bytes without the query."""
    told = scope(server, target)
    assert (told["path"], told["raw_path"], told["query_string"]) == (path, raw, query)


@pytest.mark.ours
def test_a_path_that_is_no_utf_8_reaches_the_app(server):
    """24: and breaks nothing."""
    answer = server.get("/%ff%fe")
    assert answer.status in (200, 400)
    if answer.status == 200:
        assert answer.json()["scope"]["raw_path"] == "/%ff%fe"


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
def test_the_method_is_upper_case(server, method):
    """24"""
    assert server.request(method, "/", body=b"").json()["scope"]["method"] == method


def test_types_of_the_scope(server):
    """24, 25"""
    answer = server.get("/x?y=1", {"X-A": "b"}).json()
    types = answer["types"]
    assert {name: types[name] for name in ("type", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path")} == {
        "type": "str", "http_version": "str", "method": "str", "scheme": "str", "path": "str", "raw_path": "bytes", "query_string": "bytes", "root_path": "str",
    }  # fmt: skip
    assert answer["header_types"] == ["bytes"]


def test_client_and_server_have_ports_that_are_numbers(server):
    """25"""
    told = scope(server)
    assert told["client"][0] == "127.0.0.1" and type(told["client"][1]) is int and told["client"][1] > 0
    assert type(told["server"][0]) is str and told["server"][1] == server.port


@pytest.mark.ours
def test_over_a_unix_socket_the_server_is_what_the_client_asked_for(stand, tmp_path):
    """25: the name and port of its Host, as under WSGI (20), so that absolute links are right behind a proxy."""
    server = stand.serve("asgi_probe:app", workers=1, bind=f"unix:{tmp_path}/s")
    assert scope(server, host="shop.example")["server"] == ["shop.example", 80]
    told = scope(server, host="shop.example:8443")
    assert told["server"] == ["shop.example", 8443] and told["client"] is None


def test_headers_keep_order_and_duplicates_in_lower_case(server):
    """26"""
    told = scope(server, fields=[("X-B", "1"), ("X-A", "2"), ("X-b", "3"), ("X-Latin", "caf\xe9")])
    ours = [pair for pair in told["headers"] if pair[0].startswith("x-") and pair[0] not in ("x-request-id", "x-forwarded-for", "x-forwarded-proto")]
    assert ours == [["x-b", "1"], ["x-a", "2"], ["x-b", "3"], ["x-latin", "caf\xe9"]]
    assert [pair[1] for pair in told["headers"] if pair[0] == "host"] == ["localhost"]


@pytest.mark.ours
def test_host_comes_first(server):
    """26"""
    with server.wire() as wire:
        answer = wire.send(b"GET http://localhost/abs HTTP/1.1\r\nX-A: 1\r\nHost: other.example\r\n\r\n").answer()
    headers = answer.json()["scope"]["headers"]
    assert headers[0] == ["host", "localhost"] and [pair[0] for pair in headers].count("host") == 1


def test_root_path_is_part_of_the_path(stand):
    """24"""
    server = stand.serve("asgi_probe:app", workers=1, root_path="/mounted")
    told = scope(server, "/mounted/inner" if stand.kind is Server else "/inner")
    assert (told["root_path"], told["path"]) == ("/mounted", "/mounted/inner")


# -- receive


@pytest.mark.parametrize("size", [1, 1000, 65536, 1_000_000, 5_000_000])
def test_a_body_comes_whole(server, size):
    """28"""
    content = os.urandom(size)
    told = server.post("/", content).json()["body"]
    assert (told["length"], told["sha256"]) == (size, hashlib.sha256(content).hexdigest())


def test_an_empty_body_is_one_message(server):
    """28"""
    assert server.get("/").json()["body"]["messages"] == 1
    assert server.post("/", b"").json()["body"]["messages"] == 1


def test_a_chunked_body_comes_whole(server):
    """28"""
    told = server.post("/", chunks(b"abc", b"d" * 100_000), {"Transfer-Encoding": "chunked"}).json()
    assert told["body"]["length"] == 100_003


def test_a_body_is_echoed_in_pieces(server):
    content = bytes(range(256)) * 8000
    answer = server.post("/echo", content)
    assert answer.complete and answer.body == content


def test_after_the_body_receive_waits_and_can_be_cancelled(server, module_stand):
    """28, 29: after the body it blocks; its cancellation comes out; after the answer it says disconnect."""
    told = server.post("/cancelled/c1", b"x").json()
    assert told == {"waited": True, "outcome": "CancelledError"}
    assert remarked(module_stand, "c1") == ["then http.disconnect"]


def test_a_client_that_leaves_is_noticed_at_once(server, module_stand):
    """28: and for ever, without spinning."""
    with server.wire() as wire:
        wire.send(request("GET", "/leave/l1"))
        remarked(module_stand, "l1")
    assert remarked(module_stand, "l1", 4) == ["waiting"] + ["http.disconnect"] * 3


def test_send_after_a_disconnect_raises_an_oserror_that_nobody_logs(server, module_stand):
    """33"""
    with server.wire() as wire:
        wire.send(request("GET", "/leave-streaming/l2"))
        wire.until(b"first\n")
    said = remarked(module_stand, "l2", 2)
    assert said[0] == "http.disconnect" and said[1] in ("OSError", "nothing raised")
    assert server.get("/blind").status == 200
    if type(server) is Server:
        assert said[1] == "OSError"
        assert "Traceback" not in server.output


def test_after_the_answer_receive_says_disconnect(server, module_stand):
    """28"""
    with server.wire() as wire:
        assert wire.send(request("GET", "/after-end/a1")).answer().body == b"ended"
        assert remarked(module_stand, "a1") == ["http.disconnect http.disconnect"]
        assert wire.send(request("GET", "/blind")).answer().body == b"blind", "the connection goes on"


# -- send


def test_events_arrive_one_by_one(server, module_stand):
    """32"""
    gate = module_stand.gate("sse1")
    with server.wire() as wire:
        wire.send(request("GET", "/sse/sse1"))
        assert wire.until(b"data: 1\n\n")
        gate.open()
        assert b"data: 2\n\n" in wire.until(b"0\r\n\r\n")


def test_empty_pieces_do_not_end_an_answer(server):
    answer = server.get("/pieces")
    assert answer.body == b"ab" and answer.complete and answer.chunked


@pytest.mark.ours
def test_http_1_0_gets_no_chunks(server):
    """32"""
    with server.wire() as wire:
        answer = wire.send(b"GET /pieces HTTP/1.0\r\nHost: localhost\r\n\r\n").answer()
    assert answer.body == b"ab" and not answer.chunked


def test_a_slow_client_holds_back_the_app(stand):
    """30: send() waits until the bytes can go; nothing piles up in between but what `spool_max` allows."""
    server = stand.serve("asgi_probe:app", workers=1, spool_max="1MB")
    name, count = "flood1", 1024  # 64 MiB
    counted = stand.gates / name
    with server.wire(receive_buffer=65536) as wire:
        wire.send(request("GET", f"/flood/{count}/{name}"))
        wire.until(b"\r\n\r\n")
        sent = settled(lambda: counted.stat().st_size if counted.exists() else 0)
        # 1 MB on disk, the rest in the buffers of the two sockets.
        assert sent < count // 4, f"{sent} of {count} blocks went out to a client that does not read"
        length = 0
        while length < count * 65536:
            part = wire.some()
            assert part, f"the answer ended after {length} bytes"
            length += len(part)
    eventually(lambda: counted.stat().st_size == count, "every block counted")


def test_buffers_belong_to_the_app_again(server):
    """35"""
    assert server.get("/mutable").body == b"first second"


@pytest.mark.ours
def test_hop_by_hop_fields_of_the_app(server):
    """32: its Transfer-Encoding is none of its business; cookies stay apart."""
    answer = server.get("/hop-by-hop")
    assert answer.body == b"one two" and answer.all("Set-Cookie") == ["a=1", "b=2"] and answer.get("X-Mixed") == "caf\xe9"
    assert answer.chunked and "gzip" not in str(answer.all("Transfer-Encoding"))


@pytest.mark.ours
@pytest.mark.parametrize("code", [204, 304])
def test_no_body_where_none_may_be(server, code):
    with server.wire() as wire:
        answer = wire.send(request("GET", f"/status/{code}")).answer()
        assert answer.status == code and answer.body == b""
        assert wire.send(request("GET", "/blind")).answer().body == b"blind"


def test_headers_may_be_left_out(server):
    assert server.get("/no-headers").body == b"ok"


def test_head_keeps_the_length(server):
    answer = server.request("HEAD", "/head")
    assert answer.get("Content-Length") == "1234" and answer.body == b""


# -- faults of the app


@pytest.mark.parametrize("page", ["raises-before", "raises-started", "returns-early"])
def test_a_fault_before_the_first_byte_is_a_500(server, page):
    """31, 34"""
    if page == "raises-started" and type(server) is not Server:
        pytest.skip("uvicorn has sent the head by then")
    answer = server.get(f"/{page}")
    assert answer.status == 500 and answer.get("X-Promise") is None
    assert server.get("/blind").status == 200


def test_a_fault_during_the_answer_cuts_it(server, module_stand):
    """34: never a clean end."""
    gate = module_stand.gate("cut1")
    with server.wire() as wire:
        wire.send(request("GET", "/raises-during/cut1"))
        wire.until(b"first\n")
        gate.open()
        assert not wire.rest().endswith(b"0\r\n\r\n")
    server.wait_text("failed on purpose, during the answer")


def test_an_answer_that_is_not_finished_is_cut(server):
    """34"""
    with server.wire() as wire:
        wire.send(request("GET", "/returns-unfinished"))
        answer = wire.answer()
    assert answer.status == 200 and answer.body == b"first\n" and not answer.complete


@pytest.mark.ours
def test_a_fault_after_the_answer_harms_no_one(server):
    with server.wire() as wire:
        assert wire.send(request("GET", "/raises-after")).answer().body == b"whole"
        assert wire.send(request("GET", "/blind")).answer().body == b"blind"
    server.wait_text("failed on purpose, after the answer")


@pytest.mark.parametrize("length", ["5", "15"])
def test_a_promised_length_that_is_not_kept(server, length):
    """34: never more than promised; less is a cut connection."""
    with server.wire() as wire:
        wire.send(request("GET", f"/promise/{length}"))
        answer = wire.answer()
        assert answer.body in (b"01234", b"0123456789") and (answer.complete == (length == "5")) or answer.status == 500


@pytest.mark.ours
def test_an_exit_in_a_view_is_a_500(server):
    """23 for ASGI: a worker does not leave because a view says so."""
    assert server.get("/exits").status == 500
    assert server.get("/blind").status == 200


OURS_WRONG = "text-status status-99 text-header crlf-header nul-header bad-name text-body trailers-unasked no-type no-status start-twice unknown unknown-later websocket body-first".split()


@pytest.mark.ours
@pytest.mark.parametrize("kind", OURS_WRONG)
def test_wrong_messages_raise_in_send(server, kind):
    """34"""
    answer = server.get(f"/wrong/{kind}")
    assert answer.status == 200
    assert "raised" in answer.text and "nothing" not in answer.text, answer.text
    assert "injected" not in str(answer.fields)


@pytest.mark.parametrize("kind", ["body-first", "unknown", "websocket"])
def test_messages_out_of_order_raise_in_send(server, kind):
    """34: what every server agrees on."""
    assert "nothing raised" not in server.get(f"/wrong/{kind}").text


def test_a_body_after_the_last_one(server, module_stand):
    """34: it harms no one, whether it raises or not."""
    with server.wire() as wire:
        assert wire.send(request("GET", "/wrong-after/w1")).answer().body == b"whole"
        assert remarked(module_stand, "w1")
        assert wire.send(request("GET", "/blind")).answer().body == b"blind"


def test_an_app_that_never_answers_holds_up_nobody(server, module_stand):
    with server.wire() as wire:
        wire.send(request("GET", "/never/n1"))
        remarked(module_stand, "n1")
        assert all(server.get("/blind").status == 200 for _ in range(20))


@pytest.mark.ours
def test_an_app_that_never_answers_is_answered_for(stand):
    """504 after the time limit, and the coroutine is cancelled."""
    server = stand.serve("asgi_probe:app", workers=1, timeout="1s")
    assert server.get("/never/n2").status == 504
    assert "cancelled" in remarked(stand, "n2", 2)
    assert server.get("/blind").status == 200


@pytest.mark.ours
def test_a_loop_that_is_blocked_for_five_seconds_is_named_in_the_log(stand):
    """The log says which coroutine, for whom, and where; within its time limit the request may go on."""
    server = stand.serve("asgi_probe:app", workers=1)
    gate = stand.gate("b1")
    with server.wire() as wire:
        wire.send(request("GET", "/block/b1"))
        gate.reached()
        line = server.wait_text("the event loop has not turned for 5 s")
        assert re.search(r"coroutine block \(.*asgi_probe\.py:\d+\)", line) and "GET '/block/b1'" in line
        server.wait_line(lambda line: "probe.py" in line and "in wait_at_gate" in line, "the place where it waits")
        gate.open()
        assert wire.answer().body == b"unblocked"
    assert server.output.count("has not turned") == 1


@pytest.mark.ours
def test_a_loop_that_is_blocked_over_the_time_limit_is_replaced(stand):
    """504, then another worker; what the blocked one did is in the log."""
    server = stand.serve("asgi_probe:app", workers=1, timeout="1s", graceful_timeout="1s")
    gate = stand.gate("b2")
    with server.wire() as wire:
        wire.send(request("GET", "/block/b2"))
        gate.reached()
        assert wire.answer().status == 504
    eventually(lambda: server.get("/blind").status == 200, "an answer again")
    server.wait_line(lambda line: "probe.py" in line and "in wait_at_gate" in line, "the stack of the blocked loop")


# -- beside the answer


def test_work_after_the_answer_does_not_hold_up_the_connection(server, module_stand):
    """36"""
    gate = module_stand.gate("bg1")
    with server.wire() as wire:
        wire.send(request("GET", "/background/bg1") + request("GET", "/blind"))
        assert wire.answer().body == b"answered"
        assert wire.answer().body == b"blind"
        gate.open()
    assert remarked(module_stand, "bg1") == ["background done"]


@pytest.mark.ours
def test_work_after_the_answer_is_waited_for_at_the_stop(stand):
    server = stand.serve("asgi_probe:app", workers=1)
    gate = stand.gate("bg2")
    assert server.get("/background/bg2").body == b"answered"
    gate.reached()
    server.signal(signal.SIGTERM)
    gate.open()
    assert server.exit_status() == 0
    assert remarked(stand, "bg2") == ["background done"]


@pytest.mark.ours
def test_an_event_stream_does_not_hold_up_the_stop(stand):
    """It ends as a whole answer does, long before `graceful_timeout`; its coroutine ends, and the lifespan after it."""
    server = stand.serve("asgi_probe:app", workers=1, graceful_timeout="120s")
    stand.gate("sse2")
    with server.wire() as wire:
        wire.send(request("GET", "/sse/sse2"))
        assert wire.until(b"data: 1\n\n")
        server.signal(signal.SIGTERM)
        assert wire.rest().endswith(b"0\r\n\r\n")
    assert server.exit_status() == 0


def test_context_variables_are_fresh_for_each_request(server):
    """37"""
    with server.wire() as wire:
        for _ in range(5):
            assert wire.send(request("GET", "/context")).answer().body == b"none"


def test_state_is_copied_for_each_request(server):
    """46: a shallow copy; made in the loop that serves."""
    answers = [server.get("/state").json() for _ in range(3)]
    assert [one["number"] for one in answers] == [2, 2, 2]
    assert answers[2]["hits"] - answers[0]["hits"] == 2
    assert all(one["same_loop"] for one in answers)


def test_pipelined_requests_are_answered_in_order(server):
    with server.wire() as wire:
        wire.send(b"".join(request("POST", "/echo", body=b"%d" % number) for number in range(50)))
        assert [wire.answer().body for _ in range(50)] == [b"%d" % number for number in range(50)]


def test_many_at_once_on_one_loop(server, module_stand):
    """A hundred requests that all wait: one loop holds them."""
    with ExitStack() as wires:
        for number in range(100):
            wires.enter_context(server.wire()).send(request("GET", f"/never/x{number}"))
        eventually(lambda: sum("waiting x" in line for line in module_stand.seen()) == 100, "a hundred waiting")
        assert server.get("/blind").status == 200


@pytest.mark.ours
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_loop_is_chosen_and_runs_in_the_main_thread(stand, loop):
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    told = stand.serve("asgi_probe:app", workers=1, loop=loop).get("/where").json()
    assert told["main_thread"] and told["loop"].startswith(loop)


@pytest.mark.ours
def test_requests_leave_no_tasks_behind(server):
    before = settled(lambda: server.get("/where").json()["tasks"])
    for _ in range(50):
        server.get("/blind")
    eventually(lambda: server.get("/where").json()["tasks"] <= before, "no heap of tasks")


# -- extensions (38)


@pytest.mark.ours
def test_extensions_are_named(server):
    told = scope(server)["extensions"]
    assert {"http.response.pathsend", "http.response.zerocopysend", "http.response.early_hint"} <= told.keys()
    assert "http.response.debug" not in told and "http.response.push" not in told


@pytest.mark.ours
@pytest.mark.parametrize("size", [0, 10, 3_000_000])
def test_pathsend(server, module_stand, size):
    content = os.urandom(size)
    (module_stand.gates / f"file{size}").write_bytes(content)
    with server.wire() as wire:
        answer = wire.send(request("GET", f"/pathsend/file{size}")).answer()
        assert answer.status == 200 and answer.body == content
        assert wire.send(request("HEAD", f"/pathsend/file{size}")).answer("HEAD").get("Content-Length") == str(size)
        assert wire.send(request("GET", "/blind")).answer().body == b"blind"


@pytest.mark.ours
def test_pathsend_of_a_file_that_is_not_there(server):
    assert server.get("/pathsend-missing").status == 500


@pytest.mark.ours
def test_zerocopysend(server):
    assert server.get("/zerocopysend").body == b"<" + b"5678901234" + b"|" + b"0123456789" + b">"


@pytest.mark.ours
def test_trailers_only_for_those_who_take_them(server):
    with server.wire() as wire:
        wire.send(request("GET", "/trailers", {"TE": "trailers", "Connection": "TE"}))
        head = wire.head()
        tail = wire.until(b"\r\n\r\n") if head.get("X-Offered") == "1" else b""
        tail += wire.until(b"\r\n\r\n") if tail and b"x-also" not in tail.lower() else b""
    assert head.get("X-Offered") == "1" and b"x-sum: 1\r\n" in tail.lower() and b"x-also: 2\r\n" in tail.lower()
    answer = server.get("/trailers")
    assert answer.get("X-Offered") == "0" and answer.body == b"with a tail"


@pytest.mark.ours
def test_early_hints(server):
    answer = server.get("/hints")
    assert answer.body == b"hinted" and [one.status for one in answer.interim] == [103]
    assert answer.interim[0].all("Link") == ["</a.css>; rel=preload", "</b.js>; rel=preload"] or "b.js" in str(answer.interim[0].fields)
    with server.wire() as wire:
        answer = wire.send(b"GET /hints HTTP/1.0\r\nHost: localhost\r\n\r\n").answer()
    assert answer.interim == [] and answer.body == b"hinted"


# -- lifespan (45, 46)


def test_startup_comes_first_and_shutdown_last(stand):
    server = stand.serve("asgi_lifespan:good", workers=1)
    told = server.get("/").json()
    assert (told["started"], told["state"]) == (["good"], "from the start")
    server.signal(signal.SIGTERM)
    server.exit_status()
    assert stand.seen()[-1] == "# shutdown complete"


@pytest.mark.parametrize("app", ["unsupported", "returns", "raises_later"])
def test_a_lifespan_that_is_not_there_is_no_reason_not_to_serve(stand, app):
    if app == "raises_later" and stand.kind is Server:
        pytest.skip("an exception after the startup message is told apart below")
    assert stand.serve(f"asgi_lifespan:{app}", workers=1).get("/").json()["started"] == []


@pytest.mark.ours
def test_an_unsupported_lifespan_is_not_logged(stand):
    server = stand.serve("asgi_lifespan:unsupported", workers=1)
    assert server.get("/").status == 200 and "Traceback" not in server.output and "Django can only" not in server.output


@pytest.mark.ours
def test_a_failed_startup_ends_the_start_with_its_message(tmp_path):
    run = refused("asgi_lifespan:failed", tmp_path, env={"SEEN": str(tmp_path / "seen")}, pythonpath=APPS)
    assert run.returncode == 1 and "the ministry of rain is closed" in run.stdout


@pytest.mark.ours
def test_lifespan_on_wants_one(tmp_path):
    run = refused("asgi_lifespan:unsupported", tmp_path, lifespan="on", env={"SEEN": str(tmp_path / "seen")}, pythonpath=APPS)
    assert run.returncode == 1 and "lifespan" in run.stdout


def test_lifespan_off_asks_nobody(stand):
    server = stand.serve("asgi_lifespan:good", workers=1, lifespan="off")
    assert server.get("/").json()["started"] == [] and "# lifespan good" not in stand.seen()


@pytest.mark.ours
def test_no_request_before_the_startup_is_complete(stand):
    gate = stand.gate("startup")
    server = stand.kind("asgi_lifespan:slow", stand.folder, env={"SEEN": str(stand.seen_path), "GATES": str(stand.gates)}, workers=1)
    stand.servers.append(server)
    gate.reached()
    assert not any("ready on" in line for line in server.lines)
    gate.open()
    server._await_ready()
    assert server.get("/").json()["started"] == ["slow"]


@pytest.mark.ours
def test_a_stop_during_the_startup_still_ends(stand):
    """46"""
    gate = stand.gate("startup")
    server = stand.kind("asgi_lifespan:slow", stand.folder, env={"SEEN": str(stand.seen_path), "GATES": str(stand.gates)}, workers=1)
    stand.servers.append(server)
    gate.reached()
    server.signal(signal.SIGTERM)
    gate.open()
    server.exit_status()


@pytest.mark.ours
@pytest.mark.parametrize("app", ["shutdown_failed", "shutdown_never"])
def test_a_shutdown_that_fails_or_hangs_does_not_keep_the_server(stand, app):
    server = stand.serve(f"asgi_lifespan:{app}", workers=1, graceful_timeout="2s")
    assert server.get("/").status == 200
    server.signal(signal.SIGTERM)
    server.exit_status()
    if app == "shutdown_failed":
        assert "the lights would not go out" in server.output
