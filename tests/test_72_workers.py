"""A worker's fate: requests that run too long, crashes, recycling, scaling, the end (docs/decisions/0006-generations.md).

What a client sees is asserted first, then what the operator is told, then whose process it was: `pid` tells whether a worker
was replaced. What dies or lies in other ways is `test_70`, the commands are `test_73`, what load does to all of it `test_74`.
"""

import json
import os
import signal
import socket
import subprocess
import threading
from contextlib import ExitStack

import pytest

from client import DEADLINE, eventually, request
from server import APPS, BINARY, Server, alive, environment

MIXED = APPS / "mixed"
LIMIT = 1.0
"""Seconds of `timeout` in most tests here."""
MARGIN = 4.0
"""Seconds by which an answer may be late: for a busy machine. What is really promised is measured by `tests/chaos`."""


def serve_mixed(stand, **settings) -> Server:
    return stand.serve(None, folder=MIXED, **{"timeout": f"{LIMIT:g}s", "workers": 1, "threads": 3, **settings})


def controlled(stand, app="probe:app", **settings) -> Server:
    """A server with a control socket of a known name."""
    path = stand.folder / f"control{len(stand.servers)}"
    server = stand.serve(app, control=path, **settings)
    server.control = path
    return server


def status_of(server) -> dict:
    """As `bandstand status --json` prints it; without a process for each look."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(DEADLINE)
        client.connect(str(server.control))
        client.sendall(b'{"bandstand":1,"command":"status"}\n')
        for line in client.makefile():
            said = json.loads(line)
            if said.get("done"):
                assert said["ok"], said
                return said["status"]
    raise AssertionError("no last line")


def command(server, *arguments: str) -> str:
    ran = subprocess.run(
        [str(BINARY), *arguments, "--control", str(server.control)],
        env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def ready_workers(server) -> dict[int, int]:
    """Number → pid."""
    return {worker["number"]: worker["pid"] for worker in status_of(server)["workers"] if worker["state"] == "ready"}


def begun(stand, name: str) -> None:
    eventually(lambda: f"# begun {name}" in stand.seen(), f"the view begun: {name}")


def event(server, *words: str) -> dict:
    """The event of the log that has all the words in its message or fields."""
    return json.loads(server.wait_line(lambda line: line.startswith("{") and "duration_ms" not in line and all(word in line for word in words), f"{words}"))


def settled(server) -> None:
    """Everything of it answers."""
    eventually(server.ready, "ready")
    for _ in range(6):
        assert server.get("/sync/").status == 200


# -- time limits

ROADS = {
    # name: (view, settings, what the guard looks at, the code that has to be in the stack)
    "thread, napping": ("naps", {"interface": "wsgi"}, "time.sleep(0.02)"),
    "thread, computing": ("computes", {"interface": "wsgi"}, "in computes"),
    "thread beside a loop": ("naps", {}, "time.sleep(0.02)"),
    "bridge": ("awaits", {}, "await asyncio.sleep(600)"),
    "loop": ("awaits", {"interface": "asgi"}, "await asyncio.sleep(600)"),
    "sync view of the loop, napping": ("naps", {"interface": "asgi"}, "time.sleep(0.02)"),
    "sync view of the loop, computing": ("computes", {"interface": "asgi"}, "in computes"),
}


@pytest.mark.parametrize("view, settings, line", ROADS.values(), ids=ROADS)
def test_a_request_over_its_time_is_interrupted_and_its_worker_goes_on(stand, view, settings, line):
    server = serve_mixed(stand, **settings)
    pid = server.get("/sync/").json()["pid"]
    with server.wire() as wire:
        wire.send(request("GET", f"/overtime/{view}/a/?secret=1", [("X-Request-ID", "the-late-one")]))
        begun(stand, "a")
        assert {server.get("/sync/").json()["pid"] for _ in range(4)} == {pid}, "its neighbours do not feel it"
        answer = wire.answer()
    assert answer.status == 504 and answer.get("X-Request-ID") == "the-late-one"
    assert "and was interrupted" in told(server, view, line)["message"]
    eventually(lambda: "# cleaned up a" in stand.seen(), "the view's own finally")
    record = server.wait_record(f"/overtime/{view}/a/")
    assert LIMIT * 1000 <= record["duration_ms"] <= (LIMIT + MARGIN) * 1000
    # As many at once as the worker has threads: the one that was interrupted is among them again.
    with ExitStack() as stack:
        wires = [stack.enter_context(server.wire()).send(request("GET", f"/overtime/{view}/{name}/")) for name in "bcd"]
        assert [wire.answer().status for wire in wires] == [504] * 3
    for name in "bcd":
        eventually(lambda: f"# cleaned up {name}" in stand.seen(), f"{name} interrupted as well")
    assert {server.get("/sync/").json()["pid"] for _ in range(6)} == {pid}, "the worker was replaced"
    assert "is replaced" not in server.output


def told(server, view, line) -> dict:
    """What the log says of it: everything that somebody who is to mend it wants to know."""
    record = event(server, "the-late-one", "ran over its time limit", '"method"')
    assert (record["request_id"], record["method"]) == ("the-late-one", "GET")
    assert record["path"].startswith(f"/overtime/{view}/a/")
    assert record["route"] == f"overtime/{view}/<slug:name>/"
    assert LIMIT <= float(record["seconds"]) <= LIMIT + MARGIN
    assert "overtime.py" in record["message"] and f"in {view}" in record["message"] and line in record["message"], record["message"]
    return record


STUCK = {
    # name: (view, settings, the code that has to be in the stack; None: something holds the interpreter, and there is none)
    "one call that does not end": ("sleeps", {"interface": "wsgi"}, "time.sleep(600)"),
    "a sync view of the loop in such a call": ("sleeps", {"interface": "asgi"}, "time.sleep(600)"),
    "a blocked loop": ("blocks", {"interface": "asgi"}, "time.sleep(600)"),
    "a blocked loop beside threads": ("blocks", {}, "time.sleep(600)"),
    "the interpreter held by a thread": ("holds_interpreter", {"interface": "wsgi"}, None),
    "the interpreter held beside a loop": ("holds_interpreter", {}, None),
    "the interpreter held under the loop": ("holds_interpreter", {"interface": "asgi"}, None),
}


@pytest.mark.parametrize("view, settings, line", STUCK.values(), ids=STUCK)
def test_a_request_that_cannot_be_interrupted_costs_its_worker_and_nothing_else(stand, view, settings, line):
    server = serve_mixed(stand, workers=2, **settings)
    before = set(server.descendants())
    with server.wire() as wire:
        wire.send(request("GET", f"/overtime/{view}/a/", [("X-Request-ID", "the-late-one")]))
        begun(stand, "a")
        # Whichever worker is asked: of those that the stuck one was given, none is lost.
        assert [server.get("/sync/").status for _ in range(10)] == [200] * 10
        assert wire.answer().status == 504
    if line:
        told(server, view, line)
    else:
        assert event(server, "the-late-one", "holds the interpreter")["path"] == f"/overtime/{view}/a/"
        server.wait_line(lambda text: "overtime.py" in text and f"in {view}" in text, "the line in the dump of all stacks")
    replaced = event(server, "is replaced")
    assert "ran over its time limit" in json.dumps(replaced)
    eventually(lambda: len(before - set(server.descendants())) == 1, "the stuck worker killed, and no other")
    settled(server)


def test_what_is_over_its_time_takes_nobody_with_it(stand):
    """A stream of the same worker goes on while the worker is given up; only when it has ended the worker is killed."""
    server = serve_mixed(stand)
    gate, pid = stand.gate("stream"), server.get("/sync/").json()["pid"]
    with server.wire() as stream:
        stream.send(request("GET", "/stream/stream/")).until(b"first")
        assert server.get("/overtime/sleeps/a/").status == 504
        event(server, "is replaced")
        eventually(lambda: server.get("/sync/").json()["pid"] != pid, "the successor")
        assert alive(pid), "it was killed with a stream in it"
        gate.open()
        assert b"second\n" in stream.until(b"0\r\n\r\n")
    eventually(lambda: not alive(pid), "the stuck worker killed")
    settled(server)


def test_a_thread_is_given_to_nobody_before_it_is_free(stand):
    """The client of a sync view at the ASGI handler leaves: asgiref lets go of the call, and the call goes on."""
    server = serve_mixed(stand, interface="asgi", timeout="off", threads=1, threads_max=1)
    gate = stand.gate("held")
    with server.wire() as wire:
        wire.send(request("GET", "/holds/held/"))
        gate.reached()
    server.wait_record("/holds/held/")
    # One more at once each time than there can be free threads, so that every thread that is thought free is asked.
    for count in (2, 3, 4):
        free_ones = [stand.gate(f"g{count}{number}") for number in range(count)]
        with ExitStack() as stack:
            wires = [stack.enter_context(server.wire()).send(request("GET", f"/holds/{free.name}/")) for free in free_ones]
            for free in free_ones:
                free.reached()
            for free in free_ones:
                free.open()
            assert [wire.answer().status for wire in wires] == [200] * count
    gate.open()


def test_the_wait_in_the_queue_is_not_the_apps_time(stand):
    server = serve_mixed(stand, interface="wsgi", threads=1, timeout="2s")
    with ExitStack() as stack:
        wires = [stack.enter_context(server.wire()).send(request("GET", f"/overtime/lasts/{number}/")) for number in range(5)]
        assert [wire.answer().status for wire in wires] == [200] * 5
    records = eventually(lambda: len(found := [record for record in server.records() if "lasts" in record["path"]]) == 5 and found, "five records")
    longest = max(records, key=lambda record: record["duration_ms"])
    assert longest["queue_ms"] > 2000 and longest["app_ms"] < 2000, longest


def test_without_a_limit_nothing_happens(stand):
    """The clock is another server's, whose limit is over meanwhile."""
    server, other = serve_mixed(stand, timeout="off"), serve_mixed(stand)
    gate = stand.gate("long")
    with server.wire() as wire:
        wire.send(request("GET", "/holds/long/"))
        gate.reached()
        assert other.get("/overtime/naps/a/").status == 504
        gate.open()
        assert wire.answer().status == 200
    assert "time limit" not in server.output


