"""Certificates from an authority: Debian's Pebble, its failure modes included.

Numbers are rows of part 2 of the checklist.
"""

import json
import socket
import ssl
import stat
import subprocess

import pytest

from authority import PEBBLE, Authority, Names, free_port
from client import Wire, eventually, request
from server import BINARY, environment, flags

pytestmark = pytest.mark.skipif(PEBBLE is None, reason="no pebble (apt-get install pebble)")

LONG = 60


class Site:
    """A server with two addresses, the authority that looks at them, and the DNS in between."""

    def __init__(self, stand):
        self.stand, self.folder = stand, stand.folder
        self.http, self.tls = free_port(), free_port()
        self.names = Names(self.folder, "shop.test", "www.shop.test")
        self.state = self.folder / "state"
        self.control = self.folder / "c.sock"
        self.authorities = []

    def authority(self, **more) -> Authority:
        authority = Authority(self.folder, self.names, self.http, self.tls, **more)
        self.authorities.append(authority)
        return authority

    def settings(self, *authorities, **more) -> dict:
        return {
            "bind": [f"https://127.0.0.1:{self.tls}", f"http://127.0.0.1:{self.http}"],
            "domains": "shop.test",
            "acme_directory": [getattr(one, "directory", one) for one in authorities],
            "acme_ca": self.authorities[0].ca,
            "state_dir": self.state,
            "control": self.control,
            "workers": 1,
            "threads": 1,
            **more,
        }

    def serve(self, *authorities, **more):
        self.server = self.stand.serve(**self.settings(*authorities, **more))
        return self.server

    def cert(self, verb: str, *arguments: str, status: int | None = 0, **settings) -> subprocess.CompletedProcess:
        line = [str(BINARY), "cert", verb, *arguments, *flags(settings)]
        ran = subprocess.run(line, cwd=self.folder, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LONG)
        assert status is None or ran.returncode == status, ran.stdout + ran.stderr
        return ran

    def status(self) -> list[dict]:
        return json.loads(self.cert("status", "--json", control=self.control, domains="shop.test", status=None).stdout)

    def shown(self, authority: Authority, name: str = "shop.test") -> str | None:
        """The serial number of what the server shows for a name, verified as a browser would; None when it is refused."""
        trust = ssl.create_default_context(cadata=authority.root)
        try:
            with socket.create_connection(("127.0.0.1", self.tls), 10) as plain, trust.wrap_socket(plain, server_hostname=name) as tls:
                return tls.getpeercert()["serialNumber"]
        except ssl.SSLError:
            return None

    def issued(self, authority: Authority, name: str = "shop.test", other_than: str | None = None) -> str:
        def look():
            assert self.server.process.poll() is None, self.server.output
            shown = self.shown(authority, name)
            return shown if shown != other_than else None

        try:
            return eventually(look, f"a certificate for {name}", LONG)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.server.output}\n{authority.log.read_text()}") from None

    def close(self) -> None:
        self.names.close()
        for authority in self.authorities:
            authority.stop()


@pytest.fixture
def site(stand):
    site = Site(stand)
    yield site
    site.close()


@pytest.mark.parametrize("way", ["http-01", "tls-alpn-01"])
def test_domains_are_the_whole_procedure(site, way):
    """The ready line comes first; a handshake before the certificate is there is refused; then it is there, for both names."""
    authority = site.authority()
    server = site.serve(authority, domains=["shop.test", "www.shop.test"], acme_challenge=way)
    serial = site.issued(authority)
    assert site.shown(authority, "www.shop.test") == serial, "one certificate for both"
    assert site.shown(authority, "other.test") is None
    folder = site.state / "acme"
    kept = [folder / "certificates" / "shop.test+1.pem", folder / "course.json", *(folder / "accounts").iterdir()]
    assert len(kept) == 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in kept} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in [site.state, folder, *(path.parent for path in kept)]} == {0o700}
    (entry,) = site.status()
    assert entry["names"] == ["shop.test", "www.shop.test"] and "Pebble" in entry["issuer"]
    assert entry["error"] is None and entry["next"] < entry["not_after"]
    assert "a new certificate is there" in server.output


def test_row_66_only_known_tokens_are_answered(site):
    """Row 66: whoever probes for tokens gets a 404, whatever the Host, and no redirect; the app is not asked."""
    authority = site.authority()
    site.serve(authority)
    site.issued(authority)
    for path in ["/.well-known/acme-challenge/", "/.well-known/acme-challenge/nobody-waits-for-this", "/.well-known/acme-challenge/a/b"]:
        for host in ["shop.test", "stranger.test"]:
            with Wire(("127.0.0.1", site.http)) as wire:
                assert wire.send(request("GET", path, host=host)).answer().status == 404
    assert site.stand.seen() == []


