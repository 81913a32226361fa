"""LDAE's tables: planted answers, closed forms, counted calls."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import wilcoxon
from sklearn.metrics import roc_auc_score

from benchmarks import ldae as benchmark
from napari_brainldm.engine.card import Card, Covariate
from napari_brainldm.engine.checkpoint import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from napari_brainldm.engine.imports.find import find
from napari_brainldm.engine.imports.write import write_found
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import (
    Conditions,
    EngineError,
    Later,
    Request,
    Sampler,
    Scan,
    Seed,
)
from napari_brainldm.engine.volume import Volume
from tests import foreign
from trainer.config import (
    DataConfig,
    DirectionsConfig,
    RunConfig,
    Target,
    load_config,
)
from trainer.data.bids import Entry, read_dataset
from trainer.data.pictures import model_grid
from trainer.evaluate import ldae, parts, probes, reconstruction, throughput, visits
from trainer.evaluate.followed import Followed, followed
from trainer.evaluate.ldae_bench import Bench, People
from trainer.evaluate.moved import Moved, curve, monotone
from trainer.evaluate.reconstruction import (
    own_code_share,
    rebuilt,
    with_plain,
    without_code,
)
from trainer.evaluate.table import Table, means
from trainer.evaluate.visits import (
    BLEND,
    FIRST,
    LDAE,
    NEAREST,
    SMOOTH,
    Predicted,
    Visit,
)
from trainer.stages.directions import values_of, with_directions
from trainer.stages.forecast import with_forecast


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("ldae")
    settings = foreign.LDAE_SETTINGS | {"latent_shape": [2, 16, 16, 8]}
    path = folder / "small.safetensors"
    for _ in write_found(find(foreign.save_ldae(folder / "files", settings)), path):
        pass
    return load_checkpoint(path)


@pytest.fixture
def renderer(checkpoint: Checkpoint) -> Renderer:
    return Renderer(checkpoint, "cpu", "float32")


def picture(renderer: Renderer, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(renderer.card.grid.shape, np.float32)


def test_a_table_reads_as_markdown() -> None:
    rows = ({"model": "a", "SSIM": 0.98765}, {"model": "b", "SSIM": 1.0})
    text = Table("t", "Two models", rows, "Simulated.").markdown()
    assert text.splitlines() == [
        "### Two models",
        "",
        "| model | SSIM |",
        "| --- | --- |",
        "| a | 0.9877 |",
        "| b | 1 |",
        "",
        "Simulated.",
    ]
    assert means([{"x": 1.0}, {"x": 3.0}]) == {"x": 2.0}


# -- probes ----------------------------------------------------------------------------


def planted(count: int, seed: int) -> list[dict[str, str]]:
    """Rows of people whose hippocampi tell the ill, and whose ventricles tell age."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        ill, age = bool(rng.random() < 0.5), rng.uniform(55, 90)
        volumes = {
            "ventricles_ml": np.exp(2 + 0.02 * age + 0.05 * rng.normal()),
            "brain_ml": 1100 + 50 * rng.normal(),
            "hippocampus_ml": 7 * np.exp(-0.3 * ill + 0.1 * rng.normal()),
            "icv_ml": 1400 + 80 * rng.normal(),
        }
        told = {"diagnosis": "AD" if ill else "CN", "age": str(age)}
        rows.append(told | {k: str(v) for k, v in volumes.items()})
    return rows


AD = Target("AD", "Alzheimer's disease", "diagnosis", "", "AD", "CN")
AGE = Target("age", "Age", "age")


def test_what_true_volumes_tell_is_found_on_other_people() -> None:
    train, unseen = planted(300, 0), planted(200, 1)
    kept, truth = values_of(AD, unseen)
    assert kept.all()
    odds = probes.from_volumes(AD, train, unseen)
    alone = -np.log([float(row["hippocampus_ml"]) for row in unseen])
    best = roc_auc_score(truth, alone)
    assert probes.classified(odds, truth)["ROC-AUC"] == pytest.approx(best, abs=0.02)
    years = probes.from_volumes(AGE, train, unseen)
    error = probes.regressed(years, values_of(AGE, unseen)[1])
    # 0.05 of scatter at 0.02 a year are 2.5 years, whose mean size is 2.0
    assert error["RMSE"] == pytest.approx(2.5, rel=0.15)
    assert error["MAE"] == pytest.approx(2.0, rel=0.15)


