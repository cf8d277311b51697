"""Build the book strictly, say how each chapter comes along, and where to open it."""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The execution cache knows a chapter's own code only, so what that code calls is watched here.
EXECUTION_INPUTS = ("src/geobook", "results", "requirements.txt", "pyproject.toml")
# Sphinx looks neither inside the extensions it loads nor at style sheets where no page changed.
PAGE_INPUTS = (*EXECUTION_INPUTS, "book/_ext", "book/_static", "_config.yml")

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_EXECUTING = re.compile(r"([^/\s]+)\.(?:md|ipynb): Executing notebook")
_EXECUTED = re.compile(r"([^/\s]+)\.(?:md|ipynb): Executed notebook in ([\d.]+) seconds")
_CACHED = re.compile(r"([^/\s]+)\.(?:md|ipynb): Using cached notebook")
_LEFT_OUT = re.compile(r"geobook: (left out: .*)")
_WARNING = re.compile(r"WARNING|ERROR|CRITICAL")
_FAILED_CELL = re.compile(
    r"(An error occurred while executing the following cell:.*?)\nThe above", re.S
)
_NOISE = re.compile(r"\[IPKernelApp\] WARNING \| Kernel is running over TCP")


def main(arguments: list[str] | None = None) -> int:
    """Build; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=ROOT, help="folder that holds _config.yml")
    root = parser.parse_args(arguments).root.resolve()
    started = time.perf_counter()
    import matplotlib.font_manager  # noqa: F401 (makes its font cache, silently, before any cell)

    drop_stale_caches(root)
    status, left_out = run(root)
    spent = f"{time.perf_counter() - started:.0f} s"
    if status:
        print(f"The book could not be built ({spent}): the whole log is {root}/_build/build.log")
        return status
    for line in left_out:
        print(line)
    print(f"The book is built ({spent}). Open {(root / '_build/html/index.html').as_uri()}")
    return 0


def drop_stale_caches(root: Path) -> None:
    """Drop executed chapters, or only read pages, where what they rest on has changed."""
    build = root / "_build"
    checks = {
        "execution": (digest(root, EXECUTION_INPUTS, _mode()), (".jupyter_cache", ".doctrees")),
        "pages": (pages_digest(root), (".doctrees",)),
    }
    for name, (now, folders) in checks.items():
        stamp = build / f".{name}.sha256"
        if stamp.is_file() and stamp.read_text() == now:
            continue
        for folder in folders:
            shutil.rmtree(build / folder, ignore_errors=True)
        build.mkdir(exist_ok=True)
        stamp.write_text(now)


def pages_digest(root: Path) -> str:
    """Return a hash over everything that the pages rest on beside the chapters themselves."""
    return digest(root, PAGE_INPUTS, _mode())


def _mode() -> str:
    return os.environ.get("GEOBOOK_MODE", "quick")


def digest(root: Path, names: tuple[str, ...], salt: str = "") -> str:
    """Return a hash over the content of files and folders.

    Parameters
    ----------
    root : pathlib.Path
        Where `names` are; a missing one counts as empty.
    names : tuple of str
        Files and folders.
    salt : str
        Anything else the hash depends on.
    """
    total = hashlib.sha256(salt.encode())
    for name in names:
        for path in _files(root / name):
            total.update(path.relative_to(root).as_posix().encode())
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    elif path.is_dir():
        found = sorted(path.rglob("*"))
        yield from (p for p in found if p.is_file() and "__pycache__" not in p.parts)


def run(root: Path) -> tuple[int, list[str]]:
    """Run Jupyter Book; print progress, warnings and errors; keep everything in a log.

    Parameters
    ----------
    root : pathlib.Path
        Folder that holds ``_config.yml``.

    Returns
    -------
    int, list of str
        The exit status, and lines that say what was left out.
    """
    start = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", start, "build", ".", "-W", "-n", "--keep-going"]
    settings = {"GEOBOOK_STATIC": "1", "JUPYTER_PREFER_ENV_PATH": "1", "PYTHONUNBUFFERED": "1"}
    if _mode() == "quick":
        # Small networks gain nothing from threads, and on a busy machine lose a factor of ten.
        settings["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "1")
    process = subprocess.Popen(
        command,
        cwd=root,
        env=os.environ | settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    lines: list[str] = []
    with (root / "_build" / "build.log").open("w", encoding="utf-8") as log:
        for raw in process.stdout:
            line = _COLOUR.sub("", raw.rstrip("\n"))
            log.write(line + "\n")
            lines.append(line)
            if told := progress(line):
                print(told, flush=True)
    status = process.wait()
    if status:
        print(reason(lines))
    return status, [found[1] for line in lines if (found := _LEFT_OUT.search(line))]


def reason(lines: list[str]) -> str:
    """Return what a failed build's log says about the failure, without Sphinx's own calls.

    Parameters
    ----------
    lines : list of str
        The log.
    """
    cell = _FAILED_CELL.search("\n".join(lines))
    if cell:
        return cell[1].rstrip()
    if any(_WARNING.search(line) for line in lines):
        return ""  # told as they came: a warning is an error here
    return "\n".join(lines[-30:])


def progress(line: str) -> str | None:
    """Return what to tell the reader about a line of the log, or None."""
    if found := _EXECUTING.search(line):
        return f"  {found[1]:<28} running"
    if found := _EXECUTED.search(line):
        return f"  {found[1]:<28} ran in {float(found[2]):.1f} s"
    if found := _CACHED.search(line):
        return f"  {found[1]:<28} unchanged"
    if _WARNING.search(line) and not _NOISE.search(line):
        return line
    return None


if __name__ == "__main__":
    sys.exit(main())
