"""Mode, device and cache folder: one place decides."""

from pathlib import Path

import pytest
import torch

from geobook import runtime


def test_quick_is_the_mode_unless_set(monkeypatch):
    monkeypatch.delenv("GEOBOOK_MODE", raising=False)
    assert runtime.mode() == "quick"
    assert runtime.by_mode(1, 2) == 1
    monkeypatch.setenv("GEOBOOK_MODE", " Full ")
    assert runtime.mode() == "full"
    assert runtime.by_mode(quick="a", full="b") == "b"


@pytest.mark.parametrize("value", ["fast", ""])
def test_another_mode_is_refused(monkeypatch, value):
    monkeypatch.setenv("GEOBOOK_MODE", value)
    with pytest.raises(ValueError, match=f"must be 'quick' or 'full', not '{value}'"):
        runtime.mode()


def test_the_device_is_the_argument_then_the_variable(monkeypatch):
    monkeypatch.setenv("GEOBOOK_DEVICE", "warp")
    assert runtime.device("cpu") == torch.device("cpu")
    assert runtime.device(torch.device("cpu")) == torch.device("cpu")
    with pytest.raises(ValueError, match=r"device must be one that this machine has \(here: cpu"):
        runtime.device()
    monkeypatch.setenv("GEOBOOK_DEVICE", "cpu")
    assert runtime.device() == torch.device("cpu")


@pytest.mark.parametrize(
    ("cards", "metal", "best"), [(0, False, "cpu"), (2, False, "cuda:0"), (0, True, "mps")]
)
def test_the_best_device_is_a_gpu_where_there_is_one(monkeypatch, cards, metal, best):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: metal)
    assert runtime._best_device() == best


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_here_is_refused(name):
    with pytest.raises(ValueError, match=f"not '{name}'"):
        runtime.device(name)


def test_the_cache_folder_is_set_or_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("GEOBOOK_DATA", str(tmp_path))
    assert runtime.cache_folder() == tmp_path
    monkeypatch.setenv("GEOBOOK_DATA", "")
    assert runtime.cache_folder().name == "geobook"
    assert isinstance(runtime.cache_folder(), Path)
