"""Claims about the Gaussian prior of the denoiser, against linear algebra."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_brainldm.engine.card import ScheduleSpec
from napari_brainldm.engine.checkpoint import load_checkpoint, save_checkpoint
from napari_brainldm.engine.diffusion import denoiser, sampling_sigmas, walk
from napari_brainldm.engine.networks.prior import GaussianPrior
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.sampling import noisy, retold
from tests.trainer import toys
from trainer.config import LdmConfig
from trainer.stages.ldm import LdmStage
from trainer.stages.prior import fit_meaning, fit_prior

SHAPE, SIZE = (2, 3, 3, 3), 54
SIGMAS = np.geomspace(0.05, 50.0, 10)
RANK = 3


@pytest.fixture(scope="module")
def planted() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((SIZE, RANK)))[0].T
    variances = np.array([30.0, 12.0, 5.0])
    slopes = rng.standard_normal((2, SIZE))
    codes = rng.uniform(size=(2500, 2))
    codes -= codes.mean(0)
    along = rng.standard_normal((2500, RANK)) * np.sqrt(variances)
    noise = 0.3 * rng.standard_normal((2500, SIZE))
    latents = codes @ slopes + along @ basis + noise
    return {
        "latents": (latents - latents.mean(0)).astype(np.float32),
        "codes": codes.astype(np.float32) + 0.4,
        "slopes": slopes,
        "variances": variances,
        "basis": basis,
    }


@pytest.fixture(scope="module")
def prior(planted) -> GaussianPrior:
    found = GaussianPrior(SHAPE, 2, RANK, len(SIGMAS))
    latents = torch.from_numpy(planted["latents"]).view(-1, *SHAPE)
    fit_prior(found, latents, torch.from_numpy(planted["codes"]), SIGMAS.tolist())
    return found


def test_the_fit_finds_what_was_planted(prior, planted):
    assert np.abs(prior.slopes.numpy() - planted["slopes"]).max() < 0.5
    assert np.allclose(prior.centre, planted["codes"].mean(0), atol=1e-5)
    assert np.allclose(prior.variances, planted["variances"], rtol=0.15)
    assert float(prior.rest) == pytest.approx(0.09, rel=0.05)
    overlap = np.abs(np.sum(prior.basis.numpy() * planted["basis"], axis=1))
    assert (overlap > 0.98).all()


@pytest.mark.parametrize("step", [0, 4, 9])
def test_it_predicts_the_posterior_mean(prior, step):
    rng = np.random.default_rng(1)
    sigma, codes = SIGMAS[step], np.array([0.1, 0.9])
    basis = prior.basis.numpy().astype(float)
    rest = float(prior.rest)
    covariance = basis.T @ np.diag(prior.variances.numpy() - rest) @ basis
    covariance += rest * np.eye(SIZE)
    mean = (codes - prior.centre.numpy()) @ prior.slopes.numpy()
    x = mean + rng.standard_normal(SIZE) * (1 + sigma)
    gain = covariance @ np.linalg.inv(covariance + sigma**2 * np.eye(SIZE))
    clean = mean + gain @ (x - mean)
    noise = (x - clean) / sigma
    wanted = (noise - sigma * clean) / np.sqrt(1 + sigma**2)  # v, Salimans & Ho 2022
    given = torch.tensor(x / np.sqrt(1 + sigma**2), dtype=torch.float32)
    found = prior(
        given.view(1, *SHAPE),
        torch.tensor([float(step)]),
        torch.tensor(codes, dtype=torch.float32)[None],
    )
    assert np.allclose(found.flatten(), wanted, atol=2e-3)


def test_noisy_latents_have_the_mean_and_the_spread_of_the_gaussian(prior):
    sigma, codes = 6.0, torch.tensor([[0.1, 0.9]])
    noise = torch.randn(4000, *SHAPE, generator=torch.Generator().manual_seed(0))
    x = prior.noisy(noise, sigma, codes).flatten(1)
    mean = (codes - prior.centre) @ prior.slopes
    assert float((x.mean(0) - mean).abs().max()) < 5 * 9 / 4000**0.5
    along = (x - mean) @ prior.basis.T
    assert torch.allclose(along.var(0), prior.variances + 36, rtol=0.1)
    rest = (x - mean - along @ prior.basis).square().sum() / 4000 / (SIZE - RANK)
    assert float(rest) == pytest.approx(float(prior.rest) + 36, rel=0.02)
    back = prior.noise_of(x.view_as(noise), sigma, codes)
    assert torch.allclose(back, noise, atol=1e-4)


def test_samples_of_the_prior_alone_are_the_gaussian_under_its_conditions(prior):
    """A sampler that began with pure noise would lose a good part of the mean."""
    schedule = ScheduleSpec(prediction="v").build()
    own = GaussianPrior(SHAPE, 2, RANK, len(schedule.sigmas))
    levels = torch.tensor(sorted(schedule.sigmas), dtype=torch.float32)
    variances = torch.tensor([3000.0, 1200.0, 50.0])
    own.load_state_dict(
        {**prior.state_dict(), "sigmas": levels, "variances": variances}
    )
    codes = torch.tensor([[0.1, 0.9]])
    sigmas = sampling_sigmas(schedule, 60, "trailing")
    noise = torch.randn(600, *SHAPE, generator=torch.Generator().manual_seed(1))
    x = own.noisy(noise, sigmas[0], codes)
    predict = denoiser(lambda x, t: own(x, t, codes), schedule, "v")
    for step in walk(predict, x, sigmas):
        x = step.x
    mean = (codes - own.centre) @ own.slopes
    along = (x.flatten(1) - mean) @ own.basis.T
    assert torch.allclose(along.var(0), variances, rtol=0.2)
    assert (along.mean(0).abs() < 4 * (variances / 600).sqrt()).all()


@pytest.fixture(scope="module")
def coded(prior) -> GaussianPrior:
    """The same, and a code of two numbers that tells half of the variance."""
    found = GaussianPrior(SHAPE, 2, RANK, len(SIGMAS), code_size=2)
    told = {
        "meaning.weight": torch.tensor([[1.0, 0.0], [0.5, -1.0], [0.0, 0.2]]),
        "meaning.bias": torch.tensor([0.1, 0.0, 0.0]),
        "left": torch.zeros(RANK),
    }
    found.load_state_dict({**prior.state_dict(), **told})
    return found.requires_grad_(False)


CODE = torch.tensor([[0.8, -1.5]])


def place(coded: GaussianPrior) -> np.ndarray:
    """Where the code puts the latents along the basis (rank,)."""
    said = coded.meaning.weight.numpy() @ CODE[0].numpy() + coded.meaning.bias.numpy()
    return said * np.sqrt(coded.variances.numpy())


@pytest.mark.parametrize("step", [0, 4, 9])
def test_a_code_takes_the_prediction_to_its_posterior_mean(coded, step):
    rng, sigma = np.random.default_rng(2), SIGMAS[step]
    basis, rest = coded.basis.numpy().astype(float), float(coded.rest)
    half = coded.variances.numpy() / 2
    covariance = basis.T @ np.diag(half - rest) @ basis + rest * np.eye(SIZE)
    mean = place(coded) @ basis
    x = mean + rng.standard_normal(SIZE) * (1 + sigma)
    gain = covariance @ np.linalg.inv(covariance + sigma**2 * np.eye(SIZE))
    clean = mean + gain @ (x - mean)
    wanted = ((x - clean) / sigma - sigma * clean) / np.sqrt(1 + sigma**2)
    given = torch.tensor(x / np.sqrt(1 + sigma**2), dtype=torch.float32)
    given, t = given.view(1, *SHAPE), torch.tensor([float(step)])
    found = coded(given, t, None) - coded.gradient(given, t, CODE)
    assert np.allclose(found.flatten(), wanted, atol=2e-3)


def test_a_code_narrows_where_sampling_begins(coded):
    noise = torch.randn(4000, *SHAPE, generator=torch.Generator().manual_seed(0))
    x = coded.noisy(noise, 6.0, None, CODE)
    along = x.flatten(1) @ coded.basis.T
    assert np.allclose(along.mean(0), place(coded), atol=5 * 9 / 4000**0.5)
    assert torch.allclose(along.var(0), coded.variances / 2 + 36, rtol=0.1)
    assert torch.allclose(coded.noise_of(x, 6.0, None, CODE), noise, atol=1e-4)


def test_noise_told_a_code_begins_where_it_did(coded):
    network = torch.nn.Module()
    network.prior = coded
    noise = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    told = retold(network, noise, 6.0, CODE)
    assert not torch.allclose(told, noise, atol=0.1)
    begun = noisy(network, told, 6.0, None, CODE)
    assert torch.allclose(begun, noisy(network, noise, 6.0, None), atol=1e-4)


def test_what_codes_tell_of_the_latents_is_found(prior):
    """A code that places latents along two directions of three, and noise beside it."""
    found = GaussianPrior(SHAPE, 0, RANK, len(SIGMAS), code_size=4)
    own = {k: v for k, v in prior.state_dict().items() if k not in ("slopes", "centre")}
    found.load_state_dict({**found.state_dict(), **own})
    rng = np.random.default_rng(3)
    along = rng.standard_normal((400, RANK))
    codes = rng.standard_normal((400, 4))
    codes[:, 0] = along[:, 0]
    codes[:, 1] = 2 * (along[:, 1] + rng.standard_normal(400)) + 5  # half of it
    latents = along * found.variances.sqrt().numpy() @ found.basis.numpy()
    latents = torch.from_numpy(latents).float().view(-1, *SHAPE)
    fit_meaning(found, torch.from_numpy(codes).float(), latents)
    share = torch.sigmoid(found.left.detach())
    assert float(share[0]) == pytest.approx(0.02, abs=1e-3)  # the least
    assert float(share[1]) == pytest.approx(0.5, abs=0.1)  # 400 people
    assert float(share[2]) > 0.95
    place = found.requires_grad_(False).meaning(
        torch.tensor([[0.0, 5.0, 0.0, 0.0], [0.0, 7.0, 0.0, 0.0]])
    )
    assert float(place[0, 1]) == pytest.approx(0.0, abs=0.1)
    assert float(place[1, 1] - place[0, 1]) == pytest.approx(0.5, abs=0.1)


def test_a_code_that_was_never_learned_says_nothing(prior):
    fresh = GaussianPrior(SHAPE, 2, RANK, len(SIGMAS), code_size=2)
    fresh.load_state_dict({**fresh.state_dict(), **prior.state_dict()})
    x = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([4.0])
    with torch.no_grad():
        both = [fresh.gradient(x, t, c) for c in (CODE, 2 * CODE)]
    assert torch.equal(*both)


def test_dropped_conditions_leave_the_mean_where_it_is(prior):
    x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([3.0, 7.5])
    dropped = prior(x, t, torch.full((2, 2), torch.nan))
    assert torch.equal(dropped, prior(x, t, None))
    middle = prior(x, t, prior.centre.expand(2, -1))
    assert torch.allclose(dropped, middle, atol=1e-6)


def test_timesteps_mean_the_noise_that_the_schedule_says():
    schedule = ScheduleSpec(prediction="v").build()
    prior = GaussianPrior(SHAPE, 2, RANK, len(schedule.sigmas))
    prior.sigmas = torch.tensor(sorted(schedule.sigmas), dtype=torch.float32)
    levels = np.geomspace(min(schedule.sigmas), max(schedule.sigmas), 37)
    steps = torch.tensor([schedule.timestep(level) for level in levels])
    assert np.allclose(prior._sigma(steps), levels, rtol=1e-3)


def test_the_denoiser_starts_from_the_prior_and_keeps_it(tmp_path):
    without = toys.ldm_stage(centred=True)
    stage = toys.ldm_stage(centred=True, prior_rank=2)
    first, second = (
        s.held_out(s.players[0].network.state_dict())["held_out_denoising"]
        for s in (without, stage)
    )
    assert second < 0.7 * first  # the planted age is all there is to know
    checkpoint = stage.finish(stage.players[0].network.state_dict())
    path = tmp_path / "ldm.safetensors"
    save_checkpoint(checkpoint, path)
    x = torch.randn(
        1, *checkpoint.card.latent_shape, generator=torch.Generator().manual_seed(0)
    )
    t, age = torch.tensor([500.0]), torch.tensor([[0.9]])
    with torch.no_grad():
        before = checkpoint.denoiser()(x, t, age)
        after = load_checkpoint(path).denoiser()(x, t, age)
    assert torch.equal(before, after)


def test_sixteen_bits_are_enough_for_it(prior):
    half = GaussianPrior(SHAPE, 2, RANK, len(SIGMAS))
    half.load_state_dict({k: v.half().float() for k, v in prior.state_dict().items()})
    x = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0))
    t, codes = torch.tensor([0.0, 3.0, 6.0, 9.0]), torch.full((4, 2), 0.3)
    exact, rounded = prior(x, t, codes), half(x, t, codes)
    assert float((exact - rounded).norm() / exact.norm()) < 5e-3


def test_a_rank_beyond_the_training_set_is_refused():
    with pytest.raises(EngineError, match="12 training latents allow 1 to 11"):
        toys.ldm_stage(centred=True, prior_rank=12)


@pytest.mark.parametrize(
    "settings",
    [
        LdmConfig(toys.DEEP, ScheduleSpec(prediction="v"), prior_rank=2),
        LdmConfig(
            toys.DEEP, ScheduleSpec(prediction="epsilon"), centred=True, prior_rank=2
        ),
    ],
)
def test_a_prior_that_does_not_fit_the_run_is_refused(settings):
    data = toys.planted(6)
    base = toys.autoencoder_checkpoint()
    with pytest.raises(EngineError, match="prior_rank is 2, which needs"):
        LdmStage(settings, base, data, data)
