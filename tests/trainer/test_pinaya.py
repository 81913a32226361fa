"""The table of Pinaya 2022, from a cohort to its figures, on tiny models."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from napari_brainldm.engine.card import Covariate
from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import Conditions, EngineError, Request, Seed
from napari_brainldm.engine.request import Sampler as Steps
from napari_brainldm.engine.scan_file import save_volume
from napari_brainldm.engine.volume import Volume
from tests.tiny import tiny_checkpoint
from tests.trainer.conftest import forget_accelerate
from trainer.__main__ import main
from trainer.config import DataConfig, load_config
from trainer.data.pictures import model_grid
from trainer.evaluate import brain_ldm, conditioned, makers, pinaya
from trainer.evaluate.compared import BLURRED, FLOOR, NOISY
from trainer.evaluate.conditioned import BEYOND, Conditioned, conditioning
from trainer.evaluate.makers import Kept, Recipe, make
from trainer.evaluate.metrics.features import projected
from trainer.evaluate.pinaya import Ask, headline, paper, recipes_of
from trainer.evaluate.table import Table
from trainer.stages.gan import GanPictures

VENTRICLES = Covariate("ventricles", "Ventricles", "ml", low=10.0, high=99.0)

CONFIG = """
name = "Tiny run"
out = "{out}/run"

[data]
dataset = "{out}/cohort"
voxel_mm = 3.0
shape = [48, 64, 48]
held_out = 0.5

[[data.covariates]]
name = "age"
title = "Age"
unit = "years"
column = "age"

[[data.covariates]]
name = "sex"
title = "Sex"
column = "sex"
categories = ["F", "M"]

[[data.covariates]]
name = "ventricles"
title = "Lateral ventricles"
unit = "ml"
column = "ventricles_ml"

[autoencoder]
kl = 1e-7
spec = {{ channels = [4, 4, 4], latent_channels = 2, res_blocks = 1, groups = 4 }}
loop = {{ steps = 2, precision = "no" }}

[ldm]
loop = {{ steps = 2, precision = "no" }}
schedule = {{ prediction = "v", steps = 15 }}

[ldm.spec]
channels = [8, 8]
attention_levels = [false, false]
head_channels = [0, 8]
res_blocks = 1
groups = 4
condition_size = 3

[brain_age]
channels = [2, 2, 2]
loop = {{ steps = 2, precision = "no" }}

[sex]
channels = [2, 2, 2]
loop = {{ steps = 2, precision = "no" }}

[lsgan]
noise = 4
channels = [8, 4, 4, 2]
critic = [2, 2, 4]
loop = {{ steps = 2, precision = "no" }}
"""

TRAINED = ("autoencoder", "ldm", "brain_age", "sex", "lsgan")
HELD_OUT = 12
TOLD = {"Name": "Simulated blobs", "BIDSVersion": "1.10.0"}


def write_dataset(folder: Path, data: DataConfig, people: int) -> None:
    """Blobs on the model's grid, as a BIDS dataset that says it is simulated."""
    grid, rows = model_grid(data), ["participant_id\tage\tsex\tventricles_ml"]
    for n in range(people):
        rng = np.random.default_rng(n)
        name, radius = f"sub-{n:02d}", rng.uniform(0.5, 0.9)
        i, j, k = (np.linspace(-1, 1, size) for size in grid.shape)
        inside = i[:, None, None] ** 2 + j[:, None] ** 2 + k**2 < radius**2
        texture = rng.uniform(0.4, 1, grid.shape)
        path = folder / name / "anat" / f"{name}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        picture = np.where(inside, texture, 0).astype(np.float32)
        save_volume(Volume(picture, grid.matrix), path)
        rows.append(f"{name}\t{60 + n}\t{'MF'[n % 2]}\t{20 * radius:.2f}")
    (folder / "participants.tsv").write_text("\n".join(rows) + "\n")
    (folder / "dataset_description.json").write_text(json.dumps(TOLD))


@pytest.fixture(scope="module")
def run(tmp_path_factory, one_thread) -> Path:
    """A dataset and every stage but vaegan, through the door of a user."""
    folder = tmp_path_factory.mktemp("pinaya")
    config = folder / "tiny.toml"
    config.write_text(CONFIG.format(out=folder))
    write_dataset(folder / "cohort", load_config(config).data, 2 * HELD_OUT)
    for stage in TRAINED:
        forget_accelerate()
        words = ["--config", str(config), "--device", "cpu", "--workers", "1"]
        assert main(["train", stage, *words]) == 0
    return folder