def handshake(site, name: str, protocol: str = "http/1.1") -> bytes | None:
    """The certificate that a client is shown who believes anything; None when it is refused."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    try:
        with socket.create_connection(("127.0.0.1", site.tls), 10) as plain, context.wrap_socket(plain, server_hostname=name) as tls:
            return tls.getpeercert(binary_form=True)
    except (ssl.SSLError, ConnectionResetError):
        return None


def test_row_66_nobody_orders_for_a_stranger(site):
    """Row 66: handshakes for names that are not ours, and validations that nobody waits for, are refused and lead to no order."""
    authority = site.authority()
    server = site.serve(authority)
    site.issued(authority)
    orders = authority.said("There are now")
    assert handshake(site, "shop.test") is not None
    for name, protocol in [("shop.test", "acme-tls/1"), ("stranger.test", "acme-tls/1"), ("stranger.test", "http/1.1"), ("x.shop.test", "http/1.1")]:
        assert handshake(site, name, protocol) is None, (name, protocol)
    site.cert("renew", control=site.control, domains="shop.test")  # a turn of the keeper: nothing is due
    assert authority.said("There are now") == orders
    assert "ordering a certificate" not in server.output.split("a new certificate is there", 1)[1]


def test_row_69_boots_without_any_certificate(site):
    """Row 69: no certificate, and the authority is down: the server is ready, redirects, refuses handshakes, and says why."""
    site.authority()
    server = site.serve(f"https://127.0.0.1:{free_port()}/dir")
    said = json.loads(server.wait_text("no certificate: "))
    assert said["level"] == "warn" and "cannot be reached" in said["message"], said
    with Wire(("127.0.0.1", site.http)) as wire:
        assert wire.send(request("GET", "/a", host="shop.test")).answer().get("Location").startswith("https://shop.test")
    assert handshake(site, "shop.test") is None
    (entry,) = site.status()
    assert entry["names"] == ["shop.test"] and entry["not_after"] is None and "cannot be reached" in entry["error"]


def test_row_69_a_certificate_that_is_over_is_served(site):
    """Row 69: the authority is gone and the certificate is over: it is served on, also by a server that starts now."""
    authority = site.authority(certificateValidityPeriod=4)
    server = site.serve(authority)
    site.issued(authority)
    authority.stop()
    own = site.state / "acme/certificates/shop.test.pem"
    der = ssl.PEM_cert_to_DER_cert("-----BEGIN CERTIFICATE" + own.read_text().split("-----BEGIN CERTIFICATE")[1])
    eventually(lambda: site.shown(authority) is None, "the end of the certificate", LONG)
    assert handshake(site, "shop.test") == der
    server.stop()
    server = site.serve(authority)
    assert handshake(site, "shop.test") == der
    server.wait_text("the certificate is over, and is served on until there is another")


def test_dns_01_by_a_hook(site):
    """A wildcard is proved by a record that the hook makes and takes away again; what it says is in the log."""
    hook = site.folder / "hook"
    hook.write_text(
        f"""#!/bin/sh
