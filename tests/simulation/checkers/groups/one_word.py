"""One word: over all its lives an honest member signs one state per version, one FINAL and one CLAIM, and they agree.

After FINAL it signs nothing but a CLAIM, after a CLAIM nothing but FINAL; its CLAIM names its newest certificate and
the highest version that it signed; nothing that it signed leaves before it is durable, and nothing is forgotten.

Source: docs/design/groups.md, rules 1 to 3, 5, 7 and 8.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from layer1.crypto import Hash
from layer1.ledger.agreements import Claim, Final, GroupHeader
from layer2.messages import Accept, FinalAccept, FinalProposal, Message, Propose, Resume
from layer2.records import (
    Certified,
    ChangeDropped,
    ChangeSigned,
    Claimed,
    EpochBegun,
    FinalSigned,
    HostRecord,
    Lost,
    Signed,
    Snapshot,
)
from layer2.value import Group
from tests.simulation.checkers.groups.base import GroupChecker
from tests.simulation.checkers.groups.facts import EPOCH, Facts, ordinal

Name = tuple[Hash, int]
"""Group and wallet."""


class OneWord(GroupChecker):
    """All that honest members signed, in the order in which it became durable."""

    def __init__(self, facts: Facts, chained: Collection[int] = ()) -> None:
        """`chained` wallets have two homes: what one of them alone wrote down counts for nothing (`one_head`)."""
        super().__init__(facts)
        self._chained = frozenset(chained)
        self._signed: dict[Name, dict[int, GroupHeader]] = {}
        self._certified: dict[Name, int] = {}
        self._finals: dict[Name, Final] = {}
        self._claims: dict[Name, Claim] = {}
        self._changes: dict[Name, ChangeSigned] = {}

    def synced(self, wallet: int, records: Sequence[HostRecord]) -> None:
        for record in records if wallet not in self._chained else ():
            name = (record.group_id, wallet)
            match record:
                case Signed():
                    self._sign(name, record)
                case Certified(version=version):
                    self._certify(name, self._newest(name) // EPOCH * EPOCH + version)
                case FinalSigned(final=final):
                    self._end(name, final)
                case Claimed(claim=claim):
                    self._claim(name, claim)
                case ChangeSigned():
                    self._change(name, record)
                case ChangeDropped():
                    self._changes.pop(name, None)
                case EpochBegun(first=first):
                    self._begin(name, first)
                case Lost() if not self._awaits_a_body(name[0]):
                    self._fail(name, "is honest, and believes that it lost data")
                case Snapshot():
                    self._fail(name, "writes a snapshot into a running journal")
                case _:
                    pass

    def _awaits_a_body(self, group_id: Hash) -> bool:
        """Rule 12: who came too late may have the body of an older version no more, and pleads for it."""
        facts = self.facts.groups.get(group_id)
        return facts is not None and facts.ledger.revealing is not None

    def _change(self, name: Name, record: ChangeSigned) -> None:
        """Rules 24 and 25: on the newest version that it signed, one at a time, and not after the end."""
        known, base = self._changes.setdefault(name, record), record.successor.base_version
        if known.successor != record.successor:
            self._fail(name, f"signs two changes of epoch {record.successor.epoch}")
        if base != self._newest(name) % EPOCH and known is record:
            self._fail(name, f"signs a change of version {base}, and has signed version {self._newest(name) % EPOCH}")
        if known is record and (name in self._claims or name in self._finals):
            self._fail(name, "signs a change after its CLAIM, or FINAL")

    def _begin(self, name: Name, first: GroupHeader) -> None:
        """An epoch: what was signed before it is over."""
        self._certified[name] = ordinal(first)
        for signed in (self._finals, self._claims, self._changes):
            signed.pop(name, None)

    def _newest(self, name: Name) -> int:
        """The highest version that it signed in its epoch."""
        epoch = self._certified.get(name, 0) // EPOCH
        return max((v for v in self._signed.get(name, {}) if v // EPOCH == epoch), default=epoch * EPOCH)

    def _sign(self, name: Name, record: Signed) -> None:
        header, versions = record.propose.header, self._signed.setdefault(name, {})
        if versions.setdefault(ordinal(header), header) != header:
            self._fail(name, f"signs two states at version {header.version}")
        if name in self._changes:
            self._fail(name, f"signs version {header.version} beside a change")
        if ordinal(header) != self._certified.get(name, 0) + 1:
            self._fail(name, f"signs version {header.version} on version {self._certified.get(name, 0)}")
        for what, signed in (("FINAL", self._finals), ("a CLAIM", self._claims)):
            if name in signed:
                self._fail(name, f"signs version {header.version} after {what}")
        if record.signature and self.facts.is_pair(name[0]):  # its own signature completes the certificate
            self._certify(name, ordinal(header))

    def _certify(self, name: Name, version: int) -> None:
        if name not in self._claims:  # rule 3: after a CLAIM only layer 1 makes a version the newest
            self._certified[name] = max(self._certified.get(name, 0), version)

    def _end(self, name: Name, final: Final) -> None:
        if self._finals.setdefault(name, final) != final:
            self._fail(name, "signs two FINALs")
        version, newest = final.base_version, self._newest(name) % EPOCH
        if version != newest and name not in self._claims:
            self._fail(name, f"signs FINAL on version {version}, and has signed version {newest}")

    def _claim(self, name: Name, claim: Claim) -> None:
        if self._claims.setdefault(name, claim) != claim:
            self._fail(name, "signs two CLAIMs")
        said = claim.version, claim.highest.version
        true = self._certified.get(name, 0) % EPOCH, self._newest(name) % EPOCH
        if said != true:
            self._fail(name, f"claims s = {said[0]} and k = {said[1]}, and they are {true[0]} and {true[1]}")

    def sent(self, wallet: int, peer: int, message: Message) -> None:
        if wallet in self._chained:
            return
        match message:
            case Propose(header=header):
                self._check_durable((header.group_id, wallet), ordinal(header), header)
            case Accept(group_id=group_id, version=version):
                epoch = self._certified.get((group_id, wallet), 0) // EPOCH
                self._check_durable((group_id, wallet), epoch * EPOCH + version, None)
            case Resume(group_id=group_id, highest=highest) if highest is not None:
                self._check_durable((group_id, wallet), ordinal(highest), highest)
            case FinalProposal() | FinalAccept():
                if (message.group_id, wallet) not in self._finals:
                    self._fail((message.group_id, wallet), "sends FINAL before it is durable")
            case _:
                pass

    def _check_durable(self, name: Name, version: int, header: GroupHeader | None) -> None:
        durable = self._signed.get(name, {}).get(version)
        if durable is None or header not in (None, durable):
            self._fail(name, f"sends its signature of version {version % EPOCH}, which is not durable")

    def restored(self, wallet: int, groups: Mapping[Hash, Group]) -> None:
        for group_id, group in groups.items() if wallet not in self._chained else ():
            name = (group_id, wallet)
            highest = self._newest(name)
            if ordinal(group.highest) < highest:
                self._fail(name, f"comes back with version {group.highest.version}, and has signed {highest % EPOCH}")
            known = self._changes.get(name)
            if (group.change and group.change.successor) != (known and known.successor):
                self._fail(name, "comes back without the change that it signed")
            if (group.final is None) != (name not in self._finals) or group.claim != self._claims.get(name):
                self._fail(name, "comes back without its FINAL, or its CLAIM")

    def _fail(self, name: Name, what: str) -> None:
        self.fail(f"wallet {name[1]} in group {name[0].hex()[:8]} {what}")
