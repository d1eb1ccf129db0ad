"""Everything that one can ask of a wallet, as values: one list for the command line, the HTTP API and ``--json``.

A request is answered by a view. :class:`Commands` has one implementation that does the work (`wallet.local`) and one
that passes it to a running ``wallet serve`` (`wallet.api.client`), so that a verb behaves the same through either. Each
request has its route and its scopes in `wallet.api.verbs`.

Amounts are minor units, addresses are texts, hashes are lower-case hex: the views *are* the shapes that ``--json``
prints. Fields are added over time, never renamed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Generic, Literal, Protocol, TypeVar

import msgspec

R = TypeVar("R")
Units = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
"""Minor units of money."""
Millis = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
Text = Annotated[str, msgspec.Meta(max_length=4_096)]
Name = Annotated[str, msgspec.Meta(max_length=256)]
"""Of something that there is: it stands in a path."""


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all answers."""


class Request(msgspec.Struct, Generic[R], frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all questions; `R` is the answer's type."""

    answer: ClassVar[Any]
    """`R` again, where the decoder can find it."""


class Progress(msgspec.Struct, frozen=True):
    """How far a long request is."""

    text: str
    """What is being waited for."""
    done: int = 0
    total: int = 0
    """0 when unknown."""
    lasting: bool = False
    """Whether it is a step to be kept in sight, such as a hop that refused; else the next one takes its place."""


Report = Callable[[Progress], None]


def no_report(progress: Progress) -> None:
    """For callers who do not watch."""


class Commands(Protocol):
    """A wallet that answers requests."""

    async def run(self, request: Request[R], report: Report = no_report) -> R:
        """Do what the request says.

        Raises:
            Refused: With a code out of `wallet.exits.EXITS`, or one that exits with 1.
        """
        ...


# ----------------------------------------------------------------------------------------------------------- views


class CurrencyView(View, frozen=True, kw_only=True):
    """How to read the amounts."""

    symbol: str
    decimals: int


class AccountView(View, frozen=True, kw_only=True):
    """One account, proven by the ledger."""

    address: str
    balance: int | None
    """None while the wallet has no ledger."""


class WalletView(View, frozen=True, kw_only=True):
    """`wallet show`."""

    address: str
    """Account that funds channels, and this wallet's identity."""
    contact: str | None
    """What to give to others; None before the wallet was served for the first time."""
    spending: AccountView
    savings: AccountView
    serving: bool
    chain_id: str | None = None
    """None while the wallet has no ledger, as all that follows."""
    currency: CurrencyView | None = None
    height: int | None = None
    """Of the block that proves the balances."""
    clock_ms: int | None = None
    """Its ledger clock."""


ChannelState = Literal["opening", "open", "stopped", "changing", "closing", "disputed", "closed", "failed"]


class WaitingView(View, frozen=True, kw_only=True):
    """Whom a channel waits for. Normal for the time of a round trip; a stuck channel stays so."""

    version: int
    """The state that lacks signatures; the newest one if somebody is only absent."""
    unsigned: tuple[str, ...]
    """Addresses of members that have not signed it."""
    absent: tuple[str, ...]
    """Addresses of members that are not connected, as far as this wallet knows."""
    final: bool
    """Whether it is the end of the channel that they have not signed."""
    unacknowledged: tuple[str, ...] = ()
    """With a witness: addresses of those, members and witness, whose ACK of this state is not here."""


class GuardView(View, frozen=True, kw_only=True):
    """What a watchtower holds of a channel."""

    watchtower: str
    """Its address."""
    version: int | None
    """Newest that it has receipted; None for none."""
    until_ms: int | None
    """Ledger clock until which it promised to answer stale reports."""
    rely: bool
    """Whether nothing is called committed before it has receipted it."""
    trouble: str | None
    """Why it may not have the newest version."""
    remaining_ms: int | None = None
    """Until `until_ms`, by the newest proven clock."""


class WatchtowerView(View, frozen=True, kw_only=True):
    """One watchtower of this wallet."""

    contact: str
    bounty: int
    """Minor units of our part of a liar's bond that are promised to it."""
    rely: bool
    channels: int
    """Live channels of which it has receipted a version."""
    behind: bool
    """Whether something is still to be brought to it."""
    until_ms: int | None
    """Ledger clock at which the first of its receipts ends."""
    trouble: str | None
    remaining_ms: int | None = None
    """Until then, by the newest proven clock."""


class WatchtowersView(View, frozen=True, kw_only=True):
    """`wallet watchtower add`, `list` and `remove`."""

    watchtowers: tuple[WatchtowerView, ...]
    currency: CurrencyView


class ChangeView(View, frozen=True, kw_only=True):
    """A change of a channel that is signed, and that layer 1 has not decided: until then nobody pays."""

    amount: int
    """What we pay in, or take out below 0."""
    peer_amount: int
    """The same of the peer."""
    keys: bool
    """Whether somebody's key changes."""
    expires_ms: int
    """Ledger clock from which it is void."""
    remaining_ms: int | None
    """Until then, by the newest proven clock."""
    unsigned: tuple[str, ...]
    """Addresses of members that have not signed it, as far as this wallet knows."""


class TollView(View, frozen=True, kw_only=True):
    """On which terms payments of others leave by a channel: `wallet channel fee` and `limits`."""

    forwards: bool
    """Whether any do."""
    base: int
    """Minor units for each payment."""
    per_million: int
    """Minor units for each million that leaves."""
    least: int
    """Minor units of one payment."""
    most: int | None
    """Null: all that the channel can carry."""


class ChannelView(View, frozen=True, kw_only=True):
    """One channel, seen from this wallet."""

    id: str
    """Group id; the agreement's hash while it is opening or when the opening failed."""
    state: ChannelState
    peer: str
    """Address of the other member."""
    endpoint: str | None
    """Where it was last known to listen."""
    connected: bool
    can_send: int
    can_receive: int
    reserved: int
    """Our bond; it comes back unless we provably lie."""
    in_dispute: int
    """Our balance and bond while layer 1 decides."""
    pending: int
    """Sent by us, fate not known yet."""
    in_locks: int = 0
    """In conditional payments under way: neither ours nor the peer's for certain."""
    locked_by_us: int = 0
    """Of it ours: it is paid, or comes back."""
    deposit: int
    peer_deposit: int
    bond: int
    peer_bond: int
    version: int
    """Newest certified state."""
    challenge_period_ms: int
    deadline_ms: int | None
    """Ledger clock at which a dispute ends."""
    remaining_ms: int | None
    """Until then, by the newest proven clock."""
    paid_out: int | None
    """What our savings got when it closed."""
    peer_paid_out: int | None
    forfeited: bool
    """Whether we lost our bond."""
    peer_forfeited: bool
    """Whether the peer lost its bond to us."""
    reason: str | None
    """Why it closed (final, claims, deadline) or failed (expired, or the ledger's code)."""
    advice: str | None
    """What the user should do, if the channel cannot go on by itself."""
    watching: str | None
    """What this wallet's watcher last did for this channel."""
    waiting: WaitingView | None = None
    """Who has not signed, or is not there."""
    balance: int | None = None
    """Our money in it, by the newest state that is known here; None if none is known."""
    peer_balance: int | None = None
    """The peer's, likewise."""
    recovered: bool | None = None
    """Of a channel whose data this wallet lost: whether the peer has shown its newest state."""
    watchtowers: tuple[GuardView, ...] = ()
    """Up to which version each of them holds it."""
    witness: str | None = None
    """Contact of the witness; None if there is none. With one, a dispute ends by claims and needs no period."""
    committed_version: int | None = None
    """With a witness: the newest state that everybody has ACKed; it is what the amounts are of."""
    claimed: tuple[str, ...] = ()
    """In a dispute: addresses of those whose claims the ledger has; with a witness, two of three end it."""
    epoch: int = 0
    """How often it was changed; versions count from 0 in each."""
    change: ChangeView | None = None
    """What is signed and not decided."""
    next: str | None = None
    """What happens to it next, and when, for people; None if there is nothing to say."""
    copied: bool = False
    """The wallet's files are a copy, and the others have not all shown yet that nothing newer is signed."""
    toll: TollView | None = None
    """While it is open: what forwarding over it costs, and what may pass."""


class ChannelsView(View, frozen=True, kw_only=True):
    """`wallet channel list`."""

    channels: tuple[ChannelView, ...]
    clock_ms: int | None
    """None when the ledger could not be asked."""
    currency: CurrencyView


class SentView(View, frozen=True, kw_only=True):
    """`wallet send`."""

    transaction_id: str
    recipient: str
    amount: int
    source: Literal["spending", "savings"]
    balance: int | None
    """Of the source, proven after it; None if the ledger has not answered since."""


class PaidView(View, frozen=True, kw_only=True):
    """`wallet pay`. Everything committed is durable on this side; nothing pending may be repeated."""

    channel: str
    peer: str
    amount: int
    """Of each payment."""
    count: int
    committed: int
    pending: int
    refused: int
    refusal: str | None
    """Why the first refused one was; the ones after it were not tried."""
    seconds: float
    can_send: int
    """Over that channel, afterwards."""
    can_receive: int
    payment: PaymentView | None = None
    """Of what went by locks, over other channels than one with the payee; null of what one channel carried."""


class EntryView(View, frozen=True, kw_only=True):
    """One line of the history."""

    time_ms: int
    """Wall clock of this machine, ms since 1970; for people only."""
    kind: str
    """paid, received, sent, opened, topped_up, withdrawn, rekeyed, wedged, reported, closed, forfeited, failed; of
    conditional payments locked (ours), offered (the peer's), paid_lock, received_lock, unlocked (given back),
    lock_settled (by layer 1), with the hash as memo. And notes, which say what a whole payment was, and are in no sum:
    invoice_paid, invoice_held (of ours), spontaneous (to us, without an invoice), payment (of ours, by locks),
    rebalanced (from us to us), forwarded (for others; the amount is the fee earned)."""
    amount: int
    """Minor units; what left is negative."""
    channel: str | None
    peer: str | None
    memo: str | None
    reference: str
    """Names the event for good: a transaction id, or channel, version and place of a payment."""
    payment_hash: str | None = None
    """Of a conditional payment, on notes; hex."""
    fee: int | None = None
    """Minor units that forwarders kept of a payment of ours."""
    via: str | None = None
    """Of what was forwarded: the channel by which it left; it came in by `channel`."""


class HistoryView(View, frozen=True, kw_only=True):
    """`wallet history`, newest first."""

    entries: tuple[EntryView, ...]
    currency: CurrencyView
    labels: dict[str, str] = {}
    """What the owner calls entries, payments, channels and peers among them."""
    next: str | None = None
    """Of the page of older entries: `before` of the request for it; null if there are none."""


class PrunedView(View, frozen=True, kw_only=True):
    """`wallet prune`."""

    versions: int
    """Of channels, whose payments were deleted."""
    before_ms: int
    """This machine's clock, ms since 1970: what is older was deleted."""


class StandbyView(View, frozen=True, kw_only=True):
    """`wallet standby show`."""

    role: Literal["head", "standby", "single"]
    """``single``: this wallet never had a standby."""
    name: str | None
    """Of this home, as layer 1 names heads."""
    term: int
    """That this home leads, or follows; 0 before the first."""
    paired: bool
    """Head: nothing leaves without the standby. Standby: it may be promoted."""
    in_touch: bool
    """Whether the other home answers."""
    waiting: int
    """Turns of the head whose effects wait for the standby."""
    endpoint: str | None
    """Where the standby listens."""
    trouble: str | None
    """Why the other home is not in touch, if that is known."""


class PromotedView(View, frozen=True, kw_only=True):
    """`wallet standby promote`: this home is the head."""

    term: int
    contact: str | None
    """What to give to peers now; None if it is not being served: `wallet serve` tells."""


class ContactView(View, frozen=True, kw_only=True):
    """What somebody needs who wants to pay this wallet."""

    address: str
    contact: str | None
    """Null while the wallet is not served to peers."""


class TokenView(View, frozen=True, kw_only=True):
    """A token of the HTTP API, without its secret."""

    id: str
    name: str
    scopes: tuple[str, ...]
    created_ms: int
    """This machine's clock, ms since 1970."""
    limit: int
    """Minor units that it may spend in all; 0 for a token that may not spend."""
    spent: int
    """Of these, what is spent, on its way, or of unknown fate."""
    period_limit: int | None
    period_ms: int | None
    spent_in_period: int | None


class TokensView(View, frozen=True, kw_only=True):
    """`wallet token list`."""

    tokens: tuple[TokenView, ...]
    currency: CurrencyView | None


class MadeTokenView(View, frozen=True, kw_only=True):
    """`wallet token create`: the one time that the secret is shown."""

    token: str
    """Goes into the header ``Authorization: Bearer``."""
    made: TokenView
    currency: CurrencyView | None

    def __repr__(self) -> str:
        return f"MadeTokenView(made={self.made!r})"


class WebhookView(View, frozen=True, kw_only=True):
    """Who is told of incoming payments."""

    id: str
    url: str
    private: bool
    """Whether it may be on this machine or in a private network."""
    created_ms: int
    waiting: int
    """Messages that were not acknowledged yet."""
    failed: int
    """Messages that were given up."""
    trouble: str | None
    """Why the last attempt failed."""


class WebhooksView(View, frozen=True, kw_only=True):
    """`wallet webhook list`."""

    webhooks: tuple[WebhookView, ...]


class MadeWebhookView(View, frozen=True, kw_only=True):
    """`wallet webhook add`: the one time that the secret is shown."""

    secret: str
    """Signs what is sent: ``whsec_`` and Base64."""
    made: WebhookView

    def __repr__(self) -> str:
        return f"MadeWebhookView(made={self.made!r})"


class HintView(View, frozen=True, kw_only=True):
    """A way to a payee, named in an invoice."""

    node: str
    channel: str
    base_fee: int
    fee_ppm: int


class DecodedView(View, frozen=True, kw_only=True):
    """`wallet invoice decode`: an invoice, checked. Nobody was asked whether it is paid."""

    invoice: str
    payment_hash: str
    payee: str
    """Address of who signed it."""
    chain_id: str
    amount: int | None
    """Null: the payer chooses."""
    description: str
    created_ms: int
    """On the ledger clock, as all times of an invoice."""
    expires_ms: int
    lock_ms: int
    """For how long a lock must be good when it arrives."""
    hints: tuple[HintView, ...]
    features: tuple[str, ...]
    currency: CurrencyView | None
    """Null where the invoice is of another chain than this home, or no home is there."""


class InvoiceView(View, frozen=True, kw_only=True):
    """An invoice of this wallet."""

    invoice: str
    payment_hash: str
    state: str
    """open, expired, held, claiming, paid, cancelled, or missed (its preimage may have left, and nothing was paid)."""
    amount: int | None
    received: int
    """What was claimed."""
    held: int
    """In locks that its owner has not decided about, or that are being claimed."""
    waiting: int
    """In parts that are here, while others of their payment are not: they are claimed together, or go back."""
    hold: bool
    """Whether its owner decides: `wallet invoice settle` or `cancel`."""
    description: str
    created_ms: int
    expires_ms: int
    remaining_ms: int | None
    """Until it expires, by the newest proven ledger clock."""
    changed_ms: int
    """This machine's clock at the last change, ms since 1970."""


class HopView(View, frozen=True, kw_only=True):
    """One lock on a path."""

    node: str
    """Address of who receives it."""
    channel: str
    amount: int
    """Minor units that it locks."""


class TryView(View, frozen=True, kw_only=True):
    """One lock of ours, and the path that it went on: one part of a payment, once."""

    state: Literal["pending", "paid", "failed"]
    amount: int
    """What the payee gets by it."""
    fee: int
    """What the hops between keep."""
    path: tuple[HopView, ...]
    """From our own channel on; the last is the payee."""
    expiry_ms: int
    """Ledger clock at which the lock is over."""
    code: str | None = None
    """Why it failed."""
    message: str | None = None
    refused_by: str | None = None
    """Address of the hop that refused; our own if our channel did; null if nobody knows, or nobody did."""


class PaymentView(View, frozen=True, kw_only=True):
    """A payment of ours that goes by locks: of an invoice, without one, or from one of our channels to another."""

    kind: Literal["invoice", "spontaneous", "circle"]
    invoice: str | None
    """Null of what nobody asked for."""
    payment_hash: str
    state: Literal["pending", "paid", "failed"]
    payee: str
    amount: int
    """What the payee gets."""
    fee: int
    """What forwarders keep of what is paid or may be."""
    max_fee: int
    """What they may keep at most."""
    description: str
    channel: str
    """Ours, that the money leaves by: of the newest try."""
    expiry_ms: int
    """Ledger clock at which its lock is over: the money is paid, or comes back."""
    preimage: str | None
    """With the invoice the receipt: `wallet receipt show`."""
    attempts: int
    tries: tuple[TryView, ...]
    """Each lock with its path, in the order in which they were offered."""
    repeated: bool
    """Whether it had been paid, or was under way, before this request: nothing was paid again."""
    code: str | None
    """Why it failed."""
    message: str | None
    changed_ms: int
    labels: dict[str, str] = {}
    """What the owner calls the addresses and channels among them."""


class PaymentsView(View, frozen=True, kw_only=True):
    """`wallet payment list`, the newest first."""

    payments: tuple[PaymentView, ...]
    currency: CurrencyView
    labels: dict[str, str] = {}


class InvoicesView(View, frozen=True, kw_only=True):
    """`wallet invoice list`."""

    invoices: tuple[InvoiceView, ...]
    """Of this wallet, the newest first."""
    payments: tuple[PaymentView, ...]
    """Of others' invoices, the newest first."""
    clock_ms: int | None
    currency: CurrencyView


class ReceiptView(View, frozen=True, kw_only=True):
    """`wallet receipt show`, `wallet receipt verify`."""

    invoice: str
    preimage: str
    payment_hash: str
    payee: str
    chain_id: str
    amount: int | None
    """That the invoice asks for; null where it leaves that to the payer."""
    description: str
    proven: tuple[str, ...]
    """What the receipt proves to anybody; sentences."""
    not_proven: tuple[str, ...]


class ChannelBooksView(View, frozen=True, kw_only=True):
    """One channel in the books, in minor units."""

    id: str
    open: bool
    balance: int
    """Ours, by the newest committed state; 0 once it is closed."""
    peer_balance: int
    locked: int
    """In conditional payments under way, of both."""
    locked_by_us: int
    """Of it ours: it is paid, or comes back."""
    bond: int
    peer_bond: int
    on_ledger: int
    """What layer 1 holds for it."""
    put_in: int
    """From accounts: deposit and bond, and what was added since."""
    taken_out: int
    """To accounts: what was withdrawn, and what it was closed with."""
    received: int
    paid: int
    """Locks of ours that are under way among it."""
    forfeits: int
    """Bonds that we got, less ours if we lost it."""
    earned_in: int
    """Fees for what came in by this channel and was forwarded; they are in `received` and `paid` already."""
    earned_out: int
    """Fees for what left by it; the same ones as `earned_in` of other channels."""
    fees_paid: int
    """To forwarders, for payments of ours that left by it."""
    rebalancing: int
    """The same, for bringing money from it to another channel of ours."""
    by_history: int | None
    """Our balance by the history, at the end of a closed channel too; null if it does not tell: payments were pruned,
    or the channel was restored."""
    differences: tuple[str, ...]
    """What does not add up, with both numbers."""


class BooksView(View, frozen=True, kw_only=True):
    """`wallet books`: a balance sheet that layer 1 proves."""

    height: int
    """Of the block that proves the accounts."""
    clock_ms: int
    """Its ledger clock."""
    spending: int
    savings: int
    in_channels: int
    """Our balances in open channels."""
    bonds: int
    """Our bonds in them; they come back unless we provably lie."""
    in_locks: int
    """In conditional payments under way: not ours for certain, so not in the total."""
    locked_by_us: int
    """Of it ours: it is paid, or comes back."""
    total: int
    fees_earned: int
    """By forwarding, each once; in the total already, as are the next two."""
    fees_paid: int
    rebalancing: int
    channels: tuple[ChannelBooksView, ...]
    adds_up: bool
    differences: tuple[str, ...]
    """Of all channels."""
    currency: CurrencyView


class LabelsView(View, frozen=True, kw_only=True):
    """`wallet label`: what the owner calls things."""

    labels: dict[str, str]
    """By reference of an entry of the history, hash of a payment, id of a channel, or address."""


# -------------------------------------------------------------------------------------------------------- requests


class Show(Request[WalletView], frozen=True, kw_only=True):
    """Addresses and proven balances."""

    answer: ClassVar[Any] = WalletView


class Send(Request[SentView], frozen=True, kw_only=True):
    """Transfer on layer 1 from the spending account."""

    answer: ClassVar[Any] = SentView
    recipient: Text
    amount: Units


class SendSigned(Request[SentView], frozen=True, kw_only=True):
    """Bring a transfer that was signed elsewhere: by the savings key, which a serving wallet does not hold."""

    answer: ClassVar[Any] = SentView
    transaction: Annotated[str, msgspec.Meta(max_length=16_384)]
    """Canonical encoding, hex."""


class OpenChannel(Request[ChannelView], frozen=True, kw_only=True):
    """Open a channel and wait until layer 1 has it."""

    answer: ClassVar[Any] = ChannelView
    contact: Text
    deposit: Units
    peer_deposit: Units = 0
    bond: Units = 0
    peer_bond: Units | None = None
    """None: the same as ours."""
    challenge_period_ms: Millis | None = None
    """None: `wallet.period.default_period_ms`."""
    witness: Text | None = None
    """Contact of the one witness; None for a channel without."""
    witness_timeout_ms: Millis = 0
    """After which a dispute ends without the second claim; 0 for never."""


class ListChannels(Request[ChannelsView], frozen=True, kw_only=True):
    """All channels of this wallet."""

    answer: ClassVar[Any] = ChannelsView


class RestoredView(View, frozen=True, kw_only=True):
    """`wallet restore`: what was found."""

    channels: tuple[ChannelView, ...]
    currency: CurrencyView


class Restore(Request[RestoredView], frozen=True, kw_only=True):
    """Find channels that this home does not know, and ask their peers."""

    answer: ClassVar[Any] = RestoredView


class ShowChannel(Request[ChannelView], frozen=True, kw_only=True):
    """One channel."""

    answer: ClassVar[Any] = ChannelView
    channel: Name
    """Its id, or a prefix that no other channel has."""


class ChangeChannel(Request[ChannelView], frozen=True, kw_only=True):
    """Change an open channel together with the peer."""

    answer: ClassVar[Any] = ChannelView
    channel: Name
    action: Literal["top-up", "withdraw", "replace-key", "resume"]
    amount: Units = 0
    """To pay in or take out."""


class ReopenChannel(Request[ChannelView], frozen=True, kw_only=True):
    """Open a channel anew, with what both were paid out of it."""

    answer: ClassVar[Any] = ChannelView
    channel: Name


class CloseChannel(Request[ChannelView], frozen=True, kw_only=True):
    """Close a channel: with the peer, or by wedging it."""

    answer: ClassVar[Any] = ChannelView
    channel: Name
    force: bool = False
    wait: bool = False
    """With `force`: until layer 1 has settled it."""
    plead: bool = False
    """With `force`: say that data may be lost, instead of claiming."""


class ReplaceWitness(Request[ChannelView], frozen=True, kw_only=True):
    """Give an open channel another witness, together with the peer."""

    answer: ClassVar[Any] = ChannelView
    channel: Name
    witness: Text
    """Contact of the one to come."""


class AgreeToSettle(Request[ChannelView], frozen=True, kw_only=True):
    """As a wallet that lost data: settle a disputed channel at once, on what the ledger shows."""

    answer: ClassVar[Any] = ChannelView
    channel: Name


MaxFee = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)] | None
"""What forwarders may keep in all, minor units; null for a hundredth of the amount, or 5 units if that is more."""
Parts = Annotated[int, msgspec.Meta(ge=1, le=16)]
"""In how many a payment may be divided."""
Wait = Annotated[int, msgspec.Meta(ge=0, le=3_600_000)]
"""For the payee, ms; a payment that is pending then goes on."""


