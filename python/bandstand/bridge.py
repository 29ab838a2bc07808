"""The bridge: middleware on a thread, the coroutine of an async view on the worker's loop (docs/decisions/0005-asgi.md).

Owns what stands in for ``async_to_sync`` in ``django.core.handlers.base``, which would make an event loop for each call.
The thread waits at its ``Crossing`` while the coroutine runs, and meanwhile works for it: ``sync_to_async`` inside the
view is done there, so view and middleware share their database connections, as asgiref promises. Streaming answers with
async iterators leave the thread altogether.
Invariant: a thread that has crossed always comes back, with a result or an exception; ``Moved`` is said at most once, and
never for a view that does not wait. Source: asgiref's ``AsyncToSync`` and ``SyncToAsync``, 3.6 to 3.13.
"""

import asyncio
import contextvars
import functools
import sys
import threading
from concurrent.futures import Future
from contextlib import nullcontext

from asgiref import local as asgiref_local
from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext, _restore_context, sync_to_async

from bandstand import RequestTimeout, _worker, roads

#: What a thread of ours is at: ``start``, the ``start_response`` of the request it answers.
here = threading.local()


class Threads:
    """The WSGI threads beside the loop. ``on_empty`` is called by the loop when the last one has left."""

    def __init__(self, lane, loop, apps, options, crew, on_empty):
        from django.core.handlers.wsgi import WSGIHandler

        bridge = Bridge(lane, loop, apps.handler, crew)
        if options.bridge:
            bridge.install()
        self.are_gone = False
        choose, always = roads.chooser(apps, options.bridge)

        def leave():
            self.are_gone = True
            on_empty()

        self.pool = _worker.Pool(
            lane=lane,
            app=bridge.application(apps.wsgi, WSGIHandler),
            threads=options.threads,
            threads_max=options.threads_max,
            multiprocess=options.multiprocess,
            choose=choose,
            always=always,
            on_empty=functools.partial(loop.call_soon_threadsafe, leave),
        )
        self.pool.start()


class Bridge:
    """One for a worker: where threads leave what the loop is to begin, and the answers that the loop streams."""

    def __init__(self, lane, loop, handler, crew):
        #: Django's ASGI handler: it knows how an answer is streamed.
        self.handler = handler
        #: Where a stream has its thread.
        self.seat = nullcontext if crew is None else crew.seat
        self.landing = _worker.Landing(lane)
        self.streams = set()
        self.fallback = None
        self.loop = loop
        loop.add_reader(self.landing.fileno(), self.landing.begin)

    def install(self):
        """From now on Django's own call of an async view comes here."""
        from django.core.handlers import base

        self.fallback, base.async_to_sync = base.async_to_sync, self.async_to_sync

    def async_to_sync(self, view):
        start = getattr(here, "start", None)
        if start is None or not self.loop.is_running():
            return self.fallback(view)
        return functools.partial(self.cross, view, start)

    def cross(self, view, start, /, *args, **kwargs):
        """Calls the view on the loop; the thread that calls waits, and does what the view needs done on a thread."""
        __traceback_hide__ = True  # for Django's page with the traceback: the project's frames are of interest
        crossing = Crossing(self.loop, view, start, args, kwargs)
        crossing.enter()
        # Until `leave`, only a call of the view can be interrupted on this thread: no step of the way back is left out.
        try:
            SyncToAsync.context_to_thread_executor[crossing] = crossing
            work = crossing.cross(self.landing)
            while work is not None:
                work()
                work = None
                work = crossing.wait(self.landing)
            return crossing.finish()
        finally:
            SyncToAsync.context_to_thread_executor.pop(crossing, None)
            crossing.leave()

    def application(self, app, sender):
        """The project's WSGI app, for the threads: ``here`` is known inside, and async streams take another way out."""

        def application(environ, start_response):
            here.start = start_response
            try:
                response = app(environ, start_response)
            except asyncio.CancelledError:
                # Nobody will call close(), which would have said it: connections are returned now.
                say_finished(sender)
                raise
            finally:
                here.start = None
            if getattr(response, "is_async", False) and getattr(response, "streaming", False):
                return self.hand_over(environ, start_response, response)
            return response

        return application

    def hand_over(self, environ, start_response, response):
        if environ["REQUEST_METHOD"] == "HEAD":
            response.streaming_content = ()  # nobody will see it; the app's iterator is not even begun
            return response
        from django.db import close_old_connections

        self.landing.put(Stream(self, start_response.detach(scope_of(environ)), response))
        # request_finished will be sent elsewhere, when the stream has ended; this thread is done with the database now.
        close_old_connections()
        return ()


