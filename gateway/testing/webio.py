"""A Webio for tests: sends events of any hook, good and bad, and asks for custom values, over HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx

from gateway import simulate
from gateway.events import HOOKS
from gateway.simulate import HttpAnswer
from gateway.testing.factories import CUSTOMER, ORGANISATION, make_body

BROKEN_BODIES: Final[Mapping[str, tuple[bytes, int]]] = {
    "empty": (b"", 400),
    "not JSON": (b"amount=12.50", 400),
    "cut off": (b'{"type": "payment", "amount": "12', 400),
    "an array": (b'[{"type": "payment"}]', 400),
    "a number": (b"12.50", 400),
    "not UTF-8": (b'{"type": "payment", "name": "\xff"}', 400),
    "half a character": (b'{"type": "payment", "name": "\\ud83d"}', 200),
    "no type": (b'{"amount": "12.50"}', 200),
    "an unknown type": (b'{"type": "newType", "amount": "12.50"}', 200),
    "fields that do not fit": (b'{"type": "inboundMessage", "body": {"text": "hello"}}', 200),
    "a number for a text": (b'{"type": "payment", "conversationId": 97847, "customerUID": 123456}', 200),
    "null for a text": (b'{"type": "payment", "conversationId": null, "customerUID": null}', 200),
    "deep": (b'{"type": "payment", "a": ' + b"[" * 60 + b"]" * 60 + b"}", 200),
}
"""Bodies that a plugin must not stumble over, with the status that the gateway answers: 200 where the body is a JSON
object, which is an event whatever is in it."""


class Webio:
    """Sends requests to one gateway as Webio does, with the token of an organisation."""

    def __init__(self, http: httpx.AsyncClient, path: str, tokens: Mapping[str, str]) -> None:
        self._http = http
        self._path = path
        self._tokens = tokens

    async def post(
        self, body: bytes | Mapping[str, Any], hook: str | None = None, *, organisation: str = ORGANISATION
    ) -> HttpAnswer:
        """Send a body as it is; `hook` is added to the path."""
        content = body if isinstance(body, bytes) else simulate.encode(dict(body))
        path = self._path if hook is None else f"{self._path}/{hook}"
        headers = self._headers(organisation) | {"content-type": "application/json"}
        return _answer(await self._http.post(path, content=content, headers=headers))

    async def send(self, hook: str = "payment", *, organisation: str = ORGANISATION, **fields: Any) -> str:
        """Send a new event, with `fields` as in `make_body`, that the gateway must take; returns its id."""
        return _taken(await self.post(make_body(hook, **fields), organisation=organisation))

    async def send_all(self, **fields: Any) -> dict[str, str]:
        """Send an event of each hook, all in one conversation, and one of an unknown type; returns their ids by
        hook."""
        fields = {"conversationId": simulate.body("payment")["conversationId"], **fields}
        return {hook: await self.send(hook, **fields) for hook in (*HOOKS, "unknown")}

    async def send_twice(self, hook: str = "payment", **fields: Any) -> str:
        """Send one event two times, as Webio does where an answer got lost. The gateway must take the second for the
        duplicate that it is. Returns the id."""
        body = make_body(hook, **fields)
        first, second = await self.post(body), await self.post(body)
        if not (_taken(first) == _taken(second) and second.document["duplicate"]):
            raise AssertionError(f"the same body was taken for two events: {first.document} and {second.document}")
        return _taken(first)

    async def send_burst(
        self, count: int, hook: str = "payment", *, at_once: int = 32, conversations: int | None = None
    ) -> list[str]:
        """Send `count` events, up to `at_once` at the same time, in so many `conversations` (default: each in its own).
        Returns their ids, in the order of their bodies."""
        names = [simulate.body(hook)["conversationId"] for _ in range(min(conversations or 0, count))]
        gate = asyncio.Semaphore(at_once)

        async def one(number: int) -> str:
            async with gate:
                return await self.send(hook, **({"conversationId": names[number % len(names)]} if names else {}))

        return list(await asyncio.gather(*map(one, range(count))))

    async def send_broken(self) -> dict[str, HttpAnswer]:
        """Send each of `BROKEN_BODIES`, which must be answered as it says there; returns the answers."""
        answers = {}
        for name, (body, status) in BROKEN_BODIES.items():
            answers[name] = await self.post(body)
            if answers[name].status != status:
                raise AssertionError(f"the body {name!r} was answered {answers[name].status}, expected {status}")
        return answers

    async def ask(
        self,
        *fields: str,
        customer_uid: str | None = CUSTOMER,
        address: str | None = None,
        organisation: str = ORGANISATION,
    ) -> HttpAnswer:
        """Ask for custom values. The document is the values by field, or a problem where the status is not 200."""
        query = simulate.query(fields, customer_uid, address)
        return _answer(await self._http.get(self._path, params=query, headers=self._headers(organisation)))

    async def values(self, *fields: str, **who: Any) -> dict[str, str]:
        """The values by field of an `ask` that must be answered 200."""
        answer = await self.ask(*fields, **who)
        if answer.status != 200:
            raise AssertionError(f"the request for {_listed(fields)} was answered {answer.status}: {answer.document}")
        return answer.document

    def _headers(self, organisation: str) -> dict[str, str]:
        if organisation not in self._tokens:
            raise ValueError(f"the config has no organisation {organisation!r}; it has {_listed(list(self._tokens))}")
        return {"x-webio-token": self._tokens[organisation]}


def _answer(response: httpx.Response) -> HttpAnswer:
    document = response.json() if response.content else {}
    return HttpAnswer(response.status_code, document if isinstance(document, dict) else {})


def _taken(answer: HttpAnswer) -> str:
    if answer.status != 200:
        raise AssertionError(f"an event was answered {answer.status}: {answer.document.get('detail')}")
    return str(answer.document["id"])


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
