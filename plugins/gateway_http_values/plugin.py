"""The provider: sends the requests that a custom value request needs, and takes the values from their answers."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import httpx
import msgspec
from gateway_connections import client_context, header_value, may_be_secret, quieten

from gateway import CustomValueRequest, Duration, Reject, Secret, SeveralCustomers, Size, Values, hookimpl
from gateway_http_values.client import BadReply, Bearer, fetch, open_client, parse
from gateway_http_values.pointer import MISSING, Pointer
from gateway_http_values.template import PARAMETERS, Unfit, UrlTemplate, filled, names_in

Status = Annotated[int, msgspec.Meta(ge=100, le=599)]
_CHECKING: Final = 5.0
_AT_FAULT: Final = (400, 422)
"""Statuses that say that the request is at fault, such as a customer UID that is not a number."""


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the plugin's tables."""


class Request(Table, frozen=True, kw_only=True):
    """One `[[requests]]`. `records` points to a list, whose only entry is the customer. `unknown` and `several` are
    the statuses for no customer and for several customers."""

    url: Annotated[
        UrlTemplate, msgspec.Meta(description="The URL, with parameters such as {customer_uid} in its path and query.")
    ]
    fields: Annotated[
        dict[str, Pointer],
        msgspec.Meta(description="Where each field is in the answer, as a JSON pointer such as /account/balance."),
    ]
    method: Annotated[Literal["GET", "POST"], msgspec.Meta(description="The method of the request.")] = "GET"
    body: Annotated[
        dict[str, Any] | None, msgspec.Meta(description="The JSON body of a POST, with parameters in its texts.")
    ] = None
    records: Annotated[
        Pointer | None,
        msgspec.Meta(description="Where the list of customers is in the answer; its only entry is the customer."),
    ] = None
    unknown: Annotated[
        tuple[Status, ...], msgspec.Meta(description="Statuses that mean that the customer is not known.")
    ] = (404,)
    several: Annotated[
        tuple[Status, ...], msgspec.Meta(description="Statuses that mean that several customers match.")
    ] = ()

    def __post_init__(self) -> None:
        if not self.fields:
            raise ValueError('fields: is empty; write fields = { balance = "/account/balance" }')
        if self.body is not None and self.method != "POST":
            raise ValueError('body: needs method = "POST"')
        names_in(self.body)

    @property
    def parameters(self) -> frozenset[str]:
        return self.url.parameters | names_in(self.body)


class Basic(Table, frozen=True, kw_only=True):
    username: Annotated[str, msgspec.Meta(description="The user name.")]
    password: Annotated[Secret, msgspec.Meta(description="The password.")]


class Settings(Table, frozen=True, kw_only=True):
    requests: Annotated[tuple[Request, ...], msgspec.Meta(description="The requests that look customers up.")]
    bearer: Annotated[Secret | None, msgspec.Meta(description="A token that is sent with every request.")] = None
    basic: Annotated[
        Basic | None,
        msgspec.Meta(description="A user name and a password that are sent with every request, instead of a token."),
    ] = None
    headers: Annotated[dict[str, str], msgspec.Meta(description="Headers that are sent with every request.")] = {}
    secret_headers: Annotated[dict[str, Secret], msgspec.Meta(description="Headers whose values are secrets.")] = {}
    certificate: Annotated[Path | None, msgspec.Meta(description="A client certificate (PEM).")] = None
    key: Annotated[Path | None, msgspec.Meta(description="The key of the client certificate (PEM).")] = None
    ca: Annotated[
        Path | None,
        msgspec.Meta(
            description="The authority that signed the certificate of the service (PEM); default: those of the system."
        ),
    ] = None
    connections: Annotated[int, msgspec.Meta(ge=1, le=1000, description="The most connections at the same time.")] = 50
    connect_timeout: Annotated[
        Duration, msgspec.Meta(description="The longest time to connect; values_timeout limits the whole request.")
    ] = Duration(1)
    max_body: Annotated[Size, msgspec.Meta(description="The longest answer that is read.")] = Size(2**20)

    def __post_init__(self) -> None:
        if not self.requests:
            raise ValueError("requests: expected at least one [[requests]]")
        if self.bearer is not None and self.basic is not None:
            raise ValueError("basic: cannot be used with bearer")
        open_secrets = [name for name, value in self.headers.items() if may_be_secret(name, value)]
        if open_secrets:
            raise ValueError(f"headers.{open_secrets[0]}: may be a secret; write it under secret_headers, from a file")
        if self.key is not None and self.certificate is None:
            raise ValueError("key: needs a certificate")
        if self.connect_timeout <= 0:
            raise ValueError("connect_timeout: expected a duration longer than 0 s")
        if self.max_body <= 0:
            raise ValueError("max_body: expected a size larger than 0")


class RequestFailed(Exception):
    """A request to the service failed. The message contains nothing of the request and its answer."""

    loggable = True


