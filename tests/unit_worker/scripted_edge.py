"""The edge's side of the channel, as a script: spawns a worker and speaks frames with it.

The layouts are those of crates/wire (frame.rs, head.rs, board.rs), written down a second time on purpose: a change of
the protocol has to be made in both places.
"""

import array
import contextlib
import json
import mmap
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

PACKAGE = os.environ.get("BANDSTAND_TEST_PYTHONPATH") or str(Path(__file__).resolve().parents[2] / "python")

REQUEST, BODY, GRANT, DRAIN, MESSAGE, CLOSED, CANCEL = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07
INTERRUPT, STACKS, STACK = 0x08, 0x09, 0x4E
HELLO, FAILED, RESPONSE, CHUNK, END, IDLE, INTERIM, WANT = 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48
MOVED, ACCEPT, SEND, CLOSE, TRAILERS = 0x49, 0x4A, 0x4B, 0x4C, 0x4D
WHOLE, DESCRIPTOR, STREAM, BROKEN, WEBSOCKET, TEXT = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
FREE, OFFERED, TAKEN, CANCELLED, NOTIFY = 0x00, 0x01, 0x02, 0x10, 0x20
UNKNOWN = 2**64 - 1
PLACES, STRIDE = 16 * 1024, 64
WINDOW, CHUNK_MAX, PIECE_MAX = 256 * 1024, 64 * 1024, 128 * 1024


def message_cost(bytes):
    """Credit that a WebSocket message, or a piece of one, costs."""
    return bytes + 128


PATIENCE = 20.0

Frame = tuple  # kind, flags, place, id, payload, descriptor


def frame(kind, payload=b"", flags=0, place=0, id=0):
    return struct.pack("<IBBHQ", len(payload), kind, flags, place, id) + payload


def short(text):
    return struct.pack("<H", len(text)) + text


def encode_fields(fields):
    out = struct.pack("<H", len(fields))
    for name, value in fields:
        out += struct.pack("<HI", len(name), len(value)) + name + value
    return out


def decode_fields(payload, at):
    (count,) = struct.unpack_from("<H", payload, at)
    at += 2
    fields = []
    for _ in range(count):
        name, value = struct.unpack_from("<HI", payload, at)
        at += 6
        fields.append((payload[at : at + name], payload[at + name : at + name + value]))
        at += name + value
    return fields, at


def tls_block(tls):
    """`(version, cipher, version_name, cipher_name[, (subject, issuer, serial, pem)])`, or nothing."""
    if tls is None:
        return b"\0"
    version, cipher, *names = tls
    client = names[2] if len(names) > 2 else ()
    head = struct.pack("<BHH", 2 if client else 1, version, cipher)
    return head + b"".join(short(text.encode()) for text in [*names[:2], *client])


def request_head(
    method="GET",
    path="/",
    raw_path=None,
    query=b"",
    root_path=b"",
    version=11,
    https=False,
    client=(b"192.0.2.7", 50000),
    server=(b"shop.example", 8000),
    body_length=0,
    fields=(),
    tls=None,
):
    raw_path = path if raw_path is None else raw_path
    texts = [method, raw_path, query, path, root_path, client[0], server[0]]
    length = UNKNOWN if body_length is None else body_length
    head = struct.pack("<BBHHQ", version, https, client[1], server[1], length)
    head += b"".join(short(t.encode() if isinstance(t, str) else t) for t in texts)
    head += tls_block(tls)
    return head + encode_fields([tuple(x.encode("latin-1") if isinstance(x, str) else x for x in f) for f in fields])


@dataclass
class Answer:
    status: int
    reason: bytes
    service_us: int
    body_length: int | None
    offset: int
    fields: list
    body: bytes = b""
    whole: bool = False
    broken: bool = False
    descriptor: int | None = None
    interim: list = field(default_factory=list)

    @property
    def text(self):
        return self.body.decode()

    def header(self, name):
        return [value.decode("latin-1") for n, value in self.fields if n.lower() == name.lower().encode()]

    @property
    def failed(self):
        return self.status == 500 and self.header("x-bandstand-failure") == ["app"]


