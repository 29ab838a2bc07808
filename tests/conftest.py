"""What every test shares: servers that are started in fresh folders and stopped with a check, and the shop ready to sell.

Servers of a module are started once (`module_stand`); a test that breaks its server, or needs settings of its own, starts
one with `stand`.
"""

import errno
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

from client import eventually
from server import APPS, BINARY, ROOT, Server, manage
from uvicorn_server import Uvicorn


class Gate:
    """A named pipe that an app waits at: `server.get("/gate/NAME")` is answered when the test opens it.

    The app opens the pipe for reading, which blocks until somebody opens it for writing. So the test can tell that the
    app has arrived, and no clock is involved.
    """

    def __init__(self, folder: Path, name: str):
        self.name = name
        self.path = folder / name
        os.mkfifo(self.path)

    def reached(self) -> "Gate":
        """Wait until the app is at the gate."""
        self._end = eventually(self._try, f"the app at gate {self.name}")
        return self

    def reached_again(self) -> "Gate":
        """Wait for another app at the gate, once the one that had reached it is dead."""
        former, self._end = self._end, eventually(self._try, f"another app at gate {self.name}")
        os.close(former)
        return self

    def open(self) -> None:
        """Let everybody through who is waiting."""
        if not hasattr(self, "_end"):
            self.reached()
        os.write(self._end, b"go")
        os.close(self._end)

    def leave(self) -> None:
        """Nobody is let through: who waited is gone."""
        os.close(self._end)

    def _try(self):
        try:
            return os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return None


class Stand:
    """Starts servers in one folder, and stops them all at the end."""

    kind = Server

    def __init__(self, folder: Path):
        self.folder = folder
        self.seen_path = folder / "seen"
        self.gates = folder / "gates"
        self.gates.mkdir()
        self.servers: list[Server] = []

    def serve(self, app: str | None = "probe:app", env: dict | None = None, folder: Path | None = None, **settings) -> Server:
        env = {"SEEN": str(self.seen_path), "GATES": str(self.gates), **(env or {})}
        server = self.kind.start(app, folder or self.folder, env=env, **settings)
        self.servers.append(server)
        return server

    def gate(self, name: str) -> Gate:
        return Gate(self.gates, name)

    def seen(self) -> list[str]:
        """`METHOD target` of every request that reached an app, in order of arrival."""
        try:
            return self.seen_path.read_text("latin-1").splitlines()
        except FileNotFoundError:
            return []

    def stop(self) -> None:
        faults = []
        for server in self.servers:
            try:
                server.stop()
            except BaseException as fault:  # the others are stopped all the same
                server.kill()
                faults.append(fault)
        if faults:
            raise faults[0]


def pytest_addoption(parser) -> None:
    parser.addoption("--against", choices=["bandstand", "uvicorn"], default="bandstand", help="which server ASGI apps are served by")


def pytest_configure(config) -> None:
    """With `--against=uvicorn` the tests of ASGI ask a second opinion on what they expect."""
    config.addinivalue_line("markers", "ours: promises of bandstand that other servers do not make")
    if config.getoption("--against") == "uvicorn":
        Stand.kind = Uvicorn


def pytest_collection_modifyitems(config, items) -> None:
    if config.getoption("--against") == "uvicorn":
        for item in items:
            if item.get_closest_marker("ours"):
                item.add_marker(pytest.mark.skip(reason="bandstand's own promise"))


@contextmanager
def _stand(folder: Path):
    stand = Stand(folder)
    try:
        yield stand
    finally:
        stand.stop()


@pytest.fixture
def stand(tmp_path):
    """Servers for one test."""
    with _stand(tmp_path) as stand:
        yield stand


@pytest.fixture(scope="module")
def module_stand(tmp_path_factory):
    """Servers for all tests of a module."""
    with _stand(tmp_path_factory.mktemp("module")) as stand:
        yield stand


@pytest.fixture(scope="session")
def shop_folder(tmp_path_factory) -> Path:
    """A copy of the example shop with its tables, 40 products and collected static files."""
    folder = tmp_path_factory.mktemp("shop") / "shop"
    leave = shutil.ignore_patterns("db.sqlite3*", "media", "media-*", "staticfiles", ".secret_key", "__pycache__", "bandstand.toml")
    shutil.copytree(ROOT / "examples/shop", folder, ignore=leave)
    manage(folder, "migrate", "--verbosity", "0")
    manage(folder, "fill", "--products", "40")
    manage(folder, "collectstatic", "--noinput", "--verbosity", "0")
    return folder


@pytest.fixture(scope="session")
def shop(shop_folder):
    """The shop, served with nothing said but where."""
    server = Server.start(None, shop_folder, env={"SHOP_TEST_VIEWS": "1"}, pythonpath=None)
    yield server
    server.stop()


@pytest.fixture(scope="session", autouse=True)
def binary(request):
    """The program under test; without it no test here can say anything."""
    needs = any(Path(item.path).parent == APPS.parent for item in request.session.items)
    if needs and Stand.kind is Server and not BINARY.exists():
        pytest.exit(f"no bandstand at {BINARY}: build it with `make`, or set BANDSTAND_BIN", returncode=3)
