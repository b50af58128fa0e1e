"""Access to the admin listener: the passwords, and protection from requests that a web page makes a browser send."""

from __future__ import annotations

import base64
import hmac
import math
import re
from collections.abc import Callable
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from litestar.datastructures import Headers
from litestar.exceptions import HTTPException
from litestar.handlers import BaseRouteHandler

from gateway.config.rules import is_loopback
from gateway.config.tables import AdminSettings
from gateway.http.attempts import Attempts
from gateway.http.roles import Connection, Role, give_role, require_operator
from gateway.http.sessions import Sessions
from gateway.http.sign_in_links import SignInLinks

_HOST: Final = re.compile(r"(?:\[([^]]*)\]|([^:]*))(?::\d*)?")
_USER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,39}", re.ASCII)
_MANY_DIGITS: Final = re.compile(r"\d{5}")
_CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="gateway"'}
FORM: Final = "application/x-www-form-urlencoded"
_SAFE: Final = ("GET", "HEAD")
_FOREIGN: Final = "a page of another site made the browser send this request"


class Access:
    """Decides which requests to the admin listener are answered. `clock` is in seconds."""

    def __init__(self, admin: AdminSettings, clock: Callable[[], float]) -> None:
        self._passwords = [
            (password.value, role)
            for password, role in ((admin.password, Role.OPERATOR), (admin.viewer_password, Role.VIEWER))
            if password is not None
        ]
        self._given = {name.lower() for name in admin.names}
        self._names = {"localhost", admin.host.lower(), *self._given}
        self._proxies = admin.trusted_proxies
        self._attempts = Attempts(clock)
        self.sessions = Sessions(clock)
        self.links = SignInLinks(clock)

    def guard(self, connection: Connection, handler: BaseRouteHandler) -> None:
        """Raises `HTTPException` for a request that another site's page may have made a browser send, for one without a
        password where it needs one, and for a change by a viewer. A handler with the option `form` takes a form of the
        dashboard, whose token it checks itself (`require_own_form`); one with `open` needs no password; one with
        `viewer` changes nothing, so a viewer may send it a POST."""
        headers, method = connection.headers, connection.scope.get("method")
        if not self._is_ours(headers.get("host", "localhost")):  # DNS rebinding: a name that resolves to here
            raise HTTPException(
                status_code=421, detail="use the IP address of this listener, localhost, or a name of admin.names"
            )
        if method in _SAFE:
            if _site(connection) == "cross-site":
                raise HTTPException(status_code=403, detail=_FOREIGN)
        else:
            self._require_own_page(connection)
            wanted = FORM if handler.opt.get("form") else "application/json"  # a form of another site cannot send that
            if method == "POST" and _media_type(headers) != wanted:
                raise HTTPException(status_code=415, detail=f"send {wanted}")
        if not (connection.scope["path"].startswith("/health/") or handler.opt.get("open")):
            self._require_password(connection)
            if method not in _SAFE and not handler.opt.get("viewer"):
                require_operator(connection)

    @property
    def needs_password(self) -> bool:
        """Whether a password is set."""
        return bool(self._passwords)

    def form_token(self, connection: Connection) -> str:
        """What a form of a page must send back, so that a page of another site cannot send it."""
        return self.sessions.form_token(self.sessions.of(connection))

    def require_own_form(self, connection: Connection, token: str) -> None:
        """`HTTPException` where a form was not sent by a page of the dashboard in this browser."""
        if not hmac.compare_digest(token.encode(), self.form_token(connection).encode()):
            raise HTTPException(status_code=403, detail="this page is out of date or not the gateway's; load it again")

    def sign_in(self, connection: Connection, password: str) -> str:
        """The cookie of a new session. `HTTPException` 401 for a wrong password, 429 while none is compared, 403 where
        the password was sent through a network unencrypted."""
        secure = self._is_secure(connection)
        return self.sessions.begin(self._compare(connection, password.encode()), secure)

    def sign_in_link(self) -> str:
        """The path of a link that signs in an operator once; that of the first page where no password is set."""
        return self.links.new() if self.needs_password else "/"

    def follow_link(self, connection: Connection, token: str) -> str:
        """The cookie of a new session. `HTTPException` 401 for a link that was used or is too old, 403 as `sign_in`."""
        secure = self._is_secure(connection)
        if not self.links.use(token):
            raise HTTPException(
                status_code=401, detail="this link was used already, or is too old; `gateway open` makes another"
            )
        return self.sessions.begin(Role.OPERATOR, secure)

    def trusted(self, connection: Connection) -> bool:
        """Whether the request has a password, or none is set. A wrong one counts as a failed attempt."""
        try:
            self._require_password(connection)
        except HTTPException:
            return False
        return True

    def _require_password(self, connection: Connection) -> None:
        """Gives the request its role."""
        if not self._passwords:
            give_role(connection, Role.OPERATOR)
            return
        authorization = connection.headers.get("authorization")
        role = self.sessions.role(self.sessions.of(connection)) if authorization is None else None
        if role is None and authorization is None:
            raise HTTPException(status_code=401, detail="a password is needed", headers=_CHALLENGE)
        if role is None:
            role = self._compare(connection, _credentials(str(authorization))[1])
        give_role(connection, role)

    def _compare(self, connection: Connection, password: bytes) -> Role:
        """The role that a password gives; every password is compared, so that the time tells nothing."""
        client = peer(connection)
        seconds = math.ceil(self._attempts.wait(client))
        if seconds:  # not compared: a guess must not be worth more because it comes sooner
            detail = f"passwords from this address were wrong; the next one is compared in {seconds} s"
            raise HTTPException(status_code=429, detail=detail, headers={"Retry-After": str(seconds)})
        roles = [role for known, role in self._passwords if hmac.compare_digest(password, known)]
        if not roles:
            self._attempts.failed(client)
            raise HTTPException(status_code=401, detail="the password is wrong", headers=_CHALLENGE)
        self._attempts.succeeded(client)
        return roles[0]

    def _is_secure(self, connection: Connection) -> bool:
        """Whether the browser reached the gateway by TLS, at a trusted proxy or here. `HTTPException` 403 where nothing
        protects what a browser of another machine sends."""
        client = peer(connection)
        proxied = any(client in network for network in self._proxies)
        if connection.scope["scheme"] == "https":
            return True
        if not (proxied or is_loopback(client)):
            detail = "signing in from another machine needs TLS: [admin.tls], or your proxy in admin.trusted_proxies"
            raise HTTPException(status_code=403, detail=detail)
        return proxied and connection.headers.get("x-forwarded-proto", "").strip().lower() == "https"

    def _require_own_page(self, connection: Connection) -> None:
        """`HTTPException` 403 for a change that a page of another site or port made a browser send. Programs send
        neither header. A proxy may have changed the Host header, but not to what Origin has of `admin.names`."""
        headers = connection.headers
        origin = headers.get("origin")
        place = None if origin is None else urlsplit(origin)
        ours = place is None or place.netloc.lower() == headers.get("host", "").lower() or place.hostname in self._given
        if _site(connection) not in ("same-origin", "none", "") or not ours:
            raise HTTPException(status_code=403, detail=_FOREIGN)

    def _is_ours(self, host: str) -> bool:
        """Whether a Host header is an IP address or one of our names, with or without a port."""
        match = _HOST.fullmatch(host)
        name = "" if match is None else match[1] or match[2]
        try:
            return name.lower() in self._names or bool(ip_address(name))
        except ValueError:
            return False


def peer(connection: Connection) -> str:
    """The address that a request to the admin listener came from. X-Forwarded-For is not used there."""
    return str(connection.client.host) if connection.client else "an unknown address"


def user(connection: Connection) -> str:
    """The user name of basic authentication, for the log only: it is not compared. `-` where there is none, or where
    it may be something else, such as a phone number."""
    name = _credentials(connection.headers.get("authorization", ""))[0].decode("utf-8", "replace")
    return name if _USER.fullmatch(name) and not _MANY_DIGITS.search(name) else "-"


def _site(connection: Connection) -> str:
    """How a browser says that the page which sent this request relates to this site; empty for a program."""
    return connection.headers.get("sec-fetch-site", "").strip().lower()


def _media_type(headers: Headers) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def _credentials(authorization: str) -> tuple[bytes, bytes]:
    """The user name and the password of basic authentication; empty where there are none."""
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() != "basic":
        return b"", b""
    try:
        name, _, password = base64.b64decode(credentials.strip(), validate=True).partition(b":")
    except ValueError:
        return b"", b""
    return name, password
