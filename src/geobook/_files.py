"""The files of the image data sets: found, verified, read, downloaded, and kept as one .npz.

Files are read into memory once, checked there, and only then decoded: what was checked is what is
used. CIFAR's standard files are pickles; besides having their published MD5 they are decoded by an
unpickler that knows arrays and nothing else.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pickle
import secrets
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geobook import _torchvision
from geobook._sets import ImageSet

Arrays = tuple[NDArray[np.uint8], NDArray[Any]]

_CHECKSUMS = "checksums"
# More than the header of an .npy file takes.
_HEADER = 4096
_UNREADABLE = (OSError, EOFError, ValueError, KeyError, NotImplementedError, zlib.error,
               zipfile.BadZipFile)  # fmt: skip


class DataUnavailable(RuntimeError):  # noqa: N818
    """A data set is neither in the data folder nor could it be downloaded."""


class DamagedData(RuntimeError):  # noqa: N818
    """A file of a data set is not what it should be; it was not used."""


def read_split(image_set: ImageSet, split: str, folder: Path, download: bool) -> Arrays:
    """Read one split from the data folder, downloading the set if it is not there.

    Parameters
    ----------
    image_set : ImageSet
        Which set.
    split : {"train", "test"}
        Which split.
    folder : Path
        The data folder.
    download : bool
        Whether to download.

    Returns
    -------
    images : array, shape (n, channels, height, width), uint8
    labels : array, shape (n,)

    Raises
    ------
    DataUnavailable, DamagedData
        See there.
    """
    found = find(image_set, folder)
    if found is not None and found.suffix == ".npz":
        return _read_cache(image_set, split, found)
    if found is not None:
        everything = _read_standard(image_set, found)
    elif download:
        everything = _downloaded(image_set, folder)
    else:
        raise DataUnavailable(_how_to_get(image_set, folder, "a download was not asked for"))
    _write_cache(image_set, everything, folder)
    return everything[f"{split}_images"], everything[f"{split}_labels"]


def find(image_set: ImageSet, folder: Path) -> Path | None:
    """Return where a complete set lies: its .npz, folder of standard files, or archive."""
    files = folder / image_set.folder
    if (folder / image_set.cache).is_file():
        return folder / image_set.cache
    if all(_standard_file(image_set, files, name) is not None for name in image_set.md5):
        return files
    if image_set.archive is not None and (folder / image_set.archive[0]).is_file():
        return folder / image_set.archive[0]
    return None


# --- standard files -------------------------------------------------------------------------------


def _standard_file(image_set: ImageSet, files: Path, name: str) -> Path | None:
    if (files / name).is_file():
        return files / name
    unpacked = name.removesuffix(".gz")
    if unpacked in image_set.unpacked_md5 and (files / unpacked).is_file():
        return files / unpacked
    return None


def _read_standard(image_set: ImageSet, found: Path) -> dict[str, NDArray[Any]]:
    read = _read_cifar if image_set.kind == "cifar" else _read_idx
    arrays = read(image_set, found)
    for split in ("train", "test"):
        _check_arrays(image_set, split, arrays[f"{split}_images"], arrays[f"{split}_labels"], found)
    return arrays


def _verified(path: Path, md5: str) -> bytes:
    content = path.read_bytes()
    _check_md5(content, md5, str(path))
    return content


def _check_md5(content: bytes, md5: str, name: str) -> None:
    came = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if came != md5:
        raise DamagedData(
            f"{name} is damaged or incomplete and was not used: its MD5 is {came}, the published "
            f"one {md5}. Delete it and load again, or put a good copy in its place."
        )


def _read_idx(image_set: ImageSet, files: Path) -> dict[str, NDArray[Any]]:
    arrays = {}
    for name, md5 in image_set.md5.items():
        path = _standard_file(image_set, files, name)
        if path is None:
            raise DataUnavailable(_how_to_get(image_set, files, f"{name} has gone"))
        if path.suffix == ".gz":
            content = gzip.decompress(_verified(path, md5))
        else:
            content = _verified(path, image_set.unpacked_md5[path.name])
        split = "train" if name.startswith("train") else "test"
        what = "images" if "images" in name else "labels"
        arrays[f"{split}_{what}"] = _idx_array(content, path)
    for split in ("train", "test"):
        arrays[f"{split}_images"] = arrays[f"{split}_images"][:, None]
    return arrays


def _idx_array(content: bytes, path: Path) -> NDArray[np.uint8]:
    """Decode the IDX format: zeros, type 8 (unsigned byte), rank, big-endian sizes, bytes."""
    rank = content[3] if len(content) > 3 else 0
    start = 4 + 4 * rank
    if content[:3] != b"\0\0\x08" or not rank or len(content) < start:
        raise DamagedData(f"{path} is not an IDX file of bytes; it was not used")
    shape = struct.unpack(f">{rank}I", content[4:start])
    if len(content) != start + int(np.prod(shape)):
        raise DamagedData(f"{path} is damaged and was not used: its length does not fit {shape}")
    # A copy, because torch wants memory that may be written.
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def _read_cifar(image_set: ImageSet, found: Path) -> dict[str, NDArray[Any]]:
    batches: dict[str, list[Arrays]] = {"train": [], "test": []}
    for name, content in _cifar_files(image_set, found):
        split = "test" if name.startswith("test") else "train"
        batches[split].append(_cifar_batch(content, image_set, str(found / name)))
    return {
        f"{split}_{what}": np.concatenate([batch[i] for batch in parts])
        for split, parts in batches.items()
        for i, what in enumerate(("images", "labels"))
    }


def _cifar_files(image_set: ImageSet, found: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and verified content of each batch, from the folder or the archive."""
    if found.is_dir():
        for name, md5 in image_set.md5.items():
            yield name, _verified(found / name, md5)
        return
    content = _verified(found, image_set.archive[1])
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for name, md5 in image_set.md5.items():
            try:
                batch = archive.extractfile(f"{image_set.folder}/{name}").read()
            except (KeyError, AttributeError) as error:
                raise DamagedData(f"{found} holds no file {image_set.folder}/{name}") from error
            _check_md5(batch, md5, f"{image_set.folder}/{name} in {found}")
            yield name, batch


