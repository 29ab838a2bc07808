"""Bandstand puts a Django project on the internet: one native program in front, your own Python behind it.

What an app may import from here is below; nothing else is loaded with it.
"""

__version__ = "0.1.0"


class RequestTimeout(BaseException):
    """The request that this code works for has taken longer than ``timeout``: its client has got 504 already.

    It is raised in the middle of the app's code, at whatever line a thread has come to; a thread that waits in a system
    call or a C library sees it when that returns. Like ``KeyboardInterrupt`` it is no ``Exception``, so ``except Exception``
    does not swallow it. ``finally`` blocks run and ``with`` blocks are left, so ``transaction.atomic()`` rolls back; the
    thread's database connections are closed afterwards. Code that keeps a connection of its own must not use it again after
    an exception of this kind came out of a call. An async view gets ``asyncio.CancelledError`` instead, and the middleware
    around it this.

    Let it go on after cleaning up: a request that is not over two seconds later costs the worker its life.
    """
