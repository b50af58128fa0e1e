"""The bundled plugin `s3`: events as objects of JSON Lines in a bucket of any S3-compatible store."""

from gateway_s3.plugin import S3Plugin

__all__ = ["TIER", "S3Plugin"]

TIER = "complete"
"""The checks of `gateway.testing.check_plugin` that its tests pass."""
