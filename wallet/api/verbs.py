"""Every request with its route: what it is called over HTTP, who may make it, whether it moves money.

One table for the server, for the OpenAPI document, and for the command line, which is a client of it. Fields of a
request stand in the path where it names them, else in the query (GET, DELETE) or in the body.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from wallet import requests, route_requests
from wallet.api.tokens import Scope
from wallet.invoices.invoice import parse_invoice
from wallet.paying.fees import most_fee
from wallet.requests import PaidView, Pay, PayInvoice, PaymentView, Request, Send, SentView, View

ADMIN: tuple[Scope, ...] = ("admin",)
READ: tuple[Scope, ...] = ("read",)
RECEIVE: tuple[Scope, ...] = ("receive", "read")
SPEND: tuple[Scope, ...] = ("spend",)


@dataclass(frozen=True, slots=True)
class Spending:
    """How much a request takes of a token's limit."""

    most: Callable[[Any], int]
    """Units that it may move, from the request; reserved before it is carried out."""
    unmoved: Callable[[Any, Any], int]
    """Units that certainly did not move, from the request and its answer."""


@dataclass(frozen=True)
class Verb:
    """One request over HTTP."""

    request: type[Request[Any]]
    method: str
    path: str
    scopes: tuple[Scope, ...]
    summary: str
    moves_money: bool = False
    """Whether it needs an idempotency key."""
    spending: Spending | None = None
    """None: the scope `spend` does not suffice for it."""
    fixed: Mapping[str, object] = field(default_factory=dict)
    """Fields of the request that the path stands for."""

    @cached_property
    def in_path(self) -> tuple[str, ...]:
        """Fields that stand in the path."""
        return tuple(part[1:-1] for part in self.path.split("/") if part.startswith("{"))

    @cached_property
    def carried(self) -> tuple[str, ...]:
        """Fields that stand in the query or in the body."""
        return tuple(
            name for name in self.request.__struct_fields__ if name not in self.in_path and name not in self.fixed
        )

    @property
    def has_body(self) -> bool:
        """Whether what it carries is a body."""
        return self.method in ("POST", "PUT")

    def is_for(self, request: Request[Any]) -> bool:
        """Whether a request is made by this verb."""
        same = type(request) is self.request
        return same and all(getattr(request, name) == value for name, value in self.fixed.items())


def _pay_units(asked: Pay) -> int:
    """What it may move at most: to an address also what forwarders may keep."""
    routed = asked.count == 1 and ("@" in asked.target or asked.target.startswith("wedge1"))
    return asked.amount * asked.count + (most_fee(asked.amount, asked.max_fee) if routed else 0)


def _unpaid(asked: Pay, answer: View) -> int:
    assert isinstance(answer, PaidView), "the answer to a payment"
    if answer.payment is not None:
        return _pay_units(asked) - _taken(answer.payment)
    return _pay_units(asked) - asked.amount * (answer.committed + answer.pending)


def _taken(payment: PaymentView) -> int:
    """What it took, or may still take: one that is pending may cost all of its fee."""
    return payment.amount + (payment.fee if payment.state == "paid" else payment.max_fee)


def _unsent(_: Send, answer: View) -> int:
    assert isinstance(answer, SentView), "the answer to a transfer"
    return 0


PAYING = Spending(_pay_units, _unpaid)
SENDING = Spending(lambda asked: asked.amount, _unsent)


def _change(action: str, summary: str) -> Verb:
    path = f"/channels/{{channel}}/{action}"
    return Verb(requests.ChangeChannel, "POST", path, ADMIN, summary, moves_money=True, fixed={"action": action})


def _end(action: str, request: type[Request[Any]], summary: str) -> Verb:
    return Verb(request, "POST", f"/channels/{{channel}}/{action}", ADMIN, summary, moves_money=True)


def _invoice_units(asked: PayInvoice) -> int:
    """The most that paying it may move, fees included.

    Raises:
        Refused: It is no invoice.
    """
    units = max(asked.amount or 0, parse_invoice(asked.invoice).amount or 0)
    return units + most_fee(units, asked.max_fee)


def _not_paid_now(asked: PayInvoice, answer: View) -> int:
    assert isinstance(answer, PaymentView), "the answer to a payment"
    return _invoice_units(asked) - (0 if answer.repeated else _taken(answer))


INVOICES = Spending(_invoice_units, _not_paid_now)


