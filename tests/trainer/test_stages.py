"""What each stage minimises, and what it makes."""

from __future__ import annotations

import os
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.networks.nets.resnet import ResNetFeatures
from torch.distributions import Normal
from torch.distributions import kl_divergence as reference_kl

from napari_brainldm.engine.checkpoint import load_checkpoint, save_checkpoint
from napari_brainldm.engine.networks.preview import PreviewSpec
from napari_brainldm.engine.preview import CheapDecoder
from napari_brainldm.engine.renderer import Renderer
from napari_brainldm.engine.request import Conditions, EngineError, Request, Seed
from tests.trainer import toys
from tests.trainer.toys import LOOP
from trainer.config import AutoencoderConfig, PreviewConfig, load_config
from trainer.loop import Item, Training, train, trained
from trainer.stages import medicalnet as public
from trainer.stages.autoencoder import (
    AutoencoderStage,
    kl_divergence,
    middle,
    started_from,
)
from trainer.stages.features import feature_network
from trainer.stages.preview_decoder import PreviewStage

QUICK = replace(LOOP, warmup=5, ema=0.5, log_every=1, save_every=1000)


# Autoencoder --------------------------------------------------------------------------


def test_kl_is_that_of_torch():
    mean, sigma = torch.randn(3, 2, 4, 5, 6), torch.rand(3, 2, 4, 5, 6) + 0.1
    each = reference_kl(Normal(mean, sigma), Normal(0.0, 1.0))
    wanted = each.sum(dim=(1, 2, 3, 4)).mean()
    torch.testing.assert_close(kl_divergence(mean, sigma), wanted)


def test_the_middle_slice_is_coronal_and_upright():
    data = np.zeros((4, 6, 5), np.float32)
    data[0, 3, 4] = 0.5  # left, middle, top
    found = middle(data)
    assert found.shape == (5, 4)
    assert found[0, 0] == 0.5


def test_a_small_set_is_learnt(tmp_path):
    loop = replace(QUICK, steps=60, batch=1, learning_rate=5e-3)
    stage = toys.autoencoder_stage(loop, count=2, kl=1e-7)
    reports = list(train(stage, loop, tmp_path / "s", False, "cpu"))
    l1 = [r.losses["l1"] for r in reports]
    assert np.mean(l1[-5:]) < 0.3 * np.mean(l1[:3])
    assert set(reports[-1].losses) == {"l1", "kl"}
    figures = reports[-1].figures
    assert figures.keys() == {"held_out_ssim", "held_out_psnr", "held_out_l1"}
    assert figures["held_out_l1"] < np.mean(l1[:3])
    assert reports[-1].pictures["reconstruction"].shape == (24, 24)


def test_noise_and_flip_of_a_sample_are_its_own():
    """The same sample alone and in a batch; odd seeds mirror left and right."""
    stage = toys.autoencoder_stage()
    network = stage.network
    pair = [Item(0, 4), Item(1, 7)]
    losses, (x, rebuilt) = stage._generator_loss(network, pair, None, 0)
    for n, item in enumerate(pair):
        _, (alone, one) = stage._generator_loss(network, [item], None, 0)
        torch.testing.assert_close(x[n : n + 1], alone)
        torch.testing.assert_close(rebuilt[n : n + 1], one, atol=1e-5, rtol=1e-4)
    data = torch.from_numpy(stage.train.astype(np.float32))
    torch.testing.assert_close(x[0, 0], data[0])
    torch.testing.assert_close(x[1, 0], data[1].flip(0))
    assert losses["l1"].item() == pytest.approx(float((x - rebuilt).abs().mean()))


def test_the_adversary_plays_from_its_start():
    loop = replace(QUICK, batch=1)
    stage = toys.autoencoder_stage(loop, 24, adversarial=0.1, adversarial_start=3)
    training = Training(stage, loop, "cpu")

    def weights():
        return torch.cat(
            [p.detach().flatten() for p in stage.discriminator.parameters()]
        )

    start = weights()
    names = []
    for _ in range(3):
        names.append(set(training.advance()))
    assert names == [{"l1", "kl"}] * 3
    torch.testing.assert_close(weights(), start)
    found = [training.advance() for _ in range(12)]
    assert set(found[0]) == {"l1", "kl", "adversarial", "discriminator"}
    assert float((weights() - start).abs().max()) > 1e-3
    judged = [losses["discriminator"] for losses in found]
    assert np.mean(judged[-3:]) < np.mean(judged[:3])


