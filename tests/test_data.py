"""Data sets: digits as they are; the others from small standard-format files made here."""

import gzip
import hashlib
import io
import json
import pickle
import struct
import tarfile
import threading
import zipfile
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from typing import ClassVar

import numpy as np
import pytest
import torch

import geobook._files
from geobook import _torchvision, runtime
from geobook._sets import SETS
from geobook.data import NAMES, DamagedData, Dataset, DataUnavailable, available, load

TRAIN, TEST = 20, 10
COUNTS = {"train": TRAIN, "test": TEST}
needs_torchvision = pytest.mark.skipif(
    find_spec("torchvision") is None, reason="torchvision is not installed"
)


# --- small standard-format files ------------------------------------------------------------------


def md5(content):
    return hashlib.md5(content).hexdigest()


def small_arrays(name):
    """Random images and labels in the shapes of a set, 20 to train and 10 to test."""
    numbers = np.random.default_rng(NAMES.index(name))
    image_set = SETS[name]
    arrays = {}
    for split, n in COUNTS.items():
        arrays[f"{split}_images"] = numbers.integers(0, 256, (n, *image_set.shape), np.uint8)
        arrays[f"{split}_labels"] = numbers.integers(0, len(image_set.classes), n, np.uint8)
    return arrays


def idx_bytes(array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return header + array.tobytes()


class Python2Pickler(pickle._Pickler):
    """Writes what Python 2 wrote: byte strings for str, numpy.core for numpy's internals."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_byte_string(self, text):
        content = text.encode("latin1") if isinstance(text, str) else text
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_byte_string

    def save_global(self, obj, name=None):
        module = obj.__module__.replace("numpy._core", "numpy.core")
        self.write(pickle.GLOBAL + f"{module}\n{obj.__name__}\n".encode())
        self.memoize(obj)

    dispatch[type] = dispatch[type(len)] = dispatch[type(md5)] = save_global


def cifar_bytes(images, labels, label_key):
    stream = io.BytesIO()
    batch = {
        "data": images.reshape(len(images), -1),
        label_key: labels.tolist(),
        "batch_label": "x",
    }
    Python2Pickler(stream, protocol=2).dump(batch)
    return stream.getvalue()


def standard_contents(name, arrays):
    """Contents of the standard files of a small set: {file name: bytes}."""
    image_set = SETS[name]
    if image_set.kind == "cifar":
        batches = [key for key in image_set.md5 if not key.startswith("test")]
        size = TRAIN // len(batches)
        slices = {key: ("train", slice(i * size, (i + 1) * size)) for i, key in enumerate(batches)}
        slices[next(key for key in image_set.md5 if key.startswith("test"))] = ("test", slice(None))
        return {
            key: cifar_bytes(
                arrays[f"{split}_images"][part],
                arrays[f"{split}_labels"][part],
                image_set.label_key,
            )
            for key, (split, part) in slices.items()
        }
    contents = {}
    for key in image_set.md5:
        split = "train" if key.startswith("train") else "test"
        what = "images" if "images" in key else "labels"
        array = arrays[f"{split}_{what}"]
        contents[key.removesuffix(".gz")] = idx_bytes(array[:, 0] if what == "images" else array)
    return contents


class SmallSet:
    """A small set in standard format, whose checksums the package is made to know."""

    def __init__(self, name, root, monkeypatch):
        self.name, self.root, self.monkeypatch = name, root, monkeypatch
        self.arrays = small_arrays(name)
        self.contents = standard_contents(name, self.arrays)
        self.folder = root / SETS[name].folder
        self.folder.mkdir(parents=True)
        self.publish()

    def publish(self):
        """Take the contents as they are now for what was published."""
        image_set = SETS[self.name]
        changes = {"counts": COUNTS}
        if image_set.kind == "cifar":
            changes["md5"] = {key: md5(content) for key, content in self.contents.items()}
            self.archive = self.root / image_set.archive[0]
            changes["archive"] = (self.archive.name, md5(self.archive_bytes()))
        else:
            changes["md5"] = {f"{k}.gz": md5(self.zipped(k)) for k in self.contents}
            changes["unpacked_md5"] = {k: md5(content) for k, content in self.contents.items()}
        self.monkeypatch.setitem(SETS, self.name, replace(image_set, **changes))
        return self

    def zipped(self, key):
        return gzip.compress(self.contents[key], mtime=0)

    def archive_bytes(self):
        stream = io.BytesIO()
        with (
            gzip.GzipFile(fileobj=stream, mode="wb", mtime=0) as zipped,
            tarfile.open(fileobj=zipped, mode="w") as archive,
        ):
            for key, content in self.contents.items():
                info = tarfile.TarInfo(f"{SETS[self.name].folder}/{key}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return stream.getvalue()

    def write(self, packed=True):
        """Write .gz files or the archive (packed), or what they hold."""
        if SETS[self.name].kind == "cifar" and packed:
            self.archive.write_bytes(self.archive_bytes())
        else:
            for key, content in self.contents.items():
                gz = packed and SETS[self.name].kind == "idx"
                path = self.folder / (f"{key}.gz" if gz else key)
                path.write_bytes(self.zipped(key) if gz else content)
        return self

    def write_npz(self, **changes):
        np.savez(self.root / f"{self.name}.npz", **{**self.arrays, **changes})
        return self

    def load(self, split="train", **options):
        options = {"device": "cpu", "root": self.root, "download": False, **options}
        return load(self.name, split, **options)

    def check(self, split="train"):
        """Compare one loaded split with what was written."""
        dataset = self.load(split)
        mean, std = (np.array(v).reshape(-1, 1, 1) for v in (dataset.mean, dataset.std))
        pixels = np.round((dataset.images.double().numpy() * std + mean) * 255)
        np.testing.assert_array_equal(pixels, self.arrays[f"{split}_images"])
        np.testing.assert_array_equal(dataset.labels.numpy(), self.arrays[f"{split}_labels"])


@pytest.fixture
def small(tmp_path, monkeypatch):
    return partial(SmallSet, root=tmp_path, monkeypatch=monkeypatch)


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "truncated":
        del content[len(content) * 2 // 3 :]
    else:
        content[len(content) // 2] ^= 1
    path.write_bytes(content)


# --- digits ---------------------------------------------------------------------------------------


def test_digits_are_the_whole_set_split_once():
    train, test = load("digits", device="cpu"), load("digits", "test", device="cpu")
    assert (len(train), len(test)) == (1437, 360)
    assert train.images.shape[1:] == (1, 8, 8)
    assert train.labels.dtype == torch.int64
    assert train.classes == tuple("0123456789")
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    both = torch.cat([train.images, test.images]).flatten(1) * train.std[0] + train.mean[0]
    ours = np.column_stack([both.numpy() * 16, torch.cat([train.labels, test.labels])])
    theirs = np.column_stack([images, labels])
    ours, theirs = (np.unique(np.round(a), axis=0, return_counts=True) for a in (ours, theirs))
    np.testing.assert_array_equal(ours[0], theirs[0])
    np.testing.assert_array_equal(ours[1], theirs[1])


def test_digits_split_is_stratified_and_stays():
    test = load("digits", "test", device="cpu")
    assert test.labels.bincount().tolist() == [36, 36, 36, 36, 37, 36, 36, 36, 35, 36]
    assert test.labels[:12].tolist() == [9, 2, 5, 7, 6, 9, 7, 3, 3, 3, 4, 6]
    assert torch.equal(test.images, load("digits", "test", device="cpu").images)


def test_normalisation_is_that_of_the_training_pixels():
    train = load("digits", device="cpu", dtype=torch.float64)
    assert float(train.images.mean()) == pytest.approx(0, abs=3e-4)
    assert float(train.images.std()) == pytest.approx(1, abs=3e-4)
    low, high = train.raw_range
    assert (low.shape, high.shape) == ((1, 1, 1), (1, 1, 1))
    assert float(low) == pytest.approx(float(train.images.min()))
    assert float(high) == pytest.approx(float(train.images.max()))


def test_dtype_and_device_are_chosen(monkeypatch):
    assert load("digits", dtype=torch.float16).images.dtype == torch.float16
    monkeypatch.setenv("GEOBOOK_DEVICE", "cpu")
    assert load("digits").images.device.type == "cpu"


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("imagenet",), {}, "name must be one of 'digits', 'mnist', .* not 'imagenet'"),
        (("digits", "validation"), {}, "split must be one of 'train', 'test', not 'validation'"),
        (("digits",), {"device": "warp:9"}, "device must be one that this machine has"),
        (("digits",), {"dtype": torch.int64}, "dtype must be a floating-point"),
        (("digits",), {"dtype": "float32"}, "dtype must be a floating-point"),
    ],
)
def test_bad_arguments_are_refused(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        load(*arguments, **options)


# --- the other sets from their standard files -----------------------------------------------------

FILE_SETS = [name for name in NAMES if name != "digits"]


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", FILE_SETS)
def test_standard_files_are_read_and_kept_as_one_file(small, name, packed):
    mine = small(name).write(packed)
    mine.check("train")
    for path in mine.root.rglob("*"):
        if path.is_file() and path.name != f"{name}.npz":
            path.unlink()
    mine.check("train")
    mine.check("test")
    assert available(mine.root)[name] == str(mine.root / f"{name}.npz")
    with np.load(mine.root / f"{name}.npz", allow_pickle=False) as kept:
        for key, checksum in json.loads(str(kept["checksums"])).items():
            assert hashlib.sha256(kept[key].tobytes()).hexdigest() == checksum


@needs_torchvision
@pytest.mark.parametrize("name", FILE_SETS)
def test_torchvision_reads_the_same(small, name, monkeypatch):
    mine = small(name).write(packed=False)
    theirs = getattr(_torchvision.datasets(), SETS[name].torchvision)
    if SETS[name].kind == "cifar":
        checksums = list(SETS[name].md5.items())
        monkeypatch.setattr(theirs, "train_list", checksums[:-1])
        monkeypatch.setattr(theirs, "test_list", checksums[-1:])
        monkeypatch.setattr(theirs, "_load_meta", lambda self: None)
    read = theirs(mine.root, train=False)
    images = np.asarray(read.data)
    images = images.transpose(0, 3, 1, 2) if images.ndim == 4 else images[:, None]
    np.testing.assert_array_equal(images, mine.arrays["test_images"])
    np.testing.assert_array_equal(np.asarray(read.targets), mine.arrays["test_labels"])
    mine.check("test")


@pytest.mark.parametrize("name", FILE_SETS)
def test_every_set_says_what_it_is(small, name):
    classes = {"mnist": 10, "fashion-mnist": 10, "cifar10": 10, "cifar100": 100}[name]
    dataset = small(name).write().load("test")
    assert (dataset.name, dataset.split, len(dataset)) == (name, "test", TEST)
    assert len(dataset.classes) == len(set(dataset.classes)) == classes
    assert dataset.flips == (name != "mnist")
    assert dataset.crop_padding == 4
    shape = "3x32x32" if name.startswith("cifar") else "1x28x28"
    assert repr(dataset) == (
        f"Dataset({name!r}, 'test': 10 images of {shape}, {classes} classes, on cpu)"
    )


def test_the_default_folder_is_the_cache_folder(small, monkeypatch):
    mine = small("mnist").write()
    monkeypatch.setenv("GEOBOOK_DATA", str(mine.root))
    assert runtime.cache_folder() == mine.root
    assert len(load("mnist", "test", device="cpu", download=False)) == TEST
    assert available()["mnist"] == str(mine.root / "mnist.npz")


def test_available_lists_what_is_complete(small, tmp_path):
    small("mnist").write()
    cifar = small("cifar10").write()
    partly = small("fashion-mnist").write()
    (partly.folder / "train-images-idx3-ubyte.gz").unlink()
    assert available(tmp_path) == {
        "digits": "embedded",
        "mnist": str(tmp_path / "MNIST/raw"),
        "fashion-mnist": None,
        "cifar10": str(cifar.archive),
        "cifar100": None,
    }


def test_a_folder_that_cannot_be_written_is_still_read(small, monkeypatch):
    mine = small("mnist").write()

    def refuse(*_):
        raise OSError("read-only file system")

    monkeypatch.setattr(geobook._files.os, "replace", refuse)
    mine.check("train")
    assert [path.name for path in mine.root.iterdir()] == ["MNIST"]


# --- one .npz -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILE_SETS)
def test_a_foreign_npz_is_read(small, name):
    mine = small(name).write_npz(train_exact=np.ones(TRAIN, bool))
    mine.check("train")
    mine.check("test")


def test_a_foreign_npz_may_leave_out_the_one_channel_and_be_compressed(small):
    mine = small("mnist")
    images = {key: a[:, 0] if "images" in key else a for key, a in mine.arrays.items()}
    np.savez_compressed(mine.root / "mnist.npz", **images)
    mine.check("train")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_images": np.zeros((TRAIN, 3, 32, 31), np.uint8)}, r"uint8 \(20, 3, 32, 31\)"),
        ({"train_images": np.zeros((TRAIN - 1, 3, 32, 32), np.uint8)}, r"uint8 \(19, 3, 32, 32\)"),
        ({"train_images": np.zeros((TRAIN, 3, 16, 16), np.float32)}, "train_images is float32"),
        ({"train_images": np.zeros((99, 3, 32, 32), np.uint8)}, "has 304256 bytes"),
        ({"train_labels": np.full(TRAIN, 10)}, "train_labels go from 10 to 10, expected 0 to 9"),
        ({"train_labels": np.full(TRAIN, -1)}, "train_labels go from -1 to -1"),
        ({"train_labels": np.zeros(TRAIN - 1, int)}, r"train_labels is int64 \(19,\)"),
        ({"train_labels": np.zeros(TRAIN)}, "train_labels is float64"),
        ({"train_labels": np.array([[]] * TRAIN, object)}, "Object arrays cannot be loaded"),
        ({"checksums": np.array("{}")}, "checksum of train_images does not fit"),
        ({"checksums": np.array("{")}, "cifar10.npz is damaged"),
    ],
)
def test_an_npz_of_another_form_is_refused(small, changes, message):
    mine = small("cifar10").write_npz(**changes)
    with pytest.raises(DamagedData, match=message) as caught:
        mine.load()
    assert str(mine.root / "cifar10.npz") in str(caught.value)


def test_an_npz_without_an_array_is_refused(small):
    mine = small("mnist")
    del mine.arrays["train_labels"]
    mine.write_npz()
    with pytest.raises(DamagedData, match="holds no array train_labels"):
        mine.load()


@pytest.mark.parametrize("how", ["truncated", "altered"])
@pytest.mark.parametrize("own", [True, False])
def test_a_damaged_npz_is_named_and_not_used(small, how, own):
    mine = small("cifar10")
    mine.write().load() if own else mine.write_npz()
    damage(mine.root / "cifar10.npz", how)
    with pytest.raises(DamagedData, match=r"cifar10\.npz is damaged"):
        mine.load()


def test_an_own_npz_with_other_pixels_is_not_used(small):
    mine = small("mnist").write()
    mine.load()
    path = mine.root / "mnist.npz"
    with zipfile.ZipFile(path) as archive:
        members = {name: bytearray(archive.read(name)) for name in archive.namelist()}
    members["test_images.npy"][-1] ^= 1
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, bytes(content))
    mine.check("train")
    with pytest.raises(DamagedData, match="checksum of test_images does not fit"):
        mine.load("test")


# --- damaged standard files -----------------------------------------------------------------------


@pytest.mark.parametrize("how", ["truncated", "altered"])
@pytest.mark.parametrize(
    ("name", "packed", "file"),
    [
        ("mnist", True, "MNIST/raw/t10k-labels-idx1-ubyte.gz"),
        ("mnist", False, "MNIST/raw/train-images-idx3-ubyte"),
        ("fashion-mnist", True, "FashionMNIST/raw/train-labels-idx1-ubyte.gz"),
        ("cifar10", True, "cifar-10-python.tar.gz"),
        ("cifar10", False, "cifar-10-batches-py/data_batch_3"),
        ("cifar100", False, "cifar-100-python/test"),
    ],
)
def test_a_damaged_standard_file_is_named_and_not_used(small, name, packed, file, how):
    mine = small(name).write(packed)
    damage(mine.root / file, how)
    with pytest.raises(DamagedData, match="damaged or incomplete and was not used") as caught:
        mine.load()
    assert str(mine.root / file) in str(caught.value)
    assert not (mine.root / f"{name}.npz").exists()


class Poison:
    """Writes a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("published", [False, True])
def test_a_pickle_runs_nothing(small, published):
    mine = small("cifar10")
    trace = mine.root / "trace"
    mine.contents["data_batch_2"] = pickle.dumps(Poison(trace))
    if published:
        mine.publish()
    mine.write(packed=False)
    message = "it asks for io.open" if published else "its MD5 is"
    with pytest.raises(DamagedData, match=message) as caught:
        mine.load()
    assert "data_batch_2" in str(caught.value)
    assert not trace.exists()


def test_arrays_pickled_by_this_python_are_read_too(small):
    mine = small("cifar100")
    for split in COUNTS:
        images, labels = mine.arrays[f"{split}_images"], mine.arrays[f"{split}_labels"]
        batch = {"data": images.reshape(len(images), -1), "fine_labels": labels.tolist()}
        mine.contents[split] = pickle.dumps(batch, protocol=2)
    mine.publish().write(packed=False).check("train")


@pytest.mark.parametrize(
    "batch", [b"no pickle", pickle.dumps({"data": [1, 2]}), pickle.dumps([1]), pickle.dumps({})]
)
def test_a_published_batch_of_another_form_is_refused(small, batch):
    mine = small("cifar10")
    mine.contents["test_batch"] = batch
    mine.publish().write(packed=False)
    with pytest.raises(DamagedData, match="test_batch is not a CIFAR batch"):
        mine.load()


def test_an_archive_that_lacks_a_file_is_refused(small):
    mine = small("cifar10")
    lost = mine.contents.pop("data_batch_4")
    content = mine.archive_bytes()
    mine.contents["data_batch_4"] = lost
    image_set = SETS["cifar10"]
    changed = replace(image_set, archive=(image_set.archive[0], md5(content)))
    mine.monkeypatch.setitem(SETS, "cifar10", changed)
    mine.archive.write_bytes(content)
    with pytest.raises(DamagedData, match="holds no file cifar-10-batches-py/data_batch_4"):
        mine.load()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an IDX file"),
        (b"\0\0\x0d\1" + bytes(8), "is not an IDX file"),
        (b"\0\0\x08\3" + bytes(4), "is not an IDX file"),
        (struct.pack(">BBBBI", 0, 0, 8, 1, 20) + bytes(19), r"its length does not fit \(20,\)"),
        (idx_bytes(np.zeros(19, np.uint8)), r"train_labels is uint8 \(19,\)"),
    ],
)
def test_a_published_idx_file_of_another_form_is_refused(small, content, message):
    mine = small("mnist")
    mine.contents["train-labels-idx1-ubyte"] = content
    mine.publish().write()
    with pytest.raises(DamagedData, match=message):
        mine.load()


