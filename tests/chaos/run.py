"""Prints the table of what clients see while everything happens to the workers.

    python tests/chaos/run.py                 the whole table, some ten minutes; a quiet machine
    python tests/chaos/run.py --short         each thing happens once or twice
    python tests/chaos/run.py --only reload stop

The program is the one of `BANDSTAND_BIN`, the project a copy of examples/shop. Exit status 1 when a line is not met. `make
test` runs the short form and asserts the counts, never the times (tests/test_74_chaos.py).
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scenarios import TABLE, Line, Scene  # noqa: E402
from server import ROOT, manage  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--only", nargs="+", choices=[name for name, *_ in TABLE])
    options = parser.parse_args()
    met = True
    with tempfile.TemporaryDirectory() as folder:
        shop = prepare(Path(folder) / "shop")
        for name, scenario, whole, short in TABLE:
            if options.only and name not in options.only:
                continue
            started = time.monotonic()
            line = play(scenario, shop, Path(folder) / name, short if options.short else whole)
            met = met and line.met
            show(line, time.monotonic() - started)
    return 0 if met else 1


def prepare(shop: Path) -> Path:
    leave = shutil.ignore_patterns("db.sqlite3*", "media", "media-*", "staticfiles", ".secret_key", "__pycache__", "bandstand.toml")
    shutil.copytree(ROOT / "examples/shop", shop, ignore=leave)
    manage(shop, "migrate", "--verbosity", "0")
    manage(shop, "fill", "--products", "40")
    manage(shop, "collectstatic", "--noinput", "--verbosity", "0")
    return shop


def play(scenario, shop: Path, folder: Path, size: int) -> Line:
    folder.mkdir()
    scene = Scene(shop, folder)
    try:
        return scenario(scene, size)
    finally:
        scene.stop()


def show(line: Line, seconds: float) -> None:
    print(f"{'met    ' if line.met else 'NOT MET'} {line.name}  ({seconds:.0f} s)")
    for what, seen, wanted in line.counts:
        print(f"          {what}: {seen} (must be {wanted})")
    for what, seen, limit in line.times:
        print(f"          {what}: {seen:.2f} (at most {limit:g})")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
