"""Make the book's own environment, `.venv`, out of the pins: `python3 scripts/environment.py`."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "installed.sha256"
INPUTS = ("requirements.txt", "pyproject.toml")


def main():
    """Install what the stamp says is missing; nothing where pins and package are unchanged."""
    if sys.version_info < (3, 11):  # noqa: UP036 (this very file runs on what the user has)
        found = ".".join(map(str, sys.version_info[:3]))
        sys.exit(f"Python 3.11 or newer is needed, this is {found}: try `make PYTHON=python3.12`")
    digest = hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in INPUTS)).hexdigest()
    if PYTHON.exists() and STAMP.exists() and STAMP.read_text() == digest:
        return
    print("Installing the pinned packages into .venv (once, some minutes)", flush=True)
    # Without a stamp the last attempt broke off, so what it left is not to be trusted.
    how = ("--clear",) if VENV.exists() and not STAMP.exists() else ()
    if (how or not PYTHON.exists()) and _run(sys.executable, "-m", "venv", *how, VENV):
        sys.exit("Python could not make a virtual environment (Debian: install python3-venv)")
    pip = (PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    # The constraint keeps a later, looser requirement from moving a pin.
    pinned = ("-r", ROOT / "requirements.txt", "-c", ROOT / "requirements.txt")
    if _run(*pip, *pinned) or _run(*pip, "--no-deps", "--editable", ROOT):
        sys.exit("The packages could not be installed: see the messages above")
    STAMP.write_text(digest)


def _run(*command):
    return subprocess.run([str(part) for part in command], check=False).returncode


if __name__ == "__main__":
    main()
