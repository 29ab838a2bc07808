"""The threads of Django's ASGI handler: where a request on the loop does what is not async (docs/decisions/0005-asgi.md).

Django opens a ``ThreadSensitiveContext`` for each request, and asgiref makes a thread for each and ends it. Here asgiref
is given threads that stay. Up to the limit each request has one to itself; beyond it threads are shared, where nothing
in the project keeps something of its request on the thread (`obstacle`), otherwise there is one for each request.
Invariants: a request stays on one thread; its calls are in order; while it is in a transaction nobody else's call comes
between; no connection is closed under a neighbour, but where a call was torn from it. Source: asgiref's ``SyncToAsync`` and ``ThreadSensitiveContext``, 3.6
to 3.13; ``django.db.close_old_connections``.
"""

import asyncio
import collections
import queue
import threading
from concurrent.futures import Future
from contextlib import contextmanager

from asgiref.sync import SyncToAsync

from bandstand import RequestTimeout, _worker, connections

#: ``member``, on a thread of the crew.
here = threading.local()


class Crew:
    """All of it belongs to the loop's thread."""

    def __init__(self, limit, shared):
        self.limit, self.shared = limit, shared
        self.members, self.idle, self.made = [], [], 0

    def serve(self, handlers):
        """From now on these ASGI handlers of Django work on the crew's threads."""
        watch_connections()
        for handler in handlers:
            handler.handle = self.around(handler.handle)

    def around(self, handle):
        async def on_the_crew(scope, receive, send):
            with self.seat() as seat:
                # Middleware may have put something around it: then the guard finds the thread through the task.
                if seat is None:
                    return await handle(scope, receive, send)
                seat.take_cycle(getattr(receive, "__self__", None))
                try:
                    await handle(scope, receive, send)
                finally:
                    await seat.rest()

        return on_the_crew

    @contextmanager
    def seat(self):
        """Inside a ``ThreadSensitiveContext`` that is new: its thread is one of ours.

        Afterwards asgiref finds nothing to end, and makes another thread for a task that outlives its request.
        """
        context, threads = SyncToAsync.thread_sensitive_context.get(), SyncToAsync.context_to_thread_executor
        if context in threads:
            yield
            return
        seat = threads[context] = Seat(self)
        try:
            yield seat
        finally:
            threads.pop(context, None)
            if seat.member is not None:
                self.give_back(seat.member, seat)

    def take(self):
        """Idle ones first, the last used before the others; then new ones; then the one with the fewest requests, and
        none that a transaction keeps to itself."""
        if self.idle:
            member = self.idle.pop()
        elif len(self.members) < self.limit or not self.shared:
            member = self.make()
        else:
            member = min(self.members, key=rank)
            if member.is_open:
                member = self.make()
        member.load += 1
        return member

    def make(self):
        self.made += 1
        member = Member(f"bandstand-asgi-{self.made}")
        self.members.append(member)
        return member

    def give_back(self, member, seat):
        member.load -= 1
        seat.calls = []  # the thread remembers its last seat, and a call's result may be an answer with all its parts
        if member.holder is seat and member.is_open:
            member.submit(None, drop_transactions)
        if member.load:
            return
        if member.owes:
            member.submit(None, member.settle)
        if len(self.members) > self.limit:
            self.members.remove(member)
            member.calls.put(None)  # its last
        else:
            self.idle.append(member)


def rank(member):
    return member.is_open, member.load


class Seat:
    """A request's place on a thread, once it needs one: the executor that asgiref is given."""

    __slots__ = ("crew", "member", "calls", "place", "id", "torn")

    def __init__(self, crew):
        self.crew, self.member = crew, None
        #: Futures of its calls, as far as they may not be over.
        self.calls = []
        #: Its exchange, for the guard; 0 where it is not known.
        self.place = self.id = 0
        #: `RequestTimeout` was raised in its last call; ``_worker.work_for`` says so.
        self.torn = False

    def take_cycle(self, cycle):
        if isinstance(cycle, _worker.HttpCycle):
            self.place, self.id = cycle.place, cycle.id

    def submit(self, call, /, *args, **kwargs):
        if self.member is None:
            self.member = self.crew.take()
        future = self.member.submit(self, call, *args, **kwargs)
        self.calls = [*(former for former in self.calls if not former.done()), future]
        return future

    async def rest(self):
        """Until the thread is free of it. asgiref lets go of a call whose task was cancelled, and the call goes on: without
        this the thread would be given to the next request, and the edge would take this one for over."""
        for call in self.calls:
            if call.done():  # nearly always
                continue
            loop, is_over = asyncio.get_running_loop(), asyncio.Event()
            call.add_done_callback(lambda _, is_over=is_over: loop.call_soon_threadsafe(is_over.set))
            while not is_over.is_set():
                try:
                    await is_over.wait()
                except asyncio.CancelledError:
                    pass  # whatever could be cancelled was