def test_the_adversary_leaves_no_trace_in_the_checkpoint(tmp_path):
    loop = replace(QUICK, steps=2, batch=1)
    stage = toys.autoencoder_stage(loop, 24, adversarial=0.1)
    list(train(stage, loop, tmp_path / "s", False, "cpu"))
    path = tmp_path / "a.safetensors"
    save_checkpoint(trained(stage, tmp_path / "s"), path)
    found = load_checkpoint(path)
    assert found.card.kind == "autoencoder"
    assert all(key.startswith("autoencoder.") for key in found.tensors)


def test_no_held_out_subjects_are_no_figures():
    stage = toys.autoencoder_stage()
    stage.unseen = stage.unseen[:0]
    weights = stage.network.state_dict()
    assert stage.held_out(weights) == {}
    assert stage.pictures(weights) == {}


def test_a_grid_that_cannot_be_halved_gets_a_sentence():
    with pytest.raises(EngineError, match="Choose a shape of multiples of 2"):
        toys.autoencoder_stage(edge=13)


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """A trained autoencoder of pictures of 8 voxels."""
    path = tmp_path / "elsewhere.safetensors"
    save_checkpoint(toys.autoencoder_checkpoint(), path)
    return path


def test_it_begins_with_the_weights_of_another_grid(elsewhere):
    settings = AutoencoderConfig(toys.SPEC, LOOP, start=str(elsewhere))
    before, data = started_from(settings), toys.pictures(2, 12)
    stage = AutoencoderStage(settings, toys.card(12), data, data, False, before)
    assert stage.card.grid != before.card.grid
    begun = stage.network.state_dict()
    assert begun.keys() == before.part("autoencoder").keys()
    for name, value in before.part("autoencoder").items():
        assert torch.equal(begun[name], value), name
    assert started_from(AutoencoderConfig(toys.SPEC, LOOP)) is None


def test_a_start_of_another_spec_is_refused_by_what_differs(elsewhere, tmp_path):
    other = replace(toys.SPEC, channels=(4, 16), groups=2)
    settings = AutoencoderConfig(other, LOOP, start=str(elsewhere))
    differs = (
        r"its channels are \(4, 8\) and this run's \(4, 16\), "
        r"its groups are 4 and this run's 2\. Set"
    )
    with pytest.raises(EngineError, match=differs):
        started_from(settings)
    path = tmp_path / "s.safetensors"
    save_checkpoint(toys.segmenter(), path)
    with pytest.raises(EngineError, match="no autoencoder of this kind"):
        started_from(replace(settings, start=str(path)))


def test_making_a_stage_leaves_the_callers_randomness_alone():
    before = torch.random.get_rng_state()
    toys.autoencoder_stage(), toys.ldm_stage()
    assert torch.equal(torch.random.get_rng_state(), before)


# Perceptual features ------------------------------------------------------------------


