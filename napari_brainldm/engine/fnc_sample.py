"""Simulated people's connectivity that comes with the program."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from napari_brainldm.engine.fnc_file import read_fnc
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resources import bundled_components, bundled_fnc

if TYPE_CHECKING:
    from napari_brainldm.engine.fnc import FncTable


def sample_fnc() -> FncTable:
    """The bundled table, its notes beginning with the word that it is simulated.

    Raises
    ------
    EngineError
        If it does not come with this version.
    """
    path = bundled_fnc()
    if path is None:
        raise EngineError(
            "No simulated connectivity comes with this version. Open a file of your "
            "own; python -m trainer cohort simulates some."
        )
    table = read_fnc(path, scale="z", components=bundled_components())
    return replace(table, notes=("Simulated people.", *table.notes))
