"""`layer1 verify, inspect, reset, export` of a replica whose blocks are in PostgreSQL."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from layer1.config import ReplicaConfig, read_genesis
from layer1.operating.inspection import inspect_home
from layer1.operating.resetting import plan_reset
from layer1.operating.verification import REFILL, WAIT, verify_home
from layer1.storage.store import Store
from tests.layer1.operating.homes import PAID
from tests.postgres import PASSWORD, Server

pytestmark = [pytest.mark.slow, pytest.mark.postgresql]


@pytest.fixture
def moved(home: ReplicaConfig, postgres: Server) -> ReplicaConfig:
    """The home, with its database on a server."""
    url, chain_id = postgres.new_url(), read_genesis(home.genesis).chain_id
    here, there = Store.open(home.database_url, chain_id), Store.open(url, chain_id)
    there.append(here.blocks(1, here.height))
    here.close()
    there.close()
    return replace(home, database_url=url)


def test_what_is_sound_is_called_so(moved: ReplicaConfig) -> None:
    verdict = verify_home(moved)
    assert verdict.findings == []
    assert verdict.transactions == PAID
    assert verdict.stored_blocks == verdict.height


@pytest.mark.parametrize(
    "damage",
    [
        "update transactions set code = 'bad' where height = 3",
        "update blocks set header = set_byte(header, 9, get_byte(header, 9) # 1) where height = 3",
        "delete from history where height = 3",
        "drop table history",
    ],
)
def test_each_damage_is_found(moved: ReplicaConfig, damage: str) -> None:
    with psycopg.connect(moved.database_url) as connection:
        connection.execute(damage.encode())
    (first, *_) = verify_home(moved).findings
    assert "database" in first.where
    assert first.remedy == REFILL


def test_a_server_that_is_away_is_said(moved: ReplicaConfig) -> None:
    away = replace(moved, database_url="postgresql://ledger:opensesame@127.0.0.1:1/ledger")
    (first, *_) = verify_home(away).findings
    assert (first.where, first.remedy) == ("the database", WAIT)
    assert "cannot be opened" in first.what
    assert "opensesame" not in first.what


def test_where_it_is_is_told_without_the_password(moved: ReplicaConfig) -> None:
    shown = repr(inspect_home(moved)) + repr(plan_reset(moved, journal=False))
    assert "empty it yourself" in shown
    assert "ledger_" in shown
    assert PASSWORD not in shown
