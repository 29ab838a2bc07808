"""One path for each thing ASGI 3 lets a WebSocket app do, and for each it forbids. TABLE at the end.

Over HTTP it answers with the number of WebSockets that are open here.
"""

import asyncio
import json
import os

import asgi_probe
from asgi_probe import gate, last, reply_json, told
from probe import remark

OPEN = set()
BLOCK = 65536


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await asgi_probe.lifespan(scope, receive, send)
    if scope["type"] == "http":
        return await reply_json(send, {"open": len(OPEN), "pid": os.getpid()})
    remark(f"WEBSOCKET {scope['path']}")
    me = object()
    OPEN.add(me)
    try:
        await SOCKETS[scope["path"].split("/")[1]](scope, receive, send)
    finally:
        OPEN.discard(me)


async def accept(receive, send, **more):
    message = await receive()
    assert message["type"] == "websocket.connect", message
    await send({"type": "websocket.accept", **more})


async def say(send, value):
    await send({"type": "websocket.send", "text": value if isinstance(value, str) else json.dumps(value)})


async def echo(scope, receive, send):
    """Text as text, bytes as bytes; None in the other key, as many apps write it."""
    await accept(receive, send)
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message.get("text"), "bytes": message.get("bytes")})


async def scope_told(scope, receive, send):
    await accept(receive, send)
    await say(send, {"scope": told({**scope, "headers": list(scope["headers"])}), "types": {name: type(value).__name__ for name, value in scope.items()}})
    await send({"type": "websocket.close"})


async def messages(scope, receive, send):
    """What each message looks like to the app."""
    await accept(receive, send)
    while (message := await receive())["type"] == "websocket.receive":
        given = message.get("text") if message.get("text") is not None else message["bytes"]
        await say(send, {"type": type(given).__name__, "length": len(given), "keys": sorted(message)})


async def subprotocol(scope, receive, send):
    """Takes the last one offered."""
    await accept(receive, send, subprotocol=scope["subprotocols"][-1] if scope["subprotocols"] else None)
    await say(send, scope["subprotocols"])


