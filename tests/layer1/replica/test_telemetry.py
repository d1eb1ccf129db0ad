"""Metrics with labels, as Prometheus reads them, and the dashboard that shows them."""

from __future__ import annotations

import asyncio
import json
import re
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from layer1.api.metrics import Metrics
from tests.layer1.replica.test_driver import running, transfer

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
DASHBOARD = ROOT / "packaging/grafana-dashboard.json"
RULES = ROOT / "packaging/prometheus-rules.yml"
METRIC = re.compile(r"\b(?:ledger|api)_[a-z0-9_]+")
LABELS = re.compile(r"by \(([^)]*)\)|\{([^}]*)\}")


def read(metrics: Metrics) -> dict[str, dict[str, float]]:
    """Samples by name and labels; families without samples too."""
    found: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        found.setdefault(family.name, {})
        for sample in family.samples:
            found.setdefault(sample.name, {})[",".join(f"{k}={v}" for k, v in sample.labels.items())] = sample.value
    return found


async def test_a_peer_that_is_gone_is_told(tmp_path: Path) -> None:
    async with running(tmp_path, 4) as replicas:
        one = replicas[0]
        async with asyncio.timeout(10):
            while len(one._peers.links) < 3:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.02)
        async with asyncio.timeout(20):  # a quorum needs not all of them, so one may come later
            for salt in count():
                await one.wait_final(one.submit([transfer(one, salt)]), 10_000)
                found = read(Metrics(one))
                if all(found["ledger_peer_votes_total"].values()):
                    break
        assert found["ledger_peer_connected"] == {"peer=1": 1, "peer=2": 1, "peer=3": 1}
        assert all(0 <= silence < 60 for silence in found["ledger_peer_silence_seconds"].values())
        assert found["ledger_journal_syncs_total"][""] >= 2
        assert found["ledger_journal_sync_seconds_total"][""] > 0
        assert len(found["ledger_nullify_votes_total"]) == 6 * 4
        await replicas[2].stop()
        async with asyncio.timeout(10):
            while read(Metrics(one))["ledger_peer_connected"]["peer=2"]:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.02)


def expressions(found: Any) -> list[str]:
    """Of all panels, and of the variables."""
    if isinstance(found, dict):
        own = [str(found[name]) for name in ("expr", "query") if isinstance(found.get(name), str)]
        return own + [text for value in found.values() for text in expressions(value)]
    if isinstance(found, list):
        return [text for value in found for text in expressions(value)]
    return []


async def test_dashboard_and_alerts_name_only_metrics_and_labels_that_exist(tmp_path: Path) -> None:
    """ "A ready dashboard file": no panel stays empty because of a name that nobody exports."""
    async with running(tmp_path, 2) as (one, _):
        metrics = Metrics(one)
        text = metrics.text().decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    ends = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
    names = {family.name + end for family in families.values() for end in ends.get(family.type, ("",))}
    labels = {label for family in families.values() for sample in family.samples for label in sample.labels}
    labels |= {"le", "method", "route", "status", "instance", "job"}
    asked = [each for each in expressions(json.loads(DASHBOARD.read_text())) if each != "prometheus"]
    rules = re.findall(r"(?m)^\s+expr: (.*)$", RULES.read_text())
    assert len(asked) > 15 and len(rules) > 5
    for expression in asked + rules:
        used = set(METRIC.findall(expression))
        assert used, expression
        assert used <= names, f"{used - names} in {expression}"
        for group, matchers in LABELS.findall(expression):
            told = {part.strip().split("=")[0].rstrip("!~") for part in (group or matchers).split(",") if part.strip()}
            assert told <= labels, f"{told - labels} in {expression}"


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    found = json.loads(DASHBOARD.read_text())
    panels = found["panels"]
    assert found["title"] and found["schemaVersion"] >= 36 and found["uid"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        assert panel["title"]
        assert panel["type"] == "row" or (panel["targets"] and panel["description"])
