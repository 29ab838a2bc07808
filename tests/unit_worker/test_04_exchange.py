"""Exchanges on the channel: places, credit, cancel, recall, threads, and what happens to answers that wait."""

import os
import struct

import pytest
from scripted_edge import (
    BROKEN,
    CANCELLED,
    CHUNK,
    DRAIN,
    END,
    FREE,
    IDLE,
    NOTIFY,
    OFFERED,
    RESPONSE,
    STREAM,
    WHOLE,
    WINDOW,
    decode_response,
    frame,
)

PLAIN = """
import os

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["PATH_INFO"].encode()]
"""


def endless(gate_path="", report_path=""):
    """An app that streams for ever, and writes down what becomes of it."""
    return f"""
class Endless:
    def __init__(self):
        self.given = 0
    def __iter__(self):
        return self
    def __next__(self):
        self.given += 1
        return b"x" * 1000
    def close(self):
        open({report_path!r}, "a").write(f"closed after {{self.given}}\\n")

def application(environ, start_response):
    if environ["PATH_INFO"] == "/plain":
        start_response("200 OK", [])
        return [b"plain"]
    start_response("200 OK", [])
    return Endless()
"""


def read_window(edge, id):
    """Reads the answer until `WINDOW` bytes of body have come."""
    answer = decode_response(edge.expect(RESPONSE, id)[4])
    body = len(answer.body)
    while body < WINDOW:
        body += len(edge.expect(CHUNK, id)[4])
    return body


def test_the_place_is_free_when_the_answer_is_there(worker):
    edge = worker(PLAIN)
    edge.get("/a")
    edge.stop()
    assert edge.word() == (0, FREE)


def test_service_time_is_told(worker, gate):
    edge = worker(f"def application(e, s):\n    open({gate.path!r}).read()\n    s('200 OK', [])\n    return [b'']")
    id = edge.request()
    gate.open()
    assert 0 < edge.answer(id).service_us < 20_000_000


def test_a_recalled_request_is_dropped(worker):
    edge = worker(PLAIN)
    recalled, first = edge.encode_request(path="/recalled", place=1, offer=False)
    other, second = edge.encode_request(path="/other", place=2, offer=False)
    edge.set_word(2, other + 1000, OFFERED)  # the place has a new request already
    kept, third = edge.encode_request(path="/kept", place=3)
    edge.send(first + second + third)
    assert edge.answer(kept).body == b"/kept"
    assert edge.stray == []
    assert edge.word(2) == (other + 1000, OFFERED)


def test_a_recalled_request_takes_its_body_with_it(worker):
    edge = worker(PLAIN)
    file = os.memfd_create("body")
    os.write(file, b"abc")
    _, first = edge.encode_request("POST", "/", offer=False, flags=2, body_length=3)
    edge.send(first, [file])
    _, second = edge.encode_request("POST", "/", offer=False, flags=STREAM, body_length=3)
    edge.send(second)
    os.close(file)
    assert edge.get("/kept").body == b"/kept"


def test_idle_is_sent_when_asked_for(worker, gate):
    edge = worker(
        f"""
class Slow:
    def __iter__(self):
        return iter([b"a"])
    def close(self):
        open({gate.path!r}).read()
def application(environ, start_response):
    start_response("200 OK", [])
    return Slow()
"""
    )
    id = edge.request()
    assert edge.answer(id).body == b"a"
    edge.add_bit(edge.place, NOTIFY)
    assert edge.is_silent()
    gate.open()
    _, _, place, got, payload, _ = edge.expect(IDLE, id)
    assert (place, got, payload) == (edge.place, id, b"")
    assert edge.word() == (0, FREE)


def test_idle_is_sent_after_a_plain_answer_too(worker, gate):
    edge = worker(f"def application(e, s):\n    open({gate.path!r}).read()\n    s('200 OK', [])\n    return [b'a']")
    id = edge.request()
    with open(gate.path, "w"):
        edge.add_bit(edge.place, NOTIFY)
    edge.expect(RESPONSE, id)
    edge.expect(IDLE, id)


def test_credit_stops_at_the_window(worker, tmp_path):
    edge = worker(endless(report_path=str(tmp_path / "report")))
    id = edge.request()
    assert read_window(edge, id) == WINDOW
    assert edge.is_silent()
    edge.grant(id, 0)
    edge.grant(id, 1500)
    got = 0
    while got < 1500:
        got += len(edge.expect(CHUNK, id)[4])
    assert got == 1500
    assert edge.is_silent()
    edge.add_bit(edge.place, CANCELLED)
    edge.grant(id, 0)
    assert edge.expect(END, id)[1] == BROKEN


