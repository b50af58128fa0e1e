"""What the routes of the admin listener share."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from litestar import Request
from litestar.exceptions import HTTPException

from gateway.http.body import BodyReader, Gone, TooLarge, TooSlow
from gateway.http.reading import JournalReading
from gateway.service import Gateway

T = TypeVar("T")
BODY_BYTES = 2**20
BODY_SECONDS = 10.0
UNREAD: dict[type[Exception], tuple[int, str]] = {
    TooLarge: (413, f"the body is larger than {BODY_BYTES} bytes"),
    TooSlow: (408, f"the body did not arrive within {BODY_SECONDS:g} s"),
    Gone: (400, "the body is incomplete"),
}
AnyRequest = Request[Any, Any, Any]


class NotNow(HTTPException):
    """The request is valid, but cannot be carried out now."""

    status_code = 409


class AdminContext:
    """A started gateway, the reading of its journal, and of requests' bodies."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.reading = JournalReading(gateway.config)
        self._bodies = BodyReader(BODY_BYTES, BODY_SECONDS)

    async def body(self, request: AnyRequest) -> bytes:
        """The body; `HTTPException` where it is too large, too slow or incomplete."""
        try:
            return await self._bodies.read(list(request.scope["headers"]), request.receive)
        except (TooLarge, TooSlow, Gone) as error:
            status, detail = UNREAD[type(error)]
            # no request can follow on this connection
            raise HTTPException(status_code=status, detail=detail, headers={"connection": "close"}) from None

    async def document(self, request: AnyRequest, kind: type[T]) -> T:
        """The body as a struct; `HTTPException` 400 where it does not fit."""
        body = await self.body(request)
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise HTTPException(status_code=400, detail=f"the body is not valid: {error}") from None

    def require_delivery(self, plugin: str | None) -> None:
        """`NotNow` where the plugin is not enabled or takes no events."""
        consumers = self.gateway.delivery.consumers
        if plugin not in consumers:
            known = ", ".join(consumers) or "none"
            subject = f"plugin {plugin} takes no events" if plugin else "the filter needs a plugin"
            raise NotNow(detail=f"{subject}; plugins that take events: {known}")
