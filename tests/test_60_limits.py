"""Overload and slowness: bounded queues, deadlines, and nobody made to wait for somebody else."""

import os
import threading

import pytest

from client import eventually, request
from server import alive


def hold(stand, server, name):
    """A request that occupies one place in a worker; returns its wire and the gate that lets it go."""
    gate = stand.gate(name)
    wire = server.wire().send(request("GET", f"/gate/{name}"))
    gate.reached()
    return wire, gate


def test_a_full_queue_is_a_503_at_once(stand):
    server = stand.serve(workers=1, threads=1, queue=1)
    held, gate = hold(stand, server, "held")
    wires = [server.wire().send(request("GET", f"/{number}")) for number in range(6)]
    # One waits in the queue, one may have been handed to the worker ahead of its turn; the others are answered now.
    answers, lock = [], threading.Lock()

    def take(wire):
        answer = wire.answer()
        with lock:
            answers.append(answer)

    takers = [threading.Thread(target=take, args=(wire,)) for wire in wires]
    for taker in takers:
        taker.start()
    eventually(lambda: len(answers) >= 4, "four refusals while the worker is busy")
    for answer in answers:
        assert answer.status == 503 and int(answer.get("Retry-After")) >= 1
        assert answer.get("Proxy-Status") and not answer.closes
    gate.open()
    assert held.answer().status == 200
    for taker in takers:
        taker.join()
    assert {answer.status for answer in answers} == {200, 503}
    assert server.get("/").status == 200


def test_waiting_in_the_queue_has_an_end(stand):
    server = stand.serve(workers=1, threads=1, queue_timeout="1s")
    held, gate = hold(stand, server, "held")
    answer = server.get("/waiting")
    assert answer.status == 503 and answer.get("Retry-After")
    gate.open()
    assert held.answer().status == 200
    assert "GET /waiting" not in stand.seen(), "given up, yet done"


def test_a_request_whose_client_left_the_queue_is_not_run(stand):
    server = stand.serve(workers=1, threads=1)
    held, gate = hold(stand, server, "held")
    with server.wire() as leaver:
        # Both arrive in one read, so the first answer proves that the second request is on its way to the queue.
        leaver.send(request("GET", "/-/live") + request("GET", "/left"))
        assert leaver.answer().status == 200
        leaver.reset()
    server.wait_record("/left")
    gate.open()
    assert held.answer().status == 200
    assert server.get("/after").status == 200
    assert "GET /left" not in stand.seen()


def test_timeout_is_a_504_and_the_place_comes_back(stand):
    server = stand.serve(workers=1, threads=1, timeout="1s", graceful_timeout="1s")
    gate = stand.gate("stuck")
    with server.wire() as wire:
        wire.send(request("GET", "/gate/stuck"))
        gate.reached()
        answer = wire.answer()
    assert answer.status == 504 and answer.get("Proxy-Status")
    # The gate stays shut: the thread never comes back, so its worker must be replaced.
    assert server.get("/after").status == 200
    server.wait_line(lambda line: answer.get("X-Request-ID") in line and "duration_ms" not in line, "the request id beside the stack")
    server.wait_text("wait_at_gate")


def test_a_timeout_disturbs_nobody_else(stand):
    server = stand.serve(workers=2, threads=2, timeout="2s", graceful_timeout="1s")
    stuck, _ = hold(stand, server, "stuck")
    stop, faults = threading.Event(), []

    def keep_asking():
        with server.wire() as wire:
            while not stop.is_set():
                answer = wire.send(request("GET", "/")).answer()
                if answer.status != 200:
                    faults.append(answer.status)

    askers = [threading.Thread(target=keep_asking) for _ in range(2)]
    for asker in askers:
        asker.start()
    assert stuck.answer().status == 504
    eventually(server.ready, "ready again")
    stop.set()
    for asker in askers:
        asker.join()
    assert faults == []


def test_a_timeout_in_mid_answer_cuts_it(stand):
    server = stand.serve(workers=1, threads=1, timeout="1s", graceful_timeout="1s")
    gate = stand.gate("stuck")
    with server.wire() as wire:
        wire.send(request("GET", "/stream/stuck"))
        gate.reached()
        rest = wire.rest()
    assert b"first\n" in rest and b"0\r\n\r\n" not in rest
    assert server.get("/after").status == 200


@pytest.mark.parametrize("threads", [1, 2])
def test_slow_clients_hold_no_worker(stand, threads):
    """28–30: two half heads, two half bodies and two who take nothing, for each thread there is."""
    server = stand.serve(workers=1, threads=threads)
    slow = []
    for number in range(2 * threads):
        slow.append(server.wire().send(b"GET /half HTTP/1.1\r\nHost: loc"))
        slow.append(server.wire().send(request("POST", "/half", {"Content-Length": "1000"}, b"x" * 500)))
        slow.append(server.wire(receive_buffer=4096).send(request("GET", f"/large/64?taker={number}")))
    for number in range(20):
        assert server.get(f"/{number}").status == 200
    assert not any("/half" in line for line in stand.seen())
    for wire in slow:
        wire.socket.close()


