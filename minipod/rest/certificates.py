"""The API's certificates (layer 6): an authority of this host, the server's certificate, those of clients.

Below `<data-dir>/api`, mode 0700; keys 0600. What will expire soon, or lacks a wanted name, is made again; the
authority too, then with everything it has signed. `cryptography` is imported only where something is made.
"""

from __future__ import annotations

import datetime
import ipaddress
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CA_DAYS, LEAF_DAYS, RENEW_DAYS = 3650, 365, 30
_DAY = datetime.timedelta(days=1)


class Certificates:
    """`directory`: where the files are. `names`: DNS names and addresses that the server's certificate must have."""

    def __init__(self, directory: str, names: Sequence[str]) -> None:
        self._directory = Path(directory)
        self._names = tuple(dict.fromkeys(names))
        self.ca = self._directory / "ca.crt"
        self.server = self._directory / "server.crt"
        self.server_key = self._directory / "server.key"

    def ensure(self) -> None:
        """Authority and server certificate are there and will hold for a while. Raises OSError."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory.chmod(0o700)
        if self._holds(self.ca, ()) and self._holds(self.server, self._names):
            return
        if not self._holds(self.ca, ()):
            self._make_authority()
        key, certificate = self._signed("minipod-api", (), self._names)
        write_private(self.server_key, key)
        write_private(self.server, certificate)

    def client(self, user: str, groups: Sequence[str]) -> tuple[bytes, bytes]:
        """Key and certificate, PEM, of a user."""
        self.ensure()
        return self._signed(user, groups, ())

    def _holds(self, path: Path, names: Sequence[str]) -> bool:
        """Whether the certificate is there, is valid for a while, is the authority's, and holds for the names."""
        import ssl

        try:
            found: Any = ssl._ssl._test_decode_cert(str(path))  # type: ignore[attr-defined]
        except (OSError, ValueError):
            return False
        until = datetime.datetime.strptime(found["notAfter"], "%b %d %H:%M:%S %Y %Z").replace(tzinfo=datetime.UTC)
        has = {value for _, value in found.get("subjectAltName", ())}
        return until - datetime.datetime.now(datetime.UTC) > RENEW_DAYS * _DAY and {*names} <= has

    def _make_authority(self) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec

        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("minipod", ())
        builder = _builder(name, name, key.public_key(), CA_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        certificate = _sign(builder.add_extension(identifier, critical=False), key)
        write_private(self._directory / "ca.key", _pem_key(key))
        write_private(self.ca, certificate)

    def _signed(self, user: str, groups: Sequence[str], names: Sequence[str]) -> tuple[bytes, bytes]:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import load_pem_private_key
        from cryptography.x509.oid import ExtendedKeyUsageOID

        authority: Any = load_pem_private_key((self._directory / "ca.key").read_bytes(), None)
        issuer = x509.load_pem_x509_certificate(self.ca.read_bytes())
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(_name(user, groups), issuer.subject, key.public_key(), LEAF_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if names else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        own = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
        builder = builder.add_extension(own, critical=False)
        if names:
            alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
        return _pem_key(key), _sign(builder, authority)


def _builder(subject: Any, issuer: Any, public_key: Any, days: int) -> Any:
    from cryptography import x509

    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public_key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(now - _DAY).not_valid_after(now + days * _DAY)  # clocks differ


def _usage(*, signs_certificates: bool) -> Any:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        **dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign"), False
        ),
        encipher_only=False,
        decipher_only=False,
    )


def _name(user: str, groups: Sequence[str]) -> Any:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in groups]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, user)])


def _alternative(name: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _sign(builder: Any, key: Any) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.serialization import Encoding

    pem: bytes = builder.sign(key, SHA256()).public_bytes(Encoding.PEM)
    return pem


def _pem_key(key: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem


def write_private(path: Path, data: bytes) -> None:
    """Whole or not at all, for root only."""
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)
    new.rename(path)
