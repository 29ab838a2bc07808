"""Rows of part 2 of the checklist that no other file tells: each promise once, with its number in the name of the test."""

import gzip
import json
import os
import re
import stat
import subprocess
from pathlib import Path

import pytest
from client import eventually, request
from server import BINARY, environment


def status_of(server) -> dict:
    ran = subprocess.run([str(BINARY), "status", "--json"], cwd=server.folder, env=environment(), capture_output=True, text=True, timeout=30)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def test_row_52_a_body_that_is_compressed_is_not_inflated(stand):
    """A bomb of 50 MB stays the 50 KB that it is; what it means is the app's to say."""
    server = stand.serve(workers=1, max_body="1MB")
    bomb = gzip.compress(bytes(50_000_000))
    told = server.post("/", bomb, {"Content-Encoding": "gzip"}).json()
    assert told["body"]["length"] == len(bomb) < 100_000
    assert told["environ"]["CONTENT_LENGTH"] == str(len(bomb))
    # The limit counts what is sent, packed or not.
    assert server.post("/", bytes(1_000_001), {"Content-Encoding": "gzip"}).status == 413


BOUNDARY = "limit"


def parts(count: int, filename: bool = False, head: bytes = b"") -> bytes:
    name = b'name="f%d"; filename="f"' if filename else b'name="f%d"'
    part = b"--limit\r\nContent-Disposition: form-data; " + name + b"\r\n" + head + b"\r\nx\r\n"
    return b"".join(part % number for number in range(count)) + b"--limit--\r\n"


@pytest.mark.parametrize(
    "body, boundary, status",
    [
        (parts(100), BOUNDARY, 200),
        (parts(5_000), BOUNDARY, 400),
        (parts(500, filename=True), BOUNDARY, 400),
        (parts(1, head=b"X-Long: " + b"x" * (1 << 20) + b"\r\n"), BOUNDARY, 400),
        (parts(1), "b" * 5_000, 400),
        (bytes(1_100_001), BOUNDARY, 413),
    ],
    ids=["few", "parts", "files", "head", "boundary", "size"],
)
def test_row_54_forms_of_many_parts(row_54, body, boundary, status):
    """The body's size is bounded here, and a slow one holds no worker; the counts are Django's, and they end in a 400."""
    answer = row_54.post("/form", body, {"Content-Type": f"multipart/form-data; boundary={boundary}"})
    assert answer.status == status
    assert status != 200 or answer.json() == {"fields": 100, "files": 0}
    assert row_54.get("/").status == 200


@pytest.fixture(scope="module")
def row_54(module_stand):
    return module_stand.serve("front:app", workers=1, max_body="1100000")


def test_row_55_row_56_nothing_of_the_apps_is_kept(stand):
    """No name of a file, no field of a client and no promise of the app makes an answer somebody else's."""
    server = stand.serve(workers=1)
    for target in ["/account/x.css", "/account;x.css", "/account/x.css?utm=1"]:
        first = server.get(target, {"Cookie": "id=ali", "X-Forwarded-Host": "evil.example"})
        second = server.get(target, {"Cookie": "id=zoe"})
        assert "evil.example" not in first.text + second.text
        assert second.json()["environ"]["HTTP_COOKIE"] == "id=zoe" and "ali" not in second.text
        assert stand.seen().count(f"GET {target}") == 2


def test_row_63_what_is_counted_has_no_name_of_a_clients(stand):
    """Counters and their labels are as many after a thousand paths, hosts and methods as before."""

    def shape(value, path=""):
        if isinstance(value, dict):
            return set().union(*(shape(inner, f"{path}.{name}") for name, inner in value.items())) | {path}
        if isinstance(value, list):
            assert len(value) < 200, f"{path}: one for each span of time at most"
            return {f"{path}[]"}
        return {path}

    server = stand.serve(workers=1, access_log="off")
    server.get("/")
    before = status_of(server)
    with server.wire() as wire:
        for number in range(1000):
            wire.send(request(f"M{number % 50}", f"/path-{number}", {"User-Agent": f"agent-{number}"}, host=f"host-{number}.example"))
            wire.answer()
    after = status_of(server)
    assert after["counters"]["requests"] == before["counters"]["requests"] + 1000
    assert shape(after["counters"]) == shape(before["counters"])
    assert not re.search(r"path-|agent-|host-|\bM\d", json.dumps(after))


def listening(pid: int) -> tuple[set[str], set[Path]]:
    """Where a process listens: addresses of TCP, as the kernel writes them, and paths."""
    inodes = set()
    for name in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found = re.fullmatch(r"socket:\[(\d+)\]", os.readlink(name))
        except FileNotFoundError:
            continue
        if found:
            inodes.add(found[1])

    def table(name):
        return [line.split() for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]]

    addresses = {row[1] for name in ("tcp", "tcp6") for row in table(name) if row[3] == "0A" and row[9] in inodes}
    # Flag 1 << 16: it accepts connections.
    paths = {Path(row[7]) for row in table("unix") if row[6] in inodes and len(row) > 7 and int(row[3], 16) & 0x10000}
    return addresses, paths


def test_row_64_no_web_page_reaches_the_controls(stand):
    """They are on a Unix socket of the owner's alone; on TCP there is the site and nothing else."""
    server = stand.serve(workers=1)
    assert status_of(server)["pid"] == server.process.pid
    addresses, paths = listening(server.process.pid)
    assert addresses == {f"0100007F:{server.port:04X}"}
    assert paths and all(stat.S_IMODE(os.lstat(path).st_mode) == 0o600 for path in paths), paths
    # What a page could send to the site's own port means nothing to it but a request of the site.
    for target in ["/status", "/-/status", "/metrics", "/-/metrics", "/-/reload"]:
        server.post(target, b"{}", {"Origin": "https://evil.example"})
        assert f"POST {target}" in stand.seen()


def test_row_68_a_worker_that_hangs_is_a_504_and_nobody_elses_trouble(stand):
    server = stand.serve(workers=2, threads=1, timeout="1s")
    gate = stand.gate("never")
    with server.wire() as stuck:
        stuck.send(request("GET", f"/gate/{gate.name}"))
        gate.reached()
        assert server.get("/beside").status == 200
        assert stuck.answer().status == 504
    gate.open()
    eventually(lambda: status_of(server)["workers"] and all(worker["state"] == "ready" for worker in status_of(server)["workers"]), "both workers are there again")
    assert server.get("/after").status == 200


def test_row_68_a_worker_that_dies_in_its_answer_cuts_it(stand):
    server = stand.serve("faults:app", workers=2, threads=1)
    gate = stand.gate("exit")
    with server.wire() as cut, server.wire() as beside:
        cut.send(request("GET", f"/exits-mid-answer/{gate.name}"))
        cut.until(b"first\n")
        gate.open()
        rest = cut.rest()
        assert b"0\r\n\r\n" not in rest and b"HTTP/1.1" not in rest, "no clean end, and no second answer"
        assert beside.send(request("GET", "/")).answer().status == 200
