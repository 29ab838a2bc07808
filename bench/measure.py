"""What the kernel says about a server: its processes, their CPU time, memory, system calls and wake-ups; and wrk's words.

Nothing here knows a server by name. All processes of the server are counted: the ones started, their descendants, and
everything else in their sessions. Source: proc(5), clock_getcpuclockid(3).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def tree(roots: list[int]) -> list[int]:
    """Ids of the living processes that descend from `roots` or share a session with one of them."""
    parent_of, session_of = {}, {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (fields := stat(int(entry.name))):
            parent_of[int(entry.name)], session_of[int(entry.name)] = int(fields[1]), int(fields[3])
    found = {pid for pid in parent_of if pid in roots or session_of[pid] in roots}
    while more := {pid for pid, parent in parent_of.items() if parent in found} - found:
        found |= more
    return sorted(found)


def stat(pid: int) -> list[str] | None:
    """Fields of /proc/PID/stat from the state on (field 3 in proc(5)); None once the process has gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def cpu_ns(pids: list[int]) -> int:
    """CPU time in nanoseconds of all threads that these processes had or have, and of children they waited for."""
    total = 0
    for pid in pids:
        fields = stat(pid)
        if fields is None:
            continue
        total += (int(fields[13]) + int(fields[14])) * TICK_NS  # children waited for
        try:
            total += time.clock_gettime_ns(((~pid) << 3) | 2)  # the process's CPU clock: utime + stime, not in ticks
        except OSError:
            total += (int(fields[11]) + int(fields[12])) * TICK_NS
    return total


def pss_bytes(pids: list[int]) -> int:
    """Proportional set size: pages shared by several processes are divided among them."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def pss_by_side(pids: list[int]) -> dict[str, int]:
    """PSS of the processes that are Python, and of all others together."""
    answer: dict[str, int] = {}
    for side, members in sides(pids).items():
        side = side if side == "python" else "edge"
        answer[side] = answer.get(side, 0) + pss_bytes(members)
    return answer


def wakeups(pids: list[int]) -> int:
    """How often the threads went to sleep of their own accord, and so had to be woken."""
    total = 0
    for pid in pids:
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            try:
                text = status.read_text()
            except OSError:
                continue
            total += int(text.split("\nvoluntary_ctxt_switches:")[1].split()[0])
    return total


def sides(pids: list[int]) -> dict[str, list[int]]:
    """Processes by the name of their program, so that a front and its Python workers are told apart."""
    groups: dict[str, list[int]] = {}
    for pid in pids:
        try:
            name = os.path.basename(os.readlink(f"/proc/{pid}/exe")).removesuffix(" (deleted)")
        except OSError:
            continue
        groups.setdefault("python" if name.startswith("python") else name, []).append(pid)
    return groups


def settle(roots: list[int], deadline_s: float = 120.0) -> None:
    """Waits until the server is quiet: workers that are still importing would be counted as work."""
    end, quiet = time.monotonic() + deadline_s, 0
    before = cpu_ns(tree(roots))
    while quiet < 2 and time.monotonic() < end:
        time.sleep(0.25)
        now = cpu_ns(tree(roots))
        quiet = quiet + 1 if now - before < 20_000_000 else 0
        before = now


def wrk(url: str, connections: int, seconds: float, accept: str = "") -> dict:
    """One run of wrk with one thread: the closed loop of the issue's table."""
    fields = ["-H", f"Accept-Encoding: {accept}"] if accept else []
    answer = subprocess.run(
        ["wrk", *fields, "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s", "-s", str(HERE / "wrk.lua"), url],
        capture_output=True, text=True, timeout=seconds + 60,
    )
    if "@@" not in answer.stdout:
        raise RuntimeError(f"wrk failed: {(answer.stderr or answer.stdout).strip()[-300:]}")
    raw = json.loads(answer.stdout.split("@@")[1])
    wall = raw["wall_us"] / 1e6
    return {
        "requests": raw["requests"],
        "rps": raw["requests"] / wall,
        # wrk says 0 where nothing was answered at all: no figure, rather than the best of all.
        "p50_ms": raw["p50_us"] / 1e3 if raw["requests"] else None,
        "p99_ms": raw["p99_us"] / 1e3 if raw["requests"] else None,
        "mb_s": raw["bytes"] / wall / 1e6,
        # Little's law: how many of the connections were being served on average. wrk's percentiles say nothing of a
        # connection that never got an answer; where some starve, this falls below the number that was opened.
        "served": raw["requests"] / wall * raw["mean_us"] / 1e6,
        "connections": connections,
        "errors": raw["non_2xx"] + raw["connect"] + raw["read"] + raw["write"] + raw["timeout"],
        "non_2xx": raw["non_2xx"],
        "timeouts": raw["timeout"],
    }


class CallCounter:
    """Counts the system calls of some processes from start to stop, by `perf stat` (cheap, no names)."""

    def __init__(self, pids: list[int]) -> None:
        self.process = subprocess.Popen(
            ["perf", "stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-p", ",".join(map(str, pids))],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )

    def stop(self) -> int | None:
        """None where perf is not there or may not count."""
        text = finish(self.process)
        for line in text.splitlines():
            if "raw_syscalls" in line and (count := line.split(",")[0]).isdigit():
                return int(count)
        return None


class CallNames:
    """Counts system calls by name with `strace -c -f`: slows the server down a lot, so only the shares mean something."""

    def __init__(self, pids: list[int], scratch: Path, side: str) -> None:
        self.output = scratch / f"strace-{side}.txt"
        chosen = [word for pid in pids for word in ("-p", str(pid))]
        self.process = subprocess.Popen(
            ["strace", "-c", "-f", "-q", "-o", str(self.output), *chosen],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )

    def stop(self) -> Counter[str]:
        finish(self.process)
        calls: Counter[str] = Counter()
        for line in self.output.read_text().splitlines() if self.output.exists() else []:
            words = line.split()
            # "% time, seconds, usecs/call, calls, [errors], name"
            if len(words) in (5, 6) and words[3].isdigit() and words[-1] != "total":
                calls[words[-1]] += int(words[3])
        return calls


def finish(process: subprocess.Popen) -> str:
    process.send_signal(signal.SIGINT)
    try:
        return process.communicate(timeout=20)[1] or ""
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[1] or ""
