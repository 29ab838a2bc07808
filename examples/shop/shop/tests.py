"""The shop, page by page. `python manage.py test`; nothing outside a temporary folder is touched."""

import csv
import io
import json
import tempfile
from decimal import Decimal
from io import StringIO
from pathlib import Path
from unittest.mock import patch

from django.contrib.auth import get_user_model
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import call_command
from django.test import AsyncClient, RequestFactory, SimpleTestCase, TestCase, override_settings

from shop.cart import MOST
from shop.forms import PHOTO_BYTES
from shop.models import Category, Order, Photo, Product
from shop.supply import catalogue, drawings
from shop.views.echo import echo

ADDRESS = {
    "name": "Zoë O'Hara (second floor)",
    "email": "zoe@example.com",
    "address": "Lindenstraße 14",
    "postcode": "10969",
    "city": "Berlin",
    "country": "DE",
    "terms": "on",
}
PIXEL = drawings.picture("picks", 0).png(drawings.inks(0))


class ShopTest(TestCase):
    """A filled shop with 60 products, its files in a temporary folder."""

    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        temporary = override_settings(
            MEDIA_ROOT=Path(folder.name, "media"),
            PRIVATE_ROOT=Path(folder.name, "private"),
            # The real one wants `collectstatic` first.
            STORAGES={
                "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
                "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
            },
            PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        )
        temporary.enable()
        cls.addClassCleanup(temporary.disable)
        super().setUpClass()

    @classmethod
    def setUpTestData(cls) -> None:
        call_command("fill", products=60, verbosity=0)
        cls.demo = get_user_model().objects.get(username="demo")
        Product.objects.update(stock=10)
        cls.product = Product.objects.filter(price__lt=90).first()

    def put(self, product: Product, quantity: int, action: str = "add"):
        return self.client.post("/cart/", {"action": action, "product": product.pk, "quantity": quantity})


class CatalogueTest(ShopTest):
    def test_every_page_opens(self) -> None:
        self.client.force_login(get_user_model().objects.get(username="admin"))
        order = Order.objects.first()
        pages = [
            "/", "/products/", "/products/?page=2", f"/products/{self.product.slug}/", f"/products/{self.product.slug}/photos/",
            "/categories/records/", "/search/", "/search/?q=zzz", "/cart/", "/orders/", "/orders/table/", f"/orders/{order.pk}/",
            "/reports/slow/?seconds=0", "/admin/", "/admin/shop/product/", "/admin/shop/order/", f"/admin/shop/order/{order.pk}/change/",
        ]  # fmt: skip
        for page in pages:
            with self.subTest(page=page):
                self.assertEqual(self.client.get(page).status_code, 200)

    def test_a_page_has_twenty_products_with_pictures_and_takes_two_queries(self) -> None:
        self.client.get("/products/")  # the row of categories is kept from here on
        with self.assertNumQueries(2):
            response = self.client.get("/products/", {"page": 2})
        self.assertContains(response, '<li class="card">', count=20)
        self.assertContains(response, 'src="/media/products/', count=20)
        self.assertContains(response, "21–40 of 60")
        self.assertFalse(response.cookies)

    def test_odd_page_numbers_lead_to_a_page_that_exists(self) -> None:
        for asked, shown in (("0", 3), ("999", 3), ("x", 1), ("", 1), ("-1", 3)):
            with self.subTest(asked=asked):
                self.assertEqual(self.client.get("/products/", {"page": asked}).context["page"].number, shown)

    def test_search_wants_every_word(self) -> None:
        maker = self.product.maker
        found = self.client.get("/search/", {"q": f"{maker.split()[-1]} {self.product.name.split()[0]}"}).context["page"]
        self.assertIn(self.product, found.object_list)
        self.assertContains(self.client.get("/search/", {"q": "<b>nothing\0</b>"}), "Nothing here goes by that name")

    def test_pages_keep_the_query(self) -> None:
        response = self.client.get("/search/", {"q": "a"})
        self.assertContains(response, "?q=a&amp;page=2")

    def test_unknown_things_are_not_found(self) -> None:
        for path in ("/products/no-such-thing/", "/categories/none/", "/orders/999999/", "/nowhere/"):
            self.assertContains(self.client.get(path), "A rest of uncertain length", status_code=404)


