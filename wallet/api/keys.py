"""Idempotency keys: a request that moves money is carried out once, however often it is made.

*Safety:* before money moves, its key, what was asked and what it takes of the token's limit are on the disk together;
before it is answered, so is the answer.

So the same key with the same request gets the same answer, also from a process that starts after the first one was
killed. If the kill came in the middle, nobody knows whether the money moved; the answer is then ``pending``, for good:
the history tells. The same key with another request is refused. Keys of two tokens never meet.

Source: IETF draft-ietf-httpapi-idempotency-key-header-07.
"""

from __future__ import annotations

from collections import Counter

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from layer1.errors import Refused, check
from wallet.api.store import Store, keys_table
from wallet.api.tokens import Token, reserve, settle

MAX_KEY = 128
"""Characters."""
KEPT_MS = 30 * 24 * 3_600_000
"""How long an answer is kept. After that the key is as if it had never been used: do not repeat such old requests."""
MAX_KEPT = 1_000_000
"""Of each token, so that nobody fills the disk with them, and none takes the room of others; about half a gigabyte."""

Answer = tuple[int, bytes]
"""HTTP status and body."""


def check_key(key: str | None) -> str:
    """What stands in the header ``Idempotency-Key``.

    Raises:
        Refused: ``bad_idempotency_key``.
    """
    if not key or len(key) > MAX_KEY or not all("!" <= character <= "~" for character in key):
        raise Refused(
            "bad_idempotency_key",
            f"what moves money needs the header Idempotency-Key, 1 to {MAX_KEY} visible characters of ASCII, such as a "
            "UUID: a new one for each payment, the same one to repeat a request whose answer was lost",
        )
    return key


class KeyBook:
    """All keys of one home."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._kept = self._counted()

    def begin(
        self,
        owner: str,
        key: str,
        digest: bytes,
        time_ms: int,
        *,
        token: Token | None = None,
        units: int | None = None,
    ) -> Answer | None:
        """Note that a request is about to be carried out; durable on return. The answer, if it was before.

        Args:
            owner: Whose key it is.
            key: As :func:`check_key` gives it.
            digest: SHA-256 of what is asked.
            time_ms: Now.
            token: Whose limit counts; None for who has no limit.
            units: What it may move at most; None for nothing that a limit counts.

        Raises:
            Refused: ``idempotency_key_reused``; ``pending``, if it was begun and its end is not known;
                ``limit_exceeded``; ``too_many_keys``. Nothing may be done then.
            LocalError: The disk does not take it. Nothing may be done then.
        """
        try:
            self._make_room(owner, time_ms)
            with self._store.engine.begin() as connection:
                row = connection.execute(_row(owner, key)).one_or_none()
                if row is not None:
                    return _known(row, digest)
                kept = self._kept[owner]
                check(kept < MAX_KEPT, "too_many_keys", f"{kept} requests of 30 days are kept, at most {MAX_KEPT} are")
                spend = None if token is None or units is None else reserve(connection, token, units, time_ms)
                values = {"owner": owner, "key": key, "time_ms": time_ms, "digest": digest, "spend": spend}
                connection.execute(sa.insert(keys_table), values)
        except SQLAlchemyError as error:
            raise self._store.damaged(error) from None
        self._kept[owner] += 1
        return None

    def finish(self, owner: str, key: str, answer: Answer, unmoved: int = 0) -> None:
        """Keep the answer, and give back what certainly did not move; durable on return.

        Raises:
            LocalError: The disk does not take it. The request stays begun.
        """
        try:
            with self._store.engine.begin() as connection:
                row = connection.execute(_row(owner, key)).one()
                if row.spend is not None:
                    settle(connection, row.spend, unmoved)
                change = sa.update(keys_table).where(keys_table.c.owner == owner, keys_table.c.key == key)
                connection.execute(change.values(status=answer[0], answer=answer[1]))
        except SQLAlchemyError as error:
            raise self._store.damaged(error) from None

    def _make_room(self, owner: str, time_ms: int) -> None:
        """Forget what is too old, now and then; never what was begun and has no answer: it may have been paid."""
        kept = self._kept[owner]
        if kept % 1_000 and kept < MAX_KEPT:
            return
        with self._store.engine.begin() as connection:
            old = keys_table.c.time_ms < time_ms - KEPT_MS, keys_table.c.status.is_not(None)
            dropped = connection.execute(sa.delete(keys_table).where(*old)).rowcount
        if dropped:
            self._kept = self._counted()

    def _counted(self) -> Counter[str]:
        query = sa.select(keys_table.c.owner, sa.func.count()).group_by(keys_table.c.owner)
        with self._store.engine.connect() as connection:
            return Counter({row[0]: row[1] for row in connection.execute(query)})


def _row(owner: str, key: str) -> sa.Select[tuple[object, ...]]:
    return sa.select(keys_table).where(keys_table.c.owner == owner, keys_table.c.key == key)


def _known(row: sa.Row[tuple[object, ...]], digest: bytes) -> Answer:
    if row.digest != digest:
        raise Refused("idempotency_key_reused", "this key was used for another request: each payment takes a new one")
    if row.status is None:
        raise Refused(
            "pending",
            "a request with this key was begun, and the wallet ended before it did: whether money moved is not known "
            "here. Do not repeat it under another key before the history (GET /history) has told",
        )
    return row.status, row.answer