@pytest.fixture(scope="module")
def medicalnet(tmp_path_factory) -> Path:
    """Random weights in MedicalNet's layout: DataParallel's prefix, a classifier."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = ResNetFeatures("resnet10", pretrained=False).state_dict()
    state = {f"module.{k}": v for k, v in weights.items()}
    state["module.fc.weight"] = torch.zeros(2, 512)
    path = tmp_path_factory.mktemp("features") / "resnet_10.pth"
    torch.save({"epoch": 3, "state_dict": state}, path)
    return path


def test_the_distance_is_zero_for_equal_pictures_and_grows(medicalnet):
    distance = feature_network(str(medicalnet))
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(1, 1, 16, 16, 16, generator=generator)
    noise = torch.randn(x.shape, generator=generator)
    assert float(distance(x, x)) == 0.0
    near, far = (float(distance(x, x + a * noise)) for a in (0.05, 0.5))
    assert 0 < near < far
    assert not any(p.requires_grad for p in distance.parameters())


def test_the_perceptual_loss_reaches_the_autoencoder(medicalnet):
    stage = toys.autoencoder_stage(QUICK, 16, perceptual=0.5, features=str(medicalnet))
    losses, _ = stage._generator_loss(stage.network, [Item(0, 2)], None, 0)
    assert float(losses["perceptual"].detach()) > 0
    losses["perceptual"].backward()
    gradients = [p.grad for p in stage.network.decoder.parameters()]
    assert any(g is not None and float(g.abs().max()) > 0 for g in gradients)
    stage.config = replace(stage.config, perceptual_start=1)
    early, _ = stage._generator_loss(stage.network, [Item(0, 2)], None, 0)
    assert "perceptual" not in early


def test_a_segmenter_serves_as_features(tmp_path):
    path = tmp_path / "segmenter.safetensors"
    save_checkpoint(toys.segmenter(), path)
    distance = feature_network(str(path))
    x = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    assert float(distance(x, x)) == 0.0
    assert 0 < float(distance(x, x + 0.01)) < float(distance(x, 1 - x))
    assert len(distance.network(x)) == 4


def test_an_autoencoder_does_not_serve_as_features(tmp_path):
    path = tmp_path / "autoencoder.safetensors"
    save_checkpoint(toys.autoencoder_checkpoint(), path)
    with pytest.raises(EngineError, match="holds no segmenter"):
        feature_network(str(path))


def test_without_the_file_there_is_a_sentence(tmp_path):
    for name in (str(tmp_path / "nowhere.pth"), str(tmp_path)):
        with pytest.raises(EngineError, match="set perceptual = 0"):
            toys.autoencoder_stage(perceptual=0.1, features=name)
    assert toys.autoencoder_stage(features="nowhere.pth").features is None


@pytest.mark.parametrize(
    "content",
    [
        {"state_dict": {"conv1.weight": torch.zeros(2)}},
        {"a": torch.zeros(1)},
        {},
        [1, 2],
        torch.zeros(3),
        {"state_dict": 5},
        {"state_dict": {"conv1.weight": "text"}},
    ],
)
def test_other_weights_are_refused(content, tmp_path):
    path = tmp_path / "other.pth"
    torch.save(content, path)
    with pytest.raises(EngineError, match="does not hold a MedicalNet ResNet"):
        feature_network(str(path))


@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04 half a zip"])
def test_a_damaged_file_is_refused(content, tmp_path):
    path = tmp_path / "broken.pth"
    path.write_bytes(content)
    with pytest.raises(EngineError, match="cannot be read as weights"):
        feature_network(str(path))


class Trap:
    """Pickled, it makes a folder when it is read."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("as_zip", [True, False])
def test_a_malicious_pickle_never_fires(as_zip, tmp_path):
    path, target = tmp_path / "trap.pth", tmp_path / "fired"
    trap = {"state_dict": {"conv1.weight": Trap(target)}}
    if as_zip:
        torch.save(trap, path)
    else:
        path.write_bytes(pickle.dumps(trap, protocol=2))
    with pytest.raises(EngineError, match="cannot be read as weights"):
        feature_network(str(path))
    assert not target.exists()
    assert public.KNOWN[0] == "resnet10"


# Latent diffusion ---------------------------------------------------------------------


def test_scaled_latents_have_unit_spread():
    stage = toys.ldm_stage()
    assert float(stage.latents.std(correction=0)) == pytest.approx(1.0, abs=1e-4)
    raw, _ = toys.planted(12)
    assert stage.card.latent_scale == pytest.approx(1 / float(raw.std()))


def test_centred_latents_have_no_mean_and_the_card_says_so(tmp_path):
    stage = toys.ldm_stage(centred=True)
    raw, _ = toys.planted(12)
    assert float(stage.latents.mean(0).abs().max()) < 1e-5
    assert stage.card.latent_scale == pytest.approx(
        1 / float((raw - raw.mean(0)).std())
    )
    checkpoint = stage.finish(stage.players[0].network.state_dict())
    np.testing.assert_allclose(checkpoint.latent_mean(), raw.mean(0), atol=1e-6)
    path = tmp_path / "ldm.safetensors"
    save_checkpoint(checkpoint, path)
    assert torch.equal(load_checkpoint(path).latent_mean(), checkpoint.latent_mean())


def test_centring_cancels_in_the_way_through_the_autoencoder():
    base = toys.autoencoder_checkpoint()
    plain = Renderer(base, "cpu", "float32")
    mean = torch.randn(
        base.card.latent_shape, generator=torch.Generator().manual_seed(0)
    )
    card = replace(base.card, latent_centred=True, latent_scale=3.0)
    tensors = {**base.tensors, "latent.mean": mean}
    centred = Renderer(replace(base, card=card, tensors=tensors), "cpu", "float32")
    picture = toys.pictures(1, 8)[0].astype(np.float32)
    wanted = plain.rebuild(picture)
    np.testing.assert_allclose(centred.rebuild(picture), wanted, atol=1e-5)


def test_a_centred_checkpoint_without_its_mean_is_refused(tmp_path):
    base = toys.autoencoder_checkpoint()
    path = tmp_path / "broken.safetensors"
    save_checkpoint(replace(base, card=replace(base.card, latent_centred=True)), path)
    with pytest.raises(EngineError, match=r"latent\.mean"):
        load_checkpoint(path)