class CartTest(ShopTest):
    def test_add_change_and_take_out(self) -> None:
        other = Product.objects.exclude(pk=self.product.pk).first()
        self.assertRedirects(self.put(self.product, 2), "/cart/")
        self.put(self.product, 1)
        self.put(other, 1)
        self.assertEqual(self.client.session["cart"], {str(self.product.pk): 3, str(other.pk): 1})
        self.put(self.product, 5, "set")
        self.put(other, 0, "set")
        self.assertEqual(self.client.session["cart"], {str(self.product.pk): 5})
        self.assertContains(self.client.get("/cart/"), self.product.name)

    def test_quantities_have_bounds(self) -> None:
        for quantity in (-1, MOST + 1, "many", ""):
            with self.subTest(quantity=quantity):
                self.put(self.product, quantity)
                self.assertNotIn("cart", self.client.session)
        self.put(self.product, MOST)
        self.put(self.product, MOST)
        self.assertEqual(self.client.session["cart"], {str(self.product.pk): MOST})

    def test_a_product_without_a_picture_or_gone_altogether(self) -> None:
        bare = Product.objects.create(category=Category.objects.first(), name="Bare", slug="bare", maker="Us", description="", price=5, stock=1)
        self.put(bare, 1)
        self.assertContains(self.client.get("/cart/"), "Bare")
        bare.delete()
        self.assertContains(self.client.get("/cart/"), "Nothing in it yet")


class OrderTest(ShopTest):
    def test_checkout_makes_an_order_and_takes_the_stock(self) -> None:
        self.put(self.product, 2)
        response = self.client.post("/checkout/", ADDRESS)
        order = Order.objects.latest("id")
        self.assertRedirects(response, f"/orders/{order.pk}/")
        self.assertEqual(order.goods, 2 * self.product.price)
        self.assertEqual(order.shipping, Decimal("5.90") if order.goods < 100 else 0)
        self.assertEqual([str(line) for line in order.lines.all()], [f"2 × {self.product.name}"])
        self.product.refresh_from_db()
        self.assertEqual(self.product.stock, 8)
        self.assertNotIn("cart", self.client.session)

    def test_the_form_says_what_is_wrong(self) -> None:
        self.put(self.product, 1)
        cases = [
            ({"email": "nobody"}, "email"), ({"postcode": "1234"}, "postcode"), ({"postcode": "1012AB"}, "postcode"),
            ({"country": "XX"}, "country"), ({"terms": ""}, "terms"), ({"name": ""}, "name"),
        ]  # fmt: skip
        before = Order.objects.count()
        for change, field in cases:
            with self.subTest(**change):
                response = self.client.post("/checkout/", ADDRESS | change)
                self.assertEqual(response.status_code, 400)
                self.assertEqual(list(response.context["form"].errors), [field])
        self.assertEqual(Order.objects.count(), before)
        self.assertEqual(self.client.post("/checkout/", ADDRESS | {"postcode": "1012 ab", "country": "NL"}).status_code, 302)

    def test_nothing_is_sold_twice(self) -> None:
        other = Product.objects.exclude(pk=self.product.pk).first()
        self.put(other, 1)
        self.put(self.product, 3)
        Product.objects.filter(pk=self.product.pk).update(stock=2)
        before = Order.objects.count()
        self.assertContains(self.client.post("/checkout/", ADDRESS, follow=True), "has just been sold")
        self.assertEqual(Order.objects.count(), before)
        other.refresh_from_db()
        self.assertEqual(other.stock, 10)

    def test_an_empty_cart_has_no_checkout(self) -> None:
        self.assertRedirects(self.client.get("/checkout/"), "/cart/")

    def test_orders_want_a_login_and_the_login_works(self) -> None:
        self.assertRedirects(self.client.get("/orders/"), "/accounts/login/?next=/orders/")
        response = self.client.post("/accounts/login/", {"username": "demo", "password": "demo", "next": "/orders/"}, follow=True)
        self.assertContains(response, "BM-DEMO001")
        self.assertNotContains(response, "BM-DEMO002")
        self.assertRedirects(self.client.post("/accounts/logout/"), "/")

    def test_an_invoice_is_a_pdf_for_its_owner_alone(self) -> None:
        self.put(self.product, 1)
        self.client.post("/checkout/", ADDRESS)
        path = f"/orders/{Order.objects.latest('id').pk}/invoice/"
        first, again = (b"".join(self.client.get(path)) for _ in range(2))
        self.assertEqual(first, again)
        self.assertTrue(first.startswith(b"%PDF-1.4") and first.endswith(b"%%EOF\n"))
        self.assertIn(b"(Zo\xeb O'Hara \\(second floor\\))", first)
        table = int(first.rsplit(b"startxref\n", 1)[1].split()[0])
        self.assertEqual(first[table : table + 4], b"xref")
        for number, entry in enumerate(first[table:].partition(b"trailer")[0].splitlines()[3:], 1):
            self.assertTrue(first[int(entry[:10]) :].startswith(b"%d 0 obj" % number))
        response = self.client.get(path)
        self.assertIn("attachment", response["Content-Disposition"])
        self.assertEqual(response["Content-Type"], "application/pdf")
        response.close()
        self.assertEqual(self.client_class().get(path).status_code, 404)


