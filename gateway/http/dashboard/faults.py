"""What a browser gets in place of a problem document: a short page, or the way to sign in."""

from __future__ import annotations

from html import escape
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from litestar import Request, Response

from gateway.http.dashboard.rendering import html_answer, see_other
from gateway.http.dashboard.sign_in import own_path

_PROGRAMS: Final = ("/api/", "/health/", "/metrics")


def wants_page(request: Request[Any, Any, Any]) -> bool:
    """Whether a browser shows the answer."""
    accepts = "text/html" in request.headers.get("accept", "")
    return accepts and not str(request.scope["path"]).startswith(_PROGRAMS)


def fault_page(request: Request[Any, Any, Any], status: int, detail: str) -> Response[bytes]:
    """The page for an answer with this status."""
    query = request.scope["query_string"].decode("latin-1")
    path = request.scope["path"] + (f"?{query}" if query else "")
    if status == 401 and "hx-request" in request.headers:
        return html_answer(b"", status, hx_refresh="true")  # the page that asks for news of itself is loaded again
    if status == 401 and request.method == "GET":
        return see_other("/sign-in" if path == "/" else f"/sign-in?next={quote(path, safe='/')}")
    title = escape(f"{status} {HTTPStatus(status).phrase}")
    place, name = "/", "Now"
    if status == 403 and request.method == "GET":  # followed from another site: the browser keeps the session back
        place, name = escape(own_path(path)), "Open the page"
    html = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="/static/icon.svg">'
        '<link rel="stylesheet" href="/static/style.css"></head>'
        f'<body><main><h1>{title}</h1><p class="fault">{escape(detail)}</p><p><a href="{place}">{name}</a></p>'
        "</main></body></html>"
    )
    return html_answer(html.encode("utf-8", "replace"), status)