def test_mirrored_latents_double_the_set_under_the_same_conditions():
    latents, asked = toys.planted(6)
    plain = toys.ldm_stage(count=6)
    both = type(plain)(
        plain.config, plain.checkpoint, (latents, asked), (latents, asked), -latents
    )
    assert (plain.count, both.count, both.subjects) == (6, 12, 6)
    torch.testing.assert_close(both.latents[6:], -both.latents[:6])
    torch.testing.assert_close(both.vectors[6:], both.vectors[:6])


def test_conditions_are_dropped_as_often_as_asked():
    stage = toys.ldm_stage(drop=0.25)
    drawn = [bool(stage._draw(0, seed)[3].isnan().all()) for seed in range(2000)]
    assert np.mean(drawn) == pytest.approx(0.25, abs=0.03)
    assert stage.card.denoiser.droppable
    assert not toys.ldm_stage().card.denoiser.droppable


def test_a_sample_is_drawn_from_its_seed_alone():
    stage = toys.ldm_stage(drop=0.5)
    first, second = stage._draw(3, 11), stage._draw(3, 11)
    assert all(torch.equal(a, b) for a, b in zip(first[:3], second[:3], strict=True))
    times = torch.stack([stage._draw(0, seed)[2] for seed in range(500)]).float()
    assert float(times.min()) < 20 and float(times.max()) > 980
    assert float(times.mean()) == pytest.approx(500, abs=40)


@pytest.mark.parametrize("prediction", ["epsilon", "v", "sample"])
def test_a_perfect_network_has_no_error(prediction):
    """Variance-preserving noise by alpha-bar, as the paper writes it."""
    stage = toys.ldm_stage()
    schedule = replace(stage.card.schedule, prediction=prediction)
    stage.card = replace(stage.card, schedule=schedule)
    x0, eps, t, vector = (
        torch.stack(p) for p in zip(*(stage._draw(n, n) for n in range(4)), strict=True)
    )
    betas = torch.linspace(0.0015**0.5, 0.0205**0.5, 1000, dtype=torch.float64) ** 2
    alpha_bar = torch.cumprod(1 - betas, 0)[t][:, None, None, None, None].float()
    signal, noise = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    answers = {"epsilon": eps, "v": signal * eps - noise * x0, "sample": x0}

    def perfect(x, times, conditions):
        torch.testing.assert_close(x, signal * x0 + noise * eps, atol=1e-4, rtol=1e-4)
        assert torch.equal(times, t.float())
        assert torch.equal(conditions, vector)
        return answers[prediction]

    error = stage._error(perfect, x0, eps, t, vector)
    assert error.shape == (4,)
    assert float(error.max()) < 1e-6


def test_a_planted_rule_is_learnt(tmp_path):
    """Latents are the age's code: asked for old, they rise; asked for young, fall."""
    loop = replace(QUICK, steps=250, batch=8, learning_rate=4e-3, ema=0.95)
    stage = toys.shallow_stage(loop, count=32, drop=0.1)
    reports = list(train(stage, loop, tmp_path / "s", False, "cpu"))
    path = tmp_path / "ldm.safetensors"
    save_checkpoint(trained(stage, tmp_path / "s"), path)
    renderer = Renderer(load_checkpoint(path), "cpu", "float32")
    scale = renderer.card.latent_scale

    def level(age: float) -> float:
        means = []
        for seed in range(3):
            request = Request(Conditions.of({"age": age}), Seed(seed))
            steps = [p.x0 for p in renderer.render(request) if p.x0 is not None]
            means.append(float(steps[-1].mean()) / scale)
        return float(np.mean(means))

    young, middle_aged, old = level(20), level(50), level(80)
    assert young < -0.5 and old > 0.5  # planted: -1 and 1
    assert young < middle_aged < old
    assert reports[-1].figures["held_out_denoising"] < 1.0
    assert reports[-1].pictures["sweeps"].shape == (8, 24)


def test_the_checkpoint_holds_the_readout_of_the_planted_rule(tmp_path):
    stage = toys.ldm_stage(count=40)
    path = tmp_path / "a.safetensors"
    save_checkpoint(stage.finish(stage.players[0].network.state_dict()), path)
    found = load_checkpoint(path)
    assert found.card.kind == "brain-ldm"
    latents = stage.latents.flatten(1)
    read = latents @ found.part("probe")["weight"].T + found.part("probe")["bias"]
    assert float((read - stage.vectors).abs().mean()) < 0.05


