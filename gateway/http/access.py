"""Access to the admin listener: the password, and protection from requests that a web page makes a browser send."""

from __future__ import annotations

import base64
import hmac
import re
from ipaddress import ip_address
from typing import Any, Final

from litestar.connection import ASGIConnection
from litestar.datastructures import Headers
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler
from litestar.types import Guard

from gateway.config.tables import Config

_HOST: Final = re.compile(r"(?:\[([^]]*)\]|([^:]*))(?::\d*)?")
Connection = ASGIConnection[Any, Any, Any, Any]


def guard(config: Config) -> Guard:
    """Requires the password if one is set. Without one, refuses requests that a web page could make a browser on
    this machine send."""
    password = config.admin.password

    def check(connection: Connection, _: BaseRouteHandler) -> None:
        headers = connection.headers
        if connection.scope.get("method") == "POST" and _media_type(headers) != "application/json":
            # a form of another site cannot send this type
            raise HTTPException(status_code=415, detail="send application/json")
        if password is None:
            if not _by_address(headers.get("host", "localhost")):  # DNS rebinding: a name that resolves to here
                raise HTTPException(status_code=421, detail="use the IP address of this listener, or localhost")
            return
        if connection.scope["path"].startswith("/health/"):
            return
        if not trusted(config, connection):
            challenge = {"WWW-Authenticate": 'Basic realm="gateway"'}
            detail = "the password is wrong" if "authorization" in headers else "a password is needed"
            raise HTTPException(status_code=401, detail=detail, headers=challenge)

    return check


def trusted(config: Config, connection: Connection) -> bool:
    """Whether the request has the password, or none is set."""
    password = config.admin.password
    given = _password(connection.headers.get("authorization", ""))
    return password is None or hmac.compare_digest(given, password.value)


def _media_type(headers: Headers) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _password(authorization: str) -> bytes:
    """The password of basic authentication; the user name is not compared."""
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(credentials.strip(), validate=True).partition(b":")[2]
    except ValueError:
        return b""


def _by_address(host: str) -> bool:
    """Whether a Host header is an IP address or `localhost`, with or without a port."""
    match = _HOST.fullmatch(host)
    name = "" if match is None else match[1] or match[2]
    try:
        return name.lower() == "localhost" or bool(ip_address(name))
    except ValueError:
        return False
