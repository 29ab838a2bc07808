"""Does the edge grow? `python3 bench/growth.py`: a million mixed requests through one server, and its memory on the way.

Small and large, kept alive and closed, sync and async, files, refusals, uploads that are spooled; nothing is restarted. What is
counted is the memory that is the edge's own (`RssAnon`; pages of the program come and go with the kernel's wishes), a second after
each slice of load. It goes up and down by a tenth with what the allocator has just given back; what leaks raises its low-water mark.
The first tenth is the warm-up; the growth is from the least of the next three tenths to the least of the last three. Needs wrk.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
import threading
import time
from pathlib import Path

MIX = """
local requests, at = {}, 0
init = function()
  for _, path in ipairs({"/api/ping/", "/api/ping/async/", "/static/shop/shop.css", "/nothing/", "/-/live",
                         "/api/products/", "/api/ping/?q=" .. string.rep("x", 500)}) do
    requests[#requests + 1] = wrk.format("GET", path)
  end
  requests[#requests + 1] = wrk.format("POST", "/api/ping/", {["Content-Type"] = "text/plain"}, string.rep("b", 20000))
  requests[#requests + 1] = wrk.format("POST", "/api/ping/", {["Content-Type"] = "text/plain"}, string.rep("b", 200000))
  requests[#requests + 1] = wrk.format("GET", "/api/ping/", {["Connection"] = "close"})
end
request = function()
  at = at + 1
  return requests[at % #requests + 1]
end
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--bandstand", type=Path, default=Path(__file__).parent.parent / ".venv/bin/bandstand")
    parser.add_argument("--project", type=Path, default=Path(__file__).parent.parent / "examples/shop")
    options = parser.parse_args()
    server = subprocess.Popen(
        [options.bandstand.absolute(), "serve", "--bind", "127.0.0.1:0", "--workers", "2", "--access-log", "off"],
        cwd=options.project, stderr=subprocess.PIPE, text=True,
    )
    try:
        url = next(found[1] for line in server.stderr if (found := re.search(r"ready on (http://\S+)", line)))
        threading.Thread(target=server.stderr.read, daemon=True).start()
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
            script.write(MIX)
            script.flush()
            watch(server.pid, url, script.name, options.requests)
    finally:
        server.terminate()
        server.wait()


def watch(pid: int, url: str, script: str, wanted: int) -> None:
    done, seen = 0, []
    while done < wanted:
        ran = subprocess.run(["wrk", "-t1", "-c64", "-d10s", "-s", script, url], capture_output=True, text=True, check=True)
        done += int(re.search(r"(\d+) requests in", ran.stdout)[1])
        time.sleep(1)
        seen.append((done, resident(pid)))
        print(f"{done:>9,} requests  {seen[-1][1]:>7,} KiB", flush=True)
    before = min(held for at, held in seen if wanted * 0.1 <= at <= wanted * 0.4)
    after = min(held for at, held in seen if at >= wanted * 0.7)
    print(f"{before:,.0f} KiB after the warm-up, {after:,.0f} KiB at the end: {100 * (after - before) / before:+.2f} %")


def resident(pid: int) -> int:
    """KiB of the edge that no file is behind."""
    return int(re.search(r"RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])


if __name__ == "__main__":
    main()
