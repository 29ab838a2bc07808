"""Builds and runs `load.c`, the clients whose own cost must be small.

It is compiled once for each run of the benchmark, into its scratch folder. Without a C compiler the scenarios that need
it are reported with that reason, and the others go on.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
MESSAGE_BYTES = 100


def build(scratch: Path, say) -> Path | None:
    """The program, or None where it cannot be had."""
    compiler, program = shutil.which("cc"), scratch / "load"
    if compiler is None:
        return None
    answer = subprocess.run([compiler, "-O2", "-o", str(program), str(HERE / "load.c")], capture_output=True, text=True)
    if answer.returncode:
        say(f"load.c does not compile: {answer.stderr.strip()[-300:]}")
        return None
    return program


def burst(program: Path, port: int, path: str, count: int) -> dict:
    """`count` requests released at one moment, on as many connections opened before; latencies count from that moment."""
    return run(program, ["burst", port, path, count], 60)


def echo(program: Path, port: int, path: str, clients: int, seconds: float) -> dict:
    """Each client sends a message and waits for it to come back, for some seconds."""
    sample = run(program, ["echo", port, path, clients, seconds, MESSAGE_BYTES], seconds + 60)
    sample["mps"] = sample["requests"] / sample["wall_s"]
    # Little's law, as for wrk: how many of the clients were being served on average.
    sample["served"] = sample["mps"] * sample.get("mean_ms", 0) / 1e3
    sample["connections"] = clients
    return sample


def run(program: Path | None, words: list, timeout_s: float) -> dict:
    if program is None:
        raise RuntimeError("needs a C compiler for load.c (apt install gcc libc6-dev)")
    answer = subprocess.run([str(program), *map(str, words)], capture_output=True, text=True, timeout=timeout_s)
    if answer.returncode:
        raise RuntimeError(answer.stderr.strip()[-300:] or f"load ended with status {answer.returncode}")
    return json.loads(answer.stdout)
