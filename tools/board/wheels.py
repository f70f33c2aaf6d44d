"""Files out of pinned wheels: downloaded once, unpacked, never installed."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path


class Missing(Exception):
    """Something is not here; the message says what, and how to get it."""


def wheel(work: Path, requirement: str) -> Path:
    """The folder with the files of a wheel, such as `nudenet==3.4.2`.

    Raises:
        Missing: it is neither in the work folder nor to be had.
    """
    folder = work / "wheels" / requirement
    if not folder.exists():
        archive = _download(work / "wheels" / "archives", requirement)
        partial = folder.with_name(f"{folder.name}.partial")
        with zipfile.ZipFile(archive) as content:
            content.extractall(partial)
        partial.rename(folder)
    return folder


def _download(folder: Path, requirement: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    name, _, version = requirement.partition("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if not list(folder.glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:"]
        run = subprocess.run(
            [*command, "-d", str(folder), requirement], capture_output=True, text=True, check=False
        )
        if run.returncode:
            reason = (run.stderr.strip() or "no reason given").splitlines()[-1]
            raise Missing(
                f"{requirement} can't be downloaded ({reason}); put its wheel into {folder}, "
                f"for example with: pip download --no-deps -d {folder} {requirement}"
            )
    return next(folder.glob(pattern))
