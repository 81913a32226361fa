"""The tables of a latent diffusion autoencoder (Lozupone 2025), one after another.

Everything is measured on held-out subjects with deterministic DDIM; interpolation on
people with three visits or more.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.checkpoint import Checkpoint, load_checkpoint
from napari_brainldm.engine.files import write_whole
from napari_brainldm.engine.renderer import Renderer
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resources import bundled_segmenter
from napari_brainldm.engine.segment import Segmenter
from trainer.config import RunConfig
from trainer.data.bids import Entry, is_simulated, read_dataset
from trainer.data.pictures import Pictures, on_grid
from trainer.data.vocabulary import conditions
from trainer.evaluate import moved as moving
from trainer.evaluate import plots, probes, reconstruction, visits
from trainer.evaluate.table import Row, Table, tables_of, write_tables
from trainer.evaluate.throughput import throughput
from trainer.prepared import pictures_of, prepared
from trainer.stages.directions import encode
from trainer.stages.features import feature_network
from trainer.stages.forecast import age_of

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card
    from napari_brainldm.engine.volume import Array
    from trainer.config import Target

Floats = NDArray[np.float64]
STEPS = 20
"""T of pictures that are not in a table over T."""

RACED = 10
"""T of the race against voxel space."""

FIGURE_AMOUNTS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
"""Of the paper's Figures 6 and 7."""

SIMULATED = "Simulated people: a simulated disease is easier to see than a real one."


@dataclass(frozen=True, eq=False)
class People:
    """Scans of one side of the split: rows of the tables, pictures, codes (N, E)."""

    rows: tuple[Mapping[str, str], ...]
    pictures: Pictures
    codes: Floats

    def picture(self, number: int) -> Array:
        """One picture (i, j, k) in float32."""
        return np.asarray(self.pictures[number], np.float32)


@dataclass(frozen=True, eq=False)
class Bench:
    """What every table needs.

    Attributes
    ----------
    others
        Checkpoints to compare with, by the name of their rows.
    out
        Folder of the tables and plots.
    n
        Scans to move; a fifth of them are rebuilt.
    longitudinal
        Dataset with visits; None for the held-out subjects.
    """

    config: RunConfig
    renderer: Renderer
    others: Mapping[str, Checkpoint]
    train: People
    held_out: People
    out: Path
    n: int
    longitudinal: Path | None

    @property
    def caveat(self) -> str:
        """The sentence that stands under figures of simulated people."""
        return SIMULATED if is_simulated(Path(self.config.data.dataset)) else ""

    @property
    def made_of(self) -> str:
        """What the figures depend on: a part that was made of the same is kept."""
        facts = {
            "version": metadata.version("napari-brainldm"),
            "checkpoint": self.renderer.checkpoint.sha256,
            "beside": {name: one.sha256 for name, one in self.others.items()},
            "data": repr(self.config.data),
            "scans": [len(self.train.rows), len(self.held_out.rows), self.n],
            "visits": str(self.longitudinal),
            "T": [STEPS, RACED, *reconstruction.STEPS],
        }
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def unseen(self, count: int) -> list[Array]:
        """The first held-out pictures (i, j, k)."""
        return [self.held_out.picture(n) for n in range(count)][
            : len(self.held_out.rows)
        ]


def tables(
    config: RunConfig,
    path: Path,
    n: int,
    longitudinal: Path | None,
    others: Mapping[str, Path],
) -> Generator[str, None, list[Table]]:
    """Print every table, write them beside the run, return them.

    A run that is stopped goes on with the part in which it was.
    """
    renderer = Renderer(load_checkpoint(path))
    _check(renderer.card)
    compared = {name: load_checkpoint(other) for name, other in others.items()}
    train, held_out = yield from _people(config, renderer.checkpoint)
    out = Path(config.out) / "tables-ldae"
    out.mkdir(parents=True, exist_ok=True)
    bench = Bench(config, renderer, compared, train, held_out, out, n, longitudinal)
    found: list[Table] = []
    for part in (_probes, _reconstruction, _moved, _visits, _throughput):
        for table in _kept(bench, part):
            found.append(table)
            _write(bench, found)
            yield table.markdown()
    yield f"Wrote {out}"
    return found


def _check(card: Card) -> None:
    if card.encoder is None or not card.directions:
        raise EngineError(
            f"{card.name} has no semantic encoder with directions. Give the checkpoint "
            "of the stage directions with --checkpoint."
        )


def _kept(bench: Bench, part: Callable[[Bench], Iterator[Table]]) -> Iterator[Table]:
    """The tables of `part`; read where a run that was stopped has made them already."""
    path = bench.out / "parts" / f"{part.__name__.strip('_')}.json"
    if path.is_file():
        held = json.loads(path.read_text())
        if held["made_of"] == bench.made_of:
            yield from tables_of(held["tables"])
            return
    found = []
    for table in part(bench):
        found.append(table)
        yield table
    path.parent.mkdir(exist_ok=True)
    held = {"made_of": bench.made_of, "tables": [asdict(table) for table in found]}
    write_whole(path, json.dumps(held).encode())


