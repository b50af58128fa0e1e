"""Which commands need secrets, and that the others do not miss them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cli_process import run_cli
from click.testing import CliRunner, Result
from conftest import StartGateway
from running import RunningGateway, write_config

from gateway.cli import cli
from gateway.simulate import body, encode

SECRETS = {"T_WEBIO": "a secret of thirty-two bytes or more", "T_ADMIN": "admin", "T_CRM": "crm"}
NONE: dict[str, str | None] = dict.fromkeys(SECRETS)
CONFIG = """
    [plugins.archive]
    directory = "archive"
    [plugins.http_values]
    bearer = { env = "T_CRM" }
    [[plugins.http_values.requests]]
    url = "https://crm.internal/c"
    fields.balance = "/balance"
    """


@pytest.fixture
def gateway(start_gateway: StartGateway, monkeypatch: pytest.MonkeyPatch) -> RunningGateway:
    """It runs, with an event in its journal; all of its secrets are in the environment that it was started in."""
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    gateway = start_gateway(CONFIG, environment=SECRETS)
    gateway.stop()
    from_the_environment(gateway.config_path)
    gateway.start()
    with gateway.client() as client:
        assert client.post(encode(body("payment"))).status == 200
    return gateway


def from_the_environment(config: Path) -> None:
    """Have all of the config's secrets come from variables, and the admin listener need one."""
    text = config.read_text().replace('{ file = "webio.secret" }', '{ env = "T_WEBIO" }')
    config.write_text(text.replace("[admin]", '[admin]\npassword = { env = "T_ADMIN" }'))


def run(config: Path, *arguments: str, env: dict[str, str | None] = NONE) -> Result:
    """In a shell that has none of the secrets, or only those of `env`."""
    return CliRunner().invoke(cli, [*arguments, "-c", str(config)], env={**NONE, **env})


def look(config: Path) -> None:
    """All that only looks."""
    [event] = [json.loads(line) for line in run(config, "events", "--json").stdout.splitlines()]
    assert event["hook"] == "payment"
    assert run(config, "dead").stderr == "there are no dead letters\n"
    assert run(config, "values").stderr.startswith("no request matches")
    plugins = [json.loads(line) for line in run(config, "plugins", "--json").stdout.splitlines()]
    assert [plugin["name"] for plugin in plugins if plugin["enabled"]] == ["archive", "http_values"]
    counted = run(config, "replay", "--plugin", "archive", "--dry-run")
    assert counted.stdout == "1 would be delivered to archive again\n"


def test_only_what_changes_something_needs_a_secret_the_admin_listeners(gateway: RunningGateway) -> None:
    """While the gateway runs that goes over its admin listener; once it has stopped, not even this is needed."""
    config = gateway.config_path
    look(config)
    for command in (["dead", "retry", "--all"], ["dead", "discard", "--all"], ["replay", "--plugin", "archive"]):
        refused = run(config, *command)
        assert refused.exit_code == 1
        assert refused.output == "admin.password: the environment variable T_ADMIN is not set\n"
        assert run(config, *command, env={"T_ADMIN": "admin"}).exit_code == 0

    gateway.stop()
    look(config)
    assert run(config, "dead", "retry", "--all").stderr == "no dead letter matches\n"
    assert run(config, "dead", "discard", "--all").stderr == "no dead letter matches\n"
    recorded = run(config, "replay", "--plugin", "archive").stdout
    assert recorded == "1 of 1 will be delivered to archive again after the next start\n"


@pytest.mark.parametrize("command", [["check"], ["run"], ["token", "mint"], ["send", "payment"], ["ask", "balance"]])
def test_what_needs_secrets_says_which_is_missing(tmp_path: Path, command: list[str]) -> None:
    """Exit 78; the commands that load the plugin name its secret, too."""
    config = write_config(tmp_path, CONFIG)
    from_the_environment(config)

    result = run_cli([*command, "-c", config])

    assert result.returncode == 78
    output = result.stdout + result.stderr
    paths = ["admin.password", "organisations.acme.secrets[0]"]
    paths += ["plugins.http_values.bearer"] if command in (["check"], ["run"]) else []
    assert output.count("is not set") == len(paths)
    for path in paths:
        assert path in output
