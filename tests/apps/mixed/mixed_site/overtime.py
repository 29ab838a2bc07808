"""Views that do not come to an end by themselves, one for each place where a request can be stuck. TABLE at the end.

Each says in SEEN that it has begun; those that clean up say so too, since no answer can tell it.
"""

import asyncio
import re
import time

from django.http import HttpResponse
from django.urls import path

from probe import remark


def begin(name: str) -> str:
    remark(f"begun {name}")
    return name


def naps(request, name):
    """Sleeps again and again: Python runs between two naps, and an exception can come."""
    begin(name)
    try:
        while True:
            time.sleep(0.02)
    finally:
        remark(f"cleaned up {name}")


def computes(request, name):
    """Runs Python without a pause."""
    count = len(begin(name))
    try:
        while True:
            count += 1
    finally:
        remark(f"cleaned up {name}")


def sleeps(request, name):
    """In one call of C that lets the others run: nothing of Python can be raised in it."""
    begin(name)
    time.sleep(600)


def holds_interpreter(request, name):
    """In one call of C that lets nobody run."""
    begin(name)
    re.match(r"(a+)+$", "a" * 60 + "b")


def lasts(request, name):
    """Comes to its end, after a while."""
    begin(name)
    time.sleep(0.7)
    return HttpResponse(name)


async def awaits(request, name):
    """As it should be: it can be cancelled."""
    begin(name)
    try:
        await asyncio.sleep(600)
    finally:
        remark(f"cleaned up {name}")


async def blocks(request, name):
    """What no coroutine may do: the loop stands still."""
    begin(name)
    time.sleep(600)


TABLE = [naps, computes, sleeps, holds_interpreter, lasts, awaits, blocks]
urlpatterns = [path(f"{view.__name__}/<slug:name>/", view) for view in TABLE]
