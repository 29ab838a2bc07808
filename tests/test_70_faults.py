"""Workers that die, lie and hang, disks that are full, and the end of the server itself: what clients see of it."""

import os
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from client import eventually, request
from server import Server, alive


@pytest.fixture
def server(stand):
    return stand.serve("faults:app", workers=2, threads=1)


def recovered(server) -> None:
    """All places are there again, and they answer."""
    eventually(server.ready, "ready")
    for number in range(10):
        assert server.get(f"/recovered/{number}").status == 200
    assert alive(server.process.pid)


# -- death of a worker (68)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_a_request_that_may_be_repeated_is_given_once_more(server, stand, method):
    answer = server.request(method, "/dies-once/a")
    assert answer.status == 200
    assert stand.seen().count(f"{method} /dies-once/a") == 2
    recovered(server)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_a_request_that_changes_something_is_not(server, stand, method):
    answer = server.request(method, "/dies-once/a", body=b"x")
    assert answer.status == 502 and answer.get("Proxy-Status")
    assert stand.seen().count(f"{method} /dies-once/a") == 1
    recovered(server)


def test_at_most_one_retry(server, stand):
    """A request that kills must not kill the whole fleet."""
    assert server.get("/dies/a").status == 502
    assert stand.seen().count("GET /dies/a") == 2
    recovered(server)


def test_the_log_says_what_killed_it(server):
    name = server.request("POST", "/dies/a", body=b"").get("X-Request-ID")
    server.wait_line(lambda line: name in line and "duration_ms" not in line, "the request that was in the worker")
    server.wait_line(lambda line: "SIGKILL" in line or "signal 9" in line or "signal: 9" in line or "killed" in line.lower(), "how the worker ended")


def test_the_other_requests_of_a_dying_worker(stand):
    """Three threads, one kills the process: the two GETs beside it are given to the next worker."""
    server = stand.serve("faults:app", workers=1, threads=3)
    gates = [stand.gate(f"g{number}") for number in range(2)]
    wires = [server.wire().send(request("GET", f"/gate/g{number}")) for number in range(2)]
    for gate in gates:
        gate.reached()
    victim = server.get("/").json()["pid"]
    assert server.request("POST", "/dies/a", body=b"").status == 502
    eventually(lambda: not alive(victim), "the worker gone")
    for gate, wire in zip(gates, wires):
        gate.reached_again().open()
        assert wire.answer().status == 200
    recovered(server)


def test_an_idle_worker_that_is_killed_is_replaced(server):
    pids = {server.get(f"/{number}").json()["pid"] for number in range(20)}
    victim = pids.pop()
    os.kill(victim, signal.SIGKILL)
    eventually(lambda: not alive(victim), "the worker gone")
    recovered(server)
    eventually(lambda: len({server.get(f"/{number}").json()["pid"] for number in range(20)} - {victim}) >= 1, "answers from others")


def test_all_workers_killed_again_and_again(server):
    for _ in range(3):
        for pid in {server.get(f"/{number}").json()["pid"] for number in range(10)}:
            os.kill(pid, signal.SIGKILL)
        assert server.get("/waits-for-a-worker").status == 200
    recovered(server)


def test_a_worker_that_exits_in_mid_answer_cuts_it(server, stand):
    gate = stand.gate("exit")
    with server.wire() as wire:
        wire.send(request("GET", "/exits-mid-answer/exit"))
        wire.until(b"first\n")
        gate.open()
        rest = wire.rest()
    assert b"0\r\n\r\n" not in rest and b"HTTP/1.1" not in rest
    recovered(server)


def test_garbage_on_the_channel_costs_that_worker_only(server, stand):
    gate = stand.gate("neighbour")
    with server.wire() as neighbour:
        neighbour.send(request("GET", "/gate/neighbour"))
        gate.reached()
        answer = server.get("/garbage/a")
        assert answer.status in (200, 502)
        server.wait_line(
            lambda line: "duration_ms" not in line and any(word in line.lower() for word in ("protocol", "garbage", "frame", "channel", "malformed")),
            "what the worker did wrong",
        )
        gate.open()
        assert neighbour.answer().status == 200
    recovered(server)


