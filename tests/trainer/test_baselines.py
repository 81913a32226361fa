"""Readers of age and sex, and the GANs that a brain LDM is held against."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from napari_brainldm.engine.card import Card, Covariate
from napari_brainldm.engine.checkpoint import load_checkpoint, save_checkpoint
from napari_brainldm.engine.networks.generator import GeneratorSpec
from napari_brainldm.engine.networks.reader import ReaderSpec
from napari_brainldm.engine.renderer import Renderer
from napari_brainldm.engine.request import EngineError
from tests.trainer.toys import AGE, LOOP, autoencoder_checkpoint, grid, pictures
from trainer.baseline_config import LsganConfig, ReaderConfig, VaeganConfig
from trainer.loop import Item, train, trained
from trainer.stages.gan import (
    GanPictures,
    LsganStage,
    VaeganStage,
    drawn,
    prior_distance,
)
from trainer.stages.reader import ReaderStage, Told, agreement_of, read

SEX = Covariate("sex", "Sex", reference="F", categories=("F", "M"))
SHORT = replace(LOOP, steps=80, batch=4, learning_rate=5e-3, warmup=2, log_every=80)


def card(kind):
    return Card(kind, "Toy", grid(8))


# Readers ------------------------------------------------------------------------------


def aged(count, seed):
    """Pictures (count, 8, 8, 8) whose brightness is the age, 20 to 80 years."""
    rng = np.random.default_rng(seed)
    ages = rng.uniform(20, 80, count)
    found = rng.uniform(0, 0.2, (count, 8, 8, 8)) + ages[:, None, None, None] / 100
    return found.astype(np.float16), tuple(float(age) for age in ages)


def reader_stage(name, covariate, train_set, held_out, loop=SHORT):
    config = ReaderConfig((4, 8), 1, loop)
    return ReaderStage(
        name, config, card("reader"), covariate, train_set, held_out, True
    )


def walked(stage, loop, folder):
    """Train, save, load: the last report and the checkpoint."""
    *_, last = train(stage, loop, folder / "s", False, "cpu")
    path = folder / f"{stage.name}.safetensors"
    save_checkpoint(trained(stage, folder / "s"), path)
    return last, load_checkpoint(path)


def test_a_planted_age_is_read_off_unseen_pictures(tmp_path, one_thread):
    train_set, held_out = Told(*aged(24, 0)), Told(*aged(16, 1))
    stage = reader_stage("brain_age", AGE, train_set, held_out)
    last, found = walked(stage, SHORT, tmp_path)
    assert last.figures["age_r"] > 0.9
    assert last.figures["age_mae"] < 10
    assert found.card.kind == "reader"
    said = read(found, held_out.pictures, "cpu")
    assert np.corrcoef(said, held_out.values)[0, 1] == pytest.approx(
        last.figures["age_r"], abs=1e-3
    )
    truth = np.array(held_out.values)
    assert np.abs(said - truth).mean() == pytest.approx(
        last.figures["age_mae"], abs=0.1
    )


def test_a_planted_sex_is_read_off_unseen_pictures(tmp_path, one_thread):
    sides = []
    for seed in (0, 1):
        data, ages = aged(24, seed)
        sides.append(Told(data, tuple("M" if age > 50 else "F" for age in ages)))
    last, found = walked(reader_stage("sex", SEX, *sides), SHORT, tmp_path)
    assert last.figures["sex_accuracy"] > 0.85
    said = read(found, sides[1].pictures, "cpu")
    assert 0 <= said.min() < 0.5 < said.max() <= 1


def test_what_a_reader_minimises():
    data, ages = aged(6, 0)
    stage = reader_stage("brain_age", AGE, Told(data, ages), Told(data, ages))
    network = stage.players[0].network.eval()
    items = [Item(2, 4), Item(5, 7)]
    losses, _ = stage._loss(network, items, None, 0)
    x = torch.stack([stage._sample(item.index, item.seed) for item in items])
    code = (np.array(ages)[[2, 5]] - np.mean(ages)) / np.std(ages)
    wanted = np.abs(network(x).detach().numpy() - code).mean()
    assert losses["age"].item() == pytest.approx(wanted, rel=1e-4)


def test_samples_are_moved_and_mirrored_by_their_own_seed():
    data = np.zeros((1, 8, 8, 8), np.float16)
    data[0, 2, 4, 4] = 1
    told = Told(data, (50.0,))
    stage = reader_stage("brain_age", AGE, Told(data.repeat(2, 0), (40.0, 60.0)), told)
    places = {tuple(stage._sample(0, s)[0].nonzero()[0].tolist()) for s in range(60)}
    sides = {place[0] for place in places}
    assert sides == {1, 2, 3} | {4, 5, 6}  # moved by 1 at most, mirrored to 5
    assert torch.equal(stage._sample(0, 9), stage._sample(0, 9))


def test_right_categories_are_counted():
    spec = ReaderSpec((8, 8, 8), (4,), "sex", ("F", "M"))
    found = agreement_of(spec, np.array([0.2, 0.7, 0.9]), ["F", "F", "M"])
    assert found == {"sex_accuracy": pytest.approx(2 / 3)}


def test_three_categories_or_too_few_voxels_are_refused():
    told = Told(*aged(4, 0))
    three = Covariate("group", "Group", categories=("a", "b", "c"))
    with pytest.raises(EngineError, match="group cannot be read"):
        reader_stage("brain_age", three, told, told)
    config = ReaderConfig((2, 2, 2, 2), 1, LOOP)
    with pytest.raises(EngineError, match="at least 16 along every axis"):
        ReaderStage("brain_age", config, card("reader"), AGE, told, told, False)


def test_only_a_reader_reads():
    with pytest.raises(EngineError, match="no reader and no generator"):
        read(autoencoder_checkpoint(), [], "cpu")
    with pytest.raises(EngineError, match="no autoencoder"):
        Renderer(checkpoint_of(LsganStage), "cpu").rebuild(np.zeros((8, 8, 8), "f4"))


# GANs ---------------------------------------------------------------------------------

SMALL = {"noise": 6, "channels": (8, 4), "critic": (4, 8)}


def gan(kind, loop=SHORT, **settings):
    config = {LsganStage: LsganConfig, VaeganStage: VaeganConfig}[kind]
    data = pictures(6, 8)
    return kind(config(**SMALL, loop=loop, **settings), card("gan"), data, True)


def checkpoint_of(kind):
    stage = gan(kind)
    return stage.finish(stage.players[0].network.state_dict())


ITEMS = [Item(0, 4), Item(3, 7)]


def test_least_squares_on_either_side():
    """Generator to 1; discriminator real to 1 and made to 0 (Mao 2017, equation 9)."""
    stage = gan(LsganStage)
    generator, critic = (player.network for player in stage.players)
    losses, pair = stage._loss(generator, ITEMS, None, 0)
    fake = generator(torch.cat([drawn(stage.spec, 4), drawn(stage.spec, 7)]))
    judged = critic(fake).detach()
    assert losses["generator"].item() == pytest.approx(
        0.5 * float(((judged - 1) ** 2).mean()), rel=1e-5
    )
    rival, _ = stage._rival_loss(critic, ITEMS, pair, 0)
    real = torch.from_numpy(np.stack([stage.train[0], stage.train[3][::-1]])).float()
    torch.testing.assert_close(pair[0][:, 0], real)
    wanted = 0.5 * ((critic(real[:, None]) - 1) ** 2).mean() + 0.5 * (judged**2).mean()
    assert rival["discriminator"].item() == pytest.approx(wanted.item(), rel=1e-5)


def test_both_players_learn_and_the_generator_alone_is_kept(tmp_path, one_thread):
    loop = replace(SHORT, steps=4, log_every=1)
    for kind in (LsganStage, VaeganStage):
        stage = gan(kind, loop)
        before = [
            torch.cat([p.detach().flatten() for p in player.network.parameters()])
            for player in stage.players
        ]
        _, found = walked(stage, loop, tmp_path / stage.name)
        for player, old in zip(stage.players, before, strict=True):
            new = torch.cat([p.detach().flatten() for p in player.network.parameters()])
            assert float((new - old).abs().max()) > 1e-3
        assert found.card.kind == "gan"
        wanted = GeneratorSpec((8, 8, 8), 6, (8, 4)).build().state_dict()
        assert set(found.tensors) == {f"network.{key}" for key in wanted}


def test_a_picture_is_its_seeds_alone():
    model = GanPictures(checkpoint_of(VaeganStage), "cpu")
    first = model.picture(3)
    assert first.shape == (8, 8, 8)
    assert 0 <= first.min() <= first.max() <= 1
    np.testing.assert_array_equal(first, model.picture(3))
    assert np.abs(first - model.picture(4)).max() > 0


def test_the_posteriors_distance_is_that_of_torch():
    mean, log_variance = torch.randn(3, 5), torch.randn(3, 5)
    each = kl_divergence(Normal(mean, (0.5 * log_variance).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(prior_distance(mean, log_variance), each.sum(1).mean())


def test_a_vae_gan_is_pulled_to_the_pictures(tmp_path, one_thread):
    """Without deception its likeness alone makes pictures like those it has seen."""
    loop = replace(SHORT, steps=120)
    stage = gan(VaeganStage, loop, adversarial=0.0, likeness=30.0)
    mean = stage.train.astype(np.float32).mean(0)

    def distance(checkpoint):
        model = GanPictures(checkpoint, "cpu")
        return np.mean([np.abs(model.picture(n) - mean).mean() for n in range(6)])

    before = distance(stage.finish(stage.players[0].network.state_dict()))
    last, found = walked(stage, loop, tmp_path)
    assert distance(found) < 0.7 * before
    assert set(last.losses) == {"likeness", "kl", "generator", "discriminator"}
    assert last.pictures["samples"].shape == (8, 32)
    assert last.figures["spread"] > 0


def test_a_grid_that_cannot_be_halved_is_refused():
    config = LsganConfig(6, (8, 4, 4, 4), (4,))
    with pytest.raises(EngineError, match="multiples of 16"):
        LsganStage(config, card("gan"), pictures(2, 8), False)


def test_no_gan_no_pictures():
    data = Told(*aged(4, 0))
    stage = reader_stage("brain_age", AGE, data, data)
    reader = stage.finish(stage.players[0].network.state_dict())
    with pytest.raises(EngineError, match="holds no generator of a GAN"):
        GanPictures(reader, "cpu")