class Pay(Request[PaidView], frozen=True, kw_only=True):
    """Pay somebody: through our channel with it, or, to an address, over any route."""

    answer: ClassVar[Any] = PaidView
    target: Text
    """Address or contact of the payee; or the channel with it, by its id or a prefix: then over that alone."""
    amount: Units
    count: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1
    """More than once through a channel only."""
    memo: Text = ""
    """Through a channel only: no packet has room for it."""
    max_fee: MaxFee = None
    """0 for a channel with the payee, or routes that cost nothing."""
    parts: Parts = 16
    wait_ms: Wait = 60_000


class History(Request[HistoryView], frozen=True, kw_only=True):
    """The newest entries, or those before one."""

    answer: ClassVar[Any] = HistoryView
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 50
    channel: Name | None = None
    before: Annotated[str, msgspec.Meta(max_length=40)] = ""
    """`next` of the answer with the page before."""


class Prune(Request[PrunedView], frozen=True, kw_only=True):
    """Delete the entries of old payments."""

    answer: ClassVar[Any] = PrunedView
    before_ms: Millis
    """This machine's clock, ms since 1970."""


class AddWatchtower(Request[WatchtowersView], frozen=True, kw_only=True):
    """Entrust each version of each channel to a watchtower."""

    answer: ClassVar[Any] = WatchtowersView
    contact: Text
    bounty: Units = 0
    rely: bool = False


