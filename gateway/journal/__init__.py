"""The journal: what the gateway needs of a storage engine, and the engines."""