VERBS: tuple[Verb, ...] = (
    Verb(requests.Show, "GET", "/wallet", READ, "Addresses and proven balances"),
    Verb(requests.ShowContact, "GET", "/contact", RECEIVE, "What to give to whoever wants to pay"),
    Verb(
        requests.Pay, "POST", "/payments", SPEND, "Pay through a channel, or an address over any route",
        moves_money=True, spending=PAYING,
    ),
    Verb(requests.ListPayments, "GET", "/payments", READ, "Payments that went by locks, with their tries"),
    Verb(requests.ShowPayment, "GET", "/payments/{payment}", READ, "What became of a payment, hop by hop"),
    Verb(requests.ListInvoices, "GET", "/invoices", READ, "Invoices of this wallet, and those that it pays"),
    Verb(requests.CreateInvoice, "POST", "/invoices", ("receive",), "Make an invoice", moves_money=True),
    Verb(
        requests.PayInvoice, "POST", "/invoices/pay", SPEND, "Pay an invoice, once", moves_money=True, spending=INVOICES
    ),
    Verb(requests.ShowInvoice, "GET", "/invoices/{invoice}", RECEIVE, "How far an invoice is"),
    Verb(requests.SettleInvoice, "POST", "/invoices/{invoice}/settle", ADMIN, "Claim what is held"),
    Verb(requests.CancelInvoice, "POST", "/invoices/{invoice}/cancel", ADMIN, "Take nothing for it any more"),
    Verb(requests.ShowReceipt, "GET", "/receipts/{payment}", READ, "What proves a payment"),
    Verb(requests.Send, "POST", "/transfers", SPEND, "Transfer on layer 1", moves_money=True, spending=SENDING),
    Verb(
        requests.SendSigned, "POST", "/transfers/signed", ADMIN, "Bring a transfer that was signed elsewhere",
        moves_money=True,
    ),
    Verb(requests.ListChannels, "GET", "/channels", READ, "All channels"),
    Verb(requests.OpenChannel, "POST", "/channels", ADMIN, "Open a channel", moves_money=True),
    Verb(requests.Restore, "POST", "/channels/restore", ADMIN, "Find channels that this home does not know"),
    Verb(requests.ShowChannel, "GET", "/channels/{channel}", READ, "One channel"),
    _end("rebalance", requests.RebalanceChannel, "Move money into another channel, over a circle"),
    _end("close", requests.CloseChannel, "Close a channel"),
    _end("agree", requests.AgreeToSettle, "Settle a dispute at once, after a loss of data"),
    _end("replace-witness", requests.ReplaceWitness, "Give an open channel another witness"),
    _end("reopen", requests.ReopenChannel, "Open a channel anew"),
    _change("top-up", "Pay into an open channel"),
    _change("withdraw", "Take out of an open channel"),
    _change("replace-key", "Sign with a fresh key from now on"),
    _change("resume", "Go on after a loss of data"),
    Verb(route_requests.SetFee, "PUT", "/channels/{channel}/fee", ADMIN, "Say what forwarding over a channel costs"),
    Verb(route_requests.SetLimits, "PUT", "/channels/{channel}/limits", ADMIN, "Say which payments are forwarded"),
    Verb(route_requests.FindRoute, "GET", "/routes", READ, "The way that a payment would take"),
    Verb(requests.History, "GET", "/history", READ, "What happened, the newest first"),
    Verb(requests.ShowBooks, "GET", "/books", READ, "What it has and where, and whether that adds up"),
    Verb(requests.ListLabels, "GET", "/labels", READ, "What the owner calls things"),
    Verb(requests.SetLabel, "PUT", "/labels/{subject}", ADMIN, "Call something by a name"),
    Verb(requests.Prune, "POST", "/history/prune", ADMIN, "Delete the entries of old payments"),
    Verb(requests.ListWatchtowers, "GET", "/watchtowers", READ, "The watchtowers of this wallet"),
    Verb(requests.AddWatchtower, "POST", "/watchtowers", ADMIN, "Entrust the channels to a watchtower"),
    Verb(requests.RemoveWatchtower, "DELETE", "/watchtowers/{watchtower}", ADMIN, "Entrust nothing more to it"),
    Verb(requests.ShowStandby, "GET", "/standby", READ, "How head and standby stand"),
    Verb(requests.Promote, "POST", "/standby/promote", ADMIN, "Make this standby the head"),
    Verb(requests.DismissStandby, "POST", "/standby/dismiss", ADMIN, "Go on without the standby"),
    Verb(requests.ListTokens, "GET", "/tokens", ADMIN, "All tokens, without their secrets"),
    Verb(requests.CreateToken, "POST", "/tokens", ADMIN, "Make a token; its secret is shown this once"),
    Verb(requests.RevokeToken, "DELETE", "/tokens/{token}", ADMIN, "Refuse a token from now on"),
    Verb(requests.ListWebhooks, "GET", "/webhooks", ADMIN, "All webhooks, without their secrets"),
    Verb(requests.AddWebhook, "POST", "/webhooks", ADMIN, "Register a webhook; its secret is shown this once"),
    Verb(requests.RemoveWebhook, "DELETE", "/webhooks/{webhook}", ADMIN, "Send nothing more to a webhook"),
    Verb(requests.TryWebhook, "POST", "/webhooks/{webhook}/test", ADMIN, "Send a test message, once"),
)  # fmt: skip
"""All of them. A request without a verb cannot be made of a wallet that is being served: tests look for one."""


def verb_of(request: Request[Any]) -> Verb:
    """How a request is made over HTTP."""
    return next(verb for verb in VERBS if verb.is_for(request))
