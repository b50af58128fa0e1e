"""`gateway reload`, SIGHUP and `gateway log-level`: a running gateway takes over a changed config, or refuses it."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from running import RunningGateway, eventually, running

from gateway.config.load import load_config
from gateway.http.tokens import mint
from gateway.simulate import Client

NEW_SECRET = "another secret of thirty-two bytes or more"
REJECTING = """
from gateway import hookimpl

class Plugin:
    @hookimpl
    def on_payment(self, event, payload):
        print("attempt", event.attempt, flush=True)
        if payload.reference != "good":
            raise RuntimeError("no")
"""


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[RunningGateway]:
    with running(tmp_path) as started:
        yield started


def edit(gateway: RunningGateway, old: str, new: str) -> None:
    text = gateway.config_path.read_text()
    assert old in text
    gateway.config_path.write_text(text.replace(old, new))


def reload(gateway: RunningGateway, code: int = 0) -> dict[str, Any]:
    result = gateway.cli("reload", "--json")
    assert result.returncode == code, result.stdout + result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def post(client: Client, body: bytes = b'{"type":"payment"}') -> int:
    return client.post(body).status


def test_a_secret_is_replaced_without_a_refused_request(gateway: RunningGateway) -> None:
    """First both secrets are accepted, then the new one only; requests with a valid token are never refused."""
    done, statuses = threading.Event(), set()

    def load() -> None:
        with gateway.client() as client:
            while not done.is_set():
                statuses.add(post(client))

    sender = threading.Thread(target=load)
    sender.start()
    (gateway.directory / "new.secret").write_text(NEW_SECRET)
    (gateway.directory / "new.secret").chmod(0o600)
    edit(gateway, '{ file = "webio.secret" }', '{ file = "new.secret" }, { file = "webio.secret" }')
    assert reload(gateway) == {"applied": True, "needs_restart": [], "errors": []}
    done.set()
    sender.join()
    assert statuses == {200}

    both = load_config(gateway.config_path)
    edit(gateway, ', { file = "webio.secret" }', "")
    reload(gateway)
    with Client(both, "acme") as new, gateway.client() as old:
        assert mint(both.organisations["acme"])
        assert post(new) == 200
        assert post(old) == 401


def test_a_secret_whose_file_has_changed(gateway: RunningGateway) -> None:
    """The config file is the same; the files that it names are read again."""
    with gateway.client() as old:
        (gateway.directory / "webio.secret").write_text(NEW_SECRET)
        assert post(old) == 200
        reload(gateway)
        assert post(old) == 401


def test_a_further_spelling_of_a_type(gateway: RunningGateway) -> None:
    """An event by it belongs to its hook from the reload on."""
    with gateway.client() as client:
        assert client.post(b'{"type":"webioPayment"}').document["hook"] == "unknown"
        gateway.config_path.write_text(
            gateway.config_path.read_text() + '\n[hooks.payment]\ntypes = ["webioPayment"]\n'
        )
        assert reload(gateway)["applied"]
        assert client.post(b'{"type":"webioPayment"}').document["hook"] == "payment"


def test_what_needs_a_restart_is_named(tmp_path: Path) -> None:
    """And the rest is in force."""
    with running(tmp_path, "[plugins.shop]\nmax_attempts = 7\n", plugins={"shop": REJECTING}) as gateway:
        port, admin = gateway.config.server.port, gateway.config.admin.port
        edit(gateway, f"port = {port}\n", f"port = {port}\nmax_body = '2 MiB'\n")
        edit(
            gateway,
            "max_attempts = 7",
            "concurrency = 9\n[node]\nname = 'another'\n[plugins.logging]\n[values]\ndeadline = '1s'\n"
            "[hooks.payment]\nretention = '9d'",
        )
        assert reload(gateway) == {
            "applied": True,
            "needs_restart": [
                "node.name",
                "server.max_body",
                "hooks.payment.retention",
                "plugins.logging",
                "plugins.shop.concurrency",
            ],
            "errors": [],
        }
        shown = gateway.cli("reload").stdout.splitlines()
        assert shown == [
            f"{gateway.config_path} is in force",
            "node.name needs a restart",
            "server.max_body needs a restart",
            "hooks.payment.retention needs a restart",
            "plugins.logging needs a restart",
            "plugins.shop.concurrency needs a restart",
        ]
        needed = "node.name, server.max_body, hooks.payment.retention, plugins.logging, plugins.shop.concurrency"
        assert f"needs a restart: {needed}" in gateway.text
        assert gateway.config.admin.port == admin


def test_limits_of_the_delivery_change(tmp_path: Path) -> None:
    """An event that a plugin fails on is retried by the new settings."""
    text = '[delivery]\nbackoff = "1h"\nbackoff_max = "1h"\n[plugins.shop]\n'
    with running(tmp_path, text, plugins={"shop": REJECTING}) as gateway:
        edit(gateway, "1h", "10ms")
        assert reload(gateway)["applied"]
        with gateway.client() as client:
            client.post(b'{"type":"payment","reference":"bad"}')
        gateway.wait_for_line("attempt 3")


@pytest.mark.parametrize("by", ["command", "signal"])
@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("[admin]", "[admin", "line"),
        ("[admin]", "[delivery]\nmax_attempts = 0\n[admin]", "delivery.max_attempts"),
        ("[admin]", "[plugins.archiv]\n[admin]", "plugins.archiv"),
        ('"webio.secret"', '"missing.secret"', "organisations.acme.secrets"),
    ],
)
def test_a_file_with_a_fault_changes_nothing(gateway: RunningGateway, old: str, new: str, path: str, by: str) -> None:
    """The fault is named, the exit code is 78, and the gateway works on by the config that it has."""
    edit(gateway, old, new)
    if by == "command":
        refused = gateway.cli("reload", "--json")
        assert refused.returncode == 78
        document = json.loads(refused.stdout)
        assert (document["applied"], document["needs_restart"]) == (False, [])
        assert path in f"{document['errors'][0]['path']} {document['errors'][0]['message']}"
        plain = gateway.cli("reload")
        assert plain.returncode == 78
        assert path in plain.stderr
    else:
        gateway.process.send_signal(signal.SIGHUP)
        assert path in gateway.wait_for_line("nothing was changed")
    with gateway.client() as client:
        assert post(client) == 200


def test_a_signal_reloads(gateway: RunningGateway) -> None:
    """SIGHUP to `gateway run`, as service managers send it."""
    with gateway.client() as client:
        (gateway.directory / "webio.secret").write_text(NEW_SECRET)
        gateway.process.send_signal(signal.SIGHUP)
        gateway.wait_for_line("is in force")
        eventually(lambda: post(client) == 401)


def test_without_a_running_gateway(gateway: RunningGateway) -> None:
    """Both commands say that none runs."""
    gateway.stop()
    for command in (["reload"], ["log-level", "debug"]):
        result = gateway.cli(*command)
        assert result.returncode == 1
        assert "no gateway runs with the journal" in result.stderr


def test_the_log_level_for_a_time(gateway: RunningGateway) -> None:
    """It goes back by itself; a level or a time that is not one is refused."""
    assert gateway.cli("log-level", "debug", "--for", "100ms").stdout == "the log level is debug for 100ms\n"
    gateway.wait_for_line("the log level is info again")
    answer = json.loads(gateway.cli("log-level", "error", "--json").stdout)
    assert answer == {"level": "error", "until": None}
    for arguments in (["loud"], ["debug", "--for", "soon"], ["debug", "--for", "0s"], ["debug", "--for", "2d"]):
        assert gateway.cli("log-level", *arguments).returncode == 2
