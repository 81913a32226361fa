"""What was found out about connectivity, as files: a table and its JSON sidecar."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_brainldm.engine.attribution import Attributed
from napari_brainldm.engine.compared_regions import region_means_of
from napari_brainldm.engine.export import derived_record, marked, table_record
from napari_brainldm.engine.files import stem_of, write_whole, writing_into
from napari_brainldm.engine.request import Derived, Request, Seed, Value, drawn_from
from napari_brainldm.engine.saliency import ByBlock, Changed

if TYPE_CHECKING:
    from pathlib import Path

    from napari_brainldm.engine.atlas import Atlas
    from napari_brainldm.engine.components import Components
    from napari_brainldm.engine.fnc import Fnc
    from napari_brainldm.engine.renderer import Renderer
    from napari_brainldm.engine.volume import Volume

BLOCKS, REGIONS, CONNECTIONS = "blocks", "regions", "connections"
WORDS = {
    BLOCKS: "a row for each block of networks; in the columns of regions, their means",
    REGIONS: "a row for each region: its mean of the difference",
    CONNECTIONS: "a row for each connection: what it adds to the mean of the region",
}
"""Kinds of table, as their files end, and what they hold."""


def saliency_of(
    renderer: Renderer,
    request: Request,
    fnc: Fnc,
    operation: str,
    parameters: dict[str, Value],
    from_mean: bool,
) -> Derived:
    """How a saliency of `fnc` came to be.

    Its requests are the pictures of `fnc`, seed by seed; with `from_mean` that of the
    mean connectivity follows each.
    """
    first = drawn_from(request.origin) or 0
    own = renderer.fnc.admit(fnc)
    digests = (own, renderer.fnc.mean) if from_mean else (own,)
    asked = tuple(
        renderer.resolve(
            replace(
                request,
                conditions=replace(request.conditions, fnc=digest),
                origin=Seed(first + seed),
            )
        )
        for seed in range(int(parameters["seeds"]))
        for digest in digests
    )
    return Derived(operation, tuple(sorted(parameters.items())), asked)


def map_record(
    renderer: Renderer, derived: Derived, picture: Volume, block: str = ""
) -> dict[str, Any]:
    """What a map is saved with; `block` names that of one block of networks."""
    if block:
        told = (*derived.parameters, ("block", block))
        derived = replace(derived, parameters=told)
    return derived_record(renderer, derived, picture)


def write_saliency(
    renderer: Renderer,
    value: Changed | ByBlock | Attributed,
    known: tuple[Components, Atlas],
    derived: Derived,
    notes: dict[str, Any],
    path: Path,
) -> list[Path]:
    """Write the table of `value` (TSV) and its sidecar (JSON), both marked synthetic.

    Parameters
    ----------
    known
        What the rows of the matrix stand for, and whose regions are told.
    notes
        What else the sidecar is to tell.
    path
        Names the folder, and what both files begin with.
    """
    components, atlas = known
    atlas = value.atlas if isinstance(value, ByBlock) else atlas
    kind, text = _table(value, components, atlas)
    told = table_record(renderer, derived) | {
        "Table": WORDS[kind],
        "TableSha256": hashlib.sha256(text.encode()).hexdigest(),
        "Atlas": atlas.told(),
    }
    stem = f"{marked(stem_of(path))}_{kind}"
    content = json.dumps(told | notes, indent=1, sort_keys=True)
    written = []
    with writing_into(path.parent):
        for ending, one in (("tsv", text), ("json", content)):
            file = path.parent / f"{stem}.{ending}"
            write_whole(file, one.encode())
            written.append(file)
    return written


def _table(
    value: Changed | ByBlock | Attributed, components: Components, atlas: Atlas
) -> tuple[str, str]:
    """Kind and text of the table."""
    if isinstance(value, ByBlock):
        regions = (region.name for region in atlas.regions)
        rows = zip(value.blocks, value.table, strict=True)
        cells = ((*block, *numbers) for block, numbers in rows)
        return BLOCKS, _text(("network_1", "network_2", *regions), cells)
    if isinstance(value, Attributed):
        names = [f"{c.index} {c.name} ({c.domain})" for c in components]
        pairs = zip(*np.triu_indices(len(names), 1), value.vector, strict=True)
        cells = ((names[i], names[j], number) for i, j, number in pairs)
        return CONNECTIONS, _text(("component_1", "component_2", "attribution"), cells)
    means = region_means_of(atlas)(value.change[None])[0]
    counts = [np.count_nonzero(atlas.labels == r.index) for r in atlas.regions]
    each = zip(atlas.regions, counts, means, strict=True)
    cells = ((r.index, r.name, count, mean) for r, count, mean in each)
    return REGIONS, _text(("roi_id", "name", "n_vox", "diff"), cells)


def _text(head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> str:
    lines = ["\t".join(head), *("\t".join(map(_cell, row)) for row in rows)]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    if isinstance(value, str | int):
        return str(value)
    return f"{value:.6g}" if np.isfinite(value) else "n/a"
