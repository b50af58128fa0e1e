"""A register of payments in a text file, which also answers what a customer paid last. Contract (1, 0)."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Annotated

import msgspec

from gateway import Context, CustomValueRequest, Event, Payment, Reject, Retry, Selector, Values, hookimpl

__all__ = ["Notary"]


class Notary:
    """Every payment is a line of the register: id, customer and amount."""

    contract = (1, 0)

    class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
        register: Annotated[Path, msgspec.Meta(description="The file of the register.")]

    def __init__(self, config: Config) -> None:
        self._register = config.register
        self._lock = threading.Lock()
        self._pending: list[str] = []
        self._attempts: dict[str, int] = {}

    @hookimpl
    def check(self) -> list[str]:
        return (
            [] if self._register.parent.is_dir() else [f"register: the folder {self._register.parent} is not there yet"]
        )

    @hookimpl
    def startup(self, context: Context) -> None:
        self._register.parent.mkdir(parents=True, exist_ok=True)
        self._register.touch()
        (context.state_dir / "started").write_text(",".join(context.organisations))
        context.log.info("the register is %s", self._register)

    @hookimpl
    def shutdown(self) -> None:
        self._pending.clear()

    @hookimpl
    def on_payment(self, event: Event, payload: Payment) -> None:
        amount = payload.extra.get("amount")
        if amount is None:
            raise Reject("a payment without an amount")
        if payload.extra.get("status") == "pending" and event.attempt == 1:
            raise Retry("not settled yet", after=0.05)
        line = json.dumps({"id": event.id, "customer": payload.customer_uid, "amount": str(amount)})
        with self._lock:
            self._pending.append(line)

    @hookimpl
    async def on_set_status(self, event: Event) -> None:
        """A hook may leave out arguments, and be async beside plain ones."""
        with self._lock:
            self._pending.append(
                json.dumps({"id": event.id, "customer": event.customer_uid, "status": event.fields()["status"]})
            )

    @hookimpl
    def checkpoint(self) -> None:
        with self._lock:
            known = {entry["id"] for entry in self._entries()}
            new = [line for line in self._pending if json.loads(line)["id"] not in known]
            with self._register.open("a") as file:
                file.writelines(f"{line}\n" for line in new)
            self._pending.clear()

    @hookimpl
    def custom_value_fields(self) -> dict[str, tuple[str, ...]]:
        return {"last_payment": ("customer_uid",)}

    @hookimpl
    def custom_values(self, request: CustomValueRequest) -> Values:
        if "last_payment" not in request.fields_for("customer_uid"):
            return {}
        paid = [
            entry["amount"]
            for entry in self._entries()
            if entry["customer"] == request.customer_uid and "amount" in entry
        ]
        return {"last_payment": paid[-1]} if paid else {}

    @hookimpl
    def forget(self, selector: Selector) -> int:
        with self._lock:
            entries = self._entries()
            kept = [entry for entry in entries if entry["customer"] != selector.customer_uid]
            self._register.write_text("".join(f"{json.dumps(entry)}\n" for entry in kept))
        return len(entries) - len(kept)

    def _entries(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self._register.read_text().splitlines()]
