"""What a checkpoint is, in words: for the dock's own section."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from napari_brainldm.engine.semantic_space import angle_lines, probe_line
from napari_brainldm.widgets.condition_rows import range_text

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card, Covariate


def about(card: Card) -> str:
    """Rich text: training, conditions and ranges, grid, licence, notice."""
    told = card.provenance
    lines = [
        ("Trained on", told.trained_on),
        ("Conditions", "; ".join(_known(c) for c in card.vocabulary) or "none"),
        ("Directions", "; ".join(d.description for d in card.directions)),
        ("Held-out people (95 % interval)", "; ".join(_judged(card))),
        ("Between directions", "; ".join(angle_lines(card.directions))),
        ("Pictures", _grid(card)),
        ("Intended use", told.intended_use),
        ("Citation", told.citation),
        ("Licence", told.licence),
        ("Mind", " ".join(told.notes)),
        ("Notice", told.notice),
    ]
    return "<br>".join(f"<b>{name}</b> {escape(text)}" for name, text in lines if text)


def _judged(card: Card) -> list[str]:
    """What a probe does, by direction; held directions share theirs with another."""
    found = [(d.title, probe_line(d)) for d in card.directions if d.reads]
    return [f"{title}: {line}" for title, line in found if line]


def _known(covariate: Covariate) -> str:
    if covariate.categories:
        return f"{covariate.title} {', '.join(covariate.categories)}"
    source = f" (from {covariate.range_from})" if covariate.range_from else ""
    return f"{covariate.title} {range_text(covariate)}{source}"


def _grid(card: Card) -> str:
    size = " x ".join(str(n) for n in card.grid.shape)
    voxel = " x ".join(f"{edge:.3g}" for edge in card.grid.voxel_size)
    head = "skull-stripped" if card.intensity.stripped else "whole heads"
    bent = ", bent onto the template" if card.registration == "nonlinear" else ""
    return f"{size} voxels of {voxel} mm, {head}{bent}"
