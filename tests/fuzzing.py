"""Malformed requests, made from a seed, and a run of them against a running gateway."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import re
from collections import Counter
from typing import Any, NamedTuple

import httpx
import psutil
from raw_http import Requests
from running import RunningGateway

from gateway import simulate
from gateway.events import HOOKS

INTERESTING = [b"\0", b"\xff", b"\xc0\x80", b"\xef\xbb\xbf", b"\r\n", b"\n", b"\r\n\r\n", b"\\u0000", b"\\ud800"]
INTERESTING += [b"NaN", b"Infinity", b"-0", b"1e999", b"-1e-999", b"1e-99999999999", b"9" * 400, b"9" * 5000]
INTERESTING += [b"[" * 600, b'{"a":' * 600, b"{}", b"[]", b'""', b"null", b"true", b"//", b"/*", b"'", b'"', b"\\"]
INTERESTING += [b'"type":', b'"dateCreated":"0000-00-00 00:00:00",', b'"dateCreated":"9999-12-31 23:59:59.999",']
INTERESTING += [b"../../etc/passwd", b"' OR 1=1 --", b"<script>", b"${jndi:ldap://127.0.0.1}", b"%s%n", b"%00", b"%ff"]
SCALARS: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**63,
    2**64,
    10**400,
    0.1,
    -0.0,
    1e308,
    "",
    "\0",
    "é",
    "😀",
    "x" * 5000,
]
SCALARS += ["2021-01-28 12:22:15.397", "0001-01-01 00:00:00", "9999-12-31 23:59:59.9+14:00", "120.50", "null", "NaN"]
NAMES = ["type", "conversationId", "communicationActionId", "communicationActionID", "customerUID", "dateCreated"]
NAMES += ["outboundChannelAddress", "inboundChannelAddress", "body", "statusCode", "extra", "", "id"]
HEADERS = (b"host", b"content-type", b"x-forwarded-for", b"accept", b"cookie", b"expect", b"x")
NUMBERS = (0, 1, 2, 7, 64, 65, -1, 10**30)


class Maker:
    """Makes requests; the same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def mutated(self, data: bytes, most: int = 6) -> bytes:
        """The bytes with a few of them changed, lost, repeated, or something interesting put in between."""
        pick, changed = self._random, bytearray(data)
        for _ in range(pick.randint(1, most)):
            at = pick.randint(0, len(changed))
            kind = pick.randrange(6)
            if kind == 0:
                changed[at:at] = pick.choice(INTERESTING)
            elif kind == 1:
                changed[at:at] = pick.randbytes(pick.randint(1, 8))
            elif kind == 2:
                del changed[at : at + pick.randint(1, 20)]
            elif kind == 3:
                changed[at:at] = changed[at : at + pick.randint(1, 40)]
            elif at < len(changed):
                changed[at] = pick.randrange(256) if kind == 4 else changed[at] ^ (1 << pick.randrange(8))
        return bytes(changed)

    def value(self, depth: int = 0) -> Any:
        pick = self._random
        if depth < 4 and pick.random() < 0.3:
            if pick.random() < 0.5:
                return [self.value(depth + 1) for _ in range(pick.randrange(4))]
            return {self.name(): self.value(depth + 1) for _ in range(pick.randrange(4))}
        return pick.choice(SCALARS)

    def name(self) -> str:
        pick = self._random
        return pick.choice(NAMES) if pick.random() < 0.8 else "".join(map(chr, pick.choices(range(1, 300), k=3)))

    def body(self) -> bytes:
        """An event as it should be, almost as it should be, or not at all."""
        pick, kind = self._random, self._random.random()
        fields = simulate.body(pick.choice(HOOKS))
        if kind < 0.1:
            return simulate.encode(fields)
        if kind < 0.4:
            return self.mutated(simulate.encode(fields))
        if kind < 0.8:
            for _ in range(pick.randint(1, 5)):
                fields[self.name()] = self.value()
                fields.pop(self.name(), None)
            return json.dumps(fields, ensure_ascii=pick.random() < 0.5).encode(errors="surrogatepass")
        if kind < 0.9:
            return json.dumps(self.value()).encode()
        return pick.randbytes(pick.choice((0, 1, 10, 1000, 20_000)))

    def query(self) -> bytes:
        """A custom value request's query, or noise that a request line may still hold."""
        pick = self._random
        pairs = [f"param{pick.choice(NUMBERS)}={pick.choice(SCALARS)!s:.200}" for _ in range(3)]
        pairs += [f"{pick.choice(NAMES)}={pick.choice(SCALARS)!s:.200}" for _ in range(3)]
        good = "&".join(pairs[: pick.randrange(7)]).encode()
        data = good if pick.random() < 0.4 else self.mutated(good)
        return re.sub(rb"[\0- \x7f-\xff#]", lambda match: b"%%%02x" % match[0][0], data)

    def headers(self) -> list[bytes]:
        pick, found = self._random, []
        for _ in range(pick.choice((0, 0, 1, 2, 20))):
            value = re.sub(rb"[\0-\x1f\x7f]", b" ", pick.choice((pick.choice(INTERESTING), pick.randbytes(20))))
            found.append(pick.choice(HEADERS) + b": " + value)
        return found

    def request(self, requests: Requests) -> tuple[bytes, bool]:
        """A request's bytes, and whether it is framed so that it has to be answered at once."""
        pick = self._random
        if pick.random() < 0.25:
            head = requests.head(b"Connection: close", *self.headers(), method=b"GET", path=b"/webio?" + self.query())
            return head, True
        body = self.body()
        path = b"/webio" if pick.random() < 0.5 else b"/webio/" + pick.choice(HOOKS).encode()
        if pick.random() < 0.3:
            framing, framed = b"Transfer-Encoding: chunked", self._chunked(body)
        else:
            framing, framed = b"Content-Length: %d" % len(body), body
        lines = [b"Connection: close", framing, *self.headers()]
        pick.shuffle(lines)
        whole = requests.head(*lines, path=path, token=pick.random() < 0.9) + framed
        if pick.random() < 0.2:
            return self.mutated(whole), False
        return whole, True

    def _chunked(self, body: bytes) -> bytes:
        parts, at = [], 0
        while at < len(body):
            size = self._random.choice((1, 3, 100, 5000))
            chunk = body[at : at + size]
            parts.append(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            at += size
        return b"".join([*parts, b"0\r\n\r\n"])


class Outcome(NamedTuple):
    """What a run came to. `faults` are the cases (number, bytes) that were answered 5xx, or not at all although they
    had to be; `grown` is how many MiB the worker has grown by."""

    statuses: Counter[int]
    faults: list[tuple[int, bytes]]
    grown: float


def rss(gateway: RunningGateway) -> float:
    [worker] = psutil.Process(gateway.process.pid).children()
    return float(worker.memory_info().rss / 2**20)


async def fuzz(gateway: RunningGateway, cases: int, *, seed: int = 0, connections: int = 32) -> Outcome:
    """Send this many cases to a running gateway, over `connections` connections."""
    requests = Requests(gateway)
    statuses: Counter[int] = Counter()
    faults: list[tuple[int, bytes]] = []
    numbers = iter(range(seed, seed + cases))

    async def work(numbers: Any) -> None:
        for number in numbers:
            data, complete = Maker(number).request(requests)
            answer = await _exchange(requests.port, data, 10 if complete else 0.03)
            found = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]
            statuses.update(found)
            if any(status >= 500 for status in found) or (complete and not found):
                faults.append((number, data))

    await asyncio.gather(*(work(iter(range(seed - 1000 - n, seed - 900 - n, 33))) for n in range(33)))  # warm up
    statuses.clear()
    before = rss(gateway)
    await asyncio.gather(*(work(numbers) for _ in range(connections)))
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{gateway.admin_url}/health/ready")).status_code == 200
    return Outcome(statuses, faults, rss(gateway) - before)


async def _exchange(port: int, data: bytes, wait: float) -> bytes:
    """What comes back until the server closes, or is silent for `wait` seconds."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    with contextlib.suppress(ConnectionError, TimeoutError):
        writer.write(data)
        await writer.drain()
        while received := await asyncio.wait_for(reader.read(65536), wait):
            answer += received
    writer.transport.abort()
    return answer
