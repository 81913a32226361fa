"""The tables of a latent diffusion autoencoder (Lozupone 2025), one after another.

Everything is measured on held-out subjects with deterministic DDIM; interpolation on
people with three visits or more.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_brainldm.engine.checkpoint import Checkpoint, load_checkpoint
from napari_brainldm.engine.renderer import Renderer
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resources import bundled_segmenter
from napari_brainldm.engine.segment import Segmenter
from trainer.evaluate import moved as moving
from trainer.evaluate import parts, plots, probes, reconstruction, visits
from trainer.evaluate.followed import followed
from trainer.evaluate.ldae_bench import RACED, STEPS, Bench, Floats, People
from trainer.evaluate.table import Row, Table, tables_of, write_tables
from trainer.evaluate.throughput import throughput
from trainer.prepared import dataset_of, pictures_of, prepared, source_of
from trainer.stages.directions import encode, values_of
from trainer.stages.features import feature_network

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card
    from napari_brainldm.engine.volume import Array
    from trainer.config import RunConfig, Target

Found = Table | str
"""What a part yields: a table, or a sentence on what it cannot have."""

MOVED = "AD"
"""The direction along which volumes are measured."""

FIGURE_AMOUNTS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
"""Of the paper's Figures 6 and 7."""


def tables(
    config: RunConfig,
    path: Path,
    n: int,
    longitudinal: Path | None,
    others: Mapping[str, Path],
) -> Generator[str, None, list[Table]]:
    """Print every table, write them beside the run, return them.

    A run that is stopped goes on with the person in whom it was. What the checkpoint or
    the data cannot have is left out with a sentence.

    Raises
    ------
    EngineError
        If the checkpoint has no directions, or there is too little to measure.
    """
    renderer = Renderer(load_checkpoint(path))
    _check(renderer.card)
    compared = {name: load_checkpoint(other) for name, other in others.items()}
    people = followed(config, renderer.card, longitudinal)
    yield from people.notes
    train, held_out = yield from _people(config, renderer.checkpoint)
    out = Path(config.out) / "tables-ldae"
    out.mkdir(parents=True, exist_ok=True)
    bench = Bench(config, renderer, compared, train, held_out, out, n, people)
    wanted: tuple[Part, ...] = (_probes, _reconstruction, _moved, _visits, _throughput)
    if renderer.card.denoiser is None:
        wanted = (_probes,)
        yield f"Probes alone: {renderer.card.name} has no denoiser, so no pictures."
    found: list[Table] = []
    for part in wanted:
        for one in _kept(bench, part):
            if isinstance(one, Table):
                found.append(one)
                _write(bench, found)
            yield one if isinstance(one, str) else one.markdown()
    yield f"Wrote {out}"
    return found


def _check(card: Card) -> None:
    if card.encoder is None or not card.directions:
        raise EngineError(
            f"{card.name} has no semantic encoder with directions. Give the checkpoint "
            "of the stage directions with --checkpoint."
        )


Part = Callable[[Bench], Iterator[Found]]


def _kept(bench: Bench, part: Part) -> Iterator[Found]:
    """What `part` finds; read where a run that was stopped has made it already."""
    path = bench.parts / f"{part.__name__.strip('_')}.json"
    held = parts.read(path, bench.made_of)
    if held is not None:
        for plain in held:
            yield plain if isinstance(plain, str) else tables_of([plain])[0]
        return
    found = []
    for one in part(bench):
        found.append(one)
        yield one
    plain = [one if isinstance(one, str) else asdict(one) for one in found]
    parts.write(path, bench.made_of, plain)


def _write(bench: Bench, found: Sequence[Table]) -> None:
    """After every table: a run that is stopped leaves what it has."""
    facts = {"checkpoint": bench.renderer.checkpoint.sha256}
    write_tables(found, bench.out, "tables", facts)


def card_figures(found: Sequence[Table]) -> dict[str, float]:
    """Figures worth keeping in the card."""
    return {
        f"{table.name} {key}": value
        for table in found
        if table.name.startswith("probe-") or table.name == "monotone"
        for key, value in table.rows[0].items()
        if isinstance(value, float)
    }


