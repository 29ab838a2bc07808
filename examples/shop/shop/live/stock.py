"""Changes of stock: written down in the transaction that makes them, and read from there by whoever tells them.

The key of a `StockChange` is the version of the shop's stock: a process that remembers the last one it has seen asks for those
after it. SQLite's writers queue, so a lower key is never committed after a higher one.
"""

import logging
from collections.abc import Iterable
from functools import partial

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.conf import settings
from django.db import transaction

from ..models import Product, StockChange

GROUP = "stock"
"""The group of the channel layer that all tickers are in."""

logger = logging.getLogger(__name__)


def changed(products: Iterable[int]) -> None:
    """Write down what is left of these products, by their keys. Belongs in the transaction that changed it."""
    left = dict(Product.objects.filter(pk__in=products).values_list("pk", "stock"))
    StockChange.objects.bulk_create(StockChange(product_id=pk, left=stock) for pk, stock in left.items())
    if settings.REDIS_URL:
        transaction.on_commit(partial(_announce, left))


def version() -> int:
    return StockChange.objects.order_by("-pk").values_list("pk", flat=True).first() or 0


def since(seen: int) -> tuple[int, dict[int, int]]:
    """The version now, and what is left of each product that has changed after version `seen`."""
    left = {}
    for seen, product, stock in StockChange.objects.filter(pk__gt=seen).order_by("pk").values_list("pk", "product_id", "left"):
        left[product] = stock
    return seen, left


def left_of(products: Iterable[int]) -> dict[int, int]:
    return dict(Product.objects.filter(pk__in=products).values_list("pk", "stock"))


def message(left: dict[int, int]) -> dict:
    """For the channel layer. Keys are text, because not every layer keeps numbers there."""
    return {"type": "stock.changed", "left": {str(pk): stock for pk, stock in left.items()}}


def _announce(left: dict[int, int]) -> None:
    """To the tickers of all processes. An order is good even when nobody hears of it."""
    try:
        async_to_sync(get_channel_layer().group_send)(GROUP, message(left))
    except Exception:
        logger.exception("the stock of %d products changed, and the channel layer could not be told", len(left))
