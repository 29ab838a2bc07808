"""The numbers to show, as a table: what each line compares, and whether it is met.

A line is two figures and a bound on their ratio (or their difference, or the first alone). Figures are medians of
rounds; the range next to a ratio is that of the ratios of single rounds, where both sides ran one after the other.
A promise ("unaffected", "none held up") must hold in every round, and nothing is met by answers that went wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

OURS = "bandstand"
ASGI, BOTH = "bandstand-asgi", "bandstand-both"


@dataclass(frozen=True)
class Figure:
    scenario: str
    row: str
    metric: str


@dataclass(frozen=True)
class Line:
    text: str
    first: Figure
    how: str  # "ratio", "difference", "value", "spread"
    second: Figure | None
    sign: str  # ">=" or "<="
    bound: float
    more: tuple[Figure, ...] = ()  # for "spread": greatest over least of all figures
    every_round: bool = False  # must hold in the worst round, not in the median


def ratio(text: str, scenario: str, metric: str, peer: str, sign: str, bound: float, ours: str = OURS,
          every_round: bool = False) -> Line:
    return Line(text, Figure(scenario, ours, metric), "ratio", Figure(scenario, peer, metric), sign, bound,
                every_round=every_round)


def rate_row(variant: str) -> Figure:
    return Figure("rate", f"{OURS}, {variant}", "cpu_us")


LINES: list[Line] = [
    ratio("plain callable: requests/s against granian", "plain", "rps", "granian", ">=", 4.0),
    ratio("plain callable: requests/s against bjoern", "plain", "rps", "bjoern", ">=", 1.0),
    ratio("JSON view: requests/s against granian", "json", "rps", "granian", ">=", 1.35),
    ratio("JSON view: requests/s against fastpysgi", "json", "rps", "fastpysgi", ">=", 1.0),
    ratio("JSON view: requests/s against nginx+gunicorn", "json", "rps", "nginx+gunicorn", ">=", 2.3),
    ratio("JSON view: p99 against granian", "json", "p99_ms", "granian", "<=", 0.4),
    Line("JSON view: CPU a request above the bare call, µs", Figure("json", OURS, "cpu_us"), "difference",
         Figure("json", "bare", "cpu_us"), "<=", 15.0),
    ratio("list page: requests/s against nginx+gunicorn", "list", "rps", "nginx+gunicorn", ">=", 1.25),
    ratio("list page: p99 against nginx+gunicorn", "list", "p99_ms", "nginx+gunicorn", "<=", 0.9),
    ratio("list page: p99 against granian", "list", "p99_ms", "granian", "<=", 0.35),
    ratio("list page: p99 against fastpysgi", "list", "p99_ms", "fastpysgi", "<=", 0.35),
    ratio("file of 2 KB: requests/s against nginx", "static", "rps", "nginx, 2 KB", ">=", 1.0, f"{OURS}, 2 KB"),
    ratio("file of 10 MB: bytes/s against nginx", "static", "mb_s", "nginx, 10 MB", ">=", 0.8, f"{OURS}, 10 MB"),
    Line("10,000 idle connections: KiB each", Figure("idle", OURS, "kib_each"), "value", None, "<=", 6.0),
    # "Unaffected" as a number: the noise of a quiet machine from round to round.
    ratio("slow clients: requests/s with them against without", "slow", "rps", f"{OURS}, alone", ">=", 0.9,
          f"{OURS}, slow clients", every_round=True),
    ratio("slow clients: p99 with them against without", "slow", "p99_ms", f"{OURS}, alone", "<=", 1.25,
          f"{OURS}, slow clients"),
    ratio("slow clients: connections served with them against without", "slow", "served", f"{OURS}, alone", ">=", 0.9,
          f"{OURS}, slow clients", every_round=True),
    Line("one request of 6 s: of 20 fast requests, held up over 1 s", Figure("stall", OURS, "held_up"), "value", None, "<=", 0,
         every_round=True),
    Line("CPU a request at 1000/s: 2, 16, 64 workers, greatest over least", rate_row("2 workers, 64 connections"), "spread",
         None, "<=", 1.2, (rate_row("16 workers, 64 connections"), rate_row("64 workers, 64 connections"))),
    Line("CPU a request at 1000/s: 64 and 10,000 connections, greatest over least", rate_row("2 workers, 64 connections"),
         "spread", None, "<=", 1.2, (rate_row("2 workers, 10,000 connections"),)),
    ratio("plain ASGI callable: requests/s against granian", "asgi-plain", "rps", "granian-asgi", ">=", 1.5, ASGI),
    ratio("plain ASGI callable: requests/s against granian with `mt`", "asgi-plain", "rps", "granian-asgi-mt", ">=", 1.5, ASGI),
    ratio("plain ASGI callable: requests/s against uvicorn", "asgi-plain", "rps", "uvicorn", ">=", 2.8, ASGI),
    ratio("sync JSON view deployed for ASGI: requests/s against granian", "asgi-sync-json", "rps", "granian-asgi", ">=", 8.0, BOTH),
    ratio("sync JSON view deployed for ASGI: requests/s against uvicorn", "asgi-sync-json", "rps", "uvicorn", ">=", 8.0, BOTH),
    ratio("async JSON view: requests/s against granian", "asgi-async-json", "rps", "granian-asgi", ">=", 4.0, BOTH),
    ratio("async JSON view: requests/s against uvicorn", "asgi-async-json", "rps", "uvicorn", ">=", 5.0, BOTH),
    ratio("async JSON view: p99 against granian", "asgi-async-json", "p99_ms", "granian-asgi", "<=", 0.3, BOTH),
    ratio("async JSON view: p99 against uvicorn", "asgi-async-json", "p99_ms", "uvicorn", "<=", 0.3, BOTH),
    ratio("async JSON view, no bridge: requests/s against granian", "asgi-async-json", "rps", "granian-asgi", ">=", 1.05, ASGI),
    ratio("async JSON view, no bridge: requests/s against uvicorn", "asgi-async-json", "rps", "uvicorn", ">=", 1.05, ASGI),
    *(
        line
        for ours in (BOTH, ASGI)
        for line in (
            Line(f"500 at once, {ours}: p99 over the ideal", Figure("asgi-wait", ours, "over_ideal"), "value", None, "<=", 1.3),
            ratio(f"500 at once, {ours}: p99 against uvicorn", "asgi-wait", "p99_ms", "uvicorn", "<=", 1.0, ours),
        )
    ),
    ratio("WebSocket echo: messages/s against uvicorn", "ws-echo", "mps", "uvicorn, 1 worker", ">=", 1.5, f"{ASGI}, 1 worker"),
    ratio("WebSocket echo: messages/s against granian", "ws-echo", "mps", "granian-ws, 1 worker", ">=", 1.5, f"{ASGI}, 1 worker"),
    Line("5,000 WebSockets: KiB each, edge", Figure("ws-idle", ASGI, "kib_edge"), "value", None, "<=", 8.0),
    ratio("5,000 WebSockets: Python memory each against uvicorn", "ws-idle", "kib_python", "uvicorn", "<=", 1.0, ASGI),
    ratio("JSON view over HTTPS, HTTP/1.1: requests/s against nginx+gunicorn", "tls-json", "rps", "nginx+gunicorn-tls, HTTP/1.1", ">=",
          2.3, "bandstand-tls, HTTP/1.1"),
    ratio("JSON view over HTTPS, HTTP/2: requests/s against nginx+gunicorn", "tls-json", "rps", "nginx+gunicorn-tls, HTTP/2", ">=",
          2.3, "bandstand-tls, HTTP/2"),
    ratio("JSON view over HTTPS, HTTP/2: requests/s against granian", "tls-json", "rps", "granian-tls, HTTP/2", ">=", 1.3,
          "bandstand-tls, HTTP/2"),
    ratio("TLS handshakes/s, full, against nginx", "tls-handshakes", "rps", "nginx-tls, full", ">=", 1.0, "bandstand-tls, full"),
    ratio("TLS handshakes/s, resumed, against nginx", "tls-handshakes", "rps", "nginx-tls, resumed", ">=", 1.0,
          "bandstand-tls, resumed"),
    ratio("file of 2 KB, HTTP/1.1: requests/s against nginx", "static", "rps", "nginx, 2 KB", ">=", 1.2, f"{OURS}, 2 KB"),
    ratio("file of 2 KB over HTTPS, HTTP/1.1: requests/s against nginx", "tls-static", "rps", "nginx-tls, 2 KB, HTTP/1.1", ">=", 1.2,
          "bandstand-tls, 2 KB, HTTP/1.1"),
    ratio("file of 2 KB over HTTPS, HTTP/2: requests/s against nginx", "tls-static", "rps", "nginx-tls, 2 KB, HTTP/2", ">=", 1.2,
          "bandstand-tls, 2 KB, HTTP/2"),
    ratio("file of 10 MB, plain: bytes/s against nginx", "static", "mb_s", "nginx, 10 MB", ">=", 1.0, f"{OURS}, 10 MB"),
    ratio("file of 10 MB over HTTPS: bytes/s against nginx", "tls-static", "mb_s", "nginx-tls, 10 MB", ">=", 1.0, "bandstand-tls, 10 MB"),
    *(
        line
        for client in ("gzip", "a browser")
        for line in (
            ratio(f"100 KB of HTML compressed for {client}: answers/s against nginx gzip 5", "compress", "rps",
                  f"nginx+gunicorn-gzip, {client}", ">=", 2.0, f"{OURS}, {client}"),
            ratio(f"the same: size against nginx gzip 5 ({client})", "compress", "kb_answer", f"nginx+gunicorn-gzip, {client}", "<=",
                  1.0, f"{OURS}, {client}"),
        )
    ),
    ratio("file of 2 KB over HTTP/3: requests/s against caddy", "h3-static", "rps", "caddy", ">=", 1.2, "bandstand-h3"),
    ratio("10,000 idle TLS connections: KiB each against nginx", "tls-idle", "kib_each", "nginx-tls", "<=", 1.0, "bandstand-tls"),
]


def verdicts(results: dict) -> list[dict]:
    return [verdict(line, results) for line in LINES if line.first.scenario in results["scenarios"]]


def verdict(line: Line, results: dict) -> dict:
    figures = [figure for figure in (line.first, line.second, *line.more) if figure]
    series = [values(figure, results) for figure in figures]
    answer = {"text": line.text, "bound": f"{line.sign} {line.bound:g}", "met": None, "value": None, "low": None, "high": None}
    if not all(series):
        answer["why"] = "not measured: " + ", ".join(dict.fromkeys(figure.row for figure, found in zip(figures, series) if not found))
        return answer
    single = [combine(line.how, list(one)) for one in zip(*series)]
    value = combine(line.how, [median(one) for one in series])
    judged = single if line.every_round else [value]
    met = all(one >= line.bound if line.sign == ">=" else one <= line.bound for one in judged)
    answer |= {"value": value, "low": min(single), "high": max(single), "met": met,
               "figures": [median(one) for one in series]}
    if wrong := list(dict.fromkeys(figure.row for figure in figures if went_wrong(figure, results))):
        ours = any(row.startswith(OURS) for row in wrong)
        answer |= {"met": met and not ours, "why": f"requests went wrong: {', '.join(wrong)}"}
    return answer


def values(figure: Figure, results: dict) -> list[float]:
    samples = results["scenarios"][figure.scenario]["samples"].get(figure.row, [])
    found = [sample.get(figure.metric) for sample in samples]
    return [] if None in found else found


def went_wrong(figure: Figure, results: dict) -> bool:
    return any(sample.get("errors") for sample in results["scenarios"][figure.scenario]["samples"].get(figure.row, []))


def combine(how: str, numbers: list[float]) -> float:
    if how == "ratio":
        return numbers[0] / numbers[1] if numbers[1] else float("inf")
    if how == "difference":
        return numbers[0] - numbers[1]
    if how == "spread":
        return max(numbers) / min(numbers) if min(numbers) else float("inf")
    return numbers[0]