def _people(
    config: RunConfig, checkpoint: Checkpoint
) -> Generator[str, None, tuple[People, People]]:
    dataset = dataset_of(config)
    if len(dataset.held_out) < 2:
        raise EngineError(
            f"{config.data.dataset} has {len(dataset.held_out)} held-out scans; at "
            "least 2 are measured. Add subjects, or raise data.held_out in the config."
        )
    yield from prepared(config, dataset, 2)
    sides = []
    for entries in (dataset.train, dataset.held_out):
        pictures = pictures_of(config, entries)
        codes = encode(checkpoint, pictures)
        rows = tuple(dict(e.row) for e in entries)
        sides.append(People(rows, pictures, codes, source_of(config, entries)))
        yield f"Encoded {len(entries)} scans"
    return sides[0], sides[1]


def _probes(bench: Bench) -> Iterator[Found]:
    """Table 7, and the plane of Figure 5."""
    codes = {"LDAE": bench.held_out.codes}
    for name, checkpoint in bench.others.items():
        if checkpoint.card.encoder is not None:
            codes[name] = encode(checkpoint, bench.held_out.pictures)
    for target in bench.config.directions.targets:
        yield _probe(bench, target, codes)
    if not bench.config.directions.targets:
        yield (
            "No probes: the config says of no column what a direction means. Add "
            "[[directions.targets]]."
        )
    told = _groups(bench)
    if told is None:
        yield (
            f"No plane: {bench.renderer.card.name} has none, or no target of the "
            "config has a column of categories."
        )
        return
    plane = bench.out / "lda.png"
    plots.lda_plane(bench.renderer.checkpoint, bench.held_out.codes, told, plane)


def _groups(bench: Bench) -> list[str] | None:
    """The group of each held-out scan, as the plane has them."""
    chosen = [t for t in bench.config.directions.targets if t.positive]
    if bench.renderer.card.plane is None or not chosen:
        return None
    return [row.get(chosen[0].column, "") for row in bench.held_out.rows]


def _probe(bench: Bench, target: Target, codes: Mapping[str, Floats]) -> Found:
    """How well each encoder's probe reads `target`, on scans whose table tells it."""
    card, rows = bench.renderer.card, bench.held_out.rows
    if not probes.can_read(bench.renderer.checkpoint, target.name):
        return (
            f"No probe of {target.name}: {card.name} has no direction of that name. "
            "Train the stage directions with this config."
        )
    kept, truth = values_of(target, rows)
    if not probes.measurable(target, truth):
        return (
            f"No probe of {target.name}: the column {target.column!r} tells too few "
            f"of {len(rows)} held-out scans apart. Two are needed, or one of each "
            "category."
        )
    checkpoints = {"LDAE": bench.renderer.checkpoint, **bench.others}
    able = [k for k, c in checkpoints.items() if probes.can_read(c, target.name)]
    said = {k: probes.read(checkpoints[k], target.name, codes[k])[kept] for k in able}
    known = [row for row, is_kept in zip(rows, kept, strict=True) if is_kept]
    notes = [f"{k} has no such probe." for k in checkpoints if k not in said]
    table = probes.table(target, said, truth, bench.train.rows, known)
    words = (table.note, *notes, bench.caveat)
    return replace(table, note=" ".join(word for word in words if word))


