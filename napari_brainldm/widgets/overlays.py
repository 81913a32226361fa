"""Layers over and beside the picture: structures, comparisons, sweeps, maps.

They lie where the picture lies; `layers` alone knows how that is.

Keys of `layer.metadata` written here:

    record   of a picture or of what was computed from several: `engine.export`
    veiled   whether it is hidden until what it shows is that of the picture again
    film, captions  of a sweep
    placed   of a scan as the model sees it: no scan to begin with
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.components.overlays import TextOverlay
from napari.layers import Image
from napari.utils.colormaps import Colormap, DirectLabelColormap

from napari_brainldm.engine.volume import Array, Volume
from napari_brainldm.widgets.layers import (
    AXES,
    LIMITS,
    UNITS,
    LayerTuple,
    fits,
    layer_tuple,
    marked_layer,
    placed,
    reorient,
)
from napari_brainldm.widgets.letters import orient

if TYPE_CHECKING:
    from napari_brainldm.engine.asked import Findings
    from napari_brainldm.engine.atlas import Atlas
    from napari_brainldm.engine.fnc import FncTable
    from napari_brainldm.engine.sweep import Film

CHANGE = 99.9
"""Percentile of the absolute difference that gets full colour, when first shown."""

LEAST_CHANGE = 0.05
"""Differences below this share of bright tissue never get full colour."""

PLACED = "placed"

BOX_MM = 180.0
"""Edge of the box over which matrices are spread: a brain's."""

WORDS = "brainldm_words"

OPACITY = 0.4
"""Of the structures over the picture."""

DIVERGING = Colormap(
    [
        [0.0, 0.25, 1.0, 0.9],
        [0.3, 0.6, 1.0, 0.5],
        [1.0, 1.0, 1.0, 0.0],
        [1.0, 0.6, 0.3, 0.5],
        [1.0, 0.1, 0.0, 0.9],
    ],
    name="brainldm-change",
    display_name="change",
)
"""Blue to clear to red: where nothing changed the picture shows through."""

OVER = {
    "colormap": DIVERGING,
    "blending": "translucent",
    "rendering": "translucent",
}
"""How a signed change lies over the picture."""

COLOURS = {
    (2, 41): "#f5f5f540",  # white matter, faint: white would hide what is under it
    (3, 42): "#cd3e4e",  # cortical gray matter
    (4, 43): "#781286",  # lateral ventricle
    (7, 46): "#dcf8a4",  # cerebellar white matter
    (8, 47): "#e69422",  # cerebellar gray matter
    (10, 49): "#00760e",  # thalamus
    (11, 50): "#7abadc",  # caudate
    (12, 51): "#ec0db0",  # putamen
    (13, 52): "#0c30ff",  # pallidum
    (14,): "#ccb68e",  # third and fourth ventricle
    (16,): "#779fb0",  # brain stem
    (17, 53): "#dcd814",  # hippocampus
    (18, 54): "#67ffff",  # amygdala
    (24,): "#3c3c3c",  # fluid around the brain
    (26, 58): "#ffa500",  # accumbens
    (28, 60): "#a52a2a",  # ventral diencephalon
}
"""FreeSurfer indices to the colours that readers of its segmentations know."""

MANTLE = {2, 41, 3, 42, 7, 46, 8, 47, 24}
"""What lies around the deep structures, and would hide them in 3D."""


# -- comparison --------------------------------------------------------------------


def show_reference(
    viewer: Any, layer: Any, picture: Volume, record: dict[str, Any]
) -> Any:
    """Show a pinned picture in a layer of its own, under all others; returns it."""
    if layer is not None and layer in viewer.layers:
        return layer
    data, keywords, _ = layer_tuple(picture, "Reference", LIMITS)
    layer = marked_layer(viewer, data, keywords, record)
    viewer.layers.move(viewer.layers.index(layer), 0)
    return layer


def show_difference(
    viewer: Any, layer: Any, change: Volume, record: dict[str, Any]
) -> Any:
    """Show a signed difference over the picture: blue below 0, red above; returns it.

    The limits are symmetric and stay as they were first found, or as the user set
    them, so that differences compare.
    """
    if not _updated(viewer, layer, change):
        data, keywords, _ = layer_tuple(change, "Difference", _symmetric(change.data))
        layer = marked_layer(viewer, data, keywords | OVER, record)
    layer.metadata["record"] = record
    if layer.metadata.pop("veiled", False):
        layer.visible = True
    return layer


def _updated(viewer: Any, layer: Any, picture: Volume) -> bool:
    """Bring `picture` into `layer`; if it does not fit, take the layer away."""
    if layer is None or layer not in viewer.layers or not fits(layer, picture):
        remove(viewer, layer)
        return False
    np.copyto(layer.data, reorient(picture, "RAS").data.T)
    layer.refresh()
    return True