def test_garbage_beside_a_post_repeats_nothing(server, stand):
    """The answer may have been taken in before the garbage was; a second call may not have happened."""
    assert server.request("POST", "/garbage/a", body=b"").status in (200, 502)
    recovered(server)
    assert stand.seen().count("POST /garbage/a") == 1


def test_restarts_back_off_and_live_goes_on(stand):
    """A project that no longer imports: live stays, ready says no, attempts become rarer, and the first good one heals."""
    attempts, boom = stand.folder / "attempts", stand.folder / "BOOM"
    # From a template workers are forked: they do not import again.
    server = stand.serve("doomed:app", workers=1, preload="off", env={"ATTEMPTS": str(attempts), "BOOM": str(boom)})
    booted = len(attempts.read_text().split())
    boom.touch()
    os.kill(server.get("/").json()["pid"], signal.SIGKILL)
    eventually(lambda: server.get("/-/ready").status == 503, "ready says no")
    assert server.get("/-/ready").json() is not None
    times = eventually(lambda: _times(attempts, booted + 5), "five attempts", deadline=60)[booted:]
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    assert gaps[-1] > 1.5 * gaps[0], gaps
    assert server.get("/-/live").status == 200
    boom.unlink()
    eventually(server.ready, "ready again", deadline=60)
    assert server.get("/").status == 200


def _times(attempts: Path, wanted: int):
    times = [float(line) for line in attempts.read_text().split()]
    return times if len(times) >= wanted else None


