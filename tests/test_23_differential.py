"""No two parsers that accept a request may read it differently: the cases of `differential/`, with whatever parsers are installed.

What bandstand makes of each case is in `differential/expected.txt`, with the reason where h11 or nginx decide otherwise. Checklist part 2,
rows 1 to 15.
"""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "differential"))

import parsers  # noqa: E402
import table as found  # noqa: E402
from cases import CASES  # noqa: E402
from server import Server  # noqa: E402


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    server = Server.start("echo:app", tmp_path_factory.mktemp("echo"), workers=1, pythonpath=found.HERE, access_log="off")
    ours, others = parsers.over_the_wire(server.address), found.libraries()
    try:
        try:
            with parsers.nginx() as nginx:
                return found.outcomes(ours, {**others, "nginx": nginx})
        except ImportError:
            return found.outcomes(ours, others)
    finally:
        server.stop()


def test_rows_1_to_15_each_case_is_decided_as_written_down(table):
    expected = {case: outcome for case, (outcome, _) in found.read_expected().items()}
    assert expected == {case: found.short(row["bandstand"]) for case, row in table.items()}


@pytest.mark.parametrize("other", found.STRICT)
def test_rows_1_to_7_nobody_reads_another_request(table, other):
    rows = [(case, row["bandstand"], row[other]) for case, row in table.items() if other in row]
    if not rows:
        pytest.skip(f"{other} is not installed")
    assert not [(case, why) for case, ours, theirs in rows if (why := found.disagree(ours, theirs))]
    # The comparison says something only where both accept.
    assert sum(ours[1] == theirs[1] == "sentinel" for _, ours, theirs in rows) > 25


def test_every_difference_has_a_reason(table):
    reasons = {case: reason for case, (_, reason) in found.read_expected().items()}
    assert set(reasons) == set(CASES)
    assert not [case for case, reason in reasons.items() if reason.startswith("?")]
    assert not [case for case, row in table.items() if found.differs(row) and reasons[case] == "-"]


@pytest.mark.parametrize(
    ("one", "other", "wrong"),
    [
        (([("GET", "/", b"")], "sentinel"), ([("GET", "/", b"")], "sentinel"), False),
        (([("GET", "/", b"")], "sentinel"), ([], "refused 400"), False),
        (([("GET", "/", b"")], "sentinel"), ([("GET", "/", b"")], "refused 400"), False),
        (([("POST", "/", b"a")], "sentinel"), ([("POST", "/", b"")], "refused 400"), True),
        (([("POST", "/", b"a")], "sentinel"), ([("POST", "/", b"a"), ("GET", "/b", b"")], "cut"), True),
        (([("POST", "/", b"")], "sentinel"), ([("POST", "/", b""), ("X", "/", b"")], "sentinel"), True),
    ],
)
def test_what_counts_as_reading_another_request(one, other, wrong):
    assert bool(found.disagree(one, other)) == wrong
