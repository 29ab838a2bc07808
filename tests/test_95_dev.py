"""`bandstand dev`: saves are followed and nobody notices, errors are pages that heal, and the log says what a request did."""

import os
import re
import shutil
import signal
import threading
from pathlib import Path

import pytest

from client import eventually
from server import BINARY, Server, flags
from test_41_browser import CHROMIUM, browser  # noqa: F401 (a fixture)

REQUESTED = "text/html,*/*;q=0.8"


class Dev(Server):
    """A server of `dev`."""

    @staticmethod
    def command(app, settings):
        return [str(BINARY), "dev", *([app] if app else []), *flags(settings)]


@pytest.fixture
def site(tmp_path, shop_folder):
    """A copy of the shop that a test may write in; nothing is collected."""
    folder = tmp_path / "shop"
    shutil.copytree(shop_folder, folder, ignore=shutil.ignore_patterns("staticfiles", "__pycache__"))
    return folder


@pytest.fixture
def dev(site):
    """`dev(**settings)` serves the copy."""
    servers = []

    def start(ready=True, env=None, **settings):
        env = {"SHOP_DEBUG": "1", **(env or {})}
        defaults = {"workers": None, "threads": None, "log_format": None, "pythonpath": None}
        server = (Dev.start if ready else Dev)(None, site, env=env, **(defaults | settings))
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


def view(site, text: str) -> None:
    """Save a view that answers `text`; as editors do, a new file takes the name of the old one."""
    path = site / "shop/views/api.py"
    source = path.read_text().partition("\n# saved\n")[0]
    fresh = path.with_suffix(".py~")
    fresh.write_text(f'{source}\n# saved\nfrom django.http import HttpResponse\n\n\ndef ping(request):\n    return HttpResponse("{text}")\n')
    os.replace(fresh, path)


def page(server, target="/", **fields):
    return server.get(target, {"Accept": REQUESTED, **fields})


def test_a_save_is_served_at_once(dev, site):
    """Whoever asks after the save waits and gets the new code; no answer is of the old one."""
    server = dev()
    for number in range(3):
        view(site, f"saved {number}")
        eventually(lambda: server.output.count("shop/views/api.py changed: reloading") > number, "the reload")
        assert server.get("/api/ping/").text == f"saved {number}"
    assert re.search(r"reloaded in \d+\.\d\d s \(generation \d+\)", server.output)


def test_twenty_saves_under_load_lose_nothing(dev, site):
    server = dev()
    answers, over = [], threading.Event()

    def ask():
        while not over.is_set():
            answers.append(server.get("/api/ping/").status)

    clients = [threading.Thread(target=ask) for _ in range(2)]
    for client in clients:
        client.start()
    for number in range(20):
        view(site, f"round {number}")
        eventually(lambda: server.get("/api/ping/").text == f"round {number}", f"round {number}")
    over.set()
    for client in clients:
        client.join()
    assert set(answers) == {200} and len(answers) > 40


def test_a_broken_save_is_a_page_that_a_save_mends(dev, site):
    server = dev()
    views = site / "shop/views/catalogue.py"
    good = views.read_text()
    views.write_text(good.replace("PAGE = 20", "PAGE = 20\nnot_there(<b>)"))
    line = good[: good.index("PAGE = 20")].count("\n") + 2
    server.wait_text("reloading")
    answer = page(server)
    assert answer.status == 500 and answer.get("Content-Type").startswith("text/html")
    assert f"shop/views/catalogue.py:{line}" in answer.text and "SyntaxError" in answer.text
    assert "not_there(&lt;b&gt;)" in answer.text, "the line itself, escaped"
    assert not re.search(r'(src|href)="(?!/-/dev/)', answer.text), "nothing from elsewhere"
    told = server.get("/", {"Accept": "application/json"}).json()
    assert (told["file"], told["line"]) == (str(views), line)
    assert f"{views}" in server.get("/", {"Accept": "text/plain"}).text
    views.write_text(good)
    eventually(lambda: page(server).status == 200, "the mended page")


def test_a_broken_page_is_mended_by_any_reload(dev, site, tmp_path):
    """What was wrong need not be a file that is watched."""
    wrong = tmp_path / "wrong"
    wrong.touch()
    server = dev()
    settings = site / "config/settings.py"
    settings.write_text(f"{settings.read_text()}\nif __import__('os').path.exists({str(wrong)!r}):\n    raise OSError('not there')\n")
    server.wait_text("reloading")
    assert "not there" in page(server).text
    wrong.unlink()
    assert page(server).status == 500, "nobody has noticed"
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: page(server).status == 200, "the mended page")


def test_source_is_not_shown_to_other_sites(dev, site):
    server = dev()
    (site / "shop/urls.py").write_text("nonsense")
    server.wait_text("reloading")
    assert "nonsense" in page(server).text
    stranger = server.get("/", {"Accept": REQUESTED}, host="evil.example")
    assert stranger.status == 421 and "nonsense" not in stranger.text


def test_a_broken_first_start_stays_and_heals(dev, site):
    settings = site / "config/settings.py"
    good = settings.read_text()
    settings.write_text(good + "\nraise RuntimeError('not yet')\n")
    server = dev(ready=False, bind="127.0.0.1:0")
    server.wait_text("RuntimeError: not yet")
    server.addresses = [address_of(server)]
    answer = page(server)
    assert answer.status == 500 and "RuntimeError" in answer.text and "config/settings.py" in answer.text
    settings.write_text(good)
    server._await_ready()
    assert page(server).status == 200