class PhotoTest(ShopTest):
    def send(self, content: bytes, name: str = "mine.png"):
        return self.client.post(f"/products/{self.product.slug}/photos/", {"picture": SimpleUploadedFile(name, content), "caption": "On my porch"})

    def test_a_photo_goes_to_media_under_a_name_of_ours(self) -> None:
        self.client.force_login(self.demo)
        self.assertEqual(self.send(PIXEL, "../../<evil>.html").status_code, 302)
        photo = Photo.objects.get()
        self.assertRegex(photo.picture.name, r"^photos/\d{4}/[0-9a-f]{32}\.png$")
        self.assertEqual(photo.picture.read(), PIXEL)
        photo.picture.close()
        self.assertContains(self.client.get(f"/products/{self.product.slug}/"), photo.picture.url)

    def test_what_is_no_photo_is_refused(self) -> None:
        self.client.force_login(self.demo)
        for content, says in ((b"<svg onload=alert(1)>", "Only PNG"), (PIXEL + b"\0" * PHOTO_BYTES, "5 MB"), (b"", "empty")):
            with self.subTest(says=says):
                self.assertContains(self.send(content), says, status_code=400)
        self.assertFalse(Photo.objects.exists())

    def test_strangers_are_sent_to_the_login(self) -> None:
        path = f"/products/{self.product.slug}/photos/"
        self.assertRedirects(self.send(PIXEL), f"/accounts/login/?next={path}")
        self.assertContains(self.client.get(path), "Log in</a> to add a photo")


class OfficeTest(ShopTest):
    def test_the_export_streams_every_product(self) -> None:
        response = self.client.get("/export/products.csv")
        self.assertTrue(response.streaming)
        rows = list(csv.DictReader(io.StringIO(b"".join(response).decode())))
        self.assertEqual(len(rows), 60)
        self.assertEqual({row["slug"] for row in rows}, set(Product.objects.values_list("slug", flat=True)))

    def test_the_slow_report_adds_up_and_its_wait_is_bounded(self) -> None:
        response = self.client.get("/reports/slow/", {"seconds": "0"})
        self.assertEqual(sum(row["turnover"] for row in response.context["rows"]), sum(order.goods for order in Order.objects.all()))
        for asked, waited in (("1e9", 10), ("-5", 0), ("nan", 2), ("x", 2), ("0.25", 0.25)):
            with self.subTest(asked=asked), patch("shop.views.reports.time.sleep") as sleep:
                self.client.get("/reports/slow/", {"seconds": asked})
                sleep.assert_called_once_with(waited)

    def test_filling_again_changes_nothing(self) -> None:
        before = list(Product.objects.values_list("pk", "slug", "price")), Order.objects.count()
        out = StringIO()
        call_command("fill", products=60, stdout=out)
        self.assertEqual((list(Product.objects.values_list("pk", "slug", "price")), Order.objects.count()), before)
        self.assertIn("60 products in 8 categories, 0 new pictures", out.getvalue())

    def test_the_catalogue_is_always_the_same(self) -> None:
        self.assertEqual(catalogue.items(500), catalogue.items(500))
        self.assertEqual(len({item.slug for item in catalogue.items(500)}), 500)


