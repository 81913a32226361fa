"""Every output of a parity set of LDAE, of its training checkpoints, of its framing."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from napari_brainldm.engine import diffusion
from napari_brainldm.engine.codes import lerp, slerp
from trainer.stages import representation

if TYPE_CHECKING:
    from napari_brainldm.engine.diffusion import Denoise, Schedule
    from tests.parity.sets import Opened


@torch.no_grad()
def outputs(set_: Opened) -> dict[str, Tensor]:
    """By name, computed with the product's networks and walk."""
    io, codes = set_.io, _codes(set_)
    means = {side: codes[f"vae.out.z_mu_{side}"] for side in "ab"}
    scale = set_.checkpoint.card.latent_scale
    latents = {side: mean * scale for side, mean in means.items()}
    meanings = {side: codes[f"enc.out.y_sem_{side}"] for side in "ab"}
    both = torch.cat(list(latents.values())), torch.cat(list(meanings.values()))
    eps, gradient = set_.checkpoint.denoiser().both(
        both[0], io["decoder.in.timesteps"], both[1]
    )
    plain = set_.checkpoint.denoiser()(both[0], io["decoder.in.timesteps"])
    found = codes | {
        "decoder.out.eps": eps,
        "decoder.out.gradient": gradient,
        "unet.out.eps": plain,
    }
    found |= _schedules(set_) | _losses(set_, *both)
    found |= _samples(set_, both[1])
    return found | _inverted(set_, latents, meanings)


def _codes(set_: Opened) -> dict[str, Tensor]:
    network, encoder = set_.checkpoint.autoencoder(), set_.checkpoint.semantic_encoder()
    found: dict[str, Tensor] = {}
    for side in "ab":
        picture = set_.io[f"in.image_{side}"]
        mean, sigma = network.encode(picture)
        slices = encoder.slices(picture)
        placed = encoder.positional_encoding(slices)
        found |= {
            f"vae.out.z_mu_{side}": mean,
            f"vae.out.z_sigma_{side}": sigma,
            f"vae.out.reconstruction_{side}": network.decode(mean),
            f"enc.out.slice_features_{side}": slices,
            f"enc.out.soft_attention_weights_{side}": encoder.soft_attention.weights(
                placed
            ),
            f"enc.out.pooled_query_{side}": encoder.soft_attention(placed),
            f"enc.out.y_sem_{side}": encoder(picture),
        }
    return found


def _schedules(set_: Opened) -> dict[str, Tensor]:
    spec = set_.checkpoint.card.schedule
    schedule = spec.build()
    alpha_bar = 1 / (1 + torch.tensor(schedule.sigmas[::-1], dtype=torch.float64) ** 2)
    found = {
        "schedule.alphas_cumprod": alpha_bar,
        "schedule.weight": representation.weights_at(_levels(schedule)),
        "schedule.shift_coef": _gradient_coefficients(schedule),
    }
    for count in _counts(set_):
        visited = diffusion.timesteps(spec.steps, count, spec.spacing)[::-1]
        kept = alpha_bar[list(visited)]
        before = torch.cat([torch.ones(1), kept[:-1]])
        found[f"schedule.ddim{count}.timestep_map"] = torch.tensor(visited)
        found[f"schedule.ddim{count}.betas"] = 1 - kept / before
    return found


def _counts(set_: Opened) -> list[int]:
    found = map(re.compile(r"(?:schedule\.)?ddim(\d+)\.").match, set_.io)
    return sorted({int(match.group(1)) for match in found if match})


