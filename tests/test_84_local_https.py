"""HTTPS on this machine: the authority, whom it makes certificates for, and `bandstand trust` (row 97: no page without HTTPS)."""

import json
import os
import re
import shutil
import socket
import ssl
import stat
import subprocess
from http.client import HTTPSConnection

import pytest

from server import BINARY, Server, environment, flags
from test_41_browser import CHROMIUM, QUIET
from test_95_dev import Dev

HINT = "bandstand: browsers warn of these certificates until `bandstand trust` has been run once"


@pytest.fixture
def home(tmp_path):
    """A user who has never done anything."""
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture
def serve(stand, tmp_path, home):
    """`serve` or `dev` with the local authority."""

    def start(app="probe:app", kind=Server, folder=None, env=None, **settings):
        env = {"HOME": str(home), "SEEN": str(stand.seen_path), **(env or {})}
        server = kind.start(app, folder or tmp_path, env=env, state_dir=tmp_path / "state", local_https="on", **({"workers": 1} | settings))
        stand.servers.append(server)
        return server

    return start


@pytest.fixture
def bandstand(home, tmp_path):
    """Run a verb of the person at home."""

    def run(verb, *arguments, **settings):
        words = [BINARY, verb, *arguments, *flags({"state_dir": tmp_path / "state", **settings})]
        return subprocess.run(words, cwd=tmp_path, env=environment(HOME=str(home)), capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)

    return run


def authority(tmp_path):
    return tmp_path / "state/local/authority.crt"


def ask(server, name, trusted, path="/") -> int:
    """The status of a request over TLS to `name`, as a strict client sees it."""
    context = ssl.create_default_context(cafile=trusted)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    connection = HTTPSConnection("127.0.0.1", server.port, context=context, timeout=30)
    raw = connection._create_connection(("127.0.0.1", server.port), 30)
    connection.sock = context.wrap_socket(raw, server_hostname=name)
    try:
        connection.request("GET", path, headers={"Host": f"{name}:{server.port}"})
        return connection.getresponse().status
    finally:
        connection.close()


def test_row_97_who_has_the_authority_believes_every_local_name(serve, tmp_path):
    server = serve(domains=["shop.internal", "192.168.7.5"])
    assert server.url.startswith("https://")
    for name in ("localhost", "127.0.0.1", "shop.localhost", "a.b.localhost", "any.test", "shop.internal", "api.shop.internal", "192.168.7.5"):
        # Which hosts are answered is another matter; here it is the handshake that counts.
        assert ask(server, name, authority(tmp_path)) in (200, 400, 421), name
    with pytest.raises(ssl.SSLError):
        ask(server, "example.com", authority(tmp_path))
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(server, "localhost", None)


