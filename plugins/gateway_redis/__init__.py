"""The bundled plugin `redis`: every event as an entry of a Redis stream."""

from gateway_redis.plugin import RedisPlugin

__all__ = ["TIER", "RedisPlugin"]

TIER = "complete"
"""The checks of `gateway.testing.check_plugin` that its tests pass."""
