"""An authority to get certificates from: Debian's Pebble, and the DNS it asks.

`Authority` is a directory on a free port; `Names` answers A records for the names it holds and TXT records from a folder that a
hook writes to. Both end with the test.
"""

import json
import os
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import urllib.request
from pathlib import Path

from client import eventually

PEBBLE = shutil.which("pebble")


def free_port() -> int:
    """A port that nobody has: it is held by nobody until it is bound, so it is asked for late."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Names:
    """A DNS server of one's own: names that lead to 127.0.0.1, and records that a hook has made."""

    def __init__(self, folder: Path, *names: str):
        self.known = set(names)
        self.records = folder / "records"
        self.records.mkdir(exist_ok=True)
        self.asked: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                question, client = self._socket.recvfrom(4096)
            except OSError:
                return
            self._socket.sendto(self._answer(question), client)

    def _answer(self, question: bytes) -> bytes:
        labels, at = [], 12
        while length := question[at]:
            labels.append(question[at + 1 : at + 1 + length].decode("ascii").lower())
            at += 1 + length
        name = ".".join(labels)
        (kind,) = struct.unpack_from("!H", question, at + 1)
        self.asked.append(name)
        found = []
        if kind == 1 and name in self.known:
            found.append(bytes([127, 0, 0, 1]))
        elif kind == 16 and (path := self.records / name).exists():
            found += [bytes([len(value)]) + value for value in path.read_bytes().split()]
        code = 0 if found or name in self.known else 3
        head = question[:2] + struct.pack("!HHHHH", 0x8580 | code, 1, len(found), 0, 0)
        records = [b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 0, len(data)) + data for data in found]
        return head + question[12 : at + 5] + b"".join(records)


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own root, and its key: what an authority's server shows."""
    cert, key = folder / "authority.pem", folder / "authority.key"
    if not cert.exists():
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=authority",
             "-addext", "basicConstraints=critical,CA:FALSE", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert],
            check=True, capture_output=True,
        )  # fmt: skip
    return cert, key


class Authority:
    """A running Pebble. `env` are its PEBBLE_ variables, `more` keys of its configuration."""

    def __init__(self, folder: Path, names: Names, http: int, tls: int, env: dict | None = None, port: int | None = None, **more):
        self.port, self.management = port or free_port(), free_port()
        self.ca, key = certificate(folder)
        config = {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self.management}",
            "certificate": str(self.ca),
            "privateKey": str(key),
            "httpPort": http,
            "tlsPort": tls,
            "ocspResponderURL": "",
            "externalAccountBindingRequired": False,
            **more,
        }
        written = folder / f"pebble-{self.port}.json"
        written.write_text(json.dumps({"pebble": config}))
        quick = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0", "PEBBLE_AUTHZREUSE": "0"}
        self.log = folder / f"pebble-{self.port}.log"
        self.process = subprocess.Popen(
            [PEBBLE, "-config", written, "-dnsserver", names.address],
            env={**os.environ, **quick, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
        )
        self.directory = f"https://127.0.0.1:{self.port}/dir"
        self._trust = ssl.create_default_context(cafile=str(self.ca))
        try:
            self.root = eventually(self._root, f"Pebble: {self.log}", 30)
        except BaseException:
            self.stop()
            raise

    def _root(self) -> str | None:
        assert self.process.poll() is None, self.log.read_text()
        try:
            with urllib.request.urlopen(f"https://127.0.0.1:{self.management}/roots/0", context=self._trust, timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            return None

    def said(self, text: str) -> int:
        """How often it has said that."""
        return self.log.read_text().count(text)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
