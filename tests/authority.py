"""A certificate authority for tests: certificates for this machine, by address."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID


class Authority:
    """An authority of its own, in a directory."""

    def __init__(self, directory: Path, name: str = "authority") -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        own = _builder(self._name, self._name, self._key.public_key(), 30)
        own = own.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.path = directory / f"{name}.pem"
        self.path.write_bytes(own.sign(self._key, SHA256()).public_bytes(Encoding.PEM))

    def issue(
        self, name: str = "server", days: float = 30, host: str = "127.0.0.1", passphrase: bytes | None = None
    ) -> tuple[Path, Path]:
        """Paths of a certificate for an IP address, and of its key; what stood there before is replaced."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, self._name, key.public_key(), days)
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
        certificate = builder.add_extension(names, critical=False).sign(self._key, SHA256())
        encryption: KeySerializationEncryption = NoEncryption()
        if passphrase is not None:
            encryption = BestAvailableEncryption(passphrase)
        paths = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        paths[1].touch(mode=0o600)
        paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
        paths[0].write_bytes(certificate.public_bytes(Encoding.PEM))
        return paths


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: float
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number())
    begins = now - datetime.timedelta(days=60)
    return builder.not_valid_before(begins).not_valid_after(now + datetime.timedelta(days=days))
