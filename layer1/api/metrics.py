"""Counters for Prometheus: requests by route, and the replica's own numbers, in a registry of this application."""

from __future__ import annotations

import re
from collections.abc import Iterator

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from layer1.api.backend import Backend

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class ReplicaNumbers(Collector):
    """Every number of the replica's status, read when somebody asks."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def collect(self) -> Iterator[Metric]:
        """The numbers as gauges."""
        head = self._backend.head().header
        numbers = {
            "height": head.height,
            "clock_ms": head.clock,
            "wall_time_ms": head.wall_time,
            "stored_height": self._backend.store.height,
            **{name: value for name, value in self._backend.status().items() if isinstance(value, int | bool)},
        }
        for name, value in numbers.items():
            label = re.sub(r"[^a-zA-Z0-9_]", "_", name)
            yield GaugeMetricFamily(f"ledger_{label}", f"The replica's {name}.", value=float(value))
        for series in self._backend.series():
            kind = CounterMetricFamily if series.counts else GaugeMetricFamily
            family = kind(f"ledger_{series.name}", series.help, labels=series.labels)
            for labels, number in series.values.items():
                family.add_metric(labels, number)
            yield family


class Metrics:
    """What this API has done."""

    def __init__(self, backend: Backend) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(ReplicaNumbers(backend))
        labels = ("method", "route", "status")
        self._requests = Counter("api_requests", "Requests answered.", labels, registry=self._registry)
        self._seconds = Histogram("api_request_seconds", "Time to an answer.", ("route",), registry=self._registry)
        self.transactions = Counter("api_transactions", "Transactions taken.", registry=self._registry)

    def observe(self, request: web.Request, status: int, seconds: float) -> None:
        """Count a request. Paths and methods that nobody declared share one label, so that junk makes no new ones."""
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "none"
        method = request.method if resource is not None else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """All of it, for Prometheus."""
        return generate_latest(self._registry)
