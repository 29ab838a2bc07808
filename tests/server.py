"""One bandstand under test: started with free ports in a folder of its own, watched by its output, stopped with a check.

`Server.start` returns when the ready line is there. `refused` is for starts that must fail.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

from client import DEADLINE, Answer, Wire, eventually, request

HERE = Path(__file__).resolve().parent
APPS = HERE / "apps"
ROOT = HERE.parent
BINARY = Path(os.environ.get("BANDSTAND_BIN", ROOT / ".venv/bin/bandstand")).absolute()
READY_DEADLINE = 60.0
STOP_DEADLINE = 45.0

_READY = re.compile(r"bandstand: ready on (.+?) \((\d+) workers?[^)]*\)")


def environment(**extra: str | None) -> dict[str, str]:
    """The environment of this process without what would configure a server, plus `extra`; None takes a name out."""
    steers = re.compile(r"BANDSTAND_(?!PYTHON$)|LISTEN_|DJANGO_SETTINGS_MODULE$|(PORT|WEB_CONCURRENCY|FORWARDED_ALLOW_IPS|PYTHONPATH)$|SHOP_")
    names = {name: value for name, value in os.environ.items() if not steers.match(name)}
    names.update(extra)
    return {name: value for name, value in names.items() if value is not None}


def flags(settings: dict) -> list[str]:
    """`max_body="1MB"` → `--max-body=1MB`; a list repeats the flag, None leaves it out."""
    written = []
    for key, value in settings.items():
        for one in value if isinstance(value, (list, tuple)) else [value]:
            if one is not None:
                written.append(f"--{key.replace('_', '-')}={one}")
    return written


def command(app: str | None, settings: dict) -> list[str]:
    return [str(BINARY), "serve", *([app] if app else []), *flags(settings)]


def refused(app: str | None, folder: Path, env: dict | None = None, **settings) -> subprocess.CompletedProcess:
    """Run a start that must fail, to its end. Output and errors come together in `stdout`."""
    settings = {"bind": "127.0.0.1:0", "workers": 1, **settings}
    return subprocess.run(
        command(app, settings),
        cwd=folder,
        env=environment(**(env or {})),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=READY_DEADLINE,
    )


class Server:
    """A running bandstand. `settings` are the keys of the settings table."""

    def __init__(self, app: str | None, folder: Path, env: dict | None = None, wrap: list[str] | None = None, pass_fds=(), **settings):
        defaults = {"bind": "127.0.0.1:0", "workers": 2, "threads": 2, "access_log": "-", "log_format": "json", "pythonpath": APPS}
        self.folder = folder
        self.lines: list[str] = []
        self.addresses: list[str] = []
        self.workers = 0
        self._heard = threading.Condition()
        self._checked = False
        self.process = subprocess.Popen(
            [*(wrap or []), *self.command(app, defaults | settings)],
            cwd=folder,
            env=environment(**(env or {})),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=pass_fds,
        )
        self._readers = [threading.Thread(target=self._read, args=(pipe,), daemon=True) for pipe in (self.process.stdout, self.process.stderr)]
        for reader in self._readers:
            reader.start()

    @classmethod
    def start(cls, *args, **kwargs) -> "Server":
        server = cls(*args, **kwargs)
        try:
            server._await_ready()
        except BaseException:
            server.kill()
            raise
        return server

    # -- the ready line

    command = staticmethod(command)

    def _await_ready(self) -> None:
        line = self.wait_line(lambda line: _READY.search(line), "the ready line", READY_DEADLINE)
        match = _READY.search(line)
        self.addresses = match[1].split(", ")
        self.workers = int(match[2])

    @property
    def url(self) -> str:
        return next(address for address in self.addresses if address.startswith("http"))

    @property
    def address(self):
        """What `Wire` connects to: (host, port), or the path of a Unix socket."""
        return _address(self.addresses[0])

    @property
    def port(self) -> int:
        return _address(self.url)[1]

    # -- clients

    def wire(self, **kwargs) -> Wire:
        return Wire(self.address, **kwargs)

    def request(self, method: str, target: str = "/", fields=(), body: bytes | None = None, source: str | None = None, **kwargs) -> Answer:
        """One request on a connection of its own; the answer must be whole."""
        with self.wire(source=source) as wire:
            wire.try_send(request(method, target, fields, body, **kwargs))
            answer = wire.answer(method)
        assert answer.complete, f"{method} {target}: cut after {len(answer.body)} bytes"
        return answer

    def get(self, target: str = "/", fields=(), **kwargs) -> Answer:
        return self.request("GET", target, fields, **kwargs)

    def post(self, target: str, body: bytes, fields=(), **kwargs) -> Answer:
        return self.request("POST", target, fields, body, **kwargs)

    def raw(self, data: bytes, timeout: float = DEADLINE) -> bytes:
        """Send bytes and return all that comes until the server closes."""
        with self.wire(timeout=timeout) as wire:
            return wire.try_send(data).rest()

    def ready(self) -> bool:
        return self.get("/-/ready").status == 200

    # -- output

    def wait_line(self, wanted, what: str, deadline: float = DEADLINE) -> str:
        """The first line of the output, past or to come, for which `wanted(line)` is true."""
        found, seen = None, 0

        def look() -> bool:
            nonlocal found, seen
            fresh, seen = self.lines[seen:], len(self.lines)
            found = next((line for line in fresh if wanted(line)), None)
            return found is not None or self._over()

        with self._heard:
            self._heard.wait_for(look, deadline)
        assert found is not None, f"no line with {what} within {deadline:g} s; status {self.process.poll()}; output:\n{self.output}"
        return found

    def wait_text(self, text: str, deadline: float = DEADLINE) -> str:
        return self.wait_line(lambda line: text in line, repr(text), deadline)

    def wait_record(self, target: str, deadline: float = DEADLINE) -> dict:
        """The access record of the request whose path begins with `target`."""
        return _record(self.wait_line(lambda line: (_record(line) or {}).get("path", "").startswith(target), f"a record of {target}", deadline))

    def records(self) -> list[dict]:
        with self._heard:
            return [record for record in map(_record, self.lines) if record]

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def _over(self) -> bool:
        return self.process.poll() is not None and not any(reader.is_alive() for reader in self._readers)

    def _read(self, pipe) -> None:
        for line in pipe:
            with self._heard:
                self.lines.append(line.decode("utf-8", "replace").rstrip("\n"))
                self._heard.notify_all()
        # The last reader to end wakes the waiters, who then see that the process is gone.
        self.process.wait()
        with self._heard:
            self._heard.notify_all()

    # -- the end

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def exit_status(self, deadline: float = STOP_DEADLINE) -> int:
        status = self.process.wait(deadline)
        self._checked = True
        return status

    def stop(self) -> None:
        """TERM, and check that it went as promised: exit status 0, and nobody stays behind."""
        if self._checked:
            return
        assert self.process.poll() is None, f"the server was gone before it was stopped: status {self.process.returncode}\n{self.output}"
        family = self.descendants()
        self.signal(signal.SIGTERM)
        try:
            assert self.exit_status() == 0, self.output
            eventually(lambda: not any(map(alive, family)), "every process of the server gone")
        finally:
            self.kill(family)

    def kill(self, family=()) -> None:
        family = [*family, *self.descendants()]
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in filter(alive, family):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self._checked = True

    def descendants(self) -> list[int]:
        found, ask = [], [self.process.pid]
        while ask:
            for pid in _children(ask.pop()):
                found.append(pid)
                ask.append(pid)
        return found


def alive(pid: int) -> bool:
    """True while any thread of the process runs; a zombie does not.

    A killed process shows its first thread as a zombie while others still hold its files.
    """
    try:
        stats = [task / "stat" for task in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return any(map(_runs, stats))


def _runs(stat: Path) -> bool:
    try:
        return stat.read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _children(pid: int) -> list[int]:
    found = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def _address(text: str):
    if text.startswith("unix:"):
        return text.removeprefix("unix:").removeprefix("//")
    match = re.fullmatch(r"https?://(?:\[([^\]]+)\]|([^:/]+)):(\d+)/?", text)
    assert match, f"not an address with a port: {text}"
    host = match[1] or match[2]
    return ({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), int(match[3]))


def _record(line: str) -> dict | None:
    """The access record in a line; None for every other line."""
    if not line.startswith("{"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if "status" in record and "duration_ms" in record else None


def manage(folder: Path, *arguments: str, **env: str) -> str:
    """Run `manage.py` with the Python of these tests."""
    ran = subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=folder, env=environment(**env), capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout
