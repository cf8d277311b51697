"""What this machine has and lacks of what the book uses, in words: ``python -m geobook doctor``."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata

import geobook

REQUIRED = ("torch", "numpy", "scipy", "matplotlib", "scikit-learn", "POT", "tqdm", "joblib",
            "Pillow", "platformdirs")  # fmt: skip
OPTIONAL = {
    "torchvision": "downloads the image sets: pip install torchvision",
    "ipywidgets": "the live panels: pip install 'geobook[live]'",
    "ipykernel": "runs the notebooks: pip install 'geobook[live]'",
}


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Parameters
    ----------
    group, what, value : str
        Heading, subject, and what was found.
    remedy : str
        What to do where something is missing; empty where nothing is.
    fatal : bool
        Whether the package cannot work without it.
    """

    group: str
    what: str
    value: str
    remedy: str = ""
    fatal: bool = False


def findings() -> list[Finding]:
    """Look at everything, and change nothing."""
    versions = list(_versions())
    if any(finding.fatal for finding in versions):
        return versions
    # Only now is it certain that the rest of the package can be imported.
    return [*versions, *_torchvision_trouble(), *_machine(), *_data_sets(), *_results()]


def report(found: list[Finding]) -> str:
    """Return the findings as text, what is missing once more at the end."""
    lines: list[str] = []
    width = max(len(finding.what) for finding in found) + 2
    group = ""
    for finding in found:
        if finding.group != group:
            group = finding.group
            lines += ["", group] if lines else [group]
        lines.append(f"  {finding.what:<{width}}{finding.value}")
    missing = [finding for finding in found if finding.remedy]
    lines += ["", "Missing, and how to get it" if missing else "Nothing is missing."]
    for finding in missing:
        mark = " (required)" if finding.fatal else ""
        lines.append(f"  {finding.what}{mark}: {finding.remedy}")
    return "\n".join(lines)


def _versions() -> Iterator[Finding]:
    group = "Versions"
    yield Finding(group, "geobook", geobook.__version__)
    yield Finding(group, "Python", platform.python_version())
    for name in REQUIRED:
        version = _version(name)
        remedy = "" if version else f"pip install {name}"
        yield Finding(group, name, version or "missing", remedy, fatal=not version)
    for name, remedy in OPTIONAL.items():
        version = _version(name)
        yield Finding(group, name, version or "missing", "" if version else remedy)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _torchvision_trouble() -> Iterator[Finding]:
    if _version("torchvision") is None:
        return
    from geobook import _torchvision

    try:
        _torchvision.datasets()
    except Exception as error:  # whatever a broken install raises is the finding
        remedy = "install the release of torchvision that belongs to this torch"
        yield Finding("Versions", "torchvision fails", str(error).splitlines()[0], remedy)


def _machine() -> Iterator[Finding]:
    import torch

    from geobook import runtime

    group = "Machine"
    yield _setting(group, "mode", "GEOBOOK_MODE", runtime.mode)
    yield _setting(group, "device", "GEOBOOK_DEVICE", lambda: str(runtime.device()))
    cards = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    yield Finding(group, "GPU", ", ".join(cards) or "none (quick mode needs none)")
    yield Finding(group, "processors", f"{os.cpu_count()}, torch uses {torch.get_num_threads()}")


def _setting(group: str, what: str, variable: str, read: Callable[[], str]) -> Finding:
    try:
        return Finding(group, what, read())
    except ValueError as error:
        return Finding(group, what, str(error), f"correct or unset {variable}", fatal=True)


def _data_sets() -> Iterator[Finding]:
    from geobook import data, runtime
    from geobook._sets import SETS

    group = "Data sets"
    folder = runtime.cache_folder()
    yield Finding(group, "folder", f"{folder} (GEOBOOK_DATA sets another)")
    for name, place in data.available().items():
        remedy = (
            f"geobook.data.load({name!r}) downloads it; or put {SETS[name].standard_place} "
            f"or {name}.npz into {folder}"
        )
        yield Finding(group, name, place or "missing", "" if place else remedy)


def _results() -> Iterator[Finding]:
    from geobook import results

    names = results.names()
    remedy = "" if names else "python -m geobook reproduce digits"
    yield Finding("Published results", "experiments", ", ".join(names) or "none", remedy)
