"""Run configs: TOML into frozen dataclasses; an unknown key is an error."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from napari_brainldm.engine.card import Intensity, ScheduleSpec
from napari_brainldm.engine.frozen import from_plain
from napari_brainldm.engine.networks.autoencoder import AutoencoderSpec
from napari_brainldm.engine.networks.gradient_estimator import GradientEstimatorSpec
from napari_brainldm.engine.networks.preview import PreviewSpec
from napari_brainldm.engine.networks.segmenter import SegmenterSpec
from napari_brainldm.engine.networks.semantic_encoder import SemanticEncoderSpec
from napari_brainldm.engine.networks.unet import UNetSpec
from napari_brainldm.engine.networks.voxel_space import VoxelSpec
from napari_brainldm.engine.request import EngineError
from trainer.baseline_config import LsganConfig, ReaderConfig, VaeganConfig
from trainer.data.cohort import CohortConfig
from trainer.data.randomise import Randomisation
from trainer.gm_config import GmAutoencoderConfig, GmLdmConfig, GmTableConfig
from trainer.loop_config import LoopConfig


@dataclass(frozen=True)
class Column:
    """How a column of participants.tsv becomes a covariate of the vocabulary.

    Attributes
    ----------
    name, title, unit, description
        As the card shows them.
    column
        Column of participants.tsv (or sessions.tsv, which goes first).
    scale
        Multiplies the number, e.g. 0.001 for mm3 to ml.
    per_head
        Column of the intracranial volume: the number is divided by it and multiplied
        by its mean over the training set (brain volume normalised for head size).
    categories
        For a categorical covariate: the names, in the order of their codes.
    coding
        Value in the table to category, e.g. {"1" = "M", "2" = "F"}; empty when equal.
    """

    name: str
    title: str
    column: str
    unit: str = ""
    description: str = ""
    scale: float = 1.0
    per_head: str = ""
    categories: tuple[str, ...] = ()
    coding: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DataConfig:
    """The training data: a BIDS dataset with T1w scans and a participants table.

    Attributes
    ----------
    dataset
        Folder of the BIDS dataset, relative to where the trainer is run.
    voxel_mm, shape
        The model's grid; an empty shape takes the MNI grid of `voxel_mm`.
    held_out
        Fraction of the subjects never trained on.
    seed
        Of the split by subject.
    flips
        Also train on left-right mirrored brains.
    without
        Subjects ("sub-01") and files ("sub-02_ses-1_T1w.nii.gz") that are left out.
    maps
        Pattern of the gray-matter maps to take instead of T1s, within the dataset:
        "derivatives/gray_matter/**/*desc-modulated*_probseg.nii.gz". Their names hold
        sub-ID, and ses-ID where there are sessions.
    registration
        How the maps were brought into MNI space: "rigid", or "nonlinear" for modulated
        ones.
    fnc, fnc_scale, components
        Table of functional connectivity within the dataset; "r" or "z" (empty: as its
        sidecar or its values say); table of its components (empty: as counted).
    fnc_ids, fnc_session
        Text file within the dataset with one id per row, for connectivity that names
        nobody (GIFT's, HCP's, arrays); which of its sessions to take, from 0.
    """

    dataset: str = "runs/cohort"
    voxel_mm: float = 2.0
    shape: tuple[int, ...] = ()
    held_out: float = 0.15
    seed: int = 0
    flips: bool = True
    without: tuple[str, ...] = ()
    maps: str = ""
    registration: str = "rigid"
    fnc: str = ""
    fnc_scale: str = ""
    fnc_ids: str = ""
    fnc_session: int | None = None
    components: str = ""
    covariates: tuple[Column, ...] = ()
    intensity: Intensity = field(default_factory=Intensity)


@dataclass(frozen=True)
class AutoencoderConfig:
    """Stage autoencoder: L1 + perceptual + patch-adversarial + KL (Pinaya 2022, 2.2).

    Attributes
    ----------
    spec
        With `voxel_channels` there is nothing to train: the diffusion model of the
        next stages works on voxels, a baseline.
    kl, perceptual, adversarial
        Weights of the losses beside L1 (weight 1); 0 switches one off.
    perceptual_start, adversarial_start
        Step from which the features count, and from which the discriminator plays.
    features
        What the perceptual loss compares with: a segmenter's checkpoint
        (.safetensors; empty: the bundled one) or MedicalNet ResNet weights (.pth).
    start
        A checkpoint, imported or our own, with whose autoencoder the training begins;
        it has to have this spec, and may have any grid. Empty for random weights.
    checkpoint
        A checkpoint whose autoencoder is taken as it is, so that none is trained here;
        it has to have this run's grid.
    """

    spec: AutoencoderSpec | VoxelSpec = field(default_factory=AutoencoderSpec)
    loop: LoopConfig = field(default_factory=LoopConfig)
    kl: float = 1e-6
    perceptual: float = 0.0
    adversarial: float = 0.0
    perceptual_start: int = 0
    adversarial_start: int = 0
    features: str = ""
    start: str = ""
    checkpoint: str = ""

    def __post_init__(self) -> None:
        """Refuse a start of what is not trained."""
        if not self.start:
            return
        if self.checkpoint:
            raise EngineError(
                "autoencoder.start begins a training and autoencoder.checkpoint takes "
                "one as it is, but the config sets both. Set one of them."
            )
        if isinstance(self.spec, VoxelSpec):
            raise EngineError(
                f"autoencoder.start is {self.start!r}, but voxels have no autoencoder "
                "to train. Leave it empty, or give autoencoder.spec channels."
            )


@dataclass(frozen=True)
class SegmenterConfig:
    """Stage segmenter: labels from simulated scans under random looks.

    Attributes
    ----------
    voxel_mm
        Edge of the voxels it looks at; the MNI grid of 160 x 192 x 160 mm.
    dice_steps
        Steps during which Dice counts beside cross-entropy. It finds the small
        structures, but makes them too large where the network is not sure.
    volume
        Weight of the relative error of volumes, see `stages.segmenter.volume_loss`.
    looks
        How far samples differ from each other.
    """

    spec: SegmenterSpec = field(default_factory=SegmenterSpec)
    loop: LoopConfig = field(default_factory=LoopConfig)
    voxel_mm: float = 2.0
    dice_steps: int = 0
    volume: float = 0.0
    looks: Randomisation = field(default_factory=Randomisation)


@dataclass(frozen=True)
class LdmConfig:
    """Stage ldm: the conditional denoiser on the autoencoder's latents.

    Attributes
    ----------
    drop
        Fraction of samples whose conditions are dropped, for guidance.
    centred
        Diffuse what differs from the mean latent; for heads placed on one another.
    prior_rank
        Directions of the Gaussian that the network corrects, see
        `engine.networks.prior`; 0 for none, as in the paper. Needs `centred` and the
        prediction "v".
    """

    spec: UNetSpec | GradientEstimatorSpec = field(default_factory=UNetSpec)
    schedule: ScheduleSpec = field(default_factory=ScheduleSpec)
    loop: LoopConfig = field(default_factory=LoopConfig)
    drop: float = 0.0
    centred: bool = False
    prior_rank: int = 0


@dataclass(frozen=True)
class LdaeConfig:
    """Stage ldae: semantic encoder and gradient estimator on a frozen denoiser.

    Attributes
    ----------
    weighting
        "snr": the paper's weights of timesteps, equation 9. "v": the error of v, all
        timesteps alike, which looks at high noise as well.
    gamma
        Power of the signal to noise ratio in the paper's weights.
    jitter
        How much contrast, shading and noise of the encoder's pictures are changed, see
        `data.jitter`; 0 as in the paper. Codes should not tell scanners apart.
    backbone
        Local file of torchvision's ConvNeXt weights (.pth or .safetensors) of the
        encoder's sizes, with which the encoder begins, in the stage supervised as
        well; empty for random weights.
    """

    encoder: SemanticEncoderSpec = field(default_factory=SemanticEncoderSpec)
    loop: LoopConfig = field(default_factory=LoopConfig)
    weighting: str = "snr"
    gamma: float = 0.1
    jitter: float = 0.0
    backbone: str = ""

    def __post_init__(self) -> None:
        """Refuse what is not known."""
        if self.weighting not in ("snr", "v"):
            raise EngineError(
                f"ldae.weighting is {self.weighting!r}; known are 'snr' and 'v'. "
                "Choose one of these."
            )


@dataclass(frozen=True)
class SupervisedConfig:
    """Stage supervised: the encoder of [ldae], taught the directions' targets."""

    loop: LoopConfig = field(default_factory=LoopConfig)


