"""An ASGI app on an event loop: makes the loop, runs the app's lifespan, gives each request a task.

The loop reads its lane by itself (``_worker.Lane``); scopes, ``receive`` and ``send`` are native. Here is what asyncio
calls for: the loop, tasks, coroutines for what has to wait, and a watch over a loop that stands still.
"""

import asyncio
import functools
import importlib.metadata
import json
import os
import sys
import threading
import time
import traceback

from bandstand import _worker, guard

#: Seconds without a turn of the loop after which the log says what holds it up.
STALL_SECONDS = 5.0
#: Seconds between two looks at it, while requests are at work.
GLANCE_SECONDS = 1.0
#: Bytes of one message where a file has to be copied.
COPY_BYTES = 64 * 1024


class StartFailed(Exception):
    """The app cannot be served; the message is for people."""


def serve(apps, options, project):
    """Serves until the edge wants no more; the exit status.

    ``apps.asgi`` and ``apps.wsgi`` are the callables, either may be None; ``options`` is ``worker.Options``; ``project``
    is for the edge, a dict that becomes JSON.
    """
    try:
        loop = make_loop(options.loop)
        asyncio.set_event_loop(loop)
        crew = hire(apps, options)
        lifespan = Lifespan(apps.asgi, options.lifespan)
        loop.run_until_complete(lifespan.startup())
    except StartFailed as error:
        _worker.fail(options.channel_fd, str(error))
        return 1
    descriptors = (options.channel_fd, options.loop_fd, options.board_fd)
    lane = _worker.Lane(*descriptors, loop, make_spawn(loop, apps.asgi))
    lane.state = lifespan.state
    project = json.dumps({**project, "loop": describe_loop(options.loop)})
    loop.run_until_complete(run(lane, lifespan, apps, options, crew, project))
    loop.run_until_complete(loop.shutdown_asyncgens())
    try:
        lane.finish()
    except RuntimeError as error:
        print(f"bandstand: {error}", file=sys.stderr, flush=True)
        return 1
    return 0


async def run(lane, lifespan, apps, options, crew, project):
    """From the hello to the end of the last request. What goes on for ever, the edge ends."""
    loop = asyncio.get_running_loop()
    stopped = loop.create_future()
    threads, glancing = None, None

    def on_end():
        nonlocal glancing
        if not lane.ended or stopped.done():
            return
        if lane.active == 0 and (threads is None or threads.are_gone):
            stopped.set_result(None)
        elif glancing is None:
            glancing = loop.call_later(GLANCE_SECONDS, glance)

    def glance():
        """The edge may have died: then those who wait for a client to leave wait for nothing."""
        nonlocal glancing
        lane.glance()
        glancing = None if stopped.done() else loop.call_later(GLANCE_SECONDS, glance)

    lane.on_end = on_end
    if apps.wsgi is not None:
        from bandstand import bridge

        threads = bridge.Threads(lane, loop, apps, options, crew, on_end)
    watchdog = threading.Thread(target=watch, args=(loop, lane, threading.get_ident()), name="bandstand-watchdog", daemon=True)
    watchdog.start()
    guard.start(getattr(options, "guard_fd", -1), lane, loop)
    lane.greet(options.threads if threads else 0, options.tasks, project)
    await stopped
    await lifespan.shutdown()


def hire(apps, options):
    """The threads of Django's ASGI handler; ``None`` where it does not answer HTTP."""
    if getattr(apps, "handler", None) is None:
        return None
    from bandstand import crew, roads

    hired = crew.make(options.threads_max)
    if hired is not None:
        hired.serve([apps.handler] if apps.router is None else list(roads.walk_handlers(apps.router)))
    return hired


# The loop