def _write(bench: Bench, found: Sequence[Table]) -> None:
    """After every table: a run that is stopped leaves what it has."""
    facts = {"checkpoint": bench.renderer.checkpoint.sha256}
    write_tables(found, bench.out, "tables", facts)


def card_figures(found: Sequence[Table]) -> dict[str, float]:
    """Figures worth keeping in the card."""
    return {
        f"{table.name} {key}": value
        for table in found
        if table.name in ("probe-AD", "probe-age", "monotone")
        for key, value in table.rows[0].items()
        if isinstance(value, float)
    }


def _people(
    config: RunConfig, checkpoint: Checkpoint
) -> Generator[str, None, tuple[People, People]]:
    dataset = read_dataset(config.data)
    yield from prepared(config, dataset, 2)
    sides = []
    for entries in (dataset.train, dataset.held_out):
        pictures = pictures_of(config, entries)
        codes = np.concatenate(list(encode(checkpoint, pictures)))
        sides.append(People(tuple(dict(e.row) for e in entries), pictures, codes))
        yield f"Encoded {len(entries)} scans"
    return sides[0], sides[1]


def _probes(bench: Bench) -> Iterator[Table]:
    """Table 7, and the plane of Figure 5."""
    rows = bench.train.rows, bench.held_out.rows
    for target in bench.config.directions.targets:
        if target.name == "AD":
            classes = target.positive, target.negative
            kept, truth = probes.diagnosed(rows[1], *classes)
            said = _said(bench, "AD") | {
                "true volumes": probes.volumes_odds(*rows, *classes)
            }
            found = {
                k: probes.classified(v[kept], truth[kept]) for k, v in said.items()
            }
            yield _probe_table(bench, target, found, int(kept.sum()))
        if target.name == "age":
            truth = probes.ages(rows[1])
            said = _said(bench, "age") | {"true volumes": probes.volumes_age(*rows)}
            found = {k: probes.regressed(v, truth) for k, v in said.items()}
            yield _probe_table(bench, target, found, len(truth))
    if bench.renderer.card.plane is not None:
        told = [row.get("diagnosis", "") for row in rows[1]]
        plane = bench.out / "lda.png"
        plots.lda_plane(bench.renderer.checkpoint, bench.held_out.codes, told, plane)


def _said(bench: Bench, name: str) -> dict[str, Floats]:
    """What each encoder's probe `name` says of the held-out scans (N,)."""
    codes = {"LDAE": bench.held_out.codes}
    checkpoints = {"LDAE": bench.renderer.checkpoint, **bench.others}
    for other, checkpoint in bench.others.items():
        parts = list(encode(checkpoint, bench.held_out.pictures))
        codes[other] = np.concatenate(parts)
    return {k: probes.read(c, name, codes[k]) for k, c in checkpoints.items()}


def _probe_table(
    bench: Bench, target: Target, found: Mapping[str, Mapping[str, float]], count: int
) -> Table:
    rows: list[Row] = [{"encoder": k, **figures} for k, figures in found.items()]
    paper = {key: probes.PAPER.get(key, "-") for key in rows[0]}
    rows.append(paper | {"encoder": "the paper, on ADNI"})
    note = f"{count} held-out scans. {bench.caveat}"
    title = f"Linear probe: {target.title}"
    return Table(f"probe-{target.name}", title, tuple(rows), note)


