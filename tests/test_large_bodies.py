"""Large bodies: they are events like all others, and decoding them leaves the event loop to other requests."""

from __future__ import annotations

import asyncio
import json
import random
import time
from pathlib import Path
from typing import Any

import pytest
from asgi import in_process
from heavy_bodies import heavy_bodies
from running import eventually, running

from gateway.json_text import parse_object
from gateway.large_bodies import LARGE

LONGEST = 0.05
"""Seconds that the loop's thread may compute at a time."""
TAKER = """
import json
from typing import Any


class Plugin:
    def on_payment(self, event: Any, payload: Any) -> None:
        with open("taken.jsonl", "a") as file:
            file.write(json.dumps([event.hook, payload.extra.get("n"), len(event.raw), len(payload.extra)]) + "\\n")
"""


async def most_computing(done: asyncio.Event) -> float:
    """The most processor time, in seconds, that this thread takes between two steps of this coroutine. What other
    threads and processes take does not count."""
    longest, before = 0.0, time.thread_time()
    while not done.is_set():
        await asyncio.sleep(0.001)
        now = time.thread_time()
        longest, before = max(longest, now - before), now
    return longest


@pytest.mark.parametrize(
    ("name", "body"), [pytest.param(name, body, id=name) for name, body in heavy_bodies(4 * 2**20 - 1024)]
)
async def test_no_body_takes_the_loop_for_long(tmp_path: Path, name: str, body: bytes) -> None:
    """While 4 MiB of any kind are received, the loop's thread computes at most 50 ms at a time."""
    async with in_process(tmp_path, 'max_body = "4 MiB"') as gateway:
        assert (await gateway.post(b'{"type":"payment"}')).status == 200  # what is done once is done
        done = asyncio.Event()
        computing = asyncio.ensure_future(most_computing(done))
        await asyncio.sleep(0)
        answer = await gateway.post(body)
        done.set()
        assert await computing < LONGEST
        assert answer.status == 200, answer.body
        assert answer.document["hook"] == ("unknown" if name == "a long type" else "payment")


@pytest.mark.parametrize("size", [LARGE // 2, LARGE, 4 * LARGE])
def test_size_does_not_change_what_a_body_means(size: int) -> None:
    """Bodies of all sizes are decoded to what Python's own decoder makes of them."""
    rng = random.Random(size)
    for _ in range(20):
        value = {"a": [], **{str(number): some_value(rng, 5) for number in range(4)}}
        length = len(json.dumps(value))
        while length < size:
            value["a"].append(some_value(rng, 5))
            length += len(json.dumps(value["a"][-1]))
        text = json.dumps(value).replace('"a"', '"a":1,"a"', 1)  # of a repeated name, the last value counts
        found = parse_object(text.encode())
        assert found == json.loads(text)
        assert list(found) == list(json.loads(text))


def some_value(rng: random.Random, levels: int) -> Any:
    kind = rng.randrange(8 if levels else 6)
    if kind == 6:
        return [some_value(rng, levels - 1) for _ in range(rng.randrange(6))]
    if kind == 7:
        return {rng.choice("abcdefgh") * rng.randrange(3): some_value(rng, levels - 1) for _ in range(rng.randrange(6))}
    leaves: list[Any] = [None, True, rng.randrange(-(10**20), 10**20), 'é\\"\n😀', "x" * rng.randrange(2000), ""]
    return leaves[kind]


@pytest.mark.parametrize(
    ("broken", "detail"),
    [
        (b"[1,]", "the body is not valid JSON"),
        (b'"\xff"', "the body is not valid JSON"),
        (rb'"\x"', "the body is not valid JSON"),
        (b"01", "the body is not valid JSON"),
        (b"1e999", "the body contains a number outside the range of a float"),
        (b"[" * 501 + b"]" * 501, "the body is nested deeper than 500 levels"),
    ],
)
@pytest.mark.parametrize("around", [b'{"a":[%b%b]}', b'{"a":[[[%b{"b":%b}]]]}'])
def test_a_fault_in_a_large_body_is_found(broken: bytes, detail: str, around: bytes) -> None:
    """A large body that is not valid is refused as a small one is, wherever the fault stands."""
    with pytest.raises(ValueError, match=f"^{detail}$"):
        parse_object(around % (b'{"c":"d"},' * LARGE, broken))


def test_halves_of_emoji_are_found_everywhere_in_a_large_body() -> None:
    """A half becomes U+FFFD and a pair stays one character, across every place where a large text is divided."""
    for shift in range(14):
        unit = rb"\ud83d\ude00\ud83d\\ud83d\ude00\ude00"
        body = b'{"a":"%b%b"}' % (b"x" * shift, unit * 10_000)
        assert parse_object(body) == {"a": "x" * shift + "😀�\\ud83d��" * 10_000}


async def test_large_bodies_keep_their_order(tmp_path: Path) -> None:
    """Twenty large bodies that come at once are kept in the order in which they came."""
    async with in_process(tmp_path) as gateway:
        bodies = [b'{"type":"payment","n":%d,"x":"%b"}' % (n, b"y" * 2 * LARGE) for n in range(20)]
        answers = await asyncio.gather(*map(gateway.post, bodies))
        assert [answer.status for answer in answers] == [200] * 20
        assert [bytes(row.body) for row in gateway.events()] == bodies


def test_a_large_body_reaches_plugins_whole_and_in_order(tmp_path: Path) -> None:
    """Between small events of a conversation, large ones come in their place and with their whole payload."""
    with running(tmp_path, '[plugins.taker]\nfrom = "start"', plugins={"taker": TAKER}) as gateway:
        sizes = []
        with gateway.client() as client:
            for number in range(30):
                members = b"".join(b'"m%d":"%b",' % (one, b"z" * 2000) for one in range(40 if number % 3 == 1 else 2))
                body = b'{"conversationId":"c",%b"n":%d,"type":"payment"}' % (members, number)
                sizes.append([len(body), members.count(b",") + 1])
                assert client.post(body).status == 200
        taken_file = tmp_path / "taken.jsonl"
        eventually(lambda: taken_file.exists() and taken_file.read_text().count("\n") == 30)
        taken = [json.loads(line) for line in taken_file.read_text().splitlines()]
        assert [[hook, n] for hook, n, _, _ in taken] == [["payment", n] for n in range(30)]
        assert [[size, count] for _, _, size, count in taken] == sizes
