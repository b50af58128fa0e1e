"""Messages to people when the gateway needs them: by e-mail, or to a chat."""

from gateway_notify.plugin import NotifyPlugin

__all__ = ["NotifyPlugin"]

TIER = "complete"
