"""TLS 1.3 with throwaway keys: secrecy only; identities are proved inside.

What: a context for a server, whose certificate lives as long as the server, and one for clients, who trust none.

*Safety:* no identity key is ever near TLS, and the only file that holds the throwaway key is gone before the first
connection. Whoever uses these contexts must sign the certificate's hash, see :mod:`layer1.handshake`.
"""

from __future__ import annotations

import datetime
import os
import ssl
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from layer1.crypto import Domain, Hash, digest

CERTIFICATE_DAYS = 3650
"""Longer than any process lives; nobody checks it."""


def certificate_hash(der: bytes) -> Hash:
    """What both sides of a link sign."""
    return digest(Domain.CERTIFICATE, der)


def client_context() -> ssl.SSLContext:
    """For a client: takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def server_context() -> tuple[ssl.SSLContext, Hash]:
    """For a server: a fresh P-256 key with a certificate signed by itself; and the certificate's hash."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _certificate(key)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0
    load_pem(context, private + certificate.public_bytes(Encoding.PEM))
    return context, certificate_hash(certificate.public_bytes(Encoding.DER))


def _refuse_passphrase() -> str:
    """Instead of asking for it at a terminal."""
    raise ValueError("the key is encrypted")


def _certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "wedge")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=CERTIFICATE_DAYS))
    return builder.sign(key, SHA256())


def load_pem(context: ssl.SSLContext, pem: bytes) -> None:
    """Give a context a key and its certificates: through a file, all that the module ssl takes, 0600 and gone at once.

    Raises:
        ValueError: The key has a passphrase.
        ssl.SSLError: They do not fit each other, or are something else.
    """
    file, path = tempfile.mkstemp(prefix="wedge-")
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(pem)
        context.load_cert_chain(path, password=_refuse_passphrase)
    finally:
        Path(path).unlink()
