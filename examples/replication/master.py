"""Layer 1 as the trusted master: it decides which configuration of a small chain of replicas counts.

Property: there is one sequence of configurations, and everybody who reads the ledger reads the same one.

A configuration is a group on the ledger, its members in the order of the chain. Any member may stop it: it wedges the
group. The successor is the *first* group opened after that whose agreement names the stopped one, that all its own
members signed, and that takes over enough of the old ones: one that cannot lie carries the history, of f liars and
others it takes f+1. Whatever comes later is just another group. The ledger orders wedges and openings like payments, so
nothing is built into it for chains, and a chain borrows the quorums of n > 3f only when somebody fails.

Source: van Renesse and Schneider, Chain Replication for Supporting High Throughput and Availability (2004), section 3,
"the master"; docs/design/groups.md, rule 8, for the wedge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from examples.replication.ledger import Ledger, key_of
from layer1.crypto import Hash, PublicKey, SigningKey
from layer1.errors import Refused
from layer1.ledger.agreements import GroupAgreement, Member, initial_body, initial_certificate, sign_claim
from layer1.ledger.events import GroupOpened, GroupWedged
from layer1.ledger.records import Group, Status
from layer1.ledger.transactions import OpenGroup, Wedge

MACHINE = "chain/1"
SALT_BYTES = 16


@dataclass(frozen=True, slots=True)
class Configuration:
    """Who is the chain, from head to tail."""

    number: int
    id: Hash
    """The group's; empty where no ledger decides."""
    members: tuple[str, ...]
    note: str = ""
    """What its members signed together with it, such as the hash of what they start from."""

    def key(self, name: str) -> SigningKey:
        """A member's key: keys are made for one group."""
        return key_of(f"{name} of {' '.join(self.members)}, {self.number}")


class Master(Protocol):
    """Who says what the configuration is."""

    def begin(self, members: Sequence[str]) -> Configuration:
        """The first one."""
        ...

    def succeed(self, stopped: Configuration, by: str, members: Sequence[str], note: str = "") -> Configuration:
        """Member `by` finds that `stopped` must end, and these that they should be next; what is next in truth."""
        ...


class Hearsay:
    """No master: everybody believes its own suspicions. What lessons show to be too little."""

    def begin(self, members: Sequence[str]) -> Configuration:
        """As asked."""
        return Configuration(0, b"", tuple(members))

    def succeed(self, stopped: Configuration, by: str, members: Sequence[str], note: str = "") -> Configuration:
        """As asked, whatever others were told."""
        return Configuration(stopped.number + 1, b"", tuple(members), note)


class LedgerMaster:
    """The sequence of configurations on a ledger."""

    def __init__(self, ledger: Ledger, carried: int = 1) -> None:
        """Read, and write to, a ledger.

        Args:
            ledger: Whose final blocks decide.
            carried: How many members of a stopped configuration sign its successor at least.
        """
        self.ledger, self.carried = ledger, carried
        self._names: dict[PublicKey, str] = {}
        """Of funding accounts, for reading."""

    def begin(self, members: Sequence[str]) -> Configuration:
        """Open the first group."""
        return self._open(0, members, bytes(SALT_BYTES), "")

    def succeed(self, stopped: Configuration, by: str, members: Sequence[str], note: str = "") -> Configuration:
        """Wedge, open, and read what the ledger made of it.

        Raises:
            Refused: `by` is no member of `stopped`: strangers stop nothing. Or the members are no group.
        """
        if by not in stopped.members:
            raise Refused("bad_claim", f"{by} is none of {', '.join(stopped.members)}: ask one of them to wedge")
        if self._group(stopped.id).status is Status.OPEN:
            self._wedge(stopped, by)
        return self._open(stopped.number + 1, members, stopped.id[:SALT_BYTES], note)

    def configurations(self) -> list[Configuration]:
        """All so far, in order: what anybody reads from the final blocks."""
        found: list[Configuration] = []
        wedged = True
        for event in (event for block in self.ledger.blocks() for event in block.events):
            match event:
                case GroupOpened(group_id=name) if wedged and self._follows(self._group(name), found):
                    found.append(self._read(self._group(name), len(found)))
                    wedged = False
                case GroupWedged(group_id=name) if found and name == found[-1].id:
                    wedged = True
                case _:
                    pass
        return found

    def _follows(self, group: Group, found: Sequence[Configuration]) -> bool:
        if not group.agreement.machine.startswith(MACHINE):
            return False
        if not found:
            return group.agreement.salt == bytes(SALT_BYTES)
        old = {member.funding for member in self._group(found[-1].id).agreement.members}
        carried = sum(member.funding in old for member in group.agreement.members)
        return group.agreement.salt == found[-1].id[:SALT_BYTES] and carried >= self.carried

    def _read(self, group: Group, number: int) -> Configuration:
        names = tuple(self._names.get(member.funding, member.funding.hex()) for member in group.agreement.members)
        return Configuration(number, group.group_id, names, group.agreement.machine.removeprefix(MACHINE).strip())

    def _group(self, name: Hash) -> Group:
        return next(group for one in self.ledger.replicas if (group := one.state.group(name)) is not None)

    def _wedge(self, stopped: Configuration, by: str) -> None:
        agreement = self._group(stopped.id).agreement
        certificate, body = initial_certificate(agreement, stopped.id), initial_body(agreement)
        claim = sign_claim(stopped.key(by), stopped.members.index(by), 0, certificate.header)
        self.ledger.order(self.ledger.sign(Wedge(certificate, body, claim)))

    def _open(self, number: int, members: Sequence[str], salt: bytes, note: str) -> Configuration:
        """Open a group, and see whether it is the successor or another one came first."""
        accounts = [key_of(name) for name in members]
        wanted = Configuration(number, b"", tuple(members), note)
        self._names |= {account.public: name for account, name in zip(accounts, members, strict=True)}
        agreement = GroupAgreement(
            chain_id=self.ledger.genesis.chain_id,
            members=tuple(
                Member(wanted.key(name).public, account.public, account.public, 0, 0)
                for name, account in zip(members, accounts, strict=True)
            ),
            challenge_period_ms=self.ledger.genesis.parameters.min_challenge_ms,
            machine=f"{MACHINE} {note}".strip(),
            open_before_ms=10**9,
            salt=salt,
        )
        output = self.ledger.order(self.ledger.sign(OpenGroup(agreement), *accounts))
        found = self.configurations()
        if len(found) <= number:
            raise Refused(output.code, output.message)
        return found[number]
