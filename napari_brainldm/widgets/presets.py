"""A button with named conditions: the model's own, and those the user keeps."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QInputDialog, QMenu, QPushButton

from napari_brainldm.engine.presets import presets_of
from napari_brainldm.engine.request import Conditions, EngineError
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
        """Those that the model understands; another of its name may have others."""
        return {
            name: Conditions.of(values)
            for name, values in self._plain().items()
            if self._fits(values)
        }

    def add(self, name: str, conditions: Conditions) -> None:
        """Keep `conditions`; a former preset of that name goes."""
        self._write({**self._plain(), name: conditions.as_dict()})

    def remove(self, name: str) -> None:
        """Forget a preset."""
        self._write({k: v for k, v in self._plain().items() if k != name})

    def _fits(self, values: Any) -> bool:
        try:
            self._card.vector(self._card.complete(Conditions.of(values)))
        except (EngineError, ValueError, TypeError, AttributeError):
            return False
        return True

    def _plain(self) -> dict[str, Any]:
        try:
            kept = json.loads(str(self._settings.value(self._key, "{}")))
        except ValueError:  # written by something else
            return {}
        return kept if isinstance(kept, dict) else {}

    def _write(self, presets: dict[str, Any]) -> None:
        self._settings.setValue(self._key, json.dumps(presets))


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
