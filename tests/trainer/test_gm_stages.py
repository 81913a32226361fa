"""What GM-LDM's stages minimise, keep and learn. Toy sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import savemat

from napari_brainldm.engine.card import Card, Intensity, ScheduleSpec
from napari_brainldm.engine.checkpoint import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from napari_brainldm.engine.components import components_of
from napari_brainldm.engine.fnc import FncTable, square
from napari_brainldm.engine.networks.gm_autoencoder import GrayMatterAutoencoderSpec
from napari_brainldm.engine.networks.prior import PriorSpec
from napari_brainldm.engine.networks.vit_denoiser import CodedPrior, ViTSpec
from napari_brainldm.engine.request import EngineError
from tests.trainer import toys
from tests.trainer.toys import LOOP
from trainer.config import DataConfig, RunConfig
from trainer.data.bids import Dataset, Entry
from trainer.gm_config import GmAutoencoderConfig, GmLdmConfig
from trainer.gm_runs import fnc_of, told_of, with_fnc
from trainer.loop import Item, rate, train, trained
from trainer.stages.autoencoder import kl_divergence, seeded_forward
from trainer.stages.gm_autoencoder import GmAutoencoderStage, correlation, pretrained
from trainer.stages.gmldm import GmLdmStage
from trainer.stages.prior import fit_places

SPEC = GrayMatterAutoencoderSpec((10, 10, 10), (8, 8, 8), (4, 8), 3, 1, 4)
VIT = ViTSpec(
    width=24,
    heads=2,
    encoder_blocks=1,
    decoder_blocks=1,
    mlp=2,
    outputs=1,
    state_channels=(4,),
)
PEOPLE = 24


def card(edge: int = 10) -> Card:
    scaling = Intensity(scaling="probability")
    return Card("autoencoder", "Toy", toys.grid(edge), SPEC, intensity=scaling)


def coder_stage(edge: int = 10, **more) -> GmAutoencoderStage:
    data = toys.pictures(5, edge)
    config = GmAutoencoderConfig(SPEC, LOOP, more.pop("alpha", 1e-6))
    return GmAutoencoderStage(config, card(edge), data, data[:2], True, **more)


def finished(stage) -> Checkpoint:
    return stage.finish(stage.players[0].network.state_dict())


def connectivity(people: int = PEOPLE) -> np.ndarray:
    rng = np.random.default_rng(2)
    level = np.linspace(-1, 1, people)[:, None]
    pattern = np.array([1.0, -1.0, 1.0, 0.5, -0.5, 0.2])
    noise = 0.2 * rng.standard_normal((people, 6))
    return (level * pattern + noise).astype(np.float32)


def ldm_stage(**config) -> GmLdmStage:
    """Latents that are one number, which the connectivity tells."""
    rng = np.random.default_rng(3)
    level = np.linspace(-1, 1, PEOPLE)[:, None, None, None, None]
    latents = level + 0.1 * rng.standard_normal((PEOPLE, 3, 4, 4, 4))
    latents = latents.astype(np.float32)
    loop = replace(LOOP, steps=config.pop("steps", 60), batch=8, learning_rate=3e-3)
    settings = GmLdmConfig(VIT, ScheduleSpec(prediction="v"), loop, **config)
    base = finished(coder_stage())
    asked = connectivity()
    unseen = latents[:4], asked[:4]
    return GmLdmStage(settings, base, (latents, asked), unseen, components_of(4))


def test_the_loss_is_alpha_kl_and_the_rest_squared_error() -> None:
    stage = coder_stage(alpha=0.25)
    network = stage.players[0].network
    items = [Item(0, 4), Item(1, 6)]
    losses, _ = stage._loss(network, items, None, 0)
    x = torch.stack([stage._map(0, 4), stage._map(1, 6)])
    latent = SPEC.latent_shape((10, 10, 10))
    rebuilt, mean, sigma = seeded_forward(network, x, latent, [4, 6])
    mse, kl = (rebuilt - x).square().mean(), kl_divergence(mean, sigma)
    torch.testing.assert_close(losses["mse"], 0.75 * mse)
    torch.testing.assert_close(losses["kl"], 0.25 * kl)


@pytest.mark.parametrize("spec", [SPEC, toys.SPEC])
def test_a_sample_gets_the_same_noise_in_any_batch(spec) -> None:
    network, latent = spec.build(), spec.latent_shape((10, 10, 10))
    x = torch.rand(3, 1, 10, 10, 10)
    whole = seeded_forward(network, x, latent, [4, 6, 9])[0]
    part = seeded_forward(network, x[1:2], latent, [6])[0]
    other = seeded_forward(network, x[1:2], latent, [7])[0]
    torch.testing.assert_close(whole[1:2], part)
    assert not torch.allclose(part, other)


def test_fine_tuning_keeps_the_core_and_fits_another_shape() -> None:
    before = finished(coder_stage(12))
    same = finished(coder_stage(12, before=before)).tensors
    other = finished(coder_stage(10, before=before)).tensors
    fresh = finished(coder_stage(10)).tensors
    for name, value in before.tensors.items():
        assert torch.equal(same[name], value), name
        if "autoencoder.core." in name:
            assert torch.equal(other[name], value), name
        else:
            assert torch.equal(other[name], fresh[name]), name


def test_what_cannot_be_fine_tuned_gets_a_sentence() -> None:
    with pytest.raises(EngineError, match="no gray-matter autoencoder"):
        pretrained(SPEC, toys.autoencoder_checkpoint(), {})
    with pytest.raises(EngineError, match="other sizes within"):
        pretrained(replace(SPEC, channels=(4, 4)), finished(coder_stage()), {})


def test_the_autoencoder_learns_to_rebuild(tmp_path: Path) -> None:
    stage = coder_stage()
    begun = stage.held_out(stage.players[0].network.state_dict())
    loop = replace(LOOP, steps=40, log_every=40, picture_every=40)
    (report,) = train(stage, loop, tmp_path / "gm.state", False, "cpu")
    assert report.figures["held_out_mse"] < 0.5 * begun["held_out_mse"]
    assert report.pictures["reconstruction"].shape == (20, 20)


def test_correlation_is_numpys() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 3, 4, 4, 4))
    mask = rng.random((4, 4, 4)) > 0.4
    pairs = zip(first[:, mask], second[:, mask], strict=True)
    known = [np.corrcoef(a, b)[0, 1] for a, b in pairs]
    assert correlation(first, second, mask) == pytest.approx(np.mean(known))


def test_the_rate_falls_at_the_milestones() -> None:
    loop = replace(LOOP, steps=100, warmup=10, milestones=(0.5, 0.8), decay=0.1)
    steps = (0, 9, 10, 49, 50, 79, 80, 99)
    found = [rate(loop, step) for step in steps]
    np.testing.assert_allclose(found, [0.1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_conditions_are_centred_and_of_unit_spread() -> None:
    stage = ldm_stage()
    assert float(stage.vectors.std()) == pytest.approx(1, rel=0.01)
    np.testing.assert_allclose(stage.vectors.mean(0), 0, atol=1e-5)
    found = finished(stage)
    np.testing.assert_allclose(found.fnc_law().mean, connectivity().mean(0), atol=1e-6)


def test_the_prior_alone_follows_the_connectivity(tmp_path: Path) -> None:
    stage = ldm_stage(centred=True, prior_rank=2, prior_codes=1)
    path = tmp_path / "gm.safetensors"
    save_checkpoint(finished(stage), path)
    network = load_checkpoint(path).denoiser()
    sigma = float(stage.sigmas[0])
    still = torch.zeros(1, 3, 4, 4, 4)
    means = [
        float(network.prior.noisy(still, sigma, v[None]).mean()) for v in stage.vectors
    ]
    own = stage.latents.mean((1, 2, 3, 4)).numpy()
    assert np.corrcoef(means, own)[0, 1] > 0.9


def test_the_prior_finds_what_a_small_part_of_the_connectivity_tells() -> None:
    """Site effects ten times as large as the illness do not hide it."""
    rng = np.random.default_rng(4)
    people, edges = 80, 6
    ill, sites = rng.standard_normal((people, 1)), rng.standard_normal((people, 3))
    small, large = rng.standard_normal((1, edges)), 10 * rng.standard_normal((3, edges))
    vectors = ill * small + sites @ large
    shape = (3, 4, 4, 4)
    latents = ill @ rng.standard_normal((1, 192)) + 0.3 * rng.standard_normal((80, 192))
    spec = replace(VIT, latent_channels=3, grid=shape[1:], components=4, prior_codes=1)
    prior = CodedPrior(spec, PriorSpec(2, shape[1:], 10))
    x = torch.from_numpy(latents).float().view(people, *shape)
    conditions = torch.from_numpy(vectors).float()
    fit_places(prior, x[:60], conditions[:60], [0.1 * n for n in range(1, 11)])
    still = torch.zeros(20, *shape)
    means = prior.noisy(still, 1.0, conditions[60:]).flatten(1)
    own = x[60:].flatten(1)
    assert np.corrcoef(means.flatten(), own.flatten())[0, 1] > 0.9
    # noise of 0.3 alone is left, and the variance along the direction says so
    assert float(prior.gaussian.variances[0]) < 0.2 * float(own.square().sum(1).mean())


def test_visits_do_not_let_the_prior_believe_what_connectivity_does_not_tell() -> None:
    """Six visits under one connectivity that tells nothing leave all the variance."""
    rng = np.random.default_rng(5)
    people, visits = 8, 6
    who = np.repeat(np.arange(people), visits)
    place = rng.standard_normal(people)[who] + 0.01 * rng.standard_normal(len(who))
    latents = place[:, None] * rng.standard_normal(192)
    conditions = torch.from_numpy(rng.standard_normal((people, 6))[who]).float()
    spec = replace(VIT, latent_channels=3, grid=(4, 4, 4), components=4, prior_codes=1)
    prior = CodedPrior(spec, PriorSpec(2, (4, 4, 4), 10))
    x = torch.from_numpy(latents - latents.mean(0)).float().view(-1, 3, 4, 4, 4)
    fit_places(prior, x, conditions, [0.1 * n for n in range(1, 11)])
    own = float(x.flatten(1).square().sum(1).mean())
    assert float(prior.gaussian.variances[0]) > 0.9 * own


def test_the_denoiser_learns_what_the_connectivity_tells(tmp_path: Path) -> None:
    errors = {}
    for condition in ("fnc", "random"):
        stage = ldm_stage(condition=condition, steps=150)
        loop = replace(stage.config.loop, log_every=150, picture_every=10**6)
        state = tmp_path / f"{condition}.state"
        list(train(stage, loop, state, False, "cpu"))
        weights = trained(stage, state).part("denoiser")
        errors[condition] = stage.held_out(weights)["held_out_denoising"]
    assert errors["fnc"] < errors["random"]


def test_a_random_condition_is_another_in_every_sample() -> None:
    stage = ldm_stage(condition="random")
    drawn = [stage._draw(0, seed)[3] for seed in (1, 2)]
    assert not torch.equal(*drawn)
    assert torch.equal(drawn[0], stage._draw(0, 1)[3])


def test_what_cannot_be_meant_is_refused() -> None:
    with pytest.raises(EngineError, match=r"gmldm\.condition is 'noise'"):
        GmLdmConfig(condition="noise")
    with pytest.raises(EngineError, match="alpha is 2"):
        GmAutoencoderConfig(alpha=2.0)
    with pytest.raises(EngineError, match="Set prior_codes = 0"):
        ldm_stage(condition="random", prior_codes=1, prior_rank=2, centred=True)
    with pytest.raises(EngineError, match="at most prior_rank"):
        ldm_stage(prior_codes=3, prior_rank=2, centred=True)
    with pytest.raises(EngineError, match=r"gmldm\.centred = true"):
        ldm_stage(prior_rank=2)


def test_scans_without_connectivity_are_left_out_and_named() -> None:
    table = FncTable(("a", "b", "c"), connectivity(3), components_of(4))
    entries = tuple(
        Entry(f"sub-{name}", "", Path(), ()) for name in ("c", "x", "a", "c")
    )
    places, vectors, told = with_fnc(entries, table)
    assert places == [0, 2, 3]
    np.testing.assert_array_equal(vectors, table.vectors[[2, 0, 2]])
    assert told == "3 scans have connectivity; left out: sub-x"


def test_scans_and_rows_without_a_partner_are_told_of_the_whole_dataset() -> None:
    table = FncTable(("a", "b", "c", "d"), connectivity(4), components_of(4))
    scans = [Entry(f"sub-{name}", "", Path(), ()) for name in ("c", "x", "a")]
    told = told_of(Dataset(tuple(scans[:2]), tuple(scans[2:]), 0.0), table)
    assert told == (
        "2 scans have connectivity; 1 scans have none (sub-x); 2 rows of connectivity "
        "have no scan (b, d)."
    )


def test_gifts_file_trains_with_a_list_of_ids_and_a_session(tmp_path: Path) -> None:
    held = square(connectivity(3))
    both = np.stack([held, 0.5 * held], axis=1)
    savemat(tmp_path / "x_postprocess_results.mat", {"fnc_corrs_all": both})
    (tmp_path / "ids.txt").write_text("sub-01\nsub-02\nsub-03\n")
    data = DataConfig(
        str(tmp_path), fnc="x_postprocess_results.mat", fnc_ids="ids.txt", fnc_session=1
    )
    table = fnc_of(RunConfig("gm", "", data))
    assert table.participants == ("sub-01", "sub-02", "sub-03")
    np.testing.assert_allclose(table.vectors, 0.5 * connectivity(3), rtol=1e-6)
    entries = (Entry("sub-03", "", Path(), ()),)
    np.testing.assert_array_equal(with_fnc(entries, table)[1], table.vectors[2:])
    with pytest.raises(EngineError, match=r"2 sessions of each participant"):
        fnc_of(RunConfig("gm", "", replace(data, fnc_session=None)))
    with pytest.raises(EngineError, match=r"Set data\.fnc_ids to a text file"):
        fnc_of(RunConfig("gm", "", replace(data, fnc_ids="")))