async def headers(scope, receive, send):
    await accept(receive, send, headers=[(b"X-One", b"caf\xe9"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")])
    await send({"type": "websocket.close"})


async def protocol_header(scope, receive, send):
    """The subprotocol in a header of its own is forbidden."""
    await receive()
    try:
        await send({"type": "websocket.accept", "headers": [(b"sec-websocket-protocol", b"a")]})
    except Exception as error:
        remark(f"raised {type(error).__name__}")
        raise
    remark("nothing raised")


async def refuse(scope, receive, send):
    await receive()
    await send({"type": "websocket.close", "code": 4001})


async def deny(scope, receive, send):
    """An answer of the app's own, in two parts."""
    await receive()
    if "websocket.http.response" not in scope["extensions"]:
        return await send({"type": "websocket.close"})
    await send({"type": "websocket.http.response.start", "status": 401, "headers": [(b"content-type", b"text/plain"), (b"www-authenticate", b"Basic")]})
    await send({"type": "websocket.http.response.body", "body": b"who ", "more_body": True})
    await send({"type": "websocket.http.response.body", "body": b"are you?"})


async def raises_before(scope, receive, send):
    raise RuntimeError("failed on purpose, before the accept")


async def returns_before(scope, receive, send):
    await receive()


async def raises_after(scope, receive, send):
    await accept(receive, send)
    await say(send, "hello")
    raise RuntimeError("failed on purpose, after the accept")


async def returns_after(scope, receive, send):
    await accept(receive, send)
    await say(send, "hello")


async def close(scope, receive, send):
    """/close/CODE/REASON"""
    await accept(receive, send)
    _, _, code, reason = scope["path"].split("/")
    await send({"type": "websocket.close", "code": int(code), **({"reason": reason} if reason else {})})
    remark(f"{await _closed(receive)}")


async def disconnect(scope, receive, send):
    """/disconnect/NAME: remarks how the client left, and that it has left for ever."""
    await accept(receive, send)
    await say(send, "ready")
    while (message := await receive())["type"] == "websocket.receive":
        pass
    remark(f"{message['type']} {message.get('code')} {message.get('reason')!r} {last(scope)}")
    try:
        await say(send, "too late")
        remark(f"nothing raised {last(scope)}")
    except OSError:
        remark(f"OSError {last(scope)}")


async def _closed(receive) -> str:
    message = await receive()
    return f"{message['type']} {message.get('code')} {message.get('reason')!r}"


async def flood(scope, receive, send):
    """/flood/COUNT/NAME: so many messages of 64 KiB, each counted in the file NAME when send() has returned."""
    await accept(receive, send)
    with open(os.path.join(os.environ["GATES"], last(scope)), "wb", buffering=0) as counted:
        for number in range(int(scope["path"].split("/")[2])):
            await send({"type": "websocket.send", "bytes": bytes([number % 251]) * BLOCK})
            counted.write(b".")
    await send({"type": "websocket.close"})


async def unread(scope, receive, send):
    """/unread/NAME: takes nothing until the gate is opened, then tells how much came until the empty message."""
    await accept(receive, send)
    await say(send, "ready")
    await gate(last(scope))
    total = 0
    while data := (await receive()).get("bytes"):
        total += len(data)
    await say(send, {"total": total})


async def late(scope, receive, send):
    """/late/NAME: accepts when the gate is opened."""
    await gate(last(scope))
    await accept(receive, send)
    await say(send, "at last")
    await receive()


async def never(scope, receive, send):
    """/never/NAME: does not even answer the handshake."""
    remark(f"waiting {last(scope)}")
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        remark(f"cancelled {last(scope)}")
        raise


async def pusher(scope, receive, send):
    """Sends on its own while it listens."""
    await accept(receive, send)

    async def push():
        for number in range(5):
            await say(send, {"push": number})
            await asyncio.sleep(0)

    pushing = asyncio.ensure_future(push())
    while (message := await receive())["type"] == "websocket.receive":
        await say(send, {"heard": message["text"]})
    await pushing


async def state(scope, receive, send):
    await accept(receive, send)
    state = scope["state"]
    state["number"] += 1
    state["shared"]["hits"] += 1
    await say(send, {"number": state["number"], "hits": state["shared"]["hits"], "same_loop": state["loop"] == id(asyncio.get_running_loop())})


ACCEPT = {"type": "websocket.accept"}
SEND = {"type": "websocket.send", "text": "x"}
WRONG = {
    "send-first": ([], SEND),
    "accept-twice": ([ACCEPT], ACCEPT),
    "empty": ([ACCEPT], {"type": "websocket.send"}),
    "both-none": ([ACCEPT], {"type": "websocket.send", "text": None, "bytes": None}),
    "text-as-bytes": ([ACCEPT], {"type": "websocket.send", "text": b"x"}),
    "bytes-as-text": ([ACCEPT], {"type": "websocket.send", "bytes": "x"}),
    "http": ([], {"type": "http.response.start", "status": 200}),
    "unknown": ([ACCEPT], {"type": "websocket.nonsense"}),
    "close-code": ([ACCEPT], {"type": "websocket.close", "code": 1005}),
    "long-reason": ([ACCEPT], {"type": "websocket.close", "code": 1000, "reason": "x" * 124}),
    "surrogate": ([ACCEPT], {"type": "websocket.send", "text": "\ud800"}),
}


async def wrong(scope, receive, send):
    """/wrong/KIND: what is not allowed raises in send(), and the socket can still be used."""
    await receive()
    fine, bad = WRONG[last(scope)]
    for message in fine:
        await send(message)
    try:
        await send(bad)
        outcome = "nothing raised"
    except Exception as error:
        outcome = f"raised {type(error).__name__}"
    if not fine:
        await send(ACCEPT)
    await say(send, outcome)


SOCKETS = {
    "echo": echo,
    "scope": scope_told,
    "messages": messages,
    "subprotocol": subprotocol,
    "headers": headers,
    "protocol-header": protocol_header,
    "refuse": refuse,
    "deny": deny,
    "raises-before": raises_before,
    "returns-before": returns_before,
    "raises-after": raises_after,
    "returns-after": returns_after,
    "close": close,
    "disconnect": disconnect,
    "flood": flood,
    "unread": unread,
    "late": late,
    "never": never,
    "pusher": pusher,
    "state": state,
    "wrong": wrong,
}
