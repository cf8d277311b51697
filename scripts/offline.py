"""Pack the built book so that it opens from a folder, with no network: `make offline`."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "_build" / "html"
TARGET = ROOT / "dist" / "geobook-offline.zip"
MATHJAX = Path("_static/vendor/tex-svg-full.js")
LEFT_OUT = {".buildinfo", "objects.inv"}
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same pages make the same archive


def pack(pages: Path, target: Path) -> int:
    """Write the archive.

    Parameters
    ----------
    pages : pathlib.Path
        Folder of built pages.
    target : pathlib.Path
        The archive.

    Returns
    -------
    int
        Its size in bytes.

    Raises
    ------
    FileNotFoundError
        If the pages are missing, or would need the network for their mathematics.
    """
    if not (pages / "index.html").is_file():
        raise FileNotFoundError(f"no pages in {pages}: run `make book` first")
    if not (pages / MATHJAX).is_file():
        raise FileNotFoundError("MathJax is not in the book: install npm, then run `make book`")
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(p for p in pages.rglob("*") if p.is_file() and p.name not in LEFT_OUT):
            name = zipfile.ZipInfo(f"{target.stem}/{path.relative_to(pages).as_posix()}", _EPOCH)
            name.compress_type = zipfile.ZIP_DEFLATED
            name.external_attr = 0o644 << 16
            archive.writestr(name, path.read_bytes())
    return target.stat().st_size


if __name__ == "__main__":
    try:
        size = pack(PAGES, TARGET)
    except FileNotFoundError as error:
        sys.exit(str(error))
    print(f"{TARGET} ({size / 1e6:.1f} MB): unpack it anywhere and open index.html")
