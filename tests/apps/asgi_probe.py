"""One page for each thing ASGI 3 lets an app do over HTTP, and for each it forbids. TABLE at the end.

What happens where no answer can tell it (a client that has left, work after the answer) is remarked in SEEN.
"""

import asyncio
import contextvars
import hashlib
import json
import os
import tempfile
import threading

from probe import remark, wait_at_gate

PLAIN = [(b"content-type", b"text/plain")]
BLOCK = 65536

mark = contextvars.ContextVar("mark", default="none")


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(scope, receive, send)
    if scope["type"] != "http":
        raise ValueError(f"no {scope['type']} here")
    remark(f"{scope['method']} {scope['path']}")
    page = PAGES.get(scope["path"].split("/")[1], tell)
    await page(scope, receive, send)


async def lifespan(scope, receive, send):
    assert (await receive())["type"] == "lifespan.startup"
    scope["state"].update(number=1, shared={"hits": 0}, loop=id(asyncio.get_running_loop()))
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    remark(f"shutdown {os.getpid()}")
    await send({"type": "lifespan.shutdown.complete"})


def last(scope) -> str:
    return scope["path"].rpartition("/")[2]


async def gate(name: str) -> None:
    """Wait for the test to open the named pipe, without a thread: the loop goes on, however many wait."""
    loop = asyncio.get_running_loop()
    opened = loop.create_future()
    descriptor = os.open(os.path.join(os.environ["GATES"], name), os.O_RDONLY | os.O_NONBLOCK)
    loop.add_reader(descriptor, lambda: opened.done() or opened.set_result(None))
    try:
        await opened
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def start(send, status=200, headers=PLAIN, **more):
    await send({"type": "http.response.start", "status": status, "headers": headers, **more})


async def body(send, data=b"", more=False):
    await send({"type": "http.response.body", "body": data, "more_body": more})


async def reply(send, data, status=200, kind=b"text/plain"):
    await start(send, status, [(b"content-type", kind), (b"content-length", b"%d" % len(data))])
    await body(send, data)


async def reply_json(send, value):
    await reply(send, json.dumps(value).encode(), kind=b"application/json")


async def whole(receive) -> tuple[bytes, int]:
    """The body, and in how many messages it came."""
    parts, more = [], True
    while more:
        message = await receive()
        assert message["type"] == "http.request", message
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts), len(parts)


