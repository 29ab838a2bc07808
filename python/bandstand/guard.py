"""The guard: tells the edge where a request is whose time is over, and interrupts it (docs/decisions/0006-generations.md).

A thread that does nothing else reads the guard line, so it answers while all others are busy, as long as the interpreter
lets it run. Who works for which exchange on threads, and that an exception hits nobody else, is the native half's
(``crates/worker/src/interrupt.rs``); a task of the loop is cancelled by the lane's ``Cancel``; how stacks are read is
``stacks``'s, where a thread can be interrupted ``spots``'s. Invariant: nothing that comes over the line, and nothing that
the app's objects do when they are looked at, ends anything but the guard.
Source: the frames of ``crates/wire/src/frame.rs``.
"""

import json
import signal
import socket
import struct
import sys
import threading
import time
import traceback

from bandstand import _worker, spots, stacks

HEAD = struct.Struct("<IBBHQ")
INTERRUPT, STACKS, STACK = 0x08, 0x09, 0x4E
#: Neither question has a payload; what a later edge may add is skipped up to here.
PAYLOAD_MAX = 64 * 1024
#: One stack, and one answer, in bytes.
STACK_MAX, ANSWER_MAX = 60 * 1024, 512 * 1024
#: How long a thread is watched for a place where it can be interrupted, and how often. The edge waits a second, for all.
PATIENCE_SECONDS, GLANCE_SECONDS = 0.05, 0.001
#: How long the guard waits, for threads and for ``before_interrupt``, while one question after the other comes: the last
#: of them is waited for as well.
BURST_SECONDS = 0.6
#: Shortest that one of many stacks is cut to, in bytes.
STACK_MIN = 2 * 1024
#: ``hooks.Hooks.worker_abort`` in a worker that has it: called before an exchange is interrupted, with the seconds
#: that it may take.
before_interrupt = None


def start(fd, lane=None, loop=None):
    """Answers on the guard line from now on, in a thread of its own. Takes over the descriptor; below 0 there is none.

    ``lane`` and ``loop`` are those of a worker with an event loop, whose thread calls this.
    """
    if fd < 0:
        return
    guard = Guard(fd, lane, loop, threading.get_ident())
    threading.Thread(target=guard.work, name="bandstand-guard", daemon=True).start()


