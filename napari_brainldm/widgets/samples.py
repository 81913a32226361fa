"""What File > Open Sample offers: a template, an atlas, a brain, connectivity.

Everything comes with the package; nothing is downloaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.utils import progress

from napari_brainldm.engine import resources
from napari_brainldm.engine.atlas import bundled
from napari_brainldm.engine.fnc_sample import sample_fnc
from napari_brainldm.engine.placement import mni_template
from napari_brainldm.engine.request import Request
from napari_brainldm.widgets.layers import LIMITS, LayerTuple, layer_tuple
from napari_brainldm.widgets.letters import orient
from napari_brainldm.widgets.overlays import atlas_tuple, locked, matrices_tuple
from napari_brainldm.widgets.preferences import PLUGIN

if TYPE_CHECKING:
    from collections.abc import Generator

    from napari_brainldm.engine.renderer import Progress, Renderer
    from napari_brainldm.engine.volume import Volume


CONNECTIVITY = "Connectivity"
"""The dock, as the manifest calls it."""


def template() -> list[LayerTuple]:
    """The MNI152 average of 152 heads, without skull, to which scans are placed."""
    _oriented_viewer()
    return [layer_tuple(mni_template().picture, "MNI152 template", LIMITS)]


def atlas() -> list[LayerTuple]:
    """The Desikan-Killiany atlas, names on hover, locked as soon as it is shown."""
    made = atlas_tuple(bundled())
    viewer = _oriented_viewer()
    if viewer is not None:
        _lock_when_added(viewer, made)
    return [made]


def simulated() -> list[LayerTuple]:
    """A brain of the bundled model at its reference conditions, marked as synthetic."""
    from napari_brainldm.engine.export import record  # torch, seconds

    _oriented_viewer()
    renderer, request = _renderer(), Request()
    picture = _watched(renderer.render(request))
    data, keywords, kind = layer_tuple(picture, "Synthetic brain", LIMITS)
    keywords["metadata"]["record"] = record(renderer, request, picture)
    return [(data, keywords, kind)]


def connectivity() -> list[LayerTuple]:
    """Matrices of simulated people; the Connectivity dock opens with them.

    The layer is hidden where the dock shows a matrix anyway.
    """
    table = sample_fnc()
    viewer = _oriented_viewer()
    if viewer is not None:
        _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, CONNECTIVITY)
        dock.open_sample()
    return [matrices_tuple(table, visible=viewer is None)]


def _oriented_viewer() -> Any:
    """The viewer in front, in which nothing may be seen mirrored; None without one."""
    from napari import current_viewer

    viewer = current_viewer()
    if viewer is not None:
        orient(viewer)
    return viewer


def _lock_when_added(viewer: Any, made: LayerTuple) -> None:
    """Lock the layer of `made` once it is there: no keyword of a layer does it."""
    inserted, place = viewer.layers.events.inserted, made[1]["metadata"]["affine"]

    def lock(event: Any) -> None:
        if event.value.metadata.get("affine") is place:
            inserted.disconnect(lock)
            locked(event.value)

    inserted.connect(lock)


def _renderer() -> Renderer:
    """The bundled model on the device that the Explore dock would take."""
    from napari_brainldm.engine.checkpoint import load_checkpoint
    from napari_brainldm.widgets.desk import preferred_renderer

    return preferred_renderer(load_checkpoint(resources.bundled_checkpoint()))


def _watched(steps: Generator[Progress, None, Volume]) -> Volume:
    """The picture that `steps` make; napari shows that it works, and stays awake."""
    with progress(desc="Simulated brain") as bar:
        while True:
            try:
                next(steps)
            except StopIteration as done:
                return done.value
            bar.update()
