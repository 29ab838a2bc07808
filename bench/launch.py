"""Starts the two peers that have no command line for several workers: `launch.py bjoern|fastpysgi APP PORT WORKERS`."""

import importlib
import os
import signal
import sys


def main() -> None:
    server, app, port, workers = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    sys.path.insert(0, os.getcwd())
    module, _, attribute = app.partition(":")
    start = {"bjoern": bjoern, "fastpysgi": fastpysgi}[server]
    start(getattr(importlib.import_module(module), attribute), port, workers)


def bjoern(app, port: int, workers: int) -> None:
    import bjoern

    def serve() -> None:
        # A listening socket for each worker: the kernel spreads the connections evenly.
        bjoern.run(app, "127.0.0.1", port, reuse_port=workers > 1)

    if workers == 1:
        serve()
        return
    children = []
    for _ in range(workers):
        child = os.fork()
        if child == 0:
            serve()
            os._exit(0)
        children.append(child)
    signal.signal(signal.SIGTERM, lambda *_: [os.kill(child, signal.SIGKILL) for child in children])
    for child in children:
        os.waitpid(child, 0)


def fastpysgi(app, port: int, workers: int) -> None:
    import fastpysgi

    fastpysgi.server.tcp_nodelay = 1
    fastpysgi.run(app, "127.0.0.1", port, loglevel=2, workers=workers)


if __name__ == "__main__":
    main()