def find_uvloop():
    """The module, or None."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop


@functools.cache
def describe_loop(wanted):
    """``uvloop 0.x`` or ``asyncio``: what `serve` will take."""
    if wanted != "asyncio" and find_uvloop() is not None:
        return f"uvloop {importlib.metadata.version('uvloop')}"
    return "asyncio"


def make_loop(wanted):
    uvloop = find_uvloop() if wanted in ("auto", "uvloop") else None
    if uvloop is not None:
        return uvloop.new_event_loop()
    if wanted == "uvloop":
        raise StartFailed(
            "loop is set to uvloop, but uvloop is not installed in the project's environment: "
            f"{sys.executable} -m pip install uvloop, or set loop to auto"
        )
    return asyncio.new_event_loop()


# Requests


def make_spawn(loop, app):
    """What makes a task of a cycle. Where tasks can start eagerly, most requests never wait for a turn of the loop."""

    async def work(cycle):
        try:
            await app(cycle.scope, cycle.receive, cycle.send)
        except BaseException as error:  # SystemExit too: one request does not end the worker
            cycle.fail(error)
        finally:
            cycle.finish()

    # A task takes a copy of the context in which the lane is read, which nothing changes: fresh for each request.
    if sys.version_info >= (3, 12) and loop.get_task_factory() is None:
        task = asyncio.Task

        def spawn(cycle):
            return task(work(cycle), loop=loop, eager_start=True)

        return spawn
    create_task = loop.create_task

    def spawn(cycle):
        return create_task(work(cycle))

    return spawn


async def receive_later(cycle):
    """``receive()`` while there is no message."""
    while (message := cycle.poll()) is None:
        await cycle.park()
    return message


async def send_later(cycle):
    """``send()`` while there is no credit: the client takes no more for now."""
    while not cycle.drained():
        await cycle.park()


async def send_file_later(cycle, message):
    """``http.response.zerocopysend`` where the edge cannot read the file itself: parts of it, pipes."""
    file, offset, count = message["file"], message.get("offset"), message.get("count")
    number = file if isinstance(file, int) else file.fileno()
    left = float("inf") if count is None else count
    while left > 0:
        wanted = int(min(left, COPY_BYTES))
        piece = os.read(number, wanted) if offset is None else os.pread(number, wanted, offset)
        if not piece:
            break
        left -= len(piece)
        offset = None if offset is None else offset + len(piece)
        await cycle.send({"type": "http.response.body", "body": piece, "more_body": True})
    await cycle.send({"type": "http.response.body", "more_body": message.get("more_body", False)})


# Lifespan


class Lifespan:
    """The app's start and end, in the loop of its requests. `state` is None where the app has no lifespan."""

    def __init__(self, app, mode):
        self.app = app if mode != "off" else None
        self.required = mode == "on"
        self.state = None
        self.phase = "starting"
        self.failure = None

    async def startup(self):
        if self.app is None:
            return
        loop = asyncio.get_running_loop()
        self.state = {}
        self.started, self.stopping, self.stopped = loop.create_future(), loop.create_future(), loop.create_future()
        self.task = loop.create_task(self.work())
        await self.started
        if self.failure is not None:
            raise StartFailed(self.failure)

    async def shutdown(self):
        if self.app is None or self.task.done():
            return
        self.stopping.set_result(None)
        await self.stopped
        if self.failure is not None:
            print(f"bandstand: the app's shutdown failed: {self.failure}", file=sys.stderr, flush=True)

    async def work(self):
        scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
        try:
            await self.app(scope, self.receive, self.send)
            error = None
        except BaseException as raised:
            error = raised
        if self.phase == "starting":
            self.without(error)
        elif error is not None and self.failure is None:
            text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
            print(f"bandstand: exception in the app's lifespan\n{text}", end="", file=sys.stderr, flush=True)
        for future in (self.started, self.stopped):
            if not future.done():
                future.set_result(None)

    def without(self, error):
        """The app knows no lifespan: it raised on the scope (Django does), or returned."""
        self.state, self.phase = None, "none"
        if self.required:
            text = "it returned without lifespan.startup.complete"
            if error is not None:
                text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
            self.failure = f"lifespan is on, but the app does not support it: {text}"

    async def receive(self):
        if self.phase == "starting" and not self.stopping.done() and not getattr(self, "asked", False):
            self.asked = True
            return {"type": "lifespan.startup"}
        await asyncio.shield(self.stopping)
        self.phase = "stopping"
        return {"type": "lifespan.shutdown"}

    async def send(self, message):
        kind = message["type"]
        future = {"startup": self.started, "shutdown": self.stopped}.get(kind.split(".")[1] if kind.count(".") == 2 else "")
        if future is None or not kind.startswith("lifespan.") or not kind.endswith((".complete", ".failed")):
            raise ValueError(f"{kind!r} is not a message that the lifespan scope knows")
        if future.done() or (future is self.stopped and self.phase != "stopping"):
            raise RuntimeError(f"{kind} may not come now")
        if kind.endswith(".failed"):
            self.failure = message.get("message") or f"the app sent {kind}"
        if future is self.started:
            self.phase = "failed" if self.failure is not None else "started"
        future.set_result(None)


# The watchdog


def watch(loop, lane, thread):
    """Says once for each stall what holds up the loop. Sleeps for as long as no request is at work."""
    while lane.rest():
        turned = threading.Event()
        try:
            loop.call_soon_threadsafe(turned.set)
        except RuntimeError:  # closed
            return
        if not turned.wait(STALL_SECONDS):
            report_stall(loop, thread)
            turned.wait()
        time.sleep(GLANCE_SECONDS)


def report_stall(loop, thread):
    frame = _worker.current_frames().get(thread)
    if frame is None:
        return
    stack = "".join(traceback.format_stack(frame))
    text = f"bandstand: the event loop has not turned for {STALL_SECONDS:g} s: {describe_work(loop, frame)}\n{stack}"
    sys.stderr.write(text)
    sys.stderr.flush()


def describe_work(loop, frame):
    """The request and the innermost coroutine that runs in this stack."""
    inner, cycle, crossing = None, None, None
    while frame is not None:
        code = frame.f_code
        if inner is None and code.co_flags & 0x80:  # CO_COROUTINE
            inner = f"{getattr(code, 'co_qualname', code.co_name)} ({code.co_filename}:{frame.f_lineno})"
        if code.co_filename == __file__ and code.co_name == "work":
            cycle = frame.f_locals.get("cycle")
        if isinstance(frame.f_locals.get("self"), _worker.Crossing):
            crossing = frame.f_locals["self"]
        frame = frame.f_back
    what = f"coroutine {inner}" if inner else "a callback"
    task = asyncio.current_task(loop)
    if task is not None:
        what += f", {task.get_name()}"
    if crossing is not None and crossing.args:
        request = crossing.args[0]
        what += f", {getattr(request, 'method', '')} {getattr(request, 'path', '')!r}"
    if cycle is not None:
        scope = cycle.scope
        what += f", {scope.get('method', 'WebSocket')} {scope.get('path', '')!r}"
    return what
