"""What a page asks for while it is open: orders as they come in, and products as one types.

The feed reads the database, so it works with any number of worker processes and without a broker.
"""

import asyncio
import json
from collections.abc import AsyncIterator

from django.conf import settings
from django.contrib.admin.views.decorators import staff_member_required
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.formats import date_format
from django.views.decorators.http import require_GET, require_safe

from ..models import Order, availability
from ..templatetags.money import euros
from .catalogue import asked, matching

SUGGESTIONS = 8
"""Products that the search box offers."""

KEEP_ALIVE = 15.0
"""A feed is never silent for longer, in seconds: proxies close what looks idle."""

TABLE = 30
"""Orders on the packing table."""


@require_GET
async def search(request: HttpRequest) -> JsonResponse:
    """`/search/live/?q=`: the first products of what `/search/` would show."""
    query = asked(request)
    found = matching(query)
    results = [
        {
            "name": product.name,
            "maker": product.maker,
            "price": euros(product.price),
            "stock": product.stock,
            "text": availability(product.stock),
            "url": product.get_absolute_url(),
            "picture": product.picture.url if product.picture else None,
        }
        async for product in found[:SUGGESTIONS]
    ]
    count = await found.acount() if len(results) == SUGGESTIONS else len(results)
    return JsonResponse({"query": query, "count": count, "results": results})


@staff_member_required(login_url="login")
@require_safe
def table(request: HttpRequest) -> HttpResponse:
    """The packing table: the newest orders of all customers. Its page listens to the feed."""
    orders = list(Order.objects.prefetch_related("lines")[:TABLE])
    return render(request, "shop/table.html", {"orders": orders, "newest": newest(orders)})


def newest(orders: list[Order]) -> int:
    """Where the feed of a page with these orders begins. The feed goes by number and a page by date: its first is not always the last in."""
    return max((order.pk for order in orders), default=0)


@require_GET
async def feed(request: HttpRequest) -> HttpResponse:
    """Server-sent events: the customer's own new orders, or with `?all=1` everybody's, for staff.

    Begins after the order `after` (`newest` of what the page shows), on a reconnection after the last one that arrived, else with
    whatever comes next.
    """
    user = await request.auser()
    everybody = "all" in request.GET
    if not user.is_authenticated or (everybody and not user.is_staff):
        return HttpResponse("Only for customers with an account, and all orders only for staff.\n", status=403, content_type="text/plain")
    orders = Order.objects.all() if everybody else Order.objects.filter(user=user)
    seen = _number(request.headers.get("Last-Event-ID")) or _number(request.GET.get("after"))
    if seen is None:
        seen = await orders.order_by("-pk").values_list("pk", flat=True).afirst() or 0
    response = StreamingHttpResponse(_events(orders, seen, asyncio.get_running_loop()), content_type="text/event-stream")
    response["Cache-Control"] = "no-store"
    response["X-Accel-Buffering"] = "no"
    return response


async def _events(orders: QuerySet[Order], seen: int, loop: asyncio.AbstractEventLoop) -> AsyncIterator[str]:
    """Each order after `seen`, for ever.

    Under WSGI Django reads the whole stream in a loop of its own before it sends anything: then the stream ends with what
    there is, and the browser asks again after `retry` milliseconds.
    """
    lasting = asyncio.get_running_loop() is loop
    yield f"retry: {1000 if lasting else 5000}\n\n"
    silent = 0.0
    while True:
        async for order in orders.filter(pk__gt=seen).order_by("pk").prefetch_related("lines").aiterator(chunk_size=100):
            seen, silent = order.pk, 0.0
            yield f"event: order\nid: {order.pk}\ndata: {json.dumps(_told(order))}\n\n"
        if not lasting:
            return
        await asyncio.sleep(settings.LIVE_SECONDS)
        silent += settings.LIVE_SECONDS
        if silent >= KEEP_ALIVE:
            silent = 0.0
            yield ": still here\n\n"


def _told(order: Order) -> dict[str, str]:
    return {
        "reference": order.reference,
        "url": reverse("order", args=[order.pk]),
        "invoice": reverse("invoice", args=[order.pk]),
        "customer": f"{order.name}, {order.city}",
        "date": date_format(order.created, "j F Y"),
        "lines": ", ".join(map(str, order.lines.all())),
        "total": euros(order.total),
    }


def _number(text: str | None) -> int | None:
    """A key that SQLite can compare with, or None."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None
