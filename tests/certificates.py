"""Certificates for tests: an authority in memory, and what it signs, written as files."""

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


class Authority:
    """Signs what it is asked to."""

    def __init__(self, name: str = "Test Authority"):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = (
            _builder(self.name, self.name, self.key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )

    @property
    def pem(self) -> str:
        return _pem(self.certificate)

    def write(self, path: Path) -> Path:
        path.write_text(self.pem)
        return path

    def issue(self, *names: str, subject: str | None = None, rsa_key: bool = False) -> tuple[str, str]:
        """Chain and key, in PEM."""
        key = rsa.generate_private_key(65537, 2048) if rsa_key else ec.generate_private_key(ec.SECP256R1())
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Shop, Ltd"), x509.NameAttribute(NameOID.COMMON_NAME, subject or names[0])]
        builder = _builder(x509.Name(attributes), self.name, key.public_key())
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        certificate = builder.add_extension(usage, critical=False).add_extension(issuer, critical=False).sign(self.key, hashes.SHA256())
        secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return _pem(certificate), secret.decode()

    def put(self, folder: Path, *names: str, file: str = "cert", **kwargs) -> tuple[Path, Path]:
        """The same as two files, written beside and renamed."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = folder / f"{file}.pem", folder / f"{file}.key"
        for path, text in zip(paths, self.issue(*names, **kwargs)):
            beside = path.with_suffix(path.suffix + ".new")
            beside.write_text(text)
            beside.rename(path)
        return paths

    def client(self, *, cert: tuple[Path, Path] | None = None, protocols: tuple[str, ...] = ()) -> ssl.SSLContext:
        """A client that trusts this authority alone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.pem)
        if cert:
            context.load_cert_chain(*cert)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context


def _builder(subject, issuer, public_key):
    now = datetime.datetime.now(datetime.timezone.utc)
    day = datetime.timedelta(days=1)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public_key)
    return builder.serial_number(x509.random_serial_number()).not_valid_before(now - day).not_valid_after(now + 30 * day)


def _general(name: str):
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem(certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
