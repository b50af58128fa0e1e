"""The settings and the plugin: collects events in memory, and writes them as objects at each checkpoint."""

from __future__ import annotations

import asyncio
import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, Self
from urllib.parse import urlsplit

import msgspec
from gateway_connections import is_loopback

from gateway import Context, Duration, Event, Secret, Selector, hookimpl

if TYPE_CHECKING:
    from gateway_s3.batch import Uploader
    from gateway_s3.bucket import Bucket

_ENOUGH: Final = 1000
"""Events that a checkpoint does not wait for more of: the gateway hands out 2048 without a checkpoint."""
_MOST_IN_MEMORY: Final = 8 * 1024 * 1024
"""Bytes of lines that are collected, at most, before they are written."""
_LONGEST_EVERY: Final = 20
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")


class Endpoint(str):
    """The URL of a store."""

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        example = 'expected a URL such as "https://s3.internal:9000"'
        try:
            parts = urlsplit(value) if isinstance(value, str) else urlsplit("")
            usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
        except ValueError:
            raise ValueError(example) from None
        if not usable or parts.query or parts.fragment:
            raise ValueError(example)
        if "@" in parts.netloc:
            raise ValueError("credentials must not be in the URL; write access_key and secret_key")
        return cls(value)


class BucketName(str):
    """The name of a bucket."""

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        if not isinstance(value, str) or not _BUCKET.fullmatch(value):
            raise ValueError('expected the name of a bucket, such as "webio-events"')
        return cls(value)


class Prefix(str):
    """What the keys begin with."""

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        if not isinstance(value, str) or not value.isprintable() or value.startswith("/") or len(value) > 200:
            raise ValueError('expected a text such as "webio/" of at most 200 characters that does not begin with /')
        return cls(value)


class Every(Duration):
    """A duration of at most 20 s."""

    @classmethod
    def from_config(cls, value: Any, directory: Path) -> Self:
        found = super().from_config(value, directory)
        if found > _LONGEST_EVERY:
            raise ValueError(f'expected a duration of at most "{_LONGEST_EVERY}s"')
        return found


class Wait(Duration):
    """A duration longer than 0 s."""

    allows_zero: ClassVar = False


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    bucket: Annotated[BucketName, msgspec.Meta(description="The bucket, which must exist.")]
    endpoint: Annotated[
        Endpoint | None, msgspec.Meta(description="The URL of the store; default: Amazon S3 in the region.")
    ] = None
    region: Annotated[str, msgspec.Meta(description="The region; many stores take any.")] = "us-east-1"
    access_key: Annotated[
        str | None,
        msgspec.Meta(description="The id of the access key; default: as the AWS tools find it, such as by a role."),
    ] = None
    secret_key: Annotated[Secret | None, msgspec.Meta(description="The secret of the access key.")] = None
    prefix: Annotated[Prefix, msgspec.Meta(description="What every key begins with, such as webio/.")] = Prefix("")
    encryption: Annotated[
        Literal["AES256", "aws:kms"] | None,
        msgspec.Meta(description="How the store encrypts objects: AES256 or aws:kms; default: as the bucket says."),
    ] = None
    kms_key: Annotated[str | None, msgspec.Meta(description="The key of aws:kms; default: that of the bucket.")] = None
    every: Annotated[
        Every, msgspec.Meta(description="How long events are collected for an object, unless there are 1000.")
    ] = Every(3)
    request_timeout: Annotated[Wait, msgspec.Meta(description="How long the store may take to answer.")] = Wait(10)

    def __post_init__(self) -> None:
        faults = []
        if importlib.util.find_spec("botocore") is None:
            faults.append("the package botocore is not installed; pip install 'webio-gateway[s3]'")
        if (self.access_key is None) != (self.secret_key is None):
            faults.append("access_key: expected access_key and secret_key, or neither")
        if self.kms_key is not None and self.encryption != "aws:kms":
            faults.append('kms_key: needs encryption = "aws:kms"')
        if faults:
            raise ExceptionGroup("faults of the settings", [ValueError(fault) for fault in faults])


class NotWritten(Exception):
    """Events were taken and are not in the bucket. The message has nothing of an event."""

    loggable = True


class S3Plugin:
    """Writes events as objects of JSON Lines, one per hook and hour and checkpoint."""

    Config = Settings

    def __init__(self, config: Settings) -> None:
        self._config = config
        self._bucket: Bucket | None = None
        self._uploader: Uploader
        self._writing: asyncio.Lock
        self._enough: asyncio.Event
        self._written_at = float("-inf")
        self._lost: Exception | None = None
        """Why events that were taken are neither in the bucket nor in the batch."""

    @hookimpl
    async def check(self) -> list[str]:
        bucket = self._made()
        try:
            await bucket.open()
        finally:
            await bucket.close()
        endpoint = urlsplit(self._config.endpoint or "https://")
        if endpoint.scheme == "http" and not is_loopback(endpoint.hostname or ""):
            return ["endpoint: events go there unencrypted; https:// encrypts them"]
        return []

    @hookimpl
    async def startup(self, context: Context) -> None:
        from gateway_s3.batch import Batch, Uploader

        self._writing, self._enough = asyncio.Lock(), asyncio.Event()
        self._batch, self._lost, self._written_at = Batch(), None, float("-inf")
        self._bucket = self._made()
        self._uploader = Uploader(self._bucket)
        await self._bucket.open()

    @hookimpl
    async def shutdown(self) -> None:
        bucket, self._bucket = self._bucket, None
        if bucket is not None:
            await bucket.close()

    @hookimpl
    async def on_event(self, event: Event) -> None:
        self._started()
        self._batch.add(event)
        if self._batch.count >= _ENOUGH or self._batch.bytes >= _MOST_IN_MEMORY:
            self._enough.set()
        if self._batch.bytes >= _MOST_IN_MEMORY:
            await self._write()

    @hookimpl
    async def checkpoint(self) -> None:
        self._started()
        pause = self._written_at + self._config.every - asyncio.get_running_loop().time()
        if self._batch.count and pause > 0 and self._lost is None:
            try:
                async with asyncio.timeout(pause):
                    await self._enough.wait()
            except TimeoutError:
                pass
        await self._write()
        lost, self._lost = self._lost, None
        if lost is not None:
            raise lost

    @hookimpl
    async def forget(self, selector: Selector) -> int:
        """Erase the lines of these events in every object; returns how many those were."""
        from gateway_s3.erasing import erase

        bucket = self._started()
        async with self._writing:
            self._batch.forget(selector)
        return await erase(bucket, selector)

    async def _write(self) -> None:
        """Write what was collected. What goes wrong is kept for the next checkpoint, which fails with it."""
        from gateway_s3.batch import Batch
        from gateway_s3.bucket import BucketFailed

        async with self._writing:
            batch, self._batch = self._batch, Batch()
            self._enough.clear()
            if not batch.count:
                return
            try:
                await self._uploader.upload(batch)
            except BucketFailed as error:
                self._lost = error
            except BaseException:
                self._lost = NotWritten("the write was broken off")
                raise
            self._written_at = asyncio.get_running_loop().time()

    def _made(self) -> Bucket:
        from gateway_s3.bucket import Bucket  # where the extra is not installed, the settings still are

        return Bucket(self._config)

    def _started(self) -> Bucket:
        if self._bucket is None:
            raise NotWritten("the plugin has not started")
        return self._bucket
