"""What people who know Lightning wallets type, and the verb that they mean.

Each is answered with the right verb, which is more than doing it: next time they know it. No guess is a verb of ours.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

GUESSES = {
    "addholdinvoice": "invoice create",
    "addinvoice": "invoice create|show",
    "audit": "books",
    "bakemacaroon": "token create",
    "balance": "books",
    "bkprlistbalances": "books",
    "bkprlistincome": "books",
    "cancelinvoice": "invoice cancel",
    "channelbalance": "books",
    "channels": "channel list",
    "close": "channel close",
    "closechannel": "channel close",
    "closeallchannels": "channel close",
    "connectpeer": "channel open",
    "createinvoice": "invoice create|show",
    "createrune": "token create",
    "createwallet": "create",
    "decode": "invoice decode",
    "decodeinvoice": "invoice decode",
    "decodepay": "invoice decode",
    "decodepayreq": "invoice decode",
    "delinvoice": "invoice cancel",
    "feereport": "books",
    "forwardinghistory": "books",
    "fundchannel": "channel open",
    "fwdinghistory": "books",
    "getchaninfo": "channel show",
    "getinfo": "show",
    "getbalance": "books",
    "getnodeinfo": "show",
    "getpaymenthistory": "history",
    "getreceiveaddress": "show",
    "holdinvoice": "invoice create",
    "info": "show",
    "invoices": "invoice list|history",
    "keysend": "pay",
    "listchannels": "channel list",
    "listforwards": "books",
    "listfunds": "books",
    "listinvoices": "invoice list|history",
    "listmacaroonids": "token list",
    "listpays": "payment list",
    "listpayments": "payment list",
    "listpeerchannels": "channel list",
    "listpeers": "channel list",
    "listsendpays": "payment list",
    "listtransactions": "history",
    "listchaintxns": "history",
    "listunspent": "books",
    "lookupinvoice": "invoice show",
    "lookuppayment": "payment show",
    "newaddr": "show",
    "newaddress": "show",
    "nodeinfo": "show",
    "open": "channel open",
    "openchannel": "channel open",
    "paybolt11": "invoice pay",
    "payinvoice": "invoice pay|pay",
    "paystatus": "payment show",
    "pendingchannels": "channel list",
    "queryroutes": "route",
    "getroute": "route",
    "getroutes": "route",
    "findroute": "route",
    "estimateroutefee": "route",
    "describegraph": "route",
    "listnodes": "route",
    "updatechanpolicy": "channel fee",
    "updatechannelpolicy": "channel fee",
    "setchannel": "channel fee",
    "setchannelfee": "channel fee",
    "updaterelayfee": "channel fee",
    "updatechanstatus": "channel limits",
    "rebalance": "channel rebalance",
    "rebalancechannel": "channel rebalance",
    "receive": "show",
    "restorechanbackup": "restore",
    "revokerune": "token revoke",
    "sendcoins": "send",
    "sendkeysend": "pay",
    "sendonchain": "send",
    "sendpayment": "invoice pay|pay",
    "sendspontaneous": "pay",
    "sendtoroute": "pay",
    "settleinvoice": "invoice settle",
    "showrunes": "token list",
    "splice": "channel top-up",
    "splicein": "channel top-up",
    "spliceout": "channel withdraw",
    "status": "show",
    "trackpayment": "payment show",
    "transactions": "history",
    "unlock": "serve",
    "waitinvoice": "invoice show",
    "waitsendpay": "payment show",
    "walletbalance": "books",
    "withdraw": "send",
    "xpay": "invoice pay",
}
"""By what is typed, without hyphens and underscores; of several verbs the first that there is."""
_UNKNOWN = re.compile(r"No such command '([^']{1,64})'")


def right_verb(message: str, known: Collection[str]) -> str | None:
    """What the user meant, from what the parser says of a verb that there is not; None if nobody can tell."""
    found = _UNKNOWN.search(message)
    meant = GUESSES.get(found[1].lower().replace("-", "").replace("_", "")) if found is not None else None
    return None if meant is None else next((verb for verb in meant.split("|") if verb in known), None)


def verbs_of(command: Any, above: str = "") -> set[str]:
    """All verbs below a command, as they are typed."""
    found = set()
    for name, child in getattr(command, "commands", {}).items():
        found |= {f"{above}{name}"} | verbs_of(child, f"{above}{name} ")
    return found
