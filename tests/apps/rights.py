"""Tells who it runs as, and tries to open what it is asked to."""

import json
import os
from urllib.parse import unquote


def status() -> dict[str, list[str]]:
    with open("/proc/self/status") as file:
        return {name: value.split() for name, _, value in (line.partition(":") for line in file)}


def app(environ, start_response):
    if environ["PATH_INFO"] == "/open":
        try:
            with open(unquote(environ["QUERY_STRING"]), "rb") as file:
                answer = f"opened, {len(file.read(1))}"
        except OSError as error:
            answer = type(error).__name__
    else:
        said = status()
        answer = {name: said[name] for name in ("Uid", "Gid", "Groups", "NoNewPrivs", "CapEff", "CapPrm", "CapAmb")} | {"parent": os.getppid()}
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps(answer).encode()]
