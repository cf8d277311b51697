"""Whole data sets of images as tensors on the device, normalised there, augmented there.

``load("digits")`` needs no download: scikit-learn carries the 1 797 images. The other sets are
read from the data folder (``GEOBOOK_DATA``, else the user's cache folder) in whichever form is
found first:

1. ``NAME.npz`` with uint8 arrays ``train_images`` (n, channels, height, width), or
   (n, height, width) for one channel, ``train_labels`` (n,), ``test_images``, ``test_labels``;
   what `load` writes itself after the first reading also holds a checksum of each array;
2. the standard files: ``MNIST/raw/*.gz``, ``FashionMNIST/raw/*.gz``, ``cifar-10-python.tar.gz`` or
   ``cifar-10-batches-py/``, ``cifar-100-python.tar.gz`` or ``cifar-100-python/``;
3. a download of these through torchvision.

Every standard file must have its published MD5 before anything of it is used. A file that is
truncated, altered or otherwise not what it should be raises `DamagedData`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geobook import runtime
from geobook._files import Arrays, DamagedData, DataUnavailable, find, read_split
from geobook._sets import SETS, ImageSet
from geobook.validation import count, one_of

__all__ = [
    "NAMES",
    "DamagedData",
    "DataUnavailable",
    "Dataset",
    "available",
    "load",
]

NAMES = tuple(SETS)
SPLITS = ("train", "test")


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """One split of a data set, whole, on one device. ``images, labels = dataset`` unpacks it.

    Attributes
    ----------
    name, split : str
        For example "cifar10" and "train".
    images : tensor, shape (n, channels, height, width), or (n, d)
        Floating point, normalised: (pixel - mean) / std per channel, pixels in [0, 1]. Or points
        without any such structure, as those of `geobook.planar`.
    labels : tensor, shape (n,), int64
        Index of each image's class.
    classes : tuple of str
        Names of the classes.
    mean, std : tuple of float
        The normalisation, per channel.
    flips : bool
        Whether augmentation mirrors half of the images.
    crop_padding : int
        How many black pixels augmentation's random crop may bring in at each side.
    """

    name: str
    split: str
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    flips: bool = False
    crop_padding: int = 4

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.ndim not in (2, 4) or not images.is_floating_point():
            raise ValueError(
                "images must be floating point of shape (n, channels, height, width) or (n, d), "
                f"not {images.dtype} {tuple(images.shape)}"
            )
        if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
            raise ValueError(
                f"labels must be int64 of shape ({len(images)},), "
                f"not {labels.dtype} {tuple(labels.shape)}"
            )
        if labels.device != images.device:
            raise ValueError(
                f"images and labels must be on one device, not {images.device} and {labels.device}"
            )

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Tensor]:
        yield self.images
        yield self.labels

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.images.shape[1:]))
        what = "images" if self.images.ndim == 4 else "points"
        return (
            f"Dataset({self.name!r}, {self.split!r}: {len(self)} {what} of {shape}, "
            f"{len(self.classes)} classes, on {self.images.device})"
        )

    @property
    def raw_range(self) -> tuple[Tensor, Tensor]:
        """Normalised black and white: two tensors (channels, 1, 1), as `torch.clamp` takes them."""
        mean, std = (self.images.new_tensor(v).view(-1, 1, 1) for v in (self.mean, self.std))
        return -mean / std, (1 - mean) / std

    def subset(self, n: int, seed: int = 0) -> Dataset:
        """Draw `n` different images, the same ones for the same seed.

        Parameters
        ----------
        n : int
            How many, at most all.
        seed : int
            Seed of the draw; the device does not matter.

        Raises
        ------
        ValueError
            If there are fewer than `n` images.
        """
        if count(n, "n") > len(self):
            raise ValueError(f"n must be at most {len(self)}, not {n}")
        generator = torch.Generator().manual_seed(count(seed, "seed", 0))
        chosen = torch.randperm(len(self), generator=generator)[:n].to(self.labels.device)
        return replace(self, images=self.images[chosen], labels=self.labels[chosen])

    def augmented(self, indices: Tensor, generator: torch.Generator) -> Tensor:
        """Return images after a random crop and, where the set allows it, a random mirroring.

        The crop is that of an image with `crop_padding` black pixels around it; each image is
        mirrored with probability 1/2 where `flips`. All at once on the device.

        Parameters
        ----------
        indices : tensor, shape (b,), int64
            Which images.
        generator : torch.Generator
            Source of the draws, on any device.

        Returns
        -------
        tensor, shape (b, channels, height, width)

        Raises
        ------
        ValueError
            If the data are points, which have no neighbours to crop or mirror.
        """
        where = self.images.device
        batch = self.images[indices.to(where)]
        if batch.ndim != 4:
            raise ValueError(f"data must be images to be augmented, not points {batch.shape[1:]}")
        (b, _, height, width), reach = batch.shape, self.crop_padding
        source = {"generator": generator, "device": generator.device}
        down, right = torch.randint(-reach, reach + 1, (2, b, 1), **source).to(where)
        rows = torch.arange(height, device=where) + down
        columns = torch.arange(width, device=where) + right
        if self.flips:
            mirrored = (torch.rand(b, 1, **source) < 0.5).to(where)
            columns = torch.where(mirrored, columns.flip(1), columns)
        return _gathered(batch, rows, columns, self.raw_range[0])

    def batches(
        self,
        batch_size: int,
        generator: torch.Generator | None = None,
        augment: bool = False,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Go through all images once.

        Parameters
        ----------
        batch_size : int
            Images in a batch; the last may have fewer.
        generator : torch.Generator, optional
            Source of a random order (and of the augmentation); without it the order is kept.
        augment : bool
            Whether to crop and mirror, see `augmented`.

        Yields
        ------
        images : tensor, shape (b, channels, height, width)
        labels : tensor, shape (b,)

        Raises
        ------
        ValueError
            If augmentation is asked for without a generator.
        """
        if augment and generator is None:
            raise ValueError("generator must be a torch.Generator where augment is true, not None")
        return self._batches(count(batch_size, "batch_size"), generator, augment)

    def _batches(
        self, batch_size: int, generator: torch.Generator | None, augment: bool
    ) -> Iterator[tuple[Tensor, Tensor]]:
        if generator is None:
            yield from zip(
                self.images.split(batch_size), self.labels.split(batch_size), strict=True
            )
            return
        order = torch.randperm(len(self), generator=generator, device=generator.device)
        for chosen in order.to(self.labels.device).split(batch_size):
            images = self.augmented(chosen, generator) if augment else self.images[chosen]
            yield images, self.labels[chosen]


