"""Where in the middle of an app's code an exception may be raised without harm that outlives its request.

Owns the table; ``guard`` looks at the innermost frame of a thread, and the native half raises only if the thread is still
there. An exception between ``lock.acquire()`` and the ``try`` after it leaves the lock taken for ever: asgiref's ``Local``,
which Django uses for each request, has such a place. ``with`` has none for locks made in C, only for those with an
``__enter__`` of their own; Django's ``atomic`` notes that a transaction is open after it has opened it. What cleans up is
not interrupted, nor is an import: half a module is worse than a late answer. Only code objects are judged: the source may
be another one by now.
Invariant: what is not safe here is left alone, and the edge replaces the worker should the request not end by itself.
"""

import os
import threading

#: Innermost function, whoever wrote it.
NAMES = {"acquire", "release", "_acquire_restore", "_release_save", "_is_owned"}
#: Function anywhere in the stack: the app begins what it has to end, or cleans up.
WHOLE = {"__enter__", "__aenter__", "__exit__", "__aexit__", "__del__"}
#: Innermost file, by its end.
FILES = (os.path.join("asgiref", "local.py"), f"{os.sep}contextlib.py", f"{os.sep}weakref.py", f"{os.sep}_weakrefset.py")
#: In ``threading``, which is all about locks, only those that wait.
WAITING = {"wait", "join", "_wait_for_tstate_lock"}
IMPORT = "<frozen importlib"
#: A function with a name like this in it may just have taken a lock, by that name or by another that it gave it.
TAKING = "acquire"
#: Frames that are looked at.
DEPTH = 200


def is_safe(frame):
    """Whether the thread whose innermost frame this is may be interrupted right here."""
    return is_safe_inside(frame) and is_safe_around(frame)


def is_safe_inside(frame):
    code = frame.f_code
    if code.co_name in NAMES or code.co_filename.endswith(FILES):
        return False
    if code.co_filename == threading.__file__:
        return code.co_name in WAITING
    return not any(TAKING in name for name in (*code.co_names, *code.co_varnames, *code.co_freevars))


def is_safe_around(frame):
    for _ in range(DEPTH):
        if frame is None:
            break
        if frame.f_code.co_name in WHOLE or frame.f_code.co_filename.startswith(IMPORT):
            return False
        frame = frame.f_back
    return True
