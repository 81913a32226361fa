"""The main job: `brainldm view` opens napari with a brain of the bundled model."""

from __future__ import annotations

import os
import subprocess
import sys

SCRIPT = """
import time
from qtpy.QtWidgets import QApplication
from napari_brainldm.widgets.app import show

viewer = show()
end = time.monotonic() + 120
while not len(viewer.layers) and time.monotonic() < end:
    QApplication.processEvents()
    time.sleep(0.01)
layer = viewer.layers[0]
print(layer.name, layer.data.shape, layer.metadata["record"]["Synthetic"])
left, top, width, height = viewer.window.geometry()
print("window", width, height)
viewer.close()
"""


def test_view_shows_a_brain_of_the_bundled_model(tmp_path):
    """In a process of its own, so that the plugin is found as users have it."""
    found = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
        env=os.environ | {"NAPARI_CONFIG": str(tmp_path / "settings.yaml")},
    )
    assert found.returncode == 0, found.stderr
    assert "Synthetic brain (80, 96, 80) True" in found.stdout
    size = found.stdout.split("window ")[1].split()
    assert int(size[0]) > 1000, "a first window leaves no room for the sliders"
    assert int(size[1]) > 600