def test_12_cancel_stops_the_iterable_and_closes_it(worker, tmp_path):
    report = tmp_path / "report"
    edge = worker(endless(report_path=str(report)))
    id = edge.request()
    edge.expect(RESPONSE, id)
    edge.add_bit(edge.place, CANCELLED)
    while (got := edge.receive())[0] == CHUNK:
        edge.grant(id, len(got[4]))
    assert got[0] == END and got[1] == BROKEN
    assert edge.get("/plain").body == b"plain"
    assert report.read_text().count("closed") == 1


def test_12_the_end_of_the_channel_closes_the_iterable(worker, tmp_path):
    report = tmp_path / "report"
    edge = worker(endless(report_path=str(report)))
    id = edge.request()
    read_window(edge, id)
    assert edge.stop() == 0
    assert report.read_text().count("closed") == 1


def test_the_death_of_the_edge_ends_the_worker(worker, tmp_path):
    report = tmp_path / "report"
    edge = worker(endless(report_path=str(report)), threads=2)
    edge.expect(RESPONSE, edge.request())
    edge.socket.close()
    assert edge.wait() == 0
    assert report.read_text().count("closed") == 1


def test_grants_for_nobody_are_ignored(worker):
    edge = worker(PLAIN)
    edge.grant(77, 1000)
    id = edge.request(path="/a")
    edge.grant(id, 1000)
    assert edge.answer(id).body == b"/a"
    edge.grant(id, 1000)
    assert edge.get("/b").body == b"/b"


@pytest.mark.parametrize("threads", [1, 4])
def test_fifty_requests_in_one_write(worker, threads):
    edge = worker(PLAIN, threads=threads)
    requests = [edge.encode_request(path=f"/{n}", place=n) for n in range(50)]
    edge.send(b"".join(data for _, data in requests))
    answers = {}
    while len(answers) < 50:
        _, flags, _, id, payload, _ = edge.expect(RESPONSE)
        assert flags == WHOLE and id not in answers
        answers[id] = decode_response(payload).body
    assert answers == {id: f"/{n}".encode() for n, (id, _) in enumerate(requests)}
    if threads == 1:
        assert list(answers) == [id for id, _ in requests]
    assert edge.is_silent()
    edge.stop()
    assert all(edge.word(place) == (0, FREE) for place in range(50))


def test_a_request_cut_at_every_byte(worker):
    edge = worker(PLAIN)
    id, data = edge.encode_request(path="/a")
    for byte in data:
        edge.send(bytes([byte]))
    assert edge.answer(id).body == b"/a"


def test_a_slow_request_does_not_hold_back_the_answers_before_it(worker, gate):
    edge = worker(
        f"""
def application(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        open({gate.path!r}).read()
    start_response("200 OK", [])
    return [environ["PATH_INFO"].encode()]
"""
    )
    requests = [edge.encode_request(path=path, place=n) for n, path in enumerate(["/a", "/b", "/slow", "/c"])]
    edge.send(b"".join(data for _, data in requests))
    ids = [id for id, _ in requests]
    assert edge.answer(ids[0]).body == b"/a"
    assert edge.answer(ids[1]).body == b"/b"
    gate.open()
    assert edge.answer(ids[2]).body == b"/slow"
    assert edge.answer(ids[3]).body == b"/c"


MEETING = """
import threading
barrier = threading.Barrier(4, timeout=20)
names = set()

def application(environ, start_response):
    if environ["PATH_INFO"] == "/meet":
        barrier.wait()
    names.add(threading.current_thread().name)
    start_response("200 OK", [])
    return [",".join(sorted(names)).encode()]
"""


def test_threads_work_at_the_same_time(worker):
    edge = worker(MEETING, threads=4)
    for _ in range(10):
        ids = [edge.request(path="/meet") for _ in range(4)]
        answers = set()
        while len(answers) < 4:
            _, _, _, id, payload, _ = edge.expect(RESPONSE)
            assert decode_response(payload).status == 200
            answers.add(id)
        assert answers == set(ids)
    names = set(edge.get("/").text.split(","))
    assert names == {"bandstand-1", "bandstand-2", "bandstand-3", "bandstand-4"}


def test_one_thread_is_the_main_thread(worker):
    edge = worker(MEETING)
    assert edge.get("/").body == b"MainThread"


def test_many_requests_on_many_threads(worker):
    edge = worker(
        """
def application(environ, start_response):
    kind = environ["PATH_INFO"]
    body = environ["wsgi.input"].read()
    start_response("200 OK", [])
    if kind == "/stream":
        return (body[n:n + 7000] for n in range(0, len(body), 7000))
    return [body]
""",
        threads=4,
    )
    for round in range(20):
        expected, data = {}, b""
        for n in range(30):
            body = os.urandom(n * 3000 if n % 3 else n)
            id, request = edge.encode_request("POST", ["/stream", "/whole"][n % 2], body=body)
            expected[id] = body
            data += request
        edge.send(data)
        bodies, done = {}, set()
        while done != set(expected):
            kind, flags, _, id, payload, _ = edge.receive()
            if kind == RESPONSE:
                payload = decode_response(payload).body
                bodies[id] = b""
            if kind == END or flags & WHOLE:
                done.add(id)
            if kind != END:
                bodies[id] += payload
        assert bodies == expected


