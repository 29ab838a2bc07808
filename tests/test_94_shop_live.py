"""The shop's live pages in a real browser: what one customer buys, all others see; and what a page does without a loop."""

import shutil

import pytest

from server import Server
from test_41_browser import CHROMIUM, QUIET, in_stock

pytestmark = [pytest.mark.skipif(not shutil.which(CHROMIUM), reason="no chromium"), pytest.mark.ours]

ADDRESS = {"name": "Zoë Müller", "email": "zoe@shop.example", "address": "Park Lane 2", "postcode": "10115", "city": "Berlin"}


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


class Visitors:
    """Pages of customers who do not know each other; each fails the test when anything it loads fails."""

    def __init__(self, browser, server, **options):
        self.browser, self.server, self.options = browser, server, options
        self.contexts, self.faults = [], []

    def __call__(self, target: str = "/"):
        context = self.browser.new_context(base_url=self.server.url, locale="en-GB", **self.options)
        self.contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        page.on("response", lambda answer: answer.status >= 400 and self.faults.append(f"{answer.status} {answer.url}"))
        page.on("requestfailed", lambda asked: "ERR_ABORTED" in str(asked.failure) or self.faults.append(f"{asked.failure} {asked.url}"))
        page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        page.goto(target)
        return page

    def leave(self):
        for context in self.contexts:
            context.close()
        assert self.faults == []


@pytest.fixture
def visitor(browser, shop):
    visitors = Visitors(browser, shop)
    yield visitors
    visitors.leave()


def log_in(page, name: str, then: str):
    page.goto(f"/accounts/login/?next={then}")
    page.fill("[name=username]", name)
    page.fill("[name=password]", name)
    page.click("main form button")
    page.wait_for_url(f"**{then}")


def buy(page, product: str) -> str:
    """Buys one piece; returns the order's reference."""
    page.goto(product)
    page.click("form.buy button")
    page.wait_for_function("document.querySelector('[data-cart-count]').textContent === '1'")
    page.goto("/checkout/")
    for field, value in ADDRESS.items():
        page.fill(f"main [name={field}]", value)
    page.select_option("main [name=country]", "DE")
    page.check("main [name=terms]")
    page.click("text=Place the order")
    page.wait_for_url("**/orders/*/")
    return page.text_content("h1").removeprefix("Order ")


def stock(shop, product: str) -> int:
    return shop.get(f"/api{product}").json()["stock"]


def test_stock_changes_on_open_pages(visitor, shop):
    """On the product's page and in the catalogue, with two worker processes and no broker."""
    product = in_stock(shop)
    left = stock(shop, product)
    detail, shelf = visitor(product), visitor("/products/")
    for page in (detail, shelf):
        page.wait_for_selector("html[data-live=stock]")
    tag = shelf.locator(f'.card:has(a[href="{product}"]) .tag')
    assert tag.text_content() == f"{left} left"
    buy(visitor(), product)
    words = f"Only {left - 1} left" if left - 1 < 4 else f"In stock, {left - 1} pieces"
    detail.wait_for_selector(f"p.stock:has-text('{words}')")
    shelf.wait_for_function("([tag, words]) => tag.textContent === words", arg=[tag.element_handle(), f"{left - 1} left"])


def test_the_last_piece(visitor, shop):
    """The form goes when there is nothing to sell, and comes back with the goods."""
    admin = visitor()
    log_in(admin, "admin", "/admin/")
    product = in_stock(shop)
    page = visitor(product)
    page.wait_for_selector("html[data-live=stock]")

    def restock(pieces: int) -> None:
        admin.goto(f"/admin/shop/product/?q={page.text_content('h1')}")
        admin.click(".field-name a")
        admin.fill("[name=stock]", str(pieces))
        admin.click("[name=_save]")
        admin.wait_for_selector(".success")

    restock(0)
    page.wait_for_selector("p.stock.out:has-text('Sold out')")
    assert not page.is_visible("form.buy")
    restock(12)
    page.wait_for_selector("p.stock:has-text('In stock, 12 pieces')")
    assert page.is_visible("form.buy")