class ListWatchtowers(Request[WatchtowersView], frozen=True, kw_only=True):
    """The watchtowers of this wallet."""

    answer: ClassVar[Any] = WatchtowersView


class RemoveWatchtower(Request[WatchtowersView], frozen=True, kw_only=True):
    """Entrust nothing more to a watchtower."""

    answer: ClassVar[Any] = WatchtowersView
    watchtower: Name
    """Its contact, its address, or the start of it."""


class ShowStandby(Request[StandbyView], frozen=True, kw_only=True):
    """How head and standby stand."""

    answer: ClassVar[Any] = StandbyView


class Promote(Request[PromotedView], frozen=True, kw_only=True):
    """Make this standby the head."""

    answer: ClassVar[Any] = PromotedView
    lost: bool = False
    """This home is no standby: it was restored, since all others are lost."""


class DismissStandby(Request[StandbyView], frozen=True, kw_only=True):
    """Let this head go on without its standby."""

    answer: ClassVar[Any] = StandbyView


class ShowContact(Request[ContactView], frozen=True, kw_only=True):
    """What to give to whoever wants to pay."""

    answer: ClassVar[Any] = ContactView


class CreateToken(Request[MadeTokenView], frozen=True, kw_only=True):
    """Make a token of the HTTP API."""

    answer: ClassVar[Any] = MadeTokenView
    name: Text
    scopes: tuple[Literal["read", "receive", "spend", "admin"], ...]
    limit: Units = 0
    """Minor units that it may spend in all."""
    period_limit: Units | None = None
    period_ms: Millis | None = None


