"""Changes under load that no request may notice: reloads of the config, and restarts on the sockets of a service
manager."""

from __future__ import annotations

import itertools
import json
import socket
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
from rounds import SETTINGS, Outcome
from senders import Senders
from service_manager import managed
from verdict import judge
from victim import RECORDER, Victim

from gateway import simulate
from gateway.config.tables import Config
from gateway.journal import open_reader
from gateway.journal.interface import Filter

OTHER_SECRET: Final = "another secret of thirty-two bytes or more"
PROVIDER: Final = """
from gateway import hookimpl

class Plugin:
    @hookimpl
    def custom_values(self, request):
        return {"balance": "120.50"}
"""
_OWN: Final = '[organisations.acme]\nsecrets = [{ file = "webio.secret" }]\n'
_BACKOFF: Final = 'backoff = "20ms"'
_CHANGED: Final = (
    _OWN.replace("[{", '[{ file = "other.secret" }, {') + 'timezone = "Europe/Dublin"\n',
    f'{_OWN}[organisations.other]\nsecrets = [{{ file = "other.secret" }}]\n',
    f'{_OWN}[hooks.payment]\ntypes = ["webioPayment"]\n[log]\nlevel = "warning"\n',
    f'{_OWN}[values]\ndeadline = "2s"\ncache = "1s"\n',
    _OWN,
)
"""What a reload puts in the place of `_OWN`: the secret of the senders is valid with each."""


class Changed(msgspec.Struct):
    """`changes` is how many reloads or restarts there were, `asked` how custom value requests were answered."""

    outcome: Outcome
    changes: int
    asked: Counter[str] = Counter()


def reload_rounds(directory: Path, requests: int, *, say: Callable[[str], None] = lambda line: None) -> Changed:
    """Reload a config that differs each time until `requests` events are acknowledged and each of `_CHANGED` has been
    in force, under 16 senders that keep their connections and one that asks for values; then the verdict."""
    text = f"{SETTINGS}\n[plugins.provider]\n"
    victim = Victim(directory, text, {"recorder": RECORDER, "provider": PROVIDER})
    (directory / "other.secret").write_text(OTHER_SECRET)
    (directory / "other.secret").chmod(0o600)
    own, ended, asked, reloads = victim.config_path.read_text(), threading.Event(), Counter[str](), 0
    assert _OWN in own
    assert _BACKOFF in own
    asking = threading.Thread(target=_ask, args=(victim.config, ended, asked))
    try:
        victim.start()
        asking.start()
        with Senders(victim.config, pause=0.002) as senders:
            for change in itertools.cycle(_CHANGED):
                changed = own.replace(_OWN, change).replace(_BACKOFF, f'backoff = "{20 + reloads % 3}ms"')
                victim.config_path.write_text(changed)
                answer = _reload(victim.config.admin.port)
                assert answer == {"applied": True, "needs_restart": [], "errors": []}, answer
                reloads += 1
                if reloads % 20 == 0:
                    say(f"{reloads} reloads, {len(senders.acknowledged)} acknowledged")
                if len(senders.acknowledged) >= requests and reloads >= len(_CHANGED):
                    break
            ended.set()
            senders.finish(60)
        asking.join()
        victim.wait_delivered(180)
        code, took = victim.terminate()
        outcome = Outcome(
            findings=judge(victim, senders.acknowledged),
            answers=dict(senders.answers),
            unexpected=senders.unexpected,
            broken=senders.broken,
            exits=[code],
            seconds=[took],
            words=victim.words(),
        )
        return Changed(outcome, reloads, asked)
    finally:
        ended.set()
        victim.kill()


def _reload(port: int) -> object:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/reload", data=b"{}", method="POST")
    request.add_header("content-type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def _ask(config: Config, ended: threading.Event, asked: Counter[str]) -> None:
    with simulate.Client(config, "acme") as client:
        while not ended.is_set():
            try:
                asked[str(client.ask(["balance"], customer_uid="1").status)] += 1
            except simulate.Unreachable as error:
                asked[str(error)] += 1


class Restarts(msgspec.Struct):
    """Statuses of the answers by number, connections that were refused or broken with their errors, events whose body
    came in two halves with a restart between them, and acknowledged events that the journal does not have."""

    statuses: Counter[int] = Counter()
    failures: list[str] = []
    halves: int = 0
    lost: int = 0


def restart_rounds(directory: Path, rounds: int, *, say: Callable[[str], None] = lambda line: None) -> Restarts:
    """Restart a gateway on the sockets of a service manager, `rounds` times, under senders that connect for each event;
    some send the second half of a body only after a while, so that many are under way when the gateway is told to
    stop."""
    found, ids, ended = Restarts(), list[str](), threading.Event()
    with managed(directory) as manager:
        manager.told("READY=1")
        pauses = (0.0, 0.0, 0.0, 0.3)
        numbers = itertools.count()
        senders = [
            threading.Thread(target=_send, args=(manager.config, numbers, pause, ended, found, ids)) for pause in pauses
        ]
        for sender in senders:
            sender.start()
        try:
            for number in range(rounds):
                before = found.statuses.total()
                manager.restart()
                while found.statuses.total() < before + 20 and not found.failures:
                    time.sleep(0.01)
                if number % 5 == 4:
                    say(f"{number + 1} restarts, {found.statuses.total()} answers")
        finally:
            ended.set()
            for sender in senders:
                sender.join()
        manager.stop()
        reader = open_reader(manager.config)
        try:
            kept = {row.id for row in reader.events(Filter())}
        finally:
            reader.close()
        found.lost = len(set(ids) - kept)
    return found


def _send(
    config: Config, numbers: itertools.count[int], pause: float, ended: threading.Event, found: Restarts, ids: list[str]
) -> None:
    token = simulate.token(config.organisations["acme"])
    while not ended.is_set():
        body = simulate.encode(simulate.body("inbound-message") | {"communicationActionId": f"n{next(numbers)}"})
        head = (
            f"POST {config.server.path} HTTP/1.1\r\nhost: gateway\r\nx-webio-token: {token}\r\nconnection: close\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        try:
            with socket.create_connection(("127.0.0.1", config.server.port), timeout=60) as connection:
                connection.sendall(head.encode() + body[:50])
                if pause:
                    time.sleep(pause)
                    found.halves += 1
                connection.sendall(body[50:])
                answer = connection.makefile("rb").read()
            status = int(answer.split(b" ", 2)[1])
            found.statuses[status] += 1
            if status == 200:
                ids.append(json.loads(answer.partition(b"\r\n\r\n")[2])["id"])
        except (OSError, IndexError, ValueError) as error:
            found.failures.append(f"{type(error).__name__}: {error}")
