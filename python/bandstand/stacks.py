"""What threads and tasks are at, as Python writes tracebacks: outermost first, without frames of this package.

Owns how a stack is read from outside (the thread or the loop goes on meanwhile) and cut to a size; who works for which
exchange is ``guard``'s. A stack is a list of ``(frame, line number)``, with strings between the parts that run elsewhere.
Invariant: nothing of the app is called or changed. Source: the ``inspect`` module's table of ``cr_``, ``gi_`` and ``ag_``
attributes; ``asyncio.Task``, 3.10 to 3.14.
"""

import asyncio
import gc
import os
import runpy
import threading
import traceback

from bandstand import _worker

OURS = os.path.dirname(__file__) + os.sep
#: What is around a thread's or a program's own code.
AROUND = (threading.__file__, runpy.__file__, "<frozen runpy>", "<frozen threading>")
ASGIREF = os.path.join("asgiref", "sync.py")
#: How deep a chain of awaits, and of tasks that wait for tasks, is followed; tasks beside each other that are shown.
DEPTH, TASKS_DEEP, TASKS_BROAD = 300, 20, 4
#: Frames of a thread that are looked at, the innermost.
FRAMES = 2000


def is_ours(frame):
    return frame.f_code.co_filename.startswith(OURS)


def of_thread(ident):
    """All frames of a thread, outermost first; empty if there is none."""
    frame = _worker.current_frames().get(ident)
    stack = []
    while frame is not None and len(stack) < FRAMES:
        stack.append((frame, frame.f_lineno))
        frame = frame.f_back
    stack.reverse()
    return stack


def of_task(task, running):
    """The stack of a task down to what it waits for, tasks included. ``running`` is that of the loop's thread."""
    return follow(task, running, set(), TASKS_DEEP)


def follow(task, running, seen, deep):
    seen.add(task)
    stack, is_running = of_coroutine(task.get_coro(), running)
    if is_running or deep == 0:
        return stack
    for child in [child for child in waited_for(task, stack) if child not in seen][:TASKS_BROAD]:
        stack = [*stack, f"in {child.get_name()}", *follow(child, running, seen, deep - 1)]
    return stack


def of_coroutine(coroutine, running):
    """``(stack, whether it runs at this moment)``."""
    stack = []
    while coroutine is not None and len(stack) < DEPTH:
        frame, inner = look_into(coroutine)
        if frame is not None:
            for at, (other, _) in enumerate(running):
                if other is frame:
                    return stack + running[at:], True
            stack.append((frame, frame.f_lineno))
        coroutine = inner
    return stack, False


def look_into(coroutine):
    """``(its frame, what it waits for)`` of a coroutine, a generator, or an object that stands for one."""
    for prefix, waits in (("cr", "cr_await"), ("ag", "ag_await"), ("gi", "gi_yieldfrom")):
        if hasattr(coroutine, waits):
            return getattr(coroutine, prefix + "_frame"), getattr(coroutine, waits)
    if type(coroutine).__name__.startswith(("async_generator_", "coroutine_wrapper", "anext_awaitable")):
        for behind in gc.get_referents(coroutine):
            if hasattr(behind, "ag_await") or hasattr(behind, "cr_await"):
                return None, behind
    return None, None


def waited_for(task, stack):
    """The tasks without which this one does not go on."""
    waiter = getattr(task, "_fut_waiter", None)
    candidates = [waiter, *getattr(waiter, "_children", ())]
    if stack and not isinstance(waiter, asyncio.Task):
        frame = stack[-1][0]
        if os.path.basename(os.path.dirname(frame.f_code.co_filename)) == "asyncio":
            names = frame.f_locals
            group = getattr(names.get("self"), "_tasks", ())
            candidates += [names.get("fut"), *(names.get("fs") or ()), *group]
    return [child for child in candidates if isinstance(child, asyncio.Task) and not child.done()]


def sent_back(stack):
    """The task on the loop that a thread of ``sync_to_async`` waits for in ``async_to_sync``; None if there is none."""
    for entry in reversed(stack):
        code = entry[0].f_code
        if code.co_name == "thread_handler" and code.co_filename.endswith(ASGIREF):
            made = entry[0].f_locals.get("task_context") or ()
            return next((task for task in reversed(list(made)) if isinstance(task, asyncio.Task) and not task.done()), None)
    return None


def tasks(loop):
    """All tasks of a loop. The set may change while it is read: then what could be read."""
    try:
        return sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())
    except RuntimeError:
        return []


def application(stack):
    """Without what is around it, and without frames of this package."""
    first = 0
    for first, entry in enumerate([*stack, None]):
        if entry is None or isinstance(entry, str):
            break
        if not is_ours(entry[0]) and entry[0].f_code.co_filename not in AROUND:
            break
    return [entry for entry in stack[first:] if isinstance(entry, str) or not is_ours(entry[0])]


def render(stack, limit):
    """The text, at most ``limit`` bytes in UTF-8: outermost frames are left out."""
    parts, frames = [], []
    for entry in [*stack, ""]:
        if not isinstance(entry, str):
            frames.append(entry)
            continue
        parts += traceback.StackSummary.extract(iter(frames)).format()
        parts += [f"  ({entry})\n"] if entry else []
        frames = []
    text = "".join(parts).encode("utf-8", "replace")
    if len(text) > limit:
        tail = text[-max(0, limit - 40) :]
        text = b"  (outer frames are left out)\n" + tail[max(0, tail.find(b"\n  File ") + 1) :]
    return text.decode("utf-8", "replace")
