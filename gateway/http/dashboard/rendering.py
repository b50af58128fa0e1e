"""Pages from templates. Jinja is imported with the first page, in a thread: a gateway whose pages nobody opens does
without it."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

import msgspec
from litestar import Response, get

from gateway.http.access import Access
from gateway.http.api.context import AdminContext, AnyRequest
from gateway.http.roles import is_viewer, require_operator

if TYPE_CHECKING:
    from jinja2 import Environment

POLICY: Final = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self';"
    " frame-ancestors 'none'; base-uri 'none'"
)
SAFE: Final = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # the address of a page may have a customer's number
    "cross-origin-opener-policy": "same-origin",
}
STATIC: Final = {
    "style.css": "text/css",
    "app.js": "text/javascript",
    "live.js": "text/javascript",
    "charts.js": "text/javascript",
    "htmx.min.js": "text/javascript",
    "uplot.min.js": "text/javascript",
    "uplot.min.css": "text/css",
    "icon.svg": "image/svg+xml",
}
NAVIGATION: Final = (
    ("now", "/", "Now"),
    ("find", "/find", "Find"),
    ("trouble", "/trouble", "Trouble"),
    ("values", "/values", "Values"),
    ("drift", "/drift", "Drift"),
    ("config", "/config", "Config"),
)
_FIELDS: Final = 250


class PageFrame(msgspec.Struct, kw_only=True):
    """What is around the content of every page. `token` is for its forms; `signed_in` is whether there is a session to
    end; a viewer's pages offer neither changes nor reveals. `fragment` is whether the page is open already, and only
    its content is asked for."""

    title: str
    place: str
    token: str
    signed_in: bool
    viewer: bool
    fragment: bool
    navigation: tuple[tuple[str, str, str], ...] = NAVIGATION


class Renderer:
    """Makes the answers of the dashboard."""

    def __init__(self, context: AdminContext, access: Access) -> None:
        self.context = context
        self.access = access

    async def page(
        self, request: AnyRequest, template: str, title: str, view: Any = None, *, place: str = "", status: int = 200
    ) -> Response[bytes]:
        """A page; `view` is the struct that its template shows, and `place` its entry of the navigation."""
        frame = PageFrame(
            title=title,
            place=place,
            token=self.access.form_token(request),
            signed_in=bool(self.access.sessions.of(request)),
            viewer=is_viewer(request),
            fragment=request.headers.get("hx-request") == "true",
        )
        html = await self.context.reading.run(lambda: _render(template, frame, view))
        return html_answer(html, status)

    async def form(self, request: AnyRequest) -> dict[str, str]:
        """The fields of a form that a page of the gateway sent; `HTTPException` 403 for any other, and for a viewer who
        asks for a reveal."""
        return dict(await self.form_pairs(request))

    async def form_pairs(self, request: AnyRequest) -> list[tuple[str, str]]:
        """As `form`, for a form in which a field may be there several times."""
        body = await self.context.body(request)
        try:
            pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=_FIELDS)
        except ValueError:
            pairs = []
        fields = dict(pairs)
        self.access.require_own_form(request, fields.get("token", ""))
        if fields.get("do") == "reveal":
            require_operator(request)
        return pairs

    def shows_messages(self, request: AnyRequest) -> bool:
        """Whether a page shows what exceptions of plugins say before anything is revealed: they may have a customer's
        data in them."""
        return self.context.gateway.config.log.plugin_messages and not is_viewer(request)


def html_answer(html: bytes, status: int = 200, **headers: str) -> Response[bytes]:
    """HTML as an answer that caches must not store, and that runs no script but the gateway's own."""
    named = {"cache-control": "no-store", **SAFE, **_names(headers)}
    return Response(html, status_code=status, media_type="text/html", headers=named)


def see_other(path: str, **headers: str) -> Response[bytes]:
    """Sends the browser to another page."""
    named = {"location": path, "cache-control": "no-store", **SAFE, **_names(headers)}
    return Response(b"", status_code=303, headers=named)


def _names(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def static_routes() -> list[Any]:
    """The style, the script and the icon."""

    @get("/static/{name:str}", opt={"open": True}, sync_to_thread=False)
    def static(request: AnyRequest) -> Response[bytes]:
        name = request.path_params["name"]
        if name not in STATIC:
            return Response(b"", status_code=404, headers=SAFE)
        return Response(_file(name), media_type=STATIC[name], headers={"cache-control": "max-age=600", **SAFE})

    return [static]


@cache
def _file(name: str) -> bytes:
    return files("gateway.http.dashboard").joinpath("static", name).read_bytes()


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("gateway.http.dashboard")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"utc": _utc, "clock": _clock, "size": _size, "number": _number, "took": _took}
    return environment


def _render(template: str, frame: PageFrame, view: Any) -> bytes:
    text: str = _environment().get_template(template).render(frame=frame, view=view)
    return text.encode("utf-8", "replace")


def _utc(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


def _clock(moment: datetime | None) -> str:
    """A time in UTC, without its date where that is today's."""
    text = _utc(moment)
    return text[11:] if text[:10] == f"{datetime.now(UTC):%Y-%m-%d}" else text


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def _took(milliseconds: float) -> str:
    return f"{milliseconds:,.0f} ms" if milliseconds >= 1 else "less than 1 ms"


def _number(count: float) -> str:
    """1,234 or 0.4."""
    return f"{count:,.1f}".removesuffix(".0")