# -- crashes


@pytest.mark.parametrize("how, preload", [(how, "on") for how in ("segv", "abort", "exit-0", "exit-3", "kill")] + [("segv", "off")])
def test_a_crash_costs_one_request_at_most(stand, how, preload):
    server = controlled(stand, "fates:app", workers=2, threads=2, preload=preload)
    gate, before = stand.gate("neighbour"), ready_workers(server)
    assert (status_of(server)["template"] is not None) == (preload == "on")
    with server.wire() as neighbour:
        neighbour.send(request("GET", "/gate/neighbour"))
        gate.reached()
        # Both may be in one worker: then the neighbour, which may be repeated too, is.
        answer = server.get(f"/dies/{how}/get")
        assert answer.status == 200 and stand.seen().count(f"GET /dies/{how}/get") == 2
        eventually(lambda: len(ready_workers(server)) == 2, "two workers again")
        if stand.seen().count("GET /gate/neighbour") == 2:
            gate.reached_again()
        gate.open()
        assert neighbour.answer().status == 200
    answer = server.post(f"/dies/{how}/post", b"x", [("X-Request-ID", "the-fatal-one")])
    assert answer.status == 502 and stand.seen().count(f"POST /dies/{how}/post") == 1
    event(server, "the-fatal-one")
    eventually(lambda: len(ready_workers(server)) == 2, "two workers again")
    assert set(ready_workers(server).values()) != set(before.values())
    assert [server.get("/blind").status for _ in range(6)] == [200] * 6
    if how in ("segv", "abort"):
        server.wait_line(lambda line: "fates.py" in line and "in dies" in line, "Python's own account of the crash")