def test_the_columns_of_a_classifier_are_those_of_its_counts() -> None:
    truth = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
    odds = np.array([2, 1, 1, -1, 3, -1, -1, -2, -2, -3.0])  # 3 hits, 1 false alarm
    found = probes.classified(odds, truth)
    assert found["accuracy"] == pytest.approx(0.8)
    assert found["precision"] == pytest.approx(3 / 4)
    assert found["recall"] == pytest.approx(3 / 4)
    assert found["F1"] == pytest.approx(3 / 4)
    assert found["MCC"] == pytest.approx((3 * 5 - 1 * 1) / np.sqrt(4 * 4 * 6 * 6))
    pairs = np.sign(odds[truth == 1][:, None] - odds[truth == 0])
    assert found["ROC-AUC"] == pytest.approx(((pairs + 1) / 2).mean())


def test_without_volumes_their_row_is_left_out_and_named() -> None:
    people = planted(40, 0)
    bare = [{k: v for k, v in row.items() if "_ml" not in k} for row in people]
    _, truth = values_of(AD, people)
    for train, unseen in ((people, bare), (bare, people)):
        table = probes.table(AD, {"LDAE": truth - 0.5}, truth, train, unseen)
        assert [row["encoder"] for row in table.rows] == ["LDAE", "the paper, on ADNI"]
        assert "No row of true volumes" in table.note
        assert list(table.rows[0]) == list(table.rows[1])  # the paper has every column
    table = probes.table(AD, {"LDAE": truth - 0.5}, truth, people, people)
    assert table.rows[1]["encoder"] == "true volumes"


def test_others_than_the_two_diagnoses_are_left_out() -> None:
    rows = [{"diagnosis": name} for name in ("AD", "MCI", "CN", "")]
    kept, truth = values_of(AD, rows)
    assert kept.tolist() == [True, False, True, False]
    assert truth.tolist() == [1.0, 0.0]


# -- data of a user --------------------------------------------------------------------


def bench(out: Path, rows: tuple[dict[str, str], ...]) -> Bench:
    """Of held-out scans, each as bright as its number."""
    shades = np.arange(len(rows))[:, None, None, None] * np.ones((1, 2, 2, 2))
    side = People(rows, shades, np.zeros((len(rows), 1)))
    asked: Any = SimpleNamespace(checkpoint=SimpleNamespace(sha256="ab"))
    config = RunConfig("Own", str(out))
    return Bench(config, asked, {}, side, side, out, 100, Followed((), False, ()))


def test_no_more_scans_are_measured_than_there_are(tmp_path: Path) -> None:
    assert len(bench(tmp_path, ({"age": "1"}, {"age": "2"})).unseen(100)) == 2


def test_of_several_visits_one_is_measured(tmp_path: Path) -> None:
    rows = tuple({"participant_id": f"sub-{n // 3}", "age": str(n)} for n in range(9))
    held = bench(tmp_path, rows)
    first = [held.held_out.picture(n) for n in (0, 3, 6)]
    np.testing.assert_array_equal(held.unseen(100), first)
    assert len(held.unseen(2)) == 2


def test_what_was_measured_is_kept_for_the_same_tables_alone(tmp_path: Path) -> None:
    first, same, other = (
        bench(tmp_path, ({"dx": "AD"}, {"dx": name})) for name in ("CN", "CN", "MCI")
    )
    assert first.made_of == same.made_of != other.made_of
    held = replace(first, held_out=replace(first.held_out, source="other scans"))
    assert held.made_of != first.made_of


def nobody(_: Any) -> Any:
    """A part of which nothing is found."""
    yield from ()


