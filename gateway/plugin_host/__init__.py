"""Plugins: loading, binding, starting and calling them."""
