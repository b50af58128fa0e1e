"""The page Drift: what changed at Webio's end."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Response, get

from gateway.http.api.context import AnyRequest
from gateway.http.api.overview import Drift, drift_of
from gateway.http.dashboard.rendering import Renderer


class DriftView(msgspec.Struct, kw_only=True):
    drift: Drift


def look_routes(renderer: Renderer) -> list[Any]:
    """The handler."""
    context = renderer.context

    @get("/drift")
    async def drift(request: AnyRequest) -> Response[bytes]:
        view = DriftView(drift=await drift_of(context))
        return await renderer.page(request, "drift.html", "Drift", view, place="drift")

    return [drift]
