"""`gateway run` as processes: how it starts, what it survives, how it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from cli_process import GATEWAY, run_cli
from click.testing import CliRunner
from raw_http import CLOSE, EVENT, Requests, talk
from running import RunningGateway, eventually, on_a_terminal, running, write_config, write_plugin

from gateway.cli import cli
from gateway.config.load import load_config

StartGateway = Callable[..., RunningGateway]

SLOW_PROVIDER = """
    import asyncio
    from gateway import hookimpl

    class Plugin:
        @hookimpl
        async def custom_values(self, request):
            print("asked", flush=True)
            await asyncio.sleep(1)
            return {"balance": "120.50"}
"""


def refused(config: Path) -> str:
    """Run a config that cannot be served: exit code 1, and one sentence, which is returned."""
    result = run_cli(["run", "-c", config])
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("gateway: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("gateway: ").rstrip()


def keeps(gateway: RunningGateway) -> str:
    """Send an event that must be kept; returns its id."""
    with gateway.client() as client:
        answer = client.post(EVENT)
    assert answer.status == 200
    return str(answer.document["id"])


def worker_of(gateway: RunningGateway) -> psutil.Process:
    [worker] = psutil.Process(gateway.process.pid).children()
    return worker


def read_to_end(connection: socket.socket) -> bytes:
    data = b""
    while received := connection.recv(65536):
        data += received
    return data


def is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway that the tests share and leave running."""
    with running(tmp_path_factory.mktemp("idle")) as gateway:
        yield gateway


# Starting


def test_a_line_per_listener_once_it_accepts(idle: RunningGateway) -> None:
    """`gateway run` prints these two lines and nothing else."""
    said = [line for line in idle.output if line.startswith("gateway: ")]
    assert said == [f"gateway: webhooks at {idle.url}\n", f"gateway: admin at {idle.admin_url}/\n"]
    assert httpx.get(f"{idle.admin_url}/health/ready").status_code == 200
    keeps(idle)


def test_what_an_idle_gateway_takes(start_gateway: StartGateway, tmp_path: Path) -> None:
    """Time until ready and memory, with three bundled plugins enabled, stay below their limits."""
    text = (
        "[plugins.logging]\n"
        '[plugins.archive]\ndirectory = "archive"\n'
        '[plugins.sql_values]\nurl = "sqlite:///customers.db"\n'
        '[[plugins.sql_values.queries]]\nsql = "SELECT 1 AS one"\n'
    )
    (tmp_path / "customers.db").touch()
    began = time.monotonic()
    gateway = start_gateway(text)
    seconds = time.monotonic() - began
    processes = [psutil.Process(gateway.process.pid), worker_of(gateway)]
    memory = sum(process.memory_full_info().pss for process in processes) / 2**20
    print(f"ready after {seconds:.2f} s; {memory:.0f} MB in {len(processes)} processes")
    assert seconds < 8
    assert memory < 120


@pytest.mark.parametrize("listener", ["server", "admin"])
def test_a_port_in_use(tmp_path: Path, listener: str) -> None:
    """One sentence that names the address, exit 1."""
    config = write_config(tmp_path)
    port = getattr(load_config(config), listener).port
    with socket.create_server(("127.0.0.1", port)):
        assert refused(config) == f"127.0.0.1:{port} is in use by another process"


def test_the_ports_of_a_running_gateway(idle: RunningGateway, tmp_path: Path) -> None:
    """Two gateways cannot share a public port, although the HTTP server would allow it."""
    config = write_config(tmp_path)
    config.write_text(re.sub(r"(\[server\]\nport = )\d+", rf"\g<1>{idle.config.server.port}", config.read_text()))
    assert refused(config) == f"127.0.0.1:{idle.config.server.port} is in use by another process"


def test_a_second_gateway_on_the_same_journal(idle: RunningGateway, tmp_path: Path) -> None:
    """A second gateway on a journal is refused with a sentence that names the process of the first, also with the same
    config, whose ports are in use, too. The first gateway goes on."""
    journal, first = idle.config.journal.path, idle.process.pid
    for config in (write_config(tmp_path, f'[journal]\npath = "{journal}"\n'), idle.config_path):
        assert refused(config) == (
            f"the journal {journal} is in use by the gateway with process id {first}; stop that one first"
        )
    keeps(idle)


def test_a_host_may_be_a_name(start_gateway: StartGateway) -> None:
    """The host may be a name, such as `localhost`."""
    gateway = start_gateway('host = "localhost"\n')
    assert (
        gateway.wait_for_line("gateway: webhooks")
        == f"gateway: webhooks at http://localhost:{gateway.config.server.port}/webio\n"
    )
    keeps(gateway)


def test_a_host_that_is_not_here(tmp_path: Path) -> None:
    """An unknown host name, or an address of another machine: one sentence, exit 1."""
    config = write_config(tmp_path, 'host = "nobody.invalid"\n')
    assert refused(config) == "nobody.invalid is not a name or an address that this machine can resolve"
    config = write_config(tmp_path, 'host = "203.0.113.1"\n')
    assert re.fullmatch(r"203\.0\.113\.1:\d+ Cannot assign requested address", refused(config), re.IGNORECASE)


