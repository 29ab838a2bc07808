"""Uvicorn in bandstand's place: `pytest --against=uvicorn test_9*.py` shows that a test of ASGI expects what the field does, and not
only what bandstand happens to do. Tests that are marked `ours` are left out."""

import re
import sys

from server import APPS, READY_DEADLINE, Server


class Uvicorn(Server):
    @staticmethod
    def command(app: str | None, settings: dict) -> list[str]:
        """`-m` puts the server's folder on the path, where a Django project is; its `asgi.py` is named by the test's folder."""
        named = {name: settings[name] for name in ("root_path", "lifespan", "loop") if name in settings}
        options = [f"--{name.replace('_', '-')}={value}" for name, value in named.items()]
        return [sys.executable, "-m", "uvicorn", app or _project(), "--port=0", f"--app-dir={APPS}", *options]

    def _await_ready(self) -> None:
        line = self.wait_line(lambda line: "running on" in line, "the ready line", READY_DEADLINE)
        self.addresses, self.workers = [re.search(r"https?://[^ ]+", line)[0]], 1

    def stop(self) -> None:
        self.kill(self.descendants())


def _project() -> str:
    return "asgi_project:application"
