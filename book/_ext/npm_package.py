"""One file out of one pinned npm package, fetched when the book is built and kept in a folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

MATHJAX = ("mathjax@3.2.2", "es5/tex-svg-full.js")
AXE = ("axe-core@4.14.1", "axe.min.js")


class NpmUnavailableError(RuntimeError):
    """Npm is not installed, or could not fetch the package."""


def fetch(package: str, member: str, folder: Path) -> Path:
    """Return the path of a package's file, after fetching it where `folder` lacks it.

    Parameters
    ----------
    package : str
        Name and version, for example ``"mathjax@3.2.2"``.
    member : str
        Path of the file inside the package.
    folder : pathlib.Path
        Where fetched files are kept.

    Raises
    ------
    NpmUnavailableError
        If npm is missing, or cannot fetch the package (no network, say), or the package lacks
        the file.
    """
    target = folder / package / Path(member).name
    if target.is_file():
        return target
    npm = shutil.which("npm")
    if npm is None:
        raise NpmUnavailableError("npm is missing")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        archive = _pack(npm, package, Path(scratch))
        partial = Path(scratch) / "partial"
        try:
            with tarfile.open(archive) as files:
                source = files.extractfile(f"package/{member}")
                if source is None:
                    raise KeyError(member)
                partial.write_bytes(source.read())
        except (KeyError, tarfile.TarError) as error:
            raise NpmUnavailableError(f"{package} holds no file {member}") from error
        os.replace(partial, target)
    return target


def _pack(npm: str, package: str, scratch: Path) -> Path:
    command = [npm, "pack", package, "--silent", "--pack-destination", str(scratch)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        return next(scratch.glob("*.tgz"))
    except (subprocess.SubprocessError, StopIteration) as error:
        raise NpmUnavailableError(f"npm could not fetch {package}") from error
