"""A worker of nothing but the loop, for the tests of `bandstand.asgi`: serves `application` of `app.py`.

As `bandstand.worker` does it, without what it finds out about projects.
"""

import os
import sys
from types import SimpleNamespace

from bandstand import asgi


def main():
    taken = {name[10:].lower(): os.environ.pop(name) for name in list(os.environ) if name.startswith("BANDSTAND_")}
    numbers = {name: int(taken[name]) for name in ("channel_fd", "loop_fd", "board_fd")}
    options = SimpleNamespace(
        **numbers,
        guard_fd=int(taken.get("guard_fd", -1)),
        tasks=int(taken.get("tasks", 1000)),
        loop=taken.get("loop", "asyncio"),
        lifespan=taken.get("lifespan", "auto"),
    )
    sys.path.insert(0, os.getcwd())
    import app

    return asgi.serve(SimpleNamespace(asgi=app.application, wsgi=None, interface="asgi"), options, {})


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)
