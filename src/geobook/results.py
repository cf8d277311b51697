"""Published results of long runs: small JSON files with provenance and a checksum.

In a checkout they live in ``results/``; an installed package carries a copy. A file holds

- name and about: what it is, in words;
- provenance: the command, commit, seeds, versions, device and time that made it;
- sha256: of the data, written canonically, so that an altered file is noticed;
- data: lists, dicts, numbers and text.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import re
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from geobook import runtime

_PACKAGES = ("geobook", "torch", "numpy", "scipy", "scikit-learn")


class AlteredResults(RuntimeError):  # noqa: N818
    """A file of results is damaged, or its data are not those that were published."""


@dataclass(frozen=True)
class Published(Mapping[str, Any]):
    """Published results; ``published["runs"]`` reads a part of the data.

    Attributes
    ----------
    name, about : str
        What was published.
    provenance : dict
        What made it, see `provenance`.
    data : dict
        The data.
    """

    name: str
    about: str
    provenance: dict[str, Any]
    data: dict[str, Any]

    def __getitem__(self, part: str) -> Any:
        return self.data[part]

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def curves(
        self, score: str, across: str = "weight_decay", part: str = "runs", **fixed: Any
    ) -> tuple[list[Any], dict[str, NDArray[np.float64]]]:
        """Arrange one score of the runs as a curve for every kind of network and seed.

        Parameters
        ----------
        score : str
            A column of the runs, for example ``"lss"``.
        across : str
            The column that runs along the curves, for example ``"blocks"``.
        part : str
            Which list of runs.
        **fixed
            Columns that must have a value, for example ``blocks=5``.

        Returns
        -------
        values : list
            What `across` takes on, increasing.
        curves : dict of kind to array, shape (seeds, values)
            NaN where a run is missing or has no such score.

        Raises
        ------
        ValueError
            If no run fits.
        """
        rows = [
            row
            for row in self.data[part]
            if all(row.get(name) == value for name, value in fixed.items())
        ]
        if not rows or not any(score in row for row in rows):
            raise ValueError(f"no run of {self.name!r} has a {score} with {fixed}")
        values = sorted({row[across] for row in rows})
        seeds = sorted({row["seed"] for row in rows})
        kinds = {row["kind"]: np.full((len(seeds), len(values)), np.nan) for row in rows}
        for row in rows:
            place = seeds.index(row["seed"]), values.index(row[across])
            kinds[row["kind"]][place] = np.nan if row.get(score) is None else row[score]
        return values, kinds


def folder() -> Path:
    """Where published results are: ``results/`` of the checkout, else inside the package."""
    package = Path(__file__).resolve().parent
    checkout = package.parents[1]
    if (checkout / "pyproject.toml").is_file() and package.parent.name == "src":
        return checkout / "results"
    return package / "published"


def names(where: str | os.PathLike[str] | None = None) -> list[str]:
    """Names of all results in the folder."""
    return sorted(path.stem for path in _folder(where).glob("*.json"))


def save(
    name: str,
    data: Mapping[str, Any],
    *,
    about: str,
    provenance: Mapping[str, Any],
    where: str | os.PathLike[str] | None = None,
    digits: int = 4,
) -> Path:
    """Write results, all or nothing.

    Parameters
    ----------
    name : str
        Letters, digits and hyphens: the name of the file.
    data : mapping
        Lists, dicts, numbers, text. Numbers are rounded; those that are not finite become None.
    about : str
        What the data are, in a sentence or more.
    provenance : mapping
        See the function `provenance`.
    where : path, optional
        The folder; see `folder`.
    digits : int
        Significant digits that are kept.

    Raises
    ------
    ValueError
        If the name is no plain name.
    """
    content = {
        "name": _checked_name(name),
        "about": about,
        "provenance": dict(provenance),
    }
    kept = rounded(dict(data), digits)
    text = json.dumps({**content, "sha256": _checksum(kept)}, indent=1, allow_nan=False)
    text = f'{text[:-2]},\n "data": {_compact(kept)}\n}}\n'
    path = _folder(where) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def load(name: str, where: str | os.PathLike[str] | None = None) -> Published:
    """Read published results and verify their checksum.

    Parameters
    ----------
    name : str
        For example "digits".
    where : path, optional
        The folder; see `folder`.

    Raises
    ------
    ValueError
        If there are no results of that name.
    AlteredResults
        If the file is damaged, or was altered after it was written; the message names it.
    """
    path = _folder(where) / f"{_checked_name(name)}.json"
    if not path.is_file():
        known = ", ".join(names(where)) or "none"
        raise ValueError(f"name must be one of the published results ({known}), not {name!r}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        intact = content["sha256"] == _checksum(content["data"])
        found = Published(content["name"], content["about"], content["provenance"], content["data"])
    except (ValueError, KeyError, TypeError) as error:
        raise AlteredResults(f"{path} is damaged: {error!r}; restore or recompute it") from error
    if not intact:
        raise AlteredResults(
            f"{path} was altered: its data do not have the checksum that was published with "
            "them; restore or recompute it"
        )
    return found


def provenance(
    command: str,
    *,
    seeds: list[int],
    seconds: float,
    device: torch.device | str = "cpu",
    **more: Any,
) -> dict[str, Any]:
    """Describe what made a result.

    Parameters
    ----------
    command : str
        The command line that makes it again.
    seeds : list of int
        Seeds of the runs.
    seconds : float
        How long it took, on the wall.
    device : torch.device or str
        Where it was computed.
    **more
        Anything else worth knowing.

    Returns
    -------
    dict
        Also the commit, whether there were uncommitted changes, versions, processor, date, mode.
    """
    commit, dirty = _commit()
    return {
        "command": command,
        "commit": commit,
        "uncommitted_changes": dirty,
        "seeds": list(seeds),
        "versions": _versions(),
        "device": _device(torch.device(device)),
        "processor": f"{platform.machine()}, {os.cpu_count()} cores",
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "wall_seconds": round(seconds, 1),
        "mode": runtime.mode(),
        **more,
    }


def rounded(value: Any, digits: int = 4) -> Any:
    """Round all numbers in nested lists and dicts to so many significant digits.

    Whole numbers, text and truth values stay; numbers that are not finite become None.
    """
    if isinstance(value, Mapping):
        return {str(key): rounded(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(item, digits) for item in value]
    if not isinstance(value, float):
        return value
    return float(f"{value:.{digits}g}") if math.isfinite(value) else None


def _folder(where: str | os.PathLike[str] | None) -> Path:
    return folder() if where is None else Path(where)


def _checked_name(name: str) -> str:
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", name):
        raise ValueError(f"name must consist of letters, digits and hyphens, not {name!r}")
    return name


def _compact(data: Any) -> str:
    return json.dumps(data, separators=(",", ":"), allow_nan=False)


def _checksum(data: Any) -> str:
    text = json.dumps(data, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _commit() -> tuple[str, bool | None]:
    """Name the commit of the checkout, and whether the package differs from it."""
    here = Path(__file__).resolve().parent
    commit = _git(here, "rev-parse", "HEAD")
    if commit is None:
        return "unknown", None
    changes = _git(here, "status", "--porcelain", "--", str(here))
    return commit, None if changes is None else bool(changes)


def _git(where: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(where), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