class Guard:
    def __init__(self, fd, lane, loop, loop_thread):
        self.line = socket.socket(fileno=fd)
        self.line.setblocking(True)
        self.line.set_inheritable(False)
        self.lane, self.loop = lane, loop
        self.loop_thread = None if loop is None else loop_thread
        self.has_complained = False
        #: Until when it may wait for anything; None while no question waits.
        self.deadline = None

    def work(self):
        try:
            # A signal is for the main thread, which waits in a system call that it has to end.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD})
            while (head := self.read(HEAD.size)) is not None:
                length, kind, _, place, id = HEAD.unpack(head)
                if length > PAYLOAD_MAX:
                    raise ValueError(f"a frame of {length} bytes on the guard line")
                if self.read(length) is None:
                    break
                if self.deadline is None:
                    self.deadline = time.monotonic() + BURST_SECONDS
                if kind in (INTERRUPT, STACKS):
                    payload = self.answer(kind, place, id)
                    self.line.sendall(HEAD.pack(len(payload), STACK, 0, place, id) + payload)
                if not self.is_asked():
                    self.deadline = None
        except OSError:
            pass  # the edge is gone, or will see that nobody answers
        except BaseException:
            self.complain()
        finally:
            self.line.close()

    def read(self, count):
        """So many bytes; None at the end of the stream."""
        taken = b""
        while len(taken) < count:
            piece = self.line.recv(count - len(taken))
            if not piece:
                return None
            taken += piece
        return taken

    def is_asked(self):
        """Whether the next question has come already."""
        try:
            return bool(self.line.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return False

    def left(self):
        """Seconds that it may still wait; at least 0."""
        return max(0.0, self.deadline - time.monotonic())

    def answer(self, kind, place, id):
        try:
            answer = self.interrupt(place, id) if kind == INTERRUPT else self.stacks()
        except BaseException:
            self.complain()
            answer = {"found": False} if kind == INTERRUPT else {"threads": [], "tasks": []}
        return encode(answer)

    def complain(self):
        """Once: what is wrong once is wrong for every request."""
        if not self.has_complained:
            self.has_complained = True
            sys.stderr.write(f"bandstand: the guard of this worker failed\n{traceback.format_exc()}")
            sys.stderr.flush()

    # One exchange

    def interrupt(self, place, id):
        """Tells where it is, then ends it."""
        holders = _worker.holders()
        mine = [holder for holder in holders if holder[:2] == (place, id)]
        for holder in mine:
            if isinstance(holder[3], dict):
                return self.interrupt_thread(holder)
        found = self.lane and self.lane.find(place, id)
        if found:
            return self.interrupt_task(*found, holders)
        # The task has ended, and its last call on a thread has not.
        return self.interrupt_thread(mine[0]) if mine else {"found": False}

    def interrupt_thread(self, holder):
        if before_interrupt is not None:
            before_interrupt(self.left())
        _, _, ident, key, crossing = holder
        stack, name = stacks.of_thread(ident), name_of(ident)
        kind = "thread"
        if crossing is not None and (task := crossing.task) is not None:
            stack = self.crossed(stack, task)
            kind, name = "task", f"{task.get_name()} (begun on {name})"
        route = route_of(stack) or resolve(key)
        text = stacks.render(stacks.application(stack), STACK_MAX)
        # Its frames hold what the app holds.
        del stack
        interrupted = self.raise_in(ident, key)
        if interrupted is None:
            return {"found": False}
        return {"found": True, "kind": kind, "name": name, "stack": text, "route": route, "interrupted": interrupted}

    def interrupt_task(self, cycle, task, holders):
        if before_interrupt is not None:
            before_interrupt(self.left())
        running = stacks.of_thread(self.loop_thread)
        stack = from_cycle(running, cycle)
        if stack:
            interrupted = False  # until the loop turns again, nothing can reach it
        else:
            task = task or next((task for task in stacks.tasks(self.loop) if cycle_of(task) is cycle), None)
            stack = [] if task is None else stacks.of_task(task, running)
            interrupted = task is not None
        seat = next(filter(None, map(seat_of, stack)), None)
        thread = next((holder for holder in holders if seat is not None and holder[3] is seat), None)
        if thread is not None:
            called = stacks.of_thread(thread[2])
            stack = [*stack, f"in {name_of(thread[2])}", *stacks.application(called)]
            back = stacks.sent_back(called)
            if back is not None:
                stack = [*stack, f"on the loop, {back.get_name()}", *stacks.of_task(back, running)]
        if running and any(entry[0] is running[-1][0] for entry in stack if not isinstance(entry, str)):
            interrupted = False  # a task of its task holds the loop
        route = route_of(stack) or resolve(cycle.scope)
        text = stacks.render(stacks.application(stack), STACK_MAX)
        del stack, running
        if thread is not None:
            self.raise_in(thread[2], seat)
        name = "the loop's first step" if task is None else task.get_name()
        return {"found": True, "kind": "task", "name": name, "stack": text, "route": route, "interrupted": interrupted}

    def raise_in(self, ident, key):
        """Ends what a thread works for: whether that is on its way. None: the thread does something else by now."""
        deadline = time.monotonic() + min(PATIENCE_SECONDS, self.left())
        while True:
            frame = _worker.current_frames().get(ident)
            spot = (frame, frame.f_lasti) if frame is not None and spots.is_safe(frame) else None
            outcome = _worker.interrupt(ident, key, spot)
            del frame, spot
            if outcome is None:
                return None
            is_exposed, is_set, crossing = outcome
            if is_set or not is_exposed or time.monotonic() > deadline:
                break
            time.sleep(GLANCE_SECONDS)
        if crossing is not None:
            self.loop.call_soon_threadsafe(crossing.cancel, True)
        return is_set or crossing is not None

    def crossed(self, stack, task):
        """The thread up to where it crossed, the coroutine on the loop, and what the thread does for it."""
        at = next((i for i, (frame, _) in enumerate(stack) if is_cross(frame)), len(stack))
        inner = stacks.application(stack[at + 1 :])
        loop = [f"on the loop, {task.get_name()}", *stacks.of_task(task, stacks.of_thread(self.loop_thread))]
        return [*stack[:at], *loop, *(["in the thread that waits for it", *inner] if inner else ())]

    # All

    def stacks(self):
        holders = _worker.holders()
        held = {holder[2]: holder[:2] for holder in holders if holder[1]}
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        idents = [ident for ident in _worker.current_frames() if ident != threading.get_ident()]
        tasks = [] if self.loop is None else stacks.tasks(self.loop)
        room = max(STACK_MIN, min(STACK_MAX, ANSWER_MAX // (2 * max(1, len(idents) + len(tasks)))))
        threads = (
            describe(names.get(ident, f"thread {ident}"), held.get(ident), stacks.of_thread(ident), room)
            for ident in sorted(idents, key=lambda ident: names.get(ident, ""))
        )
        running = [] if self.loop is None else stacks.of_thread(self.loop_thread)
        exchanges = {task: exchange for task in tasks if (exchange := exchange_of(task, holders))}
        for task in list(exchanges):
            for child in descendants(task, running):
                exchanges.setdefault(child, exchanges[task])
        loop = (describe(task.get_name(), exchanges.get(task), stacks.of_task(task, running), room) for task in tasks)
        left = ANSWER_MAX - 1024
        threads, left = within(threads, left)
        return {"threads": threads, "tasks": within(loop, left)[0]}


def describe(name, exchange, stack, limit):
    place, id = exchange or (None, None)
    return {"name": name, "place": place, "id": id, "stack": stacks.render(stacks.application(stack), limit)}


def within(rows, left):
    """As many rows as fit into so many bytes of JSON; and how many are left."""
    taken = []
    for row in rows:
        left -= len(encode(row)) + 1
        if left < 0:
            break
        taken.append(row)
    return taken, max(0, left)


def encode(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def name_of(ident):
    return next((thread.name for thread in threading.enumerate() if thread.ident == ident), f"thread {ident}")


# What frames of ours say


def local_of(frame, file, function, name):
    code = frame.f_code
    if code.co_name == function and code.co_filename == f"{stacks.OURS}{file}.py":
        return frame.f_locals.get(name)
    return None


def is_cross(frame):
    return local_of(frame, "bridge", "cross", "crossing") is not None


def seat_of(entry):
    return None if isinstance(entry, str) else local_of(entry[0], "crew", "on_the_crew", "seat")


def from_cycle(running, cycle):
    """What the loop's thread runs for this cycle at this moment."""
    for at, (frame, _) in enumerate(running):
        if local_of(frame, "asgi", "work", "cycle") is cycle:
            return running[at:]
    return []


def cycle_of(task):
    """The cycle for which a task was made, by ``asgi`` or for a stream of the bridge."""
    frame, _ = stacks.look_into(task.get_coro())
    if frame is None:
        return None
    return local_of(frame, "asgi", "work", "cycle") or local_of(frame, "bridge", "run", "cycle")


def exchange_of(task, holders):
    cycle = cycle_of(task)
    if cycle is not None:
        return cycle.place, cycle.id
    return next((holder[:2] for holder in holders if holder[4] is not None and holder[4].task is task), None)


def descendants(task, running):
    """Tasks that it waits for, directly or not."""
    seen = set()
    stacks.follow(task, running, seen, stacks.TASKS_DEEP)
    return seen - {task}


# Django, where the app has imported it


def route_of(stack):
    """The pattern that Django has found for the request in one of these frames."""
    for entry in reversed(stack):
        if isinstance(entry, str) or not entry[0].f_code.co_name.startswith("_get_response"):
            continue
        request = entry[0].f_locals.get("request")
        route = getattr(getattr(request, "resolver_match", None), "route", None)
        if isinstance(route, str):
            return route
    return None


def resolve(request):
    """The pattern for the path of an environ or a scope; None where that cannot be told."""
    urls = sys.modules.get("django.urls")
    if urls is None or not isinstance(request, dict):
        return None
    try:
        if "PATH_INFO" in request:
            path = request["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
        else:
            path = request["path"].removeprefix(request.get("root_path", ""))
        return str(urls.resolve(path).route)
    except Exception:  # no such path, settings that are none, a language that is not active here
        return None
