"""The test kit for plugin authors: events to call hooks with, and a gateway in the test's own process.

    from gateway.testing import blocking_gateway, make_event

    def test_a_payment_becomes_a_row(tmp_path):
        config = f'[plugins.ledger]\\ndatabase = "{tmp_path}/ledger.db"'
        with blocking_gateway(config, {"ledger": LedgerPlugin}) as gateway:
            gateway.webio.send("payment", amount="12.50")
            gateway.until_delivered()

`running_gateway` is the same for `async def` tests. With pytest, the fixtures `webio_gateway` and `plugin_context` are
there as soon as the gateway is installed.
"""

from gateway.simulate import HttpAnswer
from gateway.testing.blocking import BlockingGateway, BlockingWebio, blocking_gateway
from gateway.testing.checking import CHECKS, check_plugin
from gateway.testing.checking.case import PluginCase
from gateway.testing.checking.report import CheckReport, CheckResult, Outcome, Tier
from gateway.testing.factories import event_of, make_body, make_context, make_event, make_request
from gateway.testing.in_process import GatewayUnderTest, JournalKind, running_gateway
from gateway.testing.looks import DeadLetter
from gateway.testing.waiting import PATIENCE, until, until_true
from gateway.testing.webio import BROKEN_BODIES, Webio

__all__ = [
    "BROKEN_BODIES",
    "CHECKS",
    "PATIENCE",
    "BlockingGateway",
    "BlockingWebio",
    "CheckReport",
    "CheckResult",
    "DeadLetter",
    "GatewayUnderTest",
    "HttpAnswer",
    "JournalKind",
    "Outcome",
    "PluginCase",
    "Tier",
    "Webio",
    "blocking_gateway",
    "check_plugin",
    "event_of",
    "make_body",
    "make_context",
    "make_event",
    "make_request",
    "running_gateway",
    "until",
    "until_true",
]