def _cifar_batch(content: bytes, image_set: ImageSet, name: str) -> Arrays:
    try:
        batch = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
        images = np.asarray(batch["data"], np.uint8).reshape(-1, *image_set.shape)
        return images, np.asarray(batch[image_set.label_key], np.int64)
    except (pickle.UnpicklingError, *_UNREADABLE, TypeError, IndexError, AttributeError) as error:
        raise DamagedData(f"{name} is not a CIFAR batch and was not used: {error}") from error


class _ArrayUnpickler(pickle.Unpickler):
    """Decodes plain containers and arrays; refuses every other object a pickle could make."""

    _reconstruct = np.zeros(0).__reduce__()[0]
    _known = {  # noqa: RUF012
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            # Python 3 writes bytes at protocol 2 as the latin-1 encoding of a string.
            return lambda text, _="latin1": text.encode("latin1")
        if (module, name) not in self._known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return self._known[module, name]


# --- download -------------------------------------------------------------------------------------


def _downloaded(image_set: ImageSet, folder: Path) -> dict[str, NDArray[Any]]:
    """Download into a folder that is gone afterwards: a broken-off download leaves nothing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=folder) as temporary:
            _torchvision.download(image_set, Path(temporary))
            found = find(image_set, Path(temporary))
            if found is None:
                raise RuntimeError("the download left no complete set")
            return _read_standard(image_set, found)
    except ImportError as error:
        reason = f"torchvision, which downloads it, cannot be imported: {error}"
        raise DataUnavailable(_how_to_get(image_set, folder, reason)) from error
    except DamagedData:
        raise
    except (OSError, RuntimeError, HTTPException) as error:
        reason = f"the download failed: {error}"
        raise DataUnavailable(_how_to_get(image_set, folder, reason)) from error


def _how_to_get(image_set: ImageSet, folder: Path, reason: str) -> str:
    c, height, width = image_set.shape
    n = image_set.counts["train"]
    absent = [
        name
        for name in image_set.md5
        if _standard_file(image_set, folder / image_set.folder, name) is None
    ]
    if len(absent) < len(image_set.md5):
        reason = f"{image_set.folder} lacks {', '.join(absent)}; {reason}"
    return (
        f"The data set {image_set.name!r} is not in {folder} ({reason}). Either let it be "
        "downloaded where there is internet and torchvision; or set GEOBOOK_DATA to a folder that "
        f"holds its standard files, {image_set.standard_files}; or put there one "
        f"{image_set.cache} with the arrays train_images (uint8, {n} x {c} x {height} x {width}), "
        "train_labels, test_images and test_labels."
    )


# --- the one-file form ----------------------------------------------------------------------------


def _write_cache(image_set: ImageSet, arrays: Mapping[str, NDArray[Any]], folder: Path) -> None:
    """Keep the arrays and their SHA-256 for the next time; a folder not to be written is fine."""
    checksums = json.dumps({name: _sha256(array) for name, array in arrays.items()})
    temporary = folder / f".{image_set.cache}-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with open(temporary, "xb") as file:
            np.savez(file, **arrays, **{_CHECKSUMS: np.array(checksums)})
        os.replace(temporary, folder / image_set.cache)
    except OSError:
        pass
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _sha256(array: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def _read_cache(image_set: ImageSet, split: str, path: Path) -> Arrays:
    n = image_set.counts[split]
    pixels = n * int(np.prod(image_set.shape))
    try:
        with zipfile.ZipFile(path) as archive:
            images = _member(archive, f"{split}_images", pixels)
            labels = _member(archive, f"{split}_labels", 8 * n)
            present = f"{_CHECKSUMS}.npy" in archive.namelist()
            checksums = json.loads(str(_member(archive, _CHECKSUMS, 8192))) if present else {}
    except _UNREADABLE as error:
        raise DamagedData(f"{path} {_REMEDY}: {error}") from error
    for name, array in ((f"{split}_images", images), (f"{split}_labels", labels)):
        if present and checksums.get(name) != _sha256(array):
            raise DamagedData(f"{path} {_REMEDY}: the checksum of {name} does not fit")
    if images.ndim == 3 and image_set.shape[0] == 1:
        images = images[:, None]
    _check_arrays(image_set, split, images, labels, path)
    return images, labels


_REMEDY = "is damaged or not of the right form and was not used (delete or replace it)"


def _member(archive: zipfile.ZipFile, name: str, most_bytes: int) -> NDArray[Any]:
    """Read one array; `zipfile` compares its CRC-32, and nothing larger than expected is read."""
    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError as error:
        raise ValueError(f"it holds no array {name}") from error
    if info.file_size > most_bytes + _HEADER:
        raise ValueError(f"{name} has {info.file_size} bytes, expected at most {most_bytes}")
    content = io.BytesIO(archive.read(info))
    return np.lib.format.read_array(content, allow_pickle=False)


def _check_arrays(
    image_set: ImageSet, split: str, images: NDArray[Any], labels: NDArray[Any], path: Path
) -> None:
    n, classes = image_set.counts[split], len(image_set.classes)
    if images.dtype != np.uint8 or images.shape != (n, *image_set.shape):
        raise DamagedData(
            f"{path} {_REMEDY}: {split}_images is {images.dtype} {images.shape}, "
            f"expected uint8 {(n, *image_set.shape)}"
        )
    if labels.dtype.kind not in "iu" or labels.shape != (n,):
        raise DamagedData(
            f"{path} {_REMEDY}: {split}_labels is {labels.dtype} {labels.shape}, "
            f"expected integers ({n},)"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise DamagedData(
            f"{path} {_REMEDY}: {split}_labels go from {labels.min()} to {labels.max()}, "
            f"expected 0 to {classes - 1}"
        )
