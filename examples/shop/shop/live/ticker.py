"""The stock ticker, `/live/stock/`: a page says which products it shows, and hears of each change of their stock.

    page   → {"watch": [12, 40]}
    ticker → {"stock": {"12": {"left": 3, "text": "Only 3 left"}, "40": …}}   at once, and then what changes

Each process with open tickers looks once a second for changes, whatever their number: so it works with any number of worker
processes and without a broker. With REDIS_URL set nobody looks; the process that sells tells all others.
"""

import asyncio
import logging
from weakref import WeakKeyDictionary

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.layers import get_channel_layer
from django.conf import settings

from ..models import availability
from . import stock

MOST = 100
"""The largest number of products that one page may watch."""

UNACCEPTABLE = 1003
"""Close code for messages that no page of ours sends (RFC 6455 §7.4.1)."""

logger = logging.getLogger(__name__)


class StockTicker(AsyncJsonWebsocketConsumer):
    groups = [stock.GROUP]

    async def connect(self) -> None:
        self.watched: set[int] = set()
        self.watch = None if settings.REDIS_URL else await Watch.joined()
        await self.accept()

    async def disconnect(self, code: int) -> None:
        if getattr(self, "watch", None):
            self.watch.leave()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None, **kwargs) -> None:
        try:
            asked = (await self.decode_json(text_data))["watch"]
        except (ValueError, KeyError, TypeError, RecursionError):
            asked = None
        if not isinstance(asked, list) or len(asked) > MOST or not all(type(pk) is int and 0 < pk < 2**63 for pk in asked):
            await self.close(UNACCEPTABLE)
            return
        self.watched = set(asked)
        await self.tell(await database_sync_to_async(stock.left_of)(asked))

    async def stock_changed(self, event: dict) -> None:
        left = {int(pk): left for pk, left in event["left"].items()}
        await self.tell({pk: left[pk] for pk in self.watched & left.keys()})

    async def tell(self, left: dict[int, int]) -> None:
        if left:
            await self.send_json({"stock": {str(pk): {"left": count, "text": availability(count)} for pk, count in left.items()}})


class Watch:
    """Looks for changes while somebody listens, and hands them to the layer of this process. One for each event loop."""

    _of: "WeakKeyDictionary[asyncio.AbstractEventLoop, Watch]" = WeakKeyDictionary()

    def __init__(self) -> None:
        self.listeners = 0
        self.starting = asyncio.Lock()
        self.task: asyncio.Task | None = None

    @classmethod
    async def joined(cls) -> "Watch":
        """One listener more. From here on it misses no change."""
        watch = cls._of.setdefault(asyncio.get_running_loop(), cls())
        async with watch.starting:
            if watch.task is None or watch.task.done():
                seen = await database_sync_to_async(stock.version)()
                watch.task = asyncio.create_task(watch.look(seen))
            watch.listeners += 1
        return watch

    def leave(self) -> None:
        self.listeners -= 1
        if not self.listeners and self.task:
            self.task.cancel()
            self.task = None

    async def look(self, seen: int) -> None:
        layer = get_channel_layer()
        while True:
            await asyncio.sleep(settings.LIVE_SECONDS)
            try:
                seen, left = await database_sync_to_async(stock.since)(seen)
                if left:
                    await layer.group_send(stock.GROUP, stock.message(left))
            except Exception:
                logger.exception("looking for changes of stock failed; the next look is in %g s", settings.LIVE_SECONDS)