def _reconstruction(bench: Bench) -> Iterator[Found]:
    """Table 6, and what the code alone keeps."""
    pictures = bench.unseen(max(2, bench.n // 5))
    steps = reconstruction.STEPS
    by = {"": reconstruction.with_plain(bench.renderer)} | {
        f"{name}: ": reconstruction.with_plain(Renderer(checkpoint))
        for name, checkpoint in bench.others.items()
        if checkpoint.card.denoiser is not None
    }
    distance = feature_network("")

    def make(number: int) -> list[reconstruction.Figures]:
        picture = pictures[number]
        found = []
        for before, both in by.items():
            made = reconstruction.rebuilt(both, number, picture, steps, before)
            found += reconstruction.figures(made, picture, distance)
        return found

    found = bench.each("reconstruction", len(pictures), make)
    rows = reconstruction.table_rows(row for scan in found for row in scan)
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


def _moved(bench: Bench) -> Iterator[Found]:
    """The manipulation curve, and the pictures of Figures 6 and 7."""
    renderer = bench.renderer
    if not probes.can_read(renderer.checkpoint, MOVED):
        yield (
            f"No volumes along a direction: {renderer.card.name} has none called "
            f"{MOVED}, along which ventricles grow. Name a target so in the config."
        )
        return
    title = renderer.card.direction(MOVED).title
    segmenter = Segmenter(load_checkpoint(bundled_segmenter()))
    pictures = bench.unseen(bench.n)

    def make(number: int) -> dict[str, Any]:
        picture = pictures[number]
        return asdict(moving.moved(renderer, segmenter, picture, MOVED, STEPS))

    found = [moving.Moved(**one) for one in bench.each("moved", len(pictures), make)]
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
    """One scan of each category moved towards the other one."""
    rows: dict[str, list[Array]] = {}
    for target in bench.config.directions.targets:
        if target.name != MOVED or not target.positive:
            continue
        told = [row.get(target.column, "") for row in bench.held_out.rows]
        ends = (target.positive, target.negative, -1.0)
        for name, other, sign in (ends, (target.negative, target.positive, 1.0)):
            if name in told:
                amounts = [sign * a for a in FIGURE_AMOUNTS]
                picture = bench.held_out.picture(told.index(name))
                made = moving.along(bench.renderer, picture, MOVED, STEPS, amounts)
                rows[f"{name}, towards {other}"] = made
    if rows:
        titles = [f"{a:g} SD" for a in FIGURE_AMOUNTS]
        plots.strip(rows, titles, bench.out / "moved-pictures.png")


def _visits(bench: Bench) -> Iterator[Found]:
    """Figure 8, by prediction gap, time gap and place between the ends."""
    people = bench.followed.visits(bench.renderer.card)
    if not people:  # `followed` has said why
        return

    def make(number: int) -> list[dict[str, Any]]:
        told = visits.predicted(bench.renderer, number, people[number], STEPS)
        return [asdict(one) for one in told]

    persons = bench.each("visits", len(people), make)
    found = [visits.Predicted(**one) for person in persons for one in person]
    plots.ssim_by_gap(found, bench.out / "visits.png")
    note = (
        f"{len(people)} held-out people; gaps to the nearest {visits.GAP:g} months, "
        f"positions to {visits.POSITION:g}. Against the autoencoder's picture of the "
        "real visit, and against that visit; SSIM with a Gaussian window of "
        f"{visits.PAPER_WINDOW} voxels, sigma 1.5, whole grid, data range 1; T = "
        f"{STEPS}. {bench.caveat}"
    )
    for title, key in visits.KEYS.items():
        rows = tuple(visits.by_gap(found, key, title))
        name = f"visits-{title.split(' (')[0].replace(' ', '-')}"
        yield Table(name, f"A missing visit, by {title}", rows, note)
    pairs = [(visits.LDAE, visits.NEAREST), (visits.LDAE, visits.BLEND)]
    if bench.followed.asked:
        pairs.append((visits.FORECAST, visits.FIRST))
    tests: tuple[Row, ...] = tuple(
        {"method": ours, "better than": other, **visits.better(found, ours, other)}
        for ours, other in pairs
    )
    yield Table("visits-tests", "Paired tests over people, SSIM", tests, note)


def _throughput(bench: Bench) -> Iterator[Found]:
    """Table 5: the same work in the latent space and in voxel space."""
    count = len(bench.held_out.rows)
    pictures = [bench.held_out.picture(n) for n in range(count - 2, count)]
    row = throughput(bench.renderer, pictures, RACED)
    note = (
        "Side by side in one process, same grid, precision and T; the voxel-space "
        "networks are untrained, which does not change their time."
    )
    yield Table("throughput", "LDAE against voxel space", (row,), note)