def _losses(set_: Opened, z: Tensor, meaning: Tensor) -> dict[str, Tensor]:
    schedule, network = (
        set_.checkpoint.card.schedule.build(),
        set_.checkpoint.denoiser(),
    )
    t, noise = set_.io["train.in.t"], set_.io["train.in.noise"]
    sigma = torch.tensor(schedule.at(t.tolist())).view(-1, 1, 1, 1, 1)
    x = ((z + sigma * noise) / (1 + sigma**2).sqrt()).float()
    eps, gradient = network.both(x, t, meaning)
    weight, coefficient = (
        table.to(noise)[t].view(-1, 1, 1, 1, 1)
        for table in (
            representation.weights_at(_levels(schedule)),
            _gradient_coefficients(schedule),
        )
    )
    left = noise - (eps + coefficient * gradient)
    return {
        "train.out.repr_loss": (weight * left**2).mean(),
        "train.out.pretrain_loss": ((noise - network(x, t)) ** 2).mean(),
    }


def _levels(schedule: Schedule) -> Tensor:
    """Noise levels (T,), least noise first."""
    return torch.from_numpy(np.array(schedule.sigmas[::-1], np.float64))


def _gradient_coefficients(schedule: Schedule) -> Tensor:
    """What the authors' training multiplied the gradient by, (T,).

    -sqrt(alpha_t) (1 - abar_{t-1}) / sqrt(1 - abar_t), the mean of DDPM's step.
    """
    alpha_bar = 1.0 / (1.0 + _levels(schedule) ** 2)
    before = torch.cat([torch.ones(1), alpha_bar[:-1]])
    alpha = alpha_bar / before
    return -alpha.sqrt() * (1 - before) / (1 - alpha_bar).sqrt()


def _down(set_: Opened, denoise: Denoise, noise: Tensor, steps: int = 10) -> Tensor:
    """From noise in x_t's own frame to z_0."""
    spec = set_.checkpoint.card.schedule
    sigmas = diffusion.sampling_sigmas(spec.build(), steps, spec.spacing)
    x = noise * diffusion.vp_scale(sigmas[0])
    for step in diffusion.walk(denoise, x, sigmas):
        x = step.x
    return x / diffusion.vp_scale(sigmas[-1])


def _up(set_: Opened, denoise: Denoise, z: Tensor, steps: int = 10) -> list[Tensor]:
    """x_t after each step up from z_0."""
    spec = set_.checkpoint.card.schedule
    schedule = spec.build()
    down = diffusion.sampling_sigmas(schedule, steps, spec.spacing)
    sigmas = diffusion.inversion_sigmas(down, schedule)
    x = z * diffusion.vp_scale(sigmas[0])
    walk = diffusion.walk(denoise, x, sigmas)
    return [
        s.x / diffusion.vp_scale(at) for s, at in zip(walk, sigmas[1:], strict=True)
    ]


def _samples(set_: Opened, meanings: Tensor) -> dict[str, Tensor]:
    noise, first = set_.io["in.noise"], meanings[:1]
    bound = set_.bound
    found = {
        "cond_sample.out.z": _down(set_, bound.coded(first), noise),
        "uncond_sample.out.z": _down(set_, bound.under(None), noise),
        "cond_sample_from_noise_b2.out.z": _down(
            set_, bound.coded(meanings), noise.expand(len(meanings), -1, -1, -1, -1)
        ),
    }
    for name in set_.io:
        match = re.match(r"cond_sample_stop([\d.]+)\.out\.z", name)
        if match:
            found[name] = _down(set_, _stopped(set_, first, float(match[1])), noise)
    return found


def _stopped(set_: Opened, meaning: Tensor, share: float) -> Denoise:
    """With the semantic code in the first steps alone, not in the last `share`."""
    spec = set_.checkpoint.card.schedule
    sigmas = diffusion.sampling_sigmas(spec.build(), 10, spec.spacing)
    last = sigmas[::-1][int(share * 10) + 1]
    coded, plain = set_.bound.coded(meaning), set_.bound.under(None)
    return lambda x, s: coded(x, s) if s >= last * (1 - 1e-9) else plain(x, s)