def test_a_dataset_with_columns_of_its_own_has_tables(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other names, no volumes, blank cells, one visit each, no direction AD."""
    targets = (
        Target("dementia", "Dementia", "dx", "", "Dementia", "Control"),
        Target("years", "Age", "age_at_scan"),
    )
    rng, size = np.random.default_rng(0), checkpoint.card.encoder.code_size
    lines, codes = ["participant_id\tdx\tage_at_scan"], {}
    for number in range(40):
        name, ill, age = f"sub-{number:02d}", number % 2, 60 + number / 2
        path = tmp_path / "bids" / name / "anat" / f"{name}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        path.touch()
        said = ("Control", "Dementia")[ill], "n/a" if number % 8 == 0 else f"{age}"
        lines.append("\t".join((name, *said)))
        codes[name] = rng.normal(0, 0.1, size)
        codes[name][::2] += ill
        codes[name][1::2] += (age - 70) / 10
    (tmp_path / "bids" / "participants.tsv").write_text("\n".join(lines) + "\n")
    data = DataConfig(str(tmp_path / "bids"), held_out=0.3)
    asked = DirectionsConfig(targets, draws=10)
    config = RunConfig("Own", str(tmp_path / "run"), data, directions=asked)
    dataset = read_dataset(data)
    train, unseen = (
        (np.array([codes[e.subject] for e in side]), [dict(e.row) for e in side])
        for side in (dataset.train, dataset.held_out)
    )
    path = tmp_path / "own.safetensors"
    save_checkpoint(with_directions(asked, checkpoint, train, unseen), path)
    more = (*targets, Target("apoe", "APOE", "apoe"))
    config = replace(config, directions=replace(asked, targets=more))

    def encoded(*_: Any) -> Any:
        yield "Encoded"
        return tuple(
            People(tuple(r), np.zeros((len(r), 1, 1, 1)), c) for c, r in (train, unseen)
        )

    monkeypatch.setattr(ldae, "_people", encoded)
    for part in ("_reconstruction", "_throughput"):
        monkeypatch.setattr(ldae, part, nobody)
    for _ in range(2):  # and again, of what was kept
        run, lines = ldae.tables(config, path, 2, None, {}), []
        while True:
            try:
                lines.append(next(run))
            except StopIteration as end:
                found = {table.name: table for table in end.value}
                break
        assert set(found) == {"probe-dementia", "probe-years"}
        assert [r["encoder"] for r in found["probe-dementia"].rows] == ["LDAE"]
        assert found["probe-dementia"].rows[0]["ROC-AUC"] > 0.9
        blank = sum(row["age_at_scan"] == "n/a" for row in unseen[1])
        assert 0 < blank < len(unseen[1]) == 12
        assert f"{12 - blank} held-out scans" in found["probe-years"].note
        assert found["probe-years"].rows[0]["MAE"] < 4
        for start in (
            "No tables of visits",
            "No probe of apoe",
            "No plane",
            "No volumes along a direction",
        ):
            assert sum(line.startswith(start) for line in lines) == 1, start


def longitudinal(root: Path, sessions: str) -> DataConfig:
    """Two people with three visits; their age once, or as `sessions` tell it."""
    for name in ("sub-01", "sub-02"):
        for visit in ("ses-0", "ses-1", "ses-2"):
            path = root / name / visit / "anat" / f"{name}_{visit}_T1w.nii.gz"
            path.parent.mkdir(parents=True)
            path.touch()
        if sessions:
            (root / name / f"{name}_sessions.tsv").write_text(sessions)
    people = "participant_id\tage\nsub-01\t70\nsub-02\t71\n"
    (root / "participants.tsv").write_text(people)
    return DataConfig(str(root), held_out=0.0)


def test_visits_are_ordered_by_the_dates_of_their_tables(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    days = "ses-0\t2021-05-02\nses-1\t2020-05-01\nses-2\t2020-11-20\n"
    data = longitudinal(tmp_path, "session_id\tacq_time\n" + days)
    found = followed(RunConfig("Own", "run", data), checkpoint.card, tmp_path)
    assert found.notes == ()
    names = [[entry.session for entry in person] for person in found.people]
    assert names == [["ses-1", "ses-2", "ses-0"]] * 2


def test_visits_of_one_age_are_refused_before_anything_is_measured(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    config = RunConfig("Own", "run", longitudinal(tmp_path, ""))
    with pytest.raises(EngineError, match="Add a column age to its sessions"):
        followed(config, checkpoint.card, tmp_path)
    # nobody asked for the visits of the run's own people: the other tables go on
    held = replace(config, data=replace(config.data, dataset=str(tmp_path)))
    found = followed(held, checkpoint.card, None)
    assert found.people == ()
    assert any("No tables of visits" in note for note in found.notes)


# -- reconstruction --------------------------------------------------------------------


def test_without_its_code_a_model_is_its_denoiser(renderer: Renderer) -> None:
    plain = Renderer(without_code(renderer.checkpoint), "cpu", "float32")
    request = Request(origin=Seed(3), sampler=Sampler("ddim", 5))
    first, second = (finish(r.render(request)).data for r in (renderer, plain))
    np.testing.assert_array_equal(first, second)
    with pytest.raises(EngineError):
        plain.card.direction("AD")


def test_every_model_rebuilds_every_scan(renderer: Renderer) -> None:
    scans = [picture(renderer, seed) for seed in (0, 1)]
    both = with_plain(renderer)
    made = [m for n in (0, 1) for m in rebuilt(both, n, scans[n], (4, 6))]
    assert len(made) == 2 * (1 + 2 * 3)
    alone = [m.picture for m in made if m.model == reconstruction.AUTOENCODER]
    for scan, found in zip(scans, alone, strict=True):
        np.testing.assert_array_equal(found, renderer.rebuild(scan))
    # with many steps inversion and its way back meet
    fine = next(rebuilt(both, 0, scans[0], ()))
    steps = Sampler("ddim", 30)
    origin = Scan(renderer.keep(scans[0]))
    back = finish(renderer.render(Request(origin=origin, sampler=steps))).data
    assert np.abs(back - fine.picture).mean() < np.abs(scans[0] - fine.picture).mean()


class Knowing:
    """Stands where a renderer does; decodes each code into a picture of its own."""

    def __init__(self, pictures: list[np.ndarray], made: list[np.ndarray]) -> None:
        self.made = {p.tobytes(): m for p, m in zip(pictures, made, strict=True)}

    def keep(self, data: np.ndarray) -> str:
        self.made[data.tobytes().hex()[:64]] = self.made[data.tobytes()]
        return data.tobytes().hex()[:64]

    def render(self, request: Any) -> Generator[None, None, Volume]:
        yield None
        return Volume(self.made[request.origin.scan.digest], np.eye(4))


def test_codes_that_tell_scans_apart_win_every_pair() -> None:
    rng = np.random.default_rng(0)
    scans = [rng.random((3, 3, 3), np.float32) for _ in range(4)]
    knowing: Any = Knowing(scans, [s * 0.9 for s in scans])
    assert own_code_share(knowing, scans, 5) == 1.0
    one: Any = Knowing(scans, [scans[0]] * 4)
    assert own_code_share(one, scans, 5) == 0.0  # nobody is nearer than another
    turned: Any = Knowing(scans, [scans[1], scans[0], scans[3], scans[2]])
    assert own_code_share(turned, scans, 5) < 1


# -- movement --------------------------------------------------------------------------


def test_who_was_measured_is_not_measured_again(tmp_path: Path) -> None:
    asked: list[int] = []

    def make(number: int) -> list[float]:
        if number == 2 and len(asked) < 3:
            raise KeyboardInterrupt
        asked.append(number)
        return [number / 3, float("nan")]

    with pytest.raises(KeyboardInterrupt):
        list(parts.each(tmp_path / "moved", "of this", 4, make))
    asked.append(-1)  # the run begins again
    found = list(parts.each(tmp_path / "moved", "of this", 4, make))
    assert asked == [0, 1, -1, 2, 3]
    assert [one[0] for one in found] == [0, 1 / 3, 2 / 3, 1]  # to the last bit
    list(parts.each(tmp_path / "moved", "of other data", 4, make))
    assert asked[5:] == [0, 1, 2, 3]


def test_volumes_that_turn_back_once_are_not_monotone() -> None:
    found = [
        Moved((10.0, 11.0, 12.0), (7.0, 6.5, 6.0)),
        Moved((10.0, 13.0, 12.9), (7.0, 6.5, 6.0)),
        Moved((10.0, 11.0, 14.0), (7.0, 7.0, 6.0)),
        Moved((20.0, 22.0, 24.0), (8.0, 7.0, 6.0)),
    ]
    assert monotone(found) == {
        "ventricles grow": 0.75,
        "hippocampus shrinks": 0.75,
        "both": 0.5,
    }
    rows = curve([found[0], found[3]], (0.0, 1.0, 2.0))
    assert [row["ventricles change %"] for row in rows] == pytest.approx([0, 10, 20])
    assert rows[2]["ventricles ml"] == pytest.approx(18.0)


# -- visits ----------------------------------------------------------------------------


def test_every_triplet_is_predicted_and_every_visit_inverted_once(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, real = [], Renderer._invert

    def counted(self: Renderer, scan: Scan, *rest: Any) -> Any:
        calls.append(scan.digest)
        return (yield from real(self, scan, *rest))

    monkeypatch.setattr(Renderer, "_invert", counted)
    ages = (70.0, 70.5, 71.0, 72.0)
    person = [Visit(a, picture(renderer, n)) for n, a in enumerate(ages)]
    told = visits.predicted(renderer, 0, person, 4)
    found = [
        list(group)
        for _, group in groupby(told, lambda one: (one.time_gap, one.position))
    ]
    assert len(found) == 4
    assert len(calls) == len(set(calls)) == 4
    gaps = [(t[0].prediction_gap, t[0].time_gap, t[0].position) for t in found]
    assert gaps[0] == pytest.approx((6, 12, 0.5))
    assert gaps[2] == pytest.approx((12, 24, 0.5))  # 70, 71, 72
    methods = [{one.method for one in triplet} for triplet in found]
    assert methods[0] == {LDAE, NEAREST, BLEND, FIRST, SMOOTH}  # between its neighbours
    assert methods[2] == {LDAE, NEAREST, BLEND, FIRST}
    first, second, third = (renderer.rebuild(v.picture) for v in person[:3])
    blend = next(one for one in found[0] if one.method == BLEND)
    error = np.mean((0.5 * first + 0.5 * third - second.astype(float)) ** 2)
    assert blend.figures["MSE"] == pytest.approx(error, rel=1e-5)


def test_a_forecast_knows_the_first_visit_alone(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Four triplets, but three pairs of a first and a middle visit."""
    asked = (Covariate("age", "Age", "years", low=60.0, high=90.0, reference=75.0),)
    entries = [
        Entry(f"sub-{n}", f"ses-{visit}", tmp_path, (("age", age),), row)
        for n in range(10)
        for visit, age in enumerate((60.0 + n, 62.0 + 2 * n))
        for row in [(("age", str(age)),)]
    ]
    assert checkpoint.card.encoder is not None
    size = checkpoint.card.encoder.code_size
    codes = np.random.default_rng(0).normal(size=(len(entries), size))
    renderer = Renderer(
        with_forecast(checkpoint, asked, entries, codes), "cpu", "float32"
    )
    origins, real = [], Renderer.render

    def counted(self: Renderer, request: Request) -> Any:
        origins.append(request.origin)
        return real(self, request)

    monkeypatch.setattr(Renderer, "render", counted)
    person = [
        Visit(age, picture(renderer, n), Conditions.of({"age": age}))
        for n, age in enumerate((70.0, 70.5, 71.0, 72.0))
    ]
    found = visits.predicted(renderer, 0, person, 4)
    later = [one for one in origins if isinstance(one, Later)]
    assert [round(one.years, 6) for one in later] == [0.5, 1.0, 0.5]
    told = [one for one in found if one.method == visits.FORECAST]
    assert len(told) == 4
    # from 70 to 70.5, whether the last visit was at 71 or at 72
    assert told[0].figures == told[1].figures
    assert told[0].figures != told[2].figures


def made(person: int, method: str, gap: float, value: float) -> Predicted:
    return Predicted(person, method, gap, 2 * gap, 0.5, {"SSIM": value})


def test_people_are_compared_not_their_triplets() -> None:
    rng = np.random.default_rng(1)
    found, pairs = [], []
    for person in range(12):
        ours, theirs = rng.normal(0.95, 0.01), rng.normal(0.94, 0.01)
        pairs.append((ours, theirs))
        for shift in (-0.01, 0.01):  # cancels in the person's mean
            found += [
                made(person, LDAE, 6, ours + shift),
                made(person, NEAREST, 6, theirs + shift),
            ]
    told = visits.better(found, LDAE, NEAREST)
    difference = np.subtract(*np.array(pairs).T)
    assert told["difference"] == pytest.approx(difference.mean())
    expected = wilcoxon(difference, alternative="greater").pvalue
    assert told["p"] == pytest.approx(expected)


def test_gaps_are_grouped_with_their_numbers() -> None:
    found = [
        made(0, LDAE, gap, value) for gap, value in ((6, 1.0), (6, 0.8), (12, 0.5))
    ]
    rows = visits.by_gap(found, lambda one: one.prediction_gap, "gap")
    assert [(row["gap"], row["n"]) for row in rows] == [(6, 2), (12, 1)]
    assert rows[0]["SSIM"] == pytest.approx(0.9)


def test_gaps_of_real_dates_share_the_rows_of_half_years() -> None:
    gap, _, place = visits.KEYS.values()
    days = (171.0, 192.0, 365.0, 741.0, 60.0)
    found = [made(0, LDAE, day / 365.25 * 12, 1.0) for day in days]
    rows = visits.by_gap(found, gap, "gap")
    told = {row["gap"]: row["n"] for row in rows}
    assert told == {0: 1, 6: 2, 12: 1, 24: 1}
    exact = [made(0, LDAE, months, 1.0) for months in (6, 12.000001, 23.999999)]
    assert [row["gap"] for row in visits.by_gap(exact, gap, "gap")] == [6, 12, 24]
    near = [replace(found[0], position=p) for p in (0.48, 0.5, 0.52, 0.33)]
    assert [row["at"] for row in visits.by_gap(near, place, "at")] == [0.3, 0.5]


# -- throughput ------------------------------------------------------------------------


def test_a_race_encodes_scans_that_were_encoded_before(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans = [picture(renderer, seed) for seed in (0, 1)]
    for scan in scans:  # earlier tables leave their codes with the renderer
        throughput.seconds(renderer, scan, 2)
    calls, real = [], Renderer._invert

    def counted(self: Renderer, scan: Scan, *rest: Any) -> Any:
        calls.append(scan.digest)
        return (yield from real(self, scan, *rest))

    monkeypatch.setattr(Renderer, "_invert", counted)
    monkeypatch.setattr(throughput, "voxel_baseline", lambda checkpoint: checkpoint)
    throughput.throughput(renderer, scans, 2)
    assert len(calls) == 4  # both scans, by LDAE and by the other


def test_a_race_counts_the_parameters_of_either(
    renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(throughput, "seconds", lambda *_: 1.0)
    row = throughput.throughput(renderer, [np.zeros(1), np.zeros(1)], 2)
    ours = throughput.size_of(renderer.checkpoint)
    theirs = throughput.size_of(throughput.voxel_baseline(renderer.checkpoint))
    assert ours != theirs
    assert (row["LDAE parameters"], row["voxel DAE parameters"]) == (ours, theirs)
    assert row["parameters ratio"] == theirs / ours


def test_the_cohorts_are_those_that_were_written_down() -> None:
    assert benchmark.frozen()["cohorts_as_frozen"] == 1.0
    assert set(benchmark.FROZEN) >= {str(benchmark.SEEN), str(benchmark.VISITS)}


def test_the_voxel_baseline_of_the_demo_is_as_large_as_it() -> None:
    """Within the 10 % that a fair race allows, on the same grid."""
    config = load_config(Path("ldae_demo.toml"))
    spec = replace(config.ldm.spec, code_size=config.ldae.encoder.code_size)
    card = Card(
        "ldae",
        "LDAE",
        model_grid(config.data),
        load_config(Path("demo.toml")).autoencoder.spec,
        spec,
        config.ldae.encoder,
    )
    parts = {
        "autoencoder": card.autoencoder,
        "denoiser": card.denoiser,
        "encoder": card.encoder,
    }
    tensors = {
        f"{name}.{key}": value
        for name, part in parts.items()
        if part is not None
        for key, value in part.build().state_dict().items()
    }
    ours = Checkpoint(card, tensors)
    baseline = throughput.voxel_baseline(ours)
    ratio = throughput.size_of(baseline) / throughput.size_of(ours)
    assert 0.9 < ratio < 1.1
    assert baseline.card.latent_shape == (1, *ours.card.grid.shape)
    with torch.device("meta"):  # shapes alone: it can be run
        network = baseline.card.denoiser.build()
        x, code = torch.zeros(1, 1, 80, 96, 80), torch.zeros(1, spec.code_size)
        outputs = network.both(x, torch.zeros(1), code)
    assert all(out.shape == x.shape for out in outputs)
