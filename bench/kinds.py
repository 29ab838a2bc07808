"""The kinds of measurement: each takes a running server and gives one sample, a flat dictionary of numbers.

Load on one side (`measure.wrk`, `clients`), the kernel's account of the server on the other (`measure`). A sample may
carry one text, `detail`. Requests that went wrong are in `errors`, and the report marks every sample that has any.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import clients
import loadgen
import measure
import secure
from scenarios import Scenario
from servers import BARE, SERVERS


@dataclass(frozen=True)
class Target:
    """A server that is ready: its address, the processes that were started, and how long to load it."""

    scenario: Scenario
    port: int
    roots: list[int]
    seconds: float
    scratch: Path
    load: Path | None  # the compiled load.c
    h3load: Path | None = None  # the compiled h3load

    @property
    def url(self) -> str:
        return f"{self.scenario.scheme}://127.0.0.1:{self.port}{self.scenario.path}"

    def pids(self) -> list[int]:
        return measure.tree(self.roots)


def load(target: Target) -> dict:
    """Saturation by wrk."""
    warm_up(target)
    before = measure.cpu_ns(target.pids())
    sample = measure.wrk(target.url, target.scenario.connections, target.seconds, target.scenario.accept)
    if target.scenario.accept:
        sample["kb_answer"] = clients.size_of_answer(target.port, target.scenario.path, target.scenario.accept) / 1e3
    return with_costs(target, sample, before)


def h2(target: Target) -> dict:
    """Saturation by h2load."""
    scenario = target.scenario
    secure.h2load(target.url, scenario.connections, scenario.streams, 1)
    before = measure.cpu_ns(target.pids())
    return with_costs(target, secure.h2load(target.url, scenario.connections, scenario.streams, target.seconds), before)


def h3(target: Target) -> dict:
    """Saturation over HTTP/3."""
    scenario = target.scenario
    before = measure.cpu_ns(target.pids())
    sample = secure.h3load(target.h3load, target.url, scenario.connections, scenario.streams, target.seconds)
    return with_costs(target, sample, before)


def handshakes(target: Target) -> dict:
    """Connections that are opened and closed."""
    before = measure.cpu_ns(target.pids())
    return with_costs(target, secure.handshakes(target.port, target.scenario.resumed, target.seconds), before)


def tls_idle(target: Target) -> dict:
    """Memory of TLS connections that wait: PSS with and without them."""
    scenario = target.scenario
    for sock in secure.open_connections(target.port, scenario.path, 300):
        sock.close()
    measure.settle(target.roots)
    before = measure.pss_bytes(target.pids())
    sockets = secure.open_connections(target.port, scenario.path, scenario.connections)
    time.sleep(2)
    after = measure.pss_bytes(target.pids())
    kept = secure.still_open(sockets)
    for sock in sockets:
        sock.close()
    return {
        "requests": len(sockets), "kept": kept, "errors": len(sockets) - kept,
        "pss_before_mb": before / 1e6, "pss_mb": after / 1e6, "kib_each": (after - before) / len(sockets) / 1024,
    }


def download(target: Target) -> dict:
    """Saturation by a client that only counts the bytes."""
    scenario = target.scenario
    clients.download(target.port, scenario.path, scenario.length, scenario.connections, 1)
    before = measure.cpu_ns(target.pids())
    sample = clients.download(target.port, scenario.path, scenario.length, scenario.connections, target.seconds)
    return with_costs(target, sample, before)


def idle(target: Target) -> dict:
    """Memory of connections that wait: PSS with and without them."""
    # Code pages and allocator pools come in with the first requests, not with the connections.
    for sock in clients.open_connections(target.port, target.scenario.path, 300):
        sock.close()
    measure.settle(target.roots)
    before = measure.pss_bytes(target.pids())
    sockets = clients.open_connections(target.port, target.scenario.path, target.scenario.connections)
    time.sleep(2)
    after = measure.pss_bytes(target.pids())
    kept = clients.still_open(sockets)
    for sock in sockets:
        sock.close()
    return {
        "requests": len(sockets), "kept": kept, "errors": len(sockets) - kept,
        "pss_before_mb": before / 1e6, "pss_mb": after / 1e6, "kib_each": (after - before) / len(sockets) / 1024,
    }


def slow(target: Target) -> dict:
    """Saturation by wrk, beside slow clients."""
    warm_up(target)
    with clients.slow_clients(target.port, target.scenario.slow):
        before = measure.cpu_ns(target.pids())
        sample = measure.wrk(target.url, target.scenario.connections, target.seconds)
        return with_costs(target, sample, before)


def stall(target: Target) -> dict:
    """Fast requests during a long one."""
    return clients.fast_during_long(target.port, "/reports/slow/?seconds=6", target.scenario.path)


def rate(target: Target) -> dict:
    """CPU time at a steady rate, far from saturation."""
    scenario = target.scenario
    sockets = clients.open_connections(target.port, scenario.path, scenario.connections)
    measure.settle(target.roots)
    before = measure.cpu_ns(target.pids())
    sample = clients.paced(target.port, scenario.path, sockets, scenario.rate, target.seconds)
    return with_costs(target, sample, before)


def calls(target: Target) -> dict:
    """System calls and wake-ups of each side at saturation; then, apart, the names of the calls."""
    warm_up(target)
    sides = measure.sides(target.pids())
    counters = {side: measure.CallCounter(pids) for side, pids in sides.items()}
    time.sleep(0.5)
    asleep = {side: measure.wakeups(pids) for side, pids in sides.items()}
    sample = measure.wrk(target.url, target.scenario.connections, target.seconds)
    requests = max(sample["requests"], 1)
    for side, pids in sides.items():
        sample[f"wakeups_{side}"] = (measure.wakeups(pids) - asleep[side]) / requests
    for side, counter in counters.items():
        count = counter.stop()
        sample[f"calls_{side}"] = None if count is None else count / requests
    sample["detail"] = "; ".join(f"{side}: {text}" for side, text in call_names(target, sides).items())
    return sample


def call_names(target: Target, sides: dict[str, list[int]]) -> dict[str, str]:
    traces = {side: measure.CallNames(pids, target.scratch, side) for side, pids in sides.items()}
    time.sleep(0.5)
    requests = max(measure.wrk(target.url, target.scenario.connections, 2)["requests"], 1)
    return {
        side: ", ".join(f"{name} {count / requests:.2f}" for name, count in trace.stop().most_common(6))
        for side, trace in traces.items()
    }


def echo(target: Target) -> dict:
    """WebSocket clients that each send a message when the last has come back."""
    scenario = target.scenario
    loadgen.echo(target.load, target.port, scenario.path, scenario.connections, 1)
    before = measure.cpu_ns(target.pids())
    sample = loadgen.echo(target.load, target.port, scenario.path, scenario.connections, target.seconds)
    with_costs(target, sample, before)
    sample["message_us"] = sample.pop("cpu_us")
    return sample


def websockets(target: Target) -> dict:
    """Memory of WebSockets that wait, the edge's and Python's apart: PSS with and without them."""
    port, scenario = target.port, target.scenario
    for sock in clients.open_websockets(port, scenario.path, 300):
        sock.close()
    measure.settle(target.roots)
    before = measure.pss_by_side(target.pids())
    sockets = clients.open_websockets(port, scenario.path, scenario.connections)
    time.sleep(2)
    after = measure.pss_by_side(target.pids())
    kept = clients.still_open(sockets)
    for sock in sockets:
        sock.close()
    sample = {"requests": len(sockets), "kept": kept, "errors": len(sockets) - kept, "pss_mb": sum(after.values()) / 1e6}
    # A server that is all Python has no edge.
    sample |= {f"kib_{side}": (after[side] - before.get(side, 0)) / len(sockets) / 1024 for side in after}
    return sample


def burst(target: Target) -> dict:
    """Requests released at one moment, again and again: the median of the bursts' p50 and p99, and the greatest of all."""
    scenario = target.scenario
    answers, spent = [], 0
    fire = partial(loadgen.burst, target.load, target.port, scenario.path, scenario.connections)
    fire()  # threads, imports, allocator pools
    end = time.monotonic() + target.seconds
    while not answers or time.monotonic() < end:
        measure.settle(target.roots, 5)
        before = measure.cpu_ns(target.pids())
        answers.append(fire())
        spent += measure.cpu_ns(target.pids()) - before
    requests, errors = (sum(answer[key] for answer in answers) for key in ("requests", "errors"))
    whole = [answer for answer in answers if answer["requests"]]
    sample = {"requests": requests, "errors": errors, "cpu_us": spent / 1e3 / requests if requests else None}
    sample |= {key: median(answer[key] for answer in whole) if whole else None for key in ("p50_ms", "p99_ms")}
    sample["max_ms"] = max((answer["max_ms"] for answer in whole), default=None)
    return sample


