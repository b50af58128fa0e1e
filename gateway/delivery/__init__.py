"""Delivery: events from the journal to plugins."""