class ListTokens(Request[TokensView], frozen=True, kw_only=True):
    """All tokens of the HTTP API."""

    answer: ClassVar[Any] = TokensView


class RevokeToken(Request[TokensView], frozen=True, kw_only=True):
    """Refuse a token from now on."""

    answer: ClassVar[Any] = TokensView
    token: Name
    """Its id."""


class AddWebhook(Request[MadeWebhookView], frozen=True, kw_only=True):
    """Tell a URL of each payment that comes in from now on."""

    answer: ClassVar[Any] = MadeWebhookView
    url: Text
    private: bool = False
    """It is on this machine or in a private network."""


class ListWebhooks(Request[WebhooksView], frozen=True, kw_only=True):
    """All webhooks."""

    answer: ClassVar[Any] = WebhooksView


class RemoveWebhook(Request[WebhooksView], frozen=True, kw_only=True):
    """Send nothing more to a webhook."""

    answer: ClassVar[Any] = WebhooksView
    webhook: Name
    """Its id."""


class TryWebhook(Request[WebhooksView], frozen=True, kw_only=True):
    """Send a test message to a webhook, once."""

    answer: ClassVar[Any] = WebhooksView
    webhook: Name
    """Its id."""


class ShowBooks(Request[BooksView], frozen=True, kw_only=True):
    """What this wallet has and where, and whether state, ledger and history agree on it."""

    answer: ClassVar[Any] = BooksView


