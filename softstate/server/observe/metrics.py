"""Metrics in Prometheus's text format, made for each request: hot paths touch plain integers only.

There is no global registry, so several nodes may live in one process, as they do in tests and in the simulator.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeAlias

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.utils import floatToGoString

from softstate.server.measure.histogram import Histogram
from softstate.server.observe.catalogue import METRICS, base_name

Number: TypeAlias = float | Histogram
Labelled: TypeAlias = Mapping[tuple[str, ...], Number]
"""The samples of one metric, by the values of its labels, in the order of `METRICS`."""


def by_label(numbers: Mapping[str, Number] | Mapping[int, Number]) -> Labelled:
    """Return the samples of a metric with one label, by its values."""
    return {(str(value),): number for value, number in numbers.items()}


@dataclass(frozen=True, slots=True)
class _Collector:
    shown: Mapping[str, Labelled]

    def collect(self) -> Iterator[Metric]:
        for name, samples in self.shown.items():
            yield _family(name, samples)


def _family(name: str, samples: Labelled) -> Metric:
    metric = METRICS[name]
    if metric.kind == "histogram":
        histogram = HistogramMetricFamily(base_name(name), metric.help, labels=metric.labels)
        for values, number in samples.items():
            assert isinstance(number, Histogram)
            bounds = [*map(floatToGoString, number.bounds_s), "+Inf"]
            buckets = list(zip(bounds, accumulate(number.counts), strict=True))
            histogram.add_metric(values, buckets, number.sum_s)
        return histogram
    make = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family = make(base_name(name), metric.help, labels=metric.labels)
    for values, number in samples.items():
        assert not isinstance(number, Histogram)
        family.add_metric(values, number)
    return family


def process_numbers() -> dict[str, Number]:
    """Return the metrics of this process as every program shows them; none where the system has no ``/proc``."""
    families = ProcessCollector(registry=None).collect()
    return {family.name: family.samples[0].value for family in families if family.name in METRICS}


def render(numbers: Mapping[str, Number], labelled: Mapping[str, Labelled]) -> bytes:
    """Write metrics in text format 0.0.4: `numbers` of those without labels, and those that are `labelled`.

    Each has to be in `softstate.server.observe.catalogue.METRICS`.
    """
    plain: dict[str, Labelled] = {name: {(): number} for name, number in numbers.items()}
    return generate_latest(_Collector({**plain, **labelled}))
