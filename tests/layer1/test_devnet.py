"""Making ledgers and reserving ports, without a process."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from layer1.config import load_config, read_genesis, read_key
from layer1.crypto import SigningKey
from layer1.devnet import Devnet, Plan, Reservation, home_of, initialize
from layer1.errors import LocalError, Refused
from layer1.ledger.genesis import Allocation, Currency

ALICE = SigningKey(b"a" * 32).public


def test_homes_fit_the_genesis(tmp_path: Path) -> None:
    genesis = initialize(tmp_path, Plan(allocations=(Allocation(ALICE, 5),), base_port=7_000))
    assert read_genesis(tmp_path / "genesis.json") == genesis
    for index in range(4):
        config = load_config(home_of(tmp_path, index))
        assert (config.link.port, config.api.port) == (7_000 + 2 * index, 7_001 + 2 * index)
        assert [peer.key for peer in config.peers] == [
            key for key in genesis.replicas if key != genesis.replicas[index]
        ]
        assert read_key(config.key).public == genesis.replicas[index]
        assert config.journal.is_dir()


def test_a_ledger_is_never_overwritten(tmp_path: Path) -> None:
    initialize(tmp_path, Plan(replicas=1))
    with pytest.raises(LocalError, match="holds a ledger already"):
        initialize(tmp_path, Plan(replicas=1))


def test_a_bad_plan_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="capital letters"):
        initialize(tmp_path / "x", Plan(currency=Currency("wdg", 2)))
    assert not (tmp_path / "x").exists()


def test_reserved_ports_refuse_connections_and_strangers_but_not_children() -> None:
    held = Reservation()
    port = held.take("127.0.0.1", 0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 1)
    other = Reservation()
    assert other.take("127.0.0.1", port) != port
    with socket.socket() as child:
        child.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        child.bind(("127.0.0.1", port))
        child.listen()
        socket.create_connection(("127.0.0.1", port), 1).close()
    held.release()
    assert other.take("127.0.0.1", port) == port
    other.release()


def test_a_port_with_closed_connections_of_the_run_before_is_kept() -> None:
    """Else wallets that were connected would look for the ledger in vain after a restart."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), 1) as client:
            server.accept()[0].close()  # who closes first keeps the connection lingering
            assert client.recv(1) == b""
            other = Reservation()
            assert other.take("127.0.0.1", port) != port  # somebody listens still
            other.release()
    again = Reservation()
    assert again.take("127.0.0.1", port) == port
    again.release()


def test_a_devnet_keeps_its_ports_and_everything_else_in_the_file(tmp_path: Path) -> None:
    initialize(tmp_path, Plan(replicas=2))
    path = home_of(tmp_path, 0) / "replica.toml"
    path.write_text(path.read_text() + "transactions = 30000\n")
    first = Devnet(tmp_path)
    urls = first.urls
    assert first.children[0].config.limits.transactions == 30_000
    first.release()
    other = Reservation()
    for url in urls:
        other.take("127.0.0.1", int(url.rpartition(":")[2]))
    second = Devnet(tmp_path)
    assert not set(second.urls) & set(urls)
    other.release()
    second.release()
    third = Devnet(tmp_path)
    assert third.urls == second.urls
    assert load_config(home_of(tmp_path, 1)).peers[0].api == third.urls[0]
    assert load_config(home_of(tmp_path, 0)).limits.transactions == 30_000
    third.release()


def test_a_second_devnet_leaves_the_files_of_the_first_alone(tmp_path: Path) -> None:
    initialize(tmp_path, Plan(replicas=2))
    first = Devnet(tmp_path)
    before = [(home_of(tmp_path, i) / "replica.toml").read_text() for i in range(2)]
    with pytest.raises(LocalError, match="another devnet runs"):
        Devnet(tmp_path)
    assert [(home_of(tmp_path, i) / "replica.toml").read_text() for i in range(2)] == before
    first.release()
    Devnet(tmp_path).release()
