"""An HTTP/1.1 client that hides nothing: bytes out, one strictly read answer at a time in.

Library clients repair what a server does wrong, and refuse to send what an attacker sends. This one writes any bytes, and
fails on an answer that RFC 9112 does not allow. Every wait has the deadline of the socket.
"""

import json
import re
import socket
import time
from dataclasses import dataclass, field

DEADLINE = 20.0
"""Seconds until a silent server counts as stuck. Far above what any answer takes, so that a busy machine fails no test."""

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*)\Z")
_FIELD_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*(.*?)[ \t]*\Z", re.DOTALL)
_BODILESS = {101, 204, 304}


class Malformed(AssertionError):
    """The server wrote something that is not HTTP/1.1."""


@dataclass
class Answer:
    version: str
    status: int
    reason: str
    fields: list[tuple[str, str]]
    body: bytes = b""
    chunked: bool = False
    complete: bool = False
    """The body ended as its framing says; False when the connection was cut before."""
    interim: list["Answer"] = field(default_factory=list)
    """1xx answers that came before."""

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name: str, default: str | None = None) -> str | None:
        """The value of a field that may occur once; a second one is a fault of the server."""
        values = self.all(name)
        assert len(values) < 2, f"{name} occurs {len(values)} times: {values}"
        return values[0] if values else default

    def json(self):
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def closes(self) -> bool:
        """True when the answer announces the end of the connection."""
        tokens = [token.strip().lower() for value in self.all("Connection") for token in value.split(",")]
        return "close" in tokens or (self.version == "HTTP/1.0" and "keep-alive" not in tokens)


