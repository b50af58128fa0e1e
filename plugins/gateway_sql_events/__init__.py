"""The bundled plugin `sql_events`: every event as a row of a table in the company's database."""

from gateway_sql_events.plugin import SqlEventsPlugin

__all__ = ["TIER", "SqlEventsPlugin"]

TIER = "complete"
"""The checks of `gateway.testing.check_plugin` that its tests pass."""