@pytest.mark.parametrize("preload", ["on", "off"])
def test_an_app_that_no_longer_starts(stand, preload):
    """Said to clients, to load balancers and to operators; and it heals by itself."""
    attempts, boom = stand.folder / "attempts", stand.folder / "BOOM"
    server = controlled(stand, "doomed:app", workers=2, preload=preload, queue_timeout="1s", env={"ATTEMPTS": str(attempts), "BOOM": str(boom)})
    boom.touch()
    template = status_of(server)["template"]
    victims = [*ready_workers(server).values(), *([template["pid"]] if template else [])]
    # The template first, so that it makes no more of them.
    for pid in reversed(victims):
        os.kill(pid, signal.SIGKILL)
    said = eventually(lambda: (answer := server.get("/-/ready")).status == 503 and "missing" in answer.json() and answer.json(), "not ready")
    eventually(lambda: server.get("/-/ready").json().get("missing") == ["the application does not start"], "the reason")
    assert said["ready"] is False and server.get("/-/live").status == 200
    page = eventually(lambda: (answer := server.get("/", {"Accept": "text/html"})).get("Proxy-Status", "").endswith('"app_down"') and answer, "the page")
    assert page.status == 503 and page.get("Content-Type").startswith("text/html") and page.get("Retry-After")
    assert "does not start" in page.text and "doomed" not in page.text, "nothing of the traceback is for clients"
    answer = server.request("POST", "/", {"Accept": "application/json"}, b"{}")
    assert answer.status == 503 and answer.json()["error"] == "app_down" and "does not start" in answer.json()["message"]
    failure = status_of(server)["last_failure"]
    assert "doomed for as long as BOOM is there" in failure["reason"] and "doomed.py" in failure["reason"]
    assert "doomed for as long as BOOM is there" in command(server, "status")
    server.wait_text("doomed for as long as BOOM is there")
    assert alive(server.process.pid)
    boom.unlink()
    eventually(server.ready, "healed", deadline=30)
    eventually(lambda: len(ready_workers(server)) == 2, "both workers")
    assert server.get("/").status == 200
    assert status_of(server)["pid"] == server.process.pid


