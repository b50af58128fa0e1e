"""Files and folders that outlive a loss of power."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from pathlib import Path

FILE_MODE = 0o600
FOLDER_MODE = 0o700


def sync_file(fd: int) -> None:
    """Write a file's content to the disk. After an `OSError` it is unknown what is on the disk."""
    if sys.platform == "darwin":
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(fd)


def sync_folder(folder: Path) -> None:
    """Write the names in a folder to the disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_folder(folder: Path) -> None:
    """Make a folder and its missing parents, independent of the umask; existing folders keep their modes."""
    try:
        folder.mkdir(FOLDER_MODE)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return
    except FileNotFoundError:
        make_folder(folder.parent)
        make_folder(folder)
        return
    folder.chmod(FOLDER_MODE)
    sync_folder(folder.parent)


def open_file(path: Path, flags: int) -> int:
    """Open a file that exists; return its descriptor. `OSError` where it is a symbolic link."""
    try:
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise OSError(error.errno, "is a symbolic link, which may lead to any file; remove it", str(path)) from None


def create_file(path: Path) -> int:
    """Make a file for reading and appending; return its descriptor. `FileExistsError` where it exists."""
    fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL, FILE_MODE)
    try:
        os.fchmod(fd, FILE_MODE)
    except BaseException:
        os.close(fd)
        raise
    return fd


def write_all(fd: int, data: bytes) -> None:
    """Write all of `data`, with as many calls as needed."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
