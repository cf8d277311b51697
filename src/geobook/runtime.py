"""Where and how large: the one switch between quick and full, the device, the cache folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, TypeVar

import platformdirs
import torch

Value = TypeVar("Value")

MODES = ("quick", "full")


def mode() -> Literal["quick", "full"]:
    """Size of everything a chapter computes.

    Returns
    -------
    "quick" or "full"
        The value of the environment variable ``GEOBOOK_MODE``, ``"quick"`` where it is not set.
        Quick runs every chapter on two processor cores within a minute; full is meant for a GPU.

    Raises
    ------
    ValueError
        If ``GEOBOOK_MODE`` holds anything else.
    """
    value = os.environ.get("GEOBOOK_MODE", "quick").strip().lower()
    if value not in MODES:
        raise ValueError(f"GEOBOOK_MODE must be 'quick' or 'full', not {value!r}")
    return value  # type: ignore[return-value]


def by_mode(quick: Value, full: Value) -> Value:
    """Return `quick` or `full`, whichever the mode asks for.

    Parameters
    ----------
    quick, full : any
        The two values.
    """
    return quick if mode() == "quick" else full


def device(name: str | torch.device | None = None) -> torch.device:
    """Device on which tensors live and networks run.

    Parameters
    ----------
    name : str or torch.device, optional
        A device, for example ``"cpu"`` or ``"cuda:1"``. Without it the environment variable
        ``GEOBOOK_DEVICE`` decides, and without that a GPU is taken where there is one.

    Raises
    ------
    ValueError
        If `name` is not a device, or a device that this machine lacks.
    """
    wanted = name or os.environ.get("GEOBOOK_DEVICE") or _best_device()
    try:
        chosen = torch.device(wanted)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        raise ValueError(
            f"device must be one that this machine has (here: {', '.join(_present_devices())}), "
            f"not {str(wanted)!r}"
        ) from error
    return chosen


def cache_folder() -> Path:
    """Folder that holds downloaded data sets: ``GEOBOOK_DATA``, else the user's cache folder."""
    return Path(os.environ.get("GEOBOOK_DATA") or platformdirs.user_cache_dir("geobook"))


def _present_devices() -> list[str]:
    cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return ["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]


def _best_device() -> str:
    present = _present_devices()
    return present[1] if len(present) > 1 else "cpu"