FAILING = {
    "first": """
        from gateway import hookimpl

        class Plugin:
            @hookimpl
            def startup(self, context):
                print("first is up", flush=True)

            @hookimpl
            def shutdown(self):
                print("first is down", flush=True)
    """,
}


# Ending


def test_a_signal_answers_what_is_on_its_way(start_gateway: StartGateway) -> None:
    """Requests in flight are answered, a body that stalls is given up soon, idle connections do not matter, and the
    gateway exits 0 well within 10 s."""
    gateway = start_gateway("[plugins.slow]\n", plugins={"slow": SLOW_PROVIDER})
    requests = Requests(gateway)
    value = requests.head(CLOSE, method=b"GET", path=b"/webio?customerUID=1&param1=balance")
    with (
        httpx.Client(headers={"x-webio-token": requests.token.decode()}) as kept_alive,
        socket.create_connection(("127.0.0.1", requests.port)) as stalled,
        socket.create_connection(("127.0.0.1", requests.port)) as asking,
    ):
        assert kept_alive.post(gateway.url, content=EVENT).status_code == 200
        stalled.sendall(requests.head(b"Content-Length: 100") + b"{")
        asking.sendall(value)
        gateway.wait_for_line("asked")
        began = time.monotonic()
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(10) == 0
        print(f"ended after {time.monotonic() - began:.2f} s")
        answer = read_to_end(asking)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b'{"balance":"120.50"}')
        assert read_to_end(stalled).startswith(b"HTTP/1.1 408 ")
    assert is_free(requests.port)
    assert is_free(gateway.config.admin.port)


def test_a_second_signal_ends_at_once(start_gateway: StartGateway) -> None:
    """A second signal ends a slow shutdown at once. Ctrl-C, which goes to every process, does the same as SIGTERM."""
    source = """
        import time
        from gateway import hookimpl

        class Plugin:
            @hookimpl
            def shutdown(self):
                print("shutting down", flush=True)
                time.sleep(60)
    """
    gateway = start_gateway("[plugins.slow]\n", plugins={"slow": source})
    worker = worker_of(gateway)
    os.killpg(gateway.process.pid, signal.SIGINT)
    gateway.wait_for_line("shutting down")
    began = time.monotonic()
    gateway.process.send_signal(signal.SIGTERM)
    assert gateway.process.wait(5) == 1
    assert time.monotonic() - began < 1
    eventually(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, within=2)
    gateway.kill()
    gateway.process.returncode = -signal.SIGKILL  # this end was asked for


def test_a_plugin_that_hangs_in_shutdown_does_not_keep_it(start_gateway: StartGateway) -> None:
    """It is named in the log, the others are shut down, and the gateway exits 0 in time."""
    source = """
        import asyncio
        from gateway import hookimpl

        class Plugin:
            @hookimpl
            async def shutdown(self):
                await asyncio.sleep(60)
    """
    gateway = start_gateway("[plugins.first]\n[plugins.slow]\n", plugins={"first": FAILING["first"], "slow": source})
    assert gateway.stop() == 0
    assert "plugin slow: shutdown failed: no answer within 2 s" in gateway.text
    assert "first is down\n" in gateway.output
    assert re.search(r"stopped after \d+\.\d s$", gateway.output[-1])


