"""The notebooks elsewhere: in an older notebook service, and twice in fresh processes.

The older environment borrows torch, numpy and the like from the environment that runs the tests
(by links, which saves gigabytes), all but geobook; its own, older IPython and ipywidgets stand in
front.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT, load, missing

FOLDER = ROOT / "_build" / "older-environment"
# What a popular notebook service has run for years, with what these need beside the borrowed.
OLDER = [
    "ipywidgets==7.7.1",
    "ipython==7.34.0",
    "ipykernel==6.17.1",
    "ipython-genutils==0.2.0",
    "backcall==0.2.0",
    "pickleshare==0.7.5",
    "decorator==5.1.1",
    "nest-asyncio==1.6.0",
]
PACKED = ("src", "results", "pyproject.toml", "README.md", "LICENSE")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

RUN_CELLS = """
import json, sys
import IPython, ipywidgets
from IPython.core.interactiveshell import InteractiveShell
assert IPython.__version__ == "7.34.0" and ipywidgets.__version__ == "7.7.1"
shell = InteractiveShell.instance()
for source in json.load(sys.stdin):
    shell.run_cell(source).raise_error()
"""

VERSIONS = """
import importlib.metadata as m
print(m.version("torch"), m.version("numpy"))
"""

REPEATED = """
import torch
import geobook
from geobook import controls

model = geobook.build("digits", residual=True, seed=3, blocks=2, width=16)
images = geobook.data.load("digits", "train", device="cpu")
small = images.subset(256, seed=1)
recipe = geobook.Recipe(epochs=2, weight_decay=1e-3, seed=5)
result = geobook.train(model, small, recipe, progress=False)
print([value.hex() for value in map(float, result.history["loss"])])
track = geobook.record_tracks(result.model, small.images)[0]
print([float(value).hex() for value in track[-1].sum(dim=1)[:9]])
print(geobook.optimal_transport_score(*torch.randn(2, 50, 3, generator=torch.manual_seed(0))))
"""


def run(python: Path | str, code: str, stdin: str = "", **settings: str) -> str:
    done = subprocess.run(
        [str(python), "-c", code],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT / "tests",
        env=os.environ | {"MPLBACKEND": "Agg", "GEOBOOK_STATIC": "1"} | settings,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def borrow(packages: Path) -> None:
    """Put what the tests' environment holds, without geobook, behind an environment's own."""
    borrowed = FOLDER / "borrowed"
    borrowed.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if "geobook" not in entry.name and entry.suffix != ".pth":
            (borrowed / entry.name).symlink_to(entry)
    (packages / "borrowed.pth").write_text(f"{borrowed}\n")


@pytest.fixture(scope="module")
def older() -> Path:
    """Python of the older environment, without geobook."""
    python = FOLDER / "bin" / "python"
    stamp = FOLDER / "installed.txt"
    wanted = "\n".join([sys.version, *OLDER, (ROOT / "requirements.txt").read_text()])
    if not stamp.is_file() or stamp.read_text() != wanted:
        venv.create(FOLDER, with_pip=True, clear=True)
        borrow(Path(run(python, "import sysconfig; print(sysconfig.get_path('purelib'))").strip()))
        pip = [python, "-m", "pip", "install", "--quiet", "--no-deps", *OLDER]
        if subprocess.run(pip, check=False).returncode:
            missing("the older environment's packages could not be installed")
        stamp.write_text(wanted)
    subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", "geobook"], check=True)
    return python


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of the repository, laid out as its host lays it out."""
    path = tmp_path_factory.mktemp("archive") / "main.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for name in PACKED:
            source = ROOT / name
            files = [source] if source.is_file() else sorted(source.rglob("*"))
            for file in (f for f in files if f.is_file() and "__pycache__" not in f.parts):
                packed.write(file, Path("geobook-main") / file.relative_to(ROOT))
    return path


def cells_to_the_first_explorer(path: Path) -> list[str]:
    sources = [cell["source"] for cell in load(path)["cells"] if cell["cell_type"] == "code"]
    explorers = [index for index, source in enumerate(sources) if "explore(" in source]
    return sources[: explorers[0] + 1] if explorers else sources[:2]


@pytest.fixture(scope="module")
def furnished(older: Path, archive: Path) -> Path:
    """The older environment after a notebook's first cell has run in it."""
    first = load(NOTEBOOKS[0])["cells"][0]["source"]
    before = run(older, VERSIONS)
    assert "False" in run(older, "import importlib.util as u; print(bool(u.find_spec('geobook')))")
    said = run(older, first, GEOBOOK_ARCHIVE=archive.as_uri())
    assert "GPU" in said
    assert run(older, VERSIONS) == before, "the first cell moved torch or numpy"
    return older


def test_the_first_cell_brings_the_package_alone(furnished: Path):
    place = run(furnished, "import geobook; print(geobook.__file__)")
    assert str(FOLDER) in place
    again = load(NOTEBOOKS[0])["cells"][0]["source"]
    assert "GPU" in run(furnished, again, GEOBOOK_ARCHIVE="file:///nothing.zip")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_to_its_first_explorer_in_the_older_environment(
    path: Path, furnished: Path
):
    import json

    run(furnished, RUN_CELLS, json.dumps(cells_to_the_first_explorer(path)))


def test_the_same_seed_gives_the_same_numbers_in_a_fresh_process():
    first = run(sys.executable, REPEATED, PYTHONHASHSEED="1")
    assert first == run(sys.executable, REPEATED, PYTHONHASHSEED="2")
    assert first.count("0x") > 10
