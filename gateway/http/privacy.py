"""`POST /api/forget`: erases a customer, an address or a conversation in a running gateway."""

from __future__ import annotations

import asyncio
from typing import Any

from litestar import Request, post
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler

from gateway.forgetting import Forgotten, forget_running, selector_of
from gateway.http.api.context import AdminContext
from gateway.http.audit import audit
from gateway.journal.interface import Filter
from gateway.text import counted


def privacy(context: AdminContext) -> list[HTTPRouteHandler]:
    """The route."""
    lock = asyncio.Lock()

    @post("/api/forget", status_code=200)
    async def forget(request: Request[Any, Any, Any]) -> Forgotten:
        which = await context.document(request, Filter)
        try:
            selector_of(which)
        except ValueError as error:
            raise HTTPException(status_code=400, detail=f"the filter is not valid: {error}") from None
        async with lock:
            done = await forget_running(context.gateway, which)
        failed = f", failed: {', '.join(done.failed)}" if done.failed else ""
        audit(request, "erasure", which, f"{counted(done.done, 'event')} erased{failed}")
        return done

    return [forget]
