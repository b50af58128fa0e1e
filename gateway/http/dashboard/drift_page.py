"""The page Drift: what changed at Webio's end."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Response, get

from gateway.drift import GONE, LEARN, FieldChange
from gateway.http.api.context import AnyRequest
from gateway.http.api.overview import Drift, drift_of
from gateway.http.dashboard.rendering import Renderer


class DriftView(msgspec.Struct, kw_only=True):
    """`changed` are the fields that appeared or vanished, the newest change first. A field appears after `learned`
    events of its hook, and has vanished when `missing` in a row do not have it."""

    drift: Drift
    changed: list[FieldChange]
    undocumented: list[FieldChange]
    learned: int = LEARN
    missing: int = GONE

    @property
    def different(self) -> bool:
        """Whether Webio sends what the gateway does not know."""
        return bool(self.drift.unknown or self.drift.unreadable or self.changed)


def drift_routes(renderer: Renderer) -> list[Any]:
    """The handler."""
    context = renderer.context

    @get("/drift")
    async def drift(request: AnyRequest) -> Response[bytes]:
        found = await drift_of(context)
        changed = [one for one in found.fields if one.change != "undocumented"]
        view = DriftView(
            drift=found,
            changed=sorted(changed, key=lambda one: one.last if one.change == "vanished" else one.first, reverse=True),
            undocumented=[one for one in found.fields if one.change == "undocumented"],
        )
        return await renderer.page(request, "drift.html", "Drift", view, place="drift")

    return [drift]