@dataclass(frozen=True)
class Target:
    """What a direction in the space of semantic codes is to mean.

    Attributes
    ----------
    name, title, description
        As the card shows them.
    column
        Column of participants.tsv (or sessions.tsv, which goes first).
    positive, negative
        Of a column of categories: the direction leads from `negative` to `positive`,
        scans of other categories are left out. Empty for a column of numbers.
    unit
        Of a column of numbers, such as "years".
    """

    name: str
    title: str
    column: str
    description: str = ""
    positive: str = ""
    negative: str = ""
    unit: str = ""


@dataclass(frozen=True)
class DirectionsConfig:
    """Stage directions: linear probes on frozen semantic codes.

    Attributes
    ----------
    hold
        Names of targets that the held variants of the others leave as they are.
    along
        "weight": along the probe's weights, as in the paper; "pattern": as codes
        differ where the probe's value does.
    draws
        Bootstrap draws of the intervals.
    """

    targets: tuple[Target, ...] = ()
    hold: tuple[str, ...] = ()
    along: str = "weight"
    draws: int = 1000

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if self.along not in ("weight", "pattern"):
            raise EngineError(
                f"directions.along is {self.along!r}; known are 'weight' and "
                "'pattern'. Choose one of these."
            )
        names = {target.name for target in self.targets}
        for name in self.hold:
            if name not in names:
                raise EngineError(
                    f"directions.hold names {name!r}, which is no target. Targets are "
                    f"{', '.join(sorted(names)) or 'none'}. Correct the config."
                )


