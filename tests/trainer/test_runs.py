"""`python -m trainer` from nothing to a table, through the same door as a user."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from napari_brainldm.engine import joint
from napari_brainldm.engine.checkpoint import file_sha256, load_checkpoint
from napari_brainldm.engine.fnc_file import read_fnc
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import Conditions, Request, Sampler
from trainer.__main__ import main
from trainer.config import load_config
from trainer.data.cohort import write_cohort
from trainer.data.template import load_template, save_template
from trainer.evaluate import ldae, reconstruction
from trainer.log import duration
from trainer.stages import denoising
from trainer.stages import ldae as ldae_stage

CONFIG = """
name = "Tiny run"
out = "{out}/run"

[cohort]
seed = 4
subjects = 6
voxel_mm = 8.0
population = {{ youngest = 60.0 }}

[data]
dataset = "{out}/cohort"
voxel_mm = 8.0
held_out = 0.34

[[data.covariates]]
name = "age"
title = "Age"
unit = "years"
column = "age"

[[data.covariates]]
name = "ventricles"
title = "Lateral ventricles"
unit = "ml"
column = "ventricles_ml"

[[data.covariates]]
name = "brain"
title = "Brain volume"
unit = "ml"
column = "brain_ml"
per_head = "icv_ml"

[autoencoder]
kl = 1e-7
spec = {{ channels = [4, 8], latent_channels = 2, res_blocks = 1, groups = 4 }}
loop = {{ steps = 4, save_every = 2, log_every = 2, precision = "no" }}

[ldm]
drop = 0.1
loop = {{ steps = 4, save_every = 2, log_every = 2, precision = "no" }}
schedule = {{ prediction = "v" }}

[ldm.spec]
channels = [8, 16]
attention_levels = [false, true]
head_channels = [0, 8]
res_blocks = 1
groups = 4
"""


LDAE = """
name = "Tiny LDAE"
out = "{out}/ldae"

[cohort]
seed = 4
subjects = 30
voxel_mm = 8.0
population = {{ youngest = 60.0, mix = [0.5, 0.0, 0.5] }}

[data]
dataset = "{out}/older"
voxel_mm = 8.0
held_out = 0.34

[autoencoder]
checkpoint = "{out}/run/autoencoder.safetensors"
kl = 1e-7
spec = {{ channels = [4, 8], latent_channels = 2, res_blocks = 1, groups = 4 }}
loop = {{ steps = 2, save_every = 2, log_every = 2, precision = "no" }}

[ldm]
centred = true
prior_rank = 2
loop = {{ steps = 4, save_every = 2, log_every = 2, precision = "no" }}
schedule = {{ prediction = "v" }}

[ldm.spec]
channels = [8, 16]
attention_levels = [false, true]
res_blocks = 1
groups = 4
strides = [1, 2, 2]

[ldae]
encoder = {{ channels = [8, 16], blocks = [1, 1], slices = 20, heads = 2 }}
loop = {{ steps = 4, save_every = 2, log_every = 2, precision = "no" }}

[supervised]
loop = {{ steps = 4, save_every = 2, log_every = 2, precision = "no" }}

[directions]
hold = ["age"]
draws = 20

[[directions.targets]]
name = "AD"
title = "AD"
column = "diagnosis"
positive = "AD"
negative = "CN"

[[directions.targets]]
name = "age"
title = "Age"
column = "age"
"""


GM = """
name = "Tiny GM"
out = "{out}/{run}"

[cohort]
seed = {seed}
subjects = 8
voxel_mm = 8.0
population = {{ oldest = 50.0 }}
[cohort.connectivity]
components = 6
shifts = [{{ first = "all", second = "all", z = 0.2 }}]

[data]
dataset = "{out}/{run}_cohort"
voxel_mm = 8.0
held_out = 0.25
flips = false
maps = "derivatives/gray_matter/**/*_desc-modulated_label-GM_probseg.nii.gz"
registration = "nonlinear"
fnc = "derivatives/fnc/fnc.csv"
components = "derivatives/fnc/components.tsv"
intensity = {{ scaling = "probability" }}