def test_a_long_request_holds_up_nobody(stand):
    """2 workers × 1 thread, one of them busy: 20 fast requests, one after the other and all at once."""
    server = stand.serve(workers=2, threads=1)
    held, gate = hold(stand, server, "long")
    for number in range(20):
        assert server.get(f"/{number}").status == 200
    wires = [server.wire().send(request("GET", f"/{number}")) for number in range(20)]
    for wire in wires:
        assert wire.answer().status == 200
        wire.socket.close()
    gate.open()
    assert held.answer().status == 200


def test_a_long_request_that_comes_into_the_crowd_holds_up_nobody(stand):
    """The same, but the long one comes while the fast ones run: what was taken ahead for its worker must be given back."""
    server = stand.serve(workers=2, threads=1)
    stop, counts = threading.Event(), [0, 0, 0, 0]

    def keep_asking(number):
        with server.wire() as wire:
            while not stop.is_set():
                assert wire.send(request("GET", "/blind")).answer().status == 200
                counts[number] += 1

    askers = [threading.Thread(target=keep_asking, args=(number,)) for number in range(4)]
    for asker in askers:
        asker.start()
    eventually(lambda: all(counts), "everybody served once")
    held, gate = hold(stand, server, "long")
    before = list(counts)
    try:
        eventually(lambda: all(now > then + 5 for now, then in zip(counts, before)), "everybody served beside the long request")
    finally:
        stop.set()
        gate.open()
    assert held.answer().status == 200
    for asker in askers:
        asker.join()


def test_idle_places_are_used_first(stand):
    """With four places and three held, each new request still finds the fourth."""
    server = stand.serve(workers=4, threads=1)
    held = [hold(stand, server, f"h{number}") for number in range(3)]
    for number in range(10):
        assert server.get(f"/{number}").status == 200
    for wire, gate in held:
        gate.open()
        assert wire.answer().status == 200


def test_max_connections_closes_the_longest_idle(stand):
    """31"""
    server = stand.serve(workers=1, max_connections=5)
    wires = []
    for number in range(5):
        wire = server.wire()
        assert wire.send(request("GET", f"/{number}")).answer().status == 200
        wires.append(wire)
    with server.wire() as sixth:
        assert sixth.send(request("GET", "/sixth")).answer().status == 200
        assert wires[0].closed(), "the longest idle one makes room"
        assert wires[4].send(request("GET", "/again")).answer().status == 200


def test_connections_that_are_busy_are_not_closed_for_new_ones(stand):
    """31"""
    server = stand.serve(workers=2, threads=1, max_connections=2)
    held = [hold(stand, server, f"h{number}") for number in range(2)]
    with server.wire() as third:
        rest = third.try_send(request("GET", "/third")).rest()
        assert rest == b"" or rest.startswith(b"HTTP/1.1 503")
    for wire, gate in held:
        gate.open()
        assert wire.answer().status == 200


def test_a_thousand_idle_connections_are_kept(stand):
    """31"""
    server = stand.serve(workers=1)
    wires = [server.wire() for _ in range(1000)]
    for wire in wires[::100]:
        assert wire.send(request("GET", "/")).answer().status == 200
    assert server.get("/").status == 200
    for wire in wires:
        wire.socket.close()


def test_memory_does_not_grow_with_bodies(stand):
    """Eight uploads of 16 MB at a time through a server that holds 64 KiB of each."""
    server = stand.serve(workers=1, threads=1, body_buffer="64KiB", max_body="20MB")
    server.post("/", b"x" * 1_000_000)
    before = resident(server.process.pid)
    body = b"x" * (16 << 20)
    wires = [server.wire() for _ in range(8)]
    senders = [threading.Thread(target=wire.send, args=(request("POST", "/", {"Content-Length": str(len(body) + 1)}, body),)) for wire in wires]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert resident(server.process.pid) - before < 64 << 20
    for wire in wires:
        assert wire.send(b"x").answer().json()["body"]["length"] == len(body) + 1
        wire.socket.close()


def resident(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_an_endless_answer_to_a_slow_client_waits(stand):
    """30: past spool_max the app waits for the client; neither memory nor disk grows without bound."""
    spool = stand.folder / "spool"
    spool.mkdir()
    server = stand.serve(workers=1, threads=2, spool_max="4MB", answer_buffer="64KiB", spool_dir=spool)
    before = resident(server.process.pid)
    with server.wire(receive_buffer=4096) as wire:
        wire.send(request("GET", "/endless/slow"))
        wire.until(b"xxxx")
        for number in range(50):
            assert server.get(f"/{number}").status == 200
        assert resident(server.process.pid) - before < 64 << 20
        assert all(alive(pid) for pid in server.descendants())
    eventually(lambda: "# closed slow" in stand.seen(), "the end of the endless answer")
    assert list(spool.iterdir()) == [], "spooled files have no names"
