"""GM-LDM's table: folds, figures, order, and a run that is stopped. Toy sizes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.stats import ttest_1samp, wilcoxon

from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.engine.fnc import Fnc
from napari_brainldm.engine.fnc_file import read_fnc
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.volume import Volume
from tests.trainer.test_runs import GM, refused, run
from trainer.config import load_config
from trainer.data.cohort import write_cohort
from trainer.evaluate import gm_rows, gm_told, gmldm
from trainer.evaluate.gm_measured import (
    BEYOND,
    EXPECTED,
    GRAY,
    WHOLE,
    Unseen,
    chance,
    guided,
    shuffled,
)
from trainer.evaluate.gm_rows import ARMS, dealt, variant
from trainer.evaluate.gm_told import FLOOR, OURS, REBUILT, SHUFFLED
from trainer.evaluate.paired import ends, paired
from trainer.gm_config import GmLdmConfig, GmTableConfig

if TYPE_CHECKING:
    from trainer.data.template import TemplatePack

TABLE = """
[gm_table]
folds = 2
seeds = 1
"""
PEOPLE = 6


# -- folds and rows --------------------------------------------------------------------


def test_everybody_is_held_out_once_with_all_scans() -> None:
    subjects = [f"s{n % 11}" for n in range(25)]
    parts = dealt(subjects, 3, 4)
    assert (np.sum(parts, axis=0) == 1).all()
    held = [{s for s, out in zip(subjects, part, strict=True) if out} for part in parts]
    assert set.union(*held) == set(subjects)
    assert sum(len(names) for names in held) == 11
    assert {len(names) for names in held} == {3, 4}
    assert not np.array_equal(parts[0], dealt(subjects, 3, 5)[0])
    with pytest.raises(EngineError, match="cannot be dealt into 6 parts"):
        dealt(subjects, 6, 0)


def test_rows_differ_in_what_their_names_say() -> None:
    config = GmLdmConfig(centred=True, prior_rank=4, prior_codes=2)
    table = GmTableConfig(patch=5)
    made = {arm.name: variant(config, arm, table) for arm in ARMS}
    assert made[OURS] == made["Comparison-2"] == config
    assert made["Baseline-2"] == made["Comparison-1"]
    changed = {
        f.name
        for f in fields(config)
        if getattr(made["Baseline-2"], f.name) != getattr(config, f.name)
    }
    assert changed == {"condition", "prior_codes"}
    spec = replace(config.spec, patch=5)
    plain = replace(made["Baseline-2"], space="voxel", spec=spec, prior_rank=0)
    assert made["Baseline-1"] == plain
    by_paper = sorted(ARMS, key=lambda arm: arm.paper)
    assert [arm.name for arm in by_paper] == [arm.name for arm in ARMS]


# -- figures ---------------------------------------------------------------------------


class Knowing:
    """Stands where a renderer does: each seed of each connectivity has its map."""

    def __init__(self, made: dict[tuple[float, int, int], np.ndarray]) -> None:
        self.made = made
        self.fnc = SimpleNamespace(admit=lambda fnc: str(float(fnc.vector[0])))

    def render(self, request: Any) -> Iterator[Volume]:
        steps = 1 if request.sampler.steps == 1 else 0
        key = float(request.conditions.fnc), request.origin.value, steps
        yield None  # type: ignore[misc]
        return Volume(self.made[key], np.eye(4))


def test_figures_are_numpys_and_seeds_are_averaged() -> None:
    rng = np.random.default_rng(0)
    real, single, other, expected = rng.random((4, 6, 5, 4)).astype(np.float32)
    mean = (rng.random((6, 5, 4)) * 0.2).astype(np.float32)
    unseen = Unseen(("a",), np.array([3]), real[None], mean)
    made = {(7.0, 6, 0): single, (7.0, 7, 0): other, (7.0, 6, 1): expected}
    vectors = np.full((1, 3), 7.0, np.float32)
    (found,) = guided(Knowing(made), vectors, unseen, 2)  # type: ignore[arg-type]

    def r(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])

    gray = mean > 0.1
    assert found[WHOLE] == pytest.approx((r(single, real) + r(other, real)) / 2)
    both = (r(single[gray], real[gray]) + r(other[gray], real[gray])) / 2
    assert found[GRAY] == pytest.approx(both)
    assert found[EXPECTED] == pytest.approx(r(expected, real))
    away = r((expected - mean)[gray], (real - mean)[gray])
    assert found[BEYOND] == pytest.approx(away, rel=1e-5)


def test_shuffled_connectivity_is_somebody_elses() -> None:
    subjects = ("a", "a", "b", "c", "b")
    vectors = np.arange(5, dtype=np.float32)[:, None] * np.ones(3, np.float32)
    found = [subjects[int(row[0])] for row in shuffled(vectors, subjects)]
    assert found == ["b", "b", "c", "a", "c"]


def test_chance_is_what_the_denoiser_is_trained_on() -> None:
    mean = np.full(300, 0.4, np.float32)
    known = SimpleNamespace(mean="m", of=lambda _: Fnc(mean))
    card = SimpleNamespace(fnc=SimpleNamespace(gain=4.0))
    renderer: Any = SimpleNamespace(fnc=known, card=card)
    given = 4.0 * (chance(renderer, range(30)) - mean)
    assert given.mean() == pytest.approx(0, abs=0.03)
    assert given.std() == pytest.approx(1, abs=0.03)
    np.testing.assert_array_equal(chance(renderer, [7])[0], chance(renderer, [1, 7])[1])


def test_a_paired_test_is_scipys() -> None:
    held = np.random.default_rng(3).normal(0.2, 1, 40)
    found = paired(held)
    assert found["difference"] == pytest.approx(held.mean())
    expected = wilcoxon(held, alternative="greater").pvalue
    assert found["p"] == pytest.approx(expected)
    known = ttest_1samp(held, 0).confidence_interval(0.95)
    assert ends(held) == pytest.approx(tuple(known))


def figures(level: float, seed: int) -> dict[str, dict[str, float]]:
    noise = np.random.default_rng(seed).normal(0, 0.001, 30)
    keys = (WHOLE, GRAY, EXPECTED, "expected r gray", BEYOND)
    return {f"s{n:02d}": dict.fromkeys(keys, level + x) for n, x in enumerate(noise)}


def planted() -> dict[str, dict[str, dict[str, float]]]:
    found = {arm.name: figures(arm.paper, n) for n, arm in enumerate(ARMS)}
    found |= {name: figures(0.8, 7) for name in (SHUFFLED, *REBUILT.values())}
    return found | {FLOOR: figures(0.85, 8)}


def test_the_order_is_told_as_it_came() -> None:
    found = planted()
    assert gm_told.verdict(found).startswith("The paper's order came out: Baseline-1 <")
    assert {row["came out"] for row in gm_told.order(found).rows} == {"yes"}
    found["Comparison-1"] = figures(0.80, 9)
    assert "found: Baseline-1 < Baseline-2 < Comparison-1" in gm_told.verdict(found)
    rows = {row["higher"]: row["came out"] for row in gm_told.order(found).rows}
    assert rows["Comparison-1"] == "no, the other way round"
    found["Baseline-2"] = found["Baseline-1"]
    rows = {row["higher"]: row["came out"] for row in gm_told.order(found).rows}
    assert rows["Baseline-2"] == "not sure"


def test_fnc_is_held_against_the_mean_map_and_another_fnc() -> None:
    rows = gm_told.guidance(planted()).rows
    assert len(rows) == 8
    assert {row["better"] for row in rows} == {"yes"}
    against = [row["difference"] for row in rows if row["FNC-guided against"] == FLOOR]
    np.testing.assert_allclose(against, 0.89 - 0.85, atol=1e-3)


# -- the whole way ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def ready(
    tmp_path_factory: pytest.TempPathFactory,
    one_thread: None,
    template_of: Callable[[float], TemplatePack],
) -> Path:
    """Two cohorts, a pre-trained autoencoder; the folder that holds them."""
    folder = tmp_path_factory.mktemp("gmldm")
    pack = template_of(8.0)
    for name, seed in (("before", 1), ("now", 2)):
        before = "" if seed == 1 else folder / "before" / "gm_autoencoder.safetensors"
        text = GM.format(out=folder, run=name, seed=seed, before=before) + TABLE
        path = folder / f"{name}.toml"
        path.write_text(text)
        config = load_config(path)
        people = PEOPLE if seed == 2 else 4
        cohort = replace(config.cohort, subjects=people)
        list(write_cohort(cohort, Path(config.data.dataset), 1, pack))
    return folder


@pytest.fixture
def begun(ready: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    if not (ready / "before" / "gm_autoencoder.safetensors").is_file():
        words = ("--config", ready / "before.toml", "--device", "cpu", "--workers", 1)
        run(capsys, "train", "gm_autoencoder", *words)
    return ready


def people_of(out: Path) -> Any:
    return json.loads((out / "tables-gmldm" / "tables.json").read_text())["people"]


def test_a_table_that_is_stopped_ends_as_one_that_is_not(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(begun / "now.toml")
    config = replace(config, gmldm=replace(config.gmldm, drop=0.0))
    whole = list(gmldm.tables(replace(config, out=str(begun / "whole"))))
    assert any("Wrote" in line for line in whole)

    parted = replace(config, out=str(begun / "parted"))
    on_the_way = gmldm.tables(parted)
    for line in on_the_way:  # the loop of a denoiser is left in its middle
        if "fold 2, Comparison-1: step 2/4" in line:
            break
    on_the_way.close()
    trained: list[str] = []
    real = gm_rows.train

    def counted(stage: Any, loop: Any, state: Path, *, resume: bool) -> Any:
        trained.append(state.stem)
        return real(stage, loop, state, resume=resume)

    monkeypatch.setattr(gm_rows, "train", counted)
    list(gmldm.tables(parted))
    # the autoencoder of the second fold's row was whole, its denoiser was not
    assert trained == ["Comparison-1", "GM-LDM"]
    assert people_of(begun / "parted") == people_of(begun / "whole")
    trained.clear()
    list(gmldm.tables(parted))
    assert trained == []
    found = people_of(begun / "whole")
    assert set(found) == {a.name for a in ARMS} | {SHUFFLED, FLOOR, *REBUILT.values()}
    assert all(len(people) == PEOPLE for people in found.values())
    written = {path.name for path in (begun / "whole" / "tables-gmldm").iterdir()}
    assert {"tables.md", "tables.json", "tables.png", "maps.png"} <= written

    other = replace(parted, gm_table=replace(parted.gm_table, seeds=2))
    with pytest.raises(EngineError, match="parts of a table of other settings"):
        list(gmldm.tables(other))


def test_what_would_stop_the_table_later_is_told_at_once(begun: Path) -> None:
    config = load_config(begun / "now.toml")
    coder = config.gm_autoencoder
    fresh = replace(coder, checkpoint="")
    other = replace(coder, spec=replace(coder.spec, channels=(4, 4, 8)))
    rough = replace(coder, loop=replace(coder.loop, precision="bf16"))
    for changed, told in (
        (fresh, "the config names none"),
        (other, "other sizes within"),
        (rough, "Set both alike"),
    ):
        with pytest.raises(EngineError, match=told):
            next(gmldm.tables(replace(config, gm_autoencoder=changed)))


def test_no_stage_sees_who_is_held_out(
    begun: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[str, set[bytes]]] = []
    real = gm_rows.GmAutoencoderStage

    def watched(config: Any, card: Any, train: Any, unseen: Any, *rest: Any) -> Any:
        kinds = [{np.asarray(m).tobytes() for m in part} for part in (train, unseen)]
        seen.append((card.provenance.trained_on, kinds[0] & kinds[1]))
        assert (len(train), len(unseen)) == (PEOPLE // 2, PEOPLE // 2)
        return real(config, card, train, unseen, *rest)

    monkeypatch.setattr(gm_rows, "GmAutoencoderStage", watched)
    config = replace(load_config(begun / "now.toml"), out=str(begun / "watched"))
    people = yield_end(gm_rows.read_people(config))
    fold = gm_rows.folds_of(people, config.gm_table, begun / "watched" / "folds")[0]
    trainer = gm_rows.FoldTrainer(config, people, fold)
    for pretrained in (False, True):
        yield_end(trainer.autoencoder(pretrained))
    assert len(seen) == 2
    assert all(not common for _, common in seen)
    assert all(f"{PEOPLE // 2} subjects" in told for told, _ in seen)


def yield_end(steps: Any) -> Any:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def test_a_release_brings_figures_and_simulated_connectivity(
    begun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ("--config", begun / "now.toml")
    train = ("--device", "cpu", "--workers", 1)
    for stage in ("gm_autoencoder", "gmldm"):
        run(capsys, "train", stage, *config, *train)
    out = begun / "bundle" / "demo.safetensors"
    out.parent.mkdir()
    told = refused(capsys, "evaluate", "gmldm", *config, "--release", out)
    assert "by the table gmldm-held-out" in told
    told = refused(capsys, "evaluate", "gmldm-held-out", *config, "--out", out)
    assert "--out was given to the table gmldm-held-out, which does not take" in told
    told = refused(capsys, "evaluate", "gmldm-held-out", *config, "--n", 1)
    assert "a comparison needs 2" in told
    coder = begun / "now" / "gm_autoencoder.safetensors"
    wrong = ("gmldm-held-out", *config, "--checkpoint", coder)
    assert "knows no functional" in refused(capsys, "evaluate", *wrong)

    lines = run(capsys, "evaluate", "gmldm-held-out", *config, "--release", out)
    figures = dict(load_checkpoint(out).card.figures)
    assert {"FNC-guided, r", "mean map, r gray", "autoencoder, r"} <= set(figures)
    assert f"{figures['mean map, r']:.4f}" in "".join(lines)
    table = out.with_name("gm_ldm_fnc.csv")
    found = read_fnc(table)
    assert any("as asked" in note for note in found.notes)  # the sidecar says z
    known = read_fnc(begun / "now_cohort" / "derivatives" / "fnc" / "fnc.csv")
    assert len(found.participants) == round(0.25 * PEOPLE)
    for name in found.participants:
        np.testing.assert_array_equal(found.of(name).vector, known.of(name).vector)
    facts = json.loads(table.with_suffix(".json").read_text())
    assert facts["Simulated"] is True
    assert set(facts["Groups"].values()) <= {"patient", "control"}
