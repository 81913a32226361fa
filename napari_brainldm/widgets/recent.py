"""Checkpoints opened before, remembered between sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qtpy.QtCore import QSettings

from napari_brainldm.widgets.preferences import PLUGIN

MOST = 8
"""Files remembered; the oldest are forgotten."""

KEY = "checkpoints"


def user_settings() -> QSettings:
    """The user's settings of this plugin that are no preferences."""
    scope, kind = QSettings.Scope.UserScope, QSettings.Format.IniFormat
    return QSettings(kind, scope, PLUGIN, "explore")


class Recent:
    """The last checkpoints, newest first, in the user's settings of this plugin."""

    def __init__(self) -> None:
        self._settings = user_settings()

    def paths(self) -> list[Path]:
        """Those that are still there."""
        kept: Any = self._settings.value(KEY, []) or []
        names = [kept] if isinstance(kept, str) else kept  # Qt's way with lists of one
        return [path for path in map(Path, names) if path.is_file()]

    def add(self, path: Path) -> None:
        """Remember `path` as the newest."""
        path = path.resolve()
        others = [old for old in self.paths() if old != path]
        self._settings.setValue(KEY, [str(p) for p in [path, *others][:MOST]])