WAIT_MS = 50.0  # how long the view of the kind "burst" waits
THREADS_MAX = 16  # Bandstand's default: requests of one worker that may wait on the bridge at once


def add_ideals(samples: dict[str, list[dict]], scenario: Scenario) -> None:
    """The ideal beside each row of a burst: the wait, and all requests at the bare cost of their road on all cores.

    On the bridge are as many requests as there may be waiting threads, the rest on the ASGI handler.
    """
    bare = {road: samples.get(f"{BARE}, {label}", []) for road, label in (("bridge", "bridge"), ("asgi", "ASGI handler"))}
    for row, found in samples.items():
        if row not in SERVERS or row == "mirror":
            continue
        bridged = min(scenario.connections, THREADS_MAX * scenario.workers) if SERVERS[row].road == "bridge" else 0
        for at, sample in enumerate(found):
            if at >= min(map(len, bare.values())) or sample["p99_ms"] is None:
                continue
            work_us = bridged * bare["bridge"][at]["cpu_us"] + (scenario.connections - bridged) * bare["asgi"][at]["cpu_us"]
            sample["ideal_ms"] = WAIT_MS + work_us / 1e3 / len(os.sched_getaffinity(0))
            sample["over_ideal"] = sample["p99_ms"] / sample["ideal_ms"]