def test_orders_come_in_on_the_packing_table(visitor, shop):
    staff, stranger = visitor(), visitor()
    log_in(staff, "admin", "/orders/table/")
    staff.wait_for_selector("[data-feed][data-open]")
    reference = buy(stranger, in_stock(shop))
    staff.wait_for_selector(f".orders li:first-child:has-text('{reference}')")
    assert "Zoë Müller, Berlin" in staff.text_content(".orders li:first-child")
    shown = staff.locator(".orders h3").all_text_contents()
    assert len(shown) == len(set(shown)), "none comes in that the page had already"
    staff.click(f"text={reference}")
    staff.wait_for_url("**/orders/*/")


def test_customers_see_their_own_orders_come_in(visitor, shop):
    """The same customer in two places; what strangers buy does not show."""
    home, shop_page = visitor(), visitor()
    log_in(home, "demo", "/orders/")
    home.wait_for_selector("[data-feed][data-open]")
    before = home.locator(".orders li").count()
    buy(visitor(), in_stock(shop))
    log_in(shop_page, "demo", "/orders/")
    reference = buy(shop_page, in_stock(shop))
    home.wait_for_selector(f".orders li:first-child:has-text('{reference}')")
    assert home.locator(".orders li").count() == before + 1


def test_the_search_box_answers_as_one_types(visitor):
    page = visitor("/")
    with page.expect_response("**/search/live/?q=a*") as asked:
        page.locator(".find [name=q]").press_sequentially("a")
    assert asked.value.json()["results"]
    page.wait_for_selector("#found li")
    box = page.locator(".find [name=q]")
    assert box.get_attribute("aria-expanded") == "true"
    box.press("ArrowDown")
    chosen = page.get_attribute("#found [aria-selected=true] a", "href")
    assert box.get_attribute("aria-activedescendant") == "found-0"
    box.press("Escape")
    assert not page.is_visible("#found") and box.input_value() == "a"
    box.press_sequentially(" ")
    page.wait_for_selector("#found li")
    box.press("ArrowDown")
    box.press("Enter")
    page.wait_for_url(f"**{chosen}")


def test_enter_without_a_choice_goes_to_the_search_page(visitor):
    page = visitor("/")
    page.fill(".find [name=q]", "a")
    page.press(".find [name=q]", "Enter")
    page.wait_for_url("**/search/?q=a")


def test_without_javascript_everything_works_as_before(browser, shop):
    visitors = Visitors(browser, shop, java_script_enabled=False)
    page = visitors("/")
    page.fill(".find [name=q]", "a")
    page.press(".find [name=q]", "Enter")
    page.wait_for_url("**/search/?q=a")
    page.goto(in_stock(shop))
    page.click("form.buy button")
    page.wait_for_url("**/cart/")
    visitors.leave()


def test_under_plain_wsgi_the_shop_is_whole(browser, shop_folder):
    """No loop, no WebSockets: pages stay as they were loaded, orders come with a request now and then, the search still answers."""
    server = Server.start(None, shop_folder, pythonpath=None, interface="wsgi", workers=1, threads=4)
    visitors = Visitors(browser, server)
    try:
        product = in_stock(server)
        page, staff = visitors(product), visitors()
        page.wait_for_function("sessionStorage.getItem('live-rest') === '1'")
        log_in(staff, "admin", "/orders/table/")
        reference = buy(visitors(), product)
        staff.wait_for_selector(f".orders li:first-child:has-text('{reference}')")
        page.fill(".find [name=q]", "a")
        page.wait_for_selector("#found li")
    finally:
        visitors.leave()
        server.stop()


def test_the_feed_is_flushed_event_by_event(shop):
    """32: and a stranger gets none."""
    assert shop.get("/orders/feed/").status == 403


def test_views_of_the_bench(shop):
    plain, other = shop.get("/api/ping/").json(), shop.get("/api/ping/async/").json()
    assert other == plain | {"path": "/api/ping/async/"}
    assert shop.get("/api/wait/").json() == {"waited_ms": 50.0}
