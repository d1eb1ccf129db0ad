"""An atomic swap between two groups on two ledgers: tea money for bun money, both or none.

Ann has tea money and wants buns, Ben has bun money and wants tea. Each of the two ledgers has a channel between them,
and neither ledger knows of the other. One preimage, Ann's secret, opens both payments:

1. Ann makes an invoice for bun money. Its hash is SHA-256 of her secret.
2. Ben makes a *hold* invoice for tea money under that very hash, though he does not know the secret.
3. Ann pays it: her tea money is locked, and Ben cannot take it, for he has no secret.
4. Ben sees it locked, for long enough, and pays Ann's invoice. To take his bun money, she has to show the secret.
5. With the secret Ben takes the tea money.

Who risks what: until step 4 Ann alone has locked anything, and nobody can take it. After it Ann may take the bun money,
by a secret that Ben then has too, or let both locks end by themselves. Ben's lock ends first: it is good for some three
minutes (5 margins of rule 22), Ann's for ten more, so that he has time to take her tea money, from layer 1 if she is
gone. What anybody can lose is time: a lock that nobody resolves stands until it expires.

Run it: ``python -m examples.atomic_swap``
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

from examples.stage import FUNDS, PASSPHRASE, stage
from layer1.crypto import Hash
from layer1.errors import Refused
from layer1.ledger.genesis import Currency
from layer2.opening import OpeningPolicy
from wallet.channel import Channel
from wallet.invoices.invoice import format_invoice
from wallet.invoices.payee import Wanted
from wallet.invoices.records import Stage
from wallet.paying.payer import Paying
from wallet.wallet import Wallet

TEA, BUN = 30_00, 90_00
"""What is swapped: 30.00 TEA for 90.00 BUN."""
HOLD_MS = 600_000
"""So much longer than Ben's lock is Ann's good: time for Ben to take it, whatever happens."""
CHALLENGE_MS = 4_000


@dataclass
class Side:
    """One of the two groups: a channel, who pays in it, and who is paid."""

    payer: Wallet
    payee: Wallet
    channel: Channel

    @property
    def paid(self) -> int:
        """Minor units that the payee has in the channel."""
        return self.payee.channel(self.channel.id.hex()).view().can_send


class Swap:
    """Tea money from Ann to Ben, bun money from Ben to Ann, under one hash."""

    def __init__(self, tea: Side, bun: Side) -> None:
        self.tea, self.bun = tea, bun

    async def lock_tea(self) -> tuple[Hash, str, asyncio.Task[Paying]]:
        """Steps 1 to 3: the hash, Ann's invoice, and her payment, which waits for Ben."""
        wanted = await self.bun.payee.invoices.create(Wanted(BUN, "buns for tea"))
        hashed = wanted.invoice.payment_hash
        held = await self.tea.payee.invoices.create(
            Wanted(TEA, "tea for buns", lock_ms=HOLD_MS, hold=True, payment_hash=hashed)
        )
        paying = asyncio.create_task(self.tea.payer.invoices.pay(format_invoice(held.invoice)))
        await self.until(self.tea.payee, hashed, Stage.HELD)
        print(f"  Ann locks {TEA / 100:.2f} TEA for whoever knows the preimage of {hashed.hex()[:12]}….")
        return hashed, format_invoice(wanted.invoice), paying

    async def pay_bun(self, hashed: Hash, text: str) -> bytes:
        """Step 4, after Ben has looked that the tea money is locked; the secret."""
        held = self.tea.payee.invoices.get(hashed)
        assert held is not None, "Ben made it"
        assert sum(part.amount for part in held.parts) == TEA, "Ben pays for what is locked only"
        done = await self.bun.payer.invoices.pay(text)
        print(f"  Ben sees it, and pays Ann's {BUN / 100:.2f} BUN. Her wallet shows the secret to take them.")
        return done.payment.preimage

    async def take_tea(self, hashed: Hash, secret: bytes) -> None:
        """Step 5."""
        await self.tea.payee.invoices.settle(hashed.hex(), secret)

    async def until(self, wallet: Wallet, hashed: Hash, there: Stage) -> None:
        """Wait until a wallet's invoice has come so far."""
        async with asyncio.timeout(20):
            while (issued := wallet.invoices.get(hashed)) is None or issued.stage is not there:
                await wallet.changed(wallet.news, 0.2)