def address_of(server) -> str:
    """Where a server listens that has not said so yet."""
    inodes = set()
    for entry in Path(f"/proc/{server.process.pid}/fd").iterdir():
        name = os.readlink(entry) if entry.exists() or entry.is_symlink() else ""
        if name.startswith("socket:["):
            inodes.add(name[8:-1])
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        parts = line.split()
        if parts[3] == "0A" and parts[9] in inodes:
            return f"http://127.0.0.1:{int(parts[1].split(':')[1], 16)}"
    raise AssertionError("the server does not listen")


def test_templates_and_env_are_followed(dev, site):
    (site / ".env").write_text("SHOP_TEST_VIEWS=0\n")
    server = dev()
    home = site / "shop/templates/shop/home.html"
    home.write_text(home.read_text().replace("{% endblock %}", "<p>seen at once</p>{% endblock %}", 2))
    server.wait_text("home.html changed: reloading")
    assert "seen at once" in page(server).text
    assert server.get("/api/echo/").status == 404
    (site / ".env").write_text("SHOP_TEST_VIEWS=1\n")
    server.wait_text(".env changed: reloading")
    assert server.get("/api/echo/").status == 200


def test_static_files_come_from_the_finders(dev, site):
    server = dev()
    assert not (site / "staticfiles").exists()
    answer = server.get("/static/shop/shop.css")
    assert answer.status == 200 and answer.get("Cache-Control") == "no-cache"
    style = site / "shop/static/shop/shop.css"
    style.write_text(style.read_text() + "\n/* changed */\n")
    server.wait_text("shop.css changed: pages are told")
    assert "/* changed */" in server.get("/static/shop/shop.css").text
    assert "reloading" not in server.output


def test_the_access_line_says_route_and_sql(dev, site):
    server = dev()
    slug = server.get("/api/products/").json()["results"][0]["slug"]
    answer = server.get(f"/products/{slug}/")
    assert answer.get("X-Bandstand-Dev") is None, "that is between worker and edge"
    line = server.wait_line(lambda line: f"/products/{slug}/ 200" in line, "the access line")
    assert re.search(r"\d+ SQL \d", line) and "/products/<slug:slug>/ product" in line
    assert "\x1b" not in line


def test_json_records_have_them_too(dev):
    server = dev(log_format="json", workers=1)
    server.get("/products/")
    record = server.wait_record("/products/")
    assert record["route"] == "/products/" and record["db_queries"] > 0 and record["db_ms"] > 0


def test_repeated_sql_is_named(dev, site):
    path = site / "shop/views/api.py"
    path.write_text(path.read_text() + "\n\ndef ping(request):\n    for n in range(12): Product.objects.filter(pk=n).first()\n    return JsonResponse({})\n")
    server = dev()
    assert server.get("/api/ping/").status == 200
    assert "12 SQL (12× the same)" in server.wait_text("/api/ping/ 200")


def test_pages_reload_unless_told_otherwise(dev):
    script = '<script src="/-/dev/reload.js" defer></script></body>'
    server = dev()
    assert script in page(server).text
    source = server.get("/-/dev/reload.js")
    assert source.status == 200 and source.get("Content-Type").startswith("text/javascript")
    server.stop()
    server = dev(browser_reload="off")
    assert script not in page(server).text


def test_serve_knows_nothing_of_it(shop):
    assert shop.get("/-/dev/wait").status == 404
    assert "/-/dev/" not in page(shop).text


def test_open_pages_follow(dev, site, browser):  # noqa: F811 (a fixture)
    """Style sheets without a page load; templates and code with one; a broken page heals by itself."""
    server = dev()
    tab = browser.new_page()
    tab.goto(server.url)
    tab.evaluate("window.mark = 1")
    style = site / "shop/static/shop/shop.css"
    style.write_text(style.read_text() + "\nbody { outline: 3px solid rgb(1, 2, 3) }\n")
    tab.wait_for_function("getComputedStyle(document.body).outlineColor === 'rgb(1, 2, 3)'")
    assert tab.evaluate("window.mark") == 1, "the page was not loaded again"
    home = site / "shop/templates/shop/home.html"
    home.write_text(home.read_text().replace("{% endblock %}", "<p id=fresh>fresh</p>{% endblock %}", 2))
    tab.wait_for_selector("#fresh")
    views = site / "shop/views/catalogue.py"
    good = views.read_text()
    views.write_text(good + "\nraise KeyError('basket')\n")
    tab.wait_for_selector("text=KeyError")
    shots = os.environ.get("BANDSTAND_SCREENSHOTS")
    if shots:
        tab.screenshot(path=f"{shots}/broken.png", full_page=True)
        tab.emulate_media(color_scheme="dark")
        tab.screenshot(path=f"{shots}/broken-dark.png", full_page=True)
    views.write_text(good)
    tab.wait_for_selector("#fresh")
    tab.close()


test_open_pages_follow = pytest.mark.skipif(not shutil.which(CHROMIUM), reason="no chromium")(test_open_pages_follow)


def test_polling_follows_as_well(dev, site):
    server = dev(watch_method="poll")
    view(site, "polled")
    eventually(lambda: server.get("/api/ping/").text == "polled", "the new code")
