"""The operations on the page Trouble: those that go on, with their progress and a button that cancels them, and those
that ended lately."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from litestar import Response, get, post
from litestar.exceptions import NotFoundException

from gateway.http.api.context import AnyRequest
from gateway.http.api.operations import WHAT, Operation, OperationLog
from gateway.http.dashboard.rendering import Renderer, see_other

SHOWN: Final = 8
"""Operations that are shown, the newest, and as many more as go on."""
LOOKED_AT: Final = 200
"""The newest operations, among which those that go on are found."""


class ShownOperation(Operation, kw_only=True):
    """An operation. `what` it is in words; `goes_on` is whether it runs, or its events are still to be delivered;
    `can_cancel` is whether its page offers that; `was_asked_for` is whether the address of the page names it."""

    what: str
    goes_on: bool
    can_cancel: bool
    was_asked_for: bool


class OperationsView(msgspec.Struct, kw_only=True):
    """Operations, the newest first."""

    lines: list[ShownOperation]

    @property
    def goes_on(self) -> bool:
        """Whether an open page asks for their progress."""
        return any(line.goes_on for line in self.lines)

    @property
    def asked_for(self) -> int | None:
        """The number of the operation that the address of the page names."""
        return next((line.number for line in self.lines if line.was_asked_for), None)

    @property
    def awaited(self) -> int | None:
        """The same where it goes on: the page is loaded again at its end."""
        return next((line.number for line in self.lines if line.was_asked_for and line.goes_on), None)


def operation_page_routes(renderer: Renderer, operations: OperationLog) -> list[Any]:
    """The handlers."""

    @get("/operations")
    async def lines(request: AnyRequest) -> Response[bytes]:
        awaited = request.query_params.get("operation", "")
        view = await lately(operations, await operations.named(awaited))
        answer = await renderer.page(request, "operations.html", "Operations", view, place="trouble")
        if not view.goes_on or (awaited and view.awaited is None):
            answer.headers["hx-refresh"] = "true"  # the page is loaded again: its dead letters are others now
        return answer

    @get("/operations/{number:str}")
    async def progress(request: AnyRequest) -> Response[bytes]:
        operation = _known(await operations.named(request.path_params["number"]))
        answer = await renderer.page(request, "operation.html", "Operation", operation, place="trouble")
        if operation.finished:
            answer.headers["hx-refresh"] = "true"  # the event's page is loaded again: its deliveries are others now
        return answer

    @post("/operations/{number:str}", opt={"form": True}, status_code=303)
    async def cancel(request: AnyRequest) -> Response[bytes]:
        await renderer.form(request)
        cancelled = _known(await operations.cancel(request, request.path_params["number"]))
        return see_other(f"/trouble?operation={cancelled.number}")

    return [lines, progress, cancel]


async def lately(operations: OperationLog, named: Operation | None) -> OperationsView:
    """The newest operations, every one that goes on, and the one that the address of the page names."""
    newest = (await operations.newest(LOOKED_AT)).items
    asked_for = None if named is None else named.number
    if named is not None and all(one.number != asked_for for one in newest):
        newest.append(named)
    lines = [_line(one, one.number == asked_for) for one in newest]
    return OperationsView(
        lines=[one for index, one in enumerate(lines) if index < SHOWN or one.goes_on or one.was_asked_for]
    )


def _line(one: Operation, was_asked_for: bool) -> ShownOperation:
    goes_on = one.state == "running" or (one.state == "finished" and one.left > 0)
    return ShownOperation(
        **{field: getattr(one, field) for field in one.__struct_fields__},
        what=f"{WHAT[one.kind]}, in order" if one.in_order else WHAT[one.kind],
        goes_on=goes_on,
        can_cancel=goes_on and one.kind != "forget",  # half an erasure would be none
        was_asked_for=was_asked_for,
    )


def _known(found: Operation | None) -> Operation:
    if found is None:
        raise NotFoundException(detail="no operation has this number")
    return found
