"""What the suite's report says, in few lines: `tally.py index.json`. Exit status 0 when no case failed.

A case passes when both its messages and the way the connection was closed are OK, NON-STRICT (allowed by RFC 6455,
though not what the suite likes best) or INFORMATIONAL. One that was not run because permessage-deflate was not agreed on
is UNIMPLEMENTED, and fails.
"""

import json
import sys
from collections import Counter
from pathlib import Path

GOOD = {"OK", "NON-STRICT", "INFORMATIONAL"}


def main() -> None:
    report = Path(sys.argv[1])
    if not report.exists():
        sys.exit("the suite wrote no report: see target/conformance/suite.log")
    (cases,) = json.loads(report.read_text()).values()
    failed = {name: case for name, case in cases.items() if not {case["behavior"], case["behaviorClose"]} <= GOOD}
    for name in sorted(failed, key=by_number):
        print(f"{name}: {failed[name]['behavior']}, close {failed[name]['behaviorClose']}")
    counts = Counter(case["behavior"] for case in cases.values())
    print(", ".join(f"{word} {count}" for word, count in counts.most_common()))
    print(f"{len(cases) - len(failed)} passed of {len(cases)}")
    sys.exit(1 if failed or not cases else 0)


def by_number(name: str) -> list[int]:
    return [int(part) for part in name.split(".")]


if __name__ == "__main__":
    main()