@pytest.fixture
def quick(monkeypatch):
    """No segmenter, few steps: the road is what is walked here."""

    def fake(segmenter, card, picture):
        return {"ventricles": 100 * float(picture.mean())}

    monkeypatch.setattr(pinaya, "feature_sets", lambda g, _, __: [projected(g)])
    monkeypatch.setattr(pinaya, "DDIM", Steps("ddim", 3))
    for module in (conditioned, brain_ldm):
        monkeypatch.setattr(module, "measured", fake)


def lines(folder, n=6):
    config = load_config(folder / "tiny.toml")
    ldm = folder / "run" / "ldm.safetensors"
    return list(pinaya.pinaya(config, Ask(ldm, n, folder / "results"), lambda _: 1.5))


def test_the_table_is_walked_from_end_to_end(run, quick, monkeypatch):
    told = lines(run)
    assert "No vaegan was trained, so its row is left out." in told
    found = json.loads((run / "results" / "pinaya.json").read_text())["tables"]
    names = [row[""] for row in found["pinaya"]]
    viewer = "LDM + dpm++2m, 15 steps (viewer)"
    models = ["LSGAN", "LDM, 15 steps", "LDM + DDIM, 3 steps", viewer]
    assert names == [*models, FLOOR, BLURRED, NOISY]
    for row in found["pinaya"]:
        assert row["Fréchet, projection"] > 0
    for row in found["pinaya"][:4]:
        assert row["peak GiB"] == 1.5
        assert "±" in row["s per picture"]
    floor, blurred, _ = found["pinaya"][4:]
    assert floor["s per picture"] == "-"
    assert floor["MS-SSIM"] > 0
    assert blurred["MS-SSIM"] == "-"
    conditions = {(row["condition"], row["of"]): row for row in found["conditions"]}
    assert set(conditions) == {
        (name, side)
        for name in ("ventricles", "age", "sex")
        for side in ("pictures", "held-out scans")
    }
    assert conditions["age", "held-out scans"]["N"] == HELD_OUT
    sexes = conditions["sex", "held-out scans"]
    assert (sexes["N"], sexes["MAE"] <= 1) == (HELD_OUT, True)
    assert [row["ml"] for row in found["beyond"]] == ["asked", "shown"]
    text = (run / "results" / "pinaya.md").read_text()
    for sentence in (
        "The data differ",
        "simulated cohort",
        "N = 6 a side",
        "Sex is 0 for F and 1 for M",
    ):
        assert sentence in text
    for figure in ("nearness", "conditioning", "extrapolation"):
        assert (run / "results" / f"pinaya-{figure}.png").stat().st_size > 1000

    # once more: nothing is made again
    def never(self):
        raise AssertionError("a model was loaded although its pictures are there")

    monkeypatch.setattr(Recipe, "ready", never)
    again = lines(run)
    assert again[-1] == told[-1]


def test_pictures_without_a_head_are_left_out(monkeypatch):
    def found(segmenter, card, picture):
        if picture.mean() < 0.5:
            raise EngineError("No head was found.")
        return {"ventricles": 100 * float(picture.mean()), "brain": 1.0}

    monkeypatch.setattr(conditioned, "measured", found)
    monkeypatch.setattr(conditioned, "Segmenter", lambda _: None)
    levels = (0.1, 0.6, 0.7, 0.8, 0.9)
    group = Conditioned(
        [Conditions.of({"ventricles": 100 * level}) for level in levels],
        [np.full((2, 2, 2), level) for level in levels],
    )
    nothing = Conditioned(group.conditions[:1], group.pictures[:1])
    card = replace(tiny_checkpoint().card, vocabulary=(VENTRICLES,))
    monkeypatch.setattr(
        conditioned, "load_checkpoint", lambda _: SimpleNamespace(card=card)
    )
    table, series = conditioning(Path("x"), group, nothing, {})
    [row] = table.rows
    assert (row["of"], row["N"]) == ("pictures", 4)
    assert row["slope"] == pytest.approx(1)
    assert len(series["ventricles"][1].asked) == 0


def test_a_stopped_run_makes_only_what_is_missing(tmp_path):
    made = []

    class Model:
        def __init__(self, key):
            self.key = key

        def picture(self, number):
            made.append((self.key, number))
            return np.full((2, 2, 2), number / 8, np.float32)

    def ready(recipe):
        return Model(recipe.key)

    recipes = [Recipe(key, key, tmp_path) for key in "ab"]
    steps = make(recipes, 4, tmp_path, ready)
    next(steps), next(steps)
    steps.close()
    assert made == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]  # in turn
    (tmp_path / "b" / "000000.npz").unlink()
    made.clear()
    list(make(recipes, 4, tmp_path, ready))
    assert made == [("b", 0), ("a", 2), ("b", 2), ("a", 3), ("b", 3)]
    kept = Kept(tmp_path / "a", 4)
    assert [float(picture.mean()) for picture in kept] == [0, 0.125, 0.25, 0.375]
    mean, spread = kept.seconds()
    assert mean > 0 and spread >= 0


