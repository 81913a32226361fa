"""Three orthogonal slices at once, by a plugin made for that, if it is installed."""

from __future__ import annotations

from typing import Any

from npe2 import PluginManager

PLUGIN = "napari-orthogonal-views"
COMMAND = f"{PLUGIN}.toggle"


def installed() -> bool:
    """Whether the plugin is there and enabled."""
    manager = PluginManager.instance()
    if PLUGIN not in manager or manager.is_disabled(PLUGIN):
        return False
    known = manager.get_manifest(PLUGIN).contributions.commands or []
    return any(command.id == COMMAND for command in known)


def toggle(viewer: Any) -> None:
    """Show the orthogonal views of `viewer`, or hide them again."""
    PluginManager.instance().commands.execute(COMMAND, args=(viewer,))
