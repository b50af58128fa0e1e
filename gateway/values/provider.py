"""Asking the providers of custom values: each under its own time bound and circuit breaker, together under one
deadline."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Hashable, Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from gateway.events import QUESTION_KEYS, CustomValueRequest
from gateway.hookspecs import Reject, SeveralCustomers
from gateway.metrics import Histogram
from gateway.plugin_host.call import Caller, CallTimeout, Impl, PluginFault, Stuck, Threads
from gateway.plugin_host.load import Plugin
from gateway.text import counted
from gateway.values.answer import FAILED, LATE, SEVERAL, SKIPPED, STARTING
from gateway.values.breaker import FIRST_PAUSE, LONGEST_PAUSE, Breaker
from gateway.values.question import Question

THREADS: Final = 32
"""Threads for the `custom_values` hook of a provider that is a plain `def`. Its events run in other threads."""
DECLARE_EVERY: Final = 10.0
"""Seconds until a provider that did not say which fields it knows is asked for them again, after it has answered."""
_log = logging.getLogger("gateway.values")


class UnusableReply(TypeError):
    """A hook returned something of another shape than the contract's. The message contains nothing of it."""


class Reply(msgspec.Struct, frozen=True):
    """A provider's values by field (None is null), or the outcome of its failure; and how many milliseconds it took."""

    values: Mapping[str, Any]
    failure: str | None
    ms: float


class ProviderHealth(msgspec.Struct, kw_only=True):
    """One provider's state for `/health/ready` and the metrics: starting or started. `breaker` is closed, open or
    half-open. `failures` counts failures in a row; `asked`, `failed`, `late` and `skipped` count requests since the
    start."""

    name: str
    state: str = "starting"
    breaker: str = "closed"
    failures: int = 0
    asked: int = 0
    failed: int = 0
    late: int = 0
    skipped: int = 0
    blocked: str | None = None
    """Where its event loop is blocked, as a sentence, or None."""


class Provider:
    """A plugin that has a `custom_values` hook."""

    def __init__(self, plugin: Plugin, monotonic: Callable[[], float]) -> None:
        self.name = plugin.name
        self.breaker = Breaker(monotonic)
        self._plugin = plugin
        own = plugin.settings
        self.bounded_by_delivery = own.values_timeout is None and own.timeout is not None
        """Whether `timeout`, which bounds the delivery of events, bounds custom values, too: deprecated."""
        self._timeout = own.timeout if own.values_timeout is None else own.values_timeout
        self._monotonic = monotonic
        self._keys: dict[str, frozenset[str]] | None = None  # by field; None: not declared
        self._health = ProviderHealth(name=plugin.name)
        self.seconds = Histogram()
        """How long each request to it took, whatever its end."""
        self._opened = 0.0
        self.ready = asyncio.Event()
        """Set once it has started and its fields are known; a request before that fails."""
        self._declare_again = float("inf")
        self._declaring: asyncio.Future[None] | None = None
        impl = plugin.hooks["custom_values"]
        self.blocking = not impl.is_async
        self._threads = Threads(f"{plugin.name}-values", THREADS) if self.blocking else None
        self._impl = Impl(impl.name, _unless_late(impl)) if self.blocking else impl
        self._caller = plugin.caller if self._threads is None else Caller(self._threads, plugin.loop)

    @property
    def declared(self) -> Collection[str]:
        """The fields that it said it may know; empty where it said nothing."""
        return self._keys or ()

    def may_know(self, field: str) -> bool:
        return self._keys is None or field in self._keys

    def may_know_by_uid(self, field: str) -> bool:
        """Whether it may look the field up by the customer UID: it said so, or it has not said anything yet."""
        return self._keys is None or "customer_uid" in self._keys.get(field, ())

    async def begin(self, timeout: float) -> None:
        """`open` it as soon as its plugin has started."""
        await self._plugin.startup.done.wait()
        await self.open(timeout)

    async def open(self, timeout: float) -> None:
        """Ask which fields it may know, for at most `timeout` seconds, and accept requests."""
        await self.declare(timeout)
        self.ready.set()

    async def declare(self, timeout: float) -> None:
        """Ask which fields it may know. Any failure is logged, and the provider is then asked for every field."""
        impl = self._plugin.hooks.get("custom_value_fields")
        if impl is None:
            return
        self._declare_again = self._monotonic() + DECLARE_EVERY
        try:
            names = await self._plugin.caller.call(impl, timeout=timeout)
            if names is not None and self._keys is None:
                self._keys = _keys_by_field(names)
        except (PluginFault, CallTimeout, Stuck, TypeError) as error:
            cause = error.cause if isinstance(error, PluginFault) else error
            told = self._plugin.faults.told(cause)
            _log.warning("provider %s does not say which fields it knows: %s", self.name, told)

    async def ask(self, question: Question, not_by_address: frozenset[str], expires: float) -> Reply:
        """Its reply, before `expires` (on the monotonic clock). Raises only the cancellation of the caller."""
        started = self._monotonic()
        if not self.ready.is_set():
            return Reply({}, STARTING, 0.0)
        customer = (question.organisation, question.address or question.customer_uid)
        if not self.breaker.allows(customer):
            self._health.skipped += 1
            return Reply({}, SKIPPED, 0.0)
        self._health.asked += 1
        timeout = expires - started
        if self._timeout is not None:
            timeout = min(timeout, self._timeout)
        fields = question.fields
        request = CustomValueRequest(
            organisation=question.organisation,
            fields=fields,
            customer_uid=question.customer_uid,
            outbound_channel_address=question.address,
            not_by_address=not_by_address.intersection(fields),
            expires=started + timeout,
        )
        values: Mapping[str, Any] = {}
        failure = None
        try:
            values = _chosen(await self._caller.call(self._impl, request, timeout=max(0.0, timeout)), fields)
            self._answered(values, customer)
            if self._keys is None and self._monotonic() >= self._declare_again:
                self._declaring = asyncio.ensure_future(self.declare(timeout))
        except (CallTimeout, PluginFault, Stuck, TypeError) as error:
            cause = error.cause if isinstance(error, PluginFault) else error
            failure = failure_of(cause)
            if isinstance(cause, SeveralCustomers | Reject):
                self._succeeded()
            else:
                self._failed(cause, customer)
            if failure != SEVERAL:
                self.log_failure(cause)
        except BaseException:
            self.breaker.released()
            raise
        self._health.late += failure == LATE
        seconds = self._monotonic() - started
        self.seconds.observe(seconds)
        return Reply(values, failure, round(seconds * 1000, 2))

    def _answered(self, values: Mapping[str, Any], customer: Hashable) -> None:
        """It returned values, some of which may be failures of single fields. It counts as failed where all are."""
        failures = [value for value in values.values() if isinstance(value, Exception)]
        if failures and len(failures) == len(values):
            self._failed(failures[0], customer)
        else:
            self._succeeded()
        if failures:
            self.log_failure(failures[0])

    def _failed(self, error: BaseException, customer: Hashable) -> None:
        was_closed, was_about_one = self.breaker.state == "closed", self.breaker.about_one
        self.breaker.failed(customer)
        opened, widened = was_closed and self.breaker.state != "closed", was_about_one and not self.breaker.about_one
        if not (opened or widened):
            return
        if opened:
            self._opened = self._monotonic()
        about, skipped = ("", "all requests for its fields")
        if self.breaker.about_one:
            about, skipped = ", all about one customer", "requests about this customer, and no others,"
        _log.error(
            "provider %s: breaker %s after %s in a row%s, the last: %s; %s fail without it being asked, and it is tried"
            " again every %g s to %g s",
            self.name, "opened" if opened else "open for all customers", counted(self.breaker.failures, "failure"),
            about, self._plugin.faults.told(error), skipped, FIRST_PAUSE, LONGEST_PAUSE,
        )  # fmt: skip

    def _succeeded(self) -> None:
        was_closed = self.breaker.state == "closed"
        self.breaker.succeeded()
        if not was_closed:
            _log.warning("provider %s: breaker closed after %.0f s", self.name, self._monotonic() - self._opened)

    def health(self) -> ProviderHealth:
        blocked = self._plugin.loop.blocked
        return replace(
            self._health,
            state="started" if self.ready.is_set() else "starting",
            breaker=self.breaker.state,
            failures=self.breaker.failures,
            blocked=None if blocked is None else str(blocked),
        )

    def close(self) -> None:
        if self._threads is not None:
            self._threads.close()

    def log_failure(self, error: BaseException) -> None:
        self._health.failed += 1
        self._plugin.faults.warning(_log, f"provider {self.name}", error, f"; breaker {self.breaker.state}")


