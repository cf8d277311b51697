"""torchvision, imported only where a file has to be downloaded, and mended where it must be."""

from __future__ import annotations

import importlib
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from types import ModuleType

import torch

from geobook._sets import ImageSet

# Seconds without a byte after which a connection counts as dead.
_PATIENCE = 30.0

# The operators that we declare live as long as this list does.
_kept_libraries: list[torch.library.Library] = []


def datasets() -> ModuleType:
    """Import `torchvision.datasets`.

    The released torchvision beside a CPU build of torch fails at import, because its compiled
    operators do not load and two of them are only then found not to be declared. On exactly that
    error, declare them and import again; the data sets never call them.

    Raises
    ------
    ImportError
        If torchvision is not installed.
    """
    try:
        return importlib.import_module("torchvision.datasets")
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            raise
    for module in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[module]
    library = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _kept_libraries.append(library)
    return importlib.import_module("torchvision.datasets")


def download(image_set: ImageSet, folder: Path) -> None:
    """Download the standard files of a data set; torchvision compares each with its MD5.

    Parameters
    ----------
    image_set : ImageSet
        Which.
    folder : Path
        A data folder; the files go to their standard places in it.

    Raises
    ------
    ImportError
        If torchvision is not installed.
    RuntimeError
        If a file cannot be had, or is not the right one; it names the addresses tried.
    """
    source = getattr(datasets(), image_set.torchvision)
    fetch = importlib.import_module("torchvision.datasets.utils").download_url
    with _impatient():
        if image_set.archive is not None:
            name, md5 = image_set.archive
            _from_one_of(fetch, [source.url], folder / name, md5)
            return
        for name, md5 in image_set.md5.items():
            addresses = [mirror + name for mirror in source.mirrors]
            _from_one_of(fetch, addresses, folder / image_set.folder / name, md5)


def _from_one_of(fetch: Callable[..., None], addresses: list[str], to: Path, md5: str) -> None:
    reasons = []
    for address in addresses:
        try:
            return fetch(address, str(to.parent), filename=to.name, md5=md5)
        except (OSError, RuntimeError, HTTPException) as error:
            reasons.append(f"{address}: {error}")
    raise RuntimeError("; ".join(reasons))


@contextmanager
def _impatient() -> Iterator[None]:
    """Let a dead connection fail: torchvision sets no time limit of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
