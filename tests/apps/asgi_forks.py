"""An ASGI app that forks on its loop: `/forks/NAME` answers with its own number and the child's, which waits at the gate."""

import asyncio
import os

from probe import wait_at_gate


async def app(scope, receive, send):
    assert scope["type"] == "http"
    kind, name = scope["path"].strip("/").split("/")
    if kind == "forks":
        child = os.fork()
        if child == 0:
            wait_at_gate(name)
            os._exit(0)
        text = f"{os.getpid()} {child}"
    else:
        await asyncio.get_running_loop().run_in_executor(None, wait_at_gate, name)
        text = str(os.getpid())
    fields = [(b"content-type", b"text/plain"), (b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": text.encode()})
