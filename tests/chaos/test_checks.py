"""What the checks of this directory rest on: with a client that forgets, they fail."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from layer1.client import LedgerClient
from layer1.light import LightClient
from tests.chaos.clients import LIMITS, Clients
from tests.chaos.cluster import cluster
from tests.chaos.history import Move
from tests.chaos.linearizability import explain

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


class Forgetful(LedgerClient):
    """Believes any head that is recent."""

    @property
    def light(self) -> LightClient:
        return LightClient(self.genesis)

    @light.setter
    def light(self, _light: LightClient) -> None:
        pass


@pytest.mark.parametrize("client_type, is_explained", [(LedgerClient, True), (Forgetful, False)])
async def test_old_news_are_recent_and_only_memory_helps(
    tmp_path: Path, client_type: type[LedgerClient], is_explained: bool
) -> None:
    """A replica that serves what was true a moment ago, with proof, deceives just who forgets its own transfers."""
    liar = 2
    async with cluster(tmp_path, roles={liar: "old news"}) as net:
        urls = [net.urls[liar], net.urls[0]]
        clients = Clients(net, Random(1), steady=1, hasty=0, make=lambda: client_type(urls, net.genesis, LIMITS))
        async with clients:
            await clients.write(0, Move(2, 3, 1))  # once all links are up, the next one is fast
            for account in range(2):
                await clients.read(0, account)
            await clients.write(0, Move(0, 1, 1))
            assert clients.acknowledged == 2
            for account in range(2):
                await clients.read(0, account)
        assert net.lies(liar) > 0
        assert (explain(clients.history) is None) == is_explained