def decode_response(payload):
    status, service_us, length, offset = struct.unpack_from("<HIQQ", payload)
    (reason,) = struct.unpack_from("<H", payload, 22)
    fields, at = decode_fields(payload, 24 + reason)
    length = None if length == UNKNOWN else length
    return Answer(status, payload[24 : 24 + reason], service_us, length, offset, fields, payload[at:])


class Edge:
    """One worker and the script's end of its channel."""

    def __init__(
        self,
        folder,
        app="app",
        source=None,
        threads=1,
        env=None,
        multiprocess=False,
        python=sys.executable,
        program=("-m", "bandstand.worker"),
    ):
        if source is not None:
            (folder / "app.py").write_text(source)
        self.socket, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        inner.setblocking(False)  # as an inherited socket may be; the worker makes it blocking
        self.socket.settimeout(PATIENCE)
        self.lane, inner_lane = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.lane.settimeout(PATIENCE)
        self.guard, inner_guard = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.guard.settimeout(PATIENCE)
        memory = os.memfd_create("board")
        os.ftruncate(memory, PLACES * STRIDE)
        self.board = mmap.mmap(memory, PLACES * STRIDE)
        self.stderr_path = folder / "stderr"
        settings = {
            "BANDSTAND_CHANNEL_FD": str(inner.fileno()),
            "BANDSTAND_LOOP_FD": str(inner_lane.fileno()),
            "BANDSTAND_BOARD_FD": str(memory),
            "BANDSTAND_GUARD_FD": str(inner_guard.fileno()),
            "BANDSTAND_APP": app,
            "BANDSTAND_THREADS": str(threads),
            "BANDSTAND_MULTIPROCESS": "1" if multiprocess else "0",
            "BANDSTAND_WORKER": "1",
            "PYTHONPATH": PACKAGE,
        }
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("BANDSTAND_", "PYTHON", "DJANGO_"))}
        with open(self.stderr_path, "wb") as stderr:
            self.process = subprocess.Popen(
                [python, *program],
                cwd=folder,
                env={**inherited, **settings, **(env or {})},
                pass_fds=[inner.fileno(), inner_lane.fileno(), inner_guard.fileno(), memory],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        inner.close()
        inner_lane.close()
        inner_guard.close()
        os.close(memory)
        self.buffer = b""
        self.descriptors = []
        self.stray = []
        self.next_id = 1

    # The channel

    def send(self, data, descriptors=(), to=None):
        to = to or self.socket
        if descriptors:
            control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
            sent = to.sendmsg([data], control)
            data = data[sent:]
        to.sendall(data)

    def receive(self):
        """The next frame; `EOFError` at the end of the stream."""
        while len(self.buffer) < 16 or len(self.buffer) < 16 + struct.unpack_from("<I", self.buffer)[0]:
            data, descriptors, _, _ = socket.recv_fds(self.socket, 1 << 20, 4)
            if not data:
                raise EOFError
            self.buffer += data
            self.descriptors += descriptors
        length, kind, flags, place, id = struct.unpack_from("<IBBHQ", self.buffer)
        payload, self.buffer = self.buffer[16 : 16 + length], self.buffer[16 + length :]
        descriptor = self.descriptors.pop(0) if flags & DESCRIPTOR else None
        return kind, flags, place, id, payload, descriptor

    def expect(self, kind, id=None):
        """The next frame, which must be of this kind and exchange."""
        got = self.receive()
        assert got[0] == kind and (id is None or got[3] == id), f"expected 0x{kind:02x} of {id}, got {got}"
        return got

    def is_silent(self):
        """Whether nothing has come that was not read."""
        return not self.buffer and not select.select([self.socket], [], [], 0)[0]

    def hello(self):
        """`(protocol, threads, JSON text)`; fails with the worker's own words if it could not start."""
        kind, _, _, _, payload, _ = self.receive()
        assert kind == HELLO, payload.decode()
        protocol, threads, self.tasks = struct.unpack_from("<HHH", payload)
        return protocol, threads, payload[6:].decode()

    def failure(self):
        kind, _, _, _, payload, _ = self.receive()
        assert kind == FAILED, payload
        return payload.decode()

    # Requests

    def encode_request(self, method="GET", path="/", body=b"", place=None, flags=WHOLE, offer=True, **head):
        """`(id, bytes)`. Places go round: a worker frees one some time after its answer, and no test is that fast."""
        id, self.next_id = self.next_id, self.next_id + 1
        place = id % PLACES if place is None else place
        self.place = place
        head.setdefault("body_length", len(body))
        head["fields"] = [*head.get("fields", ()), ("x-request-id", f"req-{id}")]
        if offer:
            self.set_word(place, id, OFFERED)
        return id, frame(REQUEST, request_head(method, path, **head) + body, flags, place, id)

    def request(self, *args, descriptors=(), **kwargs):
        id, data = self.encode_request(*args, **kwargs)
        self.send(data, descriptors)
        return id

    def answer(self, id, grant=True):
        """Reads the answer of an exchange to its end, giving credit as it comes."""
        answer, interim = None, []
        while True:
            kind, flags, place, got, payload, descriptor = self.receive()
            if got != id:
                self.stray.append((kind, flags, place, got, payload, descriptor))
                continue
            if kind == INTERIM:
                interim.append(decode_response(payload))
                continue
            if kind == RESPONSE:
                assert answer is None, "a second head"
                answer = decode_response(payload)
                answer.interim, answer.descriptor = interim, descriptor
                answer.whole = bool(flags & WHOLE)
                if flags & (WHOLE | DESCRIPTOR):
                    return answer
            elif kind == CHUNK:
                assert len(payload) <= CHUNK_MAX
                answer.body += payload
            elif kind == END:
                (answer.service_us,) = struct.unpack("<I", payload)
                answer.broken = bool(flags & BROKEN)
                return answer
            else:
                raise AssertionError(f"unexpected frame 0x{kind:02x}")
            if grant and kind in (RESPONSE, CHUNK):
                with contextlib.suppress(BrokenPipeError):
                    self.grant(id, len(payload))

    def get(self, path="/", method="GET", **kwargs):
        return self.answer(self.request(method, path, **kwargs))

    def grant(self, id, more, place=0):
        self.send(frame(GRANT, struct.pack("<I", more), 0, place, id))

    # The board

    def word(self, place=None):
        """`(id, state)` of a place, that of the last request by default."""
        place = self.place if place is None else place
        (word,) = struct.unpack_from("<Q", self.board, place * STRIDE)
        return word >> 8, word & 0xFF

    def set_word(self, place, id, state):
        struct.pack_into("<Q", self.board, place * STRIDE, id << 8 | state)

    def add_bit(self, place, bit):
        id, state = self.word(place)
        self.set_word(place, id, state | bit)

    # The guard line

    def ask_guard(self, kind, place=0, id=0):
        self.guard.sendall(frame(kind, b"", 0, place, id))

    def hear_guard(self):
        """`(place, id, answer)`; `EOFError` when the guard has gone."""
        data = b""
        while len(data) < 16 or len(data) < 16 + struct.unpack_from("<I", data)[0]:
            wanted = 16 if len(data) < 16 else 16 + struct.unpack_from("<I", data)[0]
            piece = self.guard.recv(wanted - len(data))
            if not piece:
                raise EOFError
            data += piece
        _, kind, _, place, id = struct.unpack_from("<IBBHQ", data)
        assert kind == STACK
        return place, id, json.loads(data[16:])

    def interrupt(self, id, place=None):
        """The time of an exchange is over: what the guard says of it."""
        place = id % PLACES if place is None else place
        self.ask_guard(INTERRUPT, place, id)
        got = self.hear_guard()
        assert got[:2] == (place, id)
        return got[2]

    def stacks(self):
        self.ask_guard(STACKS, 0, 77)
        got = self.hear_guard()
        assert got[:2] == (0, 77)
        return got[2]

    # The end

    def stop(self):
        """Ends the channel; the exit status."""
        self.socket.shutdown(socket.SHUT_WR)
        return self.wait()

    def wait(self):
        return self.process.wait(PATIENCE)

    def stderr(self):
        return self.stderr_path.read_text()

    def close(self):
        self.socket.close()
        self.lane.close()
        self.guard.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGRTMIN + 1)
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"the worker did not leave:\n{self.stderr()}")
        self.process.stdout.close()
        self.board.close()


def lines_of(text, pattern):
    return [line for line in text.splitlines() if re.search(pattern, line)]
