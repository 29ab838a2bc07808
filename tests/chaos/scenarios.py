"""What may happen to workers while clients are served, each as one function that returns a line of the table.

`size` is how often the thing happens. Every scenario starts its own server on its own copy of the shop, puts a steady
load on it, lets the thing happen, and looks at every single request. Limits are those of the promise; only what is a count
is a test's assertion, times are shown beside their limit and judged by whoever runs the whole table on a quiet machine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from client import eventually  # noqa: E402
from server import BINARY, Server, environment  # noqa: E402

from load import Steady  # noqa: E402

RATE = 200
PAGES = ["/api/ping/", "/api/products/", "/", "/api/ping/async/"]
GRACE = 60.0


@dataclass
class Line:
    """One line of the table. `counts` are exact promises: (what, seen, wanted). `times` are (what, seconds or ratio, limit)."""

    name: str
    counts: list[tuple[str, object, object]] = field(default_factory=list)
    times: list[tuple[str, float, float]] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        return all(seen == wanted for _, seen, wanted in self.counts)

    @property
    def met(self) -> bool:
        return self.kept and all(seen <= limit for _, seen, limit in self.times)


@dataclass
class Scene:
    """A place for one scenario: a copy of the shop, and its servers."""

    shop: Path
    folder: Path
    servers: list[Server] = field(default_factory=list)

    def copy(self, name: str) -> Path:
        return Path(shutil.copytree(self.shop, self.folder / name))

    def serve(self, folder: Path, env: dict | None = None, **settings) -> Server:
        defaults = {"pythonpath": None, "workers": 2, "threads": 2, "log": "debug"}
        server = Server.start(None, folder, env=env, **(defaults | settings))
        self.servers.append(server)
        return server

    def stop(self) -> None:
        for server in self.servers:
            server.kill() if server._checked else server.stop()


def bandstand(server: Server, *words: str, check: bool = True) -> subprocess.CompletedProcess:
    """A command to the running server."""
    ran = subprocess.run(
        [str(BINARY), *words], cwd=server.folder, env=environment(), capture_output=True, text=True, timeout=GRACE
    )
    assert not check or ran.returncode == 0, f"bandstand {' '.join(words)}: {ran.returncode}\n{ran.stdout}{ran.stderr}"
    return ran


def status(server: Server) -> dict:
    return json.loads(bandstand(server, "status", "--json").stdout)


def workers_of(server: Server) -> list[int]:
    """Process ids of the workers that serve now."""
    return [worker["pid"] for worker in status(server)["workers"] if worker["state"] == "ready"]


def full(server: Server, count: int) -> list[int]:
    """Wait until so many workers serve."""
    return eventually(lambda: pids if len(pids := workers_of(server)) == count else None, f"{count} workers", GRACE)


def failed(load: Steady) -> tuple[str, object, object]:
    faults = load.faults
    for fault in faults[:5]:
        print(f"    {fault.at:.2f} s {fault.path}: {fault.fault}", file=sys.stderr)
    return ("failed requests", len(faults), 0)


def append(file: Path, text: str) -> None:
    file.write_text(file.read_text() + text)


# The table's lines, in its order


def reload(scene: Scene, size: int, boot: float = 3.0) -> Line:
    """Reload after reload, each with a boot that takes its time."""
    folder = scene.copy("reload")
    append(folder / "config/settings.py", f"\nimport time\ntime.sleep({boot})\n")
    server = scene.serve(folder)
    with Steady(server.port, RATE, PAGES) as load:
        load.wait_for(RATE * 4)
        calm = load.now
        for _ in range(size):
            bandstand(server, "reload")
            load.wait_for(RATE // 2)
    normal = load.percentile(0.99, until=calm)
    return Line(
        f"{size} reloads, boot of {boot:g} s each",
        [failed(load), ("generation", status(server)["generation"], size + 1)],
        [("longest request above normal p99, ms", (load.slowest(since=calm) - normal) * 1e3, 50)],
    )


def broken_reload(scene: Scene, size: int) -> Line:
    """Reload onto code that cannot be imported: the old code goes on."""
    folder = scene.copy("broken")
    views = folder / "shop/views/api.py"
    whole = views.read_text()
    server = scene.serve(folder)
    said = 0
    with Steady(server.port, RATE, PAGES) as load:
        load.wait_for(RATE)
        for _ in range(size):
            views.write_text(whole + "\ndef broken(:\n")
            ran = bandstand(server, "reload", check=False)
            said += ran.returncode == 1 and "SyntaxError" in ran.stdout + ran.stderr
            views.write_text(whole)
            load.wait_for(RATE // 2)
        since = load.now
        load.wait_for(RATE)
    after = [sample for sample in load.samples if sample.at >= since]
    return Line(
        f"{size} reloads onto broken code",
        [
            failed(load),
            ("refused with the traceback", said, size),
            ("generation after", status(server)["generation"], 1),
            ("answered by the old code after", sum(not s.fault for s in after), len(after)),
        ],
    )


def kill_workers(scene: Scene, size: int) -> Line:
    """kill -9 of one worker after the other."""
    server = scene.serve(scene.copy("workers"))
    with Steady(server.port, RATE, PAGES) as load:
        load.wait_for(RATE)
        for number in range(size):
            pids = full(server, 2)
            os.kill(pids[number % 2], signal.SIGKILL)
            eventually(lambda: pids[number % 2] not in workers_of(server), "the killed worker gone", GRACE)
            load.wait_for(RATE // 5)
        full(server, 2)
    return Line(f"kill -9 of every worker in turn, {size} times", [failed(load)])


def kill_template(scene: Scene, size: int) -> Line:
    """kill -9 of the process that makes workers; it comes back, and makes workers again."""
    server = scene.serve(scene.copy("template"))
    seen = set()
    with Steady(server.port, RATE, PAGES) as load:
        load.wait_for(RATE)
        for _ in range(size):
            pid = eventually(lambda: template_of(server), "a template", GRACE)
            seen.add(pid)
            os.kill(pid, signal.SIGKILL)
            eventually(lambda: template_of(server) not in (None, pid), "the next template", GRACE)
            victim = full(server, 2)[0]
            os.kill(victim, signal.SIGKILL)
            eventually(lambda: victim not in workers_of(server), "the killed worker gone", GRACE)
            full(server, 2)
    return Line(f"kill -9 of the template, {size} times", [failed(load), ("templates seen", len(seen), size)])


def template_of(server: Server) -> int | None:
    template = status(server).get("template") or {}
    return template.get("pid") if template.get("state") == "ready" else None


def recycling(scene: Scene, size: int) -> Line:
    """Workers replaced every 100 requests, on connections that stay."""
    server = scene.serve(scene.copy("recycling"), max_requests=100, max_requests_jitter=20)
    first = set(full(server, 2))
    with Steady(server.port, RATE * 2, ["/api/ping/"]) as load:
        load.wait_for(size)
    recycled = sum("is recycled" in line or "recycl" in line for line in server.lines)
    return Line(
        f"recycling every 100 requests, {size:,} requests",
        [failed(load), ("workers were recycled", recycled > 0 and first.isdisjoint(full(server, 2)), True)],
    )


def upgrade(scene: Scene, size: int) -> Line:
    """USR2: a new program takes the sockets over."""
    pid_file = scene.folder / "bandstand.pid"
    server = scene.serve(scene.copy("upgrade"), pid=pid_file)
    pid = server.process.pid
    with Steady(server.port, RATE, PAGES) as load:
        load.wait_for(RATE)
        for _ in range(size):
            os.kill(pid, signal.SIGUSR2)
            heir = eventually(lambda: read_pid(pid_file) not in (None, pid) and read_pid(pid_file), "the new program's pid", GRACE)
            eventually(lambda: not exists(pid), "the old program gone", GRACE)
            pid = heir
            load.wait_for(RATE // 2)
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: not exists(pid), "the last program gone", GRACE)
    server.process.wait(GRACE)
    server._checked = True
    return Line(f"upgrade in place, {size} times", [failed(load), ("old program's exit status", server.process.returncode, 0)])


def read_pid(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (FileNotFoundError, ValueError):
        return None


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def stop(scene: Scene, size: int) -> Line:
    """TERM while requests of a second are under way."""
    server = scene.serve(scene.copy("stop"), workers=2, threads=-(-size // 2), graceful_timeout="30s")
    answers: list[int] = []

    def ask() -> None:
        answers.append(server.get("/reports/slow/?seconds=1").status)

    clients = [threading.Thread(target=ask) for _ in range(size)]
    for client in clients:
        client.start()
    eventually(lambda: len(json.loads(bandstand(server, "requests", "--json").stdout)) == size, f"{size} requests under way")
    server.signal(signal.SIGTERM)
    for client in clients:
        client.join(GRACE)
    ended = server.exit_status()
    return Line(f"TERM with {size} requests of 1 s under way", [("finished", answers.count(200), size), ("exit status", ended, 0)])


def time_limit(scene: Scene, size: int) -> Line:
    """A request over its limit of 2 s, and its neighbours."""
    server = scene.serve(scene.copy("limit"), timeout="2s", workers=1, threads=2)
    worst, named = 0.0, 0
    with Steady(server.port, 20, ["/api/ping/"]) as load:
        load.wait_for(20)
        for _ in range(size):
            started = time.monotonic()
            status_code = server.get("/reports/slow/?seconds=20").status
            worst = max(worst, time.monotonic() - started)
            assert status_code == 504, status_code
            line = server.wait_line(lambda text: "reports.py" in text and "line" in text and "time.sleep" in text, "the stack", 10)
            named += "slow" in line
    return Line(
        "a request over a limit of 2 s",
        [failed(load), ("stack names file and line of the sleep", named, size)],
        [("504 after, s", worst, 2.3)],
    )


def from_template(scene: Scene, size: int) -> Line:
    """How soon a worker is ready again after a crash: from its end to the hello of the next, by the log's own clock."""
    server = scene.serve(scene.copy("crash"), workers=size)
    worst = 0.0
    for pid in full(server, size):
        seen = len(server.lines)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: pid not in workers_of(server), "the killed worker gone", GRACE)
        full(server, size)
        worst = max(worst, gap(server.lines[seen:]))
    return Line("worker ready from the template after a crash", [], [(f"ms, slowest of {size}", worst * 1e3, 60)])


