"""The bundled plugin `archive`: every event as received, in JSON Lines files, each exactly once."""

from gateway_archive.plugin import ArchivePlugin

__all__ = ["TIER", "ArchivePlugin"]

TIER = "complete"
"""The checks of `gateway.testing.check_plugin` that its tests pass."""
