"""The handshake of a link: both sides prove who they are, and neither learns anything before it must.

What: the messages that open a link, what each side signs, and what it checks; no I/O.

    server -> client   Challenge     version, server's nonce
    client -> server   ClientProof   key, whom it means to reach, nonce, greeting, signature
    server -> client   ServerProof   key, greeting, signature

*Safety:* a side that accepts a proof shares this TLS connection with the holder of the proof's key, who means it for
this chain and this role.

Each side signs its role, the keys, both nonces, both greetings as far as it knows them, and the hash of the
certificate that the server showed. Roles and keys prevent reflection, the fresh nonces replay. Somebody between the
two has to show a certificate of his own, which the client then signs, and the server, which knows its own, refuses.
The client signs first, so a server tells nobody who it is before it knows whom it tells.

*Source:* docs/design/architecture.md, "HTTP and links"; Krawczyk, SIGMA (2003), section 5; for signing the hash of a
certificate: RFC 5929, section 4.1 (tls-server-end-point).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeVar

from layer1.codec import Struct, decode, encode, leading_number
from layer1.crypto import PUBLIC_KEY_BYTES, Hash, Kind, PublicKey, Signature, SigningKey, verify
from layer1.errors import LocalError, RemoteError, WedgeError

VERSION = 1
"""Of the handshake and the framing; another version is refused, and told so. It stands first, in every version."""
NONCE_BYTES = 32
MAX_GREETING_BYTES = 4096
"""A greeting says who one is and where one stands, not more."""
HANDSHAKE_BYTES = MAX_GREETING_BYTES + 512
"""Most that a message may have before its sender is known."""

_T = TypeVar("_T", bound=Struct)


class Refusal(WedgeError):
    """A stranger failed. The text is the counter: ``garbage``, ``oversize``, ``version``, ``addressee``, ...

    Attributes:
        words: For people.
        say: What the other side is told as we hang up; empty for nothing.
    """

    def __init__(self, counter: str, words: str = "", say: str = "") -> None:
        super().__init__(counter)
        self.words = words or counter
        self.say = say


_VERSIONS = {"version": "link version", "wire": "wire version"}
_FAREWELL = re.compile(r"(version|wire) (\d{1,9}) not (\d{1,9})")


def misfit(what: str, theirs: int, ours: int) -> Refusal:
    """The other side speaks another version of the link (``version``), or of what is said on it (``wire``)."""
    words = f"it speaks {_VERSIONS[what]} {theirs}, this program {ours}: upgrade the older one"
    return Refusal(what, words, f"{what} {ours} not {theirs}")


def read_farewell(text: str) -> Refusal | None:
    """What a :func:`misfit` on the other side says to us as it hangs up; None if it says anything else.

    Two numbers are taken from it, no text: nobody has proven to be anybody yet.
    """
    found = _FAREWELL.fullmatch(text)
    return None if found is None else Refusal(found[1], misfit(found[1], int(found[2]), int(found[3])).words)


class Challenge(Struct):
    """The server's first word, and all that a stranger gets."""

    version: int
    nonce: bytes
    """32 random bytes, used once."""


class ClientProof(Struct):
    """The client names itself; the signature covers all the rest and the session."""

    public: PublicKey
    addressee: PublicKey
    """Key of the server that the client means to reach; empty if any will do."""
    nonce: bytes
    """32 random bytes, used once."""
    greeting: bytes
    signature: Signature


class ServerProof(Struct):
    """The server names itself; the signature covers this, the client's proof and the session."""

    public: PublicKey
    greeting: bytes
    signature: Signature


@dataclass(frozen=True, slots=True)
class Session:
    """What both sides know of one connection before anybody is named."""

    chain_id: Hash
    certificate: Hash
    """Of the certificate in DER that the server shows, or that the client sees: the same if nobody is between."""
    server_nonce: bytes

    def client_proof(self, key: SigningKey, addressee: PublicKey, nonce: bytes, greeting: bytes) -> ClientProof:
        """Prove to a server that we are ``key``."""
        data = self._by_client((key.public, addressee, nonce, greeting))
        return ClientProof(key.public, addressee, nonce, greeting, key.sign(Kind.LINK, self.chain_id, data))

    def check_client(self, proof: ClientProof, own: PublicKey) -> None:
        """Raise :class:`Refusal` unless ``proof`` was made for this session and for us."""
        if len(proof.nonce) != NONCE_BYTES or len(proof.greeting) > MAX_GREETING_BYTES:
            raise Refusal("garbage")
        if proof.addressee not in (b"", own):
            raise Refusal("addressee")
        data = self._by_client((proof.public, proof.addressee, proof.nonce, proof.greeting))
        if not verify(proof.public, proof.signature, Kind.LINK, self.chain_id, data):
            raise Refusal("signature")

    def server_proof(self, key: SigningKey, greeting: bytes, client: ClientProof) -> ServerProof:
        """Prove to a client, whom we admitted, that we are ``key``."""
        data = self._by_server((key.public, greeting), client)
        return ServerProof(key.public, greeting, key.sign(Kind.LINK, self.chain_id, data))

    def check_server(self, proof: ServerProof, client: ClientProof) -> None:
        """Raise :class:`Refusal` unless ``proof`` answers our ``client`` proof in this session."""
        if len(proof.greeting) > MAX_GREETING_BYTES:
            raise Refusal("garbage")
        if len(proof.public) != PUBLIC_KEY_BYTES or client.addressee not in (b"", proof.public):
            raise Refusal("addressee")
        data = self._by_server((proof.public, proof.greeting), client)
        if not verify(proof.public, proof.signature, Kind.LINK, self.chain_id, data):
            raise Refusal("signature")

    def _by_client(self, said: tuple[bytes, ...]) -> bytes:
        return encode((VERSION, "client", self.certificate, self.server_nonce, *said))

    def _by_server(self, said: tuple[bytes, ...], client: ClientProof) -> bytes:
        heard = (client.public, client.addressee, client.nonce, client.greeting)
        return encode((VERSION, "server", self.certificate, self.server_nonce, *heard, *said))


def read_challenge(data: bytes) -> Challenge:
    """The server's challenge, if it is of our version. Of another one only the version has to be where it is now."""
    version = leading_number(data) if len(data) <= HANDSHAKE_BYTES else None
    if version is not None and version != VERSION:
        raise misfit("version", version, VERSION)
    challenge = read(data, Challenge)
    if len(challenge.nonce) != NONCE_BYTES:
        raise Refusal("garbage")
    return challenge


def read(data: bytes, kind: type[_T]) -> _T:
    """Decode a message of the handshake, or raise :class:`Refusal`."""
    if len(data) > HANDSHAKE_BYTES:
        raise Refusal("oversize")
    try:
        return decode(data, kind)
    except RemoteError as error:
        raise Refusal("garbage") from error


def checked_greeting(greeting: bytes) -> bytes:
    """Our own greeting, if the other side will take it."""
    if len(greeting) > MAX_GREETING_BYTES:
        raise LocalError(f"a greeting of {len(greeting)} bytes exceeds {MAX_GREETING_BYTES}: send it as a message")
    return greeting
