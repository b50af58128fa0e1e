"""The plugin of a third party, against contract (1, 0), in a gateway of this tree. `make wheel` tries it installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway import Selector
from gateway.testing import blocking_gateway

HERE = Path(__file__).parent


@pytest.fixture
def notary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(HERE / "notary"))
    from gateway_notary import Notary

    yield Notary
    sys.modules.pop("gateway_notary")


def test_it_takes_events_and_answers_values(notary: Any, tmp_path: Path) -> None:
    """All that contract (1, 0) promises it: delivery, Retry, Reject, checkpoint, values, forget and a folder."""
    with blocking_gateway(
        '[plugins.notary]\nregister = "register.jsonl"', {"notary": notary}, directory=tmp_path
    ) as gateway:
        gateway.webio.send("payment", customerUID="7", amount="12.50")
        gateway.webio.send("payment", customerUID="7", amount="99.00", status="pending")
        rejected = gateway.webio.send("payment", customerUID="8", amount=...)
        gateway.webio.send("set-status", customerUID="9")
        gateway.webio.send("inbound-message")
        gateway.until_settled()
        assert [letter.event_id for letter in gateway.dead_letters()] == [rejected]
        assert gateway.webio.values("last_payment", customer_uid="7") == {"last_payment": "99.00"}
        assert gateway.webio.ask("last_payment", customer_uid="8").status == 404
        assert gateway.forget(Selector(customer_uid="7")) == {"notary": 2}
        assert (tmp_path / "register.jsonl").read_text().count("\n") == 1
    assert list(tmp_path.glob("**/plugins/notary/started"))


def test_it_stays_at_contract_1_0(notary: Any) -> None:
    assert notary.contract == (1, 0)
    assert not {"spawn", "metrics", "record"} & set((HERE / "notary/gateway_notary/__init__.py").read_text().split("."))
