"""The shop in a real browser: it looks up, buys and uploads, and no file or script of a page fails."""

import os
import shutil

import pytest

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
QUIET = "--no-sandbox --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync".split()

pytestmark = pytest.mark.skipif(not shutil.which(CHROMIUM), reason="no chromium")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, shop):
    """A page that fails the test when anything it loads fails."""
    context = browser.new_context(base_url=shop.url, locale="en-GB")
    page = context.new_page()
    page.set_default_timeout(30_000)
    faults = []
    page.on("response", lambda answer: answer.status >= 400 and faults.append(f"{answer.status} {answer.url}"))
    # A page that is left while it loads aborts what it was loading.
    page.on("requestfailed", lambda asked: "ERR_ABORTED" in str(asked.failure) or faults.append(f"{asked.failure} {asked.url}"))
    page.on("pageerror", lambda error: faults.append(f"script: {error}"))
    yield page
    context.close()
    assert faults == []


def in_stock(shop) -> str:
    return next(one["url"] for one in shop.get("/api/products/").json()["results"] if one["stock"] > 2)


def test_a_purchase(page, shop):
    page.goto("/")
    page.wait_for_load_state("networkidle")
    broken = page.evaluate("[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)")
    assert broken == []
    page.click("nav >> text=Catalogue")
    page.goto(in_stock(shop))
    page.fill("form.buy input[name=quantity]", "2")
    page.click("form.buy button")
    page.wait_for_function("document.querySelector('[data-cart-count]').textContent === '2'")
    page.goto("/checkout/")
    for field, value in {"name": "Zoë Müller", "email": "zoe@shop.example", "address": "Park Lane 2", "postcode": "10115", "city": "Berlin"}.items():
        page.fill(f"main [name={field}]", value)
    page.select_option("main [name=country]", "DE")
    page.check("main [name=terms]")
    page.click("text=Place the order")
    page.wait_for_url("**/orders/*/")
    assert "Zoë Müller" in page.text_content("address")
    with page.expect_download() as download:
        page.click("text=Download the invoice")
    assert download.value.path().stat().st_size > 0


def test_an_upload(page, shop, tmp_path):
    picture = tmp_path / "photo.png"
    page.goto("/accounts/login/?next=/products/")
    page.fill("[name=username]", "demo")
    page.fill("[name=password]", "demo")
    page.click("main form button")
    page.wait_for_url("**/products/")
    page.screenshot(path=picture)
    page.goto(in_stock(shop))
    page.click("text=Add a photo")
    page.set_input_files("input[type=file]", picture)
    page.fill("[name=caption]", "Seen by a browser")
    page.click("text=Send the photo")
    page.wait_for_selector("text=Thank you, your photo is up.")
    page.wait_for_load_state("networkidle")
    assert page.evaluate("[...document.images].every(i => i.naturalWidth > 0 || !i.complete)")
