"""The production set-up as README.md has it: its lines are read from there, and done in a fresh folder with Pebble as the authority.

What is added to them: the authority, free ports in the place of 443 and 80, and a user that this machine has.
"""

import getpass
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from authority import PEBBLE, Authority, Names, free_port
from client import eventually
from server import BINARY, ROOT, Server, environment
from test_85_rights import EDGE, others_python, package, status

HOSTS = ["shop.example", "www.shop.example"]


def lines() -> dict[str, list[str]]:
    """The lines of each block of the section, by the block's language; comments left out."""
    section = (ROOT / "README.md").read_text().partition("\n## Put it on the internet\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return {kind: [line for line in text.splitlines() if line and not line.startswith("#")] for kind, text in blocks}


class Production(Server):
    """A server that is started by a line of README.md, with the environment of a service."""

    command = staticmethod(lambda app, settings: app)


def test_it_is_under_ten_lines():
    said = lines()
    assert sorted(said) == ["ini", "sh", "toml"] and sum(map(len, said.values())) < 10, said
    assert said["sh"] == ["pip install bandstand", "python manage.py collectstatic --noinput", "bandstand serve"]


@pytest.fixture
def folder(shop_folder):
    """The shop in a folder that other users can enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="bandstand-production-") as folder:
        os.chmod(folder, 0o755)
        shop = Path(folder) / "shop"
        shutil.copytree(shop_folder, shop, ignore=shutil.ignore_patterns("staticfiles", "__pycache__"))
        yield shop


@pytest.fixture
def site(folder):
    """The folder as README.md has it, and the authority: `(folder, authority, env, http, tls)`."""
    names = Names(folder.parent, *HOSTS)
    http, tls = free_port(), free_port()
    authority = Authority(folder.parent, names, http, tls)
    said = lines()
    python = others_python("django", "channels") if os.geteuid() == 0 else None
    user = "nobody" if python else getpass.getuser()
    own = "\n".join(said["toml"]).replace('user = "shop"', f'user = "{user}"')
    added = [f'acme_directory = "{authority.directory}"', f'acme_ca = "{authority.ca}"', f'bind = ["https://127.0.0.1:{tls}", "http://127.0.0.1:{http}"]']
    (folder / "bandstand.toml").write_text("\n".join([own, *added, ""]))
    secrets = {"SHOP_HTTPS": "1", "SHOP_ALLOWED_HOSTS": ",".join(HOSTS), "STATE_DIRECTORY": str(folder.parent / "state")}
    env = environment(**secrets, PYTHONPATH=package("django", "channels"), BANDSTAND_PYTHON=python or sys.executable)
    collect = shlex.split(said["sh"][1].replace("python", sys.executable, 1))
    subprocess.run(collect, cwd=folder, env=env, check=True, capture_output=True, timeout=120)
    if python:
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, EDGE, EDGE)
    yield folder, authority, env, http, tls
    authority.stop()
    names.close()


def curl(url: str, *ports: int, cacert: Path | None = None) -> tuple[int, dict[str, str], str]:
    """Status, fields (names in lower case) and body; the names lead here."""
    resolved = [word for host in [*HOSTS, "other.example"] for port in ports for word in ("--resolve", f"{host}:{port}:127.0.0.1")]
    trust = ["--cacert", str(cacert)] if cacert else []
    ran = subprocess.run(["curl", "--silent", "--show-error", "--include", *resolved, *trust, url], capture_output=True, text=True, timeout=60)
    if ran.returncode:
        return 0, {}, ran.stderr
    head, _, body = ran.stdout.replace("\r\n", "\n").partition("\n\n")
    first, *fields = head.split("\n")
    return int(first.split()[1]), {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}, body


@pytest.mark.skipif(PEBBLE is None, reason="no pebble (apt-get install pebble)")
@pytest.mark.parametrize("way", ["by hand", "as a service"])
def test_the_shop_is_on_the_internet(site, way):
    """A page, a file and the admin over HTTPS with HSTS, verified by curl; HTTP redirects; a strange name gets nothing."""
    folder, authority, env, http, tls = site
    said = lines()
    start = said["sh"][-1] if way == "by hand" else next(line for line in said["ini"] if line.startswith("ExecStart=")).removeprefix("ExecStart=")
    words = shlex.split(start.replace("/srv/shop/.venv/bin/", ""))
    assert words.pop(0) == "bandstand"
    words = [str(folder) if word == "/srv/shop" else word for word in words]
    server = Production.start([str(BINARY), *words], folder if way == "by hand" else Path("/"), env=env)
    try:
        root = folder.parent / "root.pem"
        root.write_text(authority.root)

        def secure(path: str, host: str = HOSTS[0]):
            return curl(f"https://{host}:{tls}{path}", tls, cacert=root)

        server.wait_text("a new certificate is there", 60)
        code, fields, page = eventually(lambda: (answer := secure("/"))[0] and answer, "an answer over HTTPS")
        assert code == 200 and "</html>" in page, server.output
        style = re.search(r'/static/[^"]+\.css', page)[0]
        for path in ["/", style, "/admin/login/", "/nowhere/"]:
            for host in HOSTS:
                code, fields, _ = secure(path, host)
                assert code == (404 if path == "/nowhere/" else 200), (path, host, fields)
                assert fields["strict-transport-security"] == "max-age=3600", (path, host, fields)
        code, fields, _ = curl(f"http://{HOSTS[1]}:{http}/products/?page=2", http)
        assert code == 301 and re.fullmatch(rf"https://{HOSTS[1]}(:{tls})?/products/\?page=2", fields["location"]), fields
        assert curl(f"http://other.example:{http}/", http)[0] == 421
        assert secure("/", "other.example")[0] == 0
        if os.geteuid() == 0 and "nobody" in (folder / "bandstand.toml").read_text():
            assert {tuple(status(pid)["Uid"]) for pid in [server.process.pid, *server.descendants()]} == {(str(EDGE),) * 4}
    finally:
        server.stop()
