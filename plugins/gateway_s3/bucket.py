"""The bucket: requests to the store, each in a thread."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
from botocore.session import Session

if TYPE_CHECKING:
    from gateway_s3.plugin import Settings

T = TypeVar("T")
AT_ONCE: Final = 4
"""Requests at the same time."""
_PAGE: Final = 1000


class BucketFailed(Exception):
    """The store could not be reached, or refused a request. The message has nothing of an event, and no secret."""

    loggable = True


class Found(NamedTuple):
    """An object in a listing. Its `tag` is another one once it is written anew."""

    key: str
    tag: str


class Bucket:
    """Connects when first used. Every method raises `BucketFailed`."""

    def __init__(self, config: Settings) -> None:
        self._config = config
        self._name = config.bucket
        self._threads = ThreadPoolExecutor(AT_ONCE, "s3")
        self._client: Any = None
        self._extra: dict[str, str] = {}
        if config.encryption is not None:
            self._extra["ServerSideEncryption"] = config.encryption
        if config.kms_key is not None:
            self._extra["SSEKMSKeyId"] = config.kms_key

    async def open(self) -> None:
        """Make the client, and look whether the bucket can be listed."""
        self._client = await self._run(self._made)
        await self._run(lambda: self._page(self._config.prefix, None, 1))

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def put(self, key: str, content: bytes) -> None:
        """Write an object; the store compares what arrives with its checksum."""
        checksum = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
        await self._run(
            lambda: self._client.put_object(
                Bucket=self._name,
                Key=self._config.prefix + key,
                Body=content,
                ContentMD5=checksum,
                ContentType="application/zstd",
                **self._extra,
            )
        )

    async def get(self, key: str) -> bytes | None:
        """An object; None where there is none any more."""
        return await self._run(lambda: self._got(key))

    async def delete(self, key: str) -> None:
        await self._run(lambda: self._client.delete_object(Bucket=self._name, Key=self._config.prefix + key))

    async def listed(self, place: str) -> AsyncIterator[Found]:
        """The objects whose keys begin so, in the order of their keys, a page at a time."""
        token = None
        while True:
            page = await self._run(lambda: self._page(self._config.prefix + place, token, _PAGE))  # noqa: B023
            for one in page.get("Contents", ()):
                yield Found(one["Key"].removeprefix(self._config.prefix), one["ETag"])
            token = page.get("NextContinuationToken")
            if token is None:
                return

    def _made(self) -> Any:
        config = self._config
        seconds = float(config.request_timeout)
        return Session().create_client(
            "s3",
            region_name=config.region,
            endpoint_url=config.endpoint,
            aws_access_key_id=config.access_key,
            aws_secret_access_key=None if config.secret_key is None else config.secret_key.text().strip(),
            config=Config(
                connect_timeout=seconds,
                read_timeout=seconds,
                retries={"total_max_attempts": 1},  # the gateway repeats what failed
                max_pool_connections=AT_ONCE,
                s3={"addressing_style": "auto" if config.endpoint is None else "path"},
                request_checksum_calculation="when_required",  # Content-MD5 is one that every store knows
                response_checksum_validation="when_required",
            ),
        )

    def _page(self, prefix: str, token: str | None, most: int) -> Any:
        more = {} if token is None else {"ContinuationToken": token}
        return self._client.list_objects_v2(Bucket=self._name, Prefix=prefix, MaxKeys=most, **more)

    def _got(self, key: str) -> bytes | None:
        try:
            found = self._client.get_object(Bucket=self._name, Key=self._config.prefix + key)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "NoSuchKey":
                return None
            raise
        content: bytes = found["Body"].read()
        return content

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except ClientError as error:
            said = error.response.get("Error", {}).get("Code", "an error")
            raise BucketFailed(f"the store refused {error.operation_name} with {said}") from None
        except (BotoCoreError, HTTPClientError, OSError, ValueError) as error:
            where = self._config.endpoint or "the store"
            raise BucketFailed(f"no answer from {where}: {type(error).__name__}") from None