class Member:
    """One thread. Requests take turns on it call by call; a transaction is not interrupted."""

    def __init__(self, name):
        #: Requests that have this thread; the loop counts.
        self.load = 0
        #: Connections have been left open for a neighbour's sake.
        self.owes = False
        #: Whose call was the last, and whether it left a transaction open.
        self.holder, self.is_open = None, False
        self.calls = queue.SimpleQueue()
        threading.Thread(target=self.work, name=name, daemon=True).start()

    def submit(self, seat, call, /, *args, **kwargs):
        future = Future()
        self.calls.put((seat, future, call, args, kwargs))
        return future

    # On the thread

    def work(self):
        here.member = self
        waiting = collections.deque()
        while (job := self.calls.get()) is not None:
            if self.is_open and job[0] is not self.holder and job[0] is not None:
                waiting.append(job)
            else:
                self.do(*job)
            del job  # nothing of a request is kept while there is none
            while waiting and not self.is_open:
                self.do(*waiting.popleft())
        close_all()

    def do(self, seat, future, call, args, kwargs):
        if not future.set_running_or_notify_cancel():
            return
        result = error = None
        try:
            if seat is None:
                result = call(*args, **kwargs)
            else:
                result = _worker.work_for(seat, seat.place, seat.id, call, args, kwargs)
        except BaseException as raised:
            error = raised
        # Before the loop hears of it: the request may be over then.
        self.holder, self.is_open = seat, look_after(seat, error)
        try:
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)
        finally:
            del future, error  # the traceback holds this frame

    def settle(self):
        if self.load == 0:
            self.owes = False
            from django.db import close_old_connections

            close_old_connections()


# Connections


def watch_connections():
    """Django closes old connections at both ends of a request. On a shared thread a neighbour may be using them."""
    from django.core import signals
    from django.db import close_old_connections

    for signal in (signals.request_started, signals.request_finished):
        if signal.disconnect(close_old_connections):
            signal.connect(close_connections_unless_shared)


def close_connections_unless_shared(**kwargs):
    from django import db

    member = getattr(here, "member", None)
    if member is None or member.load <= 1:
        return db.close_old_connections(**kwargs)
    member.owes = True
    for connection in db.connections.all(initialized_only=True):
        # One that is broken serves no neighbour either; without this a busy thread would never get another.
        if connection.errors_occurred and not connection.in_atomic_block:
            if connection.is_usable():
                connection.errors_occurred = False
            else:
                connection.close()


def close_all():
    from django import db

    for connection in db.connections.all(initialized_only=True):
        connection.close()


def in_transaction():
    from django import db

    return any(connection.in_atomic_block for connection in db.connections.all(initialized_only=True))


def drop_transactions():
    """The request is over and nobody will end its transaction: it ends as with its thread, without a commit."""
    connections.forget(lambda connection: connection.in_atomic_block)


def look_after(seat, error):
    """After a call that raised ``error``, or None: whether it leaves a transaction open. Raises nothing."""
    # What was raised in the app may have become another exception on its way, or none.
    if isinstance(error, RequestTimeout) or (seat is not None and seat.torn):
        connections.forget_all()
    if seat is not None:
        seat.torn = False
    try:
        return in_transaction()
    except BaseException:
        connections.complain("a transaction could not be looked for")
        return False


# Whether threads can be shared


def obstacle():
    """``(why requests at Django's ASGI handler cannot share threads, where)``; ``None`` when they can."""
    from django.conf import settings
    from django.utils.deprecation import MiddlewareMixin
    from django.utils.module_loading import import_string

    for dotted in settings.MIDDLEWARE:
        try:
            factory = import_string(dotted)
        except ImportError:
            continue  # Django says it better, when the handler is made
        if not getattr(factory, "async_capable", False):
            return f"the middleware {dotted} is sync only and holds a thread while its request waits", "MIDDLEWARE"
        by_mixin = getattr(factory, "__acall__", None) is MiddlewareMixin.__acall__
        if by_mixin and not dotted.startswith("django."):
            return f"the middleware {dotted} may keep something of its request on the thread", "MIDDLEWARE"
    for alias, database in settings.DATABASES.items():
        engine = database.get("ENGINE", "")
        if engine and not engine.startswith("django."):
            return f"the engine {engine} may keep something of a request with its connection", f"DATABASES[{alias!r}]"
    return None


def make(limit):
    """The crew for a Django project; ``None`` where asgiref or Django is not as this knows them."""
    from django.core.handlers.asgi import ASGIHandler

    known = hasattr(SyncToAsync, "context_to_thread_executor") and hasattr(SyncToAsync, "thread_sensitive_context")
    if not known or not hasattr(ASGIHandler, "handle"):
        return None
    return Crew(limit, obstacle() is None)