def _inverted(
    set_: Opened, latents: dict[str, Tensor], meanings: dict[str, Tensor]
) -> dict[str, Tensor]:
    bound = set_.bound
    own = bound.coded(meanings["a"])
    decode = _decoder(set_)
    way = _up(set_, own, latents["a"])
    found = {
        "ddim10.traj.encode": torch.cat(way),
        "uncond_encode.out.z_T": _up(set_, bound.under(None), latents["a"])[-1],
    }
    for steps in (n for n in _counts(set_) if f"ddim{n}.out.z_T" in set_.io):
        top = _up(set_, own, latents["a"], steps)[-1]
        back = _down(set_, own, top, steps)
        found |= {
            f"ddim{steps}.out.z_T": top,
            f"ddim{steps}.out.z_roundtrip": back,
            f"ddim{steps}.out.image_roundtrip": decode(back),
        }
    small = _up(set_, own, 0.25 * latents["a"])[-1]
    found |= {
        "small.out.z_T": small,
        "small.out.z_roundtrip": _down(set_, own, small),
    }
    other = _up(set_, bound.coded(meanings["b"]), latents["b"])[-1]
    found |= _between(set_, (way[-1], other), (meanings["a"], meanings["b"]))
    return found | _manipulated(set_, way[-1], meanings["a"])


def _decoder(set_: Opened) -> Callable[[Tensor], Tensor]:
    network, scale = set_.checkpoint.autoencoder(), set_.checkpoint.card.latent_scale
    return lambda z: network.decode(z / scale)


def _between(
    set_: Opened, noises: tuple[Tensor, Tensor], meanings: tuple[Tensor, Tensor]
) -> dict[str, Tensor]:
    found = {"interp.out.z_T_b": noises[1]}
    for name in set_.io:
        arc = re.match(r"interp\.out\.slerp_([\d.]+)$", name)
        if arc:
            found[name] = slerp(*noises, float(arc[1]))
        way = re.match(r"interp_(slerp|lerp)_([\d.]+)\.out\.z$", name)
        if way:
            fraction = float(way[2])
            noise = (slerp if way[1] == "slerp" else lerp)(*noises, fraction)
            denoise = set_.bound.coded(lerp(*meanings, fraction))
            found[name] = _down(set_, denoise, noise)
    return found


def _manipulated(set_: Opened, noise: Tensor, meaning: Tensor) -> dict[str, Tensor]:
    """The published direction points to CN, ours to AD."""
    tensors = set_.checkpoint.tensors
    mean, std = tensors["semantic.mean"], tensors["semantic.std"]
    amount = -float(set_.config["manipulation_scale"])
    moved = meaning + amount * tensors["direction.AD.move"]
    weight, bias = tensors["direction.AD.weight"], tensors["direction.AD.bias"]
    before, after = ((y - mean) / std for y in (meaning, moved))
    z = _down(set_, set_.bound.coded(moved), noise)
    return {
        "manip.out.y_norm": before,
        "manip.out.y_manipulated": moved,
        "manip.out.logit_before": -(before @ weight + bias),
        "manip.out.logit_after": -(after @ weight + bias),
        "manip.out.z": z,
        "manip.out.image": _decoder(set_)(z),
    }


@torch.no_grad()
def training_outputs(set_: Opened) -> dict[str, Tensor]:
    """Of the checkpoint of a training: the averaged weights' own answers."""
    io, network = set_.io, set_.checkpoint.denoiser()
    found = {"out.z_mu": set_.checkpoint.autoencoder().encode(io["in.image"])[0]}
    if set_.checkpoint.card.encoder is None:
        return found | {"out.eps_from_ema": network(io["in.z"], io["in.t"])}
    picture = io["in.x_axial"].permute(0, 1, 3, 4, 2)
    meaning = set_.checkpoint.semantic_encoder()(picture)
    eps, gradient = network.both(io["in.z"], io["in.t"], meaning)
    return found | {
        "out.y_from_ema": meaning,
        "out.eps_from_ema": eps,
        "out.gradient_from_ema": gradient,
    }
