"""Fixtures for every test. What they are made of is in `running.py`, which tests may import."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from running import RunningGateway, running

StartGateway = Callable[..., RunningGateway]

MEMORY = Path("/dev/shm")
"""A file system in memory: a test that syncs a hundred commits waits for no disk there."""

# Every test process, and every gateway that a test starts, would compile all modules again without the compiled files.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > 2**30:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


# What Hypothesis tries differs from run to run, but not in continuous integration.
settings.register_profile("tests", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("tests")


@pytest.hookimpl(optionalhook=True)  # pytest-xdist may be switched off
def pytest_xdist_auto_num_workers() -> int:
    """Tests of a running gateway wait more than they compute: at least four workers, on two cores, too."""
    return max(4, os.cpu_count() or 1)


@pytest.fixture(scope="session", autouse=True)
def clean_environment() -> Iterator[None]:
    """The settings of the caller's terminal and of the caller's own gateway do not reach a test."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            own = name.startswith("GATEWAY_") and not name.startswith(("GATEWAY_TEST_", "GATEWAY_MODEL_"))
            if own or name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
                patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, as the gateway does."""
    return "asyncio"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on this process's path, for `write_plugin`; what was imported from it is forgotten afterwards."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and Path(file).is_relative_to(folder):
            del sys.modules[name]


@pytest.fixture
def start_gateway(tmp_path: Path) -> Iterator[StartGateway]:
    """Starts gateways in this test's folder, with the arguments of `running` after the folder."""
    with ExitStack() as stack:

        def start(*arguments: str, directory: Path = tmp_path, **options: Any) -> RunningGateway:
            return stack.enter_context(running(directory, *arguments, **options))

        yield start


@pytest.fixture
def running_gateway(start_gateway: StartGateway) -> RunningGateway:
    """A gateway that runs with the archive on, and nothing sent to it yet."""
    return start_gateway('[plugins.archive]\ndirectory = "archive"\n')


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a self-signed `certificate.pem` and its `key.pem`."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl here to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    command += f" -keyout {folder}/key.pem -out {folder}/certificate.pem"
    subprocess.run(command.split(), check=True, capture_output=True)
    return folder
