"""One word: over all its lives an honest member signs one state per version, one FINAL and one CLAIM, and they agree.

After FINAL it signs nothing but a CLAIM, after a CLAIM nothing but FINAL; its CLAIM names its newest certificate and
the highest version that it signed; nothing that it signed leaves before it is durable, and nothing is forgotten.

Source: docs/design/groups.md, rules 1 to 3, 5, 7 and 8.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from layer1.crypto import Hash
from layer1.ledger.agreements import Claim, Final, GroupHeader
from layer2.messages import Accept, FinalAccept, FinalProposal, Message, Propose, Resume
from layer2.records import Certified, Claimed, FinalSigned, HostRecord, Lost, Signed, Snapshot
from layer2.value import Group
from tests.simulation.checkers.groups.base import GroupChecker
from tests.simulation.checkers.groups.facts import Facts

Name = tuple[Hash, int]
"""Group and wallet."""


class OneWord(GroupChecker):
    """All that honest members signed, in the order in which it became durable."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._signed: dict[Name, dict[int, GroupHeader]] = {}
        self._certified: dict[Name, int] = {}
        self._finals: dict[Name, Final] = {}
        self._claims: dict[Name, Claim] = {}

    def synced(self, wallet: int, records: Sequence[HostRecord]) -> None:
        for record in records:
            name = (record.group_id, wallet)
            match record:
                case Signed():
                    self._sign(name, record)
                case Certified(version=version):
                    self._certify(name, version)
                case FinalSigned(final=final):
                    self._end(name, final)
                case Claimed(claim=claim):
                    self._claim(name, claim)
                case Lost():
                    self._fail(name, "is honest, and believes that it lost data")
                case Snapshot():
                    self._fail(name, "writes a snapshot into a running journal")
                case _:
                    pass

    def _sign(self, name: Name, record: Signed) -> None:
        header, versions = record.propose.header, self._signed.setdefault(name, {})
        if versions.setdefault(header.version, header) != header:
            self._fail(name, f"signs two states at version {header.version}")
        if header.version != self._certified.get(name, 0) + 1:
            self._fail(name, f"signs version {header.version} on version {self._certified.get(name, 0)}")
        for what, signed in (("FINAL", self._finals), ("a CLAIM", self._claims)):
            if name in signed:
                self._fail(name, f"signs version {header.version} after {what}")
        if record.signature:  # a member's own signature completes the certificate
            self._certify(name, header.version)

    def _certify(self, name: Name, version: int) -> None:
        if name not in self._claims:  # rule 3: after a CLAIM only layer 1 makes a version the newest
            self._certified[name] = max(self._certified.get(name, 0), version)

    def _end(self, name: Name, final: Final) -> None:
        if self._finals.setdefault(name, final) != final:
            self._fail(name, "signs two FINALs")
        version, newest = final.base_version, max(self._signed.get(name, {}), default=0)
        if version != newest and name not in self._claims:
            self._fail(name, f"signs FINAL on version {version}, and has signed version {newest}")

    def _claim(self, name: Name, claim: Claim) -> None:
        if self._claims.setdefault(name, claim) != claim:
            self._fail(name, "signs two CLAIMs")
        said = claim.version, claim.highest.version
        true = self._certified.get(name, 0), max(self._signed.get(name, {}), default=0)
        if said != true:
            self._fail(name, f"claims s = {said[0]} and k = {said[1]}, and they are {true[0]} and {true[1]}")

    def sent(self, wallet: int, peer: int, message: Message) -> None:
        match message:
            case Propose(header=header):
                self._check_durable((header.group_id, wallet), header.version, header)
            case Accept(group_id=group_id, version=version):
                self._check_durable((group_id, wallet), version, None)
            case Resume(group_id=group_id, highest=highest) if highest is not None:
                self._check_durable((group_id, wallet), highest.version, highest)
            case FinalProposal() | FinalAccept():
                if (message.group_id, wallet) not in self._finals:
                    self._fail((message.group_id, wallet), "sends FINAL before it is durable")
            case _:
                pass

    def _check_durable(self, name: Name, version: int, header: GroupHeader | None) -> None:
        durable = self._signed.get(name, {}).get(version)
        if durable is None or header not in (None, durable):
            self._fail(name, f"sends its signature of version {version}, which is not durable")

    def restored(self, wallet: int, groups: Mapping[Hash, Group]) -> None:
        for group_id, group in groups.items():
            name = (group_id, wallet)
            highest = max(self._signed.get(name, {}), default=0)
            if group.highest.version < highest:
                self._fail(name, f"comes back with version {group.highest.version}, and has signed {highest}")
            if (group.final is None) != (name not in self._finals) or group.claim != self._claims.get(name):
                self._fail(name, "comes back without its FINAL, or its CLAIM")

    def _fail(self, name: Name, what: str) -> None:
        self.fail(f"wallet {name[1]} in group {name[0].hex()[:8]} {what}")
