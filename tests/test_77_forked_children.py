"""Processes that an app forks have all that their worker had; none of it may keep the dead alive, or answer in its place.

The child waits at a gate while its worker is killed: what the worker had in hand is to be seen to at once, as if there were no
child (docs/decisions/0006-generations.md: a worker's fate is invisible).
"""

import json
import os
import signal
import subprocess

import pytest

from client import eventually, request
from server import BINARY, alive, environment

WAYS = ["starts", "forks", "keeps"]


def serve(stand, **settings):
    return stand.serve("forks:app", **{"workers": 1, "threads": 3, "control": stand.folder / "control", **settings})


def asked(stand, command: str):
    ran = subprocess.run(
        [str(BINARY), command, "--json", "--control", str(stand.folder / "control")],
        env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return json.loads(ran.stdout)


def pid_of(server) -> int:
    return server.get("/").json()["pid"]


@pytest.mark.parametrize("preload", ["on", "off"])
@pytest.mark.parametrize("way", WAYS)
def test_what_a_killed_worker_had_in_hand_does_not_wait_for_its_children(stand, way, preload):
    server = serve(stand, preload=preload)
    worker = pid_of(server)
    of_child, of_get, of_post = stand.gate("child"), stand.gate("get"), stand.gate("post")
    child = int(server.get(f"/{way}/child").body)
    of_child.reached()
    with server.wire() as get, server.wire() as post:
        get.send(request("GET", "/gate/get"))
        post.send(request("POST", "/gate/post", body=b""))
        of_get.reached(), of_post.reached()
        os.kill(worker, signal.SIGKILL)
        assert post.answer("POST").status == 502, "it may have done its work"
        eventually(lambda: not alive(worker), "the worker dead, its end of the gate closed")
        of_get.reached_again().open()
        answer = get.answer()
    assert answer.status == 200 and int(answer.body) == pid_of(server) != worker
    assert alive(child), "or there was nothing to see here"
    [left] = asked(stand, "status")["workers"]
    assert left["state"] == "ready" and alive(left["pid"]) and left["pid"] != worker
    assert asked(stand, "requests") == []
    assert stand.seen().count("GET /gate/get") == 2 and stand.seen().count("POST /gate/post") == 1
    of_child.open()
    eventually(lambda: not alive(child), "the child gone")


@pytest.mark.parametrize("way", ["forks", "keeps"])
def test_a_stop_does_not_wait_for_children(stand, way):
    server = serve(stand)
    gate = stand.gate("child")
    child = int(server.get(f"/{way}/child").body)
    gate.reached()
    server.signal(signal.SIGTERM)
    assert server.exit_status() == 0
    assert alive(child)
    gate.open()
    eventually(lambda: not alive(child), "the child gone")


@pytest.mark.parametrize("threads", [1, 3])
def test_a_child_that_comes_back_from_the_view_answers_nobody(stand, threads):
    """It has the request that its parent answers, those that lie in its parent's inbox, and the board."""
    server = serve(stand, **{"threads": threads})
    worker = pid_of(server)
    gate = stand.gate("child")
    child = int(server.get("/strays/child").body)
    assert child != 0
    gate.reached()
    gate.open()
    server.wait_text("came back from the view")
    eventually(lambda: not alive(child), "the child ended")
    assert {pid_of(server) for _ in range(6)} == {worker}
    assert asked(stand, "requests") == []
    assert "broke" not in server.output, "its words reach nobody"


def test_a_child_of_the_loop_does_not_keep_its_dead_worker(stand):
    server = stand.serve("asgi_forks:app", workers=1, control=stand.folder / "control")
    gate, of_get = stand.gate("child"), stand.gate("get")
    worker, child = map(int, server.get("/forks/child").body.split())
    gate.reached()
    with server.wire() as get:
        get.send(request("GET", "/gate/get"))
        of_get.reached()
        os.kill(worker, signal.SIGKILL)
        eventually(lambda: not alive(worker), "the worker dead, its end of the gate closed")
        of_get.reached_again().open()
        assert get.answer().status == 200
    assert alive(child)
    [left] = asked(stand, "status")["workers"]
    assert left["state"] == "ready" and left["pid"] != worker
    gate.open()
    eventually(lambda: not alive(child), "the child gone")
