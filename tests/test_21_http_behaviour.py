"""What an HTTP/1.1 connection owes its client: order, life and death of connections, limits, expectations, slow clients."""

import hashlib
import http.client
import re
import shutil
import socket
import subprocess
import threading
import time

import pytest

from client import chunks, request


@pytest.fixture(scope="module")
def server(module_stand):
    return module_stand.serve()


@pytest.fixture(scope="module")
def strict(module_stand):
    """Short limits, for what must run into them."""
    return module_stand.serve(
        workers=1, header_timeout="1s", idle_timeout="1s", send_timeout="2s", max_body="1MB", body_min_rate="10KB/s"
    )


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# -- a connection and its requests


def test_keep_alive(server):
    with server.wire() as wire:
        for number in range(5):
            answer = wire.send(request("GET", f"/{number}")).answer()
            assert answer.json()["environ"]["PATH_INFO"] == f"/{number}" and not answer.closes


def test_connection_close_is_said_and_done(server):
    with server.wire() as wire:
        answer = wire.send(request("GET", "/", {"Connection": "close"})).answer()
        assert answer.closes and wire.closed()


def test_connection_close_among_other_tokens(server):
    with server.wire() as wire:
        answer = wire.send(request("GET", "/", {"Connection": "foo, Close"})).answer()
        assert answer.closes and wire.closed()


