"""The bundled plugin `archive`: every event as received, in JSON Lines files, each exactly once."""

from gateway_archive.plugin import ArchivePlugin

__all__ = ["ArchivePlugin"]
