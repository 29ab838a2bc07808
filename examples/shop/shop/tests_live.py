"""The shop's live pages: the stock ticker, the order feed and the search box."""

import asyncio
import json
from unittest.mock import patch

from asgiref.sync import sync_to_async
from asgiref.testing import ApplicationCommunicator
from channels.layers import get_channel_layer
from django.contrib.auth import get_user_model
from django.test import AsyncClient, override_settings

from config.asgi import application
from shop.live import stock, ticker
from shop.models import Order, OrderLine, Product, StockChange
from shop.tests import ADDRESS, ShopTest

HOST = [(b"host", b"testserver"), (b"origin", b"http://testserver")]


class Page(ApplicationCommunicator):
    """A page's end of the ticker."""

    def __init__(self, headers=HOST, path: str = "/live/stock/") -> None:
        super().__init__(application, {"type": "websocket", "path": path, "headers": headers, "query_string": b"", "subprotocols": []})

    async def connect(self) -> bool:
        await self.send_input({"type": "websocket.connect"})
        return (await self.receive_output())["type"] == "websocket.accept"

    async def say(self, text: str | None, data: bytes | None = None) -> None:
        await self.send_input({"type": "websocket.receive", "text": text, "bytes": data})

    async def watch(self, *products: int) -> None:
        await self.say(json.dumps({"watch": products}))

    async def hear(self) -> dict:
        return json.loads((await self.receive_output())["text"])["stock"]

    async def disconnect(self) -> None:
        await self.send_input({"type": "websocket.disconnect", "code": 1001})
        await self.wait()


@override_settings(LIVE_SECONDS=0.01)
class TickerTest(ShopTest):
    def sell(self, quantity: int) -> None:
        self.put(self.product, quantity)
        self.assertEqual(self.client.post("/checkout/", ADDRESS).status_code, 302)

    async def test_a_page_hears_what_is_left_at_once_and_after_each_order(self) -> None:
        page = Page()
        self.assertTrue(await page.connect())
        key = str(self.product.pk)
        await page.watch(self.product.pk, 10**9)
        self.assertEqual(await page.hear(), {key: {"left": 10, "text": "In stock, 10 pieces"}})
        await sync_to_async(self.sell)(8)
        self.assertEqual(await page.hear(), {key: {"left": 2, "text": "Only 2 left"}})
        await sync_to_async(self.sell)(2)
        self.assertEqual((await page.hear())[key]["left"], 0)
        await page.disconnect()

    async def test_other_products_are_not_its_business(self) -> None:
        other = await Product.objects.exclude(pk=self.product.pk).afirst()
        page, both = Page(), Page()
        for one, watched in ((page, [other.pk]), (both, [other.pk, self.product.pk])):
            await one.connect()
            await one.watch(*watched)
            await one.hear()
        await sync_to_async(self.sell)(1)
        self.assertEqual((await both.hear()).keys(), {str(self.product.pk)})
        self.assertTrue(await page.receive_nothing())
        for one in (page, both):
            await one.disconnect()

    async def test_the_database_is_asked_while_somebody_listens_and_by_one(self) -> None:
        pages = [Page(), Page(), Page()]
        for page in pages:
            await page.connect()
        watch = ticker.Watch._of[asyncio.get_running_loop()]
        self.assertEqual((watch.listeners, watch.task.done()), (3, False))
        for page in pages:
            await page.disconnect()
        self.assertEqual((watch.listeners, watch.task), (0, None))

    async def test_a_look_that_fails_is_not_the_last(self) -> None:
        page, since, looks = Page(), stock.since, []

        def once_busy(seen):
            looks.append(seen)
            if len(looks) == 1:
                raise RuntimeError("the database is busy")
            return since(seen)

        await page.connect()
        await page.watch(self.product.pk)
        await page.hear()
        with patch.object(stock, "since", once_busy), self.assertLogs("shop.live"):
            await sync_to_async(self.sell)(1)
            self.assertEqual((await page.hear())[str(self.product.pk)]["left"], 9)
        await page.disconnect()

    async def test_what_no_page_sends_closes_the_ticker(self) -> None:
        for text in ("{", "[]", "7", "{}", '{"watch": 1}', '{"watch": ["1"]}', '{"watch": [true]}', '{"watch": [-1]}',
                     json.dumps({"watch": [2**63]}), json.dumps({"watch": list(range(1, 102))}), "[" * 100_000):  # fmt: skip
            with self.subTest(text=text[:40]):
                page = Page()
                await page.connect()
                await page.say(text)
                self.assertEqual(await page.receive_output(), {"type": "websocket.close", "code": ticker.UNACCEPTABLE})
                await page.disconnect()
        page = Page()
        await page.connect()
        await page.say(None, b"\0")
        self.assertEqual((await page.receive_output())["code"], ticker.UNACCEPTABLE)

    async def test_other_sites_and_other_paths_are_refused(self) -> None:
        self.assertFalse(await Page([(b"host", b"testserver"), (b"origin", b"https://evil.example")]).connect())
        with self.assertRaisesMessage(ValueError, "No route found"):
            await Page(path="/live/nothing/").connect()

    def test_the_desk_changes_the_stock_too(self) -> None:
        self.client.force_login(get_user_model().objects.get(username="admin"))
        form = {name: value for name, value in Product.objects.filter(pk=self.product.pk).values()[0].items() if name != "picture"}
        form |= {"category": form.pop("category_id"), "stock": 77}
        page = f"/admin/shop/product/{self.product.pk}/change/"
        self.assertRedirects(self.client.post(page, form), "/admin/shop/product/")
        self.assertRedirects(self.client.post(page, form | {"name": "Another name"}), "/admin/shop/product/")
        self.assertEqual(list(StockChange.objects.values_list("product", "left")), [(self.product.pk, 77)])

    def test_with_a_broker_the_sale_is_announced_once_it_is_certain(self) -> None:
        heard = []

        async def announced(group, message):
            heard.append((group, message["left"]))

        with override_settings(REDIS_URL="redis://none"), patch.object(get_channel_layer(), "group_send", announced):
            with self.captureOnCommitCallbacks() as certain:
                self.sell(3)
            self.assertEqual(heard, [])
            certain[-1]()
        self.assertEqual(heard, [("stock", {str(self.product.pk): 7})])

    def test_a_broker_that_is_down_stops_no_sale(self) -> None:
        async def down(group, message):
            raise ConnectionError("no broker")

        with override_settings(REDIS_URL="redis://none"), patch.object(get_channel_layer(), "group_send", down), self.assertLogs("shop.live"):
            with self.captureOnCommitCallbacks(execute=True):
                self.sell(3)

    def test_pages_name_the_products_they_show(self) -> None:
        self.assertContains(self.client.get("/products/"), 'class="tag" data-stock="', count=20)
        self.assertContains(self.client.get(self.product.get_absolute_url()), f'data-stock="{self.product.pk}"', count=2)
        Product.objects.update(stock=0)
        self.assertContains(self.client.get("/products/"), ">sold out<", count=20)
        self.assertContains(self.client.get(self.product.get_absolute_url()), f'data-stock="{self.product.pk}" hidden>')


