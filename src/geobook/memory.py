"""How much memory is free on a device, and a clear refusal before more than that is taken."""

from __future__ import annotations

from pathlib import Path

import torch

_GIGABYTE = 10**9


def available(device: torch.device | str = "cpu") -> int | None:
    """Free memory of a device.

    Parameters
    ----------
    device : torch.device or str
        The processor's main memory, or that of a CUDA device.

    Returns
    -------
    int or None
        Bytes; None where the system does not tell.
    """
    chosen = torch.device(device)
    if chosen.type == "cuda":
        # What torch keeps for reuse counts as free.
        kept = torch.cuda.memory_reserved(chosen) - torch.cuda.memory_allocated(chosen)
        return torch.cuda.mem_get_info(chosen)[0] + kept
    known = [free for free in (_free_of_machine(), _free_of_group()) if free is not None]
    return min(known, default=None)


def require(needed: int, device: torch.device | str, purpose: str, advice: str) -> None:
    """Refuse what would not fit, before it is allocated.

    Parameters
    ----------
    needed : int
        Bytes about to be taken.
    device : torch.device or str
        Where.
    purpose : str
        What for: the sentence's subject, for example "the cost matrix of 1000 points".
    advice : str
        What the reader can do instead.

    Raises
    ------
    MemoryError
        If fewer than `needed` bytes are free.
    """
    free = available(device)
    if free is not None and needed > free:
        raise MemoryError(
            f"{purpose} needs {needed / _GIGABYTE:.1f} GB, but {free / _GIGABYTE:.1f} GB are "
            f"free on {device}: {advice}"
        )


def _free_of_machine(source: Path = Path("/proc/meminfo")) -> int | None:
    try:
        lines = source.read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(found[0]) * 1024 if found else None


def _free_of_group(folder: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Room left in the control group of a container, whose page cache can be given back."""
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
        statistics = dict(
            line.split() for line in (folder / "memory.stat").read_text().splitlines()
        )
    except (OSError, ValueError):
        return None
    if limit == "max":
        return None
    return max(0, int(limit) - used + int(statistics.get("inactive_file", 0)))
