"""Makes what a release consists of, in the folder `dist`: sdist, wheel, constraints with hashes, SBOM, checksums.

    python deploy/make_release.py [--extras postgresql,mysql]

Run it in a checkout, at a tag such as v1.2.0, by `make release`. docs/releasing.md explains each step.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a release in dist/.")
    parser.add_argument("--extras", default="postgresql", help="of the constraints and the image [default: postgresql]")
    extras = [extra for extra in parser.parse_args().extras.split(",") if extra]
    shutil.rmtree(DIST, ignore_errors=True)
    os.environ.setdefault("SOURCE_DATE_EPOCH", _commit_time())
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        sdist, wheel = _build(ROOT, DIST)
        _require_reproducible(sdist, wheel, work)
        _run("twine", "check", "--strict", sdist, wheel)
        constraints = _constraints(extras)
        python = _environment(work / "venv", constraints, wheel)
        version = _require_version(python, wheel)
        _bill_of_materials(python, version)
    files = sorted(DIST.iterdir())
    sums = "".join(f"{_digest(file)}  {file.name}\n" for file in files)
    (DIST / "SHA256SUMS").write_text(sums)
    print(sums, end="")  # noqa: T201
    if "dev" in version or "+" in version:
        print(f"{version} is not a release: the commit has no tag, or the checkout has changes")  # noqa: T201


def _build(source: Path, target: Path) -> tuple[Path, Path]:
    """Build the sdist, and from it the wheel."""
    _run("build", "--no-isolation", "--outdir", target, source)
    [sdist], [wheel] = target.glob("*.tar.gz"), target.glob("*.whl")
    return sdist, wheel


def _require_reproducible(sdist: Path, wheel: Path, work: Path) -> None:
    """Build again from what the sdist has, in another folder and without git: each byte must be the same."""
    with tarfile.open(sdist) as archive:
        archive.extractall(work, filter="data")
    [unpacked] = work.iterdir()
    for first, second in zip((sdist, wheel), _build(unpacked, work / "again"), strict=True):
        if first.name != second.name or _digest(first) != _digest(second):
            sys.exit(f"{first.name}: a second build made other bytes ({second.name}); the release is not reproducible")


def _constraints(extras: list[str]) -> Path:
    """Pin every package that the gateway needs, with the hashes of its files, for each supported Python and system."""
    target = DIST / "constraints.txt"
    options = [word for extra in extras for word in ("--extra", extra)]
    pinned = ["--quiet", "--universal", "--python-version", "3.11", "--generate-hashes", "--no-header"]
    _run("uv", "pip", "compile", *pinned, *options, "--output-file", target, "pyproject.toml")
    return target


def _environment(folder: Path, constraints: Path, wheel: Path) -> Path:
    """Install the release as the Containerfile does; returns the environment's Python."""
    _run("uv", "venv", "--quiet", "--python", sys.executable, folder)
    python = folder / "bin" / "python"
    install: list[str | Path] = ["pip", "install", "--quiet", "--python", python]
    _run("uv", *install, "--require-hashes", "-r", constraints)
    _run("uv", *install, "--no-deps", wheel)
    return python


def _require_version(python: Path, wheel: Path) -> str:
    said = subprocess.run([python.with_name("gateway"), "--version"], check=True, capture_output=True, text=True)
    version = said.stdout.split()[-1]
    if version != wheel.name.split("-")[1]:
        sys.exit(f"{wheel.name}: `gateway --version` says {version}")
    return version


def _bill_of_materials(python: Path, version: str) -> None:
    """Write what is installed beside the gateway, with versions, licences and who needs whom, as CycloneDX."""
    target = DIST / f"webio_gateway-{version}.cdx.json"
    options: list[str | Path] = ["--output-reproducible", "--output-format", "JSON", "--output-file", target]
    _run("cyclonedx_py", "environment", *options, "--pyproject", "pyproject.toml", python)
    bill = json.loads(target.read_text())
    bill["metadata"]["component"]["version"] = version  # pyproject.toml has none: it is made from the tag
    target.write_text(json.dumps(bill, indent=2, sort_keys=True) + "\n")


def _commit_time() -> str:
    """In seconds since 1970: the time of every file in the archives."""
    command = ["git", "log", "-1", "--format=%ct"]
    shown = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return shown.stdout.strip()


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _run(module: str, *arguments: str | Path) -> None:
    done = subprocess.run([sys.executable, "-m", module, *arguments], cwd=ROOT, check=False)
    if done.returncode:
        sys.exit(f"{module} {arguments[0]} failed: see above")


if __name__ == "__main__":
    main()