class Crossing(_worker.Crossing):
    """One call of an async view. At once asgiref's context for thread-sensitive work, and the executor that does it."""

    #: asgiref 3.12 and later ask their own contexts for it. A task that outlives the view finds no executor under this
    #: context any more, so asgiref makes one for it, as in an ASGI application.
    _exited = False

    def __init__(self, loop, view, start, args, kwargs):
        self.loop, self.view, self.start, self.args, self.kwargs = loop, view, start, args, kwargs
        self.context = contextvars.copy_context()
        self.thread = LAUNCHED is not None and threading.current_thread()
        self.task = self.result = self.error = None
        self.is_over = False
        #: Its task was told to end; the time of the request is over, not only its client gone.
        self.is_cancelled = self.is_late = False

    # On the loop

    def begin(self):
        """The coroutine's first step; ``look`` comes after it."""
        if self.is_late:
            self.error = asyncio.CancelledError()
            self.is_over = True
            return self.end()
        self.task = create_task(self.loop, self.run(), self.context)
        if not self.is_over:
            self.loop.call_soon(self.look)

    async def run(self):
        __traceback_hide__ = True
        token = SyncToAsync.thread_sensitive_context.set(self)
        if REHOMES:
            _restore_context(self.context)
        if LAUNCHED is not None:
            LAUNCHED[asyncio.current_task()] = self.thread
        try:
            self.result = await self.view(*self.args, **self.kwargs)
        except BaseException as error:
            self.error = error
        if LAUNCHED is not None:
            del LAUNCHED[asyncio.current_task()]
        SyncToAsync.thread_sensitive_context.reset(token)
        self.context = contextvars.copy_context()
        self.is_over = True
        self.end()

    def look(self):
        """The view waits for something: another thread may take this one's turn."""
        if not self.is_over:
            self.task.add_done_callback(self.settle)
            self.start.moved(self.cancel)

    def cancel(self, late):
        """The client has left, or the time is over (``late``). Both the lane and the guard say so; the view hears it once."""
        self.is_late = self.is_late or late
        if self.task is not None and not self.is_over and not self.is_cancelled:
            self.is_cancelled = True
            self.task.cancel()

    def settle(self, task):
        """Only a task that was cancelled before its first step has not come to its end by itself."""
        if not self.is_over:
            self.error = asyncio.CancelledError()
            self.is_over = True
            self.end()

    def submit(self, call, /, *args, **kwargs):
        """``Executor.submit``, for asgiref: the waiting thread makes this call."""
        future = Future()
        self.post(functools.partial(self.work, future, call, args, kwargs))
        return future

    # On the thread

    def work(self, future, call, args, kwargs):
        if not future.set_running_or_notify_cancel():
            return
        # asgiref leaves a note of the loop for async_to_sync inside the call. It is not for later requests.
        notes = SyncToAsync.threadlocal
        before = dict(notes.__dict__)
        try:
            result = self.call(call, args, kwargs)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)
        finally:
            notes.__dict__.clear()
            notes.__dict__.update(before)
            del future

    def finish(self):
        __traceback_hide__ = True
        _restore_context(self.context)
        error, result = self.error, self.result
        if self.is_late and isinstance(error, asyncio.CancelledError):
            error = RequestTimeout()
        # The exception's traceback holds the frame of `run`, which holds this: no cycle may remain.
        self.task = self.context = self.error = self.result = self.view = None
        if error is None:
            return result
        try:
            raise error
        finally:
            del error


class Stream:
    """A streaming answer whose iterator is async: the loop alone sends it, as Django's ASGIHandler does."""

    def __init__(self, bridge, cycle, response):
        self.bridge, self.cycle, self.response = bridge, cycle, response
        self.context = contextvars.copy_context()
        self.is_sending = True

    def begin(self):
        task = create_task(self.bridge.loop, self.run(), self.context)
        self.bridge.streams.add(task)
        task.add_done_callback(self.bridge.streams.discard)

    async def run(self):
        if REHOMES:
            _restore_context(self.context)
        cycle = self.cycle
        listener = self.bridge.loop.create_task(self.listen(asyncio.current_task()))
        try:
            # What the iterator does in a thread, and close() after it, is done in one thread.
            async with ThreadSensitiveContext():
                with self.bridge.seat():
                    await self.send(listener)
        finally:
            cycle.finish()

    async def send(self, listener):
        try:
            await self.bridge.handler.send_response(self.response, self.cycle.send)
        except asyncio.CancelledError:
            pass  # the client has left, and the iterator has been told
        except Exception as error:
            self.cycle.fail(error)
        self.is_sending = False
        listener.cancel()
        await sync_to_async(self.response.close)()

    async def listen(self, task):
        """The iterator may wait for hours for its next part: a client that leaves ends that."""
        await self.cycle.receive()
        if self.is_sending:
            task.cancel()


def create_task(loop, coroutine, context):
    if sys.version_info >= (3, 11):
        return loop.create_task(coroutine, context=context)
    return context.run(loop.create_task, coroutine)


#: From 3.12 on asgiref's Locals belong to a thread until they are moved, which ``_restore_context`` does.
REHOMES = hasattr(asgiref_local, "_Storage")

#: Up to 3.6 they belong to a task or thread, and a task finds that of its thread here.
LAUNCHED = getattr(AsyncToSync, "launch_map", None)


def scope_of(environ):
    """As much of a scope as the log needs."""
    return {
        "type": "http",
        "method": environ["REQUEST_METHOD"],
        "path": environ["PATH_INFO"],
        "raw_path": environ["RAW_URI"].encode("latin-1"),
        "headers": [(b"x-request-id", environ.get("HTTP_X_REQUEST_ID", "").encode("latin-1"))],
    }


def say_finished(sender):
    from django.core import signals

    signals.request_finished.send(sender=sender)