def test_no_warm_up_is_timed(tmp_path):
    """A stopped run warms its models up again."""
    for number, seconds in enumerate((100.0, 1.0, 90.0, 3.0)):
        path = tmp_path / f"{number:06d}.npz"
        makers._save(path, np.zeros((1, 1, 1)), seconds, seconds > 50)
    assert Kept(tmp_path, 4).seconds() == (2.0, 1.0)
    assert Kept(tmp_path, 1).seconds() == (100.0, 0.0)


def test_the_peak_of_a_process_is_its_own():
    """Linux hands the peak of a parent on to its children in `ru_maxrss`."""
    held = np.ones(2**28, np.float32)  # 1 GiB
    before = makers.own_peak()
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        child = pool.submit(makers.own_peak).result()
    assert before > held.nbytes > child > 2**20


def test_kept_pictures_lie_within_the_range(tmp_path):
    picture = np.array([[[-0.5, 0.25, 1.5]]], np.float32)
    makers._save(tmp_path / "000000.npz", picture, 1.0, True)
    np.testing.assert_array_equal(Kept(tmp_path, 1)[0], [[[0, 0.25, 1]]])


def test_a_recipe_makes_what_its_model_makes(run):
    """By number: conditions in turn, seeds counting up; a GAN by its seed."""
    path, lsgan = (run / "run" / f"{n}.safetensors" for n in ("ldm", "lsgan"))
    wanted = tuple(Conditions.of({"age": age}) for age in (60.0, 80.0))
    sampler = Steps("ddim", 2)
    recipe = Recipe("k", "K", path, sampler, wanted, "cpu")
    found = recipe.ready().picture(3)
    renderer = Renderer(load_checkpoint(path), "cpu")
    request = Request(wanted[1], Seed(3), (), sampler)
    np.testing.assert_array_equal(found, finish(renderer.render(request)).data)
    gan = Recipe("g", "G", lsgan, device="cpu").ready().picture(5)
    model = GanPictures(load_checkpoint(lsgan), "cpu")
    np.testing.assert_array_equal(gan, model.picture(5))


def test_other_weights_have_other_pictures(run):
    """Folders are named by the weights, so that a new training is made anew."""
    config = load_config(run / "tiny.toml")
    ldm, other = (run / "run" / f"{n}.safetensors" for n in ("ldm", "autoencoder"))
    keys = [r.key for r in recipes_of(config, ldm, [])]
    assert len(set(keys)) == 4
    assert {k.split("_")[0] for k in keys} == {"lsgan", "ldm", "ldm-ddim", "ldm-viewer"}
    again = {r.key for r in recipes_of(config, other, [])}
    assert len(again & set(keys)) == 1  # the GAN's
    asked = {r.key for r in recipes_of(config, ldm, [Conditions.of({"age": 50.0})])}
    assert len(asked & set(keys)) == 1


def test_the_papers_numbers_are_the_papers():
    """Table 1 and section 3.1 of arXiv 2209.07162."""
    rows = {row[""]: row for row in paper().rows}
    assert rows["LDM"]["FID"] == 0.0076 and rows["LDM"]["s"] == 142.3
    assert rows["LDM + DDIM"]["MS-SSIM"] == 0.6704 and rows["LDM + DDIM"]["s"] == 7.6
    assert rows["real"]["4-G-R-SSIM"] == 0.3909
    assert "data differ" in paper().note


def test_the_headline_takes_each_figure_from_its_table():
    nearness = ({"pictures": "A", "Fréchet": 3}, {"pictures": FLOOR, "Fréchet": 1})
    likeness = (
        {"pictures": n, "MS-SSIM": 0.5, "4-G-R-SSIM": 0.2} for n in ("A", "real")
    )
    parts = [Table("near-x", "", nearness), Table("variety", "", tuple(likeness))]
    ours, real, *_ = headline(parts, {"A": ((2.0, 0.1), 4.0)}, "").rows
    assert (ours["Fréchet, x"], real["Fréchet, x"]) == (3, 1)
    assert (ours["s per picture"], ours["peak GiB"]) == ("2 ± 0.1", 4.0)


def test_too_few_scans_get_a_sentence(run, quick):
    with pytest.raises(EngineError, match="5 pictures and 12 held-out scans"):
        lines(run, 5)


def test_conditions_of_the_figure_4_are_normalised():
    assert {1.5, 1.9, -0.5} <= set(BEYOND)
