"""What plugins have in common that send events to a message broker. A plugin of a third party can use it, too.

`BrokerPlugin` implements the hooks around a `Connection`, which the plugin writes for its broker: open it, send one
event and wait until the broker confirms it, close it. `InFlight` keeps many events on their way at the same time, in
order within a conversation. `Template` names where an event is sent, `ServerUrl` and `Tls` are settings of connections.
"""

from gateway_brokers.in_flight import InFlight
from gateway_brokers.plugin import BrokerFailed, BrokerPlugin, Connection, cause_of, require
from gateway_brokers.settings import LONGEST_WAIT, MOST_IN_FLIGHT, ConfirmTimeout, InFlightLimit, ServerUrl, Tls
from gateway_brokers.template import Template

__all__ = [
    "LONGEST_WAIT",
    "MOST_IN_FLIGHT",
    "BrokerFailed",
    "BrokerPlugin",
    "ConfirmTimeout",
    "Connection",
    "InFlight",
    "InFlightLimit",
    "ServerUrl",
    "Template",
    "Tls",
    "cause_of",
    "require",
]
