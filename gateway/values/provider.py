"""Asking providers: each under its own timeout and circuit breaker, all together under one deadline."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import msgspec

from gateway.events import CustomValueRequest
from gateway.hookspecs import Reject, SeveralCustomers
from gateway.plugin_host.call import Caller, CallTimeout, Impl, PluginFault, Stuck, Threads, describe
from gateway.plugin_host.load import Plugin
from gateway.values.answer import FAILED, LATE, SEVERAL, SKIPPED
from gateway.values.breaker import Breaker

THREADS: Final = 32
"""Threads of a provider that is a plain `def`; its events have threads of their own."""
LOG_EVERY: Final = 10.0
"""Seconds between two log lines about the same provider's failures."""

DECLARE_EVERY: Final = 10.0
"""Seconds until a provider that could not say which fields it knows is asked again, after it has answered."""

_KEYS: Final = frozenset({"customer_uid", "outbound_channel_address"})
_log = logging.getLogger("gateway.values")


class Reply(msgspec.Struct, frozen=True):
    """What a provider said: values by field (None is null), or why there are none; and after how long."""

    values: Mapping[str, Any]
    failure: str | None
    ms: float


class ProviderHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One provider's state for `/health/ready` and metrics. `breaker` is closed, open or half-open; `failures` are
    those in a row; the others count since the start."""

    name: str
    breaker: str
    failures: int
    asked: int
    failed: int
    late: int
    skipped: int


class Provider:
    """A plugin that has a `custom_values` hook."""

    def __init__(self, plugin: Plugin, timeout: float | None, monotonic: Callable[[], float]) -> None:
        """`timeout` is the provider's own, in seconds; None: whatever is left of the request's deadline."""
        self.name = plugin.name
        self.breaker = Breaker(monotonic)
        self._plugin = plugin
        self._timeout = timeout
        self._monotonic = monotonic
        self._declared: dict[str, frozenset[str]] | None = None  # field to the keys it can be looked up by
        self._asked = self._failed = self._late = self._skipped = 0
        self._last_line = float("-inf")
        self._unlogged = 0
        self._declare_again = float("inf")
        self._declaring: asyncio.Future[None] | None = None
        impl = plugin.hooks["custom_values"]
        self.blocking = not impl.is_async
        self._threads = Threads(f"{plugin.name}-values", THREADS) if self.blocking else None
        self._impl = Impl(impl.name, _in_time(impl)) if self.blocking else impl
        self._caller = plugin.caller if self._threads is None else Caller(self._threads)

    @property
    def declared(self) -> Collection[str]:
        return self._declared or ()

    def may_know(self, field: str) -> bool:
        return self._declared is None or field in self._declared

    def may_know_by_uid(self, field: str) -> bool:
        """Whether it said that it can look the field up by the customer UID, or has not said anything yet."""
        return self._declared is None or "customer_uid" in self._declared.get(field, ())

    async def declare(self, timeout: float) -> None:
        """Ask which fields it can know; whatever goes wrong, only a look-up tells."""
        impl = self._plugin.hooks.get("custom_value_fields")
        if impl is None:
            return
        self._declare_again = self._monotonic() + DECLARE_EVERY
        try:
            names = await self._plugin.caller.call(impl, timeout=timeout)
            if names is not None and self._declared is None:
                self._declared = _declaration(names)
        except (PluginFault, CallTimeout, Stuck, TypeError) as error:
            _log.warning("provider %s does not say which fields it knows: %s", self.name, _reason(error))

    async def ask(
        self,
        organisation: str,
        fields: tuple[str, ...],
        customer_uid: str | None,
        address: str | None,
        not_by_address: frozenset[str],
        expires: float,
    ) -> Reply:
        """Its reply about those fields; never raises, but for a cancellation from outside."""
        started = self._monotonic()
        if not self.breaker.allows():
            self._skipped += 1
            return Reply({}, SKIPPED, 0.0)
        self._asked += 1
        timeout = expires - started
        if self._timeout is not None:
            timeout = min(timeout, self._timeout)
        request = CustomValueRequest(
            organisation=organisation,
            fields=fields,
            customer_uid=customer_uid,
            outbound_channel_address=address,
            not_by_address=not_by_address.intersection(fields),
            expires=started + timeout,
        )
        values: Mapping[str, Any] = {}
        failure = None
        try:
            values = _chosen(await self._caller.call(self._impl, request, timeout=max(0.0, timeout)), fields)
            self._answered(values)
            if self._declared is None and self._monotonic() >= self._declare_again:
                self._declaring = asyncio.ensure_future(self.declare(timeout))
        except CallTimeout as error:
            failure = LATE
            self._broke(error)
        except PluginFault as error:
            failure = failure_of(error.cause)
            if failure == SEVERAL:
                self.breaker.succeeded()
            elif isinstance(error.cause, Reject):
                self.breaker.succeeded()
                self._complain(error)
            else:
                self._broke(error)
        except (Stuck, TypeError) as error:
            failure = FAILED
            self._broke(error)
        except BaseException:
            self.breaker.released()
            raise
        self._late += failure == LATE
        return Reply(values, failure, round((self._monotonic() - started) * 1000, 2))

    def _answered(self, values: Mapping[str, Any]) -> None:
        """It gave values, among them perhaps failures of single fields; it works where one of them is none."""
        failures = [value for value in values.values() if isinstance(value, Exception)]
        if failures and len(failures) == len(values):
            self.breaker.failed()
        else:
            self.breaker.succeeded()
        if failures:
            self._complain(PluginFault(failures[0]))

    def gave_nonsense(self, error: Exception) -> None:
        """It gave a field something that is no value."""
        self._complain(error)

    def health(self) -> ProviderHealth:
        return ProviderHealth(
            name=self.name,
            breaker=self.breaker.state,
            failures=self.breaker.failures,
            asked=self._asked,
            failed=self._failed,
            late=self._late,
            skipped=self._skipped,
        )

    def close(self) -> None:
        if self._threads is not None:
            self._threads.close()

    def _broke(self, error: Exception) -> None:
        self.breaker.failed()
        self._complain(error)

    def _complain(self, error: Exception) -> None:
        self._failed += 1
        now = self._monotonic()
        if now - self._last_line < LOG_EVERY:
            self._unlogged += 1
            return
        more = f" (and {self._unlogged} more failures since the last line)" if self._unlogged else ""
        self._last_line, self._unlogged = now, 0
        state = self.breaker.state
        _log.warning("provider %s failed: %s; breaker %s%s", self.name, _reason(error), state, more)


async def ask_together(
    asks: Mapping[Provider, tuple[str, ...]],
    ask: Callable[[Provider, tuple[str, ...]], Any],
    decided: Callable[[Mapping[str, Reply]], bool],
) -> dict[str, Reply]:
    """Replies by provider, as soon as they decide every field. Those still out then are needed by nobody: async
    ones are cancelled, blocking ones run out in their thread."""
    if len(asks) == 1:
        [(provider, fields)] = asks.items()
        return {provider.name: await ask(provider, fields)}
    tasks = {asyncio.ensure_future(ask(provider, fields)): provider for provider, fields in asks.items()}
    replies: dict[str, Reply] = {}
    pending: set[asyncio.Future[Reply]] = set(tasks)
    try:
        while pending and not decided(replies):
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            replies.update((tasks[task].name, task.result()) for task in done)
    finally:
        for task in pending:
            if not tasks[task].blocking:
                task.cancel()
    return replies


def _declaration(names: object) -> dict[str, frozenset[str]]:
    """Keys by field; `TypeError` where a hook returned something else."""
    if isinstance(names, str) or not isinstance(names, Collection):
        raise TypeError("custom_value_fields must return a collection of names, a mapping of them to keys, or None")
    if not isinstance(names, Mapping):
        return {str(name): frozenset() for name in names}
    found = {}
    for name, keys in names.items():
        if isinstance(keys, str) or not isinstance(keys, Collection) or not _KEYS.issuperset(keys):
            raise TypeError(f"custom_value_fields: a field's keys are a collection of {' and '.join(sorted(_KEYS))}")
        found[str(name)] = frozenset(keys)
    return found


def _chosen(result: Any, fields: tuple[str, ...]) -> Mapping[str, Any]:
    """Only what was asked for counts; `TypeError` where the result is no mapping."""
    if type(result) is dict:
        return result
    if not isinstance(result, Mapping):
        raise TypeError(f"custom_values must return a mapping, not {type(result).__name__}")
    try:
        return {field: result[field] for field in fields if field in result}
    except Exception as error:
        raise TypeError(f"custom_values returned a mapping that cannot be read: {describe(error)}") from None


def _in_time(impl: Impl) -> Callable[[CustomValueRequest], Any]:
    """A call that had to wait for a thread until its time was over is not made at all."""

    def call(request: CustomValueRequest) -> Any:
        return impl.call(request) if request.time_left > 0 else {}

    return call


def failure_of(cause: BaseException) -> str:
    """The outcome of a field that failed with this."""
    if isinstance(cause, SeveralCustomers):
        return SEVERAL
    return LATE if isinstance(cause, TimeoutError) else FAILED


def _reason(error: Exception) -> str:
    if isinstance(error, CallTimeout):
        return "no answer in time"
    return describe(error.cause if isinstance(error, PluginFault) else error)
