"""The template process: imports the project once and forks workers (docs/decisions/0006-generations.md).

The same command as a worker, with ``BANDSTAND_TEMPLATE_FD``. Owns the line to the supervisor, a message a packet; leaves
what a fork is to ``forking``, what must not be shared to ``leftovers``, and what a worker does to ``worker.start``.
Invariants: one thread, no event loop, no open connection of Django; the project's exit handlers run in workers alone, once
there can be any; no order, however broken, ends this process. Sources: unix(7), ``gc.freeze``.
"""

import dataclasses
import gc
import json
import os
import sys
from socket import MSG_CMSG_CLOEXEC, recv_fds, socket

from bandstand import children, forking, leftovers, warm, worker

#: Bytes of one packet that is read, and of one that is sent: any system takes so many at once.
ORDER_BYTES, EVENT_BYTES = 256 * 1024, 64 * 1024
#: Names of the threads for which this template has started over.
THREADS = "BANDSTAND_THREADS_LEFT"
#: What comes with the order to fork, in this order.
DESCRIPTORS = ("channel", "lane", "guard", "board", "stdout", "stderr")


def main(taken):
    """Follows orders until the supervisor wants no more, and in a worker until the edge does; the exit status."""
    line = Line(int(taken["BANDSTAND_TEMPLATE_FD"]))
    worker.prepare_process(taken.get("BANDSTAND_PYTHONPATH", ""))
    template = Template(line, taken)
    try:
        template.load()
    except BaseException as error:  # SystemExit too
        line.say("failed", traceback=worker.explain(error))
        return 1
    warnings = leftovers.close_connections()
    names = leftovers.threads()
    if names and template.options.hooks is not None:
        start_over(line, taken, names)
    if names:
        line.say("threads", names=names)
        return 0
    if taken.get(THREADS):
        warnings.append(f"the import left threads running, which a fork would lose ({taken[THREADS]}): each worker imports by itself")
    warnings += leftovers.describe_sockets({0, 1, 2, line.number})
    freeze()
    line.say("ready", warnings=warnings)
    while (received := line.receive()) is not None:
        options = template.obey(*received)
        if options is not None:
            return template.work(options)
    flush()
    os._exit(0)  # the project's exit handlers are its workers' now


def start_over(line, taken, names):
    """The same process again, without the import: hooks of the server itself need a template."""
    flush()
    os.set_inheritable(line.number, True)
    ours = {**taken, "BANDSTAND_PRELOAD": "0", "BANDSTAND_FIRST": "0", THREADS: ", ".join(names)}
    os.execve(sys.executable, sys.orig_argv, {**os.environ, **ours})


def freeze():
    """What is there now is shared; the collector must not touch it in workers, which would copy it page by page."""
    gc.collect()
    gc.freeze()
    forking.give_back_memory()


def flush():
    """What is still held back would be written by each worker again."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            continue  # the project has closed or replaced it


class Line:
    """The socket to the supervisor. A template without one has nobody to work for."""

    def __init__(self, number):
        os.set_inheritable(number, False)
        self.number = number
        self.socket = socket(fileno=number)
        self.socket.setblocking(True)

    def receive(self):
        """``(message, descriptors)``; None at the end. What is not understood is an empty message."""
        data, descriptors, _, _ = recv_fds(self.socket, ORDER_BYTES, len(DESCRIPTORS), MSG_CMSG_CLOEXEC)
        if not data:
            return None
        try:
            message = json.loads(data)
        except (ValueError, RecursionError):
            message = None
        return message if isinstance(message, dict) else {}, descriptors

    def say(self, event, **told):
        try:
            self.socket.send(encode({"event": event, **told}))
        except (BrokenPipeError, ConnectionResetError):
            os._exit(0)

    def close(self):
        self.socket.close()


def encode(message):
    """One packet; of what is too long the end is cut."""
    while len(packet := json.dumps(message, ensure_ascii=False).encode(errors="replace")) > EVENT_BYTES:
        longest = max(message, key=lambda name: len(json.dumps(message[name])))
        message = {**message, longest: message[longest][: len(message[longest]) // 2]}
    return packet


class Template:
    def __init__(self, line, taken):
        self.line, self.taken = line, taken
        self.options = worker.read_options(taken)
        self.parent = int(taken["BANDSTAND_PARENT"])
        self.apps = self.project = None

    def load(self):
        """Imports the project; raises whatever it raises. With preload off each worker does it."""
        if self.taken.get("BANDSTAND_HOOKS"):
            from bandstand import hooks

            self.options.hooks = hooks.from_environment(self.taken)
            # Once in the life of a server: not at a reload, nor for a template after a template.
            if self.options.hooks is not None and self.taken.get("BANDSTAND_FIRST") == "1":
                self.options.hooks.on_starting()
        if self.taken.get("BANDSTAND_PRELOAD", "1") == "1":
            self.apps, self.project = worker.load(self.taken)
            warm.warm(self.apps, self.options)

    def obey(self, message, descriptors):
        """In a worker that this order has made: its options. In the template: None."""
        options = None
        try:
            match message.get("order"):
                case "fork":
                    options = self.fork(message.get("worker"), descriptors)
                case "hook":
                    if self.options.hooks is not None:
                        self.options.hooks.call(message)
                case _:
                    print("bandstand: the template was given an order that it does not know", file=sys.stderr, flush=True)
        finally:
            if options is None:
                for number in descriptors:
                    os.close(number)
        return options

    def fork(self, number, descriptors):
        if len(descriptors) != len(DESCRIPTORS):
            said = f"{len(descriptors)} descriptors came with the order, not {len(DESCRIPTORS)}"
            return self.line.say("fork_failed", worker=number, error=said)
        hooks = self.options.hooks
        young = hooks and hooks.pre_fork()
        flush()
        try:
            pid, between = forking.fork_twice()
        except OSError as error:
            return self.line.say("fork_failed", worker=number, error=str(error))
        if pid:
            if hooks:
                hooks.forked(young, pid)
            return self.line.say("forked", worker=number, pid=pid)
        if hooks:
            hooks.worker = young
        return self.become_worker(between, dict(zip(DESCRIPTORS, descriptors, strict=True)))

    def become_worker(self, between, given):
        """In the worker: what it has of its own."""
        self.line.close()
        os.setpgid(0, 0)
        for name, number in (("stdout", 1), ("stderr", 2)):
            os.dup2(given[name], number)
            os.close(given[name])
        forking.belong_to(self.parent, between)
        return dataclasses.replace(
            self.options,
            channel_fd=given["channel"],
            loop_fd=given["lane"],
            guard_fd=given["guard"],
            board_fd=given["board"],
        )

    def work(self, options):
        children.disown_at_fork(options)
        if self.apps is None:
            return worker.boot(self.taken, options)
        return worker.start(self.apps, options, self.project)
