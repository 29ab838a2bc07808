"""What a chain of middleware may consist of."""

import contextvars
import threading

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.db import connection
from django.http import HttpResponse

from probe import remark

word = contextvars.ContextVar("word", default="unset")


class Trace:
    """Sync, as most are. It opens the database connection, and says in which thread; the answer tells what became of a
    context variable that the view sets."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        remark(f"{request.method} {request.path}")
        left, request.middleware_thread = word.get(), threading.get_ident()
        word.set("from the middleware")
        if request.path.startswith("/orm/"):
            connection.ensure_connection()
            request.middleware_connection = id(connection.connection)
        response = self.get_response(request)
        response["X-Left"] = left
        response["X-Word"] = word.get()
        response["X-Same-Thread"] = str(threading.get_ident() == request.middleware_thread)
        word.set("unset")
        return response


class Light:
    """Holds no thread while its request waits: runs in either chain, and says no more than the views need."""

    sync_capable, async_capable = True, True

    def __init__(self, get_response):
        self.get_response = get_response
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request):
        request.middleware_thread = threading.get_ident()
        return self.get_response(request)


class AnswersItself:
    """/short/… never comes to a view."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        if request.path.startswith("/short/"):
            return HttpResponse(f"short {type(request).__name__}")
        return self.get_response(request)

    def process_exception(self, request, exception):
        if str(exception) == "for the middleware":
            return HttpResponse("the middleware caught it", status=409)


class AsyncOnly:
    """Cannot run in a sync chain."""

    sync_capable, async_capable = False, True

    def __init__(self, get_response):
        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request):
        response = await self.get_response(request)
        response["X-Async-Only"] = "1"
        return response


class Both:
    """Runs in either chain; says in which."""

    sync_capable, async_capable = True, True

    def __init__(self, get_response):
        self.get_response = get_response
        self.mode = "async" if iscoroutinefunction(get_response) else "sync"
        if self.mode == "async":
            markcoroutinefunction(self)

    def __call__(self, request):
        if self.mode == "async":
            return self.later(request)
        response = self.get_response(request)
        response["X-Chain"] = "sync"
        return response

    async def later(self, request):
        response = await self.get_response(request)
        response["X-Chain"] = "async"
        return response
