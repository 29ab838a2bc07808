"""The table of tests/chaos in its short form: what clients see while everything happens to the workers.

Only counts are asserted here; times and memory are for the whole table (`python tests/chaos/run.py`).
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent / "chaos"))

from run import play  # noqa: E402
from scenarios import TABLE  # noqa: E402

COUNTED = [(name, scenario, short) for name, scenario, _, short in TABLE if name not in ("crash", "memory")]


@pytest.mark.parametrize("scenario, size", [pytest.param(scenario, short, id=name) for name, scenario, short in COUNTED])
def test_what_clients_see(scenario, size, shop_folder, tmp_path):
    short = {"boot": 0.5} if scenario.__name__ == "reload" else {}
    line = play(lambda scene, size: scenario(scene, size, **short), shop_folder, tmp_path / "scene", size)
    assert line.kept, line
