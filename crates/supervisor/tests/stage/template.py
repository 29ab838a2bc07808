"""Stands in for the real template and worker: speaks the protocol of decision 0006 and really forks twice.

The plan's environment says what happens at the import (IMPORT) and instead of a fork (FORK), as code. A worker runs what
one line on its channel says, as code too, and leaves at the channel's end.
"""

import ctypes
import json
import os
import signal
import socket
import sys
import time


def work(channel, lane=None, guard=None, board=None):
    said = b""
    while not said.endswith(b"\n"):
        piece = os.read(channel, 1000)
        if not piece:
            os._exit(0)
        said += piece
    exec(said, {**globals(), **locals()})
    sys.stdout.flush()
    os._exit(0)


def say(**message):
    line.send(json.dumps(message).encode())


def fork(number, descriptors):
    told, tell = os.pipe()
    between = os.fork()
    if not between:
        middle = os.getpid()
        pid = os.fork()
        if pid:
            os.write(tell, str(pid).encode())
            os._exit(0)
        for other in told, tell, line.fileno():
            os.close(other)
        os.dup2(descriptors[4], 1)
        os.dup2(descriptors[5], 2)
        os.close(descriptors[4])
        os.close(descriptors[5])
        os.setpgid(0, 0)
        while os.getppid() == middle:
            time.sleep(0.001)
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        if os.getppid() != edge:
            os._exit(1)  # it died before the line above
        work(*descriptors[:4])
    os.close(tell)
    pid = int(os.read(told, 20))
    os.close(told)
    os.waitpid(between, 0)
    say(event="forked", worker=number, pid=pid)


if "BANDSTAND_TEMPLATE_FD" not in os.environ:
    work(int(os.environ["BANDSTAND_CHANNEL_FD"]))
line = socket.socket(fileno=int(os.environ["BANDSTAND_TEMPLATE_FD"]))
edge = int(os.environ["BANDSTAND_PARENT"])
exec(os.environ.get("IMPORT", ""))
say(event="ready", warnings=["a connection was closed"])
while True:
    order, descriptors, _, _ = socket.recv_fds(line, 65536, 6, socket.MSG_CMSG_CLOEXEC)
    if not order:
        os._exit(0)
    order = json.loads(order)
    if order["order"] == "fork":
        exec(os.environ.get("FORK", "fork(order['worker'], descriptors)"))
    else:
        print("called", order["name"], order.get("worker", order.get("age")), flush=True)
    for descriptor in descriptors:
        os.close(descriptor)