def told(value):
    """JSON of a scope: bytes as latin-1, and everything that is neither as its repr."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, dict):
        return {key: told(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)) or hasattr(value, "__next__"):
        return [told(one) for one in value]
    return value if value is None or isinstance(value, (str, int, float)) else repr(value)


# -- what arrives


async def tell(scope, receive, send):
    """Everything that arrived, with the types the specification speaks of."""
    data, messages = await whole(receive)
    headers = list(scope["headers"])
    await reply_json(
        send,
        {
            "scope": told({**scope, "headers": headers}),
            "types": {name: type(value).__name__ for name, value in scope.items()},
            "header_types": sorted({type(one).__name__ for pair in headers for one in pair}),
            "body": {"length": len(data), "sha256": hashlib.sha256(data).hexdigest(), "messages": messages},
            "pid": os.getpid(),
            "thread": threading.get_ident(),
        },
    )


async def echo(scope, receive, send):
    """Each piece of the body as it comes."""
    await start(send)
    more = True
    while more:
        message = await receive()
        more = message.get("more_body", False)
        await body(send, message.get("body", b""), more)


async def blind(scope, receive, send):
    await reply(send, b"blind")


async def gated(scope, receive, send):
    await gate(last(scope))
    await reply(send, str(os.getpid()).encode())


async def unread(scope, receive, send):
    """/unread/NAME reads the body only when the gate is open."""
    await gate(last(scope))
    await reply(send, str(len((await whole(receive))[0])).encode())


async def cancelled(scope, receive, send):
    """receive() is cancelled while it waits: the cancellation has to come out, and the next receive() works."""
    await whole(receive)
    waiting = asyncio.ensure_future(receive())
    # Not one turn of the loop but several: a receive() that never really waits is found out.
    for _ in range(5):
        await asyncio.sleep(0)
    was_waiting = not waiting.done()
    waiting.cancel()
    try:
        outcome = f"returned {(await waiting)['type']}"
    except asyncio.CancelledError:
        outcome = "CancelledError"
    await reply_json(send, {"waited": was_waiting, "outcome": outcome})
    remark(f"then {(await receive())['type']} {last(scope)}")


async def leave(scope, receive, send):
    """/leave/NAME: remarks what receive() says once the client has gone, three times."""
    await whole(receive)
    remark(f"waiting {last(scope)}")
    for _ in range(3):
        remark(f"{(await receive())['type']} {last(scope)}")


async def leave_streaming(scope, receive, send):
    """/leave-streaming/NAME: the same after the first part of an answer; then send() must say so with an OSError."""
    await whole(receive)
    await start(send)
    await body(send, b"first\n", True)
    remark(f"{(await receive())['type']} {last(scope)}")
    try:
        await body(send, b"second\n", True)
    except OSError:
        remark(f"OSError {last(scope)}")
        raise  # as an app does that knows nothing of it: nobody is to log this
    remark(f"nothing raised {last(scope)}")


async def after_end(scope, receive, send):
    """/after-end/NAME: after the answer receive() says disconnect, at once and for ever."""
    await whole(receive)
    await reply(send, b"ended")
    remark(f"{(await receive())['type']} {(await receive())['type']} {last(scope)}")


# -- what is sent


async def sse(scope, receive, send):
    """/sse/NAME: an event at once, another one when the gate is opened."""
    await start(send, headers=[(b"content-type", b"text/event-stream")])
    await body(send, b"data: 1\n\n", True)
    await gate(last(scope))
    await body(send, b"data: 2\n\n", True)
    await body(send, b"", False)


async def pieces(scope, receive, send):
    await start(send)
    for part in (b"", b"a", b"", b"b"):
        await body(send, part, True)
    await send({"type": "http.response.body"})


async def flood(scope, receive, send):
    """/flood/COUNT/NAME: so many blocks of 64 KiB, each counted in the file NAME when send() has returned."""
    count = int(scope["path"].split("/")[2])
    await start(send, headers=[(b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % (count * BLOCK))])
    with open(os.path.join(os.environ["GATES"], last(scope)), "wb", buffering=0) as counted:
        for number in range(count):
            await body(send, bytes([number % 251]) * BLOCK, number + 1 < count)
            counted.write(b".")


async def mutable(scope, receive, send):
    """A buffer belongs to the app again when send() returns."""
    kept = bytearray(b"first ")
    await start(send)
    await body(send, kept, True)
    kept[:] = b"WRONG "
    await body(send, memoryview(bytearray(b"second")), False)


async def hop_by_hop(scope, receive, send):
    headers = [
        (b"Transfer-Encoding", b"gzip"), (b"Connection", b"x-private"), (b"keep-alive", b"timeout=1"), (b"upgrade", b"h2c"),
        (b"Set-Cookie", b"a=1"), (b"X-Mixed", b"caf\xe9"), (b"set-cookie", b"b=2"),
    ]  # fmt: skip
    await start(send, headers=headers)
    await body(send, b"one ", True)
    await body(send, b"two")


async def status(scope, receive, send):
    """/status/CODE with a body, allowed or not."""
    await start(send, int(last(scope)))
    await body(send, b"body")


async def no_headers(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    await body(send, b"ok")


async def promise(scope, receive, send):
    """/promise/LENGTH: sends ten bytes, whatever was promised."""
    await start(send, headers=[*PLAIN, (b"content-length", last(scope).encode())])
    await body(send, b"01234", True)
    await body(send, b"56789")


async def length_of_head(scope, receive, send):
    await start(send, headers=[*PLAIN, (b"content-length", b"1234")])
    await body(send, b"" if scope["method"] == "HEAD" else b"x" * 1234)


# -- faults


async def raises_before(scope, receive, send):
    raise RuntimeError("failed on purpose, before the answer")


async def raises_started(scope, receive, send):
    """Between the start and the first body nothing has to have left: a clean 500 is due."""
    await start(send, headers=[*PLAIN, (b"x-promise", b"none")])
    raise RuntimeError("failed on purpose, after the start")


async def raises_during(scope, receive, send):
    await start(send)
    await body(send, b"first\n", True)
    await gate(last(scope))
    raise RuntimeError("failed on purpose, during the answer")


async def raises_after(scope, receive, send):
    await reply(send, b"whole")
    raise RuntimeError("failed on purpose, after the answer")


async def exits(scope, receive, send):
    raise SystemExit(3)


async def returns_early(scope, receive, send):
    pass


async def returns_unfinished(scope, receive, send):
    await start(send)
    await body(send, b"first\n", True)


async def never(scope, receive, send):
    """/never/NAME: neither answers nor listens."""
    remark(f"waiting {last(scope)}")
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        remark(f"cancelled {last(scope)}")
        raise


async def block(scope, receive, send):
    """/block/NAME: what no coroutine may do: it waits without awaiting."""
    wait_at_gate(last(scope))
    await reply(send, b"unblocked")


START = {"type": "http.response.start", "status": 200, "headers": PLAIN}
BODY = {"type": "http.response.body", "body": b"x", "more_body": True}
WRONG = {
    # name: (messages that are fine, the one that is not)
    "body-first": ([], BODY),
    "start-twice": ([START, BODY], START),
    "unknown": ([], {"type": "http.response.nonsense"}),
    "unknown-later": ([START], {"type": "http.response.nonsense"}),
    "websocket": ([], {"type": "websocket.accept"}),
    "no-type": ([], {"status": 200}),
    "no-status": ([], {"type": "http.response.start", "headers": PLAIN}),
    "text-status": ([], {"type": "http.response.start", "status": "200", "headers": PLAIN}),
    "status-99": ([], {"type": "http.response.start", "status": 99, "headers": PLAIN}),
    "text-header": ([], {"type": "http.response.start", "status": 200, "headers": [("x-a", "b")]}),
    "crlf-header": ([], {"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1\r\nx-injected: 1")]}),
    "nul-header": ([], {"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1\0")]}),
    "bad-name": ([], {"type": "http.response.start", "status": 200, "headers": [(b"x a", b"1")]}),
    "text-body": ([START], {"type": "http.response.body", "body": "x"}),
    "trailers-unasked": ([START, BODY], {"type": "http.response.trailers", "headers": [(b"x-t", b"1")]}),
}


async def wrong(scope, receive, send):
    """/wrong/KIND: what is not allowed raises in send(), and the app can still make an answer of it."""
    fine, bad = WRONG[last(scope)]
    for message in fine:
        await send(message)
    try:
        await send(bad)
        outcome = "nothing raised"
    except Exception as error:
        outcome = f"raised {type(error).__name__}"
    if not fine:
        await start(send)
    await body(send, outcome.encode())


async def wrong_after(scope, receive, send):
    """/wrong-after/NAME: another body after the last one."""
    await reply(send, b"whole")
    try:
        await body(send, b"more")
    except Exception as error:
        remark(f"raised {'OSError' if isinstance(error, OSError) else 'another'} {last(scope)}")
    else:
        remark(f"nothing raised {last(scope)}")


# -- beside the answer


async def background(scope, receive, send):
    """/background/NAME: work that goes on after the answer, until the gate is opened."""
    await reply(send, b"answered")
    await gate(last(scope))
    remark(f"background done {last(scope)}")


async def context(scope, receive, send):
    """What the last request left in a context variable, which must be nothing."""
    found = mark.get()
    mark.set("left over")
    await reply(send, found.encode())


async def state(scope, receive, send):
    """`number` is this request's own, `shared` everybody's."""
    state = scope["state"]
    state["number"] += 1
    state["shared"]["hits"] += 1
    await reply_json(send, {"number": state["number"], "hits": state["shared"]["hits"], "same_loop": state["loop"] == id(asyncio.get_running_loop())})


async def where(scope, receive, send):
    loop = asyncio.get_running_loop()
    await reply_json(
        send,
        {
            "loop": type(loop).__module__,
            "main_thread": threading.current_thread() is threading.main_thread(),
            "threads": threading.active_count(),
            "tasks": len(asyncio.all_tasks()),
            "pid": os.getpid(),
        },
    )


# -- extensions


async def pathsend(scope, receive, send):
    if "http.response.pathsend" not in scope["extensions"]:
        return await reply(send, b"not offered", 501)
    path = os.path.join(os.environ["GATES"], last(scope))
    await start(send, headers=[*PLAIN, (b"content-length", b"%d" % os.path.getsize(path))])
    await send({"type": "http.response.pathsend", "path": path})


async def pathsend_missing(scope, receive, send):
    """A file that is not there: an exception in send(), and the answer is still free."""
    try:
        await start(send)
        await send({"type": "http.response.pathsend", "path": "/nonexistent/file"})
    except Exception as error:
        remark(f"raised {type(error).__name__}")
        raise


async def zerocopysend(scope, receive, send):
    """Bytes, a slice of a file, bytes, the rest of the file."""
    if "http.response.zerocopysend" not in scope["extensions"]:
        return await reply(send, b"not offered", 501)
    with tempfile.TemporaryFile() as file:
        file.write(b"0123456789" * 1000)
        file.flush()
        file.seek(9990)
        await start(send)
        await body(send, b"<", True)
        await send({"type": "http.response.zerocopysend", "file": file.fileno(), "offset": 5, "count": 10, "more_body": True})
        await body(send, b"|", True)
        await send({"type": "http.response.zerocopysend", "file": file, "more_body": True})
        await body(send, b">")


async def trailers(scope, receive, send):
    offered = "http.response.trailers" in scope["extensions"]
    await start(send, headers=[*PLAIN, (b"trailer", b"x-sum"), (b"x-offered", b"%d" % offered)], **({"trailers": True} if offered else {}))
    await body(send, b"with a tail")
    if offered:
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")], "more_trailers": True})
        await send({"type": "http.response.trailers", "headers": [(b"x-also", b"2")], "more_trailers": False})


async def hints(scope, receive, send):
    if "http.response.early_hint" in scope["extensions"]:
        await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload", b"</b.js>; rel=preload"]})
    await reply(send, b"hinted")


PAGES = {
    "echo": echo,
    "blind": blind,
    "gate": gated,
    "unread": unread,
    "cancelled": cancelled,
    "leave": leave,
    "leave-streaming": leave_streaming,
    "after-end": after_end,
    "sse": sse,
    "pieces": pieces,
    "flood": flood,
    "mutable": mutable,
    "hop-by-hop": hop_by_hop,
    "status": status,
    "no-headers": no_headers,
    "promise": promise,
    "head": length_of_head,
    "raises-before": raises_before,
    "raises-started": raises_started,
    "raises-during": raises_during,
    "raises-after": raises_after,
    "exits": exits,
    "returns-early": returns_early,
    "returns-unfinished": returns_unfinished,
    "never": never,
    "block": block,
    "wrong": wrong,
    "wrong-after": wrong_after,
    "background": background,
    "context": context,
    "state": state,
    "where": where,
    "pathsend": pathsend,
    "pathsend-missing": pathsend_missing,
    "zerocopysend": zerocopysend,
    "trailers": trailers,
    "hints": hints,
}
