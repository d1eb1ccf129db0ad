"""What a wallet believes of its ledger: kept in its home, and the only thing that it acts on."""

from __future__ import annotations

import pytest

from layer1.client import LedgerAttacked, LightClient
from layer1.errors import Refused
from tests.layer1.test_attack import at, grown
from tests.wallet.conftest import World
from wallet.exits import Exit, as_refusal, exit_of
from wallet.home import Config, Home
from wallet.show import show_home


async def test_a_wallet_goes_on_from_what_it_believed(world: World) -> None:
    home = Home(world.homes["alice"].home)
    chain = grown(2)
    home.genesis_path.unlink()
    home.connect(chain.genesis, Config(("http://stand-in",)))
    light = home.light(keep=True)
    light.final(chain.head)
    light.save()
    assert home.light(keep=False).head == chain.tip


async def test_a_damaged_file_keeps_a_wallet_from_guessing(world: World) -> None:
    home = Home(world.homes["alice"].home)
    home.light_path.write_bytes(b"no light")
    for entering in (world.load("alice"), show_home(home, None, serving=False)):
        with pytest.raises(Refused) as refused:
            await entering
        assert refused.value.code == "bad_light_file"
        assert "ledger.light" in refused.value.message
    assert exit_of("bad_light_file") is Exit.FAULT


def test_an_attack_is_told_as_one() -> None:
    one, other = grown(1), grown(1, at=1_800_000_000_000)
    light = LightClient(one.genesis)
    light.final(at(one, 1))
    with pytest.raises(LedgerAttacked) as attacked:
        light.final(at(other, 1))
    refusal = as_refusal(attacked.value)
    assert (refusal.code, exit_of(refusal.code)) == ("ledger_attacked", Exit.LEDGER)
    assert "two blocks of height 1" in refusal.message
