"""What plugin authors import, and nothing else. The contract is in `gateway.hookspecs`."""

from gateway.config.field_types import Duration, ExclusivePath, Network, OrganisationName, Secret, Size
from gateway.events import (
    ConversationAssignment,
    ConversationClosed,
    CustomValueRequest,
    DeliveryReport,
    Event,
    InboundMessage,
    MessageSend,
    MoveToQueue,
    Payload,
    Payment,
    SetStatus,
)
from gateway.hookspecs import CONTRACT, Context, Notice, Reject, Retry, SeveralCustomers, Value, Values, hookimpl
from gateway.plugin_metrics import PluginCounter, PluginGauge, PluginHistogram, PluginMetrics
from gateway.selector import Selector

__all__ = [
    "CONTRACT",
    "Context",
    "ConversationAssignment",
    "ConversationClosed",
    "CustomValueRequest",
    "DeliveryReport",
    "Duration",
    "Event",
    "ExclusivePath",
    "InboundMessage",
    "MessageSend",
    "MoveToQueue",
    "Network",
    "Notice",
    "OrganisationName",
    "Payload",
    "Payment",
    "PluginCounter",
    "PluginGauge",
    "PluginHistogram",
    "PluginMetrics",
    "Reject",
    "Retry",
    "Secret",
    "Selector",
    "SetStatus",
    "SeveralCustomers",
    "Size",
    "Value",
    "Values",
    "hookimpl",
]
