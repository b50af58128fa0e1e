"""The public endpoint. POST: token, body, hook, journal, answer. GET: token, custom values, answer.

This is the hot path, so it is a raw ASGI handler: Litestar's routing and injection would cost more than its own work. A
POST that arrives in one packet does not even get a task; see `Receiver.take`.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import defaultdict
from contextvars import Context
from functools import partial
from ipaddress import ip_address
from typing import Any, Final, NamedTuple

from gateway.config.tables import Config
from gateway.decoding import Decoded
from gateway.events import HOOKS, UNKNOWN
from gateway.http.body import BodyReader, Gone, TooLarge, TooSlow
from gateway.http.problems import (
    CLOSE,
    FAILED,
    JSON,
    PROBLEM,
    UNAUTHORIZED,
    Answer,
    Headers,
    answer,
    failed_id,
    log_failure,
    problem,
)
from gateway.http.request_id import RequestId
from gateway.http.tokens import TokenChecker, TokenRefused
from gateway.journal.interface import Intake, JournalError, Receipt
from gateway.large_bodies import LARGE
from gateway.log import REQUEST, RateLimit
from gateway.metrics import Metrics
from gateway.text import counted
from gateway.tracing import Append, Tracing
from gateway.unknown import UnknownNames
from gateway.values.service import CustomValues

log = logging.getLogger("gateway.receiver")

CUSTOM_VALUES: Final = "custom-values"
RETRY_AFTER: Final = (b"retry-after", b"5")
TAKEN_BYTES: Final = LARGE
"""The largest body of an event that is taken without a task."""
DRAIN_SECONDS: Final = 1.0
"""How long a body may still take when the gateway drains."""
UNAUTHORIZED_SECONDS: Final = 0.001
"""When a refused token is answered after its request was read. The checks of a token take about a quarter of it."""
TOLD: Final = 100
"""Events that are told of in a second at level debug, at most."""
_PORT: Final = re.compile(r"\[(.*)\](?::\d+)?|([\d.]+):\d+")


class Route(NamedTuple):
    """The hook that a path names, or `/` and a name that is none, or None, and the methods that it accepts."""

    hook: str | None
    methods: tuple[str, ...]


def routes(base: str) -> dict[str, Route]:
    """Every path of the public listener."""
    return {
        base: Route(None, ("GET", "POST")),
        f"{base}/{CUSTOM_VALUES}": Route(None, ("GET",)),
        **{f"{base}/{hook}": Route(hook, ("POST",)) for hook in HOOKS},
    }


class Receiver:
    """Answers every request at the paths of `routes`, and each POST to another path below the base path."""

    def __init__(self, config: Config, journal: Intake, values: CustomValues, metrics: Metrics) -> None:
        server = config.server
        self.routes = routes(server.path)
        self._below = f"{server.path}/"
        self._max_body = server.max_body
        self._bodies = BodyReader(server.max_body, server.body_timeout)
        self._allowed = server.allowed_networks
        self.proxies = server.trusted_proxies
        self._tokens = TokenChecker(config.organisations)
        self._journal = journal
        self._values = values
        self._targets = {path.encode(): route.hook for path, route in self.routes.items() if "POST" in route.methods}
        self._metrics = metrics
        self._refusals: defaultdict[str, RateLimit] = defaultdict(lambda: RateLimit(log))
        """A limit for each reason, so that many refusals for one reason do not hide those for another."""
        self.tracing: Tracing | None = None
        self._told = RateLimit(log, TOLD)
        """For the lines at level debug about each request."""
        self._unknown = UnknownNames(config)
        self._post_seconds = metrics.seconds["event"]
        self._get_seconds = metrics.seconds["custom_values"]

    def apply(self, config: Config) -> None:
        """Check tokens and name hooks by another config from the next request on."""
        self._tokens = TokenChecker(config.organisations, before=self._tokens)
        self._unknown = UnknownNames(config)

    def secrets_last_used(self) -> dict[tuple[str, int], float]:
        """See `SecretUses.last`."""
        return self._tokens.uses.last()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        began = time.perf_counter()
        method, (hook, methods) = scope["method"], self.routes.get(scope["path"]) or self._named(scope["path"])
        if method not in methods:
            headers = ((b"allow", ", ".join(methods).encode()),)
            await self._refuse(scope, send, 405, "method", "This method is not allowed here.", headers)
            return
        if self._allowed and not self._is_allowed(self.client(scope)):
            await self._refuse(scope, send, 403, "address", "This address is not allowed.")
            return
        try:
            organisation = self._tokens.check(scope["headers"])
        except TokenRefused as refused:
            self.note(scope, 401, refused.code, f"{refused.reason} (token {refused.fingerprint or '-'})")
            # At the same time for every reason, so that the time does not tell how far the token got. A timer of the
            # loop is not exact enough; other requests go on meanwhile.
            while time.perf_counter() < began + UNAUTHORIZED_SECONDS:  # noqa: ASYNC110
                await asyncio.sleep(0)
            await answer(send, 401, PROBLEM, UNAUTHORIZED, CLOSE)
            return
        if method == "POST":
            if self.tracing is None:
                await self._post(scope, receive, send, organisation, hook, self._journal.append)
            else:
                trace = self.tracing.request(scope["headers"])
                append = trace.appending(self._journal.append)
                await self._post(scope, receive, trace.watching(send), organisation, hook, append)
                trace.end()
            self._post_seconds.observe(time.perf_counter() - began)
        else:
            await self._get(scope, send, organisation)
            self._get_seconds.observe(time.perf_counter() - began)

    def takes(self, method: str, path: str) -> bool:
        """Whether a request is the receiver's: one to a path of `routes`, or an event at any path below the base."""
        return path in self.routes or (method == "POST" and path.startswith(self._below))

    def _named(self, path: str) -> Route:
        """The route of a path that is not one of `routes`: its name is looked up like a `type`, once the token is
        known to be good."""
        name = path[len(self._below) :].strip("/")
        return self.routes.get(f"{self._below}{name}".rstrip("/")) or Route(f"/{name}", ("POST",))

    async def _post(
        self, scope: Any, receive: Any, send: Any, organisation: str, hook: str | None, append: Append
    ) -> None:
        try:
            raw = await self._bodies.read(scope["headers"], receive)
            decoder = self._journal.decoder
            if len(raw) <= LARGE:
                decoded = decoder.decode(organisation, raw, hook)
            else:
                decoded = await decoder.decode_large(organisation, raw, hook)
            receipt = await append(organisation, decoded, raw)
        except TooLarge:
            detail = f"The body is larger than {counted(self._max_body, 'byte')}."
            await self._refuse(scope, send, 413, "size", detail, CLOSE)
        except TooSlow:
            await self._refuse(scope, send, 408, "slow", "The body did not arrive in time.", CLOSE)
        except Gone:
            await self._refuse(scope, send, 400, "gone", "The body is incomplete, or its chunks are not valid.", CLOSE)
        except ValueError as error:
            await self._refuse(scope, send, 400, "json", f"The body is not an event: {error}.")
        except JournalError as error:
            await answer(send, *self._cannot_keep(error))
        else:
            await answer(send, 200, JSON, self._kept(organisation, decoded, receipt))

    def _kept(self, organisation: str, decoded: Decoded, receipt: Receipt) -> bytes:
        """Count an event that the journal has kept; returns the body of its answer."""
        kind = "duplicate" if receipt.duplicate else "new" if receipt.readable else "unreadable"
        self._metrics.received[organisation, receipt.hook, kind] += 1
        if receipt.hook == UNKNOWN and not receipt.duplicate:
            self._unknown.note(decoded.name, receipt.id)
        self._told.debug("200 POST: kept as %s (%s)", receipt.hook, kind, event_id=receipt.id)
        return b'{"id":"%b","hook":"%b","duplicate":%b,"readable":%b}' % (
            receipt.id.encode(),
            receipt.hook.encode(),
            b"true" if receipt.duplicate else b"false",
            b"true" if receipt.readable else b"false",
        )

    def _cannot_keep(self, error: JournalError) -> tuple[int, bytes, bytes, Headers]:
        """Count an event that the journal has refused; returns its answer. The journal has told the log why, once."""
        self._metrics.refused["503", "journal"] += 1
        self._told.debug("503 POST: cannot keep an event: %s", error)
        return 503, PROBLEM, problem(503, "The gateway cannot keep the event now; send it again later."), (RETRY_AFTER,)

    def take(self, target: bytes, headers: Headers, raw: bytes, answer: Answer) -> bool:
        """Take an event whose body arrived together with its head, without a task of its own, which would cost more
        than to decode and keep the event. Everything out of the ordinary is left to `__call__`, which knows the answer
        to each; see `gateway.serving.exchange.Take`."""
        began = time.perf_counter()
        hook = self._targets.get(target, "")
        if hook == "" or self._allowed or len(raw) > TAKEN_BYTES or len(raw) > self._max_body:
            return False
        if self.tracing is not None or log.isEnabledFor(logging.DEBUG):  # the line about it has the request's id
            return False
        organisation = self._tokens.cached(headers)
        if organisation is None:
            return False
        try:
            decoded = self._journal.decoder.decode(organisation, raw, hook)
            self._journal.append_then(
                organisation, decoded, raw, partial(self._taken, answer, organisation, decoded, began)
            )
        except (ValueError, JournalError):
            return False
        return True

    def _taken(
        self, answer: Answer, organisation: str, decoded: Decoded, began: float, outcome: Receipt | JournalError
    ) -> None:
        if isinstance(outcome, JournalError):
            answer(*Context().run(self._failed, outcome))
        else:
            try:
                body = self._kept(organisation, decoded, outcome)
            except Exception as error:  # the others of its group are still to be answered
                answer(*Context().run(self._failed, error))
            else:
                answer(200, JSON, body, ())
        self._post_seconds.observe(time.perf_counter() - began)

    def _failed(self, error: Exception) -> tuple[int, bytes, bytes, Headers]:
        """Log a request that has no task, and so no context; returns its answer."""
        REQUEST.set(RequestId())
        if isinstance(error, JournalError):
            status, media_type, body, headers = self._cannot_keep(error)
        else:
            log_failure(log, error)
            status, media_type, body, headers = 503, PROBLEM, problem(503, FAILED), ()
        return status, media_type, body, (*headers, *failed_id())

    async def _get(self, scope: Any, send: Any, organisation: str) -> None:
        reply = await self._values.answer(organisation, scope["query_string"])
        self._metrics.values[organisation, str(reply.status)] += 1
        if reply.status != 200:
            self._complain(scope, reply.status, "values", reply.reason())
        await answer(send, reply.status, reply.media_type.encode(), reply.body)

    def drain(self) -> None:
        """Give the bodies that are being read `DRAIN_SECONDS`: the gateway waits for their requests."""
        self._bodies.drain(DRAIN_SECONDS)

    def note(self, scope: Any, status: int, reason: str, sentence: str) -> None:
        """Count a refusal and log it. `reason` is a label of the metrics: a short word from a fixed set."""
        self._metrics.refused[str(status), reason] += 1
        self._complain(scope, status, reason, sentence)

    def _complain(self, scope: Any, status: int, reason: str, sentence: str) -> None:
        self._refusals[reason].warning(
            "%d %.20s from %s: %s", status, scope["method"], self.client(scope) or "no address", sentence
        )

    def _is_allowed(self, address: str | None) -> bool:
        return address is not None and any(address in network for network in self._allowed)

    def client(self, scope: Any) -> str | None:
        """The client's address, or None where a trusted proxy does not tell it. Behind trusted proxies, it is the last
        address of X-Forwarded-For that is not one of theirs: the client can write what stands before it."""
        address = str(scope["client"][0]) if scope.get("client") else ""
        if not any(address in network for network in self.proxies):
            return address
        forwarded = [value for name, value in scope["headers"] if name == b"x-forwarded-for"]
        for hop in reversed(b",".join(forwarded).decode("latin-1").split(",")):
            found = _address(hop.strip())
            if found is None:
                return None
            address = found
            if not any(address in network for network in self.proxies):
                break
        return address

    async def _refuse(self, scope: Any, send: Any, status: int, reason: str, detail: str, headers: Any = ()) -> None:
        self.note(scope, status, reason, detail)
        await answer(send, status, PROBLEM, problem(status, detail), headers)


def _address(hop: str) -> str | None:
    """A hop of X-Forwarded-For as an address, or None where it is not one. The port that some proxies add is removed.
    A zone (`%eth0`) is refused, since it may be any text."""
    match = _PORT.fullmatch(hop)
    try:
        return None if "%" in hop else str(ip_address(hop if match is None else match[1] or match[2]))
    except ValueError:
        return None
