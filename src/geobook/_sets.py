"""What the image data sets are: shapes, sizes, classes, normalisation, files and their checksums.

Sources: MNIST, LeCun, Cortes and Burges; Fashion-MNIST, Xiao, Rasul and Vollgraf,
arXiv:1708.07747; CIFAR, Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009;
digits, Alpaydin and Kaynak, "Optical Recognition of Handwritten Digits", as in scikit-learn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class ImageSet:
    """A data set of images with one label each.

    Parameters
    ----------
    name : str
        Name that `geobook.data.load` knows it by.
    shape : tuple of int
        (channels, height, width) of an image.
    counts : mapping
        Images in the splits "train" and "test".
    classes : tuple of str
        Names of the labels 0, 1, ...
    mean, std : tuple of float
        Per channel, of the training pixels scaled to [0, 1]: the normalisation.
    flips : bool
        Whether augmentation mirrors: not where a mirrored image means something else (digits).
    crop_padding : int
        Black pixels that augmentation's random crop may bring in at each side.
    kind : {"embedded", "idx", "cifar"}
        How the standard files are laid out.
    folder : str
        Where the standard files lie under the data folder.
    md5 : mapping
        Published MD5 of each standard file in `folder`.
    unpacked_md5 : mapping
        The same for decompressed files that are accepted in place of ``NAME.gz``.
    archive : tuple of two str, optional
        The one archive, beside `folder`, that holds the standard files; and its MD5.
    label_key : str
        Under which key a CIFAR file keeps its labels.
    torchvision : str
        The class of `torchvision.datasets` that knows where the files are downloaded from.
    """

    name: str
    shape: tuple[int, int, int]
    counts: Mapping[str, int]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    flips: bool = False
    crop_padding: int = 4
    kind: Literal["embedded", "idx", "cifar"] = "idx"
    folder: str = ""
    md5: Mapping[str, str] = field(default_factory=dict)
    unpacked_md5: Mapping[str, str] = field(default_factory=dict)
    archive: tuple[str, str] | None = None
    label_key: str = "labels"
    torchvision: str = ""

    @property
    def cache(self) -> str:
        """File name of the one-file form."""
        return f"{self.name}.npz"

    @property
    def standard_place(self) -> str:
        """The standard files in a word, relative to the data folder."""
        return f"{self.folder}/*.gz" if self.archive is None else self.archive[0]

    @property
    def standard_files(self) -> str:
        """The standard files in words, relative to the data folder."""
        if self.archive is not None:
            return f"{self.archive[0]} (or, unpacked from it, {self.folder}/)"
        return f"{self.folder}/ with {', '.join(self.md5)}"


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_DIGIT_NAMES = tuple("0123456789")
_CIFAR10_NAMES = _words("airplane automobile bird cat deer dog frog horse ship truck")
_CIFAR100_NAMES = _words(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
    cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
    lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm
    """
)
_FASHION_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip

_IDX_COUNTS = {"train": 60_000, "test": 10_000}
_CIFAR_COUNTS = {"train": 50_000, "test": 10_000}

SETS: dict[str, ImageSet] = {
    image_set.name: image_set
    for image_set in (
        ImageSet(
            name="digits",
            shape=(1, 8, 8),
            counts={"train": 1437, "test": 360},
            classes=_DIGIT_NAMES,
            mean=(0.3054,),
            std=(0.3759,),
            crop_padding=1,
            kind="embedded",
        ),
        ImageSet(
            name="mnist",
            shape=(1, 28, 28),
            counts=_IDX_COUNTS,
            classes=_DIGIT_NAMES,
            mean=(0.1307,),
            std=(0.3081,),
            folder="MNIST/raw",
            md5={
                "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
                "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
                "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
            },
            unpacked_md5={
                "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
                "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
                "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
                "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
            },
            torchvision="MNIST",
        ),
        ImageSet(
            name="fashion-mnist",
            shape=(1, 28, 28),
            counts=_IDX_COUNTS,
            classes=_FASHION_NAMES,
            mean=(0.2860,),
            std=(0.3530,),
            flips=True,
            folder="FashionMNIST/raw",
            md5={
                "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
                "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
                "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
            },
            torchvision="FashionMNIST",
        ),
        ImageSet(
            name="cifar10",
            shape=(3, 32, 32),
            counts=_CIFAR_COUNTS,
            classes=_CIFAR10_NAMES,
            mean=(0.4914, 0.4822, 0.4465),
            std=(0.2470, 0.2435, 0.2616),
            flips=True,
            kind="cifar",
            folder="cifar-10-batches-py",
            md5={
                "data_batch_1": "c99cafc152244af753f735de768cd75f",
                "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
                "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
                "data_batch_4": "634d18415352ddfa80567beed471001a",
                "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
                "test_batch": "40351d587109b95175f43aff81a1287e",
            },
            archive=("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a"),
            torchvision="CIFAR10",
        ),
        ImageSet(
            name="cifar100",
            shape=(3, 32, 32),
            counts=_CIFAR_COUNTS,
            classes=_CIFAR100_NAMES,
            mean=(0.5071, 0.4865, 0.4409),
            std=(0.2673, 0.2564, 0.2762),
            flips=True,
            kind="cifar",
            folder="cifar-100-python",
            md5={
                "train": "16019d7e3df5f24257cddd939b257f8d",
                "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
            },
            archive=("cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85"),
            label_key="fine_labels",
            torchvision="CIFAR100",
        ),
    )
}
