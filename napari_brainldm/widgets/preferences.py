"""What the user set under File > Preferences > Brain LDM (napari 0.9 and later)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from napari_brainldm.engine.request import EngineError

PLUGIN = "napari-brainldm"
"""As the plugin is called in the manifest."""

BEST = "best"
"""Of device and precision: what the start-up probe finds."""

NEUROLOGICAL, RADIOLOGICAL = "neurological", "radiological"


@dataclass(frozen=True)
class Preferences:
    """Settings of this plugin; the defaults where napari keeps none.

    Attributes
    ----------
    device, precision
        As `engine.device.choose` takes them; empty for what the probe finds best.
    preview_steps
        Denoising steps of the quick pictures while a slider moves.
    radiological
        Whether a person's right is shown on the left.
    """

    device: str = ""
    precision: str = ""
    preview_steps: int = 4
    radiological: bool = False


def preferences() -> Preferences:
    """The settings as they are now."""
    kept = _kept()
    if kept is None:
        return Preferences()
    compute, viewing = kept.compute, kept.viewing
    return Preferences(
        _wish(compute.device),
        _wish(compute.precision),
        int(compute.preview_steps),
        viewing.convention == RADIOLOGICAL,
    )


def _kept() -> Any:
    """Napari's settings of this plugin; None where there are none."""
    try:
        from napari.settings import get_plugin_settings

        return get_plugin_settings(PLUGIN)
    except (ImportError, KeyError, ValueError):  # run without being installed
        return None


def _wish(value: str) -> str:
    return "" if value.strip().lower() == BEST else value.strip()


def refused(error: EngineError) -> EngineError:
    """`error` about a device or precision, with the way out of it."""
    return EngineError(
        f"{error} It stands under File > Preferences > Brain LDM; {BEST!r} lets the "
        "program choose."
    )
