"""Events from the journal to plugins."""