def _symmetric(data: Array) -> tuple[float, float]:
    top = max(float(np.percentile(np.abs(data), CHANGE)), LEAST_CHANGE)
    return -top, top


# -- several pictures --------------------------------------------------------------


def show_film(
    viewer: Any, film: Film, units: Sequence[str], record: dict[str, Any]
) -> Any:
    """Show a sweep as one layer with its axes before (S, A, R); returns it.

    Frames of numbers lie at their values, so that napari's sliders show these; `units`
    are those of the axes.
    """
    orient(viewer)
    frames = [placed(picture) for picture in film.pictures]
    data = np.stack([one for one, _ in frames]).astype(np.float32)
    keywords = dict(layer_tuple(film.pictures[0], "", LIMITS)[1])
    counts = [len(axis.values) for axis in film.axes]
    steps, starts = zip(*(_spacing(axis.values) for axis in film.axes), strict=True)
    keywords |= {
        "name": "Sweep: " + " x ".join(axis.name for axis in film.axes),
        "scale": (*steps, *keywords["scale"]),
        "translate": (*starts, *keywords["translate"]),
        "axis_labels": (*(axis.name for axis in film.axes), *AXES),
        "units": (*(known_unit(unit) for unit in units), *UNITS),
        "metadata": {"film": film.record.to_plain(), "captions": film.captions},
    }
    frames_along = data.reshape(*counts, *data.shape[1:])
    return marked_layer(viewer, frames_along, keywords, record)


def _spacing(values: Sequence[Any]) -> tuple[float, float]:
    """Step and start of an axis of a layer; categories are counted."""
    numbers = [v for v in values if isinstance(v, float)]
    if len(numbers) < 2 or numbers[1] <= numbers[0]:
        return 1.0, 0.0  # napari's axes only grow
    return numbers[1] - numbers[0], numbers[0]


def known_unit(unit: str) -> str:
    """`unit` as napari knows it; "pixel" for what it does not, and for categories."""
    return {"years": "year", "ml": "milliliter"}.get(unit, "pixel")


def show_map(
    viewer: Any,
    layer: Any,
    name: str,
    picture: Volume,
    kind: str,
    record: dict[str, Any],
) -> Any:
    """Show what several pictures tell in a layer called `name`; returns it.

    `kind` is "picture" (gray, as pictures are shown), "size" (0 and above, such as an
    SD) or "change" (signed).
    """
    limits = _limits_of(picture.data, kind)
    if _updated(viewer, layer, picture):
        layer.contrast_limits = limits
        layer.metadata["record"] = record
        return layer
    data, keywords, _ = layer_tuple(picture, name, limits)
    looks = {"size": {"colormap": "magma"}, "change": OVER}.get(kind, {})
    return marked_layer(viewer, data, keywords | looks, record)


def show_outline(viewer: Any, name: str, mask: Volume, colour: str = "#ffd54a") -> Any:
    """Show the edge of a mask over everything, not to be edited; returns its layer."""
    data, place = placed(mask)
    colours = DirectLabelColormap(color_dict={None: "transparent", 1: colour})
    keywords = {"name": name, "opacity": 1.0, "colormap": colours}
    layer = viewer.add_labels(data.astype(np.uint8), **keywords | place)
    layer.contour = 1
    return locked(layer)


def matrices_tuple(table: FncTable, visible: bool) -> LayerTuple:
    """The layer of all matrices (people, components, components), Fisher z.

    They are spread over the box of a brain, so that a viewer which opens with them
    looks at where pictures will be.
    """
    data = np.stack([table.of(name).matrix for name in table.participants])
    steps = [BOX_MM / max(n, 2) for n in data.shape]
    keywords = {
        "name": f"FNC of {len(data)} simulated subjects",
        "colormap": DIVERGING,
        "contrast_limits": _symmetric(data),
        "scale": steps,
        "translate": [
            step * (1 - n) / 2 for step, n in zip(steps, data.shape, strict=True)
        ],
        "units": UNITS,
        "visible": visible,
        "metadata": {"participants": table.participants, PLACED: True},
    }
    return data, keywords, "image"


def _limits_of(data: Array, kind: str) -> tuple[float, float]:
    if kind == "picture":
        return LIMITS
    return _symmetric(data) if kind == "change" else (0.0, float(data.max()) or 1.0)


# -- structures --------------------------------------------------------------------


def structures_tuple(found: Findings) -> LayerTuple:
    """The layer that shows structures: labels uint16 (S, A, R), keywords, "labels"."""
    data, place = placed(_label_volume(found))
    keywords = {
        "name": "Structures",
        "opacity": OPACITY,
        "colormap": colours_for(2),
        "features": _features(found),
    }
    return data, keywords | place, "labels"


