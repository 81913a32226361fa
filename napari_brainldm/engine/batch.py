"""Several pictures from noise in one batch: the renderer's road, side by side.

A network rounds a batch otherwise than one picture, so the bits of a picture depend on
the batch it is made in. Whoever wants the same bits again keeps the batches the same.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from napari_brainldm.engine import diffusion
from napari_brainldm.engine.bound import Bound
from napari_brainldm.engine.device import choose, is_memory, out_of_memory
from napari_brainldm.engine.renderer import Progress
from napari_brainldm.engine.request import EngineError, Request, Seed
from napari_brainldm.engine.sampling import (
    check_sampler,
    noisy,
    settled,
    sigmas_of,
    solver,
    stepwise,
)

if TYPE_CHECKING:
    from napari_brainldm.engine.device import Compute
    from napari_brainldm.engine.renderer import Renderer

HEADROOM = 0.8
"""Share of the free memory that a batch may take: other sizes need other scratch."""


def sample(
    renderer: Renderer, requests: Sequence[Request]
) -> Generator[Progress, None, Tensor]:
    """Latents (B, C, i, j, k) of `requests`, for `renderer.decode`; yields each step.

    Raises
    ------
    EngineError
        If a request does not start from noise, has a shift, or differs from the others
        in sampler, guidance or precision; or if memory runs out.
    """
    asked = [renderer.resolve(request) for request in requests]
    _check_alike(asked)
    compute = choose(renderer.compute.device, asked[0].precision)
    try:
        return (yield from _sampled(renderer, asked, compute))
    except (MemoryError, RuntimeError) as error:
        if not is_memory(error):
            raise
        raise out_of_memory(compute) from error


def _sampled(
    renderer: Renderer, asked: Sequence[Request], compute: Compute
) -> Generator[Progress, None, Tensor]:
    first, card = asked[0], renderer.card
    vector = _vectors(renderer, asked)
    sigmas = sigmas_of(first, card)
    noise = torch.cat([_noise(card.latent_shape, request) for request in asked])
    with torch.no_grad():
        x = noisy(renderer.denoiser(), noise.to(compute.device), sigmas[0], vector)
    denoise = Bound(renderer.denoiser(), card, compute).under(vector, first.guidance)
    for step in stepwise(solver(asked, denoise, x, sigmas)):
        x = step.x
        yield Progress("denoise", step.index, step.total, step.x0)
    return settled(x, sigmas[-1])


def _vectors(renderer: Renderer, asked: Sequence[Request]) -> Tensor | None:
    """Condition vectors (B, n); None for a model without conditions."""
    found = [renderer.vector(request.conditions) for request in asked]
    told = [vector for vector in found if vector is not None]
    return torch.cat(told) if told else None


def _noise(shape: tuple[int, int, int, int], request: Request) -> Tensor:
    assert isinstance(request.origin, Seed)  # _check_alike has looked
    return diffusion.noise(shape, request.origin.value)


def _check_alike(asked: Sequence[Request]) -> None:
    for request in asked:
        check_sampler(request)
    if not all(isinstance(r.origin, Seed) and not r.shift for r in asked):
        raise EngineError(
            "A batch holds a picture of a scan, or one moved along a direction; only "
            "pictures from noise are made in batches. Make it by itself."
        )
    if len({(r.sampler, r.guidance, r.precision) for r in asked}) > 1:
        raise EngineError(
            "A batch holds pictures of different samplers, guidance or precision; it "
            "walks in common steps. Make them in batches of their own."
        )


def largest_batch(peak: Callable[[int], int], free: int, most: int) -> int:
    """How many pictures fit into `free` bytes, at most `most`, at least one.

    `peak` measures the bytes that a batch of the given size takes; it is asked for one
    and for two, and memory grows by the same for each further one.
    """
    if most < 2:
        return 1
    one = peak(1)
    if 2 * one > HEADROOM * free:  # two might not even run
        return 1
    each = max(peak(2) - one, 1)
    return max(1, min(most, 1 + int((HEADROOM * free - one) // each)))


def fitting_batch(renderer: Renderer, request: Request, most: int) -> int:
    """How many pictures like `request` the renderer's graphics card holds at once.

    1 on a processor: there a batch takes as long as its pictures one by one.
    """
    device = torch.device(renderer.compute.device)
    if device.type != "cuda":
        return 1
    free, _ = torch.cuda.mem_get_info(device)

    def peak(size: int) -> int:
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        next(sample(renderer, [request] * size))
        return torch.cuda.max_memory_allocated(device) - before

    next(sample(renderer, [request]))  # weights are there from now on
    return largest_batch(peak, free, most)
