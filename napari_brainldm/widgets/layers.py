"""The only place that knows layer axes: Volume to napari layer and back, files.

A `Volume` is (i, j, k) with an affine to RAS+ mm. A layer is its transpose, brought to
the closest canonical orientation first: axes (S, A, R), so that napari's world is
(z, y, x) in mm and slices are stacked from bottom to top.

Keys of `layer.metadata` written here:

    affine   4 x 4 voxel -> RAS+ mm of `layer.data.T`; true, with any residual rotation
    drawn    4 x 4 data -> world as the layer was made; tells whether a user moved it
    source   (orientation such as "LPS", affine) of the volume as it came
    record   of a synthetic picture: `engine.export.record`
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Image
from nibabel import orientations

from napari_brainldm.engine.files import stem_of
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.scan_file import SUFFIXES, read_scan, save_volume
from napari_brainldm.engine.volume import Affine, Array, Volume
from napari_brainldm.widgets.letters import orient
from napari_brainldm.widgets.preferences import PLUGIN

EXPLORE = "Explore"
"""As the dock is called in the manifest."""

AXES = ("S", "A", "R")
UNITS = ("mm", "mm", "mm")
LIMITS = (0.0, 1.1)
"""Contrast of synthetic pictures, fixed so that they compare; 1 is bright tissue."""

LayerTuple = tuple[Array, dict[str, Any], str]


def layer_tuple(volume: Volume, name: str, limits: tuple[float, float]) -> LayerTuple:
    """The layer that shows `volume`: data float32 (S, A, R), keywords, "image"."""
    data, place = placed(volume)
    keywords = {
        "name": name,
        "colormap": "gray",
        "contrast_limits": limits,
        "rendering": "attenuated_mip",
        "attenuation": 0.2,  # shows the cortex; napari's 0.05 a glowing cloud
    }
    return np.ascontiguousarray(data, np.float32), keywords | place, "image"


def volume_of(layer: Any) -> Volume:
    """The picture of `layer`, in the voxel order it came in, where it now lies.

    A layer of another reader is taken as (S, A, R) in mm.

    Raises
    ------
    EngineError
        If the layer is not one 3D picture.
    """
    if layer.ndim != 3 or getattr(layer, "rgb", False):
        raise EngineError(
            f"The layer {layer.name} has {layer.ndim} dimensions"
            f"{' and colours' if getattr(layer, 'rgb', False) else ''}; one 3D gray "
            "picture is needed. Choose another layer."
        )
    data = np.asarray(layer.data, np.float32).T
    world, made = _data_to_world(layer), layer.metadata
    if not {"affine", "drawn", "source"} <= made.keys():
        return Volume(np.ascontiguousarray(data), _reversed(world))
    codes, affine = made["source"]
    if np.allclose(world, made["drawn"], rtol=0, atol=1e-6):
        back = reorient(Volume(data, made["affine"]), codes)
        return Volume(back.data, affine)
    moved = _reversed(world @ np.linalg.inv(made["drawn"]))
    return reorient(Volume(data, moved @ made["affine"]), codes)


def show(viewer: Any, layer: Any, picture: Volume, record: dict[str, Any]) -> Any:
    """Show a synthetic picture in `layer`, or in a new one; returns the layer.

    `layer` is None, or what an earlier call returned. The user may have removed it, and
    another checkpoint may have another grid: then a new layer is made.
    """
    orient(viewer)
    if layer is None or layer not in viewer.layers or not fits(layer, picture):
        data, keywords, _ = layer_tuple(picture, "Synthetic brain", LIMITS)
        layer = marked_layer(viewer, data, keywords, record)
    else:
        # in place: a new array would cost twice the time and rebuild the geometry
        np.copyto(layer.data, reorient(picture, "RAS").data.T)
        layer.refresh(thumbnail=False, extent=False, highlight=False)
    layer.metadata["record"] = record
    return layer


def marked_layer(
    viewer: Any, data: Array, keywords: dict[str, Any], record: dict[str, Any]
) -> Any:
    """A new layer of a synthetic picture, marked before anybody hears of it."""
    metadata = keywords["metadata"] | {"record": record}
    return viewer.add_image(data, **keywords | {"metadata": metadata})


def finish(layer: Any) -> None:
    """Bring thumbnail and status of `layer` up to date after its last picture."""
    layer.refresh()


def go_to(viewer: Any, place: tuple[float, float, float]) -> None:
    """Bring `place` (x, y, z) in mm into the middle of the view, in every slice."""
    here = tuple(reversed(place))
    dims = viewer.dims
    for axis, value in zip(range(dims.ndim - 3, dims.ndim), here, strict=True):
        dims.set_point(axis, value)
    shown = [axis - (dims.ndim - 3) for axis in dims.displayed]
    centre = tuple(here[axis] for axis in shown if axis >= 0)
    viewer.scene.camera.center = (0.0,) * (3 - len(centre)) + centre


def fits(layer: Any, picture: Volume) -> bool:
    """Whether `layer` was made for the grid of `picture`."""
    canonical = reorient(picture, "RAS")
    same_shape = layer.data.shape == canonical.data.shape[::-1]
    return same_shape and np.array_equal(layer.metadata.get("affine"), canonical.affine)


# -- geometry ----------------------------------------------------------------------


def placed(volume: Volume) -> tuple[Any, dict[str, Any]]:
    """Voxels (S, A, R) of any type, and the keywords that put a layer in its place."""
    canonical = reorient(volume, "RAS")
    straight = _straight(canonical)
    metadata = {
        "affine": canonical.affine,
        "drawn": _reversed(straight),
        "source": (orientation_of(volume.affine), volume.affine),
    }
    place = {
        "scale": tuple(np.diag(straight)[2::-1]),
        "translate": tuple(straight[2::-1, 3]),
        "units": UNITS,
        "axis_labels": AXES,
        "metadata": metadata,
    }
    return np.ascontiguousarray(canonical.data.T), place


def orientation_of(affine: Affine) -> str:
    """Directions in which (i, j, k) grow, such as "LPS"."""
    return "".join(orientations.aff2axcodes(affine))


def reorient(volume: Volume, codes: str) -> Volume:
    """The same picture, its axes flipped and swapped to grow along `codes`."""
    now = orientations.io_orientation(volume.affine)
    turn = orientations.ornt_transform(now, orientations.axcodes2ornt(codes))
    data = orientations.apply_orientation(volume.data, turn)
    affine = volume.affine @ orientations.inv_ornt_aff(turn, volume.data.shape)
    return Volume(np.ascontiguousarray(data), affine)


def _straight(canonical: Volume) -> Affine:
    """The affine of `canonical` without its residual rotation, about the same centre.

    napari cannot slice obliquely; for an axis-aligned picture nothing changes.
    """
    size = np.linalg.norm(canonical.affine[:3, :3], axis=0)
    middle = (np.array(canonical.data.shape) - 1) / 2
    centre = canonical.affine[:3, :3] @ middle + canonical.affine[:3, 3]
    straight = np.diag([*size, 1.0])
    straight[:3, 3] = centre - size * middle
    return straight


def _reversed(affine: Affine) -> Affine:
    """P A P: the same map for coordinates in reversed order, (z, y, x)."""
    order = [2, 1, 0, 3]
    return affine[np.ix_(order, order)]


def _data_to_world(layer: Any) -> Affine:
    """Composed transform of a 3D layer: scale, shear, rotate, translate, affine."""
    origin = np.asarray(layer.data_to_world((0.0, 0.0, 0.0)))
    columns = [np.asarray(layer.data_to_world(unit)) - origin for unit in np.eye(3)]
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = np.array(columns).T, origin
    return matrix


# -- files -------------------------------------------------------------------------


def get_reader(path: str | list[str]) -> Callable[[Any], list[LayerTuple]] | None:
    """The reader for NIfTI and FreeSurfer scans; None for anything else."""
    ours = all(str(p).lower().endswith(SUFFIXES) for p in _paths(path))
    return _read if ours else None


def get_checkpoint_reader(
    path: str | list[str],
) -> Callable[[Any], list[tuple[None]]] | None:
    """The reader for checkpoints and workspaces: the Explore dock opens them."""
    return _open_checkpoint if len(_paths(path)) == 1 else None


def _open_checkpoint(path: str | list[str]) -> list[tuple[None]]:
    from napari import current_viewer

    viewer = current_viewer()
    if viewer is not None:
        # the dock that is there, or a new one
        _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, EXPLORE)
        one = _paths(path)[0]
        kept = one.name.lower().endswith(".json")
        dock.open_workspace(one) if kept else dock.open(one)
    return [(None,)]  # as npe2 calls "nothing to show"


def open_scan(viewer: Any, path: Path) -> Any:
    """Open the scan at `path` as napari would, had it been dropped; its layer.

    Raises
    ------
    EngineError
        If it cannot be read.
    """
    read_scan(path)  # napari would wrap the sentence into one of its own
    return viewer.open(str(path), plugin=PLUGIN)[0]


def _read(path: str | list[str]) -> list[LayerTuple]:
    return [_read_one(p) for p in _paths(path)]


def _paths(given: str | list[str]) -> list[Path]:
    """What napari gives a reader, as a list."""
    several = [given] if isinstance(given, str | Path) else given
    return [Path(one) for one in several]


def _read_one(path: Path) -> LayerTuple:
    from napari import current_viewer
    from napari.utils.notifications import show_warning

    reading = read_scan(path)
    for note in reading.notes:
        show_warning(f"{path.name}: {note}")
    viewer = current_viewer()
    if viewer is not None:  # a scan must not be seen mirrored either
        orient(viewer)
    return layer_tuple(reading.volume, _stem(path), _limits(reading.volume.data))


def _limits(data: Array) -> tuple[float, float]:
    """Contrast of a scan: its lowest value to its nearly brightest."""
    sample = data[::2, ::2, ::2]
    low, high = float(sample.min()), float(np.percentile(sample, 99.8))
    return low, high if high > low else low + 1.0


def write_image(path: str, data: Any, meta: dict[str, Any]) -> list[str]:
    """The writer: the picture as NIfTI with its true affine.

    A synthetic picture gets the mark in its name, its header and a sidecar.
    """
    return write_volume(
        volume_of(Image(data, **meta)), meta.get("metadata", {}).get("record"), path
    )


def write_volume(
    volume: Volume, record: dict[str, Any] | None, path: str | Path
) -> list[str]:
    """Write `volume` at `path`; with a `record`, as a marked synthetic picture."""
    path = Path(path)
    if record is None:
        save_volume(volume, path)
        return [str(path)]
    from napari_brainldm.engine.export import write_picture  # torch, seconds

    written = write_picture(volume, _truthful(record, volume), path.parent, _stem(path))
    return [str(written), str(written.with_name(f"{stem_of(written)}.json"))]


def _truthful(record: dict[str, Any], volume: Volume) -> dict[str, Any]:
    """`record`, which says so when the picture was changed after it was made."""
    digest = volume.digest
    if record.get("PictureSha256", digest) == digest:  # frames of a film have none
        return record | {"PictureSha256": digest}
    return record | {"EditedAfterwards": True, "PictureSha256": digest}


def _stem(path: Path) -> str:
    """The name without extension and without the suffix that `write_picture` adds."""
    return stem_of(path).removesuffix("_T1w")
