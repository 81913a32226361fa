"""A button with named conditions: the model's own, and those the user keeps."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QInputDialog, QMenu, QPushButton

from napari_brainldm.engine.presets import presets_of
from napari_brainldm.engine.request import Conditions
from napari_brainldm.widgets.looks import named
from napari_brainldm.widgets.recent import user_settings

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card


class Kept:
    """The presets that the user keeps for one model, by name."""

    def __init__(self, card: Card) -> None:
        self._settings, self._card = user_settings(), card
        self._key = f"presets/{card.name}"

    def all(self) -> dict[str, Conditions]:
        """Those that the model still understands."""
        try:
            plain: Any = json.loads(str(self._settings.value(self._key, "{}")))
            found = {str(k): Conditions.of(v) for k, v in plain.items()}
        except (ValueError, TypeError, AttributeError):  # written by something else
            return {}
        known = {covariate.name for covariate in self._card.vocabulary}
        return {k: c for k, c in found.items() if set(c.as_dict()) <= known}

    def add(self, name: str, conditions: Conditions) -> None:
        """Keep `conditions`; a former preset of that name goes."""
        self._write({**self.all(), name: conditions})

    def remove(self, name: str) -> None:
        """Forget a preset."""
        self._write({k: c for k, c in self.all().items() if k != name})

    def _write(self, presets: dict[str, Conditions]) -> None:
        plain = {name: c.as_dict() for name, c in presets.items()}
        self._settings.setValue(self._key, json.dumps(plain))


class PresetButton(QPushButton):
    """Shows its menu anew each time, so that two viewers keep the same presets."""

    chosen = Signal(object)  # Conditions

    def __init__(self, card: Card, current: Callable[[], Conditions]) -> None:
        super().__init__("Presets")
        self._own, self._kept, self._current = presets_of(card), Kept(card), current
        menu = QMenu(self)
        menu.aboutToShow.connect(self._fill)
        self.setMenu(menu)
        named(self, "Presets", "Conditions with a name; keep your own")

    def keep(self, name: str) -> None:
        """Keep the conditions that the controls show."""
        if name.strip():
            self._kept.add(name.strip(), self._current())

    def _fill(self) -> None:
        menu, kept = self.menu(), self._kept.all()
        menu.clear()
        for title, presets in (("", self._own), ("Kept", kept)):
            if title and presets:
                menu.addSeparator()
            for name, conditions in presets.items():
                menu.addAction(name, partial(self.chosen.emit, conditions))
        menu.addSeparator()
        menu.addAction("Keep these conditions…", self._ask_name)
        if kept:
            forget = menu.addMenu("Forget")
            for name in kept:
                forget.addAction(name, partial(self._kept.remove, name))

    def _ask_name(self) -> None:
        name, agreed = QInputDialog.getText(self, "Keep these conditions", "Name")
        if agreed:
            self.keep(name)
