"""The bundled plugin `nats`: every event as a message of a JetStream stream."""

from gateway_nats.plugin import NatsPlugin

__all__ = ["TIER", "NatsPlugin"]

TIER = "complete"
"""The checks of `gateway.testing.check_plugin` that its tests pass."""