# --- not there, downloaded ------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILE_SETS)
def test_a_missing_set_says_how_to_get_it(tmp_path, name):
    with pytest.raises(DataUnavailable, match="is not in") as caught:
        load(name, root=tmp_path, download=False, device="cpu")
    message = str(caught.value)
    for part in (name, str(tmp_path), "GEOBOOK_DATA", f"{name}.npz", SETS[name].folder,
                 "train_images", "torchvision"):  # fmt: skip
        assert part in message


def test_files_that_lack_are_named(small):
    mine = small("mnist").write()
    (mine.folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataUnavailable, match=r"MNIST/raw lacks t10k-labels-idx1-ubyte\.gz"):
        mine.load()


@pytest.fixture
def server(tmp_path_factory):
    """A stand-in on this machine for where the files are downloaded from."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    folder = tmp_path_factory.mktemp("server")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as running:
        running.folder = folder
        running.address = f"http://127.0.0.1:{running.server_port}/"
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def offer(mine, server, monkeypatch):
    """Let torchvision download a small set from the stand-in."""
    source = getattr(_torchvision.datasets(), SETS[mine.name].torchvision)
    if SETS[mine.name].kind == "cifar":
        (server.folder / mine.archive.name).write_bytes(mine.archive_bytes())
        monkeypatch.setattr(source, "url", server.address + mine.archive.name)
    else:
        for key in mine.contents:
            (server.folder / f"{key}.gz").write_bytes(mine.zipped(key))
        monkeypatch.setattr(source, "mirrors", [server.address + "gone/", server.address])


@needs_torchvision
@pytest.mark.parametrize("name", FILE_SETS)
def test_a_set_is_downloaded_once(small, server, monkeypatch, name):
    mine = small(name)
    offer(mine, server, monkeypatch)
    assert len(mine.load(download=True)) == TRAIN
    files = [path.name for path in mine.root.rglob("*") if path.is_file()]
    assert files == [f"{name}.npz"]
    for path in server.folder.iterdir():
        path.unlink()
    mine.check("train")
    mine.check("test")


@needs_torchvision
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
@pytest.mark.parametrize("how", ["truncated", "altered", "missing"])
def test_a_wrong_download_is_not_used(small, server, monkeypatch, name, how):
    mine = small(name)
    offer(mine, server, monkeypatch)
    file = sorted(server.folder.iterdir())[0]
    file.unlink() if how == "missing" else damage(file, how)
    with pytest.raises(DataUnavailable, match="the download failed") as caught:
        mine.load(download=True)
    assert file.name in str(caught.value)
    assert not [path for path in mine.root.rglob("*") if path.is_file()]


@needs_torchvision
def test_offline_is_said_clearly(small, server, monkeypatch):
    mine = small("fashion-mnist")
    source = _torchvision.datasets().FashionMNIST
    # Port 9 of this machine discards, if anybody listens there at all.
    monkeypatch.setattr(source, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(DataUnavailable, match=r"the download failed.*GEOBOOK_DATA"):
        mine.load(download=True)


def test_without_torchvision_it_is_said_clearly(small, monkeypatch):
    def missing():
        raise ImportError("No module named 'torchvision'")

    monkeypatch.setattr(_torchvision, "datasets", missing)
    with pytest.raises(DataUnavailable, match="cannot be imported: No module named 'torchvision'"):
        small("cifar10").load(download=True)


# --- torchvision beside a CPU torch ---------------------------------------------------------------


class FakeLibrary:
    def __init__(self, namespace, kind):
        self.asked, self.defined = (namespace, kind), []

    def define(self, schema):
        self.defined.append(schema.split("(")[0])


@pytest.fixture
def failing_import(monkeypatch):
    """Make the first import of torchvision.datasets fail with a message."""

    def arrange(message):
        answers = [RuntimeError(message), "the module"]

        def import_module(name):
            assert name == "torchvision.datasets"
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        for name in [n for n in _torchvision.sys.modules if n.split(".")[0] == "torchvision"]:
            monkeypatch.delitem(_torchvision.sys.modules, name)
        monkeypatch.setitem(_torchvision.sys.modules, "torchvision.half", object())
        monkeypatch.setattr(_torchvision.importlib, "import_module", import_module)
        monkeypatch.setattr(_torchvision.torch.library, "Library", FakeLibrary)
        monkeypatch.setattr(_torchvision, "_kept_libraries", [])

    return arrange


def test_missing_operators_are_declared_and_the_import_repeated(failing_import):
    failing_import("operator torchvision::nms does not exist")
    assert _torchvision.datasets() == "the module"
    (library,) = _torchvision._kept_libraries
    assert library.asked == ("torchvision", "DEF")
    assert library.defined == ["nms", "qnms"]
    assert "torchvision.half" not in _torchvision.sys.modules


def test_other_import_errors_pass(failing_import):
    failing_import("something else")
    with pytest.raises(RuntimeError, match="something else"):
        _torchvision.datasets()
    assert not _torchvision._kept_libraries


# --- Dataset --------------------------------------------------------------------------------------


def toy(n=6, channels=2, side=5, **fields):
    """Images whose pixels all differ, black being -1 in channel 0 and -2 in channel 1."""
    images = torch.arange(n * channels * side * side).view(n, channels, side, side) + 1.0
    settings = {"mean": (1.0, 2.0)[:channels], "std": (1.0,) * channels, "crop_padding": 2}
    return Dataset("toy", "train", images, torch.arange(n), ("a",), **{**settings, **fields})


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_dataset_unpacks_and_has_a_length():
    dataset = toy()
    images, labels = dataset
    assert images is dataset.images
    assert labels is dataset.labels
    assert len(dataset) == 6


def test_raw_range_is_black_and_white():
    low, high = toy(std=(2.0, 4.0)).raw_range
    assert low.flatten().tolist() == [-0.5, -0.5]
    assert high.flatten().tolist() == [0.0, -0.25]


def test_subsets_are_drawn_by_seed():
    dataset = toy(40)
    one, same, other = dataset.subset(15, 1), dataset.subset(15, 1), dataset.subset(15, 2)
    assert torch.equal(one.images, same.images)
    assert not torch.equal(one.labels, other.labels)
    assert len(one.labels.unique()) == 15
    assert torch.equal(one.images, dataset.images[one.labels])
    with pytest.raises(ValueError, match="n must be at most 40, not 41"):
        dataset.subset(41)


def test_batches_go_through_all_images():
    dataset = toy(10)
    in_order = list(dataset.batches(4))
    assert [len(labels) for _, labels in in_order] == [4, 4, 2]
    assert torch.equal(torch.cat([images for images, _ in in_order]), dataset.images)
    shuffled = list(dataset.batches(4, generator()))
    labels = torch.cat([labels for _, labels in shuffled])
    assert labels.tolist() != list(range(10))
    assert sorted(labels.tolist()) == list(range(10))
    assert torch.equal(torch.cat([images for images, _ in shuffled]), dataset.images[labels])
    again = torch.cat([labels for _, labels in dataset.batches(4, generator())])
    assert torch.equal(again, labels)


@pytest.mark.parametrize("flips", [False, True])
def test_augmentation_is_crop_and_mirroring_of_the_padded_image(flips):
    dataset = toy(2, flips=flips)
    black = torch.tensor([-1.0, -2.0]).view(2, 1, 1)
    padded = [black.expand(2, 9, 9).clone() for _ in range(2)]
    for image, frame in zip(dataset.images, padded, strict=True):
        frame[:, 2:7, 2:7] = image
    possible = {}
    for down in range(5):
        for right in range(5):
            crop = torch.stack([frame[:, down : down + 5, right : right + 5] for frame in padded])
            for mirrored in {False, flips}:
                view = crop.flip(3) if mirrored else crop
                for i in range(2):
                    possible[view[i].numpy().tobytes()] = (i, down, right, mirrored)
    indices = torch.tensor([0, 1]).repeat(600)
    seen = [
        possible[image.contiguous().numpy().tobytes()]
        for image in dataset.augmented(indices, generator())
    ]
    assert [which[0] for which in seen] == indices.tolist()
    assert len(set(seen)) == len(possible) == 50 * (1 + flips)


def test_augmentation_repeats_with_its_seed():
    dataset = toy(6, flips=True)
    one, same = (list(dataset.batches(4, generator(3), augment=True)) for _ in range(2))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(one, same, strict=True))
    plain = torch.cat([images for images, _ in dataset.batches(4, generator(3))])
    assert not torch.equal(torch.cat([images for images, _ in one]), plain)


def test_no_padding_and_no_flips_leave_the_images():
    dataset = toy(6, crop_padding=0)
    assert torch.equal(dataset.augmented(torch.arange(6), generator()), dataset.images)


def test_augmentation_wants_a_generator_at_once():
    with pytest.raises(ValueError, match=r"generator must be a torch.Generator"):
        toy().batches(4, augment=True)


def test_a_bad_batch_size_is_refused_at_once():
    with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1, not 0"):
        toy().batches(0)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (torch.zeros(3, 8, 8), torch.zeros(3, dtype=torch.int64), "images must be floating"),
        (torch.zeros(3, 1, 8, 8).int(), torch.zeros(3, dtype=torch.int64), "images must be float"),
        (torch.zeros(3, 1, 8, 8), torch.zeros(2, dtype=torch.int64), r"of shape \(3,\)"),
        (torch.zeros(3, 1, 8, 8), torch.zeros(3), "labels must be int64"),
        (torch.zeros(3, 1, 8, 8), torch.zeros(3, dtype=torch.int64, device="meta"), "one device"),
    ],
)
def test_a_dataset_checks_its_tensors(images, labels, message):
    with pytest.raises(ValueError, match=message):
        Dataset("mine", "train", images, labels, ("a",))
