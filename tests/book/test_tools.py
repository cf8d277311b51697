"""The scripts around the build: the environment, files from npm, the page's own helpers."""

from __future__ import annotations

import io
import os
import sys
import tarfile
from pathlib import Path

import pytest

import environment
import npm_package
from geobook_site import keep_absolute_values, site_url


@pytest.fixture
def project(tmp_path: Path, monkeypatch) -> Path:
    """A project's folder in the place of ours, its commands noted instead of run."""
    for name in environment.INPUTS:
        (tmp_path / name).write_text(name)
    venv = tmp_path / ".venv"
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    monkeypatch.setattr(environment, "VENV", venv)
    monkeypatch.setattr(environment, "PYTHON", venv / "bin" / "python")
    monkeypatch.setattr(environment, "STAMP", venv / "installed.sha256")
    return tmp_path


@pytest.fixture
def commands(project: Path, monkeypatch) -> list[tuple[str, ...]]:
    noted: list[tuple[str, ...]] = []

    def note(*command: object) -> int:
        noted.append(tuple(map(str, command)))
        (project / ".venv" / "bin").mkdir(parents=True, exist_ok=True)
        (project / ".venv" / "bin" / "python").touch()
        return 0

    monkeypatch.setattr(environment, "_run", note)
    return noted


def test_the_environment_is_made_once_and_again_after_a_change(project: Path, commands):
    environment.main()
    venv, pins, package = commands
    assert venv[:3] == (sys.executable, "-m", "venv")
    assert pins[-4:] == ("-r", f"{project}/requirements.txt", "-c", f"{project}/requirements.txt")
    assert package[-3:] == ("--no-deps", "--editable", str(project))
    environment.main()
    assert len(commands) == 3
    (project / "requirements.txt").write_text("changed")
    environment.main()
    assert [command[3] for command in commands[3:]] == ["install", "install"]


def test_a_failed_install_is_told_and_tried_again(project: Path, monkeypatch):
    monkeypatch.setattr(environment, "_run", lambda *command: 1)
    with pytest.raises(SystemExit, match="virtual environment"):
        environment.main()
    (project / ".venv" / "bin").mkdir(parents=True)
    (project / ".venv" / "bin" / "python").touch()
    commands = []

    def fail_to_install(*command: object) -> int:
        commands.append(command)
        return int("install" in command)

    monkeypatch.setattr(environment, "_run", fail_to_install)
    with pytest.raises(SystemExit, match="could not be installed"):
        environment.main()
    # What a broken attempt left, perhaps an interpreter without pip, is made anew.
    assert "--clear" in commands[0]
    assert not environment.STAMP.exists()


def test_an_old_python_is_told(project: Path, commands, monkeypatch):
    monkeypatch.setattr(environment.sys, "version_info", (3, 9, 1))
    with pytest.raises(SystemExit, match=r"3\.11 or newer is needed, this is 3\.9\.1"):
        environment.main()
    assert commands == []


def put_npm(folder: Path, monkeypatch, content: bytes | None) -> None:
    """Put a stand-in for npm on the path: it packs an archive with one file, or fails."""
    if content is not None:
        with tarfile.open(folder / "made.tgz", "w:gz") as archive:
            entry = tarfile.TarInfo("package/dist/file.js")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    npm = folder / "npm"
    npm.write_text(f'#!/bin/sh\ncp "{folder}/made.tgz" "$5/made.tgz"\n')
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_a_file_from_npm_is_fetched_once(tmp_path: Path, monkeypatch):
    put_npm(tmp_path, monkeypatch, b"content")
    path = npm_package.fetch("thing@1.0.0", "dist/file.js", tmp_path / "kept")
    assert path.read_bytes() == b"content"
    monkeypatch.setenv("PATH", "")
    assert npm_package.fetch("thing@1.0.0", "dist/file.js", tmp_path / "kept") == path


def test_what_npm_cannot_give_is_told(tmp_path: Path, monkeypatch):
    put_npm(tmp_path, monkeypatch, b"content")
    with pytest.raises(npm_package.NpmUnavailableError, match="holds no file other"):
        npm_package.fetch("thing@1.0.0", "other.js", tmp_path / "kept")
    (tmp_path / "made.tgz").unlink()
    with pytest.raises(npm_package.NpmUnavailableError, match="could not fetch thing@1"):
        npm_package.fetch("thing@1.0.0", "dist/file.js", tmp_path / "kept")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(npm_package.NpmUnavailableError, match="npm is missing"):
        npm_package.fetch("thing@1.0.0", "dist/file.js", tmp_path / "kept")


@pytest.mark.parametrize(
    ("base", "repository", "expected"),
    [
        ("", "https://github.com/owner/book", "https://owner.github.io/book/"),
        ("https://example.org/b", "https://github.com/owner/book", "https://example.org/b/"),
    ],
)
def test_the_books_address(base: str, repository: str, expected: str):
    assert site_url(base, repository) == expected


def test_absolute_values_survive_in_docstrings():
    lines = ["the norm |x - y| of ``a | b``", ">>> a | b", "+---+", "| a |"]
    keep_absolute_values(None, "", "", None, None, lines)
    assert lines == [r"the norm \|x - y\| of ``a | b``", ">>> a | b", "+---+", "| a |"]
