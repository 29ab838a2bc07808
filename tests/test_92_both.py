"""Both worlds in one process: which road a request takes, and that Django's promises hold on each (checklist 29, 33, 37).

Every view of `apps/mixed` says where it ran: the class of its request tells the handler, thread and loop tell the rest.
"""

import json
import os
import re
import shutil
import subprocess
from contextlib import ExitStack

import pytest

from client import eventually, request
from server import APPS, BINARY, environment
from test_90_asgi import remarked, settled

pytestmark = pytest.mark.ours

THREAD, BRIDGE, LOOP = "thread", "bridge", "loop"


def serve(stand, folder=APPS / "mixed", **settings):
    env = settings.pop("env", {})
    env = {"MIXED_DB": str(stand.folder / "db.sqlite3"), **env}
    return stand.serve(None, folder=folder, env=env, **{"workers": 1, "threads": 2, **settings})


@pytest.fixture(scope="module")
def server(module_stand):
    return serve(module_stand)


@pytest.fixture
def project(tmp_path):
    """A copy of the project, for a `bandstand.toml` of its own."""
    return shutil.copytree(APPS / "mixed", tmp_path / "mixed", ignore=shutil.ignore_patterns("__pycache__"))


def road(told: dict) -> str:
    if told["request"] == "ASGIRequest":
        return LOOP
    return BRIDGE if told["loop"] and told["main_thread"] and not told["middleware_in_main"] else THREAD


def told(server, path: str, fields=(), **kwargs) -> dict:
    answer = server.get(path, fields, **kwargs)
    assert answer.status == 200, f"{answer.status} {answer.text}\n{server.output}"
    return answer.json()


