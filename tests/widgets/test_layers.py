"""Volume to layer and back: nothing moves, nothing is mirrored, marks stay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from napari.layers import Image
from scipy.spatial.transform import Rotation

from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.scan_file import read_mark, save_volume
from napari_brainldm.engine.volume import Volume
from napari_brainldm.widgets import layers, overlays

ORIENTATIONS = ("RAS", "LAS", "LPS", "LIA", "AIL", "SPR")


def layer_of(volume: Volume) -> Image:
    data, keywords, _ = layers.layer_tuple(volume, "scan", (0.0, 1.0))
    return Image(data, **keywords)


def tilted(volume: Volume, degrees: float) -> Volume:
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [degrees] * 3, degrees=True).as_matrix()
    return Volume(volume.data, turn @ volume.affine)


def brightest_mm(volume: Volume) -> np.ndarray:
    """Centre of the bright lump in RAS+ mm."""
    voxels = np.argwhere(volume.data == 1.0).mean(axis=0)
    return (volume.affine @ np.append(voxels, 1.0))[:3]


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_a_volume_comes_back_bit_for_bit(phantom: Volume, codes: str) -> None:
    volume = layers.reorient(phantom, codes)
    assert layers.orientation_of(volume.affine) == codes
    assert layers.volume_of(layer_of(volume)).digest == volume.digest


@pytest.mark.parametrize("codes", ORIENTATIONS)
def test_the_layer_lies_where_nibabel_says(phantom: Volume, codes: str) -> None:
    layer = layer_of(layers.reorient(phantom, codes))
    voxels = np.argwhere(layer.data == 1.0).mean(axis=0)
    world = np.array(layer.data_to_world(voxels))[::-1]  # (z, y, x) -> (x, y, z)
    assert world == pytest.approx(brightest_mm(phantom))


def test_layers_have_millimetres_names_and_fixed_contrast(phantom: Volume) -> None:
    layer = layer_of(phantom)
    assert [str(unit) for unit in layer.units] == ["millimeter"] * 3
    assert layer.axis_labels == ("S", "A", "R")
    assert layer.data.dtype == np.float32
    assert layer.data.flags.c_contiguous
    assert layer.contrast_limits == [0.0, 1.0]


def test_an_oblique_scan_is_shown_straight_and_kept_true(phantom: Volume) -> None:
    volume = tilted(layers.reorient(phantom, "LPS"), 12.0)
    layer = layer_of(volume)
    assert layer.scale == pytest.approx([2.0, 2.0, 2.0])
    assert np.array_equal(layer.rotate, np.eye(3))
    assert layers.volume_of(layer).digest == volume.digest
    middle = np.append((np.array(volume.data.shape) - 1) / 2, 1.0)
    shown = layer.data_to_world((np.array(layer.data.shape) - 1) / 2)
    assert shown[::-1] == pytest.approx((volume.affine @ middle)[:3])


def test_a_layer_moved_by_hand_is_a_moved_volume(phantom: Volume) -> None:
    volume = tilted(layers.reorient(phantom, "LIA"), 5.0)
    layer = layer_of(volume)
    layer.translate = layer.translate + np.array([3.0, 0.0, -7.0])  # S and R
    moved = layers.volume_of(layer)
    assert brightest_mm(moved) - brightest_mm(volume) == pytest.approx([-7.0, 0.0, 3.0])


def test_a_layer_of_another_reader_keeps_its_whole_transform() -> None:
    data = np.zeros((4, 5, 6), np.float32)
    layer = Image(data, scale=(3, 2, 1), translate=(10, 20, 30), affine=np.eye(4) * 1.0)
    affine = layers.volume_of(layer).affine
    assert affine @ [1, 1, 1, 1] == pytest.approx([31, 22, 13, 1])


def test_a_layer_that_is_no_volume_is_refused_with_a_sentence() -> None:
    with pytest.raises(EngineError, match="one 3D gray picture is needed"):
        layers.volume_of(Image(np.zeros((4, 4), np.float32), name="flat"))


def test_the_reader_knows_scans_only() -> None:
    assert layers.get_reader("brain.nii.gz") is not None
    assert layers.get_reader(["a.mgz", "b.nii"]) is not None
    assert layers.get_reader("photo.png") is None
    assert layers.get_reader(["a.mgz", "photo.png"]) is None


def test_a_scan_survives_reading_and_writing(phantom: Volume, tmp_path: Path) -> None:
    scan = tilted(layers.reorient(phantom, "LAS"), 9.0)
    save_volume(scan, tmp_path / "scan.nii.gz", space="scanner")
    [(data, keywords, kind)] = layers.get_reader(str(tmp_path / "scan.nii.gz"))(
        str(tmp_path / "scan.nii.gz")
    )
    assert (kind, keywords["name"]) == ("image", "scan")
    [written] = layers.write_image(str(tmp_path / "out.nii"), data, keywords)
    image = nib.load(written)
    assert image.affine == pytest.approx(scan.affine, abs=1e-4)
    assert np.array_equal(np.asarray(image.dataobj), scan.data)


def test_a_synthetic_picture_is_written_with_its_mark(
    phantom: Volume, tmp_path: Path
) -> None:
    data, keywords, _ = layers.layer_tuple(phantom, "made", layers.LIMITS)
    record = {"Synthetic": True, "PictureSha256": phantom.digest}
    keywords["metadata"]["record"] = record
    paths = layers.write_image(str(tmp_path / "age-60.nii.gz"), data, keywords)
    names = [Path(path).name for path in paths]
    assert names == [
        "age-60_desc-synthetic_T1w.nii.gz",
        "age-60_desc-synthetic_T1w.json",
    ]
    image = nib.load(paths[0])
    assert b"SYNTHETIC" in image.header["descrip"].item()
    assert image.affine == pytest.approx(phantom.affine)
    assert json.loads(read_mark(paths[0])) == json.loads(Path(paths[1]).read_text())
    # written again under the same name, the mark is not doubled
    assert layers.write_image(paths[0], data, keywords) == paths


def test_a_picture_changed_by_hand_says_so(phantom: Volume, tmp_path: Path) -> None:
    data, keywords, _ = layers.layer_tuple(phantom, "made", layers.LIMITS)
    record = {"Synthetic": True, "PictureSha256": phantom.digest}
    keywords["metadata"]["record"] = record
    data[3, 3, 3] += 1
    _, sidecar = layers.write_image(str(tmp_path / "p.nii.gz"), data, keywords)
    assert json.loads(Path(sidecar).read_text())["EditedAfterwards"] is True


def test_pictures_of_one_grid_share_one_layer(
    make_napari_viewer_proxy: Any, phantom: Volume
) -> None:
    viewer = make_napari_viewer_proxy()
    first = layers.show(viewer, None, phantom, {"n": 1})
    buffer = first.data
    brighter = Volume(phantom.data * 2, phantom.affine)
    second = layers.show(viewer, first, brighter, {"n": 2})
    assert len(viewer.layers) == 1
    assert second.data is buffer
    assert second.metadata["record"] == {"n": 2}
    assert layers.volume_of(second).digest == brighter.digest


def test_our_own_pictures_are_never_offered_as_scans(
    make_napari_viewer_proxy: Any, phantom: Volume
) -> None:
    """Nor while they are put in: docks list the scans at that moment."""
    viewer, offered = make_napari_viewer_proxy(), []
    viewer.layers.events.inserted.connect(
        lambda _: offered.extend(overlays.scans(viewer))
    )
    layer = layers.show(viewer, None, phantom, {})
    overlays.show_difference(viewer, None, phantom, {})
    overlays.show_reference(viewer, None, phantom, {})
    overlays.show_map(viewer, None, "Mean of seeds", phantom, "picture", {})
    assert len(viewer.layers) == 4
    assert layer in viewer.layers
    assert offered == []


def test_a_removed_layer_or_another_grid_makes_a_new_one(
    make_napari_viewer_proxy: Any, phantom: Volume
) -> None:
    viewer = make_napari_viewer_proxy()
    first = layers.show(viewer, None, phantom, {})
    viewer.layers.clear()
    second = layers.show(viewer, first, phantom, {})
    assert second in viewer.layers
    coarse = Volume(phantom.data[::2], phantom.affine @ np.diag([2.0, 1, 1, 1]))
    layers.show(viewer, second, coarse, {})
    assert len(viewer.layers) == 2


def test_a_real_scan_opens_through_the_manifest(
    make_napari_viewer: Any, root: Path, shared: Path, npe2pm: Any
) -> None:
    path = shared / "data" / "scans" / "ms_patient01_visit1_T1w.nii.gz"
    viewer = make_napari_viewer()
    with npe2pm.tmp_plugin(manifest=str(root / "napari.yaml")):
        viewer.open(str(path), plugin="napari-brainldm")
    volume = layers.volume_of(viewer.layers[0])
    image = nib.load(path)
    assert volume.affine == pytest.approx(image.affine, abs=1e-4)
    np.testing.assert_allclose(volume.data, image.get_fdata(), rtol=1e-5, atol=1e-3)


def test_notes_of_a_scan_are_shown(phantom: Volume, tmp_path: Path) -> None:
    from napari.utils.notifications import notification_manager

    empty = Volume(np.zeros_like(phantom.data), phantom.affine)
    save_volume(empty, tmp_path / "empty.nii.gz", space="scanner")
    told: list[str] = []
    listen = lambda event: told.append(event.message)  # noqa: E731
    notification_manager.notification_ready.connect(listen)
    try:
        path = str(tmp_path / "empty.nii.gz")
        layers.get_reader(path)(path)
    finally:
        notification_manager.notification_ready.disconnect(listen)
    assert any("the scan is empty" in message for message in told)
