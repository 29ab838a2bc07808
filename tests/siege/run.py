"""Prints what others see of a server that is attacked: floods of HTTP/2, slow clients.

    python tests/siege/run.py                 everything, some ten minutes
    python tests/siege/run.py --seconds 5     shorter
    python tests/siege/run.py --only PING "slow headers"

The program is the one of `BANDSTAND_BIN`. While an attack runs, a client of good will asks ten times a second, each time on a new
connection; each of its requests must be answered with 200. The edge's memory is read before, during and after. Slow clients
are those of slowhttptest, 4,000 at once. Exit status 1 when somebody was not served, or memory grew past its bound.
"""

from __future__ import annotations

import argparse
import http.client
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import frames  # noqa: E402
from server import Server  # noqa: E402

ATTACKERS = 8
# What an attack may cost the edge at its height, in KiB: buffers and state of the attackers' own connections.
MEMORY_BOUND = 128 * 1024
# slowhttptest's words for a slow start, a slow body, a client that does not read, and ranges.
SLOW = {
    "slow headers": ["-H", "-i", "10", "-t", "GET", "-x", "24"],
    "slow body": ["-B", "-i", "10", "-t", "POST", "-s", "8192", "-x", "10"],
    "slow read": ["-X", "-w", "10", "-y", "20", "-n", "5", "-z", "32", "-k", "3"],
    "ranges": ["-R", "-t", "HEAD", "-a", "10", "-b", "3000"],
}


class Witness(threading.Thread):
    """Somebody of good will."""

    def __init__(self, server: Server) -> None:
        super().__init__(daemon=True)
        self.server, self.over = server, threading.Event()
        self.good, self.bad, self.slowest, self.memory = 0, [], 0.0, 0

    def run(self) -> None:
        while not self.over.wait(0.1):
            began = time.monotonic()
            try:
                client = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=10)
                client.request("GET", "/")
                answer = client.getresponse()
                answer.read()
                client.close()
                if answer.status == 200:
                    self.good += 1
                else:
                    self.bad.append(str(answer.status))
            except (OSError, http.client.HTTPException) as error:
                self.bad.append(repr(error))
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.memory = max(self.memory, resident(self.server))


def resident(server: Server) -> int:
    """KiB."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{server.process.pid}/status").read_text())[1])


def flood(port: int, pieces, until: float) -> tuple[int, int]:
    """(connections, bytes): opens a new connection as often as the server ends one."""
    opened = sent = 0
    authority = b"127.0.0.1:%d" % port
    while time.monotonic() < until:
        opened += 1
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
                sock.settimeout(2)
                sock.sendall(frames.opening())
                if pieces not in frames.DEAF:
                    # What the server says is read, so that it is never the server who waits for us.
                    threading.Thread(target=drain, args=(sock,), daemon=True).start()
                for piece in pieces(frames.get(authority)):
                    sock.sendall(piece)
                    sent += len(piece)
                    if time.monotonic() > until:
                        break
        except OSError:
            pass
    return opened, sent


def drain(sock: socket.socket) -> None:
    try:
        while sock.recv(65536):
            pass
    except OSError:
        pass


def attack(server: Server, pieces, seconds: float) -> str:
    until, told = time.monotonic() + seconds, []
    threads = [threading.Thread(target=lambda: told.append(flood(server.port, pieces, until))) for _ in range(ATTACKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return f"{sum(opened for opened, _ in told):,} connections, {sum(sent for _, sent in told) / 1e6:,.0f} MB"


def slow(server: Server, words: list[str], seconds: float, clients: int) -> str:
    ran = subprocess.run(
        ["slowhttptest", "-c", str(clients), "-r", "800", "-l", str(round(seconds)), "-p", "5", *words,
         "-u", f"http://127.0.0.1:{server.port}/"],
        capture_output=True, text=True, timeout=seconds + 60,
    )
    plain = re.sub(r"\x1b\[[0-9;]*m", "", ran.stdout)
    available = re.findall(r"service available:\s+(\w+)", plain)
    held = [int(n) for n in re.findall(r"connected:\s+(\d+)", plain)]
    closed = [int(n) for n in re.findall(r"closed:\s+(\d+)", plain)]
    # Its table comes every five seconds, so what ended early may be in none; without any table nothing was seen.
    state = "up" if available and "NO" not in available else "down"
    return (f"of {clients:,} clients {max(held, default=0):,} seen connected at once and {max(closed, default=0):,} closed, "
            f"slowhttptest saw the service {state} whenever it looked")


def besiege(name: str, server: Server, how) -> bool:
    before = resident(server)
    witness = Witness(server)
    witness.start()
    told = how()
    witness.over.set()
    witness.join()
    asked = witness.good + len(witness.bad)
    held = witness.memory - before
    met = asked > 0 and not witness.bad and held <= MEMORY_BOUND and server.process.poll() is None and " down " not in told
    print(
        f"{'met    ' if met else 'NOT MET'} {name}: {told}; others: {witness.good} of {asked} served, slowest {witness.slowest:.2f} s; "
        f"memory {before:,} KiB, +{max(held, 0):,} at most, {resident(server):,} after"
        + (f"; {witness.bad[:3]}" if witness.bad else ""), flush=True,
    )
    return met


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--clients", type=int, default=4000)
    parser.add_argument("--only", nargs="+", choices=[*frames.FLOODS, *SLOW])
    options = parser.parse_args()
    chosen = options.only or [*frames.FLOODS, *SLOW]
    if any(name in SLOW for name in chosen) and not shutil.which("slowhttptest"):
        sys.exit("slowhttptest is missing (apt install slowhttptest)")
    met = True
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen:
            server = Server.start("probe:app", Path(folder), access_log="off", h2c="on", log="error")
            try:
                if name in SLOW:
                    def how(words=SLOW[name]):
                        return slow(server, words, options.seconds, options.clients)
                else:
                    def how(pieces=frames.FLOODS[name]):
                        return attack(server, pieces, options.seconds)
                met = besiege(name, server, how) and met
            finally:
                server.kill()
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
