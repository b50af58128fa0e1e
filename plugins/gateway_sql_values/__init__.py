"""Custom values from a database: configured statements, bound parameters, read-only."""

from gateway_sql_values.plugin import SqlValuesPlugin

__all__ = ["TIER", "SqlValuesPlugin"]

TIER = "complete"
"""The checks of `gateway.testing.check_plugin` that its tests pass."""