async def ask_together(
    asks: Mapping[Provider, Question],
    ask: Callable[[Provider, Question], Coroutine[Any, Any, Reply]],
    decided: Callable[[Mapping[str, Reply]], bool],
) -> dict[str, Reply]:
    """Replies by provider, as soon as they decide every field. The calls that are still running then are cancelled
    where they are async; those in threads run to their end, and their replies are dropped."""
    if len(asks) == 1:
        [(provider, question)] = asks.items()
        return {provider.name: await ask(provider, question)}
    tasks = {asyncio.ensure_future(ask(provider, question)): provider for provider, question in asks.items()}
    replies: dict[str, Reply] = {}
    pending = set(tasks)
    try:
        while pending and not decided(replies):
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            replies.update((tasks[task].name, task.result()) for task in done)
    finally:
        for task in pending:
            if not tasks[task].blocking:
                task.cancel()
    return replies


def _keys_by_field(names: object) -> dict[str, frozenset[str]]:
    """What `custom_value_fields` returned; `UnusableReply` where that has another shape."""
    if isinstance(names, str) or not isinstance(names, Collection):
        raise UnusableReply("custom_value_fields must return a collection of names, a mapping of them to keys, or None")
    if not isinstance(names, Mapping):
        return {str(name): frozenset() for name in names}
    found = {}
    for name, keys in names.items():
        if isinstance(keys, str) or not isinstance(keys, Collection) or not set(QUESTION_KEYS).issuperset(keys):
            raise UnusableReply(f"custom_value_fields: expected keys among {', '.join(QUESTION_KEYS)} for each field")
        found[str(name)] = frozenset(keys)
    return found


def _chosen(result: Any, fields: tuple[str, ...]) -> Mapping[str, Any]:
    """The result as a mapping with at least the fields asked for that it has; `UnusableReply` for anything else."""
    if type(result) is dict:
        return result
    if not isinstance(result, Mapping):
        raise UnusableReply(f"custom_values must return a mapping, not {type(result).__name__}")
    try:
        return {field: result[field] for field in fields if field in result}
    except Exception as error:
        raise UnusableReply(f"custom_values returned a mapping that cannot be read ({type(error).__name__})") from None


def _unless_late(impl: Impl) -> Callable[[CustomValueRequest], Any]:
    """The implementation, not called at all where the request waited for a thread until its time was over."""

    def call(request: CustomValueRequest) -> Any:
        return impl.call(request) if request.time_left > 0 else {}

    return call


def failure_of(cause: BaseException) -> str:
    """The outcome of a field whose look-up raised `cause`."""
    if isinstance(cause, SeveralCustomers):
        return SEVERAL
    return LATE if isinstance(cause, TimeoutError | CallTimeout) else FAILED
