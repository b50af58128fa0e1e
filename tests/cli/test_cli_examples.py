"""The examples in the help texts are true: each is run as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import pytest
from cli_process import GATEWAY
from click.testing import CliRunner
from machine import free_ports
from running import RunningGateway

from gateway.cli import cli
from gateway.cli.init import init
from gateway.journal import open_reader
from gateway.journal.interface import Filter
from gateway.simulate import body, encode

COMMENT = re.compile(r" {4,}.*")


def examples(group: click.Group = cli) -> Iterator[str]:
    """Every line of an example, of all commands, without the words beside it."""
    context = click.Context(group)
    for word in group.list_commands(context):
        command = group.get_command(context, word)
        assert command is not None
        lines = (command.help or "").partition("Examples:\n")[2].splitlines()
        yield from (COMMENT.sub("", line.strip()) for line in lines if line.strip())
        if isinstance(command, click.Group):
            yield from examples(command)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """The sample's, with a plugin `crm` and an event that is the one of all examples."""
    folder = tmp_path_factory.mktemp("examples")
    config = folder / "config.toml"
    init(config)
    text = config.read_text()
    for usual, free in zip((8080, 8081), free_ports(2), strict=True):
        text = text.replace(f"#port = {usual}", f"port = {free}")
    config.write_text(text + '\n[plugins.crm]\nuse = "archive"\ndirectory = "var/crm"\n')
    shutil.copy(config, folder / "new.toml")
    (folder / "body.json").write_bytes(encode(body("payment")))
    gateway = RunningGateway(config)
    try:
        with gateway.client() as client:
            client.post(encode(body("payment", customer_uid="777")))  # the examples erase the customer 123456
        (folder / "token.txt").write_text(gateway.cli("token", "mint").stdout)
        assert gateway.cli("backup", str(folder / "last-night.db")).returncode == 0
        assert gateway.cli("replay", "--plugin", "crm").returncode == 0
        yield gateway
        assert gateway.stop() == 0
    finally:
        gateway.kill()


def here(example: str, gateway: RunningGateway) -> str:
    """With ids that there are, this gateway's port, and a folder that a test may write to."""
    with closing(open_reader(gateway.config)) as reader:
        event = next(reader.events(Filter()))
    example = example.replace("0190b5c4-...", event.id).replace(":8080", f":{gateway.config.server.port}")
    example = example.replace("operations cancel 12", "operations cancel 1")
    return example.replace("/etc/webio-gateway", str(gateway.directory / "etc"))


def run(example: str, folder: Path) -> tuple[int, str]:
    """By a shell where it needs one, else in this process."""
    if re.search(r"[|<>$]", example):
        path = os.pathsep.join([str(Path(GATEWAY).parent), os.environ["PATH"]])
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", example],
            cwd=folder,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr
    result: Any = CliRunner().invoke(cli, shlex.split(example)[1:])
    return result.exit_code, result.output


@pytest.mark.parametrize("example", sorted(set(examples())))
def test_an_example_does_what_it_says(gateway: RunningGateway, example: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit 0, in the folder of the sample configuration, beside a gateway that runs."""
    if example.startswith(("gateway run", "gateway restore", "gateway journal copy", "gateway journal upgrade")):
        pytest.skip("a gateway runs already, or none of the others would")
    if example.startswith("gateway journal adopt"):
        pytest.skip("the sample's journal is a file")
    if "| jq" in example and shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    monkeypatch.chdir(gateway.directory)

    code, output = run(here(example, gateway), gateway.directory)

    assert code == 0, output


def test_every_command_has_examples_of_its_own() -> None:
    """And they are of that command."""
    found = list(examples())

    assert len(found) > 30
    for name in (*cli.list_commands(click.Context(cli)), "token mint", "token verify", "dead retry", "dead discard"):
        assert any(f"gateway {name}" in example for example in found), name
