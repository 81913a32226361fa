"""The one road to a picture: a checkpoint on a device, asked with requests."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from napari_brainldm.engine import diffusion
from napari_brainldm.engine.asked import volumes_asked
from napari_brainldm.engine.bound import Bound
from napari_brainldm.engine.codes import Code, along, meaning, met
from napari_brainldm.engine.device import Compute, choose, is_memory, out_of_memory
from napari_brainldm.engine.fnc_known import KnownFnc
from napari_brainldm.engine.measure import measure
from napari_brainldm.engine.preview import CheapDecoder
from napari_brainldm.engine.request import (
    Conditions,
    Later,
    Request,
    Sampler,
    Scan,
    Seed,
    Variation,
    drawn_from,
    scans_of,
)
from napari_brainldm.engine.sampling import (
    check_sampler,
    inverted,
    noise_of,
    noisy,
    retold,
    settled,
    sigmas_of,
    solver,
    stepwise,
)
from napari_brainldm.engine.scans import Scans
from napari_brainldm.engine.volume import Array, Volume

if TYPE_CHECKING:
    from napari_brainldm.engine.checkpoint import Checkpoint
    from napari_brainldm.engine.conform import Conformed, Preparation
    from napari_brainldm.engine.segment import Segmenter

Stage = Literal["conform", "encode", "invert", "denoise", "decode", "segment"]
T = TypeVar("T")
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

    Attributes
    ----------
    fnc
        Connectivity that requests may name, and the door to admit it by.
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
        self._unet: Any = None
        self._meaning: nn.Module | None = None
        self._cheap = CheapDecoder(checkpoint, self.compute.device)
        self._scans = Scans(checkpoint.card, self.compute.device, segmenter)
        self.fnc = KnownFnc(checkpoint)
        self._stills: dict[tuple[str, str], Code] = {}
        self._codes: dict[tuple[Scan, int, str], Code] = {}
        self._owned: dict[Request, tuple[Tensor, Tensor]] = {}

    # -- scans -----------------------------------------------------------------

    def admit(self, scan: Volume, preparation: Preparation | None = None) -> str:
        """Remember `scan` in its own space; its digest names it in requests.

        Admitted again with another `preparation`, it is conformed and encoded anew;
        None keeps the one it has, at first the default.
        """
        digest, anew = self._scans.admit(scan, preparation)
        if anew:
            kept = {k: c for k, c in self._codes.items() if k[0].digest != digest}
            self._codes = kept
            stills = self._stills.items()
            self._stills = {k: c for k, c in stills if k[0] != digest}
        return digest

    def keep(self, picture: Array) -> str:
        """Admit a picture (i, j, k) that is prepared already, as in training."""
        return self._scans.keep(Volume(picture, self.card.grid.matrix))

    def conformed(self, digest: str) -> Conformed:
        """The admitted scan on the card's grid; computed once."""
        return self._scans.conformed(digest)

    def in_scan_space(self, digest: str, picture: Volume) -> Volume:
        """A picture of an admitted scan, resampled into the scan's own voxels."""
        return self._scans.in_scan_space(digest, picture)

    def estimate(self, digest: str) -> Conditions:
        """The covariates of a scan: volumes measured in it, the rest read out.

        Volumes come from the scan's segmentation, where there is one. The card's linear
        read-out of the latent gives the others, clipped to the training range; a
        checkpoint without a read-out, the reference values.
        """
        read = self.checkpoint.read_out(self._still(digest, self.compute).latent)
        found = self.conformed(digest).segmentation
        if found is None:
            return read
        return read.with_values(volumes_asked(self.card, measure(found)))

    def encode(
        self, scan: Scan, steps: int, compute: Compute
    ) -> Generator[Progress, None, Code]:
        """The code of an admitted scan; inverted in `steps` steps (0: latent only)."""
        key = (scan, steps, compute.precision)
        if key not in self._codes:
            yield Progress("conform", 0, 1)
            self.conformed(scan.digest)
            yield Progress("encode", 0, 1)
            code = self._still(scan.digest, compute)
            if steps > 0:
                noise = yield from self._invert(scan, code, steps, compute)
                code = replace(code, stochastic=noise)
            self._codes[key] = code
        return self._codes[key]

    def _still(self, digest: str, compute: Compute) -> Code:
        """The code of an admitted scan before its inversion; computed once."""
        key = (digest, compute.precision)
        if key not in self._stills:
            data = self.conformed(digest).volume.data
            latent = self._scaled(self._mean(data, compute))
            code = Code(latent, semantic=self._meant(data))
            self._stills[key] = code
        return self._stills[key]

    @torch.no_grad()
    def _meant(self, data: Array) -> Tensor | None:
        """Semantic code (1, E) of a picture (i, j, k), in float32 as probes are fit."""
        if self.card.encoder is None:
            return None
        if self._meaning is None:
            network = self.checkpoint.semantic_encoder()
            self._meaning = network.to(self.compute.device)
        x = torch.from_numpy(data)[None, None].to(self.compute.device)
        code: Tensor = self._meaning(x)
        return code

    def latent_of(self, picture: Array) -> Array:
        """The autoencoder's mean latent (C, i, j, k), unscaled, of one (i, j, k).

        `picture` lies on the card's grid, in its intensity convention.
        """
        return self._mean(picture, self.compute)[0].cpu().numpy()

    def rebuild(self, picture: Array) -> Array:
        """What the autoencoder alone makes of `picture`, which lies on the grid."""
        scaled = self._scaled(self._mean(picture, self.compute))
        return self.decode(scaled, self.compute).data

    def _mean(self, picture: Array, compute: Compute) -> Tensor:
        x = torch.from_numpy(picture)[None, None].to(compute.device)
        with torch.no_grad(), compute.autocast():
            mean: Tensor = self._autoencoder().encode(x)[0]
        return mean.float()

    def _invert(
        self, scan: Scan, code: Code, steps: int, compute: Compute
    ) -> Generator[Progress, None, Tensor]:
        schedule = self.card.schedule.build()
        down = diffusion.sampling_sigmas(schedule, steps, self.card.schedule.spacing)
        up = diffusion.inversion_sigmas(down, schedule)
        denoise = self._denoise(Request(scan.conditions), code.semantic, compute)
        x = code.latent
        for step in stepwise(inverted(denoise, x, up, self.card)):
            x = step.x
            yield Progress("invert", step.index, step.total)
        vector = self.vector(scan.conditions)
        return noise_of(self.denoiser(), x, up[-1], vector, code.semantic)

    # -- pictures --------------------------------------------------------------

    def resolve(self, request: Request) -> Request:
        """`request` with every default spelled out: what a sidecar must hold."""
        told = self.card.complete(request.conditions)
        return replace(
            request,
            conditions=replace(told, fnc=told.fnc or self.fnc.mean),
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
        picture = self.decode(latent, compute)
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
        vector, semantic = self.vector(request.conditions), self._moved(request, code)
        x = noisy(self.denoiser(), noise, sigmas[0], vector, semantic)
        denoise = self._denoise(request, semantic, compute)
        for step in stepwise(solver([request], denoise, x, sigmas)):
            x = step.x
            yield Progress("denoise", step.index, step.total, step.x0)
        return settled(x, sigmas[-1])

    def _moved(self, request: Request, code: Code) -> Tensor | None:
        """The semantic code (1, E) along the shift asked for; None without one."""
        if not request.shift:
            return code.semantic
        moves = self.checkpoint.part("direction")
        steps = [
            (moves[f"{self.card.direction(name).name}.move"], amount)
            for name, amount in request.shift
        ]
        return along(meaning(code, "A shift"), steps)

    def _start(
        self, request: Request, compute: Compute
    ) -> Generator[Progress, None, Code]:
        origin, shape = request.origin, self.card.latent_shape
        if isinstance(origin, Seed):
            noise = diffusion.noise(shape, origin.value)
            noise, own = yield from self._own(request, noise, compute)
            return Code(torch.zeros_like(noise), noise, own)
        steps = request.sampler.steps if drawn_from(origin) is None else 0
        codes = []
        for scan in scans_of(origin):
            codes.append((yield from self.encode(scan, steps, compute)))
        code = met(origin, codes)
        if isinstance(origin, Variation):
            noise = diffusion.noise(shape, origin.seed)
            return Code(code.latent, noise, meaning(code, "A variation"))
        if isinstance(origin, Later):
            step = self.checkpoint.yearly(origin.person), origin.years
            return replace(code, semantic=along(meaning(code, "A forecast"), [step]))
        return code

    def _own(
        self, request: Request, noise: Tensor, compute: Compute
    ) -> Generator[Progress, None, tuple[Tensor, Tensor | None]]:
        """Noise and code (1, E) of its picture, which is made once for all shifts."""
        if not request.shift or self.card.encoder is None:
            return noise, None
        plain = replace(request, shift=())
        if plain not in self._owned:
            latent = yield from self._sample(plain, compute)
            own = self._meant(self.decode(latent, compute).data)
            assert own is not None
            most = sigmas_of(request, self.card)[0]
            self._owned[plain] = retold(self.denoiser(), noise.to(own), most, own), own
        return self._owned[plain]

    def vector(self, conditions: Conditions) -> Tensor | None:
        """Condition vector (1, n) as the denoiser takes it; None without conditions."""
        if self.card.fnc is not None:
            return self.fnc.vector(conditions.fnc).to(self.compute.device)
        if not self.card.vocabulary:
            return None
        return torch.tensor([self.card.vector(conditions)], device=self.compute.device)

    def _denoise(
        self, request: Request, semantic: Tensor | None, compute: Compute
    ) -> diffusion.Denoise:
        """The denoiser under the conditions and the semantic code of one picture."""
        bound = Bound(self.denoiser(), self.card, compute)
        if semantic is not None:
            bound.check_guidance(request.guidance)
            return bound.coded(semantic)
        return bound.under(self.vector(request.conditions), request.guidance)

    @torch.no_grad()
    def decode(self, latent: Tensor, compute: Compute) -> Volume:
        """The picture of a latent (1, C, i, j, k) as the denoiser knows it."""
        with compute.autocast():
            picture = self._autoencoder().decode(self._raw(latent))
        return self._volume(picture)

    def _volume(self, picture: Tensor) -> Volume:
        return Volume(picture[0, 0].float().cpu().numpy(), self.card.grid.matrix)

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

    def denoiser(self) -> Any:
        """The denoiser on the device; built when first needed."""
        if self._unet is None:
            self._unet = self.checkpoint.denoiser().to(self.compute.device)
        return self._unet


def finish(steps: Generator[Any, None, T]) -> T:
    """What `steps` return at their end, for callers that need no progress."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            found: T = done.value
            return found
