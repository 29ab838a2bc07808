"""The example shop through the wire, as its customers use it: browse, buy, log in, upload, download, wait."""

import csv
import hashlib
import http.cookiejar
import io
import json
import re
import urllib.error
import urllib.parse
import urllib.request
import uuid

import pytest

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)


class Customer:
    """A browser without a screen: cookies, forms with their tokens, redirects."""

    def __init__(self, shop):
        self.base = shop.url.rstrip("/")
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar()))

    def open(self, target: str, data: bytes | None = None, **fields: str):
        ask = urllib.request.Request(self.base + target, data, {name.replace("_", "-"): value for name, value in fields.items()})
        try:
            answer = self.opener.open(ask, timeout=30)
        except urllib.error.HTTPError as refused:
            answer = refused
        answer.content = answer.read()
        answer.text = answer.content.decode("utf-8", "replace")
        return answer

    def token(self, target: str) -> str:
        return re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', self.open(target).text)[1]

    def submit(self, page: str, to: str | None = None, **values: str):
        """Fill in the form on `page` and send it, there or `to` another address."""
        values["csrfmiddlewaretoken"] = self.token(page)
        return self.open(to or page, urllib.parse.urlencode(values).encode())

    def upload(self, page: str, field: str, name: str, content: bytes, **values: str):
        values["csrfmiddlewaretoken"] = self.token(page)
        boundary = uuid.uuid4().hex
        parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode() for key, value in values.items()]
        parts.append(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\nContent-Type: image/png\r\n\r\n'.encode()
            + content
            + f"\r\n--{boundary}--\r\n".encode()
        )
        return self.open(page, b"".join(parts), Content_Type=f"multipart/form-data; boundary={boundary}")

    def product(self) -> str:
        """The path of a product that is in stock."""
        return next(one["url"] for one in json.loads(self.open("/api/products/").text)["results"] if one["stock"])

    def buy(self) -> None:
        page = self.product()
        key = re.search(r'name="product" value="(\d+)"', self.open(page).text)[1]
        assert self.submit(page, "/cart/", action="add", product=key, quantity="1").status == 200


@pytest.fixture
def customer(shop):
    return Customer(shop)


def test_browse(customer):
    home = customer.open("/")
    assert home.status == 200 and "Bandstand Music" in home.text
    for target in set(re.findall(r'(?:href|src)="(/[^"#]*)"', home.text)):
        assert customer.open(target).status == 200, target


def test_search(customer):
    assert customer.open("/search/?q=" + urllib.parse.quote("é & ü")).status == 200
    assert customer.open("/search/?q=a").status == 200


def test_a_page_that_is_not_there(customer):
    missing = customer.open("/no/such/page/")
    assert missing.status == 404 and missing.headers["Proxy-Status"] is None, "Django's own 404"


def test_a_missing_slash_is_redirected(shop):
    answer = shop.get("/products")
    assert answer.status == 301 and answer.get("Location") == "/products/"


def test_cart_checkout_and_invoice(customer):
    customer.buy()
    order = customer.submit(
        "/checkout/",
        name="Zoë Müller",
        email="zoe@shop.example",
        address="Park Lane 2",
        postcode="10115",
        city="Berlin",
        country="DE",
        note="Grüße",
        terms="on",
    )
    assert order.status == 200 and re.search(r"/orders/\d+/$", order.url), order.text[:2000]
    assert "Zoë Müller" in order.text
    invoice = customer.open(urllib.parse.urlparse(order.url).path + "invoice/")
    assert invoice.status == 200 and invoice.headers["Content-Disposition"].startswith("attachment")
    assert len(invoice.content) == int(invoice.headers["Content-Length"]) > 0
    # Another customer does not see it.
    stranger = Customer.__new__(Customer)
    stranger.base, stranger.opener = customer.base, urllib.request.build_opener()
    assert stranger.open(urllib.parse.urlparse(order.url).path).status == 404


def test_an_incomplete_form_comes_back(customer):
    customer.buy()
    assert customer.submit("/checkout/", name="").status == 400


def test_a_form_without_a_token_is_refused(customer):
    assert customer.open("/cart/", b"action=add&product=1&quantity=1").status == 403


def test_log_in_and_out(customer):
    orders = customer.submit("/accounts/login/", username="demo", password="demo", next="/orders/")
    assert orders.status == 200 and orders.url.endswith("/orders/")
    assert customer.submit("/orders/", "/accounts/logout/").status == 200
    assert "/accounts/login/" in customer.open("/orders/").url
    assert customer.submit("/accounts/login/", username="demo", password="wrong").url.endswith("/accounts/login/")


def test_admin(customer):
    assert customer.submit("/admin/login/", username="admin", password="admin", next="/admin/").status == 200
    assert customer.open("/admin/shop/product/").status == 200


def test_upload(customer, shop):
    customer.submit("/accounts/login/", username="demo", password="demo", next="/orders/")
    page = customer.product() + "photos/"
    caption = uuid.uuid4().hex
    photos = customer.upload(page, "picture", "me.png", PNG, caption=caption)
    assert photos.status == 200 and caption in photos.text
    source = next(match for match in re.findall(r'src="(/media/[^"]+)"', photos.text) if shop.get(match).body == PNG)
    answer = shop.get(source)
    assert answer.get("Content-Type") == "image/png" and answer.get("X-Content-Type-Options") == "nosniff"


def test_a_large_upload_is_whole_in_django(shop):
    """Larger than what Django and bandstand hold in memory: it goes through a file on both sides."""
    content = bytes(range(256)) * 20_000
    boundary = "frontier"
    body = f'--{boundary}\r\nContent-Disposition: form-data; name="f"; filename="é.bin"\r\nContent-Type: a/b\r\n\r\n'.encode() + content + f"\r\n--{boundary}--\r\n".encode()
    answer = shop.post("/api/echo/", body, {"Content-Type": f"multipart/form-data; boundary={boundary}"})
    assert answer.status == 200
    assert answer.json()["files"][0]["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_chunked_form_reaches_django(shop):
    """5: Django reads as many bytes as CONTENT_LENGTH says."""
    answer = shop.post("/api/echo/", b"3\r\na=1\r\n4\r\n&b=2\r\n0\r\n\r\n", {"Transfer-Encoding": "chunked", "Content-Type": "application/x-www-form-urlencoded"})
    assert answer.json()["POST"] == {"a": ["1"], "b": ["2"]}


def test_what_django_sees(shop):
    told = shop.get("/api/echo/?q=%C3%A9", {"Cookie": "a=1"}, host="localhost:8000").json()
    assert (told["scheme"], told["host"], told["remote_addr"], told["GET"]) == ("http", "localhost:8000", "127.0.0.1", {"q": ["é"]})


def test_the_export_is_streamed(shop):
    answer = shop.get("/export/products.csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert answer.chunked and answer.complete and len(rows) == 40


def test_the_async_view(shop):
    told = shop.get("/api/async/").json()
    assert told["view"] == "async" and told["products"] == 40


def test_the_slow_report(shop):
    assert shop.get("/reports/slow/?seconds=0.2").status == 200


def test_json_in_and_out(shop):
    slug = shop.get("/api/products/").json()["results"][0]["slug"]
    answer = shop.post("/api/cart/", f'{{"product": "{slug}"}}'.encode(), {"Content-Type": "application/json"})
    assert answer.status == 200 and answer.json()["count"] == 1