class ApiTest(ShopTest):
    def post(self, body, content_type: str = "application/json"):
        return self.client.post("/api/cart/", body if isinstance(body, str) else json.dumps(body), content_type=content_type)

    def test_ping_answers_without_the_database(self) -> None:
        with self.assertNumQueries(0):
            answer = self.client.get("/api/ping/").json()
        self.assertEqual(len(answer), 10)

    async def test_ping_from_an_async_view_says_the_same(self) -> None:
        plain, other = (await AsyncClient().get("/api/ping/")).json(), (await AsyncClient().get("/api/ping/async/")).json()
        self.assertEqual(other, plain | {"path": "/api/ping/async/"})

    async def test_wait(self) -> None:
        self.assertEqual((await AsyncClient().get("/api/wait/")).json(), {"waited_ms": 50.0})

    def test_products(self) -> None:
        answer = self.client.get("/api/products/", {"page": 3}).json()
        self.assertEqual((answer["count"], answer["pages"], len(answer["results"])), (60, 3, 20))
        one = self.client.get(f"/api/products/{self.product.slug}/").json()
        self.assertEqual(one["price"], str(self.product.price))
        self.assertEqual(self.client.get("/api/products/none/").status_code, 404)

    def test_the_cart(self) -> None:
        answer = self.post({"product": self.product.slug, "quantity": 2}).json()
        self.assertEqual((answer["count"], answer["goods"]), (2, str(2 * self.product.price)))
        self.assertEqual(self.post({"product": self.product.slug, "quantity": 0, "action": "set"}).json()["count"], 0)

    def test_what_the_cart_refuses(self) -> None:
        slug = self.product.slug
        cases = [
            ("{", 400), ("[]", 400), ("3", 400), ("[" * 100_000, 400), ({"quantity": 1}, 400), ({"product": slug, "quantity": "2"}, 400),
            ({"product": slug, "quantity": True}, 400), ({"product": slug, "quantity": 21}, 400), ({"product": slug, "action": []}, 400),
            ({"product": "none"}, 404), ({"product": {}}, 404),
        ]  # fmt: skip
        for body, status in cases:
            with self.subTest(body=str(body)[:40]):
                self.assertEqual(self.post(body).status_code, status)
        self.assertEqual(self.post("{}", "text/plain").status_code, 415)
        self.assertEqual(self.client.get("/api/cart/").status_code, 405)

    async def test_the_async_view(self) -> None:
        answer = (await AsyncClient().get("/api/async/")).json()
        self.assertEqual((answer["products"], len(answer["categories"])), (60, 8))
        self.assertGreaterEqual(answer["waited_ms"], 50)


class EchoTest(SimpleTestCase):
    def test_bodies_and_files_are_counted_and_hashed(self) -> None:
        ask = RequestFactory()
        raw = json.loads(echo(ask.post("/?a=1&a=2", b"x" * 100_000, content_type="application/octet-stream")).content)
        self.assertEqual((raw["GET"], raw["body"]["length"], raw["method"]), ({"a": ["1", "2"]}, 100_000, "POST"))
        form = json.loads(echo(ask.post("/", {"n": "7", "f": SimpleUploadedFile("a.bin", b"abc")})).content)
        self.assertEqual((form["POST"], form["files"][0]["size"], form["body"]), ({"n": ["7"]}, 3, None))
        self.assertTrue(form["files"][0]["sha256"].startswith("ba7816bf"))
        fields = json.loads(echo(ask.post("/", "a=b&a=c", content_type="application/x-www-form-urlencoded")).content)
        self.assertEqual((fields["POST"], fields["body"]["length"]), ({"a": ["b", "c"]}, 7))
