from __future__ import annotations

from pathlib import Path

import pytest

from napari_brainldm.engine import resources
from napari_brainldm.engine.request import EngineError


def a_folder(at: Path, *names: str) -> Path:
    at.mkdir(parents=True)
    for name in names:
        (at / name).write_text(name)
    return at


def a_package(monkeypatch: pytest.MonkeyPatch, at: Path) -> None:
    monkeypatch.setattr(resources, "__file__", str(at / "p" / "engine" / "r.py"))
    monkeypatch.syspath_prepend(at)


def test_a_checkout_uses_the_folder_beside_the_package(root):
    assert resources.resource("RESOURCES.md") == root / "resources" / "RESOURCES.md"


def test_an_installation_uses_its_own_package(monkeypatch, tmp_path):
    monkeypatch.setattr(resources, "INSTALLED", "an_installed_copy")
    installed = a_folder(tmp_path / "an_installed_copy", "RESOURCES.md")
    a_package(monkeypatch, tmp_path)
    assert resources.resource("RESOURCES.md") == installed / "RESOURCES.md"


def test_a_strange_folder_called_resources_is_not_ours(monkeypatch, tmp_path):
    monkeypatch.setattr(resources, "INSTALLED", "another_installed_copy")
    a_folder(tmp_path / "resources", "names.csv")
    installed = a_folder(tmp_path / "another_installed_copy", "names.csv")
    a_package(monkeypatch, tmp_path)
    assert resources.resource("names.csv") == installed / "names.csv"


def test_a_missing_file_is_named():
    with pytest.raises(EngineError, match=r"no_such_file\.bin is not among"):
        resources.resource("no_such_file.bin")


def test_a_missing_folder_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(resources, "INSTALLED", "a_package_nobody_has")
    a_package(monkeypatch, tmp_path)
    with pytest.raises(EngineError, match="Install the package with pip"):
        resources.resource("RESOURCES.md")