# -- a full disk (67)


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("mounting needs root")
    folder = tmp_path / "small"
    folder.mkdir()
    ran = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True)
    if ran.returncode:
        pytest.skip(f"mount: {ran.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def test_a_full_disk_refuses_the_upload_and_nothing_else(stand, small_disk):
    server = stand.serve(workers=1, spool_dir=small_disk, body_buffer="64KiB", max_body="20MB")
    with server.wire() as wire:
        answer = wire.try_send(request("POST", "/too-much", body=b"x" * 5_000_000)).answer()
    assert answer.status in (503, 507) and answer.get("Proxy-Status")
    assert "POST /too-much" not in stand.seen()
    assert server.get("/").status == 200
    # What the refused one had taken is free again.
    assert server.post("/", b"x" * 600_000).json()["body"]["length"] == 600_000
    server.wait_line(lambda line: str(small_disk) in line or "No space left" in line, "what is full")


def test_a_full_disk_does_not_break_answers(stand, small_disk):
    """The answer cannot be spilled: the app waits for the slow client, or the answer is cut; others are served."""
    server = stand.serve(workers=1, threads=2, spool_dir=small_disk, answer_buffer="64KiB")
    with server.wire(receive_buffer=4096) as wire:
        wire.send(request("GET", "/large/160"))
        for number in range(10):
            assert server.get(f"/{number}").status == 200
        answer = wire.answer()
        assert not answer.complete or len(answer.body) == 160 * 65536
    assert server.get("/").status == 200


def test_running_out_of_descriptors_does_not_end_it(stand):
    """67: a server with 64 descriptors meets 200 connections; afterwards it serves as before."""
    server = stand.serve(workers=1, wrap=["sh", "-c", 'ulimit -n 64; exec "$@"', "sh"])
    wires = []
    for _ in range(200):
        try:
            wires.append(server.wire(timeout=1))
        except OSError:
            break
    for wire in wires:
        wire.socket.close()
    eventually(lambda: _answers(server), "an answer after the flood")


def _answers(server) -> bool:
    try:
        return server.get("/").status == 200
    except (OSError, AssertionError):
        return False


# -- the end


def test_term_finishes_what_is_under_way(stand):
    server = stand.serve(workers=1, threads=1)
    gate = stand.gate("last")
    with server.wire() as held, server.wire() as idle:
        assert idle.send(request("GET", "/")).answer().status == 200
        held.send(request("GET", "/gate/last"))
        gate.reached()
        server.signal(signal.SIGTERM)
        eventually(lambda: _refuses(server), "new connections refused")
        assert idle.closed(), "an idle connection is let go"
        gate.open()
        answer = held.answer()
        assert answer.status == 200 and answer.closes and held.closed()
    assert server.exit_status() == 0


def test_term_finishes_what_waits_in_the_queue(stand):
    server = stand.serve(workers=1, threads=1)
    gate = stand.gate("last")
    with server.wire() as held, server.wire() as queued:
        held.send(request("GET", "/gate/last"))
        gate.reached()
        queued.send(request("GET", "/queued"))
        # Read by the same edge before: by now the queued one has been taken in too.
        assert server.get("/-/live").status == 200
        server.signal(signal.SIGTERM)
        eventually(lambda: _refuses(server), "new connections refused")
        gate.open()
        assert held.answer().status == 200
        assert queued.answer().status in (200, 503)
    assert server.exit_status() == 0


def test_term_waits_no_longer_than_graceful_timeout(stand):
    server = stand.serve(workers=1, threads=1, graceful_timeout="1s")
    gate = stand.gate("never")
    with server.wire() as held:
        held.send(request("GET", "/gate/never"))
        gate.reached()
        family = server.descendants()
        server.signal(signal.SIGTERM)
        server.exit_status(20)
        assert not held.rest().startswith(b"HTTP/1.1 200")
    eventually(lambda: not any(map(alive, family)), "every worker gone")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_int_and_quit_stop_now(stand, number):
    server = stand.serve(workers=2, threads=1)
    gate = stand.gate("never")
    with server.wire() as held:
        held.send(request("GET", "/gate/never"))
        gate.reached()
        family = server.descendants()
        server.signal(number)
        assert server.exit_status(10) == 0
    eventually(lambda: not any(map(alive, family)), "every worker gone")


def test_a_second_term_stops_now(stand):
    server = stand.serve(workers=1, threads=1)
    gate = stand.gate("never")
    with server.wire() as held:
        held.send(request("GET", "/gate/never"))
        gate.reached()
        server.signal(signal.SIGTERM)
        eventually(lambda: _refuses(server), "new connections refused")
        server.signal(signal.SIGINT)
        server.exit_status(10)


def test_term_while_starting(stand, tmp_path):
    """The app never comes to the end of its import; TERM ends the start all the same."""
    gate = stand.gate("import")
    (tmp_path / "waits.py").write_text(f"open({str(gate.path)!r}).read()\n")
    server = Server("waits:app", tmp_path)
    stand.servers.append(server)
    gate.reached()
    family = server.descendants()
    server.signal(signal.SIGTERM)
    server.exit_status(20)
    eventually(lambda: not any(map(alive, family)), "every worker gone")


def test_workers_do_not_outlive_a_killed_server(stand):
    server = stand.serve(workers=2)
    assert server.get("/").status == 200
    family = server.descendants()
    assert family
    server.process.kill()
    server.process.wait()
    server._checked = True
    eventually(lambda: not any(map(alive, family)), "every worker gone")


def test_a_hangup_of_the_terminal_does_not_kill_it(stand):
    """HUP is a signal to reload; whatever becomes of it, requests go on."""
    server = stand.serve(workers=1)
    server.signal(signal.SIGHUP)
    for number in range(5):
        assert server.get(f"/{number}").status == 200


def test_broken_output_does_not_stop_it(stand):
    """Whoever reads the log may die: a server that wrote to a closed pipe must go on."""
    reader, writer = os.pipe()
    server = stand.serve(workers=1, access_log=f"/dev/fd/{writer}", pass_fds=[writer])
    os.close(reader)
    os.close(writer)
    for number in range(5):
        assert server.get(f"/{number}").status == 200


def test_requests_under_way_survive_a_neighbours_crash_under_load(stand):
    """Four clients ask without pause while workers are killed: every GET is answered with 200."""
    server = stand.serve("faults:app", workers=2, threads=2)
    stop, faults, served = threading.Event(), [], [0]

    def keep_asking():
        while not stop.is_set():
            answer = server.get("/blind")
            served[0] += 1
            if answer.status != 200:
                faults.append(answer.status)

    askers = [threading.Thread(target=keep_asking) for _ in range(4)]
    for asker in askers:
        asker.start()
    for _ in range(3):
        before = served[0]
        eventually(lambda: served[0] > before + 20, "requests served")
        os.kill(server.get("/").json()["pid"], signal.SIGKILL)
        eventually(server.ready, "ready")
    stop.set()
    for asker in askers:
        asker.join()
    assert faults == []


def _refuses(server) -> bool:
    try:
        socket.create_connection(server.address, 5).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False
