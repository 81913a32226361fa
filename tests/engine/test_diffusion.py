"""The walk against closed forms and against a public library's schedulers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMInverseScheduler,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
)

from napari_brainldm.engine import diffusion
from napari_brainldm.engine.card import ScheduleSpec
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.sampling import inverted
from tests.tiny import tiny_checkpoint

SHAPE = (1, 2, 3, 4, 5)
BETAS = {"beta_start": 0.0015, "beta_end": 0.0205}
PUBLIC = {"num_train_timesteps": 1000, **BETAS, "clip_sample": False}


def scaled() -> diffusion.Schedule:
    return diffusion.scaled_linear(1000, **BETAS)


def network(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """Some smooth nonlinear prediction that depends on x and t."""
    return torch.tanh(0.7 * x) + 0.3 * torch.sin(t / 150.0)[:, None, None, None, None]


def gaussian(mean: float, sd: float) -> diffusion.Denoise:
    """The exact denoiser of data drawn from N(mean, sd^2)."""

    def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
        return (x * sd**2 + mean * sigma**2) / (sd**2 + sigma**2)

    return denoise


def last(steps) -> torch.Tensor:
    return list(steps)[-1].x


@pytest.mark.parametrize("kind", ["linear", "scaled_linear"])
def test_schedule_equals_the_public_library(kind):
    ours = getattr(diffusion, kind)(1000, 1e-4, 2e-2)
    public = DDPMScheduler(
        1000, beta_start=1e-4, beta_end=2e-2, beta_schedule=kind
    ).alphas_cumprod.numpy()
    sigma = np.array(ours.sigmas)[::-1]
    np.testing.assert_allclose(1 / (1 + sigma**2), public, rtol=2e-5)


def test_timestep_is_the_inverse_of_the_table():
    schedule = scaled()
    visited = (999, 500, 20, 1, 0)
    found = [schedule.timestep(sigma) for sigma in schedule.at(visited)]
    np.testing.assert_allclose(found, visited, atol=1e-6)


def public_walk(scheduler, x, **step_options):
    for t in scheduler.timesteps:
        out = network(x, torch.full((1,), float(t)))
        x = scheduler.step(out, t, x, **step_options).prev_sample
        yield x


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize(("steps", "spacing"), [(50, "leading"), (10, "trailing")])
def test_ddim_equals_the_public_library_step_for_step(prediction, steps, spacing):
    scheduler = DDIMScheduler(
        **PUBLIC,
        beta_schedule="scaled_linear",
        set_alpha_to_one=True,
        prediction_type=prediction,
        timestep_spacing=spacing,
    )
    scheduler.set_timesteps(steps)
    noise = diffusion.noise(SHAPE[1:], 3)
    schedule = scaled()
    sigmas = diffusion.sampling_sigmas(schedule, steps, spacing)
    denoise = diffusion.denoiser(network, schedule, prediction.split("_")[0])
    ours = diffusion.walk(denoise, noise * diffusion.vp_scale(sigmas[0]), sigmas)
    for step, public, sigma in zip(
        ours, public_walk(scheduler, noise), sigmas[1:], strict=True
    ):
        torch.testing.assert_close(
            step.x / diffusion.vp_scale(sigma), public, rtol=2e-4, atol=2e-4
        )


def test_ddpm_with_all_steps_equals_the_public_library():
    """Same noise fed to both: 1000 ancestral steps agree throughout."""
    schedule = scaled()
    scheduler = DDPMScheduler(
        **PUBLIC, beta_schedule="scaled_linear", variance_type="fixed_small"
    )
    scheduler.set_timesteps(1000)
    fresh = torch.Generator().manual_seed(5)
    x_public = x = diffusion.noise(SHAPE[1:], 3)
    for t in scheduler.timesteps:
        out = network(x_public, torch.full((1,), float(t)))
        x_public = scheduler.step(out, t, x_public, generator=fresh).prev_sample
    sigmas = diffusion.sampling_sigmas(schedule, 1000)
    denoise = diffusion.denoiser(network, schedule, "epsilon")
    ours = last(
        diffusion.walk(
            denoise,
            x * diffusion.vp_scale(sigmas[0]),
            sigmas,
            eta=1.0,
            generator=torch.Generator().manual_seed(5),
        )
    )
    torch.testing.assert_close(ours, x_public, rtol=2e-3, atol=2e-3)


def test_dpm_solver_equals_the_public_library():
    scheduler = DPMSolverMultistepScheduler(
        num_train_timesteps=1000,
        **BETAS,
        beta_schedule="scaled_linear",
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
        final_sigmas_type="zero",
        lower_order_final=True,
        timestep_spacing="trailing",
    )
    scheduler.set_timesteps(20)
    schedule = scaled()
    sigmas = diffusion.sampling_sigmas(schedule, 20)
    assert [int(t) for t in scheduler.timesteps] == list(
        diffusion.timesteps(1000, 20, "trailing")
    )
    noise = diffusion.noise(SHAPE[1:], 3)
    *_, public = public_walk(scheduler, noise)
    denoise = diffusion.denoiser(network, schedule, "epsilon")
    ours = last(
        diffusion.multistep(denoise, noise * diffusion.vp_scale(sigmas[0]), sigmas)
    )
    torch.testing.assert_close(ours, public, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("solver", "steps", "spacing", "tolerance"),
    [
        (diffusion.walk, 1000, "trailing", 0.01),
        (diffusion.multistep, 1000, "trailing", 0.004),
        (diffusion.multistep, 15, "karras", 0.05),
    ],
)
def test_gaussian_data_are_reached_from_noise(solver, steps, spacing, tolerance):
    """The probability-flow ODE of Gaussian data has a closed form.

    x(0) = mean + sd * (x(T) - mean) / sqrt(sd^2 + sigma_T^2).
    """
    mean, sd = 0.4, 0.5
    sigmas = diffusion.sampling_sigmas(scaled(), steps, spacing)
    x = sigmas[0] * torch.linspace(-2, 2, 60).reshape(1, 1, 3, 4, 5)
    exact = mean + sd * (x - mean) / math.sqrt(sd**2 + sigmas[0] ** 2)
    found = last(solver(gaussian(mean, sd), x, sigmas))
    assert (found - exact).abs().max() < tolerance


def test_ancestral_sampling_gives_the_distribution_of_the_data():
    sigmas = diffusion.sampling_sigmas(scaled(), 1000)
    generator = torch.Generator().manual_seed(0)
    x = sigmas[0] * torch.randn((1, 1, 20, 20, 20), generator=generator)
    found = last(
        diffusion.walk(gaussian(0.4, 0.5), x, sigmas, eta=1.0, generator=generator)
    )
    assert abs(float(found.mean()) - 0.4) < 0.03
    assert abs(float(found.std()) - 0.5) < 0.03


def test_inversion_then_sampling_returns_the_latent():
    schedule = scaled()
    denoise = gaussian(0.1, 1.0)
    sigmas = diffusion.sampling_sigmas(schedule, 1000)
    latent = diffusion.noise(SHAPE[1:], 9)
    up = diffusion.inversion_sigmas(sigmas, schedule)
    noisy = last(diffusion.walk(denoise, latent, up))
    assert noisy.std() > 5  # it really went up
    back = last(diffusion.walk(denoise, noisy, sigmas))
    torch.testing.assert_close(back, latent, rtol=0.02, atol=0.02)


def test_a_latent_that_is_retraced_comes_back_in_few_steps():
    schedule, denoise = scaled(), gaussian(0.1, 1.0)
    sigmas = diffusion.sampling_sigmas(schedule, 12)
    up = diffusion.inversion_sigmas(sigmas, schedule)
    latent = diffusion.noise(SHAPE[1:], 9)
    errors = []
    for rounds in (0, 2, 40):
        noisy = last(diffusion.retraced(denoise, latent, up, rounds))
        back = last(diffusion.walk(denoise, noisy, sigmas))
        errors.append(float((back - latent).abs().max()))
    plain = last(diffusion.walk(denoise, latent, up))
    unrefined = last(diffusion.retraced(denoise, latent, up, 0))
    torch.testing.assert_close(unrefined, plain)
    assert errors[1] < 0.5 * errors[0]
    assert errors[2] < 1e-3 < errors[0]


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
@pytest.mark.parametrize(("sd", "error"), [(1.0, 3e-4), (0.5, 4e-3)])
def test_a_latent_comes_back_from_its_noise_whatever_the_spacing(spacing, sd, error):
    card = replace(tiny_checkpoint().card, schedule=ScheduleSpec(spacing=spacing))
    schedule, denoise = card.schedule.build(), gaussian(0.1, sd)
    sigmas = diffusion.sampling_sigmas(schedule, 50, spacing)
    latent = sd * diffusion.noise(SHAPE[1:], 9).double()
    up = diffusion.inversion_sigmas(sigmas, schedule)
    noisy = last(inverted(denoise, latent, up, card))
    back = last(diffusion.walk(denoise, noisy, sigmas))
    assert float((back - latent).norm() / latent.norm()) < error


def test_inversion_equals_the_public_library():
    """Its inverse scheduler visits t - n while ours visits t: compare on its table."""
    scheduler = DDIMInverseScheduler(
        **PUBLIC, beta_schedule="scaled_linear", set_alpha_to_one=False
    )
    scheduler.set_timesteps(50)
    schedule = scaled()
    visited = [int(t) for t in scheduler.timesteps]
    x = diffusion.noise(SHAPE[1:], 4)
    *_, public = public_walk(scheduler, x)
    up = schedule.at([max(t - 20, 0) for t in visited] + [visited[-1]])
    denoise = diffusion.denoiser(
        lambda z, t: network(z, _label(visited, t)), schedule, "epsilon"
    )
    ours = last(diffusion.walk(denoise, x * diffusion.vp_scale(up[0]), up))
    ours = ours / diffusion.vp_scale(up[-1])
    assert (ours - public).norm() / public.norm() < 0.05


def _label(visited: list[int], t: torch.Tensor) -> torch.Tensor:
    """The timestep the public scheduler hands its network for the level `t`."""
    nearest = min(visited, key=lambda v: abs(max(v - 20, 0) - float(t[0])))
    return torch.full_like(t, float(nearest))


def test_guidance_of_one_changes_nothing_and_more_moves_away():
    one, other = gaussian(1.0, 0.5), gaussian(0.0, 0.5)
    x = diffusion.noise(SHAPE[1:], 0)
    torch.testing.assert_close(
        diffusion.guided(one, other, 1.0)(x, 2.0), one(x, 2.0), rtol=1e-6, atol=1e-6
    )
    further = diffusion.guided(one, other, 3.0)(x, 2.0) - other(x, 2.0)
    torch.testing.assert_close(further, 3 * (one(x, 2.0) - other(x, 2.0)))


@pytest.mark.parametrize("prediction", ["epsilon", "v", "sample"])
def test_the_training_target_is_what_recovers_x0(prediction):
    x0, eps = diffusion.noise(SHAPE[1:], 1), diffusion.noise(SHAPE[1:], 2)
    out = diffusion.target(prediction, x0, eps, torch.tensor(1.7))
    found = diffusion.to_x0(prediction, x0 + 1.7 * eps, out, 1.7)
    torch.testing.assert_close(found, x0, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("steps", [0, 1001])
def test_too_many_or_no_steps_are_refused_in_a_sentence(steps):
    with pytest.raises(EngineError, match=r"takes 1 to 1000\. Choose"):
        diffusion.sampling_sigmas(scaled(), steps)