class ListLabels(Request[LabelsView], frozen=True, kw_only=True):
    """All labels."""

    answer: ClassVar[Any] = LabelsView


class SetLabel(Request[LabelsView], frozen=True, kw_only=True):
    """Call something by a name, for its owner alone."""

    answer: ClassVar[Any] = LabelsView
    subject: Name
    """Reference of an entry of the history, id of a channel, or an address."""
    text: Annotated[str, msgspec.Meta(max_length=200)]
    """Empty to remove it."""


InvoiceText = Annotated[str, msgspec.Meta(max_length=4_200)]
"""As `wallet.invoices.invoice.MAX_TEXT`."""
HashText = Annotated[str, msgspec.Meta(max_length=64)]


class CreateInvoice(Request[InvoiceView], frozen=True, kw_only=True):
    """Make an invoice, to be paid by whoever gets its text."""

    answer: ClassVar[Any] = InvoiceView
    amount: Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)] | None = None
    """Null: the payer chooses."""
    description: Text = ""
    life_ms: Annotated[int, msgspec.Meta(ge=1, le=366 * 86_400_000)] = 3_600_000
    """Until it expires."""
    hold: bool = False
    """Claim nothing before it is settled."""
    hold_ms: Annotated[int, msgspec.Meta(ge=0, le=6 * 86_400_000)] = 0
    """For how long at least what is held can be settled."""
    payment_hash: HashText = ""
    """With `hold`: of a preimage that is given when it is settled."""
    hints: bool = True
    """Name neighbours over whom this wallet is reached."""


