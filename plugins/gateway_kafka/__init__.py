"""The bundled plugin `kafka`: every event as a record of a Kafka topic."""

from gateway_kafka.plugin import KafkaPlugin

__all__ = ["TIER", "KafkaPlugin"]

TIER = "complete"
"""The checks of `gateway.testing.check_plugin` that its tests pass."""
