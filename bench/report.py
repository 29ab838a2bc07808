"""Results as JSON and as Markdown: the verdict on each number to show, then each scenario with median, least, greatest."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

import targets
from scenarios import SCENARIOS

# metric: (heading, digits). A column appears where any row of the scenario has the figure.
COLUMNS = {
    "rps": ("requests/s", 0), "mps": ("messages/s", 0), "mb_s": ("MB/s", 0), "p50_ms": ("p50 ms", 2), "p99_ms": ("p99 ms", 2),
    "max_ms": ("greatest ms", 1), "ideal_ms": ("ideal ms", 1), "over_ideal": ("p99 over ideal", 2),
    "cpu_us": ("CPU µs a request", 1), "message_us": ("CPU µs a message", 1), "pss_mb": ("PSS MB", 1),
    "kib_each": ("KiB a connection", 2), "kib_edge": ("edge: KiB a connection", 2), "kib_python": ("Python: KiB a connection", 2),
    "kb_answer": ("KB an answer", 1),
    "kept": ("kept open", 0), "held_up": ("held up of 20", 0), "slowest_s": ("slowest s", 3), "served": ("connections served", 1),
    "errors": ("errors", 0),
    "reconnects": ("reconnects", 0),
}
# Kinds of scenario for which a column says nothing new.
HIDDEN = {"mb_s": {"slow", "calls"}, "reconnects": {"load", "slow"}, "p50_ms": {"calls"}, "p99_ms": {"calls"},
          "max_ms": {"echo"}}

# Scenarios in which Bandstand runs an event loop.
ASGI = {name for name, scenario in SCENARIOS.items() if "asgi" in scenario.app}


def write(results: dict, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    base = folder / f"{results['date']}-{results['name']}"
    results = results | {"summary": summaries(results), "targets": targets.verdicts(results)}
    json_path, text_path = base.with_suffix(".json"), base.with_suffix(".md")
    json_path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    text_path.write_text(markdown(results))
    return [json_path, text_path]


def summaries(results: dict) -> dict:
    return {
        name: {row: summary(samples) for row, samples in scenario["samples"].items() if samples}
        for name, scenario in results["scenarios"].items()
    }


def summary(samples: list[dict]) -> dict:
    """Median, least and greatest of each figure over the rounds."""
    answer = {}
    for metric in dict.fromkeys(key for sample in samples for key in sample):
        found = [sample[metric] for sample in samples if isinstance(sample.get(metric), (int, float))]
        if found:
            answer[metric] = {"median": median(found), "min": min(found), "max": max(found)}
    return answer


def markdown(results: dict) -> str:
    parts = [head(results), verdict_table(results)]
    parts += [scenario_table(name, scenario) for name, scenario in results["scenarios"].items()]
    return "\n\n".join(part for part in parts if part) + "\n"


def head(results: dict) -> str:
    machine, settings = results["machine"], results["settings"]
    peers = ", ".join(f"{name} {version}" for name, version in results["versions"]["peers"].items())
    own = ", ".join(f"{name} {version}" for name, version in results["versions"]["bandstand"].items()) or "not there"
    lines = [
        f"# Measured on {results['date']}: {results['name']}",
        "",
        f"- Machine: {machine['cpu']}, {machine['cores']} cores{' (virtual)' if machine['virtual'] else ''}, "
        f"{machine['memory_mib'] / 1024:.1f} GiB, Linux {machine['kernel']}, {machine['system']}; client on the same machine; "
        f"load before the run {machine['load_before']:.2f}",
        f"- {settings['rounds']} rounds of {settings['seconds']:g} s in turn, {results['minutes']:.0f} minutes; "
        f"commit {machine['commit']}; {machine['wrk']}",
        f"- Bandstand: {own}",
        f"- Peers: {peers}",
    ]
    lines += warnings(results)
    return "\n".join(lines)


def warnings(results: dict) -> list[str]:
    found = [f"- Not installed: {package}: {reason}" for package, reason in results["not_installed"].items()]
    own, peers = results["versions"]["bandstand"], results["versions"]["peers"]
    for name in ("python", "django"):
        if name in own and name in peers and own[name] != peers[name]:
            found.append(f"- **Not the same {name}**: Bandstand {own[name]}, peers {peers[name]}")
    if own and "uvloop" in peers and "uvloop" not in own and any(name in ASGI for name in results["scenarios"]):
        found.append("- **No uvloop for Bandstand**: its environment has none, so its loop is asyncio's; the peers have it")
    if results["settings"]["quick"]:
        found.append("- **A quick run**: it shows that everything runs; the figures decide nothing")
    if results["machine"]["load_before"] > 0.5:
        found.append("- **The machine was not quiet** when the run began")
    return found


def verdict_table(results: dict) -> str:
    verdicts = targets.verdicts(results)
    if not verdicts:
        return ""
    lines = ["## Numbers to show", "", "| | at least / at most | measured | single rounds | |", "| --- | --- | --- | --- | --- |"]
    for one in verdicts:
        if one["met"] is None:
            lines.append(f"| {one['text']} | {one['bound']} | – | – | {one['why']} |")
        else:
            word = ("met" if one["met"] else "**not met**") + (f"; {one['why']}" if "why" in one else "")
            lines.append(f"| {one['text']} | {one['bound']} | {one['value']:.2f} | {one['low']:.2f}–{one['high']:.2f} | {word} |")
    return "\n".join(lines)


def scenario_table(name: str, scenario: dict) -> str:
    rows = {row: summary(samples) for row, samples in scenario["samples"].items() if samples}
    columns = [
        (metric, heading, digits) for metric, (heading, digits) in columns_of(rows).items()
        if scenario["kind"] not in HIDDEN.get(metric, ()) and (metric != "mb_s" or name == "static")
    ]
    lines = [f"## {scenario['title']}", ""]
    if rows:
        lines += ["| | " + " | ".join(heading for _, heading, _ in columns) + " |", "| --- |" + " ---: |" * len(columns)]
    for row, figures in rows.items():
        cells = [cell(metric, figures.get(metric), digits) for metric, _, digits in columns]
        mark = (" ⚠" if went_wrong(figures) else "") + (" ‡" if starved(figures) else "")
        lines.append(f"| {row}{mark} | " + " | ".join(cells) + " |")
    if any(map(went_wrong, rows.values())):
        lines += ["", "⚠ some requests went wrong (refused, timed out, or not 2xx): the row is not a fair figure of speed."]
    if any(map(starved, rows.values())):
        lines += ["", "‡ less than half of the connections were being served on average, the others starved or the client was"
                  " the limit: p50 and p99 speak only of requests that were answered."]
    details = {row: samples[-1]["detail"] for row, samples in scenario["samples"].items() if samples and samples[-1].get("detail")}
    if details:
        lines += ["", "System calls a request by name, under strace (which slows all of it down), the six most frequent:", ""]
        lines += [f"- {row}: {detail}" for row, detail in details.items()]
    if scenario["failures"]:
        lines += ["", *(f"- {row}: not measured: {reason}" for row, reason in scenario["failures"].items())]
    return "\n".join(lines)


def went_wrong(figures: dict) -> bool:
    return bool(figures.get("errors", {}).get("max"))


def starved(figures: dict) -> bool:
    return "served" in figures and figures["served"]["median"] < figures["connections"]["median"] / 2


def columns_of(rows: dict) -> dict[str, tuple[str, int]]:
    present = dict.fromkeys(metric for figures in rows.values() for metric in figures)
    answer = {metric: column for metric, column in COLUMNS.items() if metric in present}
    for metric in present:
        kind, _, side = metric.partition("_")
        if kind in ("calls", "wakeups"):
            answer[metric] = (f"{'system calls' if kind == 'calls' else 'wake-ups'} a request, {side}", 2)
    return answer


def cell(metric: str, figure: dict | None, digits: int) -> str:
    """Median, with least and greatest behind it where they differ."""
    if figure is None:
        return ""
    middle, least, most = (number(figure[key], digits) for key in ("median", "min", "max"))
    return middle if least == most else f"{middle} ({least}–{most})"


def number(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}"


def brief(sample: dict) -> str:
    """One sample on one line, for those who watch."""
    shown = [
        f"{number(sample[metric], digits)} {heading}" for metric, (heading, digits) in columns_of({"": sample}).items()
        if isinstance(sample.get(metric), (int, float)) and (metric != "errors" or sample[metric])
    ]
    return ", ".join(shown)
