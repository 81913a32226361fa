"""What pip installs is what stands in the repository."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from npe2 import PluginManifest
from npe2.manifest.utils import import_python_name

NAME = "napari-brainldm"

# What an installed copy finds, seen from a fresh interpreter.
LOOK = """
import json
from importlib.metadata import entry_points
import napari_brainldm, trainer
from napari_brainldm.engine.resources import resource
from npe2 import PluginManifest
points = entry_points(group="napari.manifest", name="napari-brainldm")
print(json.dumps({
    "package": napari_brainldm.__file__,
    "trainer": trainer.__file__,
    "resources": str(resource("RESOURCES.md")),
    "points": sorted({p.value for p in points}),
    "manifest": PluginManifest.from_distribution("napari-brainldm").json(),
}))
"""


@dataclass(frozen=True)
class Built:
    """The archives that a build leaves."""

    sdist: Path
    wheel: Path
    wheel_of_sdist: Path


def python(*arguments: str, cwd: Path, path: Path | None = None) -> str:
    """Run this interpreter and return what it printed; `path` is looked at first."""
    environment = {**os.environ, **({"PYTHONPATH": str(path)} if path else {})}
    command = [sys.executable, *arguments]
    run = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def only(folder: Path, pattern: str) -> Path:
    """The one file of `folder` that matches."""
    (found,) = folder.glob(pattern)
    return found


@pytest.fixture(scope="module")
def built(root, tmp_path_factory) -> Built:
    """The sdist, its wheel, and the wheel of the checkout; no network."""
    direct = tmp_path_factory.mktemp("direct")
    through = tmp_path_factory.mktemp("through_sdist")
    build = ("-m", "build", "--no-isolation", "--outdir")
    python(*build, str(direct), "--wheel", str(root), cwd=direct)
    python(*build, str(through), str(root), cwd=through)
    return Built(
        only(through, "*.tar.gz"), only(direct, "*.whl"), only(through, "*.whl")
    )


@pytest.fixture(scope="module", params=["wheel", "wheel_of_sdist"])
def installed(request, built, tmp_path_factory) -> dict[str, object]:
    """What a copy installed into an empty folder finds, and that folder."""
    target = tmp_path_factory.mktemp(request.param)
    wheel = getattr(built, request.param)
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index")
    python(*pip, "--no-compile", "--target", str(target), str(wheel), cwd=target)
    found = json.loads(python("-c", LOOK, cwd=target, path=target))
    return {**found, "target": target}


@pytest.fixture(scope="module")
def manifest(root) -> PluginManifest:
    """The real manifest."""
    return PluginManifest.from_file(root / "napari.yaml")


def contributions(manifest: PluginManifest) -> str:
    """What a manifest says, without what npe2 adds about the distribution."""
    return manifest.model_dump_json(exclude={"package_metadata"})


def source_files(root: Path, *folders: str) -> set[str]:
    """Files of the checkout that belong into an archive, caches left out."""
    found = (path for folder in folders for path in (root / folder).rglob("*"))
    names = {p.relative_to(root).as_posix() for p in found if p.is_file()}
    caches = ("__pycache__/", "_cache/", "/.", "ruff.toml")
    return {name for name in names if not any(cache in name for cache in caches)}


def test_the_wheel_holds_both_packages_whole(built, root):
    names = set(zipfile.ZipFile(built.wheel).namelist())
    assert source_files(root, "napari_brainldm", "trainer") <= names


def test_the_wheel_holds_manifest_and_resources(built, root):
    names = set(zipfile.ZipFile(built.wheel).namelist())
    resources = {f"napari_brainldm_{n}" for n in source_files(root, "resources")}
    assert resources | {"napari_brainldm_manifest/napari.yaml"} <= names


def test_the_wheel_holds_nothing_else(built):
    names = zipfile.ZipFile(built.wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {
        "napari_brainldm",
        "napari_brainldm_manifest",
        "napari_brainldm_resources",
        "trainer",
        "napari_brainldm-0.1.0.dist-info",
    }


def test_the_sdist_makes_the_same_wheel(built):
    direct, through = map(zipfile.ZipFile, (built.wheel, built.wheel_of_sdist))
    contents = [{i.filename: i.CRC for i in z.infolist()} for z in (direct, through)]
    assert contents[0] == contents[1]


def test_the_sdist_holds_tests_and_benchmarks(built, root):
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = source_files(root, "tests", "benchmarks", "tools")
    assert wanted | {"napari.yaml", "constraints.txt", "Makefile", "LICENSE"} <= names


def test_an_installed_copy_is_found_by_napari(installed):
    assert installed["points"] == ["napari_brainldm_manifest:napari.yaml"]


def test_an_installed_manifest_is_the_one_of_the_repository(installed, manifest):
    found = PluginManifest.model_validate_json(installed["manifest"])
    assert contributions(found) == contributions(manifest)


def test_an_installed_copy_finds_its_own_resources(installed):
    target = installed["target"]
    folder = target / "napari_brainldm_resources"
    assert Path(installed["package"]).parent == target / "napari_brainldm"
    assert Path(installed["trainer"]).parent == target / "trainer"
    assert Path(installed["resources"]) == folder / "RESOURCES.md"


def test_this_environment_holds_the_manifest_of_the_repository(manifest):
    """Fails after an edit of napari.yaml until the package is installed again."""
    found = PluginManifest.from_distribution(NAME)
    assert contributions(found) == contributions(manifest)


def test_npe2_calls_the_manifest_valid(root):
    assert "valid" in python("-m", "npe2", "validate", "napari.yaml", cwd=root)


def test_every_command_of_the_manifest_can_be_imported(manifest):
    manifest.validate_imports()
    for command in manifest.contributions.commands:
        assert callable(import_python_name(command.python_name)), command.id
