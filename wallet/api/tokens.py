"""Tokens: what a program may ask of a wallet, and how much it may spend.

*Safety:* who reads the file of tokens learns no token; no token spends beyond its limits, whatever crashes.

A token is 32 random bytes under a public name. Only its SHA-256 is kept, which suffices for what nobody can guess. Its
limits count what was *reserved*: before the money moves, on the disk, and given back only when it certainly did not
move. What is unknown stays counted.

Source: RFC 6750 (bearer tokens); docs/wallet-api.md.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, get_args

import sqlalchemy as sa

from layer1.errors import Refused, check
from wallet.api.store import Store, spends_table, tokens_table
from wallet.history import now_ms
from wallet.requests import TokenView

Scope = Literal["read", "receive", "spend", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

PREFIX = "wedge_token"
"""So that scanners of repositories find a token that was checked in."""
MAX_TOKENS = 1_000
MAX_NAME = 64


@dataclass(frozen=True, slots=True)
class Token:
    """Who asks."""

    id: str
    """Public: names it in lists."""
    name: str
    """For people."""
    scopes: frozenset[Scope]
    hash: bytes = field(repr=False)
    created_ms: int = 0
    limit: int = 0
    """Most units in its whole life."""
    period_limit: int | None = None
    """Most units within any `period_ms`."""
    period_ms: int | None = None

    @property
    def limited(self) -> bool:
        """Whether its limits count: an admin has none."""
        return "admin" not in self.scopes

    def may(self, scopes: tuple[str, ...]) -> bool:
        """Whether it has one of these scopes; an admin has all."""
        return "admin" in self.scopes or not self.scopes.isdisjoint(scopes)


class TokenBook:
    """All tokens of one home."""

    def __init__(self, store: Store) -> None:
        self._store = store
        with store.engine.connect() as connection:
            rows = connection.execute(sa.select(tokens_table).order_by(tokens_table.c.created_ms)).mappings()
            self._tokens = {token.id: token for token in map(_token, rows)}

    def __iter__(self) -> Iterator[Token]:
        return iter(self._tokens.values())

    def create(
        self,
        name: str,
        scopes: tuple[str, ...],
        limit: int = 0,
        period_limit: int | None = None,
        period_ms: int | None = None,
    ) -> tuple[Token, str]:
        """Make a token; the second is the secret text, which nobody can be shown again.

        Raises:
            Refused: ``bad_token_terms`` or ``too_many``.
        """
        _check_terms(name, scopes, limit, period_limit, period_ms)
        check(
            len(self._tokens) < MAX_TOKENS, "too_many", f"{len(self._tokens)} tokens; at most {MAX_TOKENS}: revoke some"
        )
        secret = secrets.token_urlsafe(32)
        made = Token(
            id=secrets.token_hex(4),
            name=name,
            scopes=frozenset(scope for scope in SCOPES if scope in scopes),
            hash=_hash(secret),
            created_ms=now_ms(),
            limit=limit,
            period_limit=period_limit,
            period_ms=period_ms,
        )
        row = {
            "id": made.id, "name": name, "hash": made.hash, "scopes": " ".join(sorted(made.scopes)),
            "created_ms": made.created_ms, "limit_units": limit, "period_limit_units": period_limit,
            "period_ms": period_ms, "spent_units": 0,
        }  # fmt: skip
        with self._store.engine.begin() as connection:
            connection.execute(sa.insert(tokens_table), row)
        self._tokens[made.id] = made
        return made, f"{PREFIX}_{made.id}_{secret}"

    def find(self, text: str) -> Token | None:
        """The token that this secret text is; None if it is none, or no longer one."""
        prefix, _, rest = text.partition(f"{PREFIX}_")
        name, _, secret = rest.partition("_")
        token = self._tokens.get(name)
        matches = hmac.compare_digest(token.hash if token else bytes(32), _hash(secret))
        return token if token is not None and matches and not prefix else None

    def is_valid(self, token: Token) -> bool:
        """Whether it has not been revoked."""
        return self._tokens.get(token.id) is token

    def revoke(self, name: str) -> Token:
        """Refuse it from now on. What it began goes on.

        Raises:
            Refused: ``unknown_token``.
        """
        found = self._tokens.get(name)
        if found is None:
            raise Refused("unknown_token", f"no token has the id {name[:64]!r}: `wallet token list` shows all")
        with self._store.engine.begin() as connection:
            connection.execute(sa.delete(tokens_table).where(tokens_table.c.id == found.id))
            connection.execute(sa.delete(spends_table).where(spends_table.c.token == found.id))
        del self._tokens[found.id]
        return found

    def view(self, token: Token) -> TokenView:
        """What may be shown of it."""
        with self._store.engine.connect() as connection:
            spent = _spent(connection, token)
            lately = spent_lately(connection, token, now_ms())
        return TokenView(
            id=token.id,
            name=token.name,
            scopes=tuple(scope for scope in SCOPES if scope in token.scopes),
            created_ms=token.created_ms,
            limit=token.limit,
            spent=spent or 0,
            period_limit=token.period_limit,
            period_ms=token.period_ms,
            spent_in_period=lately if token.period_ms is not None else None,
        )


def reserve(connection: sa.Connection, token: Token, units: int, time_ms: int) -> int:
    """Count money that is about to move, within the caller's transaction; the reservation's number.

    Raises:
        Refused: ``limit_exceeded``, ``unknown_token``. Nothing is counted then.
    """
    check(units >= 1, "bad_amount", f"{units} units; the least is 1")
    spent = _spent(connection, token)
    if spent is None:
        raise Refused("unknown_token", "this token was revoked")
    if spent + units > token.limit:
        raise Refused(
            "limit_exceeded",
            f"{units} units would be spent, {spent} are spent or on their way, this token's limit is {token.limit}: "
            "make a token with another limit",
        )
    if token.period_limit is not None and token.period_ms is not None:
        lately = spent_lately(connection, token, time_ms)
        if lately + units > token.period_limit:
            raise Refused(
                "limit_exceeded",
                f"{units} units would be spent, {lately} were within the last {token.period_ms} ms, in which this "
                f"token may spend {token.period_limit}: wait",
            )
        old = sa.delete(spends_table).where(
            spends_table.c.token == token.id, spends_table.c.time_ms <= time_ms - 2 * token.period_ms
        )
        connection.execute(old)
    _count(connection, token.id, units)
    row = {"token": token.id, "time_ms": time_ms, "units": units}
    return int(connection.execute(sa.insert(spends_table), row).inserted_primary_key[0])  # type: ignore[index]


def settle(connection: sa.Connection, spend: int, unmoved: int) -> None:
    """End a reservation: count this much less, which certainly did not move. Of one that is forgotten, nothing."""
    row = connection.execute(sa.select(spends_table).where(spends_table.c.id == spend)).one_or_none()
    if row is None:
        return
    less = max(0, min(unmoved, row.units))
    _count(connection, row.token, -less)
    connection.execute(sa.update(spends_table).where(spends_table.c.id == spend).values(units=row.units - less))
    endless = sa.select(tokens_table.c.id).where(tokens_table.c.period_ms.is_(None))
    over = sa.delete(spends_table).where(spends_table.c.id == spend, spends_table.c.token.in_(endless))
    connection.execute(over)  # without a period its sum is all that counts


def spent_lately(connection: sa.Connection, token: Token, time_ms: int) -> int:
    """Units within the last period. What a clock that was set back calls the future counts as well."""
    columns = spends_table.c
    since_ms = time_ms - (token.period_ms or 0)
    query = sa.select(sa.func.coalesce(sa.func.sum(columns.units), 0)).where(
        columns.token == token.id, columns.time_ms > since_ms
    )
    return int(connection.execute(query).scalar_one())


def _spent(connection: sa.Connection, token: Token) -> int | None:
    query = sa.select(tokens_table.c.spent_units).where(tokens_table.c.id == token.id)
    found: int | None = connection.execute(query).scalar_one_or_none()
    return found


def _count(connection: sa.Connection, token: str, units: int) -> None:
    column = tokens_table.c.spent_units
    connection.execute(sa.update(tokens_table).where(tokens_table.c.id == token).values(spent_units=column + units))


def _check_terms(
    name: str, scopes: tuple[str, ...], limit: int, period_limit: int | None, period_ms: int | None
) -> None:
    check(0 < len(name) <= MAX_NAME and name.isprintable(), "bad_token_terms", f"a name has 1 to {MAX_NAME} characters")
    wrong = next((scope for scope in scopes if scope not in SCOPES), None)
    check(wrong is None and bool(scopes), "bad_token_terms", f"scopes are {', '.join(SCOPES)}, one or more of them")
    spends = "spend" in scopes
    check(not spends or limit >= 1, "bad_token_terms", "a token that spends has a limit, of at least 1 unit in all")
    check(spends or not limit, "bad_token_terms", "only the scope spend has a limit")
    check("admin" not in scopes or not spends, "bad_token_terms", "an admin has no limit: choose one of the two")
    both = (period_limit is None) == (period_ms is None)
    check(both, "bad_token_terms", "a limit per period needs both, the limit and the period")
    fits = period_limit is None or (spends and 1 <= period_limit <= limit)
    check(fits, "bad_token_terms", f"a limit per period of {period_limit} units; from 1 to the whole limit, {limit}")
    check(period_ms is None or period_ms >= 1_000, "bad_token_terms", "the shortest period is a second")


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()  # a header may hold any bytes


def _token(row: sa.RowMapping) -> Token:
    return Token(
        id=row["id"],
        name=row["name"],
        scopes=frozenset(scope for scope in SCOPES if scope in row["scopes"].split()),
        hash=row["hash"],
        created_ms=row["created_ms"],
        limit=row["limit_units"],
        period_limit=row["period_limit_units"],
        period_ms=row["period_ms"],
    )
