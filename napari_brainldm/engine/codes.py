"""What a scan becomes inside a model, and the pure moves between such codes."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from napari_brainldm.engine.request import Between, EngineError, Origin, Through

PARALLEL = 1e-4  # radians below which slerp's division loses all digits


@dataclass(frozen=True, eq=False)
class Code:
    """The code of one scan.

    Attributes
    ----------
    latent
        (1, C, i, j, k), the autoencoder's mean latent, centred and scaled as
        the card says.
    stochastic
        (1, C, i, j, k), the latent walked up to the most noise; unit variance. None
        when the scan was encoded by an autoencoder alone.
    semantic
        (1, E), what the semantic encoder says of the picture; None without one.
    """

    latent: Tensor
    stochastic: Tensor | None = None
    semantic: Tensor | None = None


def lerp(first: Tensor, second: Tensor, fraction: float) -> Tensor:
    """Straight line from `first` (fraction 0) to `second` (1), or beyond."""
    return first + fraction * (second - first)


def slerp(first: Tensor, second: Tensor, fraction: float) -> Tensor:
    """Along the arc from `first` to `second` (any equal shapes), flattened.

    Keeps the norm of Gaussian noise, which a straight line shrinks (Shoemake 1985).
    """
    # on the processor: not every device has float64
    a, b = (one.cpu().double().flatten() for one in (first, second))
    cosine = torch.dot(a, b) / (a.norm() * b.norm())
    angle = torch.arccos(cosine.clamp(-1.0, 1.0))
    if angle < PARALLEL:
        return lerp(first, second, fraction)
    left = torch.sin((1 - fraction) * angle) / torch.sin(angle)
    right = torch.sin(fraction * angle) / torch.sin(angle)
    made = (left * a + right * b).reshape(first.shape)
    return made.to(first.dtype).to(first.device)


def between(first: Code, second: Code, fraction: float) -> Code:
    """The code at `fraction` of the way: noise by slerp, the others by lerp."""
    latent = lerp(first.latent, second.latent, fraction)
    noise = semantic = None
    if first.stochastic is not None and second.stochastic is not None:
        noise = slerp(first.stochastic, second.stochastic, fraction)
    if first.semantic is not None and second.semantic is not None:
        semantic = lerp(first.semantic, second.semantic, fraction)
    return Code(latent, noise, semantic)


def met(origin: Origin, codes: Sequence[Code]) -> Code:
    """Where `origin` lies between the `codes` of its scans."""
    if isinstance(origin, Between):
        return between(codes[0], codes[1], origin.fraction)
    if isinstance(origin, Through):
        return through(codes, origin.places, origin.place, origin.curve)
    return codes[0]


def meaning(code: Code, wish: str) -> Tensor:
    """The semantic part of `code`; without one, an EngineError about `wish`."""
    if code.semantic is None:
        raise EngineError(
            f"{wish} was asked for, but this picture has no semantic code. Use an LDAE "
            "checkpoint, which has a semantic encoder."
        )
    return code.semantic


def along(semantic: Tensor, steps: Sequence[tuple[Tensor, float]]) -> Tensor:
    """A semantic code (1, E), moved by amounts of steps (E,)."""
    for step, amount in steps:
        semantic = semantic + amount * step.to(semantic)
    return semantic


def through(
    codes: Sequence[Code], places: Sequence[float], place: float, curve: str
) -> Code:
    """The code at `place` of the way through `codes`, which lie at rising `places`.

    "piecewise" is `between` of the two neighbours, beyond the ends of the last two.
    "smooth" is a natural cubic spline of latents and semantic codes; noise is summed
    with the same weights and given the norm that its visits have there.
    """
    if curve == "piecewise" or len(codes) == 2:
        after, fraction = _leg(places, place)
        return between(codes[after - 1], codes[after], fraction)
    weights = spline_weights(places, place)
    noises = [c.stochastic for c in codes if c.stochastic is not None]
    meanings = [c.semantic for c in codes if c.semantic is not None]
    every = len(codes)
    return Code(
        _summed([c.latent for c in codes], weights),
        _of_norm(noises, weights) if len(noises) == every else None,
        _summed(meanings, weights) if len(meanings) == every else None,
    )


def shares(places: Sequence[float], place: float, curve: str) -> list[float]:
    """What each visit counts at `place` for all that is summed; the sum is 1."""
    if curve != "piecewise":
        return spline_weights(places, place)
    after, fraction = _leg(places, place)
    found = [0.0] * len(places)
    found[after - 1 : after + 1] = 1 - fraction, fraction
    return found


def _leg(places: Sequence[float], place: float) -> tuple[int, float]:
    """Index of the later neighbour of `place`, and the fraction of the way there."""
    after = min(max(bisect(places, place), 1), len(places) - 1)
    first, last = places[after - 1], places[after]
    return after, (place - first) / (last - first)


def spline_weights(places: Sequence[float], place: float) -> list[float]:
    """What each visit counts at `place` on a natural cubic spline; the sum is 1."""
    from scipy.interpolate import CubicSpline

    each = CubicSpline(places, np.eye(len(places)), bc_type="natural")
    return [float(share) for share in each(place)]


def _summed(parts: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    total = torch.zeros_like(parts[0])
    for part, share in zip(parts, shares, strict=True):
        total = total + share * part
    return total


def _of_norm(noises: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """The weighted sum, as long as the weighted mean of the lengths."""
    found = _summed(noises, shares)
    norm = sum(
        share * float(noise.norm()) for noise, share in zip(noises, shares, strict=True)
    )
    return found * (norm / max(float(found.norm()), 1e-12))