def test_signals_while_starting(tmp_path: Path) -> None:
    """SIGTERM while a plugin starts: it may finish starting, is shut down again, and the gateway exits 0."""
    source = """
        import time
        from gateway import hookimpl

        class Plugin:
            @hookimpl
            def startup(self, context):
                print("starting", flush=True)
                time.sleep(0.4)

            @hookimpl
            def shutdown(self):
                print("shut down", flush=True)
    """
    write_plugin(tmp_path / "site", "slow", source)
    with subprocess.Popen(
        [GATEWAY, "run", "-c", str(write_config(tmp_path, "[plugins.slow]\n"))],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        assert re.search(
            r"gateway\.server: starting: version \S+, process \d+, config \S+/config\.toml, journal \S+ \(new\),"
            r" plugins: slow \(plugin-slow 1\.0\)$",
            first,
        )
        assert "starting\n" in iter(process.stdout.readline, "")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        rest = process.stdout.read().splitlines()
        assert "shut down" in rest
        for moment in ("ready after", "draining: ", "stopped after"):
            assert any(f"gateway.server: {moment}" in line for line in rest), moment


@pytest.mark.parametrize("name", ["HUP", "USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO"])
def test_an_undocumented_signal_does_nothing(idle: RunningGateway, name: str) -> None:
    """Neither the supervisor nor the worker ends by a signal that has no meaning here."""
    worker, number = worker_of(idle), getattr(signal, f"SIG{name}")
    idle.process.send_signal(number)
    worker.send_signal(number)
    keeps(idle)
    assert worker_of(idle) == worker


# Dying


def test_a_worker_that_dies_comes_back(start_gateway: StartGateway) -> None:
    """After `kill -9` of the worker, the supervisor logs it and starts another, and the journal has what was answered
    200."""
    gateway = start_gateway()
    ids = [keeps(gateway)]
    for _ in range(2):
        seen = len(gateway.output)
        worker_of(gateway).kill()
        gateway.wait_for_line("the worker process died (SIGKILL); starting it again", after=seen)
        gateway.wait_for_line("gateway: admin at", after=seen)
        ids.append(keeps(gateway))
    shown = gateway.cli("events", "--json").stdout
    assert re.findall('"id": ?"([^"]+)"', shown) == ids


def test_a_worker_that_cannot_come_back_is_tried_again(start_gateway: StartGateway) -> None:
    """A gateway that has run before tries again when its worker cannot start."""
    gateway = start_gateway()
    journal = gateway.config.journal.path
    aside = journal.with_name("aside")
    journal.rename(aside)
    journal.mkdir()
    worker_of(gateway).kill()
    gateway.wait_for_line("the worker process died (exit code 71); starting it again")
    seen = len(gateway.output)
    journal.rmdir()
    aside.rename(journal)
    gateway.wait_for_line("gateway: admin at", after=seen)
    keeps(gateway)


def test_a_supervisor_that_dies_takes_the_worker_along(start_gateway: StartGateway) -> None:
    """After `kill -9` of the supervisor, no process holds the ports or the journal."""
    gateway = start_gateway()
    worker = worker_of(gateway)
    gateway.process.kill()
    gateway.process.wait()
    eventually(lambda: not worker.is_running(), within=3)
    assert is_free(gateway.config.server.port)
    assert is_free(gateway.config.admin.port)
    gateway.start()
    keeps(gateway)


# TLS


def test_tls(start_gateway: StartGateway, certificate: Path) -> None:
    """TLS 1.2 and 1.3 with the configured certificate, nothing older, HTTP/1.1 only, and no plain HTTP."""
    gateway = start_gateway(
        f'[server.tls]\ncertificate = "{certificate}/certificate.pem"\nkey = "{certificate}/key.pem"\n'
    )
    port = gateway.config.server.port
    assert gateway.wait_for_line("gateway: webhooks") == f"gateway: webhooks at https://127.0.0.1:{port}/webio\n"
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.create_default_context(cafile=certificate / "certificate.pem")
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(["h2", "http/1.1"])
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as secure,
        ):
            assert secure.selected_alpn_protocol() == "http/1.1"
            secure.sendall(Requests(gateway).post())
            assert secure.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
    keeps(gateway)
    assert not talk(port, b"GET /webio HTTP/1.1\r\n\r\n", wait=5).statuses


@pytest.mark.parametrize(
    ("fault", "path", "sentence"),
    [
        ("no certificate", "server.tls.certificate", "{folder}/certificate.pem does not exist"),
        ("no key", "server.tls.key", "{folder}/key.pem does not exist"),
        (
            "another's key",
            "server.tls",
            "cannot serve with the certificate {folder}/certificate.pem and the key {folder}/key.pem: ",
        ),
        (
            "no PEM",
            "server.tls",
            "cannot serve with the certificate {folder}/certificate.pem and the key {folder}/key.pem: ",
        ),
        (
            "a key with a pass phrase",
            "server.tls.key",
            "expected an unencrypted key (with mode 0600); {folder}/key.pem is encrypted with a pass phrase",
        ),
    ],
)
def test_tls_that_cannot_be(tmp_path: Path, certificate: Path, fault: str, path: str, sentence: str) -> None:
    """`run` and `check` report the same fault, with exit code 78, so that a service manager does not try again. Neither
    asks for a pass phrase, also on a terminal."""
    for name in ("certificate.pem", "key.pem"):
        shutil.copy(certificate / name, tmp_path)
    key = tmp_path / "key.pem"
    if fault == "no certificate":
        (tmp_path / "certificate.pem").unlink()
    elif fault == "no key":
        key.unlink()
    elif fault == "another's key":
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    elif fault == "a key with a pass phrase":
        encrypt = ["openssl", "rsa", "-aes256", "-passout", "pass:secret"]
        subprocess.run([*encrypt, "-in", certificate / "key.pem", "-out", key], check=True, capture_output=True)
    else:
        (tmp_path / "certificate.pem").write_text("no certificate")
    config = write_config(tmp_path, '[server.tls]\ncertificate = "certificate.pem"\nkey = "key.pem"\n')
    sentence = sentence.format(folder=tmp_path)

    result = CliRunner().invoke(cli, ["check", "--json", "-c", str(config)])
    assert result.exit_code == 78
    [problem] = json.loads(result.stdout)["errors"]
    assert problem["path"] == path
    assert problem["message"].startswith(sentence)
    if fault == "another's key":
        ran = run_cli(["run", "-c", config])
        assert (ran.returncode, ran.stdout) == (78, "")
        assert ran.stderr == f"{config}: {problem['path']}: {problem['message']}\n"
    elif fault == "a key with a pass phrase":
        code, seen = on_a_terminal(["run", "-c", config])
        shown = f"{config}: {problem['path']}: {problem['message']}\n"
        assert (code, seen.replace("\r\n", "\n")) == (78, shown)