@override_settings(LIVE_SECONDS=0.01)
class FeedTest(ShopTest):
    def order(self, user=None) -> Order:
        order = Order.objects.create(user=user, name="Zoë", city="Köln", goods=self.product.price, shipping=0)
        OrderLine.objects.create(order=order, product=self.product, name=self.product.name, price=self.product.price, quantity=1)
        return order

    async def listen(self, who: str, query: str = "", **headers: str):
        client = AsyncClient()
        await client.aforce_login(await get_user_model().objects.aget(username=who))
        answer = await client.get("/orders/feed/" + query, headers=headers)
        self.assertEqual((answer.status_code, answer["Content-Type"]), (200, "text/event-stream"))
        return aiter(answer)

    async def next(self, feed) -> tuple[int, dict]:
        event = (await anext(feed)).decode()
        self.assertTrue(event.startswith("event: order\nid: ") and event.endswith("\n\n"), event)
        lines = event.splitlines()
        return int(lines[1].removeprefix("id: ")), json.loads(lines[2].removeprefix("data: "))

    async def test_customers_hear_of_their_own_orders(self) -> None:
        feed = await self.listen("demo")
        self.assertEqual(await anext(feed), b"retry: 1000\n\n")
        await sync_to_async(self.order)()
        mine = await sync_to_async(self.order)(self.demo)
        key, told = await self.next(feed)
        self.assertEqual((key, told["reference"], told["url"]), (mine.pk, mine.reference, f"/orders/{mine.pk}/"))
        self.assertEqual((told["customer"], told["lines"]), ("Zoë, Köln", f"1 × {self.product.name}"))
        await feed.aclose()

    async def test_staff_hear_of_all(self) -> None:
        feed = await self.listen("admin", "?all=1")
        await anext(feed)
        order = await sync_to_async(self.order)()
        self.assertEqual((await self.next(feed))[0], order.pk)
        await feed.aclose()

    async def test_nothing_is_lost_between_the_page_and_the_feed_or_on_a_reconnection(self) -> None:
        first, second = await sync_to_async(self.order)(), await sync_to_async(self.order)()
        cases = [(f"&after={first.pk}", {}), (f"&after={first.pk - 1}", {"Last-Event-ID": str(first.pk)})]
        for query, headers in cases:
            with self.subTest(query=query, **headers):
                feed = await self.listen("admin", "?all=1" + query, **headers)
                await anext(feed)
                self.assertEqual((await self.next(feed))[0], second.pk)
                await feed.aclose()
        feed = await self.listen("admin", "?all=1&after=none", **{"Last-Event-ID": "9" * 30})
        await anext(feed)
        third = await sync_to_async(self.order)()
        self.assertEqual((await self.next(feed))[0], third.pk)
        await feed.aclose()

    async def test_a_silent_feed_gives_a_sign_of_life(self) -> None:
        with patch("shop.views.live.KEEP_ALIVE", 0.03):
            feed = await self.listen("demo")
            self.assertEqual([await anext(feed) for _ in range(3)], [b"retry: 1000\n\n", b": still here\n\n", b": still here\n\n"])
            await feed.aclose()

    def test_under_wsgi_it_ends_and_the_browser_asks_again(self) -> None:
        self.client.force_login(self.demo)
        before = Order.objects.latest("pk").pk
        order = self.order(self.demo)
        with self.assertWarnsMessage(Warning, "asynchronous iterators"):
            text = b"".join(self.client.get(f"/orders/feed/?after={before}")).decode()
        self.assertTrue(text.startswith("retry: 5000\n\n"))
        self.assertEqual(text.count("event: order"), 1)
        self.assertIn(f"id: {order.pk}\n", text)

    def test_strangers_and_the_curious(self) -> None:
        self.assertEqual(self.client.get("/orders/feed/").status_code, 403)
        self.assertRedirects(self.client.get("/orders/table/"), "/accounts/login/?next=/orders/table/")
        self.client.force_login(self.demo)
        self.assertEqual(self.client.get("/orders/feed/?all=1").status_code, 403)
        self.assertEqual(self.client.get("/orders/table/").status_code, 302)
        self.assertEqual(self.client.post("/orders/feed/").status_code, 405)

    def test_pages_say_where_to_listen_and_from_where_on(self) -> None:
        self.client.force_login(self.demo)
        newest = max(self.demo.orders.values_list("pk", flat=True))
        self.assertNotEqual(newest, self.demo.orders.first().pk, "the latest by date is not the last by number")
        self.assertContains(self.client.get("/orders/"), f'data-feed="/orders/feed/?" data-after="{newest}"')
        Order.objects.all().delete()
        self.assertContains(self.client.get("/orders/"), 'data-after="0" hidden')


