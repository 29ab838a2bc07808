#!/usr/bin/env bash
# run.sh [HOST:PORT] [-- SUITE OPTIONS]: the public WebSocket suite against Bandstand, or against the echo server at HOST:PORT.
#
#   tests/conformance/run.sh                      the program in .venv (BANDSTAND_BIN for another), on a free port
#   tests/conformance/run.sh -- -i '5.*' -i 6.1.1   some cases; more options: target/conformance/venv/bin/kosoku --help
#   tests/conformance/run.sh 127.0.0.1:8000       a server that is already running
#
# Prints every case that failed, then "N passed of M". Exits 0 when none failed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
work=${CARGO_TARGET_DIR:-$root/target}/conformance
venv=$work/venv
suite=kosoku==0.1.0

server=
if [ $# -gt 0 ] && [ "$1" != -- ]; then
    server=$1
    shift
fi
[ "${1:-}" != -- ] || shift

mkdir -p "$work"
if ! "$venv/bin/python" -m pip show -q "${suite%%==*}" >/dev/null 2>&1; then
    "${PYTHON:-python3}" -m venv --clear "$venv"
    "$venv/bin/python" -m pip install -q --disable-pip-version-check "$suite"
fi

# Stopped by its number: whatever else runs here is not ours.
pid=
report=$(mktemp -d "$work/report.XXXXXX")
cleanup() {
    if [ -n "$pid" ]; then
        kill "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    fi
    rm -rf "$report"
}
trap cleanup EXIT

if [ -z "$server" ]; then
    bandstand=${BANDSTAND_BIN:-$root/.venv/bin/bandstand}
    log=$work/bandstand.log
    env -u BANDSTAND_BIN "$bandstand" serve echo:app --interface asgi --chdir "$here" --bind 127.0.0.1:0 --workers 2 --access-log off >"$log" 2>&1 </dev/null &
    pid=$!
    deadline=$((SECONDS + 60))
    until server=$(sed -n 's|.*bandstand: ready on http://\([^ ,/]*\).*|\1|p' "$log" | head -1) && [ -n "$server" ]; do
        if ! kill -0 "$pid" 2>/dev/null || [ "$SECONDS" -ge "$deadline" ]; then
            echo "bandstand did not become ready:" >&2
            cat "$log" >&2
            exit 1
        fi
        sleep 0.1
    done
fi

# The suite's exit status says less than its report. Two cases at a time: some of them measure time.
timeout 1800 "$venv/bin/kosoku" --mode fuzzingclient --parallelism 2 --outdir "$report" "$@" "$server" >"$work/suite.log" 2>&1 || true
"$venv/bin/python" "$here/tally.py" "$report/index.json"
