"""The bundled plugin `amqp`: every event as a persistent message for RabbitMQ."""

from gateway_amqp.plugin import AmqpPlugin

__all__ = ["TIER", "AmqpPlugin"]

TIER = "complete"
"""The checks of `gateway.testing.check_plugin` that its tests pass."""
