"""Custom values from a database: configured statements, bound parameters, read-only."""

from gateway_sql_values.plugin import SqlValuesPlugin

__all__ = ["SqlValuesPlugin"]
