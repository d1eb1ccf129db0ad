"""The handshake without a connection: what is signed, and every way to abuse it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layer1 import handshake
from layer1.codec import encode
from layer1.crypto import Kind, SigningKey
from layer1.errors import LocalError
from layer1.handshake import Challenge, ClientProof, Refusal, ServerProof, Session

CLIENT, SERVER, OTHER = (SigningKey(bytes([number]) * 32) for number in (1, 2, 3))
NONCE = b"c" * 32
SESSION = Session(chain_id=b"n" * 32, certificate=b"h" * 32, server_nonce=b"s" * 32)
ELSEWHERE = [
    replace(SESSION, chain_id=b"N" * 32),
    replace(SESSION, certificate=b"H" * 32),
    replace(SESSION, server_nonce=b"S" * 32),
]


def client_proof(session: Session = SESSION, addressee: bytes = SERVER.public) -> ClientProof:
    return session.client_proof(CLIENT, addressee, NONCE, b"hello")


def server_proof(session: Session = SESSION) -> ServerProof:
    return session.server_proof(SERVER, b"welcome", client_proof(session))


def change(proof: ClientProof | ServerProof, field: str, value: bytes) -> list[bytes]:
    fields = {name: getattr(proof, name) for name in proof.__struct_fields__}
    return list((fields | {field: value}).values())


@pytest.mark.parametrize("addressee", [b"", SERVER.public])
def test_two_honest_sides_accept_each_other(addressee: bytes) -> None:
    client = client_proof(addressee=addressee)
    SESSION.check_client(client, SERVER.public)
    SESSION.check_server(SESSION.server_proof(SERVER, b"", client), client)


@pytest.mark.parametrize("session", ELSEWHERE, ids=["chain", "somebody between", "replay"])
def test_a_proof_is_good_in_one_session_only(session: Session) -> None:
    with pytest.raises(Refusal, match="signature"):
        session.check_client(client_proof(), SERVER.public)
    with pytest.raises(Refusal, match="signature"):
        session.check_server(server_proof(), client_proof(session))


@pytest.mark.parametrize(
    "field, value, reason",
    [
        ("public", OTHER.public, "signature"),
        ("public", b"", "signature"),
        ("addressee", b"", "signature"),
        ("addressee", OTHER.public, "addressee"),
        ("nonce", b"d" * 32, "signature"),
        ("nonce", b"short", "garbage"),
        ("greeting", b"hallo", "signature"),
        ("greeting", bytes(handshake.MAX_GREETING_BYTES + 1), "garbage"),
        ("signature", bytes(64), "signature"),
        ("signature", b"", "signature"),
    ],
)
def test_every_field_of_a_clients_proof_counts(field: str, value: bytes, reason: str) -> None:
    with pytest.raises(Refusal, match=reason):
        SESSION.check_client(ClientProof(*change(client_proof(), field, value)), SERVER.public)


@pytest.mark.parametrize(
    "field, value, reason",
    [
        ("public", OTHER.public, "addressee"),
        ("public", b"", "addressee"),
        ("greeting", b"hi", "signature"),
        ("greeting", bytes(handshake.MAX_GREETING_BYTES + 1), "garbage"),
        ("signature", bytes(64), "signature"),
    ],
)
def test_every_field_of_a_servers_proof_counts(field: str, value: bytes, reason: str) -> None:
    with pytest.raises(Refusal, match=reason):
        SESSION.check_server(ServerProof(*change(server_proof(), field, value)), client_proof())


def test_a_server_answers_this_proof_of_the_client_and_no_other() -> None:
    others = [
        SESSION.client_proof(OTHER, SERVER.public, NONCE, b"hello"),
        SESSION.client_proof(CLIENT, b"", NONCE, b"hello"),
        SESSION.client_proof(CLIENT, SERVER.public, b"d" * 32, b"hello"),
        SESSION.client_proof(CLIENT, SERVER.public, NONCE, b"hallo"),
    ]
    for client in others:
        with pytest.raises(Refusal, match="signature"):
            SESSION.check_server(server_proof(), client)


def test_a_proof_sent_back_to_its_maker_proves_nothing() -> None:
    """Reflection: what one signed as a client does not serve against it as a server, nor the other way round."""
    client = SESSION.client_proof(SERVER, b"", NONCE, b"")
    with pytest.raises(Refusal, match="signature"):
        SESSION.check_server(ServerProof(client.public, client.greeting, client.signature), client)
    server = SESSION.server_proof(SERVER, b"", client)
    with pytest.raises(Refusal, match="signature"):
        SESSION.check_client(ClientProof(server.public, b"", NONCE, b"", server.signature), SERVER.public)


def test_a_signature_of_another_kind_proves_nothing() -> None:
    data = SESSION._by_client((CLIENT.public, b"", NONCE, b""))
    proof = ClientProof(CLIENT.public, b"", NONCE, b"", CLIENT.sign(Kind.ACK, SESSION.chain_id, data))
    with pytest.raises(Refusal, match="signature"):
        SESSION.check_client(proof, SERVER.public)


@pytest.mark.parametrize(
    "data, reason",
    [
        (b"", "garbage"),
        (encode(Challenge(2, bytes(32))), "version"),
        (encode([2, "of another", "shape"]), "version"),
        (encode([-1]), "garbage"),
        (encode([True, bytes(32)]), "garbage"),
        (encode(Challenge(1, bytes(31))), "garbage"),
        (encode(Challenge(1, bytes(32))) + b"\0", "garbage"),
        (bytes(handshake.HANDSHAKE_BYTES + 1), "oversize"),
    ],
)
def test_a_challenge_is_of_our_version_and_shape(data: bytes, reason: str) -> None:
    with pytest.raises(Refusal, match=reason):
        handshake.read_challenge(data)


def test_a_farewell_is_two_numbers_and_no_text() -> None:
    """It comes from somebody who has proven nothing: nothing of it but numbers reaches a log."""
    told = handshake.misfit("version", 3, 1)
    heard = handshake.read_farewell(told.say)
    assert heard is not None
    assert (str(heard), heard.say) == ("version", "")
    assert "it speaks link version 1, this program 3" in heard.words
    for text in (
        "",
        "version",
        "version 1 not 2 ",
        "version 1 not 2\n",
        "wire -1 not 2",
        "wire " + "9" * 10 + " not 1",
    ):
        assert handshake.read_farewell(text) is None


def test_the_longest_greeting_fits_and_a_longer_one_is_our_mistake() -> None:
    longest = bytes(handshake.MAX_GREETING_BYTES)
    proof = SESSION.client_proof(CLIENT, SERVER.public, NONCE, handshake.checked_greeting(longest))
    assert handshake.read(encode(proof), ClientProof) == proof
    with pytest.raises(LocalError, match="4097 bytes exceeds 4096"):
        handshake.checked_greeting(longest + b"\0")


@given(st.binary(max_size=300), st.sampled_from([ClientProof, ServerProof]))
def test_garbage_is_refused_and_nothing_else_happens(data: bytes, kind: type[ClientProof | ServerProof]) -> None:
    with pytest.raises(Refusal):
        handshake.read(data, kind)


def without(field: str) -> Callable[..., bytes]:
    """A transcript that forgets one thing."""

    def encoded(value: tuple[object, ...]) -> bytes:
        position = {"role": 1, "certificate": 2, "server_nonce": 3}[field]
        return encode(value[:position] + value[position + 1 :])

    return encoded


@pytest.mark.parametrize(
    "field, attack",
    [
        ("certificate", lambda: test_a_proof_is_good_in_one_session_only(ELSEWHERE[1])),
        ("server_nonce", lambda: test_a_proof_is_good_in_one_session_only(ELSEWHERE[2])),
    ],
)
def test_a_transcript_that_forgets_something_is_caught(
    field: str, attack: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutants: the tests above would notice."""
    monkeypatch.setattr(handshake, "encode", without(field))
    with pytest.raises(pytest.fail.Exception):
        attack()
