"""Load over TLS, HTTP/2 and HTTP/3, and what it costs to be there: handshakes, idle connections.

Owns the throw-away certificate and the clients for which wrk is not enough: h2load (nghttp2), `openssl s_time` for handshakes
(RFC 8446 §2.2 for the resumed ones), `h3load/` for HTTP/3. wrk itself speaks TLS over HTTP/1.1.
"""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
from pathlib import Path

import clients


def certificate(folder: Path) -> tuple[Path, Path]:
    """(chain, key): ECDSA P-256, as public authorities give it today, for `localhost` and 127.0.0.1."""
    folder.mkdir(parents=True, exist_ok=True)
    chain, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "7",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", str(key), "-out", str(chain)],
        check=True, capture_output=True,
    )
    return chain, key


def context() -> ssl.SSLContext:
    """Believes every certificate: what is measured is on this machine."""
    made = ssl.create_default_context()
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    return made


def h2load(url: str, connections: int, streams: int, seconds: float) -> dict:
    """HTTP/2 with this many streams on each connection; one client thread."""
    answer = subprocess.run(
        ["h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-D{max(1, round(seconds))}", url],
        capture_output=True, text=True, timeout=seconds + 60,
    )
    found = re.search(
        r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", answer.stdout)
    rate = re.search(r"finished in [\d.]+s, ([\d.]+) req/s, ([\d.]+)(K|M|G)?B/s", answer.stdout)
    if not found or not rate:
        raise RuntimeError(f"h2load failed: {(answer.stderr or answer.stdout).strip()[-300:]}")
    done, succeeded, failed, errored, late = map(int, found.groups())
    scale = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, None: 1}[rate[3]]
    return {"requests": done, "rps": float(rate[1]), "mb_s": float(rate[2]) * scale / 1e6, "connections": connections,
            "errors": failed + errored + late + done - succeeded}


def handshakes(port: int, resumed: bool, seconds: float, clients_at_once: int = 4) -> dict:
    """TLS connections a second by so many clients that each open one after the other and ask nothing."""
    word = "-reuse" if resumed else "-new"
    running = [
        subprocess.Popen(["openssl", "s_time", "-connect", f"127.0.0.1:{port}", word, "-time", str(max(2, round(seconds)))],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(clients_at_once)
    ]
    done, rate = 0, 0.0
    for process in running:
        text, wrong = process.communicate(timeout=seconds + 60)
        found = re.search(r"(\d+) connections in (\d+) real seconds", text)
        if not found or process.returncode:
            raise RuntimeError(f"openssl s_time failed: {(wrong or text).strip()[-300:]}")
        done, rate = done + int(found[1]), rate + int(found[1]) / max(2, round(seconds))
    return {"requests": done, "rps": rate, "errors": 0}


def open_connections(port: int, path: str, count: int) -> list[ssl.SSLSocket]:
    """`count` kept-alive TLS connections that have each had one answer."""
    trusting, message, done = context(), clients.request(path, port), []
    for _ in range(count):
        plain = socket.create_connection(("127.0.0.1", port), timeout=20)
        sock = trusting.wrap_socket(plain, server_hostname="localhost")
        sock.sendall(message)
        clients.read_answer(sock)
        done.append(sock)
    return done


def still_open(sockets: list[ssl.SSLSocket]) -> int:
    """How many of these idle connections the server has kept."""
    kept = 0
    for sock in sockets:
        sock.setblocking(False)
        try:
            kept += sock.recv(1) != b""
        except (ssl.SSLWantReadError, BlockingIOError):
            kept += 1
        except OSError:
            pass
    return kept


def h3load(program: Path, url: str, connections: int, streams: int, seconds: float) -> dict:
    """HTTP/3 by `h3load/`: one client thread, no look at the certificate."""
    answer = subprocess.run(
        [str(program), url, "--connections", str(connections), "--streams", str(streams), "--seconds", str(seconds)],
        capture_output=True, text=True, timeout=seconds + 60,
    )
    found = dict(re.findall(r"(requests|errors|seconds)[=: ]+([\d.]+)", answer.stdout))
    if answer.returncode or "requests" not in found:
        raise RuntimeError(f"h3load failed: {(answer.stderr or answer.stdout).strip()[-300:]}")
    requests = int(found["requests"])
    return {"requests": requests, "rps": requests / float(found.get("seconds", seconds)), "errors": int(found.get("errors", 0))}
