"""Who may ask, how often, with which password; and the reports that browsers send. All of it by path.

Numbers are rows of part 2 of the checklist.
"""

import base64
import json

import pytest


@pytest.fixture(scope="module")
def hashed():
    bcrypt = pytest.importorskip("bcrypt")
    return bcrypt.hashpw(b"open sesame", bcrypt.gensalt(4)).decode()


def basic(user: str, password: str) -> dict:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def with_paths(stand, text: str, name: str = "probe:app", **settings):
    (stand.folder / "bandstand.toml").write_text(text)
    return stand.serve(name, **({"workers": 1} | settings))


def test_allow_and_deny_by_path(stand):
    """96 of the rows; children inherit, and the app is not asked."""
    server = with_paths(
        stand,
        """
        deny = ["127.0.0.4"]
        [paths."/admin"]
        allow = ["127.0.0.2", "10.0.0.0/8"]
        [paths."/admin/public"]
        allow = ["*"]
        """,
        trusted_proxies="127.0.0.9",
    )
    for source, target, status in [
        ("127.0.0.1", "/", 200),
        ("127.0.0.1", "/administration", 200),
        ("127.0.0.1", "/admin", 403),
        ("127.0.0.1", "/admin/", 403),
        ("127.0.0.1", "/admin/x", 403),
        ("127.0.0.1", "/admin/public/x", 200),
        ("127.0.0.2", "/admin/x", 200),
        ("127.0.0.4", "/", 403),
        ("127.0.0.4", "/-/live", 200),
    ]:
        assert server.get(target, source=source).status == status, (source, target)
    # Behind a trusted proxy it is the client's address that counts, and nobody else can say one.
    for source, address, status in [("127.0.0.9", "10.1.2.3", 200), ("127.0.0.9", "8.8.8.8", 403), ("127.0.0.1", "10.1.2.3", 403)]:
        assert server.get("/admin/x", {"X-Forwarded-For": address}, source=source).status == status
    assert all("/admin" not in line or line in ("GET /admin/x", "GET /admin/public/x", "GET /administration") for line in stand.seen())
    assert stand.seen().count("GET /admin/x") == 2


@pytest.mark.parametrize("target", ["//admin/x", "/a/../admin/x", "/%61dmin/x", "/admin%2Fx", "/x/%2e%2e%2Fadmin", "/./admin/x", "/a/%2e%2e/admin", "/%2fadmin", "/a//..//admin/x"])
def test_other_spellings_of_a_path(stand, target):
    server = with_paths(stand, '[paths."/admin"]\nallow = ["127.0.0.2"]\n')
    assert server.get(target).status in (400, 403)
    assert stand.seen() == []


def test_an_open_path_below_a_closed_one_opens_nothing_beside_it(stand):
    server = with_paths(stand, '[paths."/admin"]\nallow = ["127.0.0.2"]\n[paths."/admin/public"]\nallow = ["*"]\n')
    assert server.get("/admin/public/../secret").status == 403
    assert server.get("/admin/public/a").status == 200
    assert stand.seen() == ["GET /admin/public/a"]


def test_rate(stand):
    """429 with Retry-After; each address for itself, loopback too; health is always answered."""
    server = with_paths(stand, '[paths."/login"]\nrate = "3/h"\n[paths."/login/free"]\nrate = "off"\n')
    with server.wire() as wire:
        from client import request

        answers = [wire.send(request("GET", "/login")).answer() for _ in range(5)]
    assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
    assert [answer.get("RateLimit-Policy") for answer in answers] == ['"default";q=3;w=3600'] * 5
    remaining = [answer.get("RateLimit").split(";")[1] for answer in answers]
    assert remaining == ["r=2", "r=1", "r=0", "r=0", "r=0"]
    wait = answers[-1].get("Retry-After")
    assert 1100 < int(wait) <= 1200 and f"t={wait}" in answers[-1].get("RateLimit")
    assert "too_many_requests" in answers[-1].get("Proxy-Status")
    assert server.get("/login/x?y").status == 429
    assert server.get("/login/free").status == 200 and server.get("/").get("RateLimit") is None
    assert server.get("/login", source="127.0.0.2").status == 200
    assert server.get("/-/live").status == 200
    assert len(stand.seen()) == 6


def test_a_rate_counts_by_what_the_rule_is_for(stand):
    """Behind a trusted proxy by client; what a stranger writes changes nothing."""
    server = with_paths(stand, 'rate = "2/h"\n', trusted_proxies="127.0.0.9")
    for n in range(6):
        assert server.get("/", {"X-Forwarded-For": f"9.9.9.{n}"}, source="127.0.0.9").status == 200
    statuses = [server.get("/", {"X-Forwarded-For": f"9.9.9.{n}"}).status for n in range(6)]
    assert statuses == [200, 200, 429, 429, 429, 429]


def test_passwords(stand, hashed):
    server = with_paths(stand, f'[paths."/admin"]\nbasic_auth = ["ali:{hashed}"]\n[paths."/admin/hook"]\nbasic_auth = "off"\n')
    for fields in [{}, basic("ali", "sesame"), basic("bob", "open sesame"), basic("ali", ""), {"Authorization": "Bearer x"}, {"Authorization": "Basic !"}]:
        answer = server.get("/admin/x", fields)
        assert answer.status == 401, fields
        assert answer.get("WWW-Authenticate") == 'Basic realm="Restricted", charset="UTF-8"'
    assert stand.seen() == []
    answer = server.get("/admin/x", basic("ali", "open sesame"))
    assert answer.status == 200
    assert "HTTP_AUTHORIZATION" not in answer.json()["environ"], "it was for bandstand"
    assert server.get("/admin/hook").status == 200
    open_page = server.get("/", basic("ali", "other"))
    assert open_page.json()["environ"]["HTTP_AUTHORIZATION"], "where bandstand asks for none it is the app's"


