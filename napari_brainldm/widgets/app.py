"""`brainldm view`: napari with the Explore dock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import napari

from napari_brainldm.widgets.layers import EXPLORE
from napari_brainldm.widgets.preferences import PLUGIN

if TYPE_CHECKING:
    from pathlib import Path


def open_viewer(checkpoint: Path | None = None) -> None:
    """Open a viewer with the Explore dock and stay until it is closed.

    Parameters
    ----------
    checkpoint
        Loaded at the start; None for the bundled one.
    """
    show(checkpoint)
    napari.run()


def show(checkpoint: Path | None = None) -> napari.Viewer:
    """Open the viewer as `open_viewer` does, without waiting."""
    viewer = napari.Viewer()
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, EXPLORE)
    if checkpoint is not None:
        dock.open(checkpoint)
    return viewer
