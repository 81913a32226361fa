"""`python -m trainer evaluate pinaya`: the table and figures of Pinaya 2022."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from napari_brainldm.engine.checkpoint import file_sha256, load_checkpoint
from napari_brainldm.engine.device import best_device
from napari_brainldm.engine.files import write_whole
from napari_brainldm.engine.request import Conditions, EngineError, Sampler
from trainer.baseline_runs import GANS, READERS
from trainer.data.bids import is_simulated
from trainer.data.pictures import Single
from trainer.data.vocabulary import conditions
from trainer.evaluate import plots
from trainer.evaluate.compared import (
    BLURRED,
    FLOOR,
    NOISY,
    Compared,
    check_enough,
    tables,
)
from trainer.evaluate.conditioned import Conditioned, conditioning, extrapolation
from trainer.evaluate.makers import Kept, Recipe, make, peak_memory
from trainer.evaluate.metrics.features import Features, feature_sets
from trainer.evaluate.table import Row, Table, write_tables
from trainer.prepared import dataset_of, pictures_of, prepared, stage_path

if TYPE_CHECKING:
    from napari_brainldm.engine.volume import Array
    from trainer.config import RunConfig

DDIM = Sampler("ddim", 50)
"""What the paper uses after its first table."""

TITLES = {"lsgan": "LSGAN", "vaegan": "VAE-GAN"}
LDM, FAST, VIEWER = "ldm", "ldm-ddim", "ldm-viewer"

PAPER: tuple[Row, ...] = (
    {"": "LSGAN", "FID": 0.0231, "MS-SSIM": 0.9997, "4-G-R-SSIM": 0.9969, "s": "-"},
    {"": "VAE-GAN", "FID": 0.1576, "MS-SSIM": 0.9671, "4-G-R-SSIM": 0.8719, "s": "-"},
    {"": "LDM", "FID": 0.0076, "MS-SSIM": 0.6555, "4-G-R-SSIM": 0.3883, "s": 142.3},
    {
        "": "LDM + DDIM",
        "FID": 0.0080,
        "MS-SSIM": 0.6704,
        "4-G-R-SSIM": 0.3957,
        "s": 7.6,
    },
    {"": "real", "FID": 0.0005, "MS-SSIM": 0.6536, "4-G-R-SSIM": 0.3909, "s": "-"},
)
"""Table 1 of the paper, and its times on a TITAN RTX (section 3.1)."""

DIFFERENT = (
    "The data differ: the paper has 31,740 people of UK Biobank at 160 x 224 x 160 "
    "voxels, Med3D features, 1000 pictures. No figure of the one table can be held "
    "against one of the other; their order can. r = 0.972 of ventricles and 0.692 of "
    "brain age stand in the paper's Figure 3."
)

SCALING = "scans as the models are trained on them, pictures as they are made"
TITLE = "Pinaya 2022, Table 1, on this run's data"
SIMULATED = "Real here are simulated scans: the run's data are a simulated cohort."


@dataclass(frozen=True)
class Ask:
    """What is measured.

    Attributes
    ----------
    path
        The brain LDM's checkpoint.
    n
        Pictures of every model.
    out
        Folder of tables and plots.
    features
        Further networks: {"med3d": file of weights}.
    """

    path: Path
    n: int
    out: Path
    features: Mapping[str, Path] = field(default_factory=dict)


def recipes_of(
    config: RunConfig, path: Path, wanted: Sequence[Conditions]
) -> list[Recipe]:
    """The rows that can be made: GANs where they were trained, and the LDM thrice."""
    found = []
    for stage in GANS:
        weights = stage_path(config, stage)
        if weights.is_file():
            found.append(Recipe(_key(stage, weights), TITLES[stage], weights))
    steps = load_checkpoint(path).card.schedule.steps
    viewer = Sampler()
    for key, title, sampler in (
        (LDM, f"LDM, {steps} steps", Sampler("ddpm", steps)),
        (FAST, f"LDM + DDIM, {DDIM.steps} steps", DDIM),
        (VIEWER, f"LDM + {viewer.name}, {viewer.steps} steps (viewer)", viewer),
    ):
        asked = tuple(wanted)
        named = _key(key, path, repr((sampler, asked)))
        found.append(Recipe(named, title, path, sampler, asked))
    return found


def _key(name: str, path: Path, asked: str = "") -> str:
    """Other weights, or others asked for: other pictures."""
    sha = hashlib.sha256(f"{file_sha256(path)} {asked}".encode())
    return f"{name}_{sha.hexdigest()[:12]}"


def pinaya(
    config: RunConfig, ask: Ask, peak: Callable[[Recipe], float] = peak_memory
) -> Iterator[str]:
    """Make and measure everything; yields lines. A stopped run goes on where it was.

    `peak` measures the memory in GiB that a recipe needs.

    Raises
    ------
    EngineError
        If there are too few held-out scans or pictures to compare.
    """
    dataset = dataset_of(config)
    _check(len(dataset.held_out), ask)
    yield from prepared(config, dataset, 2)
    real = Single(pictures_of(config, dataset.held_out))
    wanted = [conditions(entry) for entry in dataset.held_out]
    recipes = recipes_of(config, ask.path, wanted)
    for stage in GANS:
        if not stage_path(config, stage).is_file():
            yield f"No {stage} was trained, so its row is left out."
    folder = Path(config.out) / "pinaya"
    yield from make(recipes, ask.n, folder, Recipe.ready)
    kept = {recipe.title: Kept(folder / recipe.key, ask.n) for recipe in recipes}
    grid = load_checkpoint(ask.path).card.grid
    people = [entry.subject for entry in dataset.held_out]
    compared = Compared(grid, real, kept, SCALING, people)
    check_enough(compared)
    networks = feature_sets(grid, ask.features, best_device())
    parts = yield from _measured(compared, networks)
    costs = {
        r.title: (kept[r.title].seconds(), _peak(folder, r, peak)) for r in recipes
    }
    caveat = SIMULATED if is_simulated(Path(config.data.dataset)) else ""
    found = [headline(parts, costs, caveat), paper(), *parts]
    _write(ask, found)
    yield found[0].markdown()
    condition = yield from _conditions(
        config, ask, kept[recipes[-2].title], wanted, real
    )
    _write(ask, [*found, *condition])
    plots.nearness(parts, ask.out / "pinaya-nearness.png")
    yield f"Wrote {ask.out}/pinaya.md, .json and plots"


def _check(held_out: int, ask: Ask) -> None:
    if min(held_out // 2, ask.n) < 6:
        raise EngineError(
            f"{ask.n} pictures and {held_out} held-out scans are asked for; at least 6 "
            "and 12 are needed, for scans are held against other scans too. Raise --n, "
            "or held_out in the config."
        )


def _measured(
    compared: Compared, networks: Sequence[Features]
) -> Generator[str, None, list[Table]]:
    found = []
    for table in tables(compared, networks):
        found.append(table)
        yield f"Measured: {table.title}"
    return found


def _peak(folder: Path, recipe: Recipe, peak: Callable[[Recipe], float]) -> float:
    """Measured once: a run that goes on does not load every model again."""
    path = folder / recipe.key / "peak.json"
    if not path.is_file():
        write_whole(path, json.dumps(peak(recipe)).encode())
    return float(json.loads(path.read_text()))


def headline(
    parts: Sequence[Table],
    costs: Mapping[str, tuple[tuple[float, float], float]],
    caveat: str,
) -> Table:
    """One row per model and of real scans, as in the paper's Table 1, and spoilt ones.

    Parameters
    ----------
    parts
        Nearness by every network, and variety.
    costs
        Title -> (mean, SD of the seconds of a picture), peak memory in GiB.
    """
    *near, variety = parts
    rows: list[Row] = []
    for title in (*costs, FLOOR, BLURRED, NOISY):
        row: dict[str, str | float] = {"": title}
        for table in near:
            name = table.name.removeprefix("near-")
            row[f"Fréchet, {name}"] = _cell(table, title, "Fréchet")
        for key in ("MS-SSIM", "4-G-R-SSIM"):
            row[key] = _cell(variety, "real" if title == FLOOR else title, key)
        (mean, spread), memory = costs.get(title, ((0.0, 0.0), 0.0))
        row["s per picture"] = f"{mean:.3g} ± {spread:.2g}" if mean else "-"
        row["peak GiB"] = memory or "-"
        rows.append(row)
    note = (
        f"{near[0].note} Variety: {variety.note} Times are means over the same "
        f"numbers of pictures, made in turn on one machine ({best_device()}). {caveat}"
    ).strip()
    return Table(
        "pinaya", "Pinaya 2022, Table 1, on this run's data", tuple(rows), note
    )


def _cell(table: Table, title: str, key: str) -> str | float:
    """The figure of a row; "-" where the table has no such row."""
    found = [row[key] for row in table.rows if row["pictures"] == title]
    return found[0] if found else "-"


def paper() -> Table:
    """What the paper found, with the sentence that its data differ."""
    return Table("paper", "The paper's own Table 1", PAPER, DIFFERENT)


def _conditions(
    config: RunConfig,
    ask: Ask,
    made: Sequence[Array],
    wanted: Sequence[Conditions],
    real: Sequence[Array],
) -> Generator[str, None, list[Table]]:
    """Conditions and extrapolation, with their figures; of DDIM, as in the paper."""
    readers = {
        covariate: load_checkpoint(stage_path(config, stage))
        for stage, covariate in READERS.items()
        if stage_path(config, stage).is_file()
    }
    for stage, covariate in READERS.items():
        if covariate not in readers:
            yield f"No {stage} was trained, so {covariate} is not read."
    asked = [wanted[n % len(wanted)] for n in range(len(made))]
    pair = Conditioned(asked, made), Conditioned(wanted, real)
    yield "Measuring conditions"
    first, series = conditioning(ask.path, *pair, readers)
    yield "Making pictures beyond the training range"
    second, strips, titles = extrapolation(ask.path, DDIM)
    found = [table for table in (first, second) if table.rows]
    if first.rows:
        plots.conditioning(series, ask.out / "pinaya-conditioning.png")
    if second.rows:
        plots.strip(strips, titles, ask.out / "pinaya-extrapolation.png")
    for table in found:
        yield table.markdown()
    if len(found) < 2:
        yield (
            "The model has no condition ventricles or brain, so what can be measured "
            "of its conditions is less."
        )
    return found


def _write(ask: Ask, found: Sequence[Table]) -> None:
    write_tables(found, ask.out, "pinaya", {"checkpoint": file_sha256(ask.path)})
