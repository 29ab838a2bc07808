"""Clients that wrk cannot be: ten thousand idle connections, a steady rate, slow senders, a request that takes long.

Everything runs in the harness's own process over epoll or a few threads; its CPU time is not the server's.
"""

from __future__ import annotations

import http.client
import select
import socket
import threading
import time
from collections import deque
from contextlib import contextmanager


def request(path: str, port: int) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAccept: */*\r\n\r\n".encode()


def answer_end(data: bytes) -> int | None:
    """Length of the first whole answer in `data`, None while it is not complete."""
    head = data.find(b"\r\n\r\n")
    if head < 0:
        return None
    fields = data[:head].lower()
    at = fields.find(b"\r\ncontent-length:")
    if at >= 0:
        end = head + 4 + int(fields[at + 17 :].split(b"\r\n", 1)[0])
        return end if len(data) >= end else None
    if b"\r\ntransfer-encoding:" in fields:
        last = data.find(b"0\r\n\r\n", head)
        return last + 5 if last >= 0 else None
    return head + 4


def size_of_answer(port: int, path: str, accept: str) -> int:
    """Bytes of the body as it is on the wire."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    client.request("GET", path, headers={"Accept-Encoding": accept})
    size = len(client.getresponse().read())
    client.close()
    return size


def open_connections(port: int, path: str, count: int, at_once: int = 100) -> list[socket.socket]:
    """`count` kept-alive connections that have each had one answer."""
    done: list[socket.socket] = []
    message = request(path, port)
    while len(done) < count:
        batch = []
        try:
            for _ in range(min(at_once, count - len(done))):
                batch.append(connect(port))
                batch[-1].sendall(message)
            for sock in batch:
                read_answer(sock)
        except OSError as error:
            for sock in done + batch:
                sock.close()
            raise RuntimeError(f"only about {len(done)} of {count} connections got an answer ({error})") from None
        done += batch
    for sock in done:
        sock.setblocking(False)
    return done


# A client's text message of 100 bytes and its echo: RFC 6455 §5.2. The mask is constant, which no server minds.
MASK = bytes((0x37, 0xFA, 0x21, 0x3D))
TEXT = (b"abcdefghijklmnopqrstuvwxyz" * 4)[:100]
MESSAGE = bytes((0x81, 0x80 | len(TEXT))) + MASK + bytes(byte ^ MASK[at % 4] for at, byte in enumerate(TEXT))
ECHO = bytes((0x81, len(TEXT))) + TEXT


def open_websockets(port: int, path: str, count: int, at_once: int = 100) -> list[socket.socket]:
    """`count` open WebSockets that have each had one message echoed."""
    handshake = (
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()
    done: list[socket.socket] = []
    while len(done) < count:
        batch = []
        try:
            for _ in range(min(at_once, count - len(done))):
                batch.append(connect(port))
                batch[-1].sendall(handshake)
            for sock in batch:
                head = read_until(sock, lambda data: b"\r\n\r\n" in data)
                if not head.startswith(b"HTTP/1.1 101 "):
                    raise ConnectionError(f"the handshake was answered by {head[:30]!r}")
                sock.sendall(MESSAGE)
            for sock in batch:
                if read_until(sock, lambda data: len(data) >= len(ECHO)) != ECHO:
                    raise ConnectionError("the echo is not what was sent")
        except OSError as error:
            for sock in done + batch:
                sock.close()
            raise RuntimeError(f"only about {len(done)} of {count} WebSockets got their echo ({error})") from None
        done += batch
    for sock in done:
        sock.setblocking(False)
    return done


def connect(port: int) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=20)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def read_answer(sock: socket.socket) -> bytes:
    data = read_until(sock, lambda data: answer_end(data) is not None)
    return data[: answer_end(data)]


def read_until(sock: socket.socket, whole) -> bytes:
    data = b""
    while not whole(data):
        more = sock.recv(65536)
        if not more:
            raise ConnectionError("the server closed a connection before its answer was whole")
        data += more
    return data


def still_open(sockets: list[socket.socket]) -> int:
    """How many of these idle connections the server has kept."""
    count = 0
    for sock in sockets:
        try:
            count += sock.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            count += 1
        except OSError:
            pass
    return count


def paced(port: int, path: str, sockets: list[socket.socket], rate: int, seconds: float) -> dict:
    """An open loop: a request each 1/rate seconds, on the connection that has been idle the longest.

    A latency is counted from the moment the request was due, so a server that stops is seen. A connection that the
    server has closed is replaced and counted. Takes over `sockets` and closes them.
    """
    message, latencies, wrong, reconnects = request(path, port), [], 0, 0
    poll = select.epoll()
    idle = deque(sockets)
    busy: dict[int, tuple[socket.socket, float, bytes]] = {}
    start, sent, total = time.perf_counter(), 0, int(rate * seconds)
    while len(latencies) + wrong < total and time.perf_counter() < start + seconds + 10:
        now = time.perf_counter()
        while sent < total and start + sent / rate <= now and idle:
            sock = idle.popleft()
            try:
                sock.send(message)
            except OSError:
                sock.close()
                sock, reconnects = connect(port), reconnects + 1
                sock.setblocking(False)
                sock.send(message)
            busy[sock.fileno()] = (sock, start + sent / rate, b"")
            poll.register(sock, select.EPOLLIN)
            sent += 1
        wait = start + sent / rate - time.perf_counter() if sent < total and idle else 0.05
        for number, _ in poll.poll(max(wait, 0)):
            sock, due, data = busy.pop(number)
            try:
                more = sock.recv(65536)
            except OSError:
                more = b""
            data += more
            if more and answer_end(data) is None:
                busy[number] = (sock, due, data)
                continue
            poll.unregister(number)
            if not more:
                # Closed under our request: the server's idle limit, or a fault. One more try on a new connection.
                sock.close()
                sock, reconnects = connect(port), reconnects + 1
                sock.sendall(message)
                data = read_answer(sock)
                sock.setblocking(False)
            if b" 200 " in data[:16]:
                latencies.append(time.perf_counter() - due)
            else:
                wrong += 1
            if b"\r\nconnection: close\r\n" in data[: data.find(b"\r\n\r\n") + 2].lower():
                sock.close()
                sock = connect(port)
                sock.setblocking(False)
            idle.append(sock)
    wall = time.perf_counter() - start
    lost = sent - len(latencies) - wrong
    for sock in [*idle, *(entry[0] for entry in busy.values())]:
        sock.close()
    latencies.sort()
    return {
        "requests": len(latencies), "rps": len(latencies) / wall, "errors": wrong + lost, "reconnects": reconnects,
        "p50_ms": latencies[len(latencies) // 2] * 1e3 if latencies else None,
        "p99_ms": latencies[int(len(latencies) * 0.99)] * 1e3 if latencies else None,
    }


def download(port: int, path: str, length: int, connections: int, seconds: float) -> dict:
    """Large answers, thrown away in the kernel (MSG_TRUNC): the client copies nothing, so the server sets the pace.

    wrk reads 8 KiB at a time and is at its own limit long before a server that uses sendfile.
    """
    message, space = request(path, port), bytearray(length)
    poll = select.epoll()
    open_: dict[int, tuple[socket.socket, int | None, float]] = {}  # bytes still to come, None before the head
    for _ in range(connections):
        sock = connect(port)
        sock.setblocking(False)
        sock.send(message)
        open_[sock.fileno()] = (sock, None, time.perf_counter())
        poll.register(sock, select.EPOLLIN)
    start, received, latencies = time.perf_counter(), 0, []
    while time.perf_counter() < start + seconds:
        for number, _ in poll.poll(0.1):
            sock, left, sent = open_[number]
            if left is None:
                data = sock.recv(8192)
                head = data.lower().partition(b"\r\n\r\n")[0] + b"\r\n"
                if not head.startswith(b"http/1.1 200 ") or b"\r\ncontent-length: %d\r\n" % length not in head:
                    raise RuntimeError(f"{path} was not answered by 200 with Content-Length {length}: {head[:200]!r}")
                got = len(data)
                left = length - (got - data.index(b"\r\n\r\n") - 4)
            else:
                got = sock.recv_into(space, left, socket.MSG_TRUNC)
                if got == 0:
                    raise RuntimeError(f"the server closed a connection {left} bytes before the end of {path}")
                left -= got
            received += got
            if left == 0:
                now = time.perf_counter()
                latencies.append(now - sent)
                left, sent = None, now
                sock.send(message)
            open_[number] = (sock, left, sent)
    wall = time.perf_counter() - start
    for sock, _, _ in open_.values():
        sock.close()
    latencies.sort()
    return {
        "requests": received / length, "rps": received / length / wall, "mb_s": received / wall / 1e6, "errors": 0,
        "p50_ms": latencies[len(latencies) // 2] * 1e3 if latencies else None,
        "p99_ms": latencies[int(len(latencies) * 0.99)] * 1e3 if latencies else None,
    }


@contextmanager
def slow_clients(port: int, count: int):
    """While the block runs: `count` clients, every other one stuck in its head, the rest in their body.

    Each sends a byte more every half second, so that none looks dead. One that the server throws out comes back.
    """
    stop = threading.Event()
    threads = [threading.Thread(target=slow_client, args=(port, bool(at % 2), stop), daemon=True) for at in range(count)]
    for thread in threads:
        thread.start()
    time.sleep(0.5 if count else 0)
    yield
    stop.set()
    for thread in threads:
        thread.join(5)


HALF_HEAD = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: slow"
HALF_BODY = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 8192\r\nContent-Type: text/plain\r\n\r\n" + b"x" * 4096


def slow_client(port: int, body: bool, stop: threading.Event) -> None:
    while not stop.is_set():
        try:
            with connect(port) as sock:
                sock.sendall(HALF_BODY if body else HALF_HEAD)
                while not stop.wait(0.5):
                    sock.sendall(b"x")
        except OSError:
            stop.wait(0.1)


def fast_during_long(port: int, long_path: str, fast_path: str, count: int = 20, spacing_s: float = 0.2) -> dict:
    """One long request; then `count` fast ones while it runs, each on a connection of its own."""
    statuses, times = [], [0.0] * count

    def get(path: str, at: int | None) -> None:
        start = time.perf_counter()
        try:
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            client.request("GET", path)
            answer = client.getresponse()
            answer.read()
            statuses.append(answer.status)
            client.close()
        except OSError:
            statuses.append(0)
        if at is not None:
            times[at] = time.perf_counter() - start

    threads = [threading.Thread(target=get, args=(long_path, None))]
    threads[0].start()
    time.sleep(0.5)
    for at in range(count):
        threads.append(threading.Thread(target=get, args=(fast_path, at)))
        threads[-1].start()
        time.sleep(spacing_s)
    still_running = threads[0].is_alive()
    for thread in threads:
        thread.join()
    if not still_running:
        raise RuntimeError(f"{long_path} was over before the fast requests were sent")
    return {
        "requests": count, "held_up": sum(second > 1.0 for second in times), "slowest_s": max(times),
        "errors": sum(status != 200 for status in statuses),
    }
