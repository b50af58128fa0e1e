"""The answers of the API: JSON, which a viewer gets masked."""

from __future__ import annotations

from typing import Any

from litestar import Response
from litestar.response.base import ASGIResponse

from gateway.http.api.context import AnyRequest
from gateway.http.masking import masked_document
from gateway.http.roles import is_viewer

NO_STORE = {"cache-control": "no-store"}


class MaskedResponse(Response[Any]):
    """A document that is masked where a viewer gets it."""

    def to_asgi_response(self, app: Any, request: AnyRequest, **options: Any) -> ASGIResponse:
        if is_viewer(request):
            self.content = masked_document(self.content)
        return super().to_asgi_response(app, request, **options)


def json_answer(document: Any) -> Response[Any]:
    """A document as JSON that caches must not store: it may have customers' data. A viewer gets it masked."""
    return MaskedResponse(document, media_type="application/json", headers=NO_STORE)
