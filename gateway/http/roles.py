"""What the sender of a request may do: an operator everything, a viewer only look, with customers' data masked."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final

from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException

_KEY: Final = "gateway_role"
Connection = ASGIConnection[Any, Any, Any, Any]


class Role(Enum):
    """An operator has `[admin] password`, or none is set; a viewer has `viewer_password`."""

    OPERATOR = "operator"
    VIEWER = "viewer"


def give_role(connection: Connection, role: Role) -> None:
    """Note who sends this request."""
    connection.scope["state"][_KEY] = role


def is_viewer(connection: Connection) -> bool:
    """Whether customers' data is masked in the answer: to a viewer, and where no role was given."""
    return connection.scope["state"].get(_KEY) is not Role.OPERATOR


def require_operator(connection: Connection) -> None:
    """`HTTPException` 403 for a viewer."""
    if is_viewer(connection):
        detail = (
            "the viewer's password only shows, with customers' data masked; this needs the password of admin.password"
        )
        raise HTTPException(status_code=403, detail=detail)