@pytest.mark.parametrize("drop", [0.0, 0.2])
def test_without_covariates_it_trains_and_renders_too(drop, tmp_path):
    loop = replace(QUICK, steps=3)
    stage = toys.ldm_stage(loop, conditional=False, drop=drop)
    reports = list(train(stage, loop, tmp_path / "s", False, "cpu"))
    path = tmp_path / "a.safetensors"
    save_checkpoint(trained(stage, tmp_path / "s"), path)
    found = load_checkpoint(path)
    assert found.card.denoiser.condition_size == 0
    assert "probe.weight" not in found.tensors
    assert reports[-1].pictures["sweeps"].shape == (8, 8)


def test_bfloat16_trains_too(tmp_path):
    loop = replace(QUICK, steps=3, precision="bf16")
    stage = toys.shallow_stage(loop)  # oneDNN is wrong for the deep one's 2 x 2 x 2
    reports = list(train(stage, loop, tmp_path / "s", False, "cpu"))
    assert np.isfinite(reports[-1].losses["denoising"])


@pytest.mark.slow
def test_the_papers_networks_train_a_step_and_sample(tmp_path, again):
    """The published sizes of all layers, on 32 x 64 x 32 voxels."""
    from trainer.stages.autoencoder import AutoencoderStage
    from trainer.stages.ldm import LdmStage

    config = load_config(Path("pinaya2022.toml"))
    grid = replace(toys.grid(32), shape=(32, 64, 32))
    loop = replace(QUICK, steps=1, batch=1, accumulate=1, warmup=0, picture_every=9)
    settings = replace(config.autoencoder, loop=loop, adversarial_start=0)
    card = replace(toys.card(32), grid=grid, autoencoder=settings.spec)
    pictures = np.random.default_rng(0).random((2, *grid.shape)).astype(np.float16)
    first = AutoencoderStage(settings, card, pictures, pictures[:1], True)
    list(train(first, loop, tmp_path / "a", False))
    base = trained(first, tmp_path / "a")
    again()
    latents = np.random.default_rng(0).standard_normal((2, *card.latent_shape))
    asked = [Conditions.of({"age": age}) for age in (30.0, 60.0)]
    data = (latents.astype(np.float32), asked)
    second = LdmStage(replace(config.ldm, loop=loop), base, data, data)
    reports = list(train(second, loop, tmp_path / "b", False))
    assert np.isfinite(reports[-1].losses["denoising"])
    assert reports[-1].pictures["sweeps"].shape == (32, 96)


# Preview decoder ----------------------------------------------------------------------


def preview_stage(loop=LOOP) -> PreviewStage:
    base = toys.autoencoder_checkpoint()
    latents = toys.planted(12)[0]
    return PreviewStage(
        PreviewConfig(PreviewSpec(16, 1), loop), base, latents[:10], latents[10:]
    )


def test_the_preview_decoder_copies_the_full_one(tmp_path):
    loop = replace(QUICK, steps=300, batch=2, learning_rate=5e-3)
    stage = preview_stage(loop)
    reports = list(train(stage, loop, tmp_path / "s", False, "cpu"))
    losses = [r.losses["l1"] for r in reports]
    assert np.mean(losses[-9:]) < 0.6 * np.mean(losses[:3])
    checkpoint = trained(stage, tmp_path / "s")
    base = toys.autoencoder_checkpoint()
    assert all(torch.equal(checkpoint.tensors[k], v) for k, v in base.tensors.items())
    latent = torch.from_numpy(toys.planted(12)[0][10:11])
    with torch.no_grad():
        full = base.autoencoder().decode(latent)
        cheap = CheapDecoder(checkpoint, "cpu").decode(latent)
    assert cheap.shape == full.shape
    assert np.corrcoef(cheap.flatten(), full.flatten())[0, 1] > 0.3


def test_half_of_the_latents_lie_between_two():
    stage = preview_stage()
    drawn = [stage._draw(3, seed) for seed in range(40)]
    own = sum(torch.equal(latent, stage.train[3]) for latent in drawn)
    assert 10 <= own <= 30
    low, high = stage.train.amin(0), stage.train.amax(0)
    assert all(bool(((low <= x) & (x <= high)).all()) for x in drawn)


def test_a_checkpoint_without_an_autoencoder_has_nothing_to_copy():
    with pytest.raises(EngineError, match="Train the stage autoencoder"):
        PreviewStage(
            PreviewConfig(), toys.segmenter(), *[np.zeros((1, 2, 4, 4, 4))] * 2
        )
