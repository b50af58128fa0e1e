"""The bundled plugin `logging`: one structured line per event, with nothing personal in it unless asked for."""

from gateway_logging.plugin import LoggingPlugin

__all__ = ["TIER", "LoggingPlugin"]

TIER = "complete"
"""The checks of `gateway.testing.check_plugin` that its tests pass."""