def load(
    name: str,
    split: Literal["train", "test"] = "train",
    *,
    device: torch.device | str | None = None,
    root: str | os.PathLike[str] | None = None,
    download: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Dataset:
    """Load one split of a data set as normalised tensors.

    ========================  ==================  ==============  ========  =========
    name                      train / test        image           classes   download
    ========================  ==================  ==============  ========  =========
    ``digits``                1 437 / 360         1x8x8           10        none
    ``mnist``                 60 000 / 10 000     1x28x28         10        11 MB
    ``fashion-mnist``         60 000 / 10 000     1x28x28         10        30 MB
    ``cifar10``               50 000 / 10 000     3x32x32         10        170 MB
    ``cifar100``              50 000 / 10 000     3x32x32         100       169 MB
    ========================  ==================  ==============  ========  =========

    Pixels are scaled to [0, 1], then normalised with one mean and one standard deviation per
    channel, those of the training split. In float32 the training images of CIFAR take 614 MB and
    those of MNIST 188 MB on the device; ``dtype=torch.float16`` halves that.

    ``digits`` is split once and for all: of the images shuffled (seed 0) and sorted by class, every
    fifth is a test image, so each class is split 80 to 20.

    Parameters
    ----------
    name : str
        One of the above.
    split : {"train", "test"}
        Which part.
    device : torch.device or str, optional
        Where the tensors live; see `geobook.runtime.device`.
    root : path, optional
        The data folder; `geobook.runtime.cache_folder` by default.
    download : bool
        Whether to download what the folder does not hold.
    dtype : torch.dtype
        Floating-point type of the images.

    Raises
    ------
    ValueError
        If the name, split, device or dtype is unknown.
    DataUnavailable
        If the files are neither there nor to be downloaded; the message says how to get them.
    DamagedData
        If a file is not what it should be; the message names it.

    Examples
    --------
    >>> load("digits", "test", device="cpu")
    Dataset('digits', 'test': 360 images of 1x8x8, 10 classes, on cpu)
    """
    image_set = SETS[one_of(name, "name", NAMES)]
    one_of(split, "split", SPLITS)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise ValueError(f"dtype must be a floating-point torch.dtype, not {dtype!r}")
    target = runtime.device(device)
    if image_set.kind == "embedded":
        (pixels, labels), white = _digits(split), 16
    else:
        folder = Path(root) if root is not None else runtime.cache_folder()
        (pixels, labels), white = read_split(image_set, split, folder, download), 255
    return Dataset(
        name=name,
        split=split,
        images=_normalised(pixels, white, image_set, target, dtype),
        labels=torch.from_numpy(labels.astype(np.int64)).to(target),
        classes=image_set.classes,
        mean=image_set.mean,
        std=image_set.std,
        flips=image_set.flips,
        crop_padding=image_set.crop_padding,
    )


def available(root: str | os.PathLike[str] | None = None) -> dict[str, str | None]:
    """List the data sets and where each would be read from.

    Parameters
    ----------
    root : path, optional
        The data folder; `geobook.runtime.cache_folder` by default.

    Returns
    -------
    dict
        For every name a path, "embedded", or None where nothing complete is there. Nothing is
        read, so a damaged file shows only in `load`.
    """
    folder = Path(root) if root is not None else runtime.cache_folder()
    return {
        name: "embedded" if image_set.kind == "embedded" else _path_text(find(image_set, folder))
        for name, image_set in SETS.items()
    }


def _path_text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _digits(split: str) -> Arrays:
    # Imported here because scikit-learn takes a second, and only this needs it.
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    # RandomState, not default_rng: NumPy promises that its stream never changes.
    shuffled = np.random.RandomState(0).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    test = np.zeros(len(labels), dtype=bool)
    test[by_class[::5]] = True
    chosen = test if split == "test" else ~test
    return images[chosen].reshape(-1, 1, 8, 8).astype(np.uint8), labels[chosen].astype(np.uint8)


def _normalised(
    pixels: NDArray[np.uint8],
    white: int,
    image_set: ImageSet,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    # In place, so that the device holds one copy of the set.
    images = torch.from_numpy(pixels).to(device).to(dtype)
    mean, std = (images.new_tensor(v).view(-1, 1, 1) for v in (image_set.mean, image_set.std))
    return images.div_(white).sub_(mean).div_(std)


def _gathered(batch: Tensor, rows: Tensor, columns: Tensor, outside: Tensor) -> Tensor:
    """Pick pixel (rows[i, y], columns[i, x]) of each image i; `outside` where there is none."""
    b, channels, height, width = batch.shape
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[
        :, None, :
    ]
    flat = rows.clamp(0, height - 1)[:, :, None] * width + columns.clamp(0, width - 1)[:, None, :]
    index = flat.view(b, 1, -1).expand(b, channels, -1)
    picked = batch.flatten(2).gather(2, index).view_as(batch)
    return torch.where(inside[:, None], picked, outside)
