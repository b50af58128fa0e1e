"""`/sign-in` and `/sign-out`: a browser gives a password, or follows a link, once, and gets a session."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from litestar import Response, get, post
from litestar.exceptions import HTTPException

from gateway.http.api.answers import json_answer
from gateway.http.api.context import AnyRequest
from gateway.http.audit import audit
from gateway.http.dashboard.rendering import Renderer, see_other
from gateway.http.sign_in_links import PATH, SignInLink
from gateway.journal.interface import Filter

_OWN_PATH: Final = re.compile(r"/(?![/\\])[\x21-\x5b\x5d-\x7e]*")


class SignInView(msgspec.Struct, kw_only=True):
    """`next` is the page to go on to, and `fault` why the last password was not taken."""

    next: str
    fault: str = ""


def sign_in_routes(renderer: Renderer) -> list[Any]:
    """The handlers."""
    access = renderer.access

    @get("/sign-in", opt={"open": True})
    async def ask(request: AnyRequest) -> Response[bytes]:
        following = own_path(request.query_params.get("next", "/"))
        if access.trusted(request):
            return see_other(following)
        return await renderer.page(request, "sign_in.html", "Sign in", SignInView(next=following))

    @post("/sign-in", opt={"open": True, "form": True}, status_code=303)
    async def sign_in(request: AnyRequest) -> Response[bytes]:
        fields = await renderer.form(request)
        following = own_path(fields.get("next", "/"))
        if not access.needs_password:
            return see_other(following)
        try:
            cookie = access.sign_in(request, fields.get("password", ""))
        except HTTPException as error:
            audit(request, "sign-in", Filter(), "refused")
            view = SignInView(next=following, fault=error.detail)
            answer = await renderer.page(request, "sign_in.html", "Sign in", view, status=error.status_code)
            if error.headers and "Retry-After" in error.headers:
                answer.headers["retry-after"] = error.headers["Retry-After"]
            return answer
        audit(request, "sign-in", Filter(), "done")
        return see_other(following, set_cookie=cookie)

    @get(f"{PATH}{{token:str}}", opt={"open": True})
    async def follow(request: AnyRequest) -> Response[bytes]:
        try:
            cookie = access.follow_link(request, request.path_params["token"])
        except HTTPException as error:
            audit(request, "sign-in by a link", Filter(), "refused")
            view = SignInView(next="/", fault=error.detail)
            answer = await renderer.page(request, "sign_in.html", "Sign in", view, status=error.status_code)
        else:
            audit(request, "sign-in by a link", Filter(), "done")
            answer = see_other("/", set_cookie=cookie)
        answer.headers["referrer-policy"] = "no-referrer"  # the address must go nowhere
        return answer

    @post("/api/sign-in-link", status_code=200, sync_to_thread=False)
    def link(request: AnyRequest) -> Response[Any]:
        audit(request, "link to sign in", Filter(), "made")
        return json_answer(SignInLink(path=access.sign_in_link()))

    @post("/sign-out", opt={"form": True, "viewer": True}, status_code=303)
    async def sign_out(request: AnyRequest) -> Response[bytes]:
        await renderer.form(request)
        return see_other("/sign-in", set_cookie=access.sessions.end(access.sessions.of(request)))

    return [ask, sign_in, follow, link, sign_out]


def own_path(path: str) -> str:
    """A path of this listener; `/` for an address of another site."""
    return path if _OWN_PATH.fullmatch(path) else "/"
