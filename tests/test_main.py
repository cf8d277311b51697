"""The command line, by calls of `main` and once as a process."""

import os
import subprocess
import sys
import types

import pytest

import geobook
from geobook import _doctor, _torchvision, data, networks, results
from geobook.__main__ import main
from geobook.results import AlteredResults


@pytest.fixture(autouse=True)
def surroundings(monkeypatch, tmp_path):
    monkeypatch.setenv("GEOBOOK_DATA", str(tmp_path))
    monkeypatch.setenv("GEOBOOK_DEVICE", "cpu")
    monkeypatch.delenv("GEOBOOK_MODE", raising=False)
    return tmp_path


# --- describe -------------------------------------------------------------------------------------


def test_describe_prints_the_table(capsys):
    assert main(["describe", "cifar10-k4"]) == 0
    assert capsys.readouterr().out == networks.describe("cifar10-k4") + "\n"


def test_describe_takes_changes(capsys):
    assert main(["describe", "digits", "--blocks", "2", "--width", "8", "--norm", "none"]) == 0
    expected = networks.describe("digits", blocks=2, width=8, norm="none")
    assert capsys.readouterr().out == expected + "\n"


def test_describe_alone_lists_the_architectures(capsys):
    assert main(["describe"]) == 0
    assert capsys.readouterr().out.split() == list(networks.ARCHITECTURES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["describe", "alexnet"], "architecture must be an Architecture or one of digits"),
        (["describe", "digits", "--width", "0"], "width must be a whole number of at least 1"),
        (["describe", "digits", "--norm", "layer"], "norm must be one of 'none'"),
        (["describe", "digits", "--blocks", "many"], "argument --blocks: invalid int value"),
        (["fly"], "invalid choice: 'fly'"),
        ([], "required: command"),
    ],
)
def test_mistakes_are_told_without_a_traceback(capsys, arguments, message):
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert "Traceback" not in told.err
    assert not told.out


def test_help_names_the_commands(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in ("describe", "doctor", "reproduce", "report"))


# --- doctor ---------------------------------------------------------------------------------------


def test_doctor_tells_what_is_here_and_what_is_missing(capsys, surroundings):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    versions = dict(line.split(maxsplit=1) for line in out.splitlines()[1:3])
    assert versions == {"geobook": geobook.__version__, "Python": sys.version.split()[0]}
    for part in ("torch ", "POT ", "mode ", "quick", "device ", "cpu", str(surroundings)):
        assert part in out
    assert "digits  " in out
    assert "embedded" in out
    place = f"or put MNIST/raw/*.gz or mnist.npz into {surroundings}"
    assert f"mnist: geobook.data.load('mnist') downloads it; {place}" in out
    assert (
        "cifar10: geobook.data.load('cifar10') downloads it; or put cifar-10-python.tar.gz" in out
    )


def test_doctor_finds_nothing_missing(monkeypatch):
    here = _doctor.Finding("Versions", "torch", "2.0")
    assert _doctor.report([here]).splitlines() == [
        "Versions", "  torch  2.0", "", "Nothing is missing.",
    ]  # fmt: skip
    monkeypatch.setattr(data, "available", lambda: dict.fromkeys(data.NAMES, "somewhere"))
    assert not any(finding.remedy for finding in _doctor._data_sets())


def test_doctor_fails_where_something_required_is_missing(capsys, monkeypatch):
    version = _doctor._version
    monkeypatch.setattr(_doctor, "_version", lambda name: None if name == "POT" else version(name))
    assert main(["doctor"]) == 1
    assert "POT (required): pip install POT" in capsys.readouterr().out


def test_doctor_says_how_to_get_what_is_optional(capsys, monkeypatch):
    version = _doctor._version
    lacking = ("torchvision", "ipywidgets")
    monkeypatch.setattr(_doctor, "_version", lambda n: None if n in lacking else version(n))
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "torchvision: downloads the image sets: pip install torchvision" in out
    assert "ipywidgets: the live panels: pip install 'geobook[live]'" in out


def test_doctor_reports_a_torchvision_that_fails(capsys, monkeypatch):
    def fail():
        raise RuntimeError("made for another torch\nand more")

    monkeypatch.setattr(_torchvision, "datasets", fail)
    monkeypatch.setattr(_doctor, "_version", lambda name: "1.0")
    assert main(["doctor"]) == 0
    assert "made for another torch\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("variable", "value", "what"),
    [("GEOBOOK_MODE", "fast", "mode"), ("GEOBOOK_DEVICE", "x", "device")],
)
def test_doctor_fails_on_a_bad_setting(capsys, monkeypatch, variable, value, what):
    monkeypatch.setenv(variable, value)
    assert main(["doctor"]) == 1
    assert f"{what} (required): correct or unset {variable}" in capsys.readouterr().out


def test_doctor_lists_the_published_results(monkeypatch):
    monkeypatch.setattr(results, "names", lambda: [])
    (none,) = _doctor._results()
    assert (none.value, none.remedy) == ("none", "python -m geobook reproduce digits")
    monkeypatch.setattr(results, "names", lambda: ["digits", "mnist"])
    (some,) = _doctor._results()
    assert (some.value, some.remedy) == ("digits, mnist", "")


def test_an_unknown_distribution_has_no_version():
    assert _doctor._version("geobook-no-such-distribution") is None


# --- reproduce, report, and what can go wrong -----------------------------------------------------


@pytest.fixture
def experiments(monkeypatch):
    """A stand-in for the experiments, which records the call or raises."""
    module = types.ModuleType("geobook.experiments")
    module.raises, module.calls = None, []

    def command(arguments):
        if module.raises is not None:
            raise module.raises
        module.calls.append(vars(arguments)["name"])

    module.reproduce_arguments = module.report_arguments = lambda parser: parser.add_argument(
        "name"
    )
    module.reproduce_command = module.report_command = command
    monkeypatch.setitem(sys.modules, "geobook.experiments", module)
    monkeypatch.setattr(geobook, "experiments", module, raising=False)
    return module


@pytest.mark.parametrize("command", ["reproduce", "report"])
def test_experiments_are_handed_their_arguments(experiments, command):
    assert main([command, "digits"]) == 0
    assert experiments.calls == ["digits"]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ValueError("seeds must be at least 1"), 2, "geobook: error: seeds must be at least 1"),
        (data.DataUnavailable("not here"), 2, "geobook: error: not here"),
        (data.DamagedData("torn"), 2, "geobook: error: torn"),
        (AlteredResults("changed"), 2, "geobook: error: changed"),
        (MemoryError("too large"), 2, "geobook: error: too large"),
        (ModuleNotFoundError("No module named 'x'"), 1, "No module named 'x'; `python -m geobook"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_end_with_a_message_and_a_code(experiments, capsys, error, code, message):
    experiments.raises = error
    assert main(["reproduce", "digits"]) == code
    assert message in capsys.readouterr().err


def test_faults_of_the_package_keep_their_traceback(experiments):
    experiments.raises = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError):
        main(["reproduce", "digits"])


def test_the_package_runs_as_a_process(surroundings):
    run = subprocess.run(
        [sys.executable, "-m", "geobook", "describe", "digits"],
        env={**os.environ, "GEOBOOK_DATA": str(surroundings)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == networks.describe("digits") + "\n"
