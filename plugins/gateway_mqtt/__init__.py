"""The bundled plugin `mqtt`: every event as a message of quality of service 1."""

from gateway_mqtt.plugin import MqttPlugin

__all__ = ["TIER", "MqttPlugin"]

TIER = "complete"
"""The checks of `gateway.testing.check_plugin` that its tests pass."""