async def both(swap: Swap) -> None:
    """All goes well."""
    print("1. Both are there")
    hashed, text, paying = await swap.lock_tea()
    await swap.take_tea(hashed, await swap.pay_bun(hashed, text))
    assert (await paying).payment.preimage, "Ann is told that her payment was taken"
    await swap.until(swap.tea.payee, hashed, Stage.PAID)
    print("  Ben takes the tea money with it. Both, and no ledger was asked.")
    assert (swap.tea.paid, swap.bun.paid) == (TEA, BUN)


async def none(swap: Swap) -> None:
    """Ben changes his mind before he pays: Ann has not shown anything, and has her money back."""
    print("2. Ben walks away before he has paid")
    before = (swap.tea.paid, swap.bun.paid)
    hashed, _, paying = await swap.lock_tea()
    await swap.tea.payee.invoices.cancel(hashed.hex())
    try:
        await paying
    except Refused as refusal:
        print(f"  Ann: {refusal.message.partition(': ')[0]}; the money is back.")
    else:
        raise AssertionError("nobody was paid")
    print("  Had he vanished without a word, the lock would have ended by itself, when it expires. None.")
    assert (swap.tea.paid, swap.bun.paid) == before


async def gone(swap: Swap) -> None:
    """Ann takes the bun money, and pulls the plug before Ben has the tea money: layer 1 gives it to him."""
    print("3. Ann takes the buns, and walks away")
    before = (swap.tea.paid, swap.bun.paid)
    hashed, text, paying = await swap.lock_tea()
    secret = await swap.pay_bun(hashed, text)
    paying.cancel()
    await asyncio.gather(paying, return_exceptions=True)
    await swap.tea.payer.__aexit__(None, None, None)
    print("  Ann's tea wallet is off: nobody answers Ben's claim. He closes the channel without her,")
    print("  as his wallet would do by itself before the lock is over.")
    await swap.take_tea(hashed, secret)
    channel = swap.tea.payee.channel(swap.tea.channel.id.hex())
    closed = await channel.close(force=True, wait=True)
    assert closed.state == "closed", closed
    await swap.until(swap.tea.payee, hashed, Stage.PAID)
    ben = (await swap.tea.payee.balance(swap.tea.payee.savings_address)).value
    print(f"  The tea ledger settles, hears the secret from Ben, and proves {ben / 100:.2f} TEA in his savings: both.")
    assert (ben, swap.bun.paid) == (before[0] + TEA, before[1] + BUN)


async def main() -> None:
    """The three ends of a swap, on the same two channels."""
    async with AsyncExitStack() as stack:
        ann_tea, ben_tea = await wallets(stack, "TEA")
        ann_bun, ben_bun = await wallets(stack, "BUN")
        tea = await side(ann_tea, ben_tea)
        bun = await side(ben_bun, ann_bun)
        print(f"Two ledgers, a channel on each: Ann has {FUNDS / 100:,.2f} TEA, Ben as much BUN.")
        swap = Swap(tea, bun)
        for end in (both, none, gone):
            await end(swap)


async def wallets(stack: AsyncExitStack, symbol: str) -> list[Wallet]:
    """A ledger with money of that name, and Ann's and Ben's wallets on it."""
    play = await stack.enter_async_context(stage("ann", "ben", currency=Currency(symbol, 2)))
    return [await stack.enter_async_context(Wallet.load(play.homes[who], PASSPHRASE)) for who in ("ann", "ben")]


async def side(payer: Wallet, payee: Wallet) -> Side:
    """A channel in which the payer has all the money."""
    contact = await payee.serve(None, OpeningPolicy(min_challenge_ms=CHALLENGE_MS))
    channel = await payer.open_channel(contact, deposit=10 * BUN, challenge_period_ms=CHALLENGE_MS)
    return Side(payer, payee, channel)


if __name__ == "__main__":
    asyncio.run(main())
