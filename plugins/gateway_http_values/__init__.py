"""Custom values from an internal REST endpoint: configured requests, escaped parameters, fields by JSON pointer."""

from gateway_http_values.plugin import HttpValuesPlugin

__all__ = ["TIER", "HttpValuesPlugin"]

TIER = "complete"
"""The checks of `gateway.testing.check_plugin` that its tests pass."""
