"""The one road to a picture: a checkpoint on a device, asked with requests."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from napari_brainldm.engine import diffusion
from napari_brainldm.engine.asked import volumes_asked
from napari_brainldm.engine.codes import Code, between
from napari_brainldm.engine.conform import (
    Conformed,
    Preparation,
    conform,
    in_scan_space,
)
from napari_brainldm.engine.device import Compute, choose, is_memory, out_of_memory
from napari_brainldm.engine.measure import measure
from napari_brainldm.engine.preview import CheapDecoder
from napari_brainldm.engine.request import (
    Between,
    Conditions,
    EngineError,
    Request,
    Sampler,
    Scan,
    Seed,
)
from napari_brainldm.engine.resources import segmenter_at_hand
from napari_brainldm.engine.sampling import (
    check_sampler,
    noise_of,
    noisy,
    sigmas_of,
    solver,
)
from napari_brainldm.engine.segment import Segmenter, brain_finder
from napari_brainldm.engine.strip import check_way
from napari_brainldm.engine.volume import Array, Volume

if TYPE_CHECKING:
    from napari_brainldm.engine.checkpoint import Checkpoint

Stage = Literal["conform", "encode", "invert", "denoise", "decode"]
INVERSION = Sampler("ddim", 50)


@dataclass(frozen=True, eq=False)
class Progress:
    """How far a picture is: step `index` of `total` in `stage`; x0 while denoising."""

    stage: Stage
    index: int
    total: int
    x0: Tensor | None = None


class Renderer:
    """A checkpoint on a device; encodes scans once, renders requests.

    Parameters
    ----------
    checkpoint
        Loaded weights and card.
    device, precision
        Empty for what the start-up probe finds best; see `engine.device`.
    segmenter
        Finds the brain in scans; None for the bundled one, loaded when first needed.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        device: str = "",
        precision: str = "",
        segmenter: Segmenter | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.card = checkpoint.card
        self.compute = choose(device, precision)
        self._centre = checkpoint.latent_mean().to(self.compute.device)
        self._encoder: nn.Module | None = None
        self._unet: nn.Module | None = None
        self._cheap = CheapDecoder(checkpoint, self.compute.device)
        self._segmenter = segmenter
        self._scans: dict[str, Volume] = {}
        self._preparations: dict[str, Preparation] = {}
        self._conformed: dict[str, Conformed] = {}
        self._codes: dict[tuple[Scan, int, str], Code] = {}

    # -- scans -----------------------------------------------------------------

    def admit(self, scan: Volume, preparation: Preparation | None = None) -> str:
        """Remember `scan` in its own space; its digest names it in requests.

        Admitted again with another `preparation`, it is conformed and encoded anew;
        None keeps the one it has, at first the default.
        """
        digest = scan.digest
        wanted = preparation or self._preparations.get(digest, Preparation())
        check_way(wanted.strip)
        self._scans.setdefault(digest, scan)
        if self._preparations.get(digest) != wanted:
            self._conformed.pop(digest, None)
            kept = {k: c for k, c in self._codes.items() if k[0].digest != digest}
            self._codes = kept
        self._preparations[digest] = wanted
        return digest

    def conformed(self, digest: str) -> Conformed:
        """The admitted scan on the card's grid; computed once."""
        if digest not in self._scans:
            raise EngineError(
                f"The request starts from a scan ({digest[:12]}...) that is not loaded."
                " Open that scan first."
            )
        if digest not in self._conformed:
            self._conformed[digest] = conform(
                self._scans[digest],
                self.card.grid,
                percentile=self.card.intensity.percentile,
                segmenter=self._brain_finder(),
                **asdict(self._preparations[digest]),
            )
        return self._conformed[digest]

    def _brain_finder(self) -> Segmenter | None:
        """The segmenter given, else the bundled one if this tree has it."""
        path = segmenter_at_hand() if self._segmenter is None else None
        if path is not None:
            self._segmenter = brain_finder(path, self.compute.device)
        return self._segmenter

    def in_scan_space(self, digest: str, picture: Volume) -> Volume:
        """A picture of an admitted scan, resampled into the scan's own voxels."""
        conformed = self.conformed(digest)
        return in_scan_space(picture, conformed, self._scans[digest].grid)

    def estimate(self, digest: str) -> Conditions:
        """The covariates of a scan: volumes measured in it, the rest read out.

        Volumes come from the scan's segmentation, where there is one. The card's linear
        read-out of the latent gives the others, clipped to the training range; a
        checkpoint without a read-out, the reference values.
        """
        read = self._read_out(self._latent(digest, self.compute))
        found = self.conformed(digest).segmentation
        if found is None:
            return read
        return read.with_values(volumes_asked(self.card, measure(found)))

    def _read_out(self, latent: Tensor) -> Conditions:
        probe = self.checkpoint.part("probe")
        if not probe:
            return self.card.complete(Conditions())
        codes = probe["weight"] @ latent.flatten().cpu() + probe["bias"]
        read = zip(self.card.vocabulary, codes.clamp(0.0, 1.0).tolist(), strict=True)
        return Conditions.of({c.name: c.decode(code) for c, code in read})

    def encode(
        self, scan: Scan, steps: int, compute: Compute
    ) -> Generator[Progress, None, Code]:
        """The code of an admitted scan; inverted in `steps` steps (0: latent only)."""
        key = (scan, steps, compute.precision)
        if key not in self._codes:
            yield Progress("conform", 0, 1)
            self.conformed(scan.digest)
            yield Progress("encode", 0, 1)
            latent = self._latent(scan.digest, compute)
            noise = None
            if steps > 0:
                noise = yield from self._invert(scan, latent, steps, compute)
            self._codes[key] = Code(latent, noise)
        return self._codes[key]

    def _latent(self, digest: str, compute: Compute) -> Tensor:
        data = self.conformed(digest).volume.data
        return self._scaled(self._mean(data, compute))

    def latent_of(self, picture: Array) -> Array:
        """The autoencoder's mean latent (C, i, j, k), unscaled, of one (i, j, k).

        `picture` lies on the card's grid, in its intensity convention.
        """
        latent: Array = self._mean(picture, self.compute)[0].cpu().numpy()
        return latent

    def rebuild(self, picture: Array) -> Array:
        """What the autoencoder alone makes of `picture`, which lies on the grid."""
        scaled = self._scaled(self._mean(picture, self.compute))
        return self._decode(scaled, self.compute).data

    def _mean(self, picture: Array, compute: Compute) -> Tensor:
        x = torch.from_numpy(picture)[None, None].to(compute.device)
        with torch.no_grad(), compute.autocast():
            mean: Tensor = self._autoencoder().encode(x)[0]
        return mean.float()

    def _invert(
        self, scan: Scan, latent: Tensor, steps: int, compute: Compute
    ) -> Generator[Progress, None, Tensor]:
        schedule = self.card.schedule.build()
        down = diffusion.sampling_sigmas(schedule, steps, self.card.schedule.spacing)
        up = diffusion.inversion_sigmas(down, schedule)
        denoise = self._denoise(Request(scan.conditions), compute)
        x = latent
        for step in _stepwise(diffusion.walk(denoise, latent, up)):
            x = step.x
            yield Progress("invert", step.index, step.total)
        return noise_of(self._denoiser(), x, up[-1], self._vector(scan.conditions))

    # -- pictures --------------------------------------------------------------

    def resolve(self, request: Request) -> Request:
        """`request` with every default spelled out: what a sidecar must hold."""
        return replace(
            request,
            conditions=self.card.complete(request.conditions),
            precision=request.precision or self.compute.precision,
        )

    def render(self, request: Request) -> Generator[Progress, None, Volume]:
        """Make the picture `request` describes; yields after every step.

        Whoever drives this generator may stop it between two steps. The same request
        on the same device gives the same bits.

        Raises
        ------
        EngineError
            If the request does not fit the checkpoint, or memory runs out.
        """
        return (yield from self._made(request, self._full))

    def sketch(self, request: Request) -> Generator[Progress, None, Volume]:
        """As `render`, but with the cheap decode at the end: a preview.

        The very first picture of a checkpoint without a preview decoder is decoded in
        full. `preview` shows what the steps on the way predict.
        """
        return (yield from self._made(request, self._quick))

    def _made(
        self, request: Request, decode: Callable[[Tensor, Compute], Volume]
    ) -> Generator[Progress, None, Volume]:
        request = self.resolve(request)
        check_sampler(request)
        compute = choose(self.compute.device, request.precision)
        try:
            latent = yield from self._sample(request, compute)
            yield Progress("decode", 0, 1)
            return decode(latent, compute)
        except (MemoryError, RuntimeError) as error:
            if not is_memory(error):
                raise
            raise out_of_memory(compute) from error

    def preview(self, x0: Tensor) -> Volume | None:
        """A cheap picture of a latent met on the way, `Progress.x0`: never measured.

        From the checkpoint's preview decoder; without one, from a linear map learned
        from the first full picture, and None before there is one.
        """
        with torch.no_grad(), self.compute.autocast():
            picture = self._cheap.decode(self._raw(x0))
        return None if picture is None else self._volume(picture)

    def _full(self, latent: Tensor, compute: Compute) -> Volume:
        picture = self._decode(latent, compute)
        data = torch.from_numpy(picture.data)[None, None].to(latent.device)
        self._cheap.learn(self._raw(latent), data)
        return picture

    def _quick(self, latent: Tensor, compute: Compute) -> Volume:
        return self.preview(latent) or self._full(latent, compute)

    def _sample(
        self, request: Request, compute: Compute
    ) -> Generator[Progress, None, Tensor]:
        """The latent (1, C, i, j, k) of the picture, in the card's latent_scale."""
        code = yield from self._start(request, compute)
        if code.stochastic is None:
            return code.latent
        sigmas = sigmas_of(request, self.card)
        noise = code.stochastic.to(compute.device)
        vector = self._vector(request.conditions)
        x = noisy(self._denoiser(), noise, sigmas[0], vector)
        denoise = self._denoise(request, compute)
        for step in _stepwise(solver(request, denoise, x, sigmas)):
            x = step.x
            yield Progress("denoise", step.index, step.total, step.x0)
        return x

    def _start(
        self, request: Request, compute: Compute
    ) -> Generator[Progress, None, Code]:
        origin, steps = request.origin, request.sampler.steps
        if isinstance(origin, Seed):
            noise = diffusion.noise(self.card.latent_shape, origin.value)
            return Code(torch.zeros_like(noise), noise)
        if isinstance(origin, Between):
            first = yield from self.encode(origin.first, steps, compute)
            second = yield from self.encode(origin.second, steps, compute)
            return between(first, second, origin.fraction)
        return (yield from self.encode(origin, steps, compute))

    def _vector(self, conditions: Conditions) -> Tensor | None:
        """Condition vector (1, n) as the denoiser takes it; None without conditions."""
        if not self.card.vocabulary:
            return None
        return torch.tensor([self.card.vector(conditions)], device=self.compute.device)

    def _denoise(self, request: Request, compute: Compute) -> diffusion.Denoise:
        conditional = self._bound(request.conditions, compute)
        if request.guidance == 1.0:
            return conditional
        spec = self.card.denoiser
        if spec is None or not spec.droppable:
            raise EngineError(
                f"{self.card.name} was trained without dropped conditions, so guidance "
                f"{request.guidance:g} is not possible. Set guidance to 1."
            )
        return diffusion.guided(
            conditional, self._bound(None, compute), request.guidance
        )

    def _bound(
        self, conditions: Conditions | None, compute: Compute
    ) -> diffusion.Denoise:
        """The denoiser with `conditions` bound; None drops them."""
        network = self._denoiser()
        vector = None if conditions is None else self._vector(conditions)

        def predict(x: Tensor, t: Tensor) -> Tensor:
            with torch.no_grad(), compute.autocast():
                out: Tensor = network(x, t, vector)
                return out

        spec = self.card.schedule
        return diffusion.denoiser(predict, spec.build(), spec.prediction)

    @torch.no_grad()
    def _decode(self, latent: Tensor, compute: Compute) -> Volume:
        with compute.autocast():
            picture = self._autoencoder().decode(self._raw(latent))
        return self._volume(picture)

    def _volume(self, picture: Tensor) -> Volume:
        data = picture[0, 0].float().cpu().numpy()
        return Volume(data, self.card.grid.matrix)

    def _raw(self, latent: Tensor) -> Tensor:
        """Inverse of `_scaled`: what the autoencoder decodes."""
        return latent / self.card.latent_scale + self._centre

    def _scaled(self, latent: Tensor) -> Tensor:
        """What the denoiser knows of a latent as the autoencoder gives it."""
        return (latent - self._centre) * self.card.latent_scale

    def _autoencoder(self) -> Any:
        if self._encoder is None:
            self._encoder = self.checkpoint.autoencoder().to(self.compute.device)
        return self._encoder

    def _denoiser(self) -> nn.Module:
        if self._unet is None:
            self._unet = self.checkpoint.denoiser().to(self.compute.device)
        return self._unet


def _stepwise(steps: Iterator[diffusion.Step]) -> Iterator[diffusion.Step]:
    """The same steps, computed without gradients although the caller is a generator."""
    while True:
        with torch.no_grad():
            step = next(steps, None)
        if step is None:
            return
        yield step


def finish(pictures: Generator[Progress, None, Volume]) -> Volume:
    """Drive a render to its end, for callers that need no progress."""
    while True:
        try:
            next(pictures)
        except StopIteration as done:
            picture: Volume = done.value
            return picture
