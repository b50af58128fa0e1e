"""A store that speaks S3: the one that `GATEWAY_TEST_S3` names by its URL, or moto's server."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, HTTPClientError
from botocore.session import Session
from gateway_s3.objects import SUFFIX, Line, unpacked
from machine import free_ports

ACCESS_KEY = os.environ.get("GATEWAY_TEST_S3_ACCESS_KEY", "testing")
SECRET_KEY = os.environ.get("GATEWAY_TEST_S3_SECRET_KEY", "secret-of-the-store")


class Store:
    """A store with a client of its own, beside the plugin's."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        parts = urlsplit(endpoint)
        self.host, self.port = parts.hostname or "", parts.port or 80
        self.client: Any = Session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
            config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
        )

    def make_bucket(self) -> Bucket:
        name = f"events-{secrets.token_hex(6)}"
        self.client.create_bucket(Bucket=name)
        return Bucket(self, name)


class Bucket:
    def __init__(self, store: Store, name: str) -> None:
        self.store = store
        self.name = name

    def table(self, more: str = "", endpoint: str | None = None) -> str:
        """The plugin's keys, but `secret_key`: the variable S3_SECRET has it."""
        return (
            f'bucket = "{self.name}"\nendpoint = "{endpoint or self.store.endpoint}"\naccess_key = "{ACCESS_KEY}"\n'
            f'secret_key = {{ env = "S3_SECRET" }}\nevery = "0s"\n{more}'
        )

    def keys(self) -> list[str]:
        pages = self.store.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [one["Key"] for page in pages for one in page.get("Contents", ())]

    def content(self, key: str) -> bytes:
        found: bytes = self.store.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return found

    def lines(self) -> list[Line]:
        """Of every object of the gateway's, in the order of their keys."""
        return [line for key in self._theirs() for line in unpacked(self.content(key))]

    def _theirs(self) -> list[str]:
        return [key for key in self.keys() if key.endswith(SUFFIX)]

    def ids(self) -> list[str]:
        return [line.id for line in self.lines()]


@contextmanager
def running_store() -> Iterator[Store]:
    endpoint = os.environ.get("GATEWAY_TEST_S3")
    if endpoint:
        store = Store(endpoint)
        _wait(store, 1)
        yield store
        return
    [port] = free_ports(1)
    with tempfile.TemporaryFile() as log:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            store = Store(f"http://127.0.0.1:{port}")
            _wait(store, 60)
            yield store
        finally:
            process.kill()
            process.wait()


def _wait(store: Store, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            store.client.list_buckets()
            return
        except (BotoCoreError, HTTPClientError) as error:
            if time.monotonic() > deadline:
                pytest.fail(f"no store at {store.endpoint}: {error}")
            time.sleep(0.1)
