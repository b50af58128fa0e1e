"""The version of a build: the tag's, and a sensible one where there is none. `make release` tries the rest."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import cli

ROOT = Path(__file__).parents[1]


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "tag.gpgSign=false"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        (["v9.8.7"], r"9\.8\.7"),
        ([], r"0\.1\.0\.dev1\+g[0-9a-f]+"),
        (None, r"0\.1\.0\.dev0"),
    ],
    ids=["at a tag", "a clone without tags", "a copy without git"],
)
def test_the_version_is_made_from_the_tag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tags: list[str] | None, expected: str
) -> None:
    """And a commit without one has a version of its own, which is no release's."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    if tags is not None:
        git(tmp_path, "init", "--quiet")
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "--quiet", "--no-verify", "--no-gpg-sign", "-m", "Begin")
        for tag in tags:
            git(tmp_path, "tag", tag)

    made = subprocess.run(
        [sys.executable, "-m", "hatchling", "version"], cwd=tmp_path, check=True, capture_output=True, text=True
    )

    assert re.fullmatch(expected, made.stdout.strip())


def test_the_command_says_the_version_of_its_package() -> None:
    said = CliRunner().invoke(cli, ["--version"])

    assert said.output == f"gateway {version('webio-gateway')}\n"