_AT = re.compile(r'"(?:time|timestamp)":"[^"]*?(\d\d):(\d\d):(\d\d\.\d+)')


def gap(lines: list[str]) -> float:
    """Seconds from the line that says a worker is gone to the next that says one is ready."""

    def moment(line: str) -> float:
        hours, minutes, seconds = _AT.search(line).groups()
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)

    gone = next(line for line in lines if "was killed by SIGKILL" in line)
    ready = next(line for line in lines[lines.index(gone) :] if '"to":"ready"' in line)
    return moment(ready) - moment(gone)


def memory(scene: Scene, size: int) -> Line:
    """PSS of everything, beside gunicorn with as many workers, both preloaded, after the same requests."""
    folder = scene.copy("memory")
    server = scene.serve(folder, workers=size, threads=2, log="info")
    warm(server.port, size)
    ours = pss([server.process.pid, *server.descendants()])
    theirs = gunicorn_pss(folder, size)
    return Line(f"PSS of edge and {size} workers against gunicorn", [], [(f"{ours:.0f} MB of {theirs:.0f} MB", ours / theirs, 0.8)])


def warm(port: int, workers: int) -> None:
    with Steady(port, 100, ["/api/ping/", "/api/products/", "/"]) as load:
        load.wait_for(200 * workers)
    assert not load.faults, load.faults[:3]


