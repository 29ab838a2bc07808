"""The supervisor's side of a template, as a script: starts one, orders forks, and speaks with its workers as `Edge` does.

This process is the subreaper that the program is: it becomes the parent of the workers, and reaps those it made.
"""

import contextlib
import ctypes
import json
import mmap
import os
import select
import signal
import socket
import subprocess
import sys

from scripted_edge import PACKAGE, PATIENCE, PLACES, STRIDE, Edge

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper():
    assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0


class Forked(Edge):
    """A worker that a template made; `Edge` in all else."""

    def __init__(self, folder, number):
        self.socket, channel = socket.socketpair()
        self.lane, lane = socket.socketpair()
        self.guard, guard = socket.socketpair()
        for ours in (self.socket, self.lane, self.guard):
            ours.settimeout(PATIENCE)
        channel.setblocking(False)
        memory = os.memfd_create("board")
        os.ftruncate(memory, PLACES * STRIDE)
        self.board = mmap.mmap(memory, PLACES * STRIDE)
        self.stderr_path = folder / f"stderr-{number}"
        self.stdout, stdout = os.pipe()
        stderr = os.open(self.stderr_path, os.O_WRONLY | os.O_CREAT)
        self.theirs = [channel.detach(), lane.detach(), guard.detach(), memory, stdout, stderr]
        self.number, self.pid, self.status = number, None, None
        self.buffer, self.descriptors, self.stray, self.next_id = b"", [], [], 1

    def let_go(self):
        """The template has its own copies now."""
        while self.theirs:
            os.close(self.theirs.pop())

    def wait(self):
        """The exit status, negative for a signal, as `subprocess` has it."""
        if self.status is None:
            pidfd = os.pidfd_open(self.pid)
            ended, _, _ = select.select([pidfd], [], [], PATIENCE)
            os.close(pidfd)
            assert ended, f"the worker did not leave:\n{self.stderr()}"
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    def read_stdout(self):
        """All of it; to be called when the worker has ended."""
        with os.fdopen(os.dup(self.stdout), "rb") as stdout:
            return stdout.read().decode()

    def close(self):
        self.let_go()
        for ours in (self.socket, self.lane, self.guard):
            ours.close()
        try:
            if self.pid is not None:
                self.wait()
        finally:
            if self.pid is not None and self.status is None:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
            os.close(self.stdout)
            self.board.close()


class Supervisor:
    """One template."""

    def __init__(self, folder, source=None, app="app", env=None, parent=None, python=sys.executable):
        if source is not None:
            (folder / "app.py").write_text(source)
        self.folder = folder
        self.line, inner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.line.settimeout(PATIENCE)
        inner.setblocking(False)
        settings = {
            "BANDSTAND_TEMPLATE_FD": str(inner.fileno()),
            "BANDSTAND_PARENT": str(parent or os.getpid()),
            "BANDSTAND_FIRST": "1",
            "BANDSTAND_APP": app,
            "BANDSTAND_THREADS": "1",
            "BANDSTAND_MULTIPROCESS": "1",
            "PYTHONPATH": PACKAGE,
        }
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("BANDSTAND_", "PYTHON", "DJANGO_"))}
        self.stderr_path = folder / "stderr-template"
        with open(self.stderr_path, "wb") as stderr:
            self.process = subprocess.Popen(
                [python, "-m", "bandstand.worker"],
                cwd=folder,
                env={**inherited, **settings, **(env or {})},
                pass_fds=[inner.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
            )
        inner.close()
        self.workers = []

    def receive(self):
        """The next message; `EOFError` at the end."""
        packet = self.line.recv(1 << 20)
        if not packet:
            raise EOFError
        return json.loads(packet)

    def expect(self, event):
        message = self.receive()
        assert message["event"] == event, message
        return message

    def send(self, message, descriptors=()):
        data = message if isinstance(message, bytes) else json.dumps(message).encode()
        socket.send_fds(self.line, [data], list(descriptors))

    def fork(self, hello=True):
        """A worker, after its hello."""
        worker = Forked(self.folder, len(self.workers) + 1)
        self.workers.append(worker)
        self.send({"order": "fork", "worker": worker.number}, worker.theirs)
        worker.let_go()
        message = self.expect("forked")
        assert message["worker"] == worker.number
        worker.pid = message["pid"]
        if hello:
            worker.hello()
        return worker

    def settle(self):
        """Returns when all that was asked before is done with: orders are followed one after the other."""
        self.send({"order": "fork", "worker": 0})
        self.expect("fork_failed")

    def kill(self):
        self.process.kill()
        return self.process.wait(PATIENCE)

    def stop(self):
        """Ends the line; the exit status."""
        self.line.close()
        return self.process.wait(PATIENCE)

    def stderr(self):
        return self.stderr_path.read_text()

    def close(self):
        with contextlib.ExitStack() as stack:
            stack.callback(self.process.stdout.close)
            stack.callback(self.process.wait)
            stack.callback(self.process.kill)
            for worker in self.workers:
                stack.callback(worker.close)
            self.line.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE)