def show_structures(viewer: Any, layer: Any, found: Findings) -> Any:
    """Show the structures of the newest picture above it; returns their layer.

    `layer` is None, or what an earlier call returned; its look is kept.
    """
    if layer is None or layer not in viewer.layers:
        layer = _add_structures(viewer, found)
    elif not fits(layer, _label_volume(found)):
        viewer.layers.remove(layer)
        layer = _add_structures(viewer, found)
    else:
        layer.data = placed(_label_volume(found))[0]
        layer.features = _features(found)
    layer.editable = False  # napari forgets it with every new data
    if layer.metadata.pop("veiled", False):
        layer.visible = True
    return layer


def veil(layer: Any) -> None:
    """Hide structures that are not those of the picture shown, until they are again."""
    if layer is not None and layer.visible:
        layer.metadata["veiled"] = True
        layer.visible = False


def remove(viewer: Any, layer: Any) -> None:
    """Take `layer` away, if it is still there; None is no layer."""
    if layer is not None and layer in viewer.layers:
        viewer.layers.remove(layer)


def atlas_tuple(atlas: Atlas) -> LayerTuple:
    """The layer that names places on hover: int32 (S, A, R), keywords, "labels"."""
    volume = Volume(atlas.labels, atlas.grid.matrix)  # type: ignore[arg-type]
    data, place = placed(volume)
    features = {
        "index": [0, *(region.index for region in atlas.regions)],
        "region": ["none", *(region.name for region in atlas.regions)],
    }
    keywords = {"name": f"Atlas: {atlas.name}", "opacity": 0.3, "features": features}
    return data, keywords | place, "labels"


def show_atlas(viewer: Any, atlas: Atlas) -> Any:
    """Show an atlas over the picture, not to be edited; returns its layer."""
    data, keywords, _ = atlas_tuple(atlas)
    return locked(viewer.add_labels(data, **keywords))


def locked(layer: Any) -> Any:
    """`layer`, safe from brush and Delete; napari has no keywords for that."""
    layer.editable = False
    layer.locked = True
    return layer


def suit_structures(layer: Any, ndisplay: int) -> None:
    """Let the deep structures be seen through the mantle in 3D."""
    if layer is not None:
        layer.colormap = colours_for(ndisplay)


def colours_for(ndisplay: int) -> DirectLabelColormap:
    """The colours of the structures; the mantle is clear in 3D."""
    clear = MANTLE if ndisplay == 3 else set()
    colours: dict[int | None, str] = {None: "transparent"}
    for indices, colour in COLOURS.items():
        for index in indices:
            colours[index] = "transparent" if index in clear else colour
    return DirectLabelColormap(color_dict=colours)


def _add_structures(viewer: Any, found: Findings) -> Any:
    data, keywords, _ = structures_tuple(found)
    keywords["colormap"] = colours_for(viewer.dims.ndisplay)
    return viewer.add_labels(data, **keywords)


def _label_volume(found: Findings) -> Volume:
    return Volume(found.labels, found.grid.matrix)  # type: ignore[arg-type]


def _features(found: Findings) -> dict[str, list[Any]]:
    """What napari's status bar says of a label: "structure" and "volume"."""
    entries = found.legend
    return {
        "index": [0, *(entry.index for entry in entries)],
        "structure": ["background", *(entry.name for entry in entries)],
        "volume": [None, *(f"{entry.ml:.1f} ml" for entry in entries)],
    }


def show_words(viewer: Any, words: str) -> None:
    """Write `words` into the canvas, above the pictures; empty takes them away."""
    texts = viewer.canvas.overlays
    if WORDS not in texts:
        if not words:
            return
        texts[WORDS] = TextOverlay(position="top_left", font_size=12, gridded=True)
    texts[WORDS].text = words
    texts[WORDS].visible = bool(words)


def scans(viewer: Any) -> list[Any]:
    """Image layers that may be scans: one 3D gray picture, and not made here."""
    return [
        layer
        for layer in viewer.layers
        if isinstance(layer, Image)
        and layer.ndim == 3
        and not layer.rgb
        and not {"record", PLACED} & layer.metadata.keys()
    ]


def hide(layer: Any) -> None:
    """Let `layer` be there, but not seen; its eye in the list brings it back."""
    layer.visible = False


def show_scan(
    viewer: Any, layer: Any, picture: Volume, name: str = "Scan, placed"
) -> Any:
    """Show a placed scan under everything else; returns its layer."""
    remove(viewer, layer)
    data, keywords, _ = layer_tuple(picture, name, LIMITS)
    keywords["metadata"][PLACED] = True
    shown = viewer.add_image(data, **keywords)
    viewer.layers.move(viewer.layers.index(shown), 0)
    return shown