def explained(folder, *flags: str, env: dict | None = None) -> dict:
    ran = subprocess.run(
        [str(BINARY), "explain", "--format=json", f"--pythonpath={APPS}", *flags],
        cwd=folder, env=environment(**(env or {})), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return json.loads(ran.stdout)


SHAPES = {
    "/sync/": THREAD,
    "/async/": BRIDGE,
    "/suspended/": BRIDGE,
    "/sync-class/": THREAD,
    "/async-class/": BRIDGE,
    "/decorated-class/": BRIDGE,
    "/decorated/": BRIDGE,
    "/wrapped-sync/": None,  # the view is async, what it wraps says that it ran on a thread
    "/partial/": BRIDGE,
    "/callable/": BRIDGE,
    "/lambda/": THREAD,
    "/pattern/42/": BRIDGE,
    "/inc/7/sync/": THREAD,
    "/inc/7/async/": BRIDGE,
    "/en/words/sync/": THREAD,
    "/de/words/async/": BRIDGE,
}


# -- which road


def test_a_project_with_both_modules_is_served_as_both(server):
    assert "mixed_site.wsgi" in server.output and "mixed_site.asgi" in server.output


@pytest.mark.parametrize("path", SHAPES)
def test_roads(server, path):
    """Sync views on a thread through the WSGI handler; of async ones only the coroutine goes to the loop."""
    where = told(server, path)
    assert where["request"] == "WSGIRequest" and not where["middleware_in_main"]
    if SHAPES[path] is not None:
        assert road(where) == SHAPES[path], where


def test_all_async_views_share_the_workers_loop(server):
    assert len({told(server, path)["loop"] for path in ("/async/", "/suspended/", "/de/words/async/")}) == 1
    assert told(server, "/suspended/")["loop_kept"]


@pytest.mark.parametrize("path", SHAPES)
def test_without_the_bridge_async_views_take_the_asgi_handler(module_stand, path):
    server = next((one for one in module_stand.servers if getattr(one, "bridgeless", False)), None)
    if server is None:
        server = serve(module_stand, bridge="false")
        server.bridgeless = True
    expected = {THREAD: THREAD, BRIDGE: LOOP, None: LOOP}[SHAPES[path]]
    assert road(told(server, path)) == expected


@pytest.mark.parametrize("interface, kind", [("wsgi", "WSGIRequest"), ("asgi", "ASGIRequest")])
def test_the_interface_can_be_said(stand, interface, kind):
    server = serve(stand, interface=interface)
    assert {told(server, path)["request"] for path in SHAPES} == {kind}
    assert server.get("/short/x").text == f"short {kind}"


def test_paths_can_be_pinned(stand, project):
    """The longest prefix wins, on the border of a segment."""
    (project / "bandstand.toml").write_text(
        '[paths."/inc"]\ninterface = "asgi"\n[paths."/inc/7"]\ninterface = "wsgi"\n[paths."/sync"]\ninterface = "asgi"\n'
    )
    server = serve(stand, folder=project)
    kinds = {path: told(server, path)["request"] for path in ("/inc/8/sync/", "/inc/7/sync/", "/inc/7/async/", "/sync/", "/sync-class/")}
    assert kinds == {
        "/inc/8/sync/": "ASGIRequest",
        "/inc/7/sync/": "WSGIRequest",
        "/inc/7/async/": "WSGIRequest",
        "/sync/": "ASGIRequest",
        "/sync-class/": "WSGIRequest",
    }


def test_middleware_that_answers_by_itself(server):
    assert server.get("/short/x").text == "short WSGIRequest"


def test_async_only_middleware_takes_everything_to_the_asgi_handler(stand):
    server = serve(stand, env={"MIXED_MIDDLEWARE": "AsyncOnly"})
    for path in ("/sync/", "/async/"):
        answer = server.get(path)
        assert answer.json()["request"] == "ASGIRequest" and answer.get("X-Async-Only") == "1"


def test_middleware_that_can_do_both_runs_in_the_sync_chain(stand):
    server = serve(stand, env={"MIXED_MIDDLEWARE": "Both"})
    assert [server.get(path).get("X-Chain") for path in ("/sync/", "/async/")] == ["sync", "sync"]


@pytest.mark.parametrize("kind", ["wrapped", "mounted"])
def test_an_asgi_module_with_more_than_django_keeps_its_say(stand, kind):
    """Where it cannot be decided, HTTP stays on the ASGI application."""
    server = serve(stand, env={"MIXED_ASGI": kind})
    answer = server.get("/sync/")
    assert answer.json()["request"] == "ASGIRequest"
    if kind == "wrapped":
        assert answer.get("X-Wrapped-App") == "1"
    else:
        assert server.get("/mounted/").text == "mounted"


def test_channels_router_leaves_http_to_both_roads_and_sockets_to_the_loop(stand):
    websockets = pytest.importorskip("websockets.sync.client")
    server = serve(stand, env={"MIXED_ASGI": "router"})
    assert road(told(server, "/sync/")) == THREAD and road(told(server, "/async/")) == BRIDGE
    with websockets.connect(f"ws://127.0.0.1:{server.port}/anything", proxy=None) as socket:
        socket.send("hello")
        assert socket.recv(timeout=20) == "hello"


# -- what explain says


def test_explain_names_the_road_of_each_view():
    roads = {"/" + route["pattern"]: route["road"] for route in explained(APPS / "mixed")["routes"]}
    assert {path: roads[path] for path in ("/sync/", "/async/", "/sync-class/", "/async-class/", "/partial/", "/callable/")} == {
        path: SHAPES[path] for path in ("/sync/", "/async/", "/sync-class/", "/async-class/", "/partial/", "/callable/")
    }
    assert roads["/wrapped-sync/"] == BRIDGE
    assert roads["/inc/<int:number>/async/"] == BRIDGE and roads["/inc/<int:number>/sync/"] == THREAD


@pytest.mark.parametrize(
    "env, flags, interface, reason",
    [
        ({}, [], "both", ""),
        ({"MIXED_MIDDLEWARE": "AsyncOnly"}, [], "asgi", "AsyncOnly"),
        ({"MIXED_ASGI": "wrapped"}, [], "asgi", "mixed_site.asgi"),
        ({}, ["--interface=wsgi"], "wsgi", ""),
        ({}, ["--interface=asgi"], "asgi", ""),
    ],
)
def test_explain_says_why(env, flags, interface, reason):
    app = explained(APPS / "mixed", *flags, env=env)["app"]
    assert app["interface"] == interface and reason in app["reason"] and app["reason"]


def test_explain_knows_pins_and_the_bridge(project):
    (project / "bandstand.toml").write_text('[paths."/sync"]\ninterface = "asgi"\n')
    roads = {"/" + route["pattern"]: route["road"] for route in explained(project)["routes"]}
    assert roads["/sync/"] not in (THREAD, BRIDGE) and roads["/sync-class/"] == THREAD
    roads = {"/" + route["pattern"]: route["road"] for route in explained(APPS / "mixed", "--bridge=false")["routes"]}
    assert roads["/async/"] == LOOP


def test_explain_for_people():
    ran = subprocess.run([str(BINARY), "explain", f"--pythonpath={APPS}"], cwd=APPS / "mixed", env=environment(), capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    line = next(line for line in ran.stdout.splitlines() if re.search(r"/async/\s", line))
    assert "views.later" in line and "bridge" in line


# -- what an app may rely on, on each road


@pytest.fixture(scope="module", params=["bridge", "asgi handler"])
def either(request, module_stand):
    return serve(module_stand, bridge="true" if request.param == "bridge" else "false")


def test_thread_sensitive_work_shares_the_middlewares_thread_and_connection(server):
    """As in Django under WSGI: the waiting thread does it."""
    where = told(server, "/orm/")
    assert where["answer"] == 42 and where["steady"]
    assert where["work_in_middleware_thread"] and where["middlewares_connection"] and not where["work_in_main"]
    assert where["work_word"] == "from the middleware"


def test_orm_inside_an_async_view(either):
    assert told(either, "/orm/")["answer"] == 42


def test_context_variables_go_in_and_come_out(either):
    """37"""
    assert told(either, "/async/")["word"] == "from the middleware"
    answer = either.get("/sets-word/")
    assert answer.get("X-Word") == "from the view"
    assert all(either.get("/async/").get("X-Left") == "unset" for _ in range(4)), "fresh for each request"


def test_middleware_comes_back_to_its_thread(server):
    assert server.get("/suspended/").get("X-Same-Thread") == "True"


def test_tasks_of_the_view(either):
    assert told(either, "/gathers/")["sum"] == 3


def test_exceptions(either):
    """With their traceback in the log, and through process_exception."""
    assert either.get("/fails/").status == 500
    either.wait_text("the async view failed on purpose")
    assert any("views.py" in line and "in fails" in line for line in either.lines)
    assert [either.get(f"/fails/{how}/").status for how in ("404", "403", "middleware")] == [404, 403, 409]
    assert either.get("/no-answer/").status == 500


def test_bodies_and_files(either):
    assert told_post(either, "/uploads/", b"x" * 200_000)["body"] == 200_000
    form = b'--b\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n' + b"y" * 3_000_000 + b"\r\n--b--\r\n"
    assert told_post(either, "/uploads/", form, {"Content-Type": "multipart/form-data; boundary=b"})["files"] == [{"name": "a", "size": 3_000_000}]
    answer = either.get("/file/")
    assert answer.body == b"0123456789" * 30_000 and answer.complete


def told_post(server, path, body, fields=()):
    answer = server.post(path, body, fields)
    assert answer.status == 200, answer.text
    return answer.json()


def test_head_redirect_and_method_not_allowed(either):
    assert either.request("HEAD", "/plain/").body == b""
    assert either.get("/redirect/").get("Location") == "/sync/"
    assert either.request("DELETE", "/async-class/").status == 405
    with either.wire() as wire:
        assert wire.send(request("HEAD", "/sync-stream/")).answer("HEAD").status == 200


def test_signals_come_in_pairs(either):
    """request_finished closes database connections: one for each request, on every road."""
    open_ones = lambda: (now := told(either, "/signals/"))["started"] - now["finished"]
    before = settled(open_ones)
    for path in ("/sync/", "/async/", "/suspended/", "/short/x", "/fails/", "/sync-stream/"):
        either.get(path)
    assert settled(open_ones) == before, "each that was started has been finished"


def test_streaming_with_an_async_iterator(either, module_stand):
    name = f"stream{id(either)}"
    gate = module_stand.gate(name)
    with either.wire() as wire:
        wire.send(request("GET", f"/stream/{name}/"))
        first = wire.until(b"\n")
        while b"first" not in first:
            first = wire.until(b"\n")
        assert b"True" in first, "the loop streams it"
        gate.open()
        assert b"second\n" in wire.until(b"0\r\n\r\n")
    assert remarked(module_stand, name) == ["stream closed"]


def test_streams_hold_no_threads(stand):
    server = serve(stand, threads=1, threads_max=1)
    with ExitStack() as stack:
        for number in range(10):
            stand.gate(f"s{number}")
            stack.enter_context(server.wire()).send(request("GET", f"/stream/s{number}/")).until(b"first")
        assert told(server, "/sync/")["request"] == "WSGIRequest"


def test_a_stream_ends_when_its_client_leaves(either, module_stand):
    name = f"gone{id(either)}"
    module_stand.gate(name)
    with either.wire() as wire:
        wire.send(request("GET", f"/stream/{name}/")).until(b"first")
    assert remarked(module_stand, name)[-1] in ("stream cancelled", "stream closed")
    eventually(lambda: f"# stream closed {name}" in module_stand.seen(), "the iterator closed")


def test_an_endless_stream_waits_for_its_client_and_ends_with_it(either, module_stand):
    name = f"endless{id(either)}"
    with either.wire() as wire:
        wire.send(request("GET", f"/endless/{name}/")).until(b"x" * 65536)
    assert remarked(module_stand, name) == ["stream closed"]


def test_a_stream_that_fails_is_cut(either):
    """34"""
    with either.wire() as wire:
        answer = wire.send(request("GET", "/stream-fails/")).answer()
    assert not answer.complete and answer.body in (b"", b"first\n")
    either.wait_text("the async stream failed on purpose")


def test_a_view_is_cancelled_when_its_client_leaves(either, module_stand):
    """29"""
    name = f"left{id(either)}"
    module_stand.gate(name)
    with either.wire() as wire:
        wire.send(request("GET", f"/waits/{name}/"))
        remarked(module_stand, name)
    assert remarked(module_stand, name, 2) == ["waiting", "cancelled"]
    assert told(either, "/async/")


def test_a_view_over_its_time_is_cancelled(stand):
    server = serve(stand, timeout="1s")
    stand.gate("over")
    assert server.get("/waits/over/").status == 504
    assert remarked(stand, "over", 2) == ["waiting", "cancelled"]
    assert told(server, "/async/")


# -- places


def test_waiting_views_leave_their_threads_to_others(stand):
    """threads = 1: while async views wait, others go on; beyond threads_max the ASGI handler takes them."""
    server = serve(stand, threads=1, threads_max=3)
    gates = [stand.gate(f"w{number}") for number in range(8)]
    with ExitStack() as stack:
        wires = []
        for number in range(8):
            wires.append(stack.enter_context(server.wire()).send(request("GET", f"/waits/w{number}/")))
            remarked(stand, f"w{number}")
            assert told(server, "/sync/")["request"] == "WSGIRequest"
        for gate in gates:
            gate.open()
        roads = [road(wire.answer().json()) for wire in wires]
    assert roads.count(BRIDGE) in (2, 3) and roads.count(LOOP) == 8 - roads.count(BRIDGE), roads
    assert roads[0] == BRIDGE and roads[-1] == LOOP


def test_three_hundred_waiting_requests(stand):
    """Neither three hundred threads nor anybody who has to wait for a place. A middleware that is sync only would hold
    a thread for each, so there is none."""
    server = serve(stand, threads=2, threads_max=4, env={"MIXED_LIGHT": "1"})
    gate = stand.gate("all")
    with ExitStack() as stack:
        wires = [stack.enter_context(server.wire()).send(request("GET", "/waits/all/")) for _ in range(300)]
        eventually(lambda: stand.seen().count("# waiting all") == 300, "three hundred views waiting")
        worker = told(server, "/sync/")["pid"]
        assert len(os.listdir(f"/proc/{worker}/task")) <= 20
        gate.open()
        assert all(wire.answer().status == 200 for wire in wires)
    settled(lambda: told(server, "/sync/")["request"])


def test_sync_views_hold_threads_and_not_the_loop(stand):
    server = serve(stand, threads=1, threads_max=4)
    gate = stand.gate("held")
    with server.wire() as wire:
        wire.send(request("GET", "/holds/held/"))
        gate.reached()
        gate.open()
        assert wire.answer().json()["view"] == "holds"


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_either_loop(stand, loop):
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    server = serve(stand, loop=loop)
    assert road(told(server, "/suspended/")) == BRIDGE and told(server, "/orm/")["work_in_middleware_thread"]
