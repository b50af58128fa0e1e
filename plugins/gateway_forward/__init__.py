"""Every event as a signed POST to a system of the company, at an address that was checked."""

from gateway_forward.plugin import ForwardPlugin

__all__ = ["ForwardPlugin"]

TIER = "complete"
