"""From a save to the first answer of the new code: `bandstand dev` against Django's `runserver`, in turn.

    python bench/dev_reload.py --bandstand .venv/bin/bandstand --rounds 15 [--out bench/results/NAME.json]

Each serves a copy of examples/shop with DEBUG. A round saves a view (a new file takes the name of the old one), then asks
that view until the answer is the new one. Rounds alternate, so that what else the machine does meets both. `runserver` is
as it comes, with its `StatReloader`. Nothing is written but with `--out`.
"""

import argparse
import http.client
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAUSE = 0.005
LONGEST = 60.0


class Served:
    """One server of its own copy of the shop."""

    def __init__(self, name, folder, command, env):
        self.name, self.folder = name, folder
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.path = folder / "shop/views/api.py"
        self.source = self.path.read_text()
        self.log = open(folder.parent / f"{name}.log", "w")
        command = [part.replace("PORT", str(self.port)) for part in command]
        self.process = subprocess.Popen(command, cwd=folder, env=env, stdout=self.log, stderr=self.log, start_new_session=True)

    def save(self, mark):
        fresh = self.path.with_suffix(".new")
        fresh.write_text(self.source + f"\n\ndef ping(request):\n    return JsonResponse({{'mark': {mark!r}}})\n")
        os.replace(fresh, self.path)

    def ask(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=LONGEST)
        try:
            connection.request("GET", "/api/ping/")
            answer = connection.getresponse()
            return json.loads(answer.read()) if answer.status == 200 else None
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()

    def await_mark(self, mark):
        """Seconds from now until the answer has the mark."""
        started = time.perf_counter()
        while time.perf_counter() - started < LONGEST:
            told = self.ask()
            if told and (mark is None or told.get("mark") == mark):
                return time.perf_counter() - started
            time.sleep(PAUSE)
        raise SystemExit(f"{self.name} did not answer with {mark}; its log: {self.log.name}")

    def stop(self):
        os.killpg(self.process.pid, 15)
        self.process.wait(30)
        self.log.close()


def copy_shop(folder, env):
    leave = shutil.ignore_patterns("db.sqlite3*", "media*", "staticfiles", ".secret_key", "__pycache__", "bandstand.toml")
    shutil.copytree(ROOT / "examples/shop", folder, ignore=leave)
    for command in (["migrate", "-v0"], ["fill", "--products", "40"]):
        subprocess.run([sys.executable, "manage.py", *command], cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL)


def measure(bandstand, rounds, more):
    env = {name: value for name, value in os.environ.items() if not name.startswith(("BANDSTAND_", "DJANGO_")) or name == "BANDSTAND_PYTHON"}
    env |= {"SHOP_DEBUG": "1", "PYTHONUNBUFFERED": "1"}
    commands = {
        "runserver": [sys.executable, "manage.py", "runserver", "127.0.0.1:PORT"],
        "bandstand": [bandstand, "dev", "--bind=127.0.0.1:PORT", *more],
    }
    with tempfile.TemporaryDirectory(prefix="dev-reload-") as scratch:
        first = Path(scratch) / "shop"
        copy_shop(first, env)
        served = []
        for name, command in commands.items():
            folder = Path(scratch) / name / "shop"
            shutil.copytree(first, folder)
            served.append(Served(name, folder, command, env))
        try:
            for one in served:
                one.await_mark(None)
            times = {one.name: [] for one in served}
            for turn in range(rounds + 1):
                for one in served:
                    # Another moment of the second in each round: a reloader that polls is lucky in some and not in others.
                    time.sleep(0.3 + (turn * 0.37) % 1.0)
                    one.save(f"round-{turn}")
                    took = one.await_mark(f"round-{turn}")
                    if turn:  # the first writes byte code
                        times[one.name].append(took)
        finally:
            for one in served:
                one.stop()
    return times


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bandstand", default=str(ROOT / ".venv/bin/bandstand"))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--out", type=Path)
    parser.add_argument("more", nargs="*", help="further flags for bandstand dev, after --")
    asked = parser.parse_args()
    times = measure(os.path.abspath(asked.bandstand), asked.rounds, asked.more)
    medians = {name: statistics.median(taken) for name, taken in times.items()}
    for name, taken in times.items():
        print(f"{name:<10} median {medians[name]:.3f} s   {min(taken):.3f} … {max(taken):.3f}   {len(taken)} rounds")
    ratio = medians["bandstand"] / medians["runserver"]
    print(f"ratio      {ratio:.2f}")
    if asked.out:
        told = {"seconds": times, "median": medians, "ratio": ratio, "cpus": os.cpu_count(), "python": platform.python_version()}
        asked.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