# -- recycling


class Watch:
    """Looks at the server without a pause while something happens to it: ready, and never below capacity."""

    def __init__(self, server, capacity):
        self.server, self.capacity = server, capacity
        self.faults, self.looks, self.seen = [], 0, {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def _look(self):
        while not self._over.is_set():
            try:
                status, ready = status_of(self.server), self.server.get("/-/ready")
            except Exception as fault:
                self.faults.append(repr(fault))
                return
            states = [worker["state"] for worker in status["workers"]]
            self.seen |= {worker["number"]: worker["pid"] for worker in status["workers"]}
            self.looks += 1
            if states.count("ready") < self.capacity or ready.status != 200:
                self.faults.append(f"below capacity: {states} {ready.status}")
            if states.count("starting") > 1:
                self.faults.append(f"more than one at a time: {states}")

    def replaced(self) -> int:
        return len(self.seen) - self.capacity


def test_recycling_by_requests(stand):
    """On keep-alive connections nobody notices; with jitter they do not come to their end together."""
    server = controlled(stand, workers=2, threads=2, max_requests=100, max_requests_jitter=50, access_log="off")
    over, failures, served = threading.Event(), [], [0] * 4

    def keep_asking(number):
        try:
            with server.wire() as wire:
                while not over.is_set():
                    answer = wire.send(request("GET", "/blind")).answer()
                    served[number] += 1
                    if answer.status != 200 or answer.closes:
                        failures.append(answer)
        except BaseException as fault:
            failures.append(fault)

    with Watch(server, 2) as watch:
        askers = [threading.Thread(target=keep_asking, args=(number,)) for number in range(4)]
        for asker in askers:
            asker.start()
        try:
            eventually(lambda: watch.replaced() >= 5 or failures, "five workers replaced", deadline=60)
        finally:
            over.set()
            for asker in askers:
                asker.join()
    assert failures == [] and watch.faults == []
    assert sum(served) >= 5 * 100
    reasons = [line for line in server.lines if "is recycled" in line]
    assert len(reasons) >= 4 and all("it has served" in line for line in reasons)


def test_recycling_by_age_and_idleness(stand):
    server = controlled(stand, workers=2, max_age="1s")
    with Watch(server, 2) as watch:
        eventually(lambda: watch.replaced() >= 3 or watch.faults, "three workers replaced")
    assert watch.faults == [] and any("s old" in line for line in server.lines)
    idle = controlled(stand, workers=1, threads=2, max_idle="1s")
    [pid] = ready_workers(idle).values()
    # One that has served nothing is as good as its successor: the other server's clock says when it would have been its turn.
    number = max(watch.seen)
    eventually(lambda: min(ready_workers(server)) > number + 2, "time")
    assert list(ready_workers(idle).values()) == [pid]
    gate = stand.gate("busy")
    with idle.wire() as wire:
        wire.send(request("GET", "/gate/busy"))
        gate.reached()
        number = max(ready_workers(server))
        eventually(lambda: min(ready_workers(server)) > number + 1, "time")
        assert list(ready_workers(idle).values()) == [pid], "it was not idle"
        gate.open()
        assert wire.answer().status == 200
    with Watch(idle, 1) as watch:
        eventually(lambda: pid not in ready_workers(idle).values(), "a fresh one")
    assert watch.faults == [] and any("nothing to do for" in line for line in idle.lines)


@pytest.mark.parametrize("measure", ["rss", "pss"])
def test_recycling_by_memory(stand, measure):
    server = controlled(stand, "fates:app", workers=2, threads=1, max_memory="160MiB", memory_measure=measure)
    with Watch(server, 2) as watch:
        for _ in range(4):
            assert server.get("/grows/").status == 200
        eventually(lambda: watch.replaced() >= 1 or watch.faults, "a worker replaced")
        assert server.get("/blind").status == 200
        eventually(lambda: all(worker["memory"]["rss"] < 160 << 20 for worker in status_of(server)["workers"]), "nobody too large")
    assert watch.faults == []
    assert any("MiB of memory, 160 MiB are allowed" in line for line in server.lines)


# -- scaling


def test_scaling_by_signals_and_by_word(stand):
    server = controlled(stand, workers=2)
    first = ready_workers(server)
    for steer, count in [
        (lambda: server.signal(signal.SIGTTIN), 3),
        (lambda: server.signal(signal.SIGTTIN), 4),
        (lambda: server.signal(signal.SIGTTOU), 3),
        (lambda: command(server, "scale", "+1"), 4),
        (lambda: command(server, "scale", "2"), 2),
        (lambda: command(server, "scale", "-1"), 1),
        (lambda: server.signal(signal.SIGTTOU), 1),  # never none
        (lambda: command(server, "scale", "3"), 3),
    ]:
        steer()
        eventually(lambda: len(ready_workers(server)) == count and len(status_of(server)["workers"]) == count, f"{count} workers")
        assert status_of(server)["wanted"] == count
        assert [server.get("/blind").status for _ in range(4)] == [200] * 4
    assert set(first) & set(ready_workers(server)), "those that may stay stay"


def test_scaling_down_ends_no_request(stand):
    server = controlled(stand, workers=2, threads=1)
    gates = [stand.gate("a"), stand.gate("b")]
    with ExitStack() as stack:
        wires = [stack.enter_context(server.wire()).send(request("GET", f"/gate/{gate.name}")) for gate in gates]
        for gate in gates:
            gate.reached()
        command(server, "scale", "1")
        eventually(lambda: sorted(worker["state"] for worker in status_of(server)["workers"]) == ["draining", "ready"], "one drains")
        for gate in gates:
            gate.open()
        assert [wire.answer().status for wire in wires] == [200, 200]
    eventually(lambda: len(status_of(server)["workers"]) == 1, "one worker")


def test_the_number_of_workers_follows_the_queue(stand):
    server = controlled(stand, workers=1, threads=1, workers_min=1, workers_max=3)
    gates = [stand.gate(f"g{number}") for number in range(5)]
    with ExitStack() as stack:
        wires = [stack.enter_context(server.wire()).send(request("GET", f"/gate/{gate.name}")) for gate in gates]
        at_most = lambda: (status := status_of(server))["wanted"] <= 3 and len(status["workers"]) <= 3
        eventually(lambda: len(ready_workers(server)) == 3, "as many as may be")
        # They wait still: three more looks of a second, by the server's own clock, and nothing more happens.
        until = status_of(server)["uptime"] + 3.5
        while status_of(server)["uptime"] < until:
            assert at_most()
        assert status_of(server)["queue"]["length"] == 2 and status_of(server)["wanted"] == 3
        for gate in gates:
            gate.open()
        assert [wire.answer().status for wire in wires] == [200] * 5


# -- the end


def test_a_stop_ends_streams_and_lets_others_finish(stand):
    server = serve_mixed(stand, timeout="off", graceful_timeout="4s")
    stand.gate("endless")
    gate = stand.gate("last")
    with server.wire() as idle, server.wire() as busy, server.wire() as stream:
        assert idle.send(request("GET", "/sync/")).answer().status == 200
        stream.send(request("GET", "/stream/endless/")).until(b"first")
        busy.send(request("GET", "/holds/last/"))
        gate.reached()
        server.signal(signal.SIGTERM)
        assert idle.closed(), "an idle connection ends without a word"
        gate.open()
        answer = busy.answer()
        assert answer.status == 200 and answer.closes and busy.closed()
        # An event stream ends as if the app had: its client comes back by itself.
        assert stream.rest().endswith(b"0\r\n\r\n")
    assert server.exit_status() == 0
    assert "# stream closed endless" in stand.seen()


@pytest.mark.parametrize("page, preload", [(page, "on") for page in ("/blind", "/gate/never", "/spins/", "/holds-interpreter/")] + [("/spins/", "off")])
def test_a_killed_edge_leaves_nobody(stand, page, preload):
    """Whatever its workers are at; and its template."""
    server = controlled(stand, "fates:app", workers=2, threads=1, preload=preload)
    family = server.descendants()
    assert len(family) == (3 if preload == "on" else 2)
    gate = stand.gate("never")
    with server.wire() as wire:
        wire.send(request("GET", page))
        eventually(lambda: f"GET {page}" in stand.seen(), "the request in its worker")
        if "gate" in page:
            gate.reached()
        server.process.kill()
        server.process.wait()
        server._checked = True
        eventually(lambda: not any(map(alive, family)), "every process gone")


def test_what_a_server_leaves_in_the_file_system(stand):
    """Nothing when it was stopped; when it was killed, nothing that keeps the next one from starting."""
    pid, control, listener = (stand.folder / name for name in ("site.pid", "site.control", "site.sock"))
    start = lambda: stand.serve(bind=f"unix:{listener}", pid=pid, control=control, workers=1)
    server = start()
    assert int(pid.read_text()) == server.process.pid and control.is_socket() and listener.is_socket()
    server.stop()
    assert [path.exists() for path in (pid, control, listener)] == [False] * 3
    server = start()
    server.kill()
    assert [path.exists() for path in (pid, control, listener)] == [True] * 3
    again = start()
    assert again.get("/").status == 200 and int(pid.read_text()) == again.process.pid
    again.control = control
    assert status_of(again)["pid"] == again.process.pid
    again.stop()
    assert [path.exists() for path in (pid, control, listener)] == [False] * 3


# -- memory


def test_the_edge_does_not_grow_with_the_number_of_requests(stand, capsys):
    """30,000 mixed requests: what comes after the first third must cost nothing that stays. The figures are printed."""
    files = stand.folder / "files"
    files.mkdir()
    (files / "site.css").write_bytes(b"body { color: teal }\n" * 100)
    server = stand.serve(workers=2, threads=2, static=f"/static/={files}", access_log=stand.folder / "access.log")
    batch = [
        ("GET", request("GET", "/blind")), ("GET", request("GET", "/static/site.css")), ("GET", request("GET", "/-/live")),
        ("POST", request("POST", "/blind", (), b"x" * 3000)), ("GET", request("GET", "/status/404")),
        ("GET", request("GET", "/static/missing.css")), ("HEAD", request("HEAD", "/static/site.css")),
        ("GET", request("GET", "/static/site.css", [("Range", "bytes=5-50")])), ("GET", request("GET", "/blind?" + "q" * 500)),
        ("GET", request("GET", "/large/2")),
    ]  # fmt: skip
    rounds = 20

    def ask(times):
        for _ in range(times):
            with server.wire() as wire:
                for _ in range(rounds):
                    for method, data in batch:
                        wire.send(data).answer(method)

    def load(requests):
        askers = [threading.Thread(target=ask, args=(requests // 4 // rounds // len(batch),)) for _ in range(4)]
        for asker in askers:
            asker.start()
        for asker in askers:
            asker.join()
        return _rss(server.process.pid)

    sizes = [load(10_000), load(10_000), load(10_000)]
    with capsys.disabled():
        print(f"\nedge after 10, 20 and 30 thousand requests: {', '.join(f'{size / 1024:.0f} KiB' for size in sizes)}")
    assert sizes[-1] - sizes[0] < 4 << 20, sizes


def _rss(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
