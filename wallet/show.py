"""What a home shows without being unlocked."""

from __future__ import annotations

from layer1.client import LedgerClient
from layer1.crypto import format_address
from wallet.home import Home
from wallet.requests import AccountView, CurrencyView, WalletView


async def show_home(home: Home, contact: str | None, *, serving: bool) -> WalletView:
    """What a home shows to anybody who can read it: no passphrase needed.

    Raises:
        LedgerUnreachable: The balances could not be proven.
    """
    keystore, endpoint = home.keystore(), home.endpoint()
    addresses = [format_address(key) for key in (keystore.spending_address, keystore.savings_address)]
    contact = contact or (f"{addresses[0]}@{endpoint}" if endpoint else None)
    if not home.connected:
        spending, savings = (AccountView(address=each, balance=None) for each in addresses)
        return WalletView(address=addresses[0], contact=contact, spending=spending, savings=savings, serving=serving)
    genesis, config = home.genesis(), home.config()
    light = home.light(keep=False)
    async with LedgerClient(config.ledger_urls, genesis, ca=config.ca, light=light) as ledger:
        first = await ledger.account(keystore.spending_address)
        last = await ledger.account(keystore.savings_address)
    return WalletView(
        address=addresses[0],
        contact=contact,
        spending=AccountView(address=addresses[0], balance=first.value.balance),
        savings=AccountView(address=addresses[1], balance=last.value.balance),
        serving=serving,
        chain_id=genesis.chain_id.hex(),
        currency=CurrencyView(symbol=genesis.currency.symbol, decimals=genesis.currency.decimals),
        height=last.header.height,
        clock_ms=last.header.clock,
    )