class LiveSearchTest(ShopTest):
    async def test_it_finds_what_the_page_finds(self) -> None:
        page = (await AsyncClient().get("/search/", {"q": "a"})).context["page"]
        told = (await AsyncClient().get("/search/live/", {"q": " a "})).json()
        self.assertEqual((told["query"], told["count"], len(told["results"])), ("a", page.paginator.count, 8))
        self.assertEqual([one["url"] for one in told["results"]], [one.get_absolute_url() for one in page.object_list[:8]])
        self.assertEqual(told["results"][0].keys(), {"name", "maker", "price", "stock", "text", "url", "picture"})

    def test_under_wsgi_too(self) -> None:
        self.assertEqual(self.client.get("/search/live/", {"q": self.product.name}).json()["results"][0]["name"], self.product.name)

    def test_nothing(self) -> None:
        for query in ("", "  ", "zzz\0zzz", "x" * 1000):
            with self.subTest(query=query[:10]):
                self.assertEqual(self.client.get("/search/live/", {"q": query}).json()["results"], [])

    def test_what_is_left_in_words(self) -> None:
        for left, words in ((0, "Sold out"), (1, "Only 1 left"), (3, "Only 3 left"), (4, "In stock, 4 pieces")):
            self.assertTrue(Product(stock=left).availability.startswith(words))