[gm_autoencoder]
checkpoint = "{before}"
loop = {{ steps = 4, save_every = 2, log_every = 2, precision = "no" }}

[gm_autoencoder.spec]
core = [16, 24, 16]
channels = [4, 8, 8]
latent_channels = 4
res_blocks = 1
groups = 4

[gmldm]
drop = 0.2
centred = true
prior_rank = 2
prior_codes = 2
law_rank = 3
schedule = {{ prediction = "v" }}
loop = {{ steps = 4, save_every = 2, log_every = 2, precision = "no" }}

[gmldm.spec]
width = 24
heads = 2
encoder_blocks = 1
decoder_blocks = 2
mlp = 2
outputs = 2
state_channels = [4, 8]
"""


def test_from_nothing_to_gray_matter_of_connectivity(tmp_path, capsys, template_of):
    first, second = tmp_path / "first.toml", tmp_path / "second.toml"
    first.write_text(GM.format(out=tmp_path, run="gm_before", seed=1, before=""))
    before = tmp_path / "gm_before" / "gm_autoencoder.safetensors"
    text = GM.format(out=tmp_path, run="gm", seed=2, before=before)
    second.write_text(text)
    pack = tmp_path / "pack"
    save_template(template_of(8.0), pack)
    train = ("--workers", 1, "--device", "cpu")
    for config in (first, second):
        words = ("--config", config, "--workers", 1, "--template", pack)
        run(capsys, "cohort", *words)
    told = refused(capsys, "train", "gm_autoencoder", "--config", second, *train)
    assert "There is no checkpoint" in told
    for config in (first, second):
        run(capsys, "train", "gm_autoencoder", "--config", config, *train)
    coder = load_checkpoint(tmp_path / "gm" / "gm_autoencoder.safetensors")
    assert coder.card.autoencoder.shape == (20, 24, 20)
    assert "Fine-tuned from Tiny GM" in coder.card.provenance.notes[0]
    assert coder.card.registration == "nonlinear"

    # somebody whose connectivity is lost is left out, and named
    table = tmp_path / "gm_cohort" / "derivatives" / "fnc" / "fnc.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(line for line in lines if "sub-0003" not in line))
    lines = run(capsys, "train", "gmldm", "--config", second, *train)
    assert any(line.startswith("7 participants, 6 components") for line in lines)
    assert any("read as Fisher z" in line for line in lines)
    assert sum("left out: sub-0003" in line for line in lines) == 1
    model = load_checkpoint(tmp_path / "gm" / "gmldm.safetensors")
    assert (model.card.kind, model.card.denoiser.components) == ("gm-ldm", 6)
    assert model.card.denoiser.droppable
    for key, value in coder.tensors.items():
        np.testing.assert_array_equal(value, model.tensors[key])
    renderer = Renderer(model, "cpu", "float32")
    found = read_fnc(table)
    digest = renderer.fnc.admit(found.of("sub-0001"))
    request = Request(Conditions(fnc=digest), sampler=Sampler("ddim", 2))
    assert finish(renderer.render(request)).data.shape == (20, 24, 20)

    by_chance = text.replace("prior_codes = 2", 'condition = "random"')
    of_voxels = text.replace("prior_codes = 2", 'space = "voxel"')
    of_voxels = of_voxels.replace("width = 24", "width = 24\npatch = 8")
    for changed in (by_chance, of_voxels):
        second.write_text(changed)
        run(capsys, "train", "gmldm", "--config", second, *train)
    voxels = load_checkpoint(tmp_path / "gm" / "gmldm.safetensors")
    assert voxels.card.latent_shape == (1, 20, 24, 20)
    picture = finish(
        Renderer(voxels, "cpu", "float32").render(Request(sampler=Sampler("ddim", 2)))
    )
    assert picture.data.shape == (20, 24, 20)

    second.write_text(text.replace("maps = ", "# maps = "))
    told = refused(capsys, "train", "gmldm", "--config", second, *train)
    assert "Set data.maps" in told


def test_a_full_disk_is_a_sentence(tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "runs/cache/0001.npy")

    monkeypatch.setattr("trainer.__main__.load_config", full)
    told = refused(capsys, "train", "autoencoder", "--config", tmp_path / "a.toml")
    assert told.startswith("runs/cache/0001.npy cannot be written to (No space left")


def run(capsys, *words) -> list[str]:
    """Lines of a command that must succeed."""
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    assert (code, err) == (0, "")
    return out.splitlines()


def refused(capsys, *words) -> str:
    assert main([str(word) for word in words]) == 2
    err = capsys.readouterr().err
    assert len(err.strip().splitlines()) == 1
    return err


def test_from_nothing_to_a_table(tmp_path, capsys, monkeypatch, template_of):
    monkeypatch.setattr(joint, "LEAST", 2)  # so that four people count as a group
    config = tmp_path / "run.toml"
    config.write_text(CONFIG.format(out=tmp_path))
    pack, common = tmp_path / "pack", ("--config", config, "--workers", 1)
    save_template(template_of(8.0), pack)
    folder = tmp_path / "run"

    lines = run(capsys, "cohort", *common, "--template", pack)
    assert lines[-1].startswith("6 of 6 subjects")

    text = refused(capsys, "train", "ldm", *common, "--device", "cpu")
    assert "There is no checkpoint" in text

    train = (*common, "--device", "cpu")
    lines = run(capsys, "train", "autoencoder", *train)
    assert lines[0] == "4 scans to train on, 2 held out"
    assert lines[-1].startswith("Saved")
    assert [line.split()[1] for line in lines if "step" in line[:5]] == ["2/4", "4/4"]
    first = load_checkpoint(folder / "autoencoder.safetensors")
    assert lines[-1].endswith(f"(sha256 {first.sha256})")
    assert first.card.head_size > 900
    assert "4 scans of 4 subjects" in first.card.provenance.trained_on
    assert "imulated" in first.card.provenance.trained_on
    log = (folder / "log/autoencoder/log.jsonl").read_text()
    reports = [json.loads(line) for line in log.splitlines()]
    assert [r["step"] for r in reports] == [2, 4]
    assert 0 < reports[-1]["figures"]["held_out_ssim"] < 1
    shown = np.load(folder / "log/autoencoder/reconstruction-000004.npy")
    assert shown.shape == (40, 40) and shown.max() <= 1

    cached = {p: p.stat().st_mtime_ns for p in (folder / "cache").iterdir()}
    lines = run(capsys, "train", "ldm", *train)
    assert not any(line.startswith("Prepared") for line in lines)
    assert sum(line.startswith("Encoded") for line in lines) == 3  # train, held, mirror
    assert all(p.stat().st_mtime_ns == when for p, when in cached.items())
    model = folder / "ldm.safetensors"
    second = load_checkpoint(model)
    assert second.card.kind == "brain-ldm"
    names = [c.name for c in second.card.vocabulary]
    assert names == ["age", "ventricles", "brain"]
    assert [group.people for group in second.card.joint] == [4]
    assert second.card.latent_scale != 1.0
    for key, value in first.tensors.items():
        np.testing.assert_array_equal(value, second.tensors[key])

    lines = run(capsys, "train", "ldm", *train, "--resume")
    assert not any(line.startswith(("Encoded", "step")) for line in lines)
    again = load_checkpoint(model)
    assert again.card == second.card
    for key, value in second.tensors.items():
        np.testing.assert_array_equal(value, again.tensors[key])

    lines = run(capsys, "evaluate", "brain-ldm", *common, "--n", 2)
    table = json.loads((folder / "evaluate-brain-ldm.json").read_text())
    assert table["checkpoint"] == file_sha256(model)
    figures = table["figures"]
    for name in ("rebuilt_ssim_brain", "input_ssim_brain", "ventricles_mae_ml"):
        assert np.isfinite(figures[name]), name
        assert any(line.startswith(name) for line in lines)
    assert figures["input_ssim_brain"] > 0.5  # noise of the simulated scan alone

    plan = tmp_path / "plan.tsv"
    plan.write_text("age\tventricles\n70\t40\n")
    words = ("--plan", plan, "--out", tmp_path / "made", "--workers", 0)
    run(capsys, "generate", *common, *words)
    assert len(list((tmp_path / "made").rglob("*_T1w.nii.gz"))) == 1

    assert "at least 2 of each" in refused(
        capsys, "evaluate", "brain-ldm", *common, "--n", 1
    )

    # another run, of another grid, trains on from the autoencoder of this one
    text = CONFIG.format(out=tmp_path).replace('/run"', '/onward"')
    text = text.replace("held_out", "shape = [16, 24, 16]\nheld_out")
    text = text.replace("steps = 4", "learning_rate = 0.0, steps = 4", 1)
    start = f'start = "{folder / "autoencoder.safetensors"}"\n'
    config.write_text(text.replace("kl = 1e-7\n", "kl = 1e-7\n" + start))
    run(capsys, "train", "autoencoder", *train)
    onward = load_checkpoint(tmp_path / "onward" / "autoencoder.safetensors")
    assert onward.card.grid.shape == (16, 24, 16)
    assert "fine-tuned from Tiny run (" in onward.card.provenance.notes[0]
    for key, value in first.tensors.items():  # a rate of 0 leaves what it began with
        np.testing.assert_array_equal(value, onward.tensors[key])
    config.write_text(config.read_text().replace("start =", "checkpoint ="))
    told = refused(capsys, "train", "autoencoder", *train)
    assert "there is none to train" in told


def test_from_nothing_to_directions(tmp_path, capsys, monkeypatch, template_of):
    monkeypatch.setattr(reconstruction, "STEPS", (2, 4))  # 10 to 100 take a minute
    monkeypatch.setattr(ldae, "STEPS", 4)
    monkeypatch.setattr(ldae, "RACED", 2)
    for stage in (denoising, ldae_stage):  # figures of the log
        monkeypatch.setattr(stage, "PROBED", (0.1, 0.9))
    monkeypatch.setattr(ldae_stage, "STEPS", 2)
    first, second = tmp_path / "run.toml", tmp_path / "ldae.toml"
    first.write_text(CONFIG.format(out=tmp_path))
    second.write_text(LDAE.format(out=tmp_path))
    pack = tmp_path / "pack"
    save_template(template_of(8.0), pack)
    for config in (first, second):
        words = ("--config", config, "--workers", 1, "--template", pack)
        run(capsys, "cohort", *words)
    train = ("--workers", 1, "--device", "cpu")
    run(capsys, "train", "autoencoder", "--config", first, *train)
    common = ("--config", second, *train)
    refused(capsys, "train", "ldae", *common)
    lines = run(capsys, "train", "ldm", *common)
    assert lines[0] == "20 scans to train on, 10 held out"
    run(capsys, "train", "ldae", *common)
    lines = run(capsys, "train", "directions", *common)
    assert any(line.startswith("AD: n 10") and "auc" in line for line in lines)
    found = load_checkpoint(tmp_path / "ldae" / "directions.safetensors")
    assert [d.name for d in found.card.directions] == ["AD", "AD-held", "age"]
    told = dict(found.card.direction("age").figures)
    assert told["mae_low"] < told["mae"] < told["mae_high"]
    taken = load_checkpoint(tmp_path / "run" / "autoencoder.safetensors")
    for key, value in taken.tensors.items():
        np.testing.assert_array_equal(value, found.tensors[key])
    assert found.card.provenance.trained_on.endswith("20 scans of 20 subjects")

    voxels = tmp_path / "voxels.toml"
    text = LDAE.format(out=tmp_path)
    start, end = text.index("[autoencoder]"), text.index("[ldm]")
    text = text[:start] + "[autoencoder]\nspec = { voxel_channels = 1 }\n" + text[end:]
    text = text.replace("prior_rank = 2", "").replace('/ldae"', '/voxels"')
    text = text.replace("strides = [1, 2, 2]", "strides = [2, 2, 2]")
    voxels.write_text(text.replace("[ldm.spec]", "[ldm.spec]\nlatent_channels = 1"))
    for stage in ("autoencoder", "ldm", "ldae", "directions"):
        lines = run(capsys, "train", stage, "--config", voxels, *train)
        assert "Saved" in lines[-1]
    visits = replace(
        load_config(second).cohort, seed=5, subjects=2, at_years=(0.0, 1.0, 3.0)
    )
    list(write_cohort(visits, tmp_path / "visits", 1, load_template(pack)))
    words = ("--n", 2, "--visits", tmp_path / "visits", "--release", tmp_path / "r.st")
    beside = f"voxel DAE={tmp_path / 'voxels' / 'directions.safetensors'}"
    run(capsys, "train", "supervised", *common)
    taught = f"supervised={tmp_path / 'ldae' / 'supervised.safetensors'}"
    words = (*words, "--beside", beside, "--beside", taught)
    lines = run(capsys, "evaluate", "ldae", "--config", second, *words)
    told = json.loads((tmp_path / "ldae/tables-ldae/tables.json").read_text())["tables"]
    assert [row["encoder"] for row in told["probe-AD"]] == [
        "LDAE",
        "voxel DAE",
        "supervised",
        "true volumes",
        "the paper, on ADNI",
    ]
    models = {(row["model"], row["T"]) for row in told["reconstruction"]}
    assert len(models) == 2 * (1 + 3 * 2)
    exact = next(
        r
        for r in told["reconstruction"]
        if r["model"] == "voxel DAE: autoencoder alone"
    )
    assert exact["MSE"] == pytest.approx(0, abs=1e-12)
    gaps = [row["prediction gap (months)"] for row in told["visits-prediction-gap"]]
    assert set(gaps) == {12.0}
    assert {row["n"] for row in told["visits-prediction-gap"]} == {2.0}
    assert told["throughput"][0]["times faster"] > 0
    assert any("imulated people" in line for line in lines)
    for name in ("lda", "moved", "moved-pictures", "visits"):
        assert (tmp_path / f"ldae/tables-ldae/{name}.png").stat().st_size > 5000
    shipped = load_checkpoint(tmp_path / "r.st")
    assert "monotone both" in dict(shipped.card.figures)

    # a second run finds the parts of the first, and one of other people does not
    monkeypatch.setattr(reconstruction, "rebuilt", None)
    assert run(capsys, "evaluate", "ldae", "--config", second, *words) == lines
    again = (*words, "--n", 10)
    with pytest.raises(TypeError, match="NoneType"):
        main([str(w) for w in ("evaluate", "ldae", "--config", second, *again)])

    other = LDAE.format(out=tmp_path).replace("voxel_mm = 8.0", "voxel_mm = 4.0")
    second.write_text(other)
    assert "holds a cohort" in refused(
        capsys, "cohort", "--config", second, "--workers", 1, "--template", pack
    )


def test_what_is_missing_gets_a_sentence(tmp_path, capsys):
    config = tmp_path / "run.toml"
    config.write_text(CONFIG.format(out=tmp_path))
    common = ("--config", config)
    told = refused(capsys, "train", "autoencoder", *common)
    assert "has no participants.tsv" in told
    assert "has no checkpoint yet" in refused(capsys, "evaluate", "brain-ldm", *common)
    nowhere = tmp_path / "x.safetensors"
    words = ("evaluate", "brain-ldm", *common, "--checkpoint", nowhere)
    assert "There is no checkpoint" in refused(capsys, *words)
    assert "There is no config" in refused(capsys, "cohort", "--config", "x.toml")


@pytest.mark.parametrize(
    "words",
    [[], ["train"], ["train", "vae"], ["evaluate", "nothing"], ["generate"]],
)
def test_what_is_no_command_exits_with_2(words, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [[], ["cohort"], ["train"], ["evaluate"], ["generate"]]
)
def test_help_is_there_for_every_command(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    assert "--" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00:00"), (59.6, "0:01:00"), (3723, "1:02:03")]
)
def test_durations_are_hours_minutes_seconds(seconds, text):
    assert duration(seconds) == text
