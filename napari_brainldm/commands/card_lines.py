"""What `brainldm info` prints of a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_brainldm.engine.semantic_space import angle_lines, probe_line

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card, Covariate
    from napari_brainldm.engine.checkpoint import Checkpoint
    from napari_brainldm.engine.semantic_space import Direction


def card_lines(checkpoint: Checkpoint) -> list[str]:
    """Name, grid, origin, what can be asked, figures, copies, notes."""
    card, origin = checkpoint.card, checkpoint.card.provenance
    shape = " x ".join(str(n) for n in card.grid.shape)
    size = " x ".join(f"{s:g}" for s in card.grid.voxel_size)
    lines = [
        f"{card.name} ({card.kind})",
        f"  sha256      {checkpoint.sha256}",
        f"  pictures    {shape} voxels of {size} mm, MNI space",
        f"  trained on  {origin.trained_on}",
        f"  licence     {origin.licence}",
        f"  cite        {origin.citation}",
        *(_structure_lines(card) if card.segmenter else _condition_lines(card)),
    ]
    lines += [f"  {name:11s} {value:.4g}" for name, value in card.figures]
    if card.denoiser is not None:
        lines.append(f"  copies      {_copy_line(card)}")
    lines += [f"  {note}" for note in origin.notes]
    return [*lines, f"  {origin.notice}"]


def _copy_line(card: Card) -> str:
    if card.copies is None:
        return "not tested: its pictures may be copies of training scans"
    return card.copies.sentence()


def _condition_lines(card: Card) -> list[str]:
    lines = [f"    {_covariate_line(c)}" for c in card.vocabulary]
    asked = [f"    {_covariate_line(c)}" for c in card.forecast]
    ways = [f"    {d.name:11s} {_way_line(d)}" for d in card.directions]
    ways += [f"    {line} apart" for line in angle_lines(card.directions)]
    head = "  conditions" if lines else "  conditions  none"
    if card.fnc is not None:
        count = len(card.fnc.components)
        head = f"  conditions  functional connectivity of {count} components"
    return [
        head,
        *lines,
        *(["  directions of the semantic code", *ways] if ways else []),
        *(["  the forecast asks (--person)", *asked] if asked else []),
    ]


def _way_line(direction: Direction) -> str:
    line = probe_line(direction)
    judged = f"  held-out people: {line}" if line and direction.reads else ""
    return f"{direction.description}{judged}"


def _structure_lines(card: Card) -> list[str]:
    """Name, FreeSurfer indices by side, and whether it counts as brain."""
    assert card.segmenter is not None
    lines = ["  structures, with their indices (left, right) in FreeSurfer's table"]
    for structure in card.segmenter.structures:
        sides = sorted({structure.left, structure.right})
        indices = ", ".join(str(index) for index in sides)
        kind = "brain" if structure.tissue else "fluid"
        lines.append(f"    {structure.name:23s} {indices:8s} {kind}")
    return lines


def _covariate_line(covariate: Covariate) -> str:
    name, told = covariate.name, covariate.description
    if covariate.categories:
        return f"{name:11s} {' or '.join(covariate.categories)}  {told}".rstrip()
    span = f"{covariate.low:.4g} to {covariate.high:.4g} {covariate.unit}".rstrip()
    source = f" (from {covariate.range_from})" if covariate.range_from else ""
    return f"{name:11s} {span}{source}  {told}".rstrip()
