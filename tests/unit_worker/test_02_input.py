"""`wsgi.input`: rule 6 of the checklist, for each place a body can come from."""

import hashlib
import os
import struct

import pytest
from scripted_edge import BODY, BROKEN, DESCRIPTOR, RESPONSE, STREAM, WANT, WHOLE, WINDOW, decode_response, frame

SCRIPT = """
import json

def application(environ, start_response):
    source = environ["wsgi.input"]
    results = eval(environ["QUERY_STRING"], {"i": source})
    start_response("200 OK", [])
    return [repr(results).encode()]
"""


def from_memory(edge, body, script):
    return edge.get("/", method="POST", body=body, query=script.encode())


def from_file(edge, body, script):
    file = os.memfd_create("body")
    os.write(file, body)  # and the position stays at the end: the worker reads at its own
    try:
        return edge.get(
            "/", method="POST", flags=DESCRIPTOR, body_length=len(body), query=script.encode(), descriptors=[file]
        )
    finally:
        os.close(file)


def from_stream(edge, body, script):
    id = edge.request("POST", "/", flags=STREAM, body_length=len(body), query=script.encode())
    sent = 0
    while True:
        kind, _, _, got, payload, _ = edge.receive()
        assert got == id
        if kind == RESPONSE:
            return decode_response(payload)
        assert kind == WANT
        (credit,) = struct.unpack("<I", payload)
        end = min(len(body), sent + credit)
        while sent < end:
            piece = body[sent : min(sent + 5000, end)]
            sent += len(piece)
            edge.send(frame(BODY, piece, WHOLE if sent == len(body) else 0, 0, id))


LINES = b"one\ntwo\n\nfour"


@pytest.mark.parametrize("deliver", [from_memory, from_file, from_stream])
@pytest.mark.parametrize(
    "script, expected",
    [
        ("i.read()", LINES),
        ("i.read(-1)", LINES),
        ("i.read(None)", LINES),
        ("[i.read(2),i.read(0),i.read(100),i.read(1),i.read()]", [b"on", b"", LINES[2:], b"", b""]),
        (
            "[i.readline(),i.readline(2),i.readline(),i.readline(),i.readline(),i.readline()]",
            [b"one\n", b"tw", b"o\n", b"\n", b"four", b""],
        ),
        ("i.readline(0)", b""),
        ("i.readlines()", [b"one\n", b"two\n", b"\n", b"four"]),
        ("[i.readlines(5),i.read(1),i.readlines()]", [[b"one\n", b"two\n"], b"\n", [b"four"]]),
        ("list(i)", [b"one\n", b"two\n", b"\n", b"four"]),
        ("[next(i),i.read(3),list(i)]", [b"one\n", b"two", [b"\n", b"\n", b"four"]]),
    ],
)
def test_06_reading(worker, deliver, script, expected):
    assert eval(deliver(worker(SCRIPT), LINES, script).body) == expected


@pytest.mark.parametrize("deliver", [from_memory, from_file, from_stream])
@pytest.mark.parametrize(
    "script",
    [
        "i.read()",
        "b''.join(iter(lambda:i.read(70000),b''))",
        "b''.join(i)",
        "i.readline(10)+i.read(100000)+i.readline()+i.read()",
    ],
)
def test_06_large_bodies(worker, deliver, script):
    body = os.urandom(200_000 if deliver is from_memory else 3_000_000)
    answer = deliver(worker(SCRIPT), body, f"__import__('hashlib').sha256({script}).hexdigest()")
    assert eval(answer.body) == hashlib.sha256(body).hexdigest()


def test_06_no_body(worker):
    edge = worker(SCRIPT)
    answer = edge.get("/", query=b"[i.read(),i.readline(),i.readlines(),list(i)]")
    assert eval(answer.body) == [b"", b"", [], []]


READS_AND_TELLS = """
def application(environ, start_response):
    try:
        environ["wsgi.input"].read()
        result = "complete"
    except OSError as error:
        try:
            environ["wsgi.input"].read()
            result = "complete the second time"
        except OSError:
            result = f"{type(error).__name__}: {error}"
    start_response("200 OK", [])
    return [result.encode()]
"""


def test_06_a_client_that_leaves_raises_oserror(worker):
    edge = worker(READS_AND_TELLS)
    id = edge.request("POST", "/", flags=STREAM, body_length=1000)
    edge.expect(WANT, id)
    edge.send(frame(BODY, b"abc", 0, 0, id))
    edge.send(frame(BODY, b"", BROKEN, 0, id))
    assert edge.answer(id).text == "ConnectionResetError: the client broke off the request body"


def test_06_the_end_of_the_channel_raises_oserror(worker):
    edge = worker(READS_AND_TELLS)
    id = edge.request("POST", "/", flags=STREAM, body_length=1000)
    edge.expect(WANT, id)
    assert edge.stop() == 0
    assert "ConnectionResetError" in edge.answer(id).text


def test_06_a_file_that_is_too_short_raises_oserror(worker):
    edge = worker(READS_AND_TELLS)
    file = os.memfd_create("body")
    os.write(file, b"abc")
    answer = edge.get("/", method="POST", flags=DESCRIPTOR, body_length=5, descriptors=[file])
    os.close(file)
    assert answer.text.startswith("OSError: the file with the request body is shorter")


def test_credit_for_a_body_is_bounded(worker, gate):
    edge = worker(
        f"""
def application(environ, start_response):
    first = environ["wsgi.input"].read(1)
    open({gate.path!r}).read()
    rest = environ["wsgi.input"].read()
    start_response("200 OK", [])
    return [str(len(first + rest)).encode()]
"""
    )
    id = edge.request("POST", "/", flags=STREAM, body_length=None)
    (credit,) = struct.unpack("<I", edge.expect(WANT, id)[4])
    assert credit <= WINDOW
    edge.send(frame(BODY, b"x" * credit, 0, 0, id))
    gate.open()
    edge.expect(WANT, id)
    edge.send(frame(BODY, b"y", WHOLE, 0, id))
    assert edge.answer(id).text == str(credit + 1)


def test_a_body_that_is_never_read_is_forgotten(worker):
    edge = worker("def application(e, s):\n    s('200 OK', [])\n    return [b'no']\n")
    id = edge.request("POST", "/", flags=STREAM, body_length=10)
    assert edge.answer(id).body == b"no"
    edge.send(frame(BODY, b"", BROKEN, 0, id))
    assert edge.get().body == b"no"


def test_descriptors_are_not_leaked(worker):
    edge = worker(
        """
import os
def application(environ, start_response):
    start_response("200 OK", [])
    environ["wsgi.input"].read(1)
    return [str(len(os.listdir("/proc/self/fd"))).encode()]
"""
    )
    counts = set()
    for _ in range(5):
        file = os.memfd_create("body")
        os.write(file, b"abc")
        counts.add(edge.get("/", method="POST", flags=DESCRIPTOR, body_length=3, descriptors=[file]).text)
        os.close(file)
    assert len(counts) == 1
