"""The double fork: a worker that is the supervisor's child, and dies with it and with nothing else.

Owns the processes between template and worker; what either does with it is ``template``'s. The child in between ends at
once, the kernel gives the worker to the nearest subreaper, and only then the worker asks for its parent-death signal,
which follows the parent it has at that moment. Invariant: the template knows a worker's number only when the worker is no
longer its grandchild. Sources: fork(2), prctl(2).
"""

import json
import os
import signal
from time import monotonic, sleep

try:
    import ctypes

    #: Loaded here, before any fork, so that workers need not.
    LIBC = ctypes.CDLL(None)
except (ImportError, OSError):  # an interpreter built without it: workers then leave when their channel ends
    LIBC = None

PR_SET_PDEATHSIG = 1
#: Seconds that the child in between may take to end: some 100 µs, unless the machine is short of everything.
PATIENCE = 30.0
#: Bytes of its report.
REPORT_BYTES = 4096


def fork_twice():
    """``(pid of the worker, 0)``; in the worker ``(0, pid of the child in between)``.

    Raises `OSError` when either fork fails: then there is no worker.
    """
    outcome, report = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        between = os.fork()
        if between == 0:
            between = os.getpid()
            fork_again(report)  # comes back in the worker alone
            return 0, between
        return wait_for(between, outcome), 0
    finally:
        os.close(outcome)
        os.close(report)


def fork_again(report):
    """In the child in between."""
    status = 1
    try:
        pid = os.fork()
        if pid == 0:
            return
        os.write(report, json.dumps({"pid": pid}).encode())
        status = 0
    except OSError as error:
        os.write(report, json.dumps({"errno": error.errno, "error": error.strerror}).encode())
    except BaseException:
        os._exit(status)  # it must never be taken for a template
    os._exit(status)


def wait_for(between, outcome):
    try:
        os.waitpid(between, 0)
    except ChildProcessError:
        pass  # the project ignores SIGCHLD, or waits for all children
    try:
        told = json.loads(os.read(outcome, REPORT_BYTES) or "{}")
    except BlockingIOError:
        told = {}
    if "pid" not in told:
        raise OSError(told.get("errno", 0), told.get("error", "the process in between ended too early"))
    return told["pid"]


def belong_to(parent, between):
    """In a worker: returns as the child of ``parent`` that is killed with it; does not return when that has ended."""
    wait, deadline = 0.0001, monotonic() + PATIENCE
    while os.getppid() == between and monotonic() < deadline:
        sleep(wait)
        wait = min(wait * 2, 0.01)
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it ended before the line above
        os._exit(1)


def give_back_memory():
    """Returns what the import has freed to the system, where the C library can: workers do not inherit it."""
    trim = getattr(LIBC, "malloc_trim", None)
    if trim is not None:
        trim(0)
