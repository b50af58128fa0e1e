"""The plugin `s3`: events as objects of JSON Lines, each once, against a server that speaks S3."""

from __future__ import annotations

import base64
import hashlib
import json
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from brokers_kit import Cable
from gateway_s3 import S3Plugin
from gateway_s3.bucket import BucketFailed
from s3_kit import SECRET_KEY, Bucket, Store, running_store
from tiers import require_tier

from gateway import Event, Selector
from gateway.config.convert import ConfigError
from gateway.testing import PluginCase, event_of, make_body, make_context, running_gateway, until

pytestmark = pytest.mark.timeout(400)  # on a busy machine

DELIVERY = '[delivery]\ntimeout = "60s"\nmax_attempts = 2\nbackoff = "5ms"\nbackoff_max = "50ms"\n'
HOUR = datetime(2026, 11, 22, 15, 54, 24, 123456, tzinfo=UTC)


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with running_store() as store:
        yield store


@pytest.fixture
def bucket(store: Store, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    monkeypatch.setenv("S3_SECRET", SECRET_KEY)
    return store.make_bucket()


def made(bucket: Bucket, directory: Path, more: str = "", endpoint: str | None = None) -> Any:
    from gateway.testing.settings import testing_config, testing_plugins

    given = {"s3": S3Plugin}
    config = f"[plugins.s3]\n{bucket.table(more, endpoint)}"
    return testing_plugins(testing_config(config, given, directory), given)[0].instance


def event(number: int, **attributes: Any) -> Event:
    body = attributes.pop("body", {})
    known: dict[str, Any] = {"id": f"01935498-0000-7000-8000-{number:012x}", "received_at": HOUR}
    return event_of(make_body("payment", n=number, **body), **(known | attributes))


async def write(plugin: Any, *events: Event) -> None:
    for one in events:
        await plugin.on_event(one)
    await plugin.checkpoint()


def test_it_is_complete(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each check has a bucket of its own. An outage is a cable that is cut."""
    monkeypatch.setenv("S3_SECRET", SECRET_KEY)
    with start_blocking_portal() as portal:
        cable = Cable(store.host, store.port)
        portal.call(cable.mend)

        def case(folder: Path) -> PluginCase:
            bucket = store.make_bucket()

            @contextmanager
            def away() -> Iterator[None]:
                portal.call(cable.cut)
                try:
                    yield
                finally:
                    portal.call(cable.mend)

            table = bucket.table(endpoint=f"http://127.0.0.1:{cable.port}")
            return PluginCase(config=tomllib.loads(table), taken=bucket.ids, fails=away, secrets=(SECRET_KEY,))

        try:
            require_tier(S3Plugin, case)
        finally:
            portal.call(cable.stop)


async def test_an_object_has_the_events_of_a_hook_and_an_hour(bucket: Bucket, tmp_path: Path) -> None:
    """In the order of delivery, the body as received; names are safe in keys and in URLs."""
    plugin = made(bucket, tmp_path, 'prefix = "webio/"\n')
    await plugin.startup(make_context(tmp_path))
    body = b'{"type":"payment",\r\n "amount": 12.50, "a":1, "a":2, "x":"\xc3\xa9\\u2028"}'
    exact = event_of(body, id="01935498-0000-7000-8000-000000000001", received_at=HOUR)
    await write(plugin, event(3), event(2), exact, event(4, received_at=HOUR.replace(hour=16)))
    await write(plugin, event(5, organisation="a b/ü"))
    await plugin.shutdown()
    keys = bucket.keys()
    assert [key.rpartition("/")[0] for key in keys] == [
        "webio/a%20b%2F%C3%BC/payment/2026-11-22/15",
        "webio/acme/payment/2026-11-22/15",
        "webio/acme/payment/2026-11-22/16",
    ]
    texts = [line.text for line in bucket.lines()][1:4]
    assert [json.loads(text)["id"][-1] for text in texts] == ["3", "2", "1"]
    assert texts[2].endswith(b'"hook":"payment","body":' + body.replace(b"\r\n", b"  ") + b"}")


async def test_events_that_come_again_are_not_written_again(bucket: Bucket, tmp_path: Path) -> None:
    """However the batches are cut then; of a batch that was written in part, the rest is."""
    plugin = made(bucket, tmp_path)
    await plugin.startup(make_context(tmp_path))
    await write(plugin, *map(event, range(1, 11)))
    await write(plugin, *map(event, range(11, 16)))
    await write(plugin, *(event(number, redelivered=True) for number in range(4, 19)), event(30))
    await write(plugin, *(event(number, redelivered=True) for number in range(1, 20)))
    await plugin.shutdown()
    assert sorted(bucket.ids()) == [event(number).id for number in (*range(1, 20), 30)]


async def test_the_same_batch_has_the_same_key_and_content(bucket: Bucket, tmp_path: Path) -> None:
    """A put whose answer was lost, and that was under way while the bucket was listed, is repeated in its place."""
    for _ in range(2):
        plugin = made(bucket, tmp_path)
        await plugin.startup(make_context(tmp_path))
        await write(plugin, *map(event, range(1, 11)))
        await plugin.shutdown()
    [key] = bucket.keys()
    assert len(bucket.ids()) == 10
    assert event(1).id in key
    assert event(10).id in key


async def test_a_connection_that_is_lost_in_the_middle_repeats_nothing(
    bucket: Bucket, store: Store, tmp_path: Path
) -> None:
    """It is cut at any byte; no attempt counts, and each event is in one object."""
    cable = Cable(store.host, store.port)
    await cable.mend()
    table = bucket.table(endpoint=f"http://127.0.0.1:{cable.port}")
    async with running_gateway(f"{DELIVERY}[plugins.s3]\n{table}", {"s3": S3Plugin}) as gateway:
        sent: list[str] = []
        for round_ in range(5):
            cable.cut_after = cable.passed + 600 + 2_777 * round_
            sent += await gateway.webio.send_burst(60, conversations=7)
            await gateway.until(lambda: not cable.connected or gateway.idle("s3"), "cut")
            await cable.mend()
        await gateway.until_delivered(seconds=60)
        assert gateway.dead_letters() == []
    await cable.stop()
    assert cable.connections > 3
    assert sorted(bucket.ids()) == sorted(sent)


async def test_a_crash_before_the_cursor_moves_repeats_nothing(bucket: Bucket, tmp_path: Path) -> None:
    """The objects are in the bucket, and the journal does not know it."""
    config = f"{DELIVERY}[plugins.s3]\n{bucket.table()}"
    async with running_gateway(config, {"s3": S3Plugin}, journal="disk", directory=tmp_path) as gateway:
        for _ in range(3):
            gateway.hold_settlements("s3")
            sent = await gateway.webio.send_burst(30)
            await gateway.until_held("s3", 1)
            await until(lambda: bucket.ids())
            await gateway.crash()
            await gateway.until_delivered()
            assert set(sent) <= set(bucket.ids())
    assert len(bucket.ids()) == len(set(bucket.ids())) == 90


async def test_a_checkpoint_collects_events_for_a_while(bucket: Bucket, tmp_path: Path) -> None:
    """Few objects where events come one by one; a full batch does not wait."""
    config = f"{DELIVERY}[plugins.s3]\n{bucket.table()}".replace('every = "0s"', 'every = "2s"')
    async with running_gateway(config, {"s3": S3Plugin}) as gateway:
        for _ in range(60):
            await gateway.webio.send()
        await gateway.until_delivered(seconds=60)
    assert len(bucket.ids()) == 60
    assert len(bucket.keys()) < 20
    plugin = made(bucket, tmp_path, 'request_timeout = "30s"\n')
    await plugin.startup(make_context(tmp_path))
    for number in range(1000):
        await plugin.on_event(event(number))
    assert plugin._enough.is_set()
    await plugin.shutdown()


async def test_what_is_collected_is_bounded(bucket: Bucket, tmp_path: Path) -> None:
    """Lines are written before a checkpoint once they are more than 8 MiB."""
    plugin = made(bucket, tmp_path)
    await plugin.startup(make_context(tmp_path))
    for number in range(10):
        await plugin.on_event(event(number, body={"x": "y" * 950_000}))
    assert len(bucket.ids()) >= 8
    assert plugin._batch.count <= 2
    await plugin.checkpoint()
    await plugin.shutdown()
    assert len(bucket.ids()) == 10


async def test_forgetting_writes_objects_anew_and_deletes_those_that_are_empty(bucket: Bucket, tmp_path: Path) -> None:
    """Others' lines stay as they were, as do objects that are not the gateway's; what is not written yet goes, too."""
    plugin = made(bucket, tmp_path)
    await plugin.startup(make_context(tmp_path))
    theirs = {"body": {"customerUID": "77"}}
    await write(plugin, event(1), event(2, **theirs), event(3))
    await write(plugin, event(4, **theirs), event(5, **theirs))
    await write(plugin, event(6, organisation="other", **theirs))
    bucket.store.client.put_object(Bucket=bucket.name, Key="acme/notes.txt", Body=b'{"customerUID": "77"}')
    before = {line.id: line.text for line in bucket.lines()}
    await plugin.on_event(event(7, **theirs))
    selector = Selector(customer_uid="77", organisation="acme")
    assert await plugin.forget(selector) == 3
    assert await plugin.forget(selector) == 0
    await plugin.checkpoint()
    await write(plugin, event(3, redelivered=True))
    await plugin.shutdown()
    left = bucket.lines()
    assert [line.id for line in left] == [event(number).id for number in (1, 3, 6)]
    assert all(before[line.id] == line.text for line in left)
    assert len(bucket.keys()) == 3


async def test_a_damaged_object_is_told_of_and_the_others_are_written_anew(bucket: Bucket, tmp_path: Path) -> None:
    """Forgetting does not claim what it cannot know."""
    plugin = made(bucket, tmp_path)
    await plugin.startup(make_context(tmp_path))
    theirs = {"body": {"customerUID": "77"}}
    await write(plugin, event(1, **theirs))
    [key] = bucket.keys()
    await write(plugin, event(2, received_at=HOUR.replace(hour=16), **theirs))
    bucket.store.client.put_object(Bucket=bucket.name, Key=key, Body=b"not zstd")
    with pytest.raises(BucketFailed, match="1 damaged objects were not looked into: acme/payment/2026-11-22/15/"):
        await plugin.forget(Selector(customer_uid="77"))
    await plugin.shutdown()
    assert bucket.keys() == [key]


async def test_the_store_is_asked_to_encrypt(bucket: Bucket, tmp_path: Path) -> None:
    """As `encryption` says, also when an object is written anew."""
    plugin = made(bucket, tmp_path, 'encryption = "AES256"\n')
    await plugin.startup(make_context(tmp_path))
    await write(plugin, event(1), event(2, body={"customerUID": "77"}))
    await plugin.forget(Selector(customer_uid="77"))
    await plugin.shutdown()
    [key] = bucket.keys()
    assert bucket.store.client.head_object(Bucket=bucket.name, Key=key)["ServerSideEncryption"] == "AES256"


async def test_an_object_is_sent_with_its_checksum(bucket: Bucket, tmp_path: Path) -> None:
    """A store that compares them refuses what arrives damaged."""
    plugin = made(bucket, tmp_path)
    await plugin.startup(make_context(tmp_path))
    sent: list[str] = []
    plugin._bucket._client.meta.events.register(
        "before-send.s3.PutObject", lambda request, **_: sent.append(request.headers["Content-MD5"].decode())
    )
    await write(plugin, event(1))
    await plugin.shutdown()
    [key] = bucket.keys()
    assert sent == [base64.b64encode(hashlib.md5(bucket.content(key)).digest()).decode()]


async def test_check_says_what_the_store_says(bucket: Bucket, tmp_path: Path) -> None:
    """Without a secret; and nothing is written."""
    assert await made(bucket, tmp_path).check() == []
    nowhere = Bucket(bucket.store, "nowhere-at-all")
    with pytest.raises(BucketFailed, match=r"^the store refused ListObjectsV2 with NoSuchBucket"):
        await made(nowhere, tmp_path).check()
    with pytest.raises(BucketFailed, match=r"no answer from http://127\.0\.0\.1:1: EndpointConnectionError"):
        await made(bucket, tmp_path, endpoint="http://127.0.0.1:1").check()
    plugin = made(nowhere, tmp_path)
    with pytest.raises(BucketFailed):
        await plugin.startup(make_context(tmp_path))
    await plugin.shutdown()
    assert bucket.keys() == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('bucket = "b/c"', 'expected the name of a bucket, such as "webio-events"'),
        ('bucket = "events"\nendpoint = "s3.internal"', 'expected a URL such as "https://s3.internal:9000"'),
        ('bucket = "events"\nendpoint = "https://me:KEEPOUT@h"', "credentials must not be in the URL"),
        ('bucket = "events"\naccess_key = "A"', "access_key: expected access_key and secret_key, or neither"),
        ('bucket = "events"\nkms_key = "A"', 'kms_key: needs encryption = "aws:kms"'),
        ('bucket = "events"\nevery = "1m"', 'expected a duration of at most "20s"'),
        ('bucket = "events"\nprefix = "/x"', 'expected a text such as "webio/"'),
        ('bucket = "events"\nsecret_key = "KEEPOUT"', "a secret must not be in the config file"),
    ],
)
def test_a_mistake_in_the_config_is_a_sentence(text: str, told: str, tmp_path: Path) -> None:
    from gateway.testing.settings import testing_config, testing_plugins

    with pytest.raises(ConfigError) as refused:
        testing_plugins(testing_config(f"[plugins.s3]\n{text}\n", {"s3": S3Plugin}, tmp_path), {"s3": S3Plugin})
    assert told in str(refused.value)
    assert "KEEPOUT" not in str(refused.value)
