"""An HTTP/3 client that sends what it is told to, on aioquic's QUIC.

aioquic's own HTTP/3 reads the answers and is strict about them; what is sent is written here, field by field, because a library
refuses to send what an attacker sends. `visit` runs one coroutine with a connection.
"""

import asyncio
import socket
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.buffer import encode_uint_var
from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic import events
from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from client import DEADLINE

NO_ERROR, FRAME_UNEXPECTED, EXCESSIVE_LOAD, MESSAGE_ERROR = 0x100, 0x105, 0x107, 0x10E


def certificate(folder: Path, *names: str) -> tuple[Path, Path]:
    """A certificate for these names that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
    now = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - timedelta(hours=1), now + timedelta(days=9))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), critical=False)
    chain, secret = folder / f"{names[0]}.pem", folder / f"{names[0]}.key"
    chain.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    secret.chmod(0o600)
    return chain, secret


class Reset(Exception):
    """The server ended the stream with this code."""

    @property
    def code(self) -> int:
        return self.args[0]


class Closed(Reset):
    """The server ended the connection with this code."""


@dataclass
class Reply:
    status: int
    fields: list[tuple[str, str]]
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    interim: list[tuple[int, list[tuple[str, str]]]] = field(default_factory=list)

    def get(self, name: str) -> str | None:
        return dict(self.fields).get(name)


def frame(kind: int, payload: bytes) -> bytes:
    return encode_uint_var(kind) + encode_uint_var(len(payload)) + payload


def _number(first: int, bits: int, value: int) -> bytes:
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    out, value = [first | most], value - most
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes([*out, value])


def section(fields) -> bytes:
    """A field section in which each field is written out (RFC 9204 §4.5.6)."""
    lines = b"".join(_number(0x20, 3, len(name)) + name.encode() + _number(0, 7, len(value)) + value.encode("latin-1") for name, value in fields)
    return b"\0\0" + lines


def headers(fields) -> bytes:
    """A HEADERS frame of these fields."""
    return frame(1, section(fields))


class Client(QuicConnectionProtocol):
    """One connection."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._http = H3Connection(self._quic)
        self._streams: dict[int, asyncio.Queue] = {}
        self.ended: asyncio.Future = asyncio.get_running_loop().create_future()
        self.went_away = asyncio.Event()
        self.stopped: dict[int, int] = {}

    # -- what comes

    def quic_event_received(self, event) -> None:
        match event:
            case events.StreamReset(stream_id=stream, error_code=code) if stream in self._streams:
                self._streams[stream].put_nowait(Reset(code))
            case events.StopSendingReceived(stream_id=stream, error_code=code):
                self.stopped[stream] = code
            case events.ConnectionTerminated(error_code=code):
                for stream in self._streams.values():
                    stream.put_nowait(Closed(code))
                if not self.ended.done():
                    self.ended.set_result(code)
            case events.StreamDataReceived(stream_id=stream, data=data) if stream % 4 == 3 and b"\x07" in data:
                self.went_away.set()  # GOAWAY is what the control stream has behind its SETTINGS
        for told in self._http.handle_event(event):
            if told.stream_id in self._streams:
                self._streams[told.stream_id].put_nowait(told)

    async def reply(self, stream: int) -> Reply:
        reply, interim = None, []
        while True:
            told = await asyncio.wait_for(self._streams[stream].get(), DEADLINE)
            if isinstance(told, Reset):
                raise told
            if isinstance(told, HeadersReceived):
                fields = [(name.decode(), value.decode("latin-1")) for name, value in told.headers]
                if reply is not None:
                    reply.trailers = fields
                elif fields[0][1].startswith("1"):
                    interim.append((int(fields[0][1]), fields[1:]))
                else:
                    reply = Reply(int(fields[0][1]), fields[1:], interim=interim)
            elif isinstance(told, DataReceived):
                reply.body += told.data
            if told.stream_ended:
                return reply

    # -- what leaves

    def head(self, method: str, path: str, fields=()) -> list[tuple[str, str]]:
        name = f"{self._quic.configuration.server_name}:{self._quic._network_paths[0].addr[1]}"
        return [(":method", method), (":scheme", "https"), (":authority", name), (":path", path), *fields]

    def begin(self, data: bytes, end: bool = False) -> int:
        """Opens a stream with these bytes."""
        stream = self._quic.get_next_available_stream_id()
        self._streams[stream] = asyncio.Queue()
        self.more(stream, data, end)
        return stream

    def more(self, stream: int, data: bytes, end: bool = False) -> None:
        self._quic.send_stream_data(stream, data, end)
        self.transmit()

    def cancel(self, stream: int, code: int = 0x10C) -> None:
        self._quic.reset_stream(stream, code)
        self._quic.stop_stream(stream, code)
        self.transmit()

    async def send(self, data: bytes) -> Reply:
        """The answer to a stream of these bytes."""
        return await self.reply(self.begin(data, True))

    async def ask(self, method: str, path: str, body: bytes = b"", fields=()) -> Reply:
        return await self.send(headers(self.head(method, path, fields)) + (frame(0, body) if body else b""))

    async def get(self, path: str, fields=()) -> Reply:
        return await self.ask("GET", path, fields=fields)

    async def end(self) -> int:
        """The code that the server closes with."""
        return await asyncio.wait_for(asyncio.shield(self.ended), DEADLINE)

    async def move(self) -> None:
        """From now on from another port, as behind a router that has forgotten."""
        self._transport.close()
        fresh = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        fresh.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        fresh.bind(("::", 0))
        await asyncio.get_running_loop().create_datagram_endpoint(lambda: self, sock=fresh)


@asynccontextmanager
async def connection(port: int, trusted: Path, name: str = "localhost", host: str = "127.0.0.1"):
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["h3"], verify_mode=ssl.CERT_REQUIRED, server_name=name)
    configuration.load_verify_locations(str(trusted))
    async with connect(host, port, configuration=configuration, create_protocol=Client) as client:
        yield client


def visit(port: int, trusted: Path, story, name: str = "localhost", host: str = "127.0.0.1"):
    """Runs `story(client)`, a coroutine, with a connection."""

    async def run():
        async with connection(port, trusted, name, host) as client:
            return await story(client)

    return asyncio.run(run())
