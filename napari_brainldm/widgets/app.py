"""`brainldm view`: napari with the Explore dock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import napari
from napari.settings import get_settings
from qtpy.QtGui import QGuiApplication

from napari_brainldm.widgets.layers import EXPLORE
from napari_brainldm.widgets.preferences import PLUGIN

if TYPE_CHECKING:
    from pathlib import Path

ROOMY = 1400, 900
"""Of the window at first, in pixels: the dock shows every slider beside a picture."""

SHARE = 0.9
"""Of the screen that it takes at most."""


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
    before = get_settings().application.window_size
    viewer = napari.Viewer()
    if before is None:  # later napari opens it as it was closed
        free = QGuiApplication.primaryScreen().availableSize()
        width, height = int(SHARE * free.width()), int(SHARE * free.height())
        viewer.window.resize(min(ROOMY[0], width), min(ROOMY[1], height))
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, EXPLORE)
    if checkpoint is not None:
        dock.open(checkpoint)
    return viewer