set -e
cd {site.names.records}
echo "$1 $2 asked for"
echo "$1 $2" >>../hook.said
if [ "$1" = present ]; then echo "$3" >>"$2"; else rm -f "$2"; fi
"""
    )
    hook.chmod(0o700)
    authority = site.authority()
    server = site.serve(authority, domains=["shop.test", "*.shop.test"], acme_challenge="dns-01", acme_dns_hook=hook)
    serial = site.issued(authority)
    assert site.shown(authority, "any.shop.test") == serial
    said = (site.folder / "hook.said").read_text().split("\n")[:-1]
    assert said == ["present _acme-challenge.shop.test"] * 2 + ["cleanup _acme-challenge.shop.test"] * 2
    assert list(site.names.records.iterdir()) == []
    assert "acme_dns_hook: present _acme-challenge.shop.test asked for" in server.output


def test_a_restart_uses_what_is_on_the_disk(site):
    """Row 69: with the authority gone, the certificate serves from the first moment."""
    authority = site.authority()
    server = site.serve(authority)
    serial = site.issued(authority)
    server.stop()
    authority.stop()
    site.serve(authority)
    assert site.shown(authority) == serial
    (entry,) = site.status()
    assert entry["names"] == ["shop.test"] and entry["error"] is None


def test_renewal_comes_by_itself(site):
    """At two thirds of a lifetime of half a minute; nobody asks for it, and clients that come meanwhile are served."""
    authority = site.authority(certificateValidityPeriod=30)
    site.serve(authority)
    first = site.issued(authority)
    assert site.issued(authority, other_than=first) != first


def test_another_authority_when_the_first_is_down(site):
    authority = site.authority()
    server = site.serve(f"https://127.0.0.1:{free_port()}/dir", authority)
    site.issued(authority)
    assert "ordering a certificate" in server.output


def test_bad_nonces_and_slow_judgement(site):
    """Half of all nonces are refused, and each judgement takes seconds."""
    authority = site.authority(env={"PEBBLE_WFE_NONCEREJECT": "50", "PEBBLE_VA_NOSLEEP": "0", "PEBBLE_VA_SLEEPTIME": "3"})
    site.serve(authority, domains=["shop.test", "www.shop.test"])
    site.issued(authority)


def test_row_69_a_name_that_leads_nowhere(site):
    """Row 69: the others get theirs; it is named, waits, and waits on after a restart; nothing is asked meanwhile."""
    authority = site.authority()
    names = ["shop.test", "nowhere.test", "www.shop.test"]
    server = site.serve(authority, domains=names)
    serial = site.issued(authority)
    assert site.shown(authority, "www.shop.test") == serial and site.shown(authority, "nowhere.test") is None
    said = json.loads(server.wait_text("no certificate: "))
    assert "nowhere.test" in json.dumps(said)
    good, bad = sorted(site.status(), key=lambda entry: entry["error"] is not None)
    assert good["names"] == ["shop.test", "www.shop.test"]
    assert bad["names"] == ["nowhere.test"] and bad["failures"] == 1 and "nowhere.test" in bad["error"]
    assert bad["next"] > bad["failed_at"] + 40
    server.stop()
    orders = authority.said("There are now")
    server = site.serve(authority, domains=names)
    assert site.shown(authority) == serial
    again = next(entry for entry in site.status() if entry["error"])
    assert again["next"] == bad["next"] and again["failures"] == 1, "a restart forgets nothing"
    assert authority.said("There are now") == orders
    # Asked to, it tries at once; in an hour three times and no more, whoever asks.
    for failures in [2, 3, 3]:
        site.cert("renew", control=site.control, domains="shop.test", status=None)
        assert next(entry for entry in site.status() if entry["error"])["failures"] == failures
    assert site.shown(authority) == serial, "what serves is not touched"


def test_the_old_certificate_serves_when_renewal_fails(site):
    """Row 69: forced, the renewal of a name that leads nowhere any more fails, and nothing changes for clients."""
    authority = site.authority()
    site.serve(authority)
    serial = site.issued(authority)
    site.names.known.clear()
    ran = site.cert("renew", "--force", control=site.control, domains="shop.test", status=1)
    assert "shop.test: " in ran.stdout
    assert site.shown(authority) == serial
    site.names.known.add("shop.test")
    ran = site.cert("renew", "--force", control=site.control, domains="shop.test")
    assert ran.stdout == "shop.test: renewed\n"
    assert site.shown(authority) not in (serial, None)


@pytest.mark.parametrize("binding", ["kid-1:zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W", None])
def test_external_account_binding(site, binding):
    key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
    authority = site.authority(externalAccountBindingRequired=True, externalAccountMACKeys={"kid-1": key})
    server = site.serve(authority, acme_eab=binding)
    if binding:
        site.issued(authority)
    else:
        assert "externalAccountRequired" in server.wait_text("no certificate: ")
    assert key not in server.output


def test_an_account_that_the_authority_has_lost(site):
    """Pebble keeps nothing over a restart: the account is opened anew, and the renewal succeeds."""
    authority = site.authority()
    server = site.serve(authority)
    first = site.issued(authority)
    authority.stop()
    again = site.authority(port=authority.port)
    site.cert("renew", "--force", control=site.control, domains="shop.test")
    assert site.shown(again) not in (first, None)
    assert "does not know our account" in server.output


def test_a_reload_brings_another_name(site):
    """The certificate that is there stays, the new name gets its own, and handshakes go on."""
    authority = site.authority()
    config = site.folder / "bandstand.toml"
    config.write_text('domains = ["shop.test"]\n')
    server = site.serve(authority, domains=None, config=config)
    first = site.issued(authority)
    config.write_text('domains = ["shop.test", "www.shop.test"]\n')
    ran = subprocess.run([str(BINARY), "reload", "--control", str(site.control)], cwd=site.folder, env=environment(), capture_output=True, text=True, timeout=LONG)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    second = site.issued(authority, "www.shop.test")
    assert site.shown(authority) == first != second
    assert server.process.poll() is None


def test_renew_and_status_without_a_server(site):
    """`cert renew` listens by itself for as long as it takes; the server finds the certificate when it starts."""
    authority = site.authority()
    settings = site.settings(authority)
    assert site.cert("status", status=1, **settings).stdout == "shop.test\n  no certificate yet\n"
    assert site.cert("renew", **settings).stdout == "shop.test: renewed\n"
    assert "valid for " in site.cert("status", **settings).stdout
    assert site.cert("renew", **settings).stdout == "nothing is due\n"
    site.serve(authority)
    assert site.shown(authority) is not None


def test_two_servers_that_share_a_folder_order_once(site):
    """The second one waits for the lock, and serves what the first has got."""
    authority = site.authority(env={"PEBBLE_VA_NOSLEEP": "0", "PEBBLE_VA_SLEEPTIME": "2"})
    site.serve(authority)
    settings = {**site.settings(authority), "bind": [f"https://127.0.0.1:{free_port()}", f"http://127.0.0.1:{free_port()}"], "control": site.folder / "d.sock"}
    other = site.stand.serve(**settings)
    serial = site.issued(authority)
    site.tls = int(next(address for address in other.addresses if "https" in address).rpartition(":")[2])
    assert site.issued(authority) == serial
    assert authority.said("Issued certificate") == 1
