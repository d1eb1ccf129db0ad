"""Certificates of HTTPS: a server's own, from files and again when they are renewed; and whom a client trusts.

*Safety:* a server that could load its certificate once never loses it: what does not load changes nothing.

This is for the HTTP API, which browsers and other programs reach; links between replicas and wallets prove identities
themselves, see :mod:`layer1.tls`. Answers of the API need no HTTPS to be believed, they prove themselves; it keeps to
oneself what one asks, and lets a browser in.
"""

from __future__ import annotations

import datetime
import logging
import ssl
import stat
from pathlib import Path

from cryptography import x509

from layer1.errors import LocalError, Refused
from layer1.tls import load_pem

SOON = datetime.timedelta(days=14)
"""Before the end of a certificate there is a warning at each start and reload."""

_log = logging.getLogger(__name__)


class ServerCertificate:
    """A certificate with its key, as a server uses it.

    Attributes:
        path: Of its PEM file.
        context: For the listening socket. New connections have what was loaded last.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        """Load it.

        Args:
            certificate: PEM: the server's first, then those between it and the authority's.
            key: PEM, without a passphrase, not readable by everybody.

        Raises:
            LocalError: As :meth:`reload`.
        """
        self.path, self._key = certificate, key
        self.context = _server_context()
        self.reload()

    def reload(self) -> None:
        """Load the files again.

        Raises:
            LocalError: One is missing, readable by everybody, or they do not fit; what was loaded before stays.
        """
        chain = _read(self.path)
        pem = _read_key(self._key) + b"\n" + chain
        try:
            load_pem(_server_context(), pem)
            ends = x509.load_pem_x509_certificate(chain).not_valid_after_utc
        except (ssl.SSLError, ValueError, OSError) as error:
            raise LocalError(
                f"{self.path} and {self._key} are no certificate with its key: {error}. Give PEM files, the "
                "key without a passphrase"
            ) from None
        load_pem(self.context, pem)
        if ends - datetime.datetime.now(datetime.UTC) < SOON:
            _log.warning("%s is valid until %s: renew it, then send SIGHUP", self.path, ends)


def renew(certificate: ServerCertificate | None) -> None:
    """Go on with what is in a server's files now, or with what was loaded before; the log tells which, and why."""
    if certificate is None:
        _log.info("no certificate is in use: there is nothing to load again")
        return
    try:
        certificate.reload()
    except LocalError as error:
        _log.error("the certificate is not renewed, the one before stays: %s", error)
    else:
        _log.info("the certificate was loaded again from %s", certificate.path)


def trusting(ca: Path | None) -> ssl.SSLContext | bool:
    """Whom a client trusts, as aiohttp takes it: the authorities in a PEM file alone, or those of this system.

    Raises:
        Refused: ``bad_ca``: the file holds none.
    """
    if ca is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(ca))
    except (OSError, ValueError) as error:
        raise Refused(
            "bad_ca", f"{ca} holds no certificates of authorities: {error}. Give a PEM file, or leave it out"
        ) from None


def _server_context() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise LocalError(f"{path} cannot be read: {error.strerror}") from None


def _read_key(path: Path) -> bytes:
    data = _read(path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & stat.S_IROTH:
        raise LocalError(f"the key {path} has mode {mode:04o}, everybody may read it; run: chmod 640 {path}")
    return data