def test_a_page_with_many_parts_costs_one_hash(stand):
    """Of cost 12: twenty would take seconds of CPU each."""
    bcrypt = pytest.importorskip("bcrypt")
    slow = bcrypt.hashpw(b"open sesame", bcrypt.gensalt(12)).decode()
    server = with_paths(stand, f'basic_auth = ["ali:{slow}"]\n')

    def cpu() -> int:
        fields = open(f"/proc/{server.process.pid}/stat").read().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])

    before = cpu()
    assert server.get("/", basic("ali", "open sesame")).status == 200
    one = cpu() - before
    for _ in range(20):
        assert server.get("/", basic("ali", "open sesame")).status == 200
    assert cpu() - before < 10 * max(one, 1)


def test_who_guesses_waits_and_who_knows_does_not(stand, hashed):
    server = with_paths(stand, f'basic_auth = ["ali:{hashed}"]\n')
    assert server.get("/", basic("ali", "open sesame")).status == 200
    statuses = [server.get("/", basic("ali", f"guess {n}")).status for n in range(30)]
    assert statuses[:20] == [401] * 20 and statuses[-1] == 429
    assert int(server.get("/", basic("bob", "x")).get("Retry-After")) >= 1
    assert server.get("/", basic("ali", "open sesame")).status == 200, "known to be right"
    assert server.get("/", basic("ali", "wrong"), source="127.0.0.2").status == 401
    assert stand.seen() == ["GET /"] * 2


def test_an_htpasswd_file(stand, hashed):
    (stand.folder / "htpasswd").write_text(f"# staff\nali:{hashed}\n")
    server = with_paths(stand, 'basic_auth = "htpasswd"\n')
    assert server.get("/").status == 401
    assert server.get("/", basic("ali", "open sesame")).status == 200


def test_files_and_websockets_are_asked_as_pages_are(stand, hashed):
    root = stand.folder / "files"
    root.mkdir()
    (root / "a.txt").write_text("secret")
    handshake = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
    server = with_paths(stand, f'static = "/static/={root}"\nbasic_auth = ["ali:{hashed}"]\n', "asgi_probe:app", interface="asgi")
    assert server.get("/static/a.txt").status == 401
    assert server.get("/static/a.txt", basic("ali", "open sesame")).body == b"secret"
    assert server.get("/ws/echo", handshake).status == 401


def test_the_largest_body_by_path(stand):
    server = with_paths(stand, 'max_body = "2KB"\n[paths."/upload"]\nmax_body = "1MB"\n')
    for target, size, status in [("/", 2000, 200), ("/", 2001, 413), ("/upload/x", 1_000_000, 200), ("/upload/x", 1_000_001, 413), ("/uploads", 2001, 413), ("/upload/../x", 2001, 413)]:
        assert server.post(target, b"x" * size).status == status, (target, size)
    chunked = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" + b"bb9\r\n" + b"x" * 3001 + b"\r\n0\r\n\r\n"
    assert server.raw(chunked).startswith(b"HTTP/1.1 413 ")


REPORT = {"csp-report": {"effective-directive": "script-src", "blocked-uri": "https://evil.example/a.js"}}
REPORTS = [{"type": "csp-violation", "body": {"effectiveDirective": "img-src", "blockedURL": "inline"}}] * 2
CSP, API = {"Content-Type": "application/csp-report"}, {"Content-Type": "application/reports+json; charset=utf-8"}


def test_reports_of_violations(stand):
    """69 of the rows: counted, and the app is not asked."""
    import subprocess

    from server import BINARY, environment

    server = stand.serve(workers=1, csp_reports="/-/csp")
    assert server.post("/-/csp", json.dumps(REPORT).encode(), CSP).status == 204
    assert server.post("/-/csp", json.dumps(REPORTS).encode(), API).status == 204
    server.wait_text("violation of the Content-Security-Policy")
    for method, body, fields, status in [
        ("POST", b"{}", CSP, 400),
        ("POST", b"\xff", CSP, 400),
        ("POST", json.dumps(REPORT).encode(), {"Content-Type": "application/json"}, 415),
        ("POST", b"[" + b" " * 16 * 1024 + b"]", API, 413),
        ("GET", None, {}, 405),
    ]:
        assert server.request(method, "/-/csp", fields, body).status == status, (method, fields)
    assert stand.seen() == []
    ran = subprocess.run([str(BINARY), "status", "--json"], cwd=stand.folder, env=environment(), capture_output=True, text=True, timeout=30)
    violations = json.loads(ran.stdout)["violations"]
    assert violations == [{"directive": "img-src", "blocked": "inline", "count": 2}, {"directive": "script-src", "blocked": "https://evil.example", "count": 1}]


def test_a_flood_of_reports_is_cut(stand):
    server = stand.serve(workers=1, csp_reports="/-/csp")
    statuses = [server.post("/-/csp", json.dumps(REPORT).encode(), CSP).status for _ in range(80)]
    assert statuses[:60] == [204] * 60 and 429 in statuses[60:]
    assert server.output.count("violation of the Content-Security-Policy") <= 10


def test_without_the_setting_the_path_is_the_apps(stand):
    server = stand.serve(workers=1)
    assert server.post("/-/csp", json.dumps(REPORT).encode(), CSP).status == 200
    assert stand.seen() == ["POST /-/csp"]
