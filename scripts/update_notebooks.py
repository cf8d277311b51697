"""Bring notebooks/ up to the built book: write what differs, delete what no chapter makes."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILT = ROOT / "_build" / "html" / "notebooks"
KEPT = ROOT / "notebooks"


def update(built: Path, kept: Path) -> list[str]:
    """Make the notebooks in `kept` those in `built`.

    Parameters
    ----------
    built, kept : pathlib.Path
        Folders.

    Returns
    -------
    list of str
        One line for each change.

    Raises
    ------
    FileNotFoundError
        If the book has not been built.
    """
    sources = {path.name: path for path in sorted(built.glob("*.ipynb"))}
    if not sources:
        raise FileNotFoundError(f"no notebooks in {built}: run `make book` first")
    kept.mkdir(exist_ok=True)
    changes = []
    for path in sorted(kept.glob("*.ipynb")):
        if path.name not in sources:
            path.unlink()
            changes.append(f"deleted {path.name}")
    for name, source in sources.items():
        target = kept / name
        content = source.read_bytes()
        if not target.exists() or target.read_bytes() != content:
            target.write_bytes(content)
            changes.append(f"wrote {name}")
    return changes


if __name__ == "__main__":
    try:
        print("\n".join(update(BUILT, KEPT)) or "notebooks/ is up to date")
    except FileNotFoundError as error:
        sys.exit(str(error))