class Wire:
    """One connection. `with server.wire() as wire: wire.send(b"…"); wire.answer()`."""

    def __init__(self, address, source: str | None = None, timeout: float = DEADLINE, receive_buffer: int | None = None):
        family = socket.AF_UNIX if isinstance(address, str) else (socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            self.socket.bind((source, 0))
        self.socket.connect(address)
        self._unread = b""
        self._ended = False

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_) -> None:
        self.socket.close()

    def send(self, data: bytes) -> "Wire":
        self.socket.sendall(data)
        return self

    def try_send(self, data: bytes) -> "Wire":
        """Send what the server takes: it may answer and close before all is out."""
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return self

    def shut(self) -> "Wire":
        """End the sending side; the answer can still come."""
        self.socket.shutdown(socket.SHUT_WR)
        return self

    def reset(self) -> None:
        """Leave as a crashed client does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()

    def answer(self, to: str = "GET") -> Answer:
        """The next final answer; `to` is the method that was sent, because HEAD decides about the body."""
        interim = []
        while True:
            answer = self._head()
            if answer.status >= 200 or answer.status == 101:
                break
            interim.append(answer)
        answer.interim = interim
        self._body(answer, to)
        return answer

    def head(self) -> Answer:
        """Status and fields alone; the body stays on the wire for `some`."""
        return self._head()

    def some(self) -> bytes:
        """Bytes as they come; empty at the end."""
        if not self._unread:
            self._more()
        data, self._unread = self._unread, b""
        return data

    def until(self, mark: bytes) -> bytes:
        """Bytes up to and with `mark`."""
        while mark not in self._unread:
            if not self._more():
                raise Malformed(f"connection ended before {mark!r}: {self._unread[-200:]!r}")
        at = self._unread.index(mark) + len(mark)
        data, self._unread = self._unread[:at], self._unread[at:]
        return data

    def rest(self) -> bytes:
        """Everything until the server closes. A reset counts as the end too."""
        while self._more():
            pass
        data, self._unread = self._unread, b""
        return data

    def closed(self) -> bool:
        """True when the server closes without another byte; waits for it until the deadline of the socket."""
        try:
            return self.rest() == b""
        except TimeoutError:
            return False

    def _more(self) -> bool:
        if self._ended:
            return False
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        self._ended = not data
        self._unread += data
        return bool(data)

    def _line(self) -> bytes:
        line = self.until(b"\r\n")[:-2]
        if b"\n" in line or b"\r" in line:
            raise Malformed(f"bare CR or LF in {line!r}")
        return line

    def _head(self) -> Answer:
        line = self._line()
        match = _STATUS_LINE.match(line)
        if not match:
            raise Malformed(f"status line {line!r}")
        fields = self._fields()
        return Answer(f"HTTP/1.{match[1].decode()}", int(match[2]), match[3].decode("latin-1"), fields)

    def _fields(self) -> list[tuple[str, str]]:
        fields = []
        while line := self._line():
            match = _FIELD_LINE.match(line)
            if not match or re.search(rb"[\0-\x08\x0a-\x1f\x7f]", match[2]):
                raise Malformed(f"field line {line!r}")
            fields.append((match[1].decode(), match[2].decode("latin-1")))
        return fields

    def _body(self, answer: Answer, to: str) -> None:
        lengths, codings = answer.all("Content-Length"), answer.all("Transfer-Encoding")
        if len(lengths) > 1 or (lengths and codings) or (lengths and not lengths[0].isdigit()):
            raise Malformed(f"framing {lengths} {codings}")
        if answer.status in _BODILESS:
            if codings or (answer.status == 204 and lengths):
                raise Malformed(f"{answer.status} with framing {lengths} {codings}")
            answer.complete = True
        elif to == "HEAD":
            answer.complete = True
        elif codings:
            if answer.version == "HTTP/1.0" or [coding.lower() for coding in codings] != ["chunked"]:
                raise Malformed(f"Transfer-Encoding {codings} in {answer.version}")
            answer.chunked = True
            self._chunks(answer)
        elif lengths:
            self._exactly(answer, int(lengths[0]))
        else:
            answer.body, answer.complete = self.rest(), True

    def _exactly(self, answer: Answer, length: int) -> None:
        parts, missing = [], length
        while missing:
            if not self._unread and not self._more():
                break
            part, self._unread = self._unread[:missing], self._unread[missing:]
            parts.append(part)
            missing -= len(part)
        answer.body, answer.complete = b"".join(parts), missing == 0

    def _chunks(self, answer: Answer) -> None:
        parts = []
        try:
            while True:
                size = self._line()
                if not re.fullmatch(rb"[0-9A-Fa-f]{1,16}", size):
                    raise Malformed(f"chunk size {size!r}")
                if int(size, 16) == 0:
                    self._fields()
                    answer.complete = True
                    break
                chunk = Answer("", 0, "", [])
                self._exactly(chunk, int(size, 16))
                parts.append(chunk.body)
                if not chunk.complete or self._line():
                    break
        except Malformed as error:
            # The end of the connection is not a fault of its own here: `complete` tells it.
            if not self._ended:
                raise error
        answer.body = b"".join(parts)


def request(method: str, target: str, fields=(), body: bytes | None = None, host: str = "localhost") -> bytes:
    """The bytes of an ordinary request. `fields` is a dict or a list of pairs, and may name Host or a framing itself."""
    pairs = list(fields.items()) if isinstance(fields, dict) else list(fields)
    named = {name.lower() for name, _ in pairs}
    if "host" not in named:
        pairs.insert(0, ("Host", host))
    if body is not None and not named & {"content-length", "transfer-encoding"}:
        pairs.append(("Content-Length", str(len(body))))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in pairs)]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b"")


def chunks(*parts: bytes) -> bytes:
    """A chunked body."""
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def eventually(question, what: str, deadline: float = DEADLINE):
    """Ask until the answer is true, and return it. For events outside of this process that nothing announces."""
    end = time.monotonic() + deadline
    while not (answer := question()):
        assert time.monotonic() < end, f"not within {deadline:g} s: {what}"
        time.sleep(0.02)
    return answer