def test_streams_get_their_credit_while_other_threads_are_idle(worker, tmp_path):
    edge = worker(endless(report_path=str(tmp_path / "report")), threads=3)
    first, second = edge.request(), edge.request()
    counts = {first: 0, second: 0}
    places = {first: first % 256, second: second % 256}
    ended = set()
    while len(ended) < 2:
        kind, flags, _, id, payload, _ = edge.receive()
        if kind == END:
            assert flags == BROKEN
            ended.add(id)
            continue
        counts[id] += len(decode_response(payload).body if kind == RESPONSE else payload)
        if counts[id] % WINDOW == 0:
            edge.grant(id, WINDOW)
            if counts[id] >= 3 * WINDOW:
                edge.add_bit(places[id], CANCELLED)
                edge.grant(id, 0)
    assert edge.get("/plain").body == b"plain"


def test_a_request_is_served_while_a_stream_waits_for_credit(worker, tmp_path):
    edge = worker(endless(report_path=str(tmp_path / "report")), threads=2)
    stuck = edge.request()
    read_window(edge, stuck)
    place = edge.place
    for _ in range(10):
        assert edge.get("/plain").body == b"plain"
    edge.add_bit(place, CANCELLED)
    edge.grant(stuck, 0)
    edge.expect(END, stuck)


def test_cancel_without_a_word_is_noticed_in_time(worker, tmp_path):
    """The edge sends a grant when it cancels; should that be lost, the thread still looks."""
    edge = worker(endless(report_path=str(tmp_path / "report")))
    id = edge.request()
    read_window(edge, id)
    edge.add_bit(edge.place, CANCELLED)
    assert edge.expect(END, id)[1] == BROKEN


def test_drain_finishes_what_is_held(worker, tmp_path):
    edge = worker(endless(report_path=str(tmp_path / "report")), threads=2)
    id = edge.request()
    read_window(edge, id)
    edge.send(frame(DRAIN))
    edge.grant(id, 5000)
    got = 0
    while got < 5000:
        got += len(edge.expect(CHUNK, id)[4])
    edge.add_bit(edge.place, CANCELLED)
    edge.grant(id, 0)
    edge.expect(END, id)
    assert edge.wait() == 0
    with pytest.raises(EOFError):
        edge.receive()


def test_drain_of_an_idle_worker(worker):
    for threads in (1, 3):
        edge = worker(PLAIN, threads=threads)
        edge.get("/")
        edge.send(frame(DRAIN))
        assert edge.wait() == 0


def test_requests_sent_before_the_end_are_answered(worker):
    edge = worker(PLAIN)
    requests = [edge.encode_request(path=f"/{n}") for n in range(20)]
    edge.send(b"".join(data for _, data in requests) + frame(DRAIN))
    for n, (id, _) in enumerate(requests):
        assert edge.answer(id).text == f"/{n}"
    assert edge.wait() == 0


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    "garbage, message",
    [
        (struct.pack("<IBBHQ", 0, 0x7F, 0, 0, 0), "unknown frame kind 0x7f"),
        (struct.pack("<IBBHQ", 1 << 30, 1, 0, 0, 0), "over the limit"),
        (struct.pack("<IBBHQ", 0, 1, 0, 300, 0), "place past the board"),
        (frame(0x41), "a frame that only workers send"),
        (frame(0x03, b"abc"), "not a u32"),
        (frame(0x01, b"\x0b", id=1), "a length points past the payload"),
        (frame(0x01, b"\xff" * 40, id=1), "unknown HTTP version"),
        (frame(0x01, b"", flags=2, id=1), "a descriptor was announced but did not come"),
        (b"".join(frame(0x01, b"", id=n) for n in range(400)), "more requests than places"),
        (b"\x01\x02\x03", "the channel ended within a frame"),
    ],
)
def test_garbage_ends_the_worker_with_a_message(worker, threads, garbage, message):
    edge = worker(PLAIN, threads=threads)
    assert edge.get("/a").body == b"/a"
    edge.send(garbage)
    if "ended" in message:
        edge.stop()
    assert edge.wait() == 1
    assert edge.stderr() == f"bandstand: the channel to the edge broke: {edge.stderr().split('broke: ')[1]}"
    assert message in edge.stderr() or "length points past" in edge.stderr()