class HttpValuesPlugin:
    """Answers custom values from one HTTP service."""

    Config = Settings

    def __init__(self, config: Settings) -> None:
        quieten()
        self._config = config
        self._requests = [(request, request.parameters) for request in config.requests]
        self._client: httpx.AsyncClient
        self._open = False

    @hookimpl
    async def startup(self) -> None:
        config = self._config
        secret = {name: header_value(value) for name, value in config.secret_headers.items()}
        auth: httpx.Auth | None = None
        if config.bearer is not None:
            auth = Bearer(config.bearer)
        elif config.basic is not None:
            auth = httpx.BasicAuth(config.basic.username, config.basic.password.value)
        self._client = open_client(self._tls(), {**config.headers, **secret}, auth, config.connections)
        self._open = True

    @hookimpl
    async def shutdown(self) -> None:
        if self._open:
            self._open = False
            await self._client.aclose()

    @hookimpl
    async def check(self) -> list[str]:
        """Connect to each host, for https with its certificate; no request is sent."""
        context = self._tls()
        faults: list[ValueError] = []
        for origin in sorted({request.url.origin for request, _ in self._requests}):
            url = httpx.URL(origin)
            port = url.port or (443 if url.scheme == "https" else 80)
            try:
                async with asyncio.timeout(_CHECKING):
                    tls = context if url.scheme == "https" else None
                    _, writer = await asyncio.open_connection(url.host, port, ssl=tls)
                    writer.close()
                    await writer.wait_closed()
            except TimeoutError:
                faults.append(ValueError(f"{origin} did not answer within {_CHECKING:g} s"))
            except (OSError, ValueError) as error:
                faults.append(ValueError(f"{origin} cannot be reached: {error}"))
        if faults:
            raise ExceptionGroup("hosts that cannot be reached", faults)
        return [*self._warnings()]

    @hookimpl
    def custom_value_fields(self) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for request, parameters in self._requests:
            for field in request.fields:
                found.setdefault(field, set()).update(parameters)
        return found

    @hookimpl
    async def custom_values(self, request: CustomValueRequest) -> Values:
        given = {name: value for name in PARAMETERS if (value := getattr(request, name)) is not None}
        runs = self._plan(request)
        results = await asyncio.gather(
            *(self._run(index, given, request.time_left) for index, _ in runs), return_exceptions=True
        )
        errors = [result for result in results if isinstance(result, BaseException)]
        if any(isinstance(error, SeveralCustomers) for error in errors) or (errors and len(errors) == len(results)):
            raise min(errors, key=_weight)
        values: dict[str, Any] = {}
        for (_, fields), result in zip(runs, results, strict=True):
            document = result if isinstance(result, dict) else dict.fromkeys(fields, result)
            for field in fields:
                if values.get(field) is None and field in document:
                    values[field] = document[field]
        return values

    def _plan(self, asked: CustomValueRequest) -> list[tuple[int, frozenset[str]]]:
        """The requests, by index, that can be sent and may answer some of the fields asked for, each with those."""
        found = []
        for index, (request, parameters) in enumerate(self._requests):
            fields = frozenset(asked.fields_for(*parameters)).intersection(request.fields)
            if fields:
                found.append((index, fields))
        return found

    async def _run(self, index: int, given: dict[str, str], time_left: float) -> dict[str, Any]:
        """One request's values by field. An error names the request by its index, and contains nothing of it."""
        request, _ = self._requests[index]
        try:
            document = await self._ask(request, given, time_left)
        except Unfit:
            return {}
        except httpx.TimeoutException as error:
            raise TimeoutError(f"requests[{index}]: {type(error).__name__}") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RequestFailed(f"requests[{index}]: {type(error).__name__}") from None
        except Reject as error:
            raise Reject(f"requests[{index}]: {error}") from None
        except BadReply as error:
            raise RequestFailed(f"requests[{index}]: {error}") from None
        if document is MISSING:
            return {}
        found = {field: pointer.find(document) for field, pointer in request.fields.items()}
        return {field: value for field, value in found.items() if value is not MISSING}

    async def _ask(self, request: Request, given: dict[str, str], time_left: float) -> Any:
        """The document with the customer's fields, or `MISSING` where the service does not know the customer."""
        timeout = httpx.Timeout(time_left, connect=min(time_left, self._config.connect_timeout))
        body = None if request.body is None else filled(request.body, given)
        sent = self._client.build_request(request.method, request.url.write(given), json=body, timeout=timeout)
        try:
            status, reply = await fetch(self._client, sent, self._config.max_body)
        except httpx.RemoteProtocolError:  # the service closed an idle connection just now
            if request.method != "GET":
                raise
            status, reply = await fetch(self._client, sent, self._config.max_body)
        if status in request.several:
            raise SeveralCustomers
        if status in request.unknown or status == 204:
            return MISSING
        if status in _AT_FAULT:
            raise Reject(f"answered {status}")
        if status != 200:
            raise BadReply(f"answered {status}")
        document = parse(reply)
        return document if request.records is None else _only(request.records.find(document))

    def _tls(self) -> ssl.SSLContext:
        config = self._config
        return client_context(config.ca, config.certificate, config.key)

    def _warnings(self) -> list[str]:
        config = self._config
        if config.bearer is None and config.basic is None and not config.secret_headers:
            return []
        plain = sorted({request.url.origin for request, _ in self._requests if request.url.origin.startswith("http:")})
        return [f"{origin} gets its credentials unencrypted" for origin in plain]


def _weight(error: BaseException) -> tuple[bool, bool]:
    """Sorts errors by weight: several customers first, a fault of the request last."""
    return not isinstance(error, SeveralCustomers), isinstance(error, Reject)


def _only(records: Any) -> Any:
    if records is MISSING or records is None:
        return MISSING
    if not isinstance(records, list):
        raise BadReply("records does not point to a list")
    if len(records) > 1:
        raise SeveralCustomers
    return records[0] if records else MISSING