@dataclass(frozen=True)
class ForecastConfig:
    """Stage forecast: what a year adds to a semantic code.

    Attributes
    ----------
    dataset
        Folder of a BIDS dataset with sessions of people who may be trained on; empty
        for the training subjects of [data].
    covariates
        What the forecast asks of a person.
    """

    dataset: str = ""
    covariates: tuple[Column, ...] = ()


@dataclass(frozen=True)
class PreviewConfig:
    """Stage preview_decoder: a cheap copy of the decoder for live pictures."""

    spec: PreviewSpec = field(default_factory=PreviewSpec)
    loop: LoopConfig = field(default_factory=LoopConfig)


@dataclass(frozen=True)
class RunConfig:
    """A whole run: name and folder, data, and one section per stage."""

    name: str
    out: str
    data: DataConfig = field(default_factory=DataConfig)
    cohort: CohortConfig = field(default_factory=CohortConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    ldm: LdmConfig = field(default_factory=LdmConfig)
    ldae: LdaeConfig = field(default_factory=LdaeConfig)
    gm_autoencoder: GmAutoencoderConfig = field(default_factory=GmAutoencoderConfig)
    gmldm: GmLdmConfig = field(default_factory=GmLdmConfig)
    gm_table: GmTableConfig = field(default_factory=GmTableConfig)
    directions: DirectionsConfig = field(default_factory=DirectionsConfig)
    forecast: ForecastConfig = field(default_factory=ForecastConfig)
    supervised: SupervisedConfig = field(default_factory=SupervisedConfig)
    segmenter: SegmenterConfig = field(default_factory=SegmenterConfig)
    preview_decoder: PreviewConfig = field(default_factory=PreviewConfig)
    brain_age: ReaderConfig = field(default_factory=ReaderConfig)
    sex: ReaderConfig = field(default_factory=ReaderConfig)
    lsgan: LsganConfig = field(default_factory=LsganConfig)
    vaegan: VaeganConfig = field(default_factory=VaeganConfig)


def load_config(path: Path) -> RunConfig:
    """Read a TOML file; a bare name is looked up among the shipped configs.

    Raises
    ------
    EngineError
        If the file is missing, not TOML, or has an unknown, missing or mistyped entry.
    """
    found = path if path.is_file() else _shipped(path)
    try:
        plain = tomllib.loads(found.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EngineError(
            f"{found} is not a TOML file ({error}). Correct that line."
        ) from error
    return from_plain(RunConfig, plain, found.name)


def _shipped(path: Path) -> Path:
    folder = Path(__file__).parent / "configs"
    found = folder / path.name
    if path.parent != Path() or not found.is_file():
        shipped = ", ".join(sorted(p.name for p in folder.glob("*.toml")))
        raise EngineError(
            f"There is no config {path}. Give a TOML file or one of the shipped "
            f"configs: {shipped}."
        )
    return found
