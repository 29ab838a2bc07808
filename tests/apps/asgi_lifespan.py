"""Apps that do with the lifespan protocol what apps do with it. Each answers HTTP with what it knows of it."""

import asyncio
import os

from asgi_probe import gate, reply_json
from probe import remark

STARTED = []


def site(lifespan):
    """An app with this lifespan."""

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            remark(f"lifespan {lifespan.__name__}")
            return await lifespan(scope, receive, send)
        remark(f"{scope['method']} {scope['path']}")
        await reply_json(send, {"started": STARTED, "state": "state" in scope and scope["state"].get("kept"), "pid": os.getpid()})

    return app


@site
async def good(scope, receive, send):
    assert (await receive())["type"] == "lifespan.startup"
    STARTED.append("good")
    scope["state"]["kept"] = "from the start"
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    # What shutting down takes is waited for.
    for _ in range(100):
        await asyncio.sleep(0)
    remark("shutdown complete")
    await send({"type": "lifespan.shutdown.complete"})


@site
async def failed(scope, receive, send):
    """Says that it cannot start, and why."""
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "the ministry of rain is closed"})


@site
async def unsupported(scope, receive, send):
    """As Django does: the scope is unknown, which is no reason not to serve."""
    raise ValueError("Django can only handle ASGI/HTTP connections, not lifespan.")


@site
async def raises_later(scope, receive, send):
    """An exception after the startup message, as Starlette's without `startup.failed`."""
    await receive()
    raise RuntimeError("the cellar is flooded")


@site
async def returns(scope, receive, send):
    """Ends at once, without a word."""


@site
async def slow(scope, receive, send):
    """Has started when the gate `startup` is opened: no request may come before."""
    await receive()
    await gate("startup")
    STARTED.append("slow")
    await send({"type": "lifespan.startup.complete"})
    await receive()
    remark("shutdown complete")
    await send({"type": "lifespan.shutdown.complete"})


@site
async def shutdown_failed(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.failed", "message": "the lights would not go out"})


@site
async def shutdown_never(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    remark("shutdown begun")
    await asyncio.get_running_loop().create_future()