def pss(pids: list[int]) -> float:
    """Proportional set size, MB."""
    total = 0
    for pid in pids:
        total += int(re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)[1])
    return total / 1024


def gunicorn_pss(folder: Path, workers: int) -> float:
    process = subprocess.Popen(
        [sys.executable, "-m", "gunicorn", "--preload", "-w", str(workers), "--threads", "2", "-b", "127.0.0.1:0", "config.wsgi"],
        cwd=folder, env=environment(DJANGO_SETTINGS_MODULE="config.settings"), stderr=subprocess.PIPE, text=True,
    )
    try:
        port = next(int(found[1]) for line in process.stderr if (found := re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", line)))
        threading.Thread(target=process.stderr.read, daemon=True).start()
        warm(port, workers)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return pss([process.pid, *map(int, children)])
    finally:
        process.terminate()
        process.wait(GRACE)


#: (name, scenario, size of the whole table, size of the short form)
TABLE: list[tuple[str, Callable[..., Line], int, int]] = [
    ("reload", reload, 20, 2),
    ("broken", broken_reload, 5, 1),
    ("workers", kill_workers, 50, 4),
    ("template", kill_template, 5, 1),
    ("recycling", recycling, 10_000, 1_500),
    ("upgrade", upgrade, 5, 1),
    ("stop", stop, 50, 8),
    ("limit", time_limit, 3, 1),
    ("crash", from_template, 10, 2),
    ("memory", memory, 4, 2),
]
