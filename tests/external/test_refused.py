"""What the gateway refuses of third parties: each with a sentence that a stranger can act on, and exit code 78."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cli_process import run_cli
from running import write_config, write_plugin

WHO = "plugin_odd:Plugin from plugin-odd 1.0"
NEWER = "it needs version (1, 99) of the plugin contract, and this gateway has (1, "
FAULTS = {
    "syntax": ("class Plugin:\n    def on_event(self, event) ...\n", f"{WHO} cannot be imported: SyntaxError: "),
    "signature": (
        "class Plugin:\n    def on_payment(self, event, payment): ...\n",
        f"{WHO}: on_payment has no argument 'payment'; arguments: event, payload",
    ),
    "hook": (
        "class Plugin:\n    def on_paiment(self, event): ...\n",
        f'{WHO}: unknown hook on_paiment; did you mean "on_payment"?',
    ),
    "contract": ("class Plugin:\n    contract = (1, 99)\n", f"{WHO}: {NEWER}"),
    "import": ("import a_library_that_is_missing\n", f"{WHO} cannot be imported: ModuleNotFoundError: No module named"),
    "exit": ("raise SystemExit(0)\n", f"{WHO} cannot be imported: SystemExit: 0"),
    "hang": (
        "import threading\nthreading.Event().wait()\nclass Plugin: ...\n",
        f"{WHO}: its import is not over after 0.5 s; it hangs at plugin_odd.py:2 in <module>, which calls thre",
    ),
    "constructor": (
        "class Plugin:\n    def __init__(self): raise OSError('no disk')\n",
        f"{WHO}: OSError: no disk",
    ),
}


@pytest.mark.parametrize("command", [["check", "--offline"], ["run"]], ids=["check", "run"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_plugin_is_refused(fault: str, command: list[str], tmp_path: Path) -> None:
    """At `gateway check` and at the start: what is wrong, where it comes from, and in which table; no traceback."""
    source, sentence = FAULTS[fault]
    write_plugin(tmp_path / "site", "odd", source)
    config = write_config(tmp_path, '[plugins.odd]\nstartup_timeout = "500ms"\n')
    environment = {"PYTHONPATH": str(tmp_path / "site")}
    result = run_cli([*command, "-c", str(config)], environment=environment, directory=tmp_path)
    said = " ".join((result.stdout + result.stderr).split())
    assert result.returncode == 78, said
    assert "plugins.odd" in said
    assert sentence in said
    assert "Traceback" not in said


def test_two_packages_of_one_name_are_refused(tmp_path: Path) -> None:
    """Both are named, and what to do; neither runs in silence."""
    sites = [tmp_path / "one", tmp_path / "two"]
    for site in sites:
        write_plugin(site, "odd", "class Plugin:\n    def on_event(self, event): ...\n")
    (sites[1] / "plugin_odd-1.0.dist-info").rename(sites[1] / "another_odd-1.0.dist-info")
    metadata = sites[1] / "another_odd-1.0.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text().replace("plugin-odd", "another-odd"))
    config = write_config(tmp_path, "[plugins.odd]\n")
    environment = {"PYTHONPATH": os.pathsep.join(map(str, sites))}
    result = run_cli(["check", "--offline", "-c", str(config)], environment=environment, directory=tmp_path)
    assert result.returncode == 78
    said = " ".join(result.stdout.split())
    assert "the name 'odd' is claimed by plugin-odd 1.0 and another-odd 1.0; uninstall one of them" in said


def test_a_file_that_hangs_is_refused(tmp_path: Path) -> None:
    """The same for a plugin in one file."""
    tmp_path.chmod(0o700)
    (tmp_path / "odd.py").write_text("import time\ntime.sleep(3600)\nclass Plugin: ...\n")
    (tmp_path / "odd.py").chmod(0o600)
    config = write_config(tmp_path, '[plugins.odd]\nfile = "odd.py"\nstartup_timeout = "500ms"\n')
    result = run_cli(["check", "--offline", "-c", str(config)], directory=tmp_path)
    assert result.returncode == 78
    assert "odd.py: its import is not over after 0.5 s; it hangs at odd.py:2 in <module>." in " ".join(
        result.stdout.split()
    )
