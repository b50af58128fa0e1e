"""`gateway completion` and the man page: what a shell and `man` know of the commands."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_process import GATEWAY, run_cli

from gateway.cli import SECTIONS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "gateway.1"


def completed(shell: str, words: str) -> list[str]:
    """What the shell offers for the last of these words."""
    environment = {
        "_GATEWAY_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": words.split(" ")[-1] if shell == "fish" else str(len(words.split(" ")) - 1),
    }
    result = run_cli([], environment=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell(shell: str, tmp_path: Path) -> None:
    """The shell, where it is installed, accepts it; it asks the same program for completions."""
    result = run_cli(["completion", shell])

    assert result.returncode == 0
    assert f"_GATEWAY_COMPLETE={shell}_complete" in result.stdout
    if shutil.which(shell):
        script = tmp_path / "script"
        script.write_text(result.stdout)
        subprocess.run([shell, "--no-execute" if shell == "fish" else "-n", script], check=True)


def test_commands_and_options_are_completed() -> None:
    """By what they begin with."""
    assert "events" in completed("bash", "gateway ev")[0]
    assert completed("bash", "gateway events --conv") == ["plain,--conversation"]
    assert completed("bash", "gateway dead ret") == ["plain,retry"]
    assert completed("zsh", "gateway log-level de")[:2] == ["plain", "debug"]
    assert completed("fish", "gateway rel")[0].startswith("plain,reload")


def test_bash_completes_a_command() -> None:
    """In a real shell, with the script evaluated."""
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    line = (
        'eval "$(gateway completion bash)"; COMP_WORDS=(gateway time); COMP_CWORD=1;'
        ' _gateway_completion gateway; echo "${COMPREPLY[@]}"'
    )
    path = os.pathsep.join([str(Path(GATEWAY).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", line], env={**os.environ, "PATH": path}, capture_output=True, text=True, check=True
    )

    assert done.stdout == "timeline\n", done.stderr


def test_the_man_page_is_that_of_the_commands() -> None:
    """Where this fails, the help of a command has changed: run `make man`."""
    done = subprocess.run([sys.executable, ROOT / "docs" / "make_man.py"], capture_output=True, text=True, check=True)

    assert PAGE.read_text() == done.stdout, "docs/gateway.1 is out of date: run `make man`"
    for section in SECTIONS.values():
        for name in section:
            words = name.replace("-", "\\-")
            assert f"\n.SS gateway {words}" in done.stdout


def test_the_man_page_is_sound() -> None:
    """groff has nothing to complain about, and what it shows has no markup left."""
    if shutil.which("groff") is None:
        pytest.skip("groff is not installed")
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-P-c", "-P-b", "-P-u", PAGE], capture_output=True, text=True, check=True
    )

    assert done.stderr == ""
    assert "gateway ask balance ID" in done.stdout
    assert "\\f" not in done.stdout
    assert "\b" not in done.stdout
