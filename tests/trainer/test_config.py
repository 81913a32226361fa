"""Run configs say what they mean, or are refused with a sentence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_brainldm.engine.networks.autoencoder import AutoencoderSpec
from napari_brainldm.engine.networks.gradient_estimator import GradientEstimatorSpec
from napari_brainldm.engine.networks.semantic_encoder import SemanticEncoderSpec
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.volume import mni_grid
from trainer.config import DataConfig, load_config
from trainer.data.connectivity import ConnectivityConfig
from trainer.data.pictures import model_grid


def parameters(spec) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in spec.build().parameters())


def written(tmp_path, text: str) -> Path:
    path = tmp_path / "run.toml"
    path.write_text('name = "x"\nout = "y"\n' + text)
    return path


CONFIGS = [
    "demo.toml",
    "pinaya_table.toml",
    "ldae2025.toml",
    "ldae_demo.toml",
    "ldae_voxel.toml",
    "pinaya2022.toml",
]
GRAY = [
    *(f"gm_pretrain{name}.toml" for name in ("2025", "_demo", "_table")),
    *(f"gmldm{name}.toml" for name in ("2025", "_demo", "_null", "_table")),
]
SHIPPED = sorted([*CONFIGS, *GRAY, "ldae_followed.toml", "ldae_visits.toml"])


@pytest.mark.parametrize("name", CONFIGS)
def test_the_shipped_configs_load(name):
    config = load_config(Path(name))
    names = sorted(c.name for c in config.data.covariates)
    told = [] if "ldae" in name else ["age", "brain", "sex", "ventricles"]
    assert names == told
    assert config.ldm.spec.condition_size == len(told)
    factor = config.autoencoder.spec.factor
    assert all(n % factor == 0 for n in model_grid(config.data).shape)
    assert config.cohort.voxel_mm == config.data.voxel_mm


def test_the_visits_measured_are_of_no_one_the_model_was_trained_on():
    seen, visits = (load_config(Path(f"ldae_{n}.toml")) for n in ("demo", "visits"))
    followed = load_config(Path("ldae_followed.toml"))
    assert len({c.cohort.seed for c in (seen, visits, followed)}) == 3
    assert visits.cohort.times == (0.0, 0.5, 1.0, 2.0, 3.0, 4.0)
    assert visits.cohort.looks == seen.cohort.looks


def test_the_papers_networks_have_the_papers_sizes():
    config = load_config(Path("pinaya2022.toml"))
    assert parameters(config.autoencoder.spec) == 13_766_248
    denoiser = replace(config.ldm.spec, droppable=config.ldm.drop > 0)
    assert parameters(denoiser) == 553_168_899
    shape = model_grid(config.data).shape
    assert shape == (160, 224, 160)
    assert config.autoencoder.spec.latent_shape(shape) == (3, 20, 28, 20)


@pytest.mark.parametrize("size", ["_demo", "2025"])
def test_the_gray_matter_configs_belong_together(size):
    before = load_config(Path(f"gm_pretrain{size}.toml"))
    after = load_config(Path(f"gmldm{size}.toml"))
    made = f"{before.out}/gm_autoencoder.safetensors"
    assert after.gm_autoencoder.checkpoint == made
    assert before.gm_autoencoder.spec == after.gm_autoencoder.spec
    for config in (before, after):
        assert config.cohort.voxel_mm == config.data.voxel_mm
        assert config.data.intensity.scaling == "probability"
        assert config.cohort.connectivity is not None
    assert before.cohort.connectivity.strength == 0
    assert after.cohort.connectivity == ConnectivityConfig()


def test_the_table_is_of_the_demos_people():
    for part in ("gm_pretrain", "gmldm"):
        table, demo = (load_config(Path(f"{part}_{n}.toml")) for n in ("table", "demo"))
        assert table.cohort == demo.cohort
        assert table.data.dataset == demo.data.dataset
        assert table.data.voxel_mm == 4.0
    before = load_config(Path("gm_pretrain_table.toml"))
    after = load_config(Path("gmldm_table.toml"))
    made = f"{before.out}/gm_autoencoder.safetensors"
    assert after.gm_autoencoder.checkpoint == made
    assert before.gm_autoencoder.spec == after.gm_autoencoder.spec
    assert after.gm_table.folds == 5


def test_the_null_cohort_is_the_demos_without_an_illness():
    null, demo = (load_config(Path(f"gmldm_{name}.toml")) for name in ("null", "demo"))
    calm = replace(demo.cohort.connectivity, strength=0.0)
    assert null.cohort == replace(demo.cohort, connectivity=calm)
    assert (null.gm_autoencoder.spec, null.gmldm) == (
        demo.gm_autoencoder.spec,
        demo.gmldm,
    )


def test_gm_ldm_has_the_papers_latent():
    config = load_config(Path("gmldm2025.toml"))
    spec = config.gm_autoencoder.spec
    core = tuple(n // 8 for n in spec.core)
    assert spec.latent_shape(spec.shape) == (256, *core)
    assert config.gmldm.loop.learning_rate == 3e-5
    assert config.gm_autoencoder.loop.learning_rate == 2e-4
    assert config.gm_autoencoder.loop.batch == 16
    assert (config.gmldm.prior_rank, config.gmldm.centred) == (0, False)


def test_a_grid_of_another_shape_keeps_the_centre():
    grid = model_grid(DataConfig(voxel_mm=1.0, shape=(160, 224, 160)))

    def centre(g):
        return g.matrix[:3, :3] @ ((np.array(g.shape) - 1) / 2) + g.matrix[:3, 3]

    np.testing.assert_allclose(centre(grid), centre(mni_grid(1.0)))
    assert model_grid(DataConfig(voxel_mm=2.0)) == mni_grid(2.0)


def test_what_is_left_out_has_the_default(tmp_path):
    config = load_config(written(tmp_path, "[ldm.loop]\nsteps = 7\n"))
    assert (config.ldm.loop.steps, config.ldm.loop.batch) == (7, 1)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[ldm.loop]\nstep = 7", "unknown entry 'step'"),
        ("[lmd]\nx = 1", "unknown entry 'lmd'"),
        ('[ldm.loop]\nsteps = "7"', "int is needed"),
        ("[ldm.loop]\nsteps = 7.5", "int is needed"),
        ("[ldm.loop]\nsteps = true", "int is needed"),
        ("[data]\nshape = 3", "a list is needed"),
        ("[data]\nflips = 1", "bool is needed"),
        ("[[data.covariates]]\nname = 'age'", "lacks the entry 'title'"),
        ("data = 3", "a table of named values is needed"),
        ("[ldm.loop\n", "is not a TOML file"),
        ("[ldm.loop]\nsteps = 0", "loop.steps is 0; at least 1"),
        ("[ldm.loop]\nbatch = 0", "loop.batch is 0; at least 1"),
        ("[ldm.loop]\nlog_every = 0", "loop.log_every is 0"),
        ("[ldm.loop]\nprecision = 'fp8'", "known are auto, no, bf16"),
        ("[ldm.loop]\nema = 1.0", "0 <= ema < 1"),
        ("[autoencoder]\nstart = 'a'\ncheckpoint = 'b'", "Set one of them"),
        (
            "[autoencoder]\nstart = 'a'\nspec = { voxel_channels = 1 }",
            "voxels have no autoencoder to train",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, text, sentence):
    with pytest.raises(EngineError, match=sentence):
        load_config(written(tmp_path, text))


def test_a_missing_name_or_out_is_refused(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('out = "y"')
    with pytest.raises(EngineError, match="lacks the entry 'name'"):
        load_config(path)


@pytest.mark.parametrize("name", ["nowhere.toml", "nowhere/demo.toml", "."])
def test_a_config_that_is_not_there_names_the_shipped_ones(name):
    with pytest.raises(EngineError, match=", ".join(SHIPPED)):
        load_config(Path(name))


def test_a_file_that_is_not_text_is_refused(tmp_path):
    path = tmp_path / "run.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EngineError, match="is not a TOML file"):
        load_config(path)


def test_ldae2025_has_the_papers_networks():
    """Checked against the published sizes, which the parity sets have in full."""
    config = load_config(Path("ldae2025.toml"))
    wanted = GradientEstimatorSpec(code_size=768, strides=(1, 2, 2))
    assert config.ldm.spec == wanted
    assert config.ldae.encoder == SemanticEncoderSpec()
    # of the UK Biobank model, so that its weights may begin the training
    assert config.autoencoder.spec == AutoencoderSpec()
    assert config.autoencoder.spec.latent_shape((128, 160, 128)) == (3, 16, 20, 16)
    assert model_grid(config.data).shape == (128, 160, 128)


def test_the_sentence_is_about_the_denoiser_that_was_meant(tmp_path):
    path = tmp_path / "c.toml"
    head = 'name = "x"\nout = "y"\n[ldm.spec]\nchannels = [8]\n'
    path.write_text(head + "condition_gain = 1.0\nchanels = 2\n")
    with pytest.raises(EngineError, match=r"'chanels'.*condition_gain"):
        load_config(path)
    path.write_text(head + "strides = [2, 2, 2]\nheads = 1\nchanels = 2\n")
    with pytest.raises(EngineError, match=r"'chanels'.*strides"):
        load_config(path)
