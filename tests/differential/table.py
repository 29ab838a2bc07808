"""The same raw requests to bandstand and to other parsers: no two that accept a case may understand it differently.

`python tests/differential/table.py` prints the table; `--write` writes `expected.txt` anew, which keeps the reasons that stand there.
The rule: of two parsers, the requests that both have read are the same requests, byte for byte of method, path and body; and where
both come to the end, both have read as many. A proxy and a server of which that is true cannot be made to disagree about where a request ends.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import parsers  # noqa: E402
from cases import CASES, SENTINEL  # noqa: E402

STRICT = ("h11", "nginx")
"""Those whose understanding must be ours where they accept. The others are in the table for comparison."""

EXPECTED = HERE / "expected.txt"


def outcomes(ours, others):
    """Name of the case → name of the parser → outcome."""
    def one(case):
        data = CASES[case] + SENTINEL
        return case, {name: read(data) for name, read in {"bandstand": ours, **others}.items()}

    with ThreadPoolExecutor(8) as pool:
        return dict(pool.map(one, CASES))


def libraries():
    """The parsers that are installed."""
    found = {}
    for make in (parsers.h11, parsers.httptools, parsers.gunicorn):
        try:
            found[make.__name__] = make()
        except ImportError:
            print(f"{make.__name__} is not installed, and left out", file=sys.stderr)
    return found


def disagree(one, other):
    """Why these two outcomes could be played against each other, or nothing."""
    (left, left_end), (right, right_end) = one, other
    both = min(len(left), len(right))
    if left[:both] != right[:both]:
        return "they read different requests"
    if left_end == right_end == "sentinel" and len(left) != len(right):
        return "they count different numbers of requests"
    for short, end, long in ((left, left_end, right), (right, right_end, left)):
        if end == "sentinel" and len(long) > len(short):
            return "what is one's next request is the other's too, but not the same"
    return None


def short(outcome):
    requests, end = outcome
    bodies = " ".join(str(len(body)) for _, _, body in requests)
    return f"{len(requests)} [{bodies}]" if end == "sentinel" else f"{len(requests)} [{bodies}] then {end}" if requests else end


def read_expected():
    """Name of the case → our outcome, and the reason where a strict parser decides otherwise."""
    rows = [line.split(" | ") for line in EXPECTED.read_text().splitlines() if line and not line.startswith("#")] if EXPECTED.exists() else []
    return {case.strip(): (outcome.strip(), reason.strip()) for case, outcome, reason in rows}


def differs(row):
    """The strict parsers that accept what we refuse, or the other way round."""
    accepts = {name: row[name][1] == "sentinel" for name in ("bandstand", *STRICT) if name in row}
    return [name for name in accepts if accepts[name] != accepts["bandstand"]]


def main():
    from server import Server

    import tempfile

    others = libraries()
    with tempfile.TemporaryDirectory() as folder:
        server = Server.start("echo:app", Path(folder), workers=1, pythonpath=HERE, access_log="off")
        try:
            with parsers.nginx() as nginx:
                table = outcomes(parsers.over_the_wire(server.address), {**others, "nginx": nginx})
        except ImportError as missing:
            print(f"{missing}: left out", file=sys.stderr)
            table = outcomes(parsers.over_the_wire(server.address), others)
        finally:
            server.stop()
    names = list(next(iter(table.values())))
    print(" | ".join(["case", *names]))
    faults = 0
    for case, row in table.items():
        print(" | ".join([case, *(short(row[name]) for name in names)]))
        for name in STRICT:
            if name in row and (why := disagree(row["bandstand"], row[name])):
                faults += 1
                print(f"  !! bandstand and {name}: {why}")
    if "--write" in sys.argv:
        reasons = read_expected()
        lines = [
            "# Case, what bandstand makes of it (requests read, with the lengths of their bodies, or the refusal), and why h11 or nginx decide otherwise",
            "# about accepting it, where they do. Written by table.py --write; the reasons are written by hand.",
        ]
        for case, row in table.items():
            reason = reasons.get(case, ("", "-"))[1]
            if differs(row) and reason == "-":
                reason = "? " + ", ".join(f"{name}: {short(row[name])}" for name in differs(row))
            lines.append(f"{case} | {short(row['bandstand'])} | {reason if differs(row) else '-'}")
        EXPECTED.write_text("\n".join(lines) + "\n")
    return faults


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
