"""Reading a ledger through replicas that one does not trust: every answer is verified, recent, and not rolled back.

*Safety:* what a reader returns is final on the chain of the genesis, whatever the replicas that were asked may say.

Every answer carries a proof, and what to believe of it is the business of a :class:`layer1.light.LightClient`. A head
must also be recent by our own clock, and never below a block that we have seen in any answer, outputs of our own
transactions included: an old truth is how one is talked into acting on a state that has passed. So what one reader
reads and submits is linearizable; what somebody else did may be missing for as long as a head counts as recent.

An answer of an epoch that is not known yet sends the reader to the same replica for the handovers that lead there. A
replica that cannot show them lies.

*Source:* docs/design/architecture.md, "Believing an answer".
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

from layer1.codec import decode
from layer1.consensus.evidence import Evidence, EvidenceKind
from layer1.consensus.evidence import verify as verify_evidence
from layer1.crypto import HASH_BYTES, Hash, PublicKey, format_address, parse_address
from layer1.errors import NotYet, Refused, RemoteError
from layer1.failover import ClientLimits, Declined, LedgerUnreachable, Replica, Replicas, Reply
from layer1.header import Header
from layer1.ledger.genesis import MAX_MONEY, Genesis
from layer1.ledger.records import Account, Group, Head, Registration
from layer1.ledger.transactions import Output
from layer1.light import LedgerAttacked, LightClient, wall_clock_ms
from layer1.proof import (
    AccountProof,
    AppointmentProof,
    BlockProof,
    GroupProof,
    GroupsProof,
    Handover,
    HeadProof,
    MarksProof,
    OutputProof,
    RegistrationProof,
    Trust,
    UnknownEpoch,
    ValueProof,
    Verified,
)

T = TypeVar("T")

GROUPS_AT_ONCE = 100
"""In one request: more ids make a longer line than HTTP servers take."""
GROUPS_PAGE = 100
"""Groups in one answer of a list."""
LISTED_AT_ONCE = 500
"""As many as a replica lists in one answer at most."""
GROUPS_PAGES = 1_000
"""Of one list, at most: whoever lists without end is believed so far."""


@dataclass(frozen=True, slots=True)
class ListedGroup:
    """A group as a replica lists it: unproven."""

    id: Hash
    is_open: bool
    machine: str
    members: tuple[PublicKey, ...]
    """Funding accounts."""
    funding_units: int
    """Minor units that its balances add up to."""


def listed(page: Mapping[str, Any], cursor: str) -> tuple[list[ListedGroup], str]:
    """Read a page of ``GET /groups``.

    Raises:
        RemoteError: It is none, or does not go on from `cursor`.
    """
    try:
        groups = [_listed_group(item) for item in page["items"]]
        following = page["next"] or ""
    except (KeyError, TypeError, ValueError, AttributeError, Refused) as error:
        raise RemoteError(f"not a page of groups: {error!r}") from None
    if not isinstance(following, str) or following == cursor != "":
        raise RemoteError(f"a page of groups goes on at {str(following)[:80]!r}, where it began")
    return groups, following


def _listed_group(item: Mapping[str, Any]) -> ListedGroup:
    members, deposits = item["members"], [member["deposit"] for member in item["members"]]
    group_id = bytes.fromhex(item["id"])
    if len(group_id) != HASH_BYTES or not all(isinstance(units, int) and 0 <= units <= MAX_MONEY for units in deposits):
        raise ValueError(f"group {str(item['id'])[:64]!r} with deposits {str(deposits)[:80]}")
    accounts = tuple(parse_address(member["funding"]) for member in members)
    return ListedGroup(group_id, item["status"] == "open", str(item["machine"]), accounts, sum(deposits))


class LedgerReader:
    """Reads one ledger. Use as ``async with``.

    Every method raises :class:`layer1.light.LedgerAttacked` once what is final contradicted itself.

    Attributes:
        genesis: What everything is verified against.
        light: What is believed. Two readers may share it.
    """

    genesis: Genesis
    light: LightClient

    def __init__(
        self,
        urls: Sequence[str],
        genesis: Genesis,
        limits: ClientLimits | None = None,
        wall_ms: Callable[[], int] = wall_clock_ms,
        *,
        ca: Path | None = None,
        light: LightClient | None = None,
    ) -> None:
        """Remember where to ask.

        Args:
            urls: Of the APIs of distinct replicas, such as ``http://127.0.0.1:8080``.
            genesis: Of the ledger; its chain id compared with what one was told.
            limits: How patient to be.
            wall_ms: This machine's clock, ms since 1970.
            ca: For https: PEM file of the authorities to trust, instead of this system's.
            light: What is believed already, of the same genesis; with its own clock. By default the genesis alone.

        Raises:
            Refused: ``no_urls``, or ``bad_ca``.
        """
        self.genesis = genesis
        self.light = light or LightClient(genesis, wall_ms=wall_ms)
        self.limits = limits or ClientLimits()
        self._replicas = Replicas(urls, self.limits, ca)

    @property
    def urls(self) -> list[str]:
        """Of the replicas that are asked."""
        return [replica.url for replica in self._replicas.all]

    @property
    def trust(self) -> Trust:
        """The replica sets that were followed from the genesis on."""
        return self.light.trust

    @property
    def height(self) -> int:
        """Nothing older is believed to be the head. Two readers that hand it to each other read as one."""
        return self.light.height

    @height.setter
    def height(self, height: int) -> None:
        self.light.height = height

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Give back all connections, and keep what was learnt, if there is a file for it."""
        await self._replicas.close()
        self.light.save()

    # ------------------------------------------------------------------------------------------------------ reading

    async def head(self) -> Header:
        """The newest final header, verified and fresh.

        Raises:
            StaleLedger: No replica has a recent one.
            LedgerUnreachable: No replica gave an answer to believe.
        """
        return await self._replicas.first(self._head_of)

    async def clock(self) -> int:
        """The ledger clock of the newest final header, ms, verified and fresh. Raises as :meth:`head` does."""
        return (await self.head()).clock

    async def account(self, address: PublicKey) -> Verified[Account]:
        """An account, verified and fresh; of 0 if nobody ever paid it. Raises as :meth:`head` does."""
        path = f"/accounts/{format_address(address)}?proof=true"

        async def ask(replica: Replica) -> Verified[Account]:
            reply = await self._ok(replica, path)
            proof = decode(reply.proof(), AccountProof)
            return await self._believed(replica, lambda: self.light.account(address, proof))

        return await self._replicas.first(ask)

    async def group(self, group_id: Hash) -> Verified[Group | None]:
        """A group, verified and fresh; None if there is none of this id. Raises as :meth:`head` does."""
        path = f"/groups/{group_id.hex()}?proof=true"

        async def ask(replica: Replica) -> Verified[Group | None]:
            reply = await self._ok(replica, path, 404)
            proof = decode(reply.proof(), GroupProof)
            return await self._believed(replica, lambda: self.light.group(group_id, proof))

        return await self._replicas.first(ask)

    async def groups(self, ids: Sequence[Hash]) -> Verified[tuple[Group | None, ...]]:
        """Several groups, verified and fresh, all after one block; None where there is none. Raises as :meth:`head`.

        Args:
            ids: At most :data:`GROUPS_AT_ONCE`.
        """
        path = f"/groups/proofs?{'&'.join('id=' + group_id.hex() for group_id in ids)}"

        async def ask(replica: Replica) -> Verified[tuple[Group | None, ...]]:
            proof = decode((await self._ok(replica, path)).proof(), GroupsProof)
            return await self._believed(replica, lambda: self.light.groups(ids, proof))

        return await self._replicas.first(ask)

    async def appointment(self, account: PublicKey) -> Verified[Head | None]:
        """Which process acts for an account, verified and fresh; None if it never said. Raises as :meth:`head` does."""
        path = f"/accounts/{format_address(account)}/head?proof=true"

        async def ask(replica: Replica) -> Verified[Head | None]:
            reply = await self._ok(replica, path)
            proof = decode(reply.proof(), AppointmentProof)
            return await self._believed(replica, lambda: self.light.appointment(account, proof))

        return await self._replicas.first(ask)

    async def registration(self, hashed: Hash) -> Verified[Registration | None]:
        """When the preimage of this SHA-256 was registered, verified and fresh; None if it was not, or is forgotten.

        Raises as :meth:`head` does.
        """
        path = f"/preimages/{hashed.hex()}?proof=true"

        async def ask(replica: Replica) -> Verified[Registration | None]:
            proof = decode((await self._ok(replica, path)).proof(), RegistrationProof)
            return await self._believed(replica, lambda: self.light.registration(hashed, proof))

        return await self._replicas.first(ask)

    async def value(self, key: bytes) -> Verified[bytes | None]:
        """The state machine's value of a key, verified and fresh; None if it has none. Raises as :meth:`head` does."""
        path = f"/machine/{key.hex()}?proof=true"

        async def ask(replica: Replica) -> Verified[bytes | None]:
            reply = await self._ok(replica, path)
            proof = decode(reply.proof(), ValueProof)
            return await self._believed(replica, lambda: self.light.value(key, proof))

        return await self._replicas.first(ask)

    async def output(self, transaction_id: Hash) -> Verified[Output] | None:
        """What became of a transaction, verified. None if no replica that answers knows it, which proves nothing.

        Raises:
            LedgerUnreachable: No replica answered.
        """
        unknown = False

        async def ask(replica: Replica) -> Verified[Output]:
            nonlocal unknown
            try:
                found = await self._output_of(replica, transaction_id)
            except Declined:
                unknown = True
                raise
            if found is None:
                unknown = True
                raise Declined(f"{replica.url}: transaction {transaction_id.hex()} is not final there")
            return found

        try:
            return await self._replicas.first(ask)
        except LedgerAttacked:
            raise
        except LedgerUnreachable:
            if unknown:
                return None
            raise

    async def witnesses(self, header: Header) -> list[str]:
        """URLs of the replicas that show this very block, verified.

        One replica is enough to believe a block; asking all of them is how one meets the other side of an attack.

        Raises:
            LedgerAttacked: One shows another block that is final, too.
        """
        asked = self._replicas.all
        answers = await asyncio.gather(
            *(self._block_of(replica, header.height) for replica in asked), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, NotYet | RemoteError):
                raise answer
        return [replica.url for replica, found in zip(asked, answers, strict=True) if found == header]

    async def marks(self) -> Verified[MarksProof]:
        """The newest replica set, and what each was shown to have done, verified and fresh. Raises as :meth:`head`."""

        async def ask(replica: Replica) -> Verified[MarksProof]:
            reply = await self._ok(replica, "/replicas?proof=true")
            proof = decode(reply.proof(), MarksProof)
            return await self._believed(replica, lambda: self.light.marks(proof))

        return await self._replicas.first(ask)

    async def evidence(self) -> list[Evidence]:
        """Contradicting votes that any replica which answers has caught, verified; by replica and kind.

        Each proves itself. That there are no others is nobody's to prove: a replica may keep silent about some.

        Raises:
            LedgerUnreachable: No replica answered.
        """
        asked = self._replicas.all
        answers = await asyncio.gather(*map(self._evidence_of, asked), return_exceptions=True)
        found: dict[Hash, Evidence] = {}
        for replica, answer in zip(asked, answers, strict=True):
            if isinstance(answer, NotYet | RemoteError):
                self._replicas.failed(replica, answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found |= {item.id: item for item in answer}
        if all(isinstance(answer, BaseException) for answer in answers):
            raise LedgerUnreachable("; ".join(f"{replica.url}: {replica.last_error}" for replica in asked))
        return sorted(found.values(), key=lambda item: (item.epoch, item.replica, item.kind, item.id))

    async def groups_of(self, account: PublicKey) -> list[Hash]:
        """Ids of groups with this account or key, by any replica's word: believe none before :meth:`group` proves it.

        A replica can leave some out; all are asked, and what any of them names is given.

        Raises:
            LedgerUnreachable: No replica answered.
        """
        asked = self._replicas.all
        answers = await asyncio.gather(*(self._named_by(each, account) for each in asked), return_exceptions=True)
        found: set[Hash] = set()
        for replica, answer in zip(asked, answers, strict=True):
            if isinstance(answer, NotYet | RemoteError):
                self._replicas.failed(replica, answer)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                found |= answer
        if all(isinstance(answer, BaseException) for answer in answers):
            raise LedgerUnreachable("; ".join(f"{replica.url}: {replica.last_error}" for replica in asked))
        return sorted(found)

    async def listed_groups(self, cursor: str = "") -> tuple[list[ListedGroup], str]:
        """A page of groups, the newest first, by one replica's word: believe none before :meth:`group` proves it.

        Args:
            cursor: Where the page before ended; empty for the first.

        Returns:
            The page, and where the next begins; empty at the end.

        Raises:
            LedgerUnreachable: No replica gave a page.
        """
        path = f"/groups?limit={LISTED_AT_ONCE}" + (f"&cursor={quote(cursor)}" if cursor else "")

        async def ask(replica: Replica) -> tuple[list[ListedGroup], str]:
            return listed((await self._ok(replica, path)).body, cursor)

        return await self._replicas.first(ask)

    async def status(self) -> dict[str, Any]:
        """One replica's own word on itself, as ``GET /status`` gives it: not proven."""

        async def ask(replica: Replica) -> dict[str, Any]:
            return {"url": replica.url, **(await self._ok(replica, "/status")).body}

        return await self._replicas.first(ask)

    # ----------------------------------------------------------------------------------------------------- one replica

    async def _ok(self, replica: Replica, path: str, *others: int) -> Reply:
        """An answer of status 200, or of one of `others`; the questions asked here have no other answer.

        Raises:
            Declined: The replica does not keep what is asked for.
        """
        self.light.check()
        reply = await self._replicas.get(replica, path)
        if reply.status == 410:
            raise Declined(f"{replica.url}: {reply.detail}")
        if reply.status not in {200, *others}:
            raise RemoteError(f"{replica.url}: status {reply.status} for {path}: {reply.code} {reply.detail}")
        return reply

    async def _named_by(self, replica: Replica, account: PublicKey) -> set[Hash]:
        found: set[Hash] = set()
        path = f"/groups?member={format_address(account)}&limit={GROUPS_PAGE}"
        cursor = ""
        for _ in range(GROUPS_PAGES):
            page = (await self._ok(replica, path + cursor)).body
            try:
                found.update(bytes.fromhex(item["id"]) for item in page["items"])
                following = page["next"]
            except (KeyError, TypeError, ValueError) as error:
                raise RemoteError(f"{replica.url}: not a page of groups: {error!r}") from None
            if not following:
                return found
            cursor = f"&cursor={quote(str(following))}"
        return found

    async def _head_of(self, replica: Replica) -> Header:
        head = decode((await self._ok(replica, "/status")).proof(), HeadProof)
        return await self._believed(replica, lambda: self.light.newest(head))

    async def _block_of(self, replica: Replica, height: int) -> Header:
        proof = decode((await self._ok(replica, f"/blocks/{height}?proof=true")).proof(), BlockProof)
        return (await self._believed(replica, lambda: self.light.outputs(proof))).header

    async def _output_of(
        self, replica: Replica, transaction_id: Hash, valid_until_ms: int | None = None
    ) -> Verified[Output] | None:
        until = "" if valid_until_ms is None else f"&valid_until={valid_until_ms}"
        reply = await self._ok(replica, f"/transactions/{transaction_id.hex()}?proof=true{until}", 404)
        if reply.status == 404:
            return None
        proof = decode(reply.proof(), OutputProof)
        return await self._believed(replica, lambda: self.light.output(transaction_id, proof))

    async def _evidence_of(self, replica: Replica) -> list[Evidence]:
        """All pages of one replica, which keeps one pair per epoch, replica and kind.

        Raises:
            RemoteError: Something there proves nothing, or the pages do not end.
        """
        found: list[Evidence] = []
        cursor = ""
        while True:
            body = (await self._ok(replica, f"/evidence{cursor}")).body
            page, following = body.get("items"), body.get("next")
            if not isinstance(page, list):
                raise RemoteError(f"{replica.url}: a page of evidence is a list, not {str(page)[:80]!r}")
            found += [await self._checked(replica, item) for item in page]
            most = len(EvidenceKind) * sum(len(known.seats) for known in self.trust.sets)
            if following is None:
                return found
            if not page or len(found) >= most:
                raise RemoteError(
                    f"{replica.url}: more than {most} pairs of votes; it keeps one per epoch, replica and kind"
                )
            cursor = f"?cursor={quote(str(following), safe='')}"

    async def _checked(self, replica: Replica, item: Any) -> Evidence:
        try:
            evidence = decode(bytes.fromhex(item["encoded"]), Evidence)
            voters = await self._believed(replica, lambda: self.trust.voters(evidence.epoch))
            verify_evidence(evidence, voters)
        except (TypeError, KeyError, ValueError, Refused) as error:
            raise RemoteError(f"{replica.url}: evidence that proves nothing: {error}") from error
        return evidence

    async def _final(self, replica: Replica, head: HeadProof) -> Header:
        """Believe a header that need not be the newest."""
        return await self._believed(replica, lambda: self.light.final(head))

    async def _believed(self, replica: Replica, believe: Callable[[], T]) -> T:
        """What an answer of this replica is worth; if need be, it is asked how the replica set has changed, once.

        Raises:
            UnknownEpoch: It cannot show that the epoch which it answers for has begun: it lies.
            RemoteError, Stale, LedgerAttacked: As :class:`layer1.light.LightClient` does.
        """
        try:
            return believe()
        except UnknownEpoch:
            await self._follow(replica)
        return believe()

    async def _follow(self, replica: Replica) -> None:
        """Follow the handovers that this replica knows: each page brings one at least, or is the last."""
        while True:
            epoch = self.trust.replica_set.epoch
            body = (await self._ok(replica, f"/handovers?from={epoch}")).body
            self.light.follow(_handovers(replica, body.get("items")))
            if body.get("next") is None or self.trust.replica_set.epoch == epoch:
                return


def _handovers(replica: Replica, items: object) -> list[Handover]:
    try:
        return [decode(bytes.fromhex(item["encoded"]), Handover) for item in items]  # type: ignore[attr-defined]  # checked by what it raises
    except (TypeError, KeyError, ValueError) as error:
        raise RemoteError(f"{replica.url}: a page of handovers is a list, not {str(items)[:80]!r}") from error


async def fetch_genesis(url: str, limits: ClientLimits | None = None, ca: Path | None = None) -> Genesis:
    """Ask a replica for its genesis. Believe it only if its `chain_id` is the one you were told elsewhere.

    Args:
        url: Of its API.
        limits: How patient to be.
        ca: As in :class:`LedgerReader`.

    Raises:
        Refused: ``bad_ca``.
        LedgerUnreachable: No answer, or none that is a genesis.
    """
    replicas = Replicas([url], limits or ClientLimits(), ca)

    async def ask(replica: Replica) -> Genesis:
        reply = await replicas.get(replica, "/genesis")
        try:
            return decode(bytes.fromhex(str(reply.body.get("encoded"))), Genesis)
        except ValueError as error:
            raise RemoteError(f"{url}: the answer of status {reply.status} is no genesis in hex") from error

    try:
        return await replicas.first(ask)
    finally:
        await replicas.close()