def test_curl_takes_the_authority(serve, tmp_path):
    if not shutil.which("curl"):
        pytest.skip("no curl")
    server = serve()
    for host in ("localhost", "127.0.0.1", "shop.localhost"):
        url = f"https://{host}:{server.port}/"
        ran = subprocess.run(
            ["curl", "-sS", "--cacert", authority(tmp_path), "--resolve", f"{host}:{server.port}:127.0.0.1", "-o", os.devnull, "-w", "%{http_code} %{ssl_verify_result}", url],
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0 and ran.stdout == "200 0", (host, ran)


def test_the_leaf_is_short_lived_and_never_on_the_disk(serve, tmp_path):
    server = serve()
    context = ssl.create_default_context(cafile=authority(tmp_path))
    with context.wrap_socket(HTTPSConnection("127.0.0.1")._create_connection(("127.0.0.1", server.port)), server_hostname="localhost") as raw:
        shown = raw.getpeercert()
    lifetime = ssl.cert_time_to_seconds(shown["notAfter"]) - ssl.cert_time_to_seconds(shown["notBefore"])
    assert 0 < lifetime <= 7 * 24 * 3600
    files = sorted(path.name for path in (tmp_path / "state/local").iterdir())
    assert files == ["authority.crt", "authority.key", "lock"]
    assert stat.S_IMODE((tmp_path / "state/local/authority.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "state/local").stat().st_mode) == 0o700


@pytest.mark.parametrize("https", [False, True])
def test_dev_neither_takes_the_ports_of_production_nor_asks_its_authority(stand, tmp_path, home, bandstand, https):
    """A file with `domains` is for `serve`: `dev` speaks plain HTTP, or with `--https` by the local authority, and nobody is asked."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        nobody.setblocking(False)
        lines = ['domains = ["shop.example"]', 'user = "shop"', 'bind = [":443", ":80"]', f'acme_directory = "https://127.0.0.1:{nobody.getsockname()[1]}/dir"']
        (tmp_path / "bandstand.toml").write_text("\n".join(lines))
        told = json.loads(bandstand("config", "--format=json").stdout)
        assert told["settings"]["domains"]["value"] == ["shop.example"], "of `serve` it is the setting"
        env = {"HOME": str(home), "SEEN": str(stand.seen_path)}
        server = Dev.start("probe:app", tmp_path, env=env, state_dir=tmp_path / "state", https="on" if https else None)
        stand.servers.append(server)
        assert [address.partition(":")[0] for address in server.addresses] == ["https" if https else "http"]
        if https:
            assert ask(server, "localhost", authority(tmp_path)) == 200
            with pytest.raises(ssl.SSLError):
                ask(server, "shop.example", authority(tmp_path))
        else:
            assert server.get("/").status == 200
        assert not (tmp_path / "state/acme").exists() and "certificate" not in server.output.replace(HINT, "")
        with pytest.raises(BlockingIOError):
            nobody.accept()


def test_it_is_one_authority_from_start_to_start(serve, tmp_path):
    first = serve()
    before = authority(tmp_path).read_bytes()
    first.stop()
    assert ask(serve(), "localhost", authority(tmp_path)) == 200
    assert authority(tmp_path).read_bytes() == before


def test_dev_says_what_to_run_until_it_was_run(serve, bandstand, shop_folder):
    def start():
        return serve(None, Dev, shop_folder, {"SHOP_DEBUG": "1"}, workers=None, threads=None, log_format=None, pythonpath=None)

    server = start()
    assert re.search(r"ready on https://127\.0\.0\.1:\d+ ", server.output)
    server.wait_line(lambda line: line == HINT, "the hint")
    server.stop()
    if not shutil.which("certutil"):
        pytest.skip("no certutil")
    assert bandstand("trust", "--browsers-only").returncode == 0
    assert HINT not in start().output


def test_a_dry_run_prints_and_does_nothing(bandstand, home, tmp_path):
    ran = bandstand("trust", "--dry-run")
    assert ran.returncode == 0, ran
    assert "# would make an authority in" in ran.stdout
    if os.path.isdir("/usr/local/share/ca-certificates"):
        assert re.search(r"^\$ (sudo )?update-ca-certificates$", ran.stdout, re.M)
    assert not (tmp_path / "state").exists() and not list(home.iterdir())


@pytest.mark.skipif(not shutil.which("certutil"), reason="no certutil")
def test_trust_and_untrust_as_often_as_one_likes(bandstand, home):
    profile = home / ".mozilla/firefox/x.default-release"
    profile.mkdir(parents=True)
    subprocess.run(["certutil", "-N", "-d", f"sql:{profile}", "--empty-password"], check=True)

    def names() -> str:
        return subprocess.run(["certutil", "-L", "-d", f"sql:{profile}"], check=True, capture_output=True, text=True).stdout

    for _ in range(2):
        ran = bandstand("trust", "--browsers-only")
        assert ran.returncode == 0, ran
        assert ran.stdout.count("$ certutil -A") >= 1
        assert names().count("Bandstand local authority") == 1
    for _ in range(2):
        ran = bandstand("untrust", "--browsers-only")
        assert ran.returncode == 0, ran
        assert "Bandstand local authority" not in names()


@pytest.mark.skipif(not shutil.which("certutil"), reason="no certutil")
def test_another_authority_takes_the_place_of_the_one_before(serve, bandstand, home, tmp_path):
    profile = home / ".mozilla/firefox/x.default-release"
    profile.mkdir(parents=True)
    subprocess.run(["certutil", "-N", "-d", f"sql:{profile}", "--empty-password"], check=True)
    assert bandstand("trust", "--browsers-only").returncode == 0
    server = serve(domains=["shop.internal"])
    server.wait_line(lambda line: line == HINT, "the hint")
    assert len(list((tmp_path / "state/local").glob("former-*.crt"))) == 1
    assert bandstand("trust", "--browsers-only").returncode == 0
    listed = subprocess.run(["certutil", "-L", "-d", f"sql:{profile}"], check=True, capture_output=True, text=True).stdout
    assert listed.count("Bandstand local authority") == 1
    assert not list((tmp_path / "state/local").glob("former-*.crt"))


@pytest.mark.skipif(not shutil.which(CHROMIUM) or not shutil.which("certutil"), reason="no chromium, or no certutil")
def test_chromium_opens_the_shop_without_a_warning(serve, bandstand, home, shop_folder):
    """A browser whose trust store knows the authority: no exception is clicked away, and the protocol is HTTP/2."""
    playwright = pytest.importorskip("playwright.sync_api")
    server = serve(None, folder=shop_folder, pythonpath=None)
    with playwright.sync_playwright() as driver:

        def visit(host):
            chromium = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET, env={**os.environ, "HOME": str(home)})
            page = chromium.new_page()
            faults = []
            page.on("requestfailed", lambda asked: faults.append(f"{asked.failure} {asked.url}"))
            try:
                page.goto(f"https://{host}:{server.port}/")
                page.wait_for_load_state("networkidle")
                protocol = page.evaluate("performance.getEntriesByType('navigation')[0].nextHopProtocol")
                return protocol, page.evaluate("isSecureContext"), faults
            finally:
                chromium.close()

        with pytest.raises(playwright.Error, match="ERR_CERT_AUTHORITY_INVALID"):
            visit("localhost")
        ran = bandstand("trust", "--browsers-only")
        assert ran.returncode == 0, ran
        for host in ("localhost", "127.0.0.1"):
            assert visit(host) == ("h2", True, []), host
        ran = bandstand("untrust", "--browsers-only")
        assert ran.returncode == 0, ran
        with pytest.raises(playwright.Error, match="ERR_CERT_AUTHORITY_INVALID"):
            visit("localhost")