class ListInvoices(Request[InvoicesView], frozen=True, kw_only=True):
    """The newest invoices of this wallet, and those of others that it pays."""

    answer: ClassVar[Any] = InvoicesView
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 50


class PayInvoice(Request[PaymentView], frozen=True, kw_only=True):
    """Pay an invoice, once: whoever asks again is told what became of it, and nothing is paid again."""

    answer: ClassVar[Any] = PaymentView
    invoice: InvoiceText
    amount: Units | None = None
    """If the invoice leaves it open."""
    max_fee: MaxFee = None
    parts: Parts = 16
    """At most; one, if the invoice does not say that its payee takes several."""
    wait_ms: Wait = 60_000


class RebalanceChannel(Request[PaymentView], frozen=True, kw_only=True):
    """Move money from one of our channels into another, over a circle of others' channels."""

    answer: ClassVar[Any] = PaymentView
    channel: Name
    """That it leaves by: its id, or the start of it."""
    to: Name
    """That it comes back by."""
    amount: Units
    """That comes back; the fee leaves besides."""
    max_fee: MaxFee = None
    wait_ms: Wait = 60_000


class ListPayments(Request[PaymentsView], frozen=True, kw_only=True):
    """The newest payments of this wallet that went by locks."""

    answer: ClassVar[Any] = PaymentsView
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 50