def _reconstruction(bench: Bench) -> Iterator[Table]:
    """Table 6, and what the code alone keeps."""
    pictures = bench.unseen(max(2, bench.n // 5))
    steps = reconstruction.STEPS
    made = list(reconstruction.rebuilt(bench.renderer, pictures, steps))
    for name, checkpoint in bench.others.items():
        if checkpoint.card.denoiser is not None:
            other = Renderer(checkpoint)
            made += reconstruction.rebuilt(other, pictures, steps, f"{name}: ")
    rows = reconstruction.table_rows(made, pictures, feature_network(""))
    note = (
        f"{len(pictures)} held-out scans. SSIM and MSE over the whole grid, SSIM with "
        f"a Gaussian window of {reconstruction.PAPER_WINDOW} voxels, sigma 1.5, data "
        "range 1; in the brain with 11. The feature distance (of our segmenter, unit "
        f"length) stands for LPIPS, whose weights are not at hand. {bench.caveat}"
    )
    yield Table("reconstruction", "Reconstruction by T", tuple(rows), note)
    share = reconstruction.own_code_share(bench.renderer, pictures, STEPS)
    row: Row = {"own code is nearer, share of pairs": share, "T": float(STEPS)}
    note = f"{len(pictures)} held-out scans, one noise for all. {bench.caveat}"
    yield Table("own-code", "What the code alone keeps", (row,), note)


def _moved(bench: Bench) -> Iterator[Table]:
    """The manipulation curve, and the pictures of Figures 6 and 7."""
    renderer = bench.renderer
    title = renderer.card.direction("AD").title
    segmenter = Segmenter(load_checkpoint(bundled_segmenter()))
    pictures = bench.unseen(bench.n)
    found = list(moving.moved(renderer, segmenter, pictures, "AD", STEPS))
    plots.volumes_along(found, moving.AMOUNTS, title, bench.out / "moved.png")
    note = (
        f"{len(found)} held-out scans, measured by the bundled segmenter in pictures "
        f"of T = {STEPS}. {bench.caveat}"
    )
    yield Table("moved", f"Towards {title}", tuple(moving.curve(found)), note)
    row: Row = {"n": float(len(found)), **moving.monotone(found)}
    yield Table("monotone", "Share of people who change all the way", (row,), note)
    _draw_moved(bench)


def _draw_moved(bench: Bench) -> None:
    told = [row.get("diagnosis", "") for row in bench.held_out.rows]
    rows = {}
    for name, other, sign in (("AD", "CN", -1.0), ("CN", "AD", 1.0)):
        if name in told:
            amounts = [sign * a for a in FIGURE_AMOUNTS]
            picture = bench.held_out.picture(told.index(name))
            made = moving.along(bench.renderer, picture, "AD", STEPS, amounts)
            rows[f"{name}, towards {other}"] = made
    if rows:
        titles = [f"{a:g} SD" for a in FIGURE_AMOUNTS]
        plots.strip(rows, titles, bench.out / "moved-pictures.png")


def _visits(bench: Bench) -> Iterator[Table]:
    """Figure 8, by prediction gap, time gap and place between the ends."""
    people = _longitudinal(bench)
    if not people:
        return
    triplets = visits.predicted(bench.renderer, people, STEPS)
    found = [one for triplet in triplets for one in triplet]
    plots.ssim_by_gap(found, bench.out / "visits.png")
    note = (
        f"{len(people)} held-out people. Against the autoencoder's picture of the real "
        f"visit, and against that visit; SSIM with a Gaussian window of "
        f"{visits.PAPER_WINDOW} voxels, sigma 1.5, whole grid, data range 1; T = "
        f"{STEPS}. {bench.caveat}"
    )
    for title, key in visits.KEYS.items():
        rows = tuple(visits.by_gap(found, key, title))
        name = f"visits-{title.split(' (')[0].replace(' ', '-')}"
        yield Table(name, f"A missing visit, by {title}", rows, note)
    pairs = [(visits.LDAE, visits.NEAREST), (visits.LDAE, visits.BLEND)]
    if bench.renderer.card.forecast:
        pairs.append((visits.FORECAST, visits.FIRST))
    tests: tuple[Row, ...] = tuple(
        {"method": ours, "better than": other, **visits.better(found, ours, other)}
        for ours, other in pairs
    )
    yield Table("visits-tests", "Paired tests over people, SSIM", tests, note)


def _longitudinal(bench: Bench) -> list[list[visits.Visit]]:
    """Held-out people with three visits or more, on the model's grid."""
    data, folder = bench.config.data, bench.longitudinal
    asked = bench.config.forecast.covariates if bench.renderer.card.forecast else ()
    data = replace(data, covariates=asked)
    if folder is not None:
        data = replace(data, dataset=str(folder), held_out=0.0)
    dataset = read_dataset(data)
    entries = dataset.held_out if folder is None else dataset.train
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.session:
            groups.setdefault(entry.subject, []).append(entry)
    people = [group for group in groups.values() if len(group) > 2]
    return [
        sorted((_visit(bench, entry) for entry in group), key=lambda v: v.age)
        for group in people
    ]


def _visit(bench: Bench, entry: Entry) -> visits.Visit:
    card = bench.renderer.card
    picture = on_grid(entry.path, card.grid, card.intensity)
    return visits.Visit(age_of(entry), picture, conditions(entry))


def _throughput(bench: Bench) -> Iterator[Table]:
    """Table 5: the same work in the latent space and in voxel space."""
    # scans that no other table met: known ones are not encoded again
    pictures = bench.unseen(len(bench.held_out.rows))[-3:]
    row = throughput(bench.renderer, pictures, RACED)
    note = (
        "Side by side in one process, same grid, precision and T; the voxel-space "
        "networks are untrained, which does not change their time."
    )
    yield Table("throughput", "LDAE against voxel space", (row,), note)
