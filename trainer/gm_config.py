"""The sections of a run config that train GM-LDM."""

from __future__ import annotations

from dataclasses import dataclass, field

from napari_brainldm.engine.card import ScheduleSpec
from napari_brainldm.engine.networks.gm_autoencoder import GrayMatterAutoencoderSpec
from napari_brainldm.engine.networks.vit_denoiser import ViTSpec
from napari_brainldm.engine.request import EngineError
from trainer.loop_config import LoopConfig

CONDITIONS = ("fnc", "random")
SPACES = ("latent", "voxel")


@dataclass(frozen=True)
class GmAutoencoderConfig:
    """Stage gm_autoencoder: alpha KL + (1 - alpha) MSE (Hu 2025, section 3.3).

    Attributes
    ----------
    spec
        Its `shape` is that of the data, whatever is said here.
    alpha
        Weight of the KL divergence, which is summed over the latent; the mean squared
        error has the rest.
    checkpoint
        A checkpoint of this stage to begin with: pre-training on one dataset and
        fine-tuning on another are two runs. Empty begins with fresh weights.
    """

    spec: GrayMatterAutoencoderSpec = field(default_factory=GrayMatterAutoencoderSpec)
    loop: LoopConfig = field(default_factory=LoopConfig)
    alpha: float = 1e-7
    checkpoint: str = ""

    def __post_init__(self) -> None:
        """Refuse what is no share."""
        if not 0 <= self.alpha <= 1:
            raise EngineError(
                f"gm_autoencoder.alpha is {self.alpha:g}; a share from 0 to 1 is "
                "needed. Correct the config."
            )


@dataclass(frozen=True)
class GmLdmConfig:
    """Stage gmldm: gray matter from functional connectivity (Hu 2025).

    Attributes
    ----------
    spec
        Latent, components and `droppable` are those of the data and of `drop`.
    drop
        Fraction of samples whose condition is dropped, for guidance.
    centred
        Diffuse what differs from the mean latent.
    prior_rank, prior_codes
        Directions of the Gaussian that the network corrects, and how many of them,
        the leading ones, its mean follows the connectivity along; see
        `engine.networks.prior`. 0 for none, as in the paper. Needs `centred` and the
        prediction "v".
    law_rank
        Directions of the connectivity's covariance that the checkpoint keeps, for
        random connectivity to compare with.
    condition
        "fnc"; or "random": vectors that say nothing, the paper's comparison.
    space
        "latent"; or "voxel": a diffusion model without an autoencoder, the paper's
        first baseline. `spec.patch` then says how many voxels are a token.
    """

    spec: ViTSpec = field(default_factory=ViTSpec)
    schedule: ScheduleSpec = field(default_factory=ScheduleSpec)
    loop: LoopConfig = field(default_factory=LoopConfig)
    drop: float = 0.0
    centred: bool = False
    prior_rank: int = 0
    prior_codes: int = 0
    law_rank: int = 32
    condition: str = "fnc"
    space: str = "latent"

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        for name, value, known in (
            ("condition", self.condition, CONDITIONS),
            ("space", self.space, SPACES),
        ):
            if value not in known:
                raise EngineError(
                    f"gmldm.{name} is {value!r}; known are {', '.join(known)}. Choose "
                    "one of these."
                )


@dataclass(frozen=True)
class GmTableConfig:
    """The paper's table of five models, see `trainer.evaluate.gmldm`.

    Attributes
    ----------
    folds, seed
        Parts that the people are dealt into, and the seed of the deal.
    seeds
        Maps to make of each held-out person, whose figures are averaged.
    patch
        Voxels along each axis of a token of the model in voxel space.
    """

    folds: int = 5
    seed: int = 0
    seeds: int = 2
    patch: int = 8

    def __post_init__(self) -> None:
        """Refuse what leaves nobody to train on, or nothing to measure."""
        if self.folds < 2 or self.seeds < 1 or self.patch < 1:
            raise EngineError(
                f"gm_table asks for {self.folds} folds, {self.seeds} seeds and a patch "
                f"of {self.patch}. At least 2, 1 and 1 are needed. Correct the config."
            )
