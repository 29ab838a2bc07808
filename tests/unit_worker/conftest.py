"""Workers for tests: each in a fresh folder, ended with a check that it leaves."""

import os

import pytest
from scripted_edge import Edge
from scripted_loop import LoopEdge


@pytest.fixture
def worker(tmp_path):
    """`worker(source)` starts one whose `app.py` is that text, and reads its hello."""
    edges = []

    def start(source=None, hello=True, **options):
        folder = tmp_path / str(len(edges))
        folder.mkdir()
        edge = Edge(folder, source=source, **options)
        edges.append(edge)
        if hello:
            edge.hello()
        return edge

    yield start
    for edge in edges:
        edge.close()


class Gate:
    """A named pipe that an app waits at (`open(path).read()`) until the test opens it."""

    def __init__(self, path):
        self.path = str(path)
        os.mkfifo(path)

    def is_reached(self):
        """Whether the app is waiting; if so, it is let through already."""
        try:
            os.close(os.open(self.path, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return False
        return True

    def open(self):
        """Waits until the app has come, then lets it through."""
        with open(self.path, "w"):
            pass


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path / "gate")


@pytest.fixture(params=["asyncio", "uvloop"])
def loop_worker(request, tmp_path):
    """As `worker`, with an event loop; once with each kind of loop. The ASGI app in `source` is `application`."""
    if request.param == "uvloop":
        pytest.importorskip("uvloop")
    edges = []

    def start(source, hello=True, **options):
        folder = tmp_path / f"loop-{len(edges)}"
        folder.mkdir()
        env = {"BANDSTAND_LOOP": request.param, **options.pop("env", {})}
        edge = LoopEdge(folder, source=source, env=env, **options)
        edges.append(edge)
        if hello:
            edge.hello()
        return edge

    yield start
    for edge in edges:
        edge.close()
