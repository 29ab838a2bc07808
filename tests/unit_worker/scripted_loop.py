"""The edge's side of a worker with an event loop: requests, credit and WebSockets go over the lane."""

import socket
import struct
from pathlib import Path

from scripted_edge import (
    ACCEPT,
    CANCEL,
    CANCELLED,
    CLOSE,
    CLOSED,
    GRANT,
    MESSAGE,
    SEND,
    TEXT,
    WEBSOCKET,
    WHOLE,
    Edge,
    decode_response,
    frame,
)

PROGRAM = str(Path(__file__).parent / "loop_worker.py")


class LoopEdge(Edge):
    """As `Edge`; what the tests send goes over the lane, what they read comes over the channel."""

    def __init__(self, folder, **options):
        super().__init__(folder, program=(PROGRAM,), **options)

    def send(self, data, descriptors=(), to=None):
        super().send(data, descriptors, to or self.lane)

    def cancel(self, id, flags=0):
        """The client of this request has left; with BROKEN its time is over."""
        place = self.places[id]
        self.add_bit(place, CANCELLED)
        self.send(frame(CANCEL, b"", flags, place, id))

    def encode_request(self, *args, **options):
        id, data = super().encode_request(*args, **options)
        self.places[id] = self.place
        return id, data

    @property
    def places(self):
        return self.__dict__.setdefault("_places", {})

    def stop(self):
        """Ends the lane; the exit status."""
        self.lane.shutdown(socket.SHUT_WR)
        return self.wait()

    # WebSockets

    def handshake(self, path="/", **options):
        options.setdefault("body_length", None)
        return self.request("GET", path, flags=WHOLE | WEBSOCKET, **options)

    def accepted(self, id):
        """The head with which the app accepts."""
        return decode_response(self.expect(ACCEPT, id)[4])

    def connect(self, path="/", **options):
        id = self.handshake(path, **options)
        self.accepted(id)
        return id

    def message(self, id, data, whole=True):
        text = isinstance(data, str)
        flags = (WHOLE if whole else 0) | (TEXT if text else 0)
        self.send(frame(MESSAGE, data.encode() if text else data, flags, self.places[id], id))

    def closed(self, id, code=1000, reason=""):
        self.send(frame(CLOSED, struct.pack("<H", code) + reason.encode(), 0, self.places[id], id))

    def sent(self, id):
        """The next whole message of the app, as str or bytes."""
        data = b""
        while True:
            _, flags, _, _, payload, _ = self.expect(SEND, id)
            data += payload
            if flags & WHOLE:
                return data.decode() if flags & TEXT else data

    def close_of(self, id):
        """`(code, reason)` with which the app closes."""
        payload = self.expect(CLOSE, id)[4]
        return struct.unpack_from("<H", payload)[0], payload[2:].decode()

    def grant(self, id, more, place=0):
        self.send(frame(GRANT, struct.pack("<I", more), 0, place, id))


#: Chooses an app of the module by the first part of the path, so that one worker serves the tests of a table.
APPS = """
import asyncio

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        raise ValueError("no lifespan here")
    await globals()[scope["path"].split("/")[1]](scope, receive, send)

async def start(send, *headers, status=200, **more):
    await send({"type": "http.response.start", "status": status, "headers": headers, **more})

async def body(send, data=b"", more=False):
    await send({"type": "http.response.body", "body": data, "more_body": more})

async def answer(send, data, *headers, status=200):
    await start(send, *headers, status=status)
    await body(send, data if isinstance(data, bytes) else repr(data).encode())
"""
