"""`python -m trainer generate`: the pictures of a plan, as a BIDS dataset."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.engine.copy_test import refuse_copies
from napari_brainldm.engine.export import MARK, export
from napari_brainldm.engine.files import write_whole
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import (
    Conditions,
    EngineError,
    Request,
    Seed,
    to_plain,
)
from napari_brainldm.engine.table import read_rows

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card

OWN_COLUMNS = ("participant_id", "seed")


def generate(
    checkpoint: Path, plan: Path, out: Path, despite_copies: bool = False
) -> Iterator[str]:
    """Render every row of `plan` into the BIDS dataset `out`; yields lines.

    Picture i depends on its row alone (its seed is the column `seed`, else i), so a
    stopped run goes on where it was: pictures that are there are kept.

    Raises
    ------
    EngineError
        If the plan cannot be read, `out` holds a picture of another plan, or the card
        says that the model copies training scans and `despite_copies` is not said.
    """
    renderer = Renderer(load_checkpoint(checkpoint))
    rows = read_plan(plan, renderer.card)
    refuse_copies(renderer.card.copies, len(rows), despite_copies)
    _write_description(renderer, out)
    for index, (name, request) in enumerate(rows, start=1):
        folder, stem = out / name / "anat", f"{name}_{MARK}"
        if not _is_made(renderer, request, folder / f"{stem}_T1w.json"):
            picture = finish(renderer.render(request))
            export(renderer, request, picture, folder, stem)
        yield f"{index} of {len(rows)}: {folder / stem}_T1w.nii.gz"
    _write_participants(renderer.card, rows, out)


def _is_made(renderer: Renderer, request: Request, sidecar: Path) -> bool:
    """Whether `sidecar`, which is written after its picture, is there."""
    if not sidecar.is_file():
        return False
    found = json.loads(sidecar.read_text(encoding="utf-8"))
    # the precision is the machine's own choice: a run may go on elsewhere
    wanted = {**to_plain(renderer.resolve(request)), "precision": ""}
    made = {**found["Request"], "precision": ""}
    if made != wanted or found["Checkpoint"]["sha256"] != renderer.checkpoint.sha256:
        raise EngineError(
            f"{sidecar} belongs to another plan or checkpoint. Choose an empty folder "
            "with --out, or the plan and checkpoint this one was begun with."
        )
    return True


def read_plan(plan: Path, card: Card) -> list[tuple[str, Request]]:
    """Participant name and request of every row of a tab-separated table.

    Raises
    ------
    EngineError
        If the table is missing, empty, or holds a column or value the card does not
        know.
    """
    if not plan.is_file():
        raise EngineError(
            f"There is no plan {plan}. Give a tab-separated table with a column per "
            "condition and a row per picture."
        )
    rows = read_rows(plan)
    if not rows:
        raise EngineError(f"The plan {plan} has no rows. Add a row per picture.")
    found = [_row(card, row, index) for index, row in enumerate(rows)]
    _check_names(plan, [name for name, _ in found])
    return found


def _check_names(plan: Path, names: list[str]) -> None:
    """Refuse names that are no BIDS names, or would write over each other."""
    foreign = [name for name in names if not re.fullmatch(r"sub-[0-9A-Za-z]+", name)]
    if foreign:
        raise EngineError(
            f"{plan} has the participant_id {foreign[0]!r}; sub- and then letters or "
            "digits are needed, such as sub-01. Correct it."
        )
    [(commonest, count)] = Counter(names).most_common(1)
    if count > 1:
        raise EngineError(
            f"{plan} has the participant_id {commonest} {count} times. Give each row "
            "its own."
        )


def _row(card: Card, row: Mapping[str, str], index: int) -> tuple[str, Request]:
    name = row.get("participant_id") or f"sub-{index + 1:06d}"
    seed = row.get("seed") or str(index)
    if not re.fullmatch(r"[0-9]{1,18}", seed):
        raise EngineError(
            f"The plan's seed {seed!r} is not a whole number of at most 18 digits. "
            "Correct it."
        )
    given = {k: v for k, v in row.items() if k not in OWN_COLUMNS}
    values = {k: card.parse(k, v) for k, v in given.items()}
    return name, Request(card.complete(Conditions.of(values)), Seed(int(seed)))


def _write_description(renderer: Renderer, out: Path) -> None:
    plain = {
        "Name": f"Synthetic brain MRI of {renderer.card.name}",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "napari-brainldm"}],
        "Synthetic": True,
        "Checkpoint": renderer.checkpoint.sha256,
        "Notice": renderer.card.provenance.notice,
    }
    text = json.dumps(plain, indent=1)
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "dataset_description.json", text.encode())


def _write_participants(card: Card, rows: list[tuple[str, Request]], out: Path) -> None:
    names = [c.name for c in card.vocabulary]
    lines = ["\t".join(["participant_id", *names])]
    for participant, request in rows:
        values = request.conditions.as_dict()
        lines.append("\t".join([participant, *(str(values[n]) for n in names)]))
    write_whole(out / "participants.tsv", ("\n".join(lines) + "\n").encode())