def warm_up(target: Target) -> None:
    measure.wrk(target.url, target.scenario.connections, 1, target.scenario.accept)


def with_costs(target: Target, sample: dict, cpu_before: int) -> dict:
    pids = target.pids()
    spent = measure.cpu_ns(pids) - cpu_before
    sample["cpu_us"] = spent / 1e3 / sample["requests"] if sample["requests"] else None
    sample["pss_mb"] = measure.pss_bytes(pids) / 1e6
    return sample


def bare(python: Path, script: Path, folder: Path, env: dict[str, str], scenario: Scenario, seconds: float) -> dict:
    """The application called in a loop by the peers' Python, with no server."""
    answer = subprocess.run(
        [str(python), str(script), scenario.app, scenario.path, "--seconds", str(seconds), "--road", scenario.road,
         "--at-once", str(scenario.at_once)],
        cwd=folder, env=env, capture_output=True, text=True, timeout=seconds + 60,
    )
    if answer.returncode:
        raise RuntimeError(answer.stderr.strip()[-400:])
    return json.loads(answer.stdout)


KINDS = {"load": load, "download": download, "idle": idle, "slow": slow, "stall": stall, "rate": rate, "calls": calls,
         "echo": echo, "websockets": websockets, "burst": burst,
         "h2": h2, "h3": h3, "handshakes": handshakes, "tls-idle": tls_idle}