class ShowPayment(Request[PaymentView], frozen=True, kw_only=True):
    """What became of a payment of this wallet, hop by hop."""

    answer: ClassVar[Any] = PaymentView
    payment: HashText
    """The payment hash, or the start of it."""


class SettleInvoice(Request[InvoiceView], frozen=True, kw_only=True):
    """Claim what is held for an invoice of this wallet."""

    answer: ClassVar[Any] = InvoiceView
    invoice: HashText
    """Its payment hash, or the start of it."""
    preimage: HashText = ""
    """Where the invoice was made with a hash alone."""


class ShowInvoice(Request[InvoiceView], frozen=True, kw_only=True):
    """How far an invoice of this wallet is."""

    answer: ClassVar[Any] = InvoiceView
    invoice: HashText
    """Its payment hash, or the start of it."""


class CancelInvoice(Request[InvoiceView], frozen=True, kw_only=True):
    """Take nothing for an invoice of this wallet any more; what is held for it goes back."""

    answer: ClassVar[Any] = InvoiceView
    invoice: HashText
    """Its payment hash, or the start of it."""


class ShowReceipt(Request[ReceiptView], frozen=True, kw_only=True):
    """What proves a payment of this wallet."""

    answer: ClassVar[Any] = ReceiptView
    payment: HashText
    """The payment hash, or the start of it."""
