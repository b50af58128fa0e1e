"""What `/metrics` shows of the gateway's parts. All of it is in memory: neither the journal nor its disk is asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from gateway.delivery.service import Delivery
from gateway.drift import DriftWatch
from gateway.events import PAYLOADS
from gateway.journal.interface import Journal
from gateway.metrics import Sample
from gateway.monitoring import Monitor
from gateway.plugin_host.load import Plugin
from gateway.values.breaker import BREAKER_STATES
from gateway.values.provider import ProviderHealth
from gateway.values.service import CustomValues


def plugin_samples(plugins: Sequence[Plugin], delivery: Delivery, monitor: Monitor) -> Iterator[Sample]:
    """The metrics of every plugin, and of the delivery to those that take events."""
    for plugin in plugins:
        labels, startup = {"plugin": plugin.name}, plugin.startup
        starting, text = startup.trouble is not None, "1 while the plugin has not started"
        yield Sample("gauge", "gateway_plugin_starting", text, labels, starting)
        text = "Attempts to start a plugin that failed"
        yield Sample("counter", "gateway_startup_failures_total", text, labels, startup.failures)
        yield _blocked(plugin)
        text = "Events that the where of a plugin has held back"
        yield Sample("counter", "gateway_held_back_total", text, labels, plugin.where.held_back)
        text = "Events that were delivered because the where of a plugin failed on them"
        yield Sample("counter", "gateway_where_failures_total", text, labels, plugin.where.failures)
    for name in delivery.consumers:
        yield from _of_delivery(name, delivery, monitor)


def _of_delivery(name: str, delivery: Delivery, monitor: Monitor) -> Iterator[Sample]:
    consumer = delivery.consumers[name]
    health, labels = consumer.health, {"plugin": name}
    for metric, text, count in (
        ("delivery_attempts", "Calls of a plugin with an event", health.calls.count),
        ("deliveries", "Events taken by a plugin", health.delivered),
        ("delivery_failures", "Failed calls of a plugin", health.failures),
        ("dead_letters", "Events that became dead letters", health.buried_count),
    ):
        yield Sample("counter", f"gateway_{metric}_total", text, labels, count)
    yield Sample("histogram", "gateway_plugin_call_seconds", "Time of a plugin with an event", labels, health.calls)
    oldest = "Age of the oldest event that a plugin has not taken, or 0"
    for metric, text, value in (
        ("plugin_healthy", "1 while the plugin takes events", consumer.healthy),
        ("plugin_behind", "Positions between the cursor of a plugin and the newest event", delivery.lag(name)),
        ("plugin_shards_owned", "Shards of a plugin whose events this gateway delivers", len(consumer.owned)),
        ("plugin_parked", "Events that wait for a retry or an earlier event", consumer.parked),
        ("dead_letters", "Dead letters that wait for a decision", monitor.dead[name]),
        ("oldest_undelivered_seconds", oldest, monitor.age(name)),
    ):
        yield Sample("gauge", f"gateway_{metric}", text, labels, value)


def _blocked(plugin: Plugin) -> Sample:
    """The place that blocks its loop is a label, which is one of the places in its code."""
    blocked = plugin.loop.blocked
    labels = {"plugin": plugin.name} if blocked is None else {"plugin": plugin.name, "at": blocked.place}
    text = "Seconds for which the event loop of a plugin has not answered"
    return Sample("gauge", "gateway_plugin_blocked_seconds", text, labels, 0.0 if blocked is None else blocked.seconds)


def value_samples(values: CustomValues) -> Iterator[Sample]:
    """The metrics of custom values and of their providers."""
    for (outcome, provider), count in values.outcomes.items():
        labels = {"outcome": outcome, "provider": provider}
        yield Sample("counter", "gateway_custom_value_fields_total", "Fields that were asked for", labels, count)
    for health in values.health():
        yield from _of_provider(health)
    for provider, seconds in values.seconds().items():
        text = "Time of a provider with a request"
        yield Sample("histogram", "gateway_provider_seconds", text, {"provider": provider}, seconds)


def _of_provider(provider: ProviderHealth) -> Iterator[Sample]:
    labels = {"provider": provider.name}
    for metric, text, count in (
        ("asked", "Requests sent to a provider", provider.asked),
        ("failed", "Requests that a provider failed to answer", provider.failed),
        ("late", "Answers of a provider after the deadline", provider.late),
        ("skipped", "Requests not sent to a provider because its circuit breaker was open", provider.skipped),
    ):
        yield Sample("counter", f"gateway_provider_{metric}_total", text, labels, count)
    broken = "1 while its circuit breaker is not closed"
    yield Sample("gauge", "gateway_provider_broken", broken, labels, provider.breaker != "closed")
    for state in BREAKER_STATES:
        text = "1 for the state in which its circuit breaker is"
        labels = {"provider": provider.name, "state": state}
        yield Sample("gauge", "gateway_provider_breaker", text, labels, provider.breaker == state)


def journal_samples(journal: Journal, monitor: Monitor) -> Iterator[Sample]:
    """The metrics of the journal."""
    lost = "Custom value requests not recorded"
    yield Sample("counter", "gateway_value_records_lost_total", lost, {}, journal.value_records_lost)
    for metric, text, value in (
        ("journal_refusing", "1 while the journal refuses new events", journal.refusal() is not None),
        ("journal_position", "Position of the newest event", journal.newest),
        ("journal_damaged", "Damaged places found since the start", journal.damaged),
        ("journal_bytes", "Size of the journal's files or tables", monitor.space.used),
        ("disk_free_bytes", "Free space on the journal's disk, unless it is a database", monitor.space.free),
    ):
        if value is not None:
            yield Sample("gauge", f"gateway_{metric}", text, {}, value)
    commits = journal.commits
    yield Sample("histogram", "gateway_commit_events", "Events of one commit", {}, commits.events)
    yield Sample("histogram", "gateway_commit_seconds", "Time of a commit that keeps events", {}, commits.seconds)


def drift_samples(drift: DriftWatch) -> Iterator[Sample]:
    """How many fields appeared or vanished in the last days."""
    found = drift.alarming()
    for hook in PAYLOADS:
        for change in ("appeared", "vanished"):
            text, labels = "Fields that appeared or vanished in the last 7 days", {"change": change, "hook": hook}
            yield Sample("gauge", "gateway_drifted_fields", text, labels, found[hook, change])


def secret_samples(last_used: Mapping[tuple[str, int], float]) -> Iterator[Sample]:
    """When each secret last verified a token, by organisation and index in its `secrets`."""
    for (organisation, index), at in last_used.items():
        text = "When the secret last verified a token, in seconds since 1970; 0: not since the start"
        labels = {"organisation": organisation, "secret": str(index)}
        yield Sample("gauge", "gateway_secret_last_used_timestamp_seconds", text, labels, at)
