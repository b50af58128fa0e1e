"""`context.metrics`: metrics of a plugin's own, on the page of metrics."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway import Context, Event, PluginMetrics, hookimpl
from gateway.plugin_metrics import METRICS, OTHER, SERIES
from gateway.testing import running_gateway


class Counts:
    """Counts events by hook, and observes their sizes."""

    @hookimpl
    def startup(self, context: Context) -> None:
        self.events = context.metrics.counter("events", "Events by hook", ["hook"])
        self.newest = context.metrics.gauge("newest_size_bytes", "Size of the newest event")
        self.sizes = context.metrics.histogram("size_bytes", "Size of events", bounds=[10, 1000])

    @hookimpl
    def on_event(self, event: Event) -> None:
        self.events.add(hook=event.hook)
        self.newest.set(len(event.raw))
        self.sizes.observe(len(event.raw))


async def test_they_are_on_the_page_with_the_plugins_name() -> None:
    """By plugin and instance, in a page that Prometheus' own parser reads."""
    text = '[plugins.counts]\n[plugins.counts-eu]\nuse = "counts"'
    async with running_gateway(text, {"counts": Counts}) as gateway:
        await gateway.webio.send("payment")
        await gateway.webio.send("payment")
        await gateway.webio.send("set-status")
        await gateway.until_delivered()
        page = gateway.metrics()
        families = {one.name: one for one in text_string_to_metric_families(gateway.metrics_page())}
    prefix = "webio_gateway_plugin_counts"
    assert page[f'{prefix}_events_total{{plugin="counts",hook="payment"}}'] == 2
    assert page[f'{prefix}_events_total{{plugin="counts-eu",hook="set-status"}}'] == 1
    assert page[f'{prefix}_newest_size_bytes{{plugin="counts"}}'] > 10
    assert page[f'{prefix}_size_bytes_bucket{{le="1000.0",plugin="counts"}}'] == 3
    assert page[f'{prefix}_size_bytes_count{{plugin="counts-eu"}}'] == 3
    assert families[f"{prefix}_events"].type == "counter"
    assert families[f"{prefix}_size_bytes"].type == "histogram"
    assert families[f"{prefix}_size_bytes"].documentation == "Size of events"


def test_series_are_bounded() -> None:
    """What is beyond counts as `other`; a value of a label is cut."""
    metrics = PluginMetrics()
    counter, gauge = metrics.counter("c", "", ["kind"]), metrics.gauge("g", "", ["kind"])
    for number in range(SERIES + 50):
        counter.add(kind=f"{number:03}" + "x" * 100)
        gauge.set(number, kind=str(number))
    assert len(counter.values) == len(gauge.values) == SERIES + 1
    assert counter.values[OTHER,] == 50
    assert gauge.values[OTHER,] == SERIES + 49
    assert max(len(key[0]) for key in counter.values) == 64


def test_metrics_are_bounded() -> None:
    """One more is an error; one that is made again is the same."""
    metrics = PluginMetrics()
    made = [metrics.counter(f"c{number}", "") for number in range(METRICS)]
    assert metrics.counter("c0", "") is made[0]
    with pytest.raises(ValueError, match=f"metric one_more: a plugin has at most {METRICS} metrics"):
        metrics.gauge("one_more", "")
    assert len(list(metrics)) == METRICS


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("counter", ("Events", ""), "metric 'Events': expected lower-case letters"),
        ("counter", ("events_total", ""), "no ending such as _total, which the page adds"),
        ("gauge", ("a\nb", ""), "expected lower-case letters"),
        ("gauge", ("g", "", ["plugin"]), "'plugin' cannot be a label; plugin and le are the gateway's"),
        ("gauge", ("g", "", list("abcde")), "expected at most 4 labels, each once"),
        ("histogram", ("h", "", [], [2, 1]), "expected 1 to 30 bounds in rising order"),
        ("histogram", ("h", "", [], []), "expected 1 to 30 bounds in rising order"),
        ("gauge", ("there", ""), "metric there: is there already as a counter with other labels or bounds"),
        ("counter", ("there", "", ["kind"]), "metric there: is there already as a counter"),
        ("histogram", ("sizes", "", [], [2.0]), "metric sizes: is there already as a histogram"),
    ],
)
def test_a_metric_that_cannot_be(kind: str, arguments: tuple[Any, ...], message: str) -> None:
    metrics = PluginMetrics()
    metrics.counter("there", "")
    metrics.histogram("sizes", "", bounds=[1.0])
    with pytest.raises(ValueError, match="metric") as raised:
        getattr(metrics, kind)(*arguments)
    assert message in str(raised.value)


def test_wrong_values() -> None:
    """Labels that the metric does not have, and a counter that falls."""
    counter = PluginMetrics().counter("c", "", ["kind"])
    with pytest.raises(ValueError, match="metric c: expected the labels kind, found none"):
        counter.add()
    with pytest.raises(ValueError, match="metric c: expected the labels kind, found kind, more"):
        counter.add(kind="a", more="b")
    with pytest.raises(ValueError, match="a counter grows by 0 or more"):
        counter.add(-1, kind="a")
    assert counter.values == {}