def test_http_1_0_closes(server):
    with server.wire() as wire:
        answer = wire.send(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n").answer()
        assert answer.status == 200 and answer.closes and wire.closed()
        assert answer.json()["environ"]["SERVER_PROTOCOL"] == "HTTP/1.0"


def test_http_1_0_keeps_alive_when_asked(server):
    with server.wire() as wire:
        for number in range(2):
            answer = wire.send(b"GET /%d HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n" % number).answer()
            assert answer.json()["environ"]["PATH_INFO"] == f"/{number}"
            assert answer.get("Connection", "").lower() == "keep-alive"


def test_http_1_0_gets_no_chunks(server, module_stand):
    gate = module_stand.gate("old")
    with server.wire() as wire:
        wire.send(b"GET /stream/old HTTP/1.0\r\nHost: localhost\r\n\r\n")
        gate.open()
        answer = wire.answer()
    assert answer.body == b"first\nsecond\n" and not answer.chunked and answer.closes


def test_an_answer_of_unknown_length_is_chunked_and_the_connection_lives(server, module_stand):
    gate = module_stand.gate("new")
    with server.wire() as wire:
        wire.send(request("GET", "/stream/new"))
        gate.open()
        answer = wire.answer()
        assert answer.chunked and answer.complete and answer.body == b"first\nsecond\n"
        assert wire.send(request("GET", "/")).answer().status == 200


def test_a_client_that_has_shut_its_side_gets_its_answer(server, module_stand):
    gate = module_stand.gate("half")
    with server.wire() as wire:
        wire.send(request("GET", "/gate/half")).shut()
        gate.open()
        assert wire.answer().status == 200
        assert wire.closed()


def test_a_client_that_has_shut_its_side_gets_a_streamed_answer(server, module_stand):
    gate = module_stand.gate("half-stream")
    with server.wire() as wire:
        wire.send(request("POST", "/stream/half-stream", body=b"form")).shut()
        wire.until(b"first\n")
        gate.open()
        assert b"second\n" in wire.rest()


def test_a_thousand_pipelined_requests_are_answered_in_order(server):
    """25"""
    with server.wire() as wire:
        data = b"".join(request("GET", f"/n/{number}") for number in range(1000))
        sender = threading.Thread(target=wire.try_send, args=(data,))
        sender.start()
        paths = [wire.answer().json()["environ"]["PATH_INFO"] for _ in range(1000)]
        sender.join()
    assert paths == [f"/n/{number}" for number in range(1000)]


def test_pipelined_requests_with_bodies_stay_in_step(server):
    bodies = [b"x" * size for size in (0, 1, 70000, 5, 300000, 2)]
    data = b"".join(
        request("POST", f"/{number}", {"Transfer-Encoding": "chunked"}, chunks(body)) if number % 2 else request("POST", f"/{number}", body=body)
        for number, body in enumerate(bodies)
    )
    with server.wire() as wire:
        sender = threading.Thread(target=wire.send, args=(data,))
        sender.start()
        for number, body in enumerate(bodies):
            told = wire.answer().json()
            assert told["environ"]["PATH_INFO"] == f"/{number}" and told["body"]["sha256"] == sha(body)
        sender.join()


def test_pipelining_ends_with_connection_close(server, module_stand):
    with server.wire() as wire:
        wire.send(request("GET", "/last", {"Connection": "close"}) + request("GET", "/after-close"))
        assert wire.answer().closes and wire.closed()
    assert "GET /after-close" not in module_stand.seen()


def test_a_client_that_pipelines_without_reading_is_not_read_for_ever(server):
    """25: bounded memory. The server stops reading, so the client's sending stalls while the rest of the world is served."""
    one = request("GET", "/large/16")
    with server.wire(receive_buffer=4096) as wire:
        wire.socket.settimeout(0.5)
        sent = 0
        try:
            while sent < 64 << 20:
                wire.send(one * 100)
                sent += len(one) * 100
        except TimeoutError:
            pass
        assert sent < 64 << 20, "64 MB of requests were taken in from a client that takes no answers"
        assert server.get("/").status == 200


def test_a_leaving_client_disturbs_nobody(server):
    for _ in range(20):
        with server.wire() as wire:
            wire.send(request("GET", "/large/16"))
            wire.reset()
    assert server.get("/").status == 200


# -- HEAD, 204, 304


def test_head_has_the_fields_of_get_and_no_body(server):
    with server.wire() as wire:
        wire.send(request("HEAD", "/blind") + request("GET", "/blind"))
        head, get = wire.answer("HEAD"), wire.answer()
    assert head.get("Content-Length") == get.get("Content-Length") == "5"
    assert head.get("Content-Type") == get.get("Content-Type")
    assert get.body == b"blind"


@pytest.mark.parametrize("status", [204, 304])
def test_answers_that_have_no_body_have_no_framing(server, status):
    with server.wire() as wire:
        wire.send(request("GET", f"/status/{status}") + request("GET", "/next"))
        assert wire.answer().status == status
        assert wire.answer().json()["environ"]["PATH_INFO"] == "/next"


# -- Expect


def test_100_continue_comes_before_the_body_is_sent(server):
    with server.wire() as wire:
        wire.send(request("POST", "/", {"Expect": "100-continue", "Content-Length": "5"}))
        assert wire.head().status == 100
        assert wire.send(b"hello").answer().json()["body"]["sha256"] == sha(b"hello")


def test_100_continue_for_a_chunked_body(server):
    with server.wire() as wire:
        wire.send(request("POST", "/", {"Expect": "100-Continue", "Transfer-Encoding": "chunked"}))
        assert wire.head().status == 100
        assert wire.send(chunks(b"hello")).answer().json()["body"]["length"] == 5


def test_no_100_for_a_body_over_the_limit(strict, module_stand):
    """26"""
    with strict.wire() as wire:
        wire.send(request("POST", "/expecting", {"Expect": "100-continue", "Content-Length": "1000001"}))
        answer = wire.answer()
        assert answer.status == 413 and answer.interim == [] and answer.closes and wire.closed()
    assert not any("/expecting" in line for line in module_stand.seen())


def test_no_100_without_a_body(server):
    answer = server.get("/", {"Expect": "100-continue"})
    assert answer.status == 200 and answer.interim == []


def test_no_100_for_http_1_0(server):
    with server.wire() as wire:
        wire.send(b"POST / HTTP/1.0\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")
        answer = wire.answer()
    assert answer.status == 200 and answer.interim == []


def test_any_other_expectation_fails(server):
    assert server.get("/", {"Expect": "200-ok"}).status == 417


# -- limits


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_body_over_the_limit_gets_413_that_the_client_can_read(strict, module_stand, chunked):
    """50: a client that writes everything before it reads must still find the answer, not a reset."""
    body = b"x" * 3_000_000
    parts = [body[start : start + 65536] for start in range(0, len(body), 65536)]
    data = request("POST", "/too-large", {"Transfer-Encoding": "chunked"}, chunks(*parts)) if chunked else request("POST", "/too-large", body=body)
    with strict.wire() as wire:
        answer = wire.try_send(data).answer()
        assert answer.status == 413 and answer.closes and wire.closed()
    assert "POST /too-large" not in module_stand.seen()


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_body_at_the_limit_is_taken(strict, chunked):
    body = b"x" * 1_000_000
    fields = {"Transfer-Encoding": "chunked"} if chunked else {}
    answer = strict.post("/", chunks(body[:400_000], body[400_000:]) if chunked else body, fields)
    assert answer.json()["body"]["sha256"] == sha(body)


def test_a_head_that_takes_too_long_gets_408(strict):
    """28"""
    with strict.wire() as wire:
        answer = wire.send(b"GET / HTTP/1.1\r\nHost: loc").answer()
        assert answer.status == 408 and answer.closes and wire.closed()


def test_a_head_that_trickles_gets_408_all_the_same(strict):
    """28: each byte may come in time, the whole does not."""
    with strict.wire() as wire:
        wire.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        wire.socket.settimeout(0.1)
        for _ in range(200):
            wire.try_send(b"X")
            try:
                assert wire.some().startswith(b"HTTP/1.1 408 ")
                break
            except TimeoutError:
                continue
        else:
            pytest.fail("still no answer after 20 s of one byte each 0.1 s")


def test_a_second_head_that_takes_too_long_gets_408(strict):
    with strict.wire() as wire:
        assert wire.send(request("GET", "/blind")).answer().status == 200
        assert wire.send(b"GET / HTTP/1.1\r\n").answer().status == 408


def test_an_idle_connection_is_closed_without_a_word(strict):
    with strict.wire() as wire:
        assert wire.send(request("GET", "/blind")).answer().status == 200
        assert wire.closed()


def test_a_connection_that_says_nothing_is_closed(strict):
    with strict.wire() as wire:
        rest = wire.rest()
    assert rest == b"" or rest.startswith(b"HTTP/1.1 408")


def test_a_body_that_trickles_gets_408(strict, module_stand):
    """29"""
    with strict.wire(timeout=40) as wire:
        wire.send(request("POST", "/rudy", {"Content-Length": "100000"}, b"x" * 100))
        answer = wire.answer()
        assert answer.status == 408 and answer.closes and wire.closed()
    assert "POST /rudy" not in module_stand.seen()


def test_a_client_that_takes_nothing_is_left(strict):
    """30: the window stays shut; after send_timeout the server gives the connection up."""
    with strict.wire(receive_buffer=4096) as wire:
        wire.send(request("GET", "/large/512"))
        # The record is written when the exchange is over, whoever ended it.
        record = strict.wait_record("/large/512", deadline=30)
        assert 0 < record["bytes_out"] < 512 * 65536


def test_max_headers_and_max_header_bytes_are_settings(stand):
    server = stand.serve(max_headers=8, max_header_bytes="1KiB", workers=1)
    many = {f"X-{number}": "1" for number in range(7)}
    assert server.get("/", many).status == 200
    assert server.get("/", many | {"X-7": "1"}).status == 431
    assert server.get("/", {"X-A": "x" * 1000}).status == 431


# -- bodies


@pytest.mark.parametrize("size", [0, 1, 4096, 262_144, 262_145, 3_000_000])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_body_arrives_whole_and_with_its_length(server, size, chunked):
    """5 of part 1: Django reads CONTENT_LENGTH bytes, so a chunked body must have one."""
    body = bytes(range(256)) * (size // 256) + bytes(size % 256)
    if chunked:
        parts = [body[start : start + 50_000] for start in range(0, size, 50_000)]
        answer = server.post("/", chunks(*parts), {"Transfer-Encoding": "chunked"})
    else:
        answer = server.post("/", body)
    told = answer.json()
    assert told["body"] == {"length": size, "sha256": sha(body)}
    assert told["environ"].get("CONTENT_LENGTH", "") in ([str(size)] if size else ["", "0"])
    assert "HTTP_TRANSFER_ENCODING" not in told["environ"]


def test_an_app_that_does_not_read_its_body_costs_nothing(server):
    """50: the next request on the connection is found where it begins."""
    body = request("GET", "/smuggled") * 10_000
    with server.wire() as wire:
        sender = threading.Thread(target=wire.try_send, args=(request("POST", "/blind", body=body) + request("GET", "/next"),))
        sender.start()
        first = wire.answer()
        assert first.body == b"blind"
        if first.closes:
            assert wire.closed()
        else:
            assert wire.answer().json()["environ"]["PATH_INFO"] == "/next"
        sender.join()


# -- other people's clients


def test_http_client_of_the_standard_library(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    for body in (b"one", b"two" * 100_000):
        connection.request("POST", "/x?y=1", body=iter([body]), headers={"Transfer-Encoding": "chunked"}, encode_chunked=True)
        answer = connection.getresponse()
        assert answer.status == 200 and sha(body).encode() in answer.read()
    connection.close()


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl")
def test_curl(server, tmp_path):
    upload = tmp_path / "upload"
    upload.write_bytes(b"0123456789" * 200_000)
    ran = subprocess.run(
        ["curl", "-sS", "--fail", "-i", "-H", "Expect: 100-continue", "-T", upload, f"{server.url}/put/"], capture_output=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(b"HTTP/1.1 100 Continue\r\n") and sha(upload.read_bytes()).encode() in ran.stdout


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl")
def test_curl_reuses_a_connection(server):
    ran = subprocess.run(
        ["curl", "-sS", "--http1.1", "-o", "/dev/null", "-o", "/dev/null", "-w", "%{num_connects} ", f"{server.url}/1", f"{server.url}/2"],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ran.stdout.split() == ["1", "0"]


# -- what every answer has


def test_date_and_server(server):
    answer = server.get("/blind")
    assert re.fullmatch(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", answer.get("Date"))
    assert answer.get("Server") == "bandstand"


def test_the_server_field_can_be_switched_off(stand):
    server = stand.serve(server_header="off", workers=1)
    assert server.get("/blind").get("Server") is None
    assert server.get("/-/live").get("Server") is None
    assert server.get("/a%00b").get("Server") is None


def test_an_answer_of_the_app_has_no_proxy_status(server):
    for path in "/blind", "/status/404", "/status/503":
        assert server.get(path).get("Proxy-Status") is None


def test_options_asterisk_is_answered(server):
    with server.wire() as wire:
        answer = wire.send(request("OPTIONS", "*")).answer()
    assert answer.status in (200, 204)


def test_many_connections_at_once(server):
    wires = [server.wire() for _ in range(200)]
    try:
        for number, wire in enumerate(wires):
            wire.send(request("GET", f"/{number}"))
        for number, wire in enumerate(wires):
            assert wire.answer().json()["environ"]["PATH_INFO"] == f"/{number}"
    finally:
        for wire in wires:
            wire.socket.close()


def test_a_large_answer_arrives_whole(server):
    answer = server.get("/large/256")
    assert len(answer.body) == 256 * 65536
    assert answer.body == b"".join(bytes([number % 251]) * 65536 for number in range(256))


def test_no_nagle_between_requests(server):
    """A pause of 40 ms in each of 50 small exchanges is the sign of Nagle and delayed acknowledgement."""
    with server.wire() as wire:
        wire.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire.send(request("GET", "/blind")).answer()
        start = time.monotonic()
        for _ in range(50):
            wire.send(request("GET", "/blind")).answer()
        assert time.monotonic() - start < 50 * 0.040
