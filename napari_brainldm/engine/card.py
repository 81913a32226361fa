"""The card of a checkpoint: every fact needed to use its weights, typed once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from napari_brainldm.engine.components import Connectivity
from napari_brainldm.engine.copy_test import CopyTest
from napari_brainldm.engine.diffusion import Schedule, linear, scaled_linear
from napari_brainldm.engine.joint import Group
from napari_brainldm.engine.networks.autoencoder import AutoencoderSpec
from napari_brainldm.engine.networks.generator import GeneratorSpec
from napari_brainldm.engine.networks.gm_autoencoder import GrayMatterAutoencoderSpec
from napari_brainldm.engine.networks.gradient_estimator import GradientEstimatorSpec
from napari_brainldm.engine.networks.preview import PreviewSpec
from napari_brainldm.engine.networks.reader import ReaderSpec
from napari_brainldm.engine.networks.segmenter import SegmenterSpec
from napari_brainldm.engine.networks.semantic_encoder import SemanticEncoderSpec
from napari_brainldm.engine.networks.unet import UNetSpec
from napari_brainldm.engine.networks.vit_denoiser import ViTSpec
from napari_brainldm.engine.networks.voxel_space import VoxelSpec
from napari_brainldm.engine.notice import NOTICE
from napari_brainldm.engine.request import Conditions, EngineError, Value
from napari_brainldm.engine.semantic_space import Direction, Plane
from napari_brainldm.engine.volume import Grid

KINDS = (
    "autoencoder",
    "brain-ldm",
    "ldae",
    "gm-ldm",
    "segmenter",
    "reader",
    "gan",
)

Autoencoder = AutoencoderSpec | GrayMatterAutoencoderSpec | VoxelSpec
Denoiser = UNetSpec | GradientEstimatorSpec | ViTSpec


@dataclass(frozen=True)
class Histogram:
    """How often the training set took each value.

    Attributes
    ----------
    low, high
        Outer edges of the first and last bin, in the covariate's unit.
    counts
        Scans per bin; bins are equally wide.
    """

    low: float
    high: float
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Covariate:
    """One entry of the vocabulary.

    Attributes
    ----------
    name, title, unit
        "ventricles", "Lateral ventricles", "ml"; the unit is empty for categories.
    description
        One sentence for tooltips and `--help`.
    low, high
        Training range, mapped to 0..1 (the paper's min-max normalisation).
    reference
        Value shown first: the training median, or the commonest category.
    categories
        Names of the categories, coded 0, 1/(n-1), ..., 1; empty for a number.
    histogram
        Training histogram of a number.
    range_from
        Who says so, where this program did not measure the range: "the paper, 2.1".
    """

    name: str
    title: str
    unit: str = ""
    description: str = ""
    low: float = 0.0
    high: float = 1.0
    reference: float | str = 0.0
    categories: tuple[str, ...] = ()
    histogram: Histogram | None = None
    range_from: str = ""

    def encode(self, value: Value) -> float:
        """Map a value in human units to the 0..1 of training."""
        if self.categories:
            return self._code(value)
        number = as_number(self, value)
        return (number - self.low) / (self.high - self.low)

    def decode(self, code: float) -> Value:
        """Inverse of `encode`; the nearest category."""
        if not self.categories:
            return self.low + code * (self.high - self.low)
        last = len(self.categories) - 1
        return self.categories[min(max(round(code * last), 0), last)]

    def extrapolates(self, value: Value) -> bool:
        """Whether `value` lies outside the training range."""
        return not self.categories and not 0.0 <= self.encode(value) <= 1.0

    def parse(self, value: Value) -> Value:
        """`value` as its own type, or an EngineError sentence."""
        self.encode(value)
        return str(value) if self.categories else float(value)

    def _code(self, value: Value) -> float:
        if value not in self.categories:
            raise EngineError(
                f"{self.name} is {value!r}; this checkpoint knows "
                f"{', '.join(self.categories)}. Choose one of these."
            )
        return self.categories.index(str(value)) / max(len(self.categories) - 1, 1)


def without_autoencoder(name: str) -> str:
    """The sentence for a checkpoint that makes no pictures."""
    return (
        f"{name} holds no autoencoder, so it cannot show or make pictures. Load a "
        "brain LDM."
    )


LARGEST = 1e9
"""What float32 takes in any vocabulary."""


def as_number(covariate: Covariate, value: Value) -> float:
    """`value` as a finite number; an EngineError sentence otherwise."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not abs(number) <= LARGEST:  # false for nan too
        raise EngineError(
            f"{covariate.name} is {value!r}; a number is needed, {covariate.low:g} to "
            f"{covariate.high:g} {covariate.unit} in training. Give such a number."
        )
    return number


@dataclass(frozen=True)
class ScheduleSpec:
    """The noise schedule of training.

    Attributes
    ----------
    name
        "linear" or "scaled_linear".
    steps, beta_start, beta_end
        Training timesteps; betas at both ends.
    prediction
        What the denoiser gives: "epsilon", "v" or "sample".
    spacing
        Timesteps DDIM visits: "leading" (public brain LDM), "trailing", or "endpoints"
        (public LDAE).
    clamp
        Predicted latents are kept within -clamp to clamp; 0 leaves them as they are.
        The public LDAE clamps to 1, which its latents exceed.
    """

    name: str = "scaled_linear"
    steps: int = 1000
    beta_start: float = 0.0015
    beta_end: float = 0.0205
    prediction: str = "epsilon"
    spacing: str = "trailing"
    clamp: float = 0.0

    def build(self) -> Schedule:
        """The noise levels."""
        makers = {"linear": linear, "scaled_linear": scaled_linear}
        if self.name not in makers:
            raise EngineError(
                f"The noise schedule is called {self.name!r}; known are "
                f"{', '.join(makers)}. Correct the card or the config."
            )
        return makers[self.name](self.steps, self.beta_start, self.beta_end)


@dataclass(frozen=True)
class Intensity:
    """The intensity convention of the pictures.

    Attributes
    ----------
    percentile
        This percentile of the brain's voxels becomes 1; background is 0.
    stripped
        Whether the model knows skull-stripped brains only.
    scaling
        "percentile"; or "minmax": the least and the greatest intensity of the whole
        picture become 0 and 1; or "probability": pictures are gray-matter maps, whose
        values are shares and stay as they are.
    """

    percentile: float = 99.5
    stripped: bool = True
    scaling: str = "percentile"


Entry = TypeVar("Entry", Covariate, Direction)


@dataclass(frozen=True)
class Provenance:
    """Where the weights come from and what may be done with them.

    Attributes
    ----------
    notes
        Sentences about what to mind when using these weights.
    """

    trained_on: str = ""
    command: str = ""
    citation: str = "Pinaya et al. 2022, https://arxiv.org/abs/2209.07162"
    licence: str = "BSD-3-Clause"
    intended_use: str = "Research on generative models of the brain MRI."
    notice: str = NOTICE
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Card:
    """What a checkpoint is; `kind` is one of KINDS.

    Attributes
    ----------
    grid
        The space of its pictures.
    preview
        The cheap decoder for live pictures, when the checkpoint brings one.
    latent_scale
        Latents are multiplied by this before diffusion (1 / SD over the training set).
    latent_centred
        Whether the mean latent of the training set, kept beside the weights as
        "latent.mean", is taken off first: placed heads share most of what they show,
        and the denoiser need not learn it.
    vocabulary
        Covariates in the order of the condition vector.
    joint
        How they occur together in the training set; empty when it is not told.
    directions
        Along which a semantic code can be moved, kept beside the weights.
    fnc
        The connectivity that the denoiser knows; None for none.
    plane
        In which semantic codes of training people lie apart by a diagnosis.
    forecast
        What the forecast of a later scan asks of a person. Beside the weights lies
        "forecast.weight" (1 + n, E): what a year adds to a semantic code, for nobody
        in particular and by each of these, encoded 0..1.
    head_size
        Mean intracranial volume of the training set in ml: `brain` is brain volume
        times head_size / own intracranial volume. 0 when unknown.
    registration
        How scans are brought into MNI space: "rigid", or "nonlinear", which gives
        every head the shape of the template.
    figures
        Measured quality, name to value.
    copies
        Whether its pictures are copies of training scans; None where nobody looked.
    network
        A network that stands alone, kept beside the weights as "network.*": of the
        kinds "reader" and "gan".
    """

    kind: str
    name: str
    grid: Grid
    autoencoder: Autoencoder | None = None
    denoiser: Denoiser | None = None
    encoder: SemanticEncoderSpec | None = None
    segmenter: SegmenterSpec | None = None
    preview: PreviewSpec | None = None
    schedule: ScheduleSpec = field(default_factory=ScheduleSpec)
    latent_scale: float = 1.0
    latent_centred: bool = False
    vocabulary: tuple[Covariate, ...] = ()
    joint: tuple[Group, ...] = ()
    directions: tuple[Direction, ...] = ()
    fnc: Connectivity | None = None
    plane: Plane | None = None
    forecast: tuple[Covariate, ...] = ()
    intensity: Intensity = field(default_factory=Intensity)
    head_size: float = 0.0
    registration: str = "rigid"
    provenance: Provenance = field(default_factory=Provenance)
    figures: tuple[tuple[str, float], ...] = ()
    copies: CopyTest | None = None
    network: ReaderSpec | GeneratorSpec | None = None

    @property
    def latent_shape(self) -> tuple[int, int, int, int]:
        """(C, i, j, k) of a latent."""
        if self.autoencoder is None:
            raise EngineError(without_autoencoder(self.name))
        return self.autoencoder.latent_shape(self.grid.shape)

    def covariate(self, name: str) -> Covariate:
        """The vocabulary's entry `name`; an EngineError sentence if there is none."""
        return _named(name, self.vocabulary, "condition", self.name)

    def direction(self, name: str) -> Direction:
        """The direction `name`; an EngineError sentence if there is none."""
        return _named(name, self.directions, "direction", self.name)

    def person(self, told: Conditions) -> tuple[float, ...]:
        """What the forecast asks, encoded 0..1; what is not told by reference."""
        if not self.forecast:
            raise EngineError(
                f"{self.name} has no forecast of later scans. Use a checkpoint of the "
                "stage forecast."
            )
        given = told.as_dict()
        for name in given:
            self.question(name)
        return tuple(c.encode(given.get(c.name, c.reference)) for c in self.forecast)

    def question(self, name: str) -> Covariate:
        """What the forecast calls `name`; an EngineError if it does not ask that."""
        return _named(name, self.forecast, "question of the forecast", self.name)

    def complete(self, conditions: Conditions) -> Conditions:
        """Fill the covariates left out with their reference values.

        Raises
        ------
        EngineError
            If a covariate is unknown, or connectivity is given to a model that knows
            none.
        """
        if conditions.fnc and self.fnc is None:
            raise EngineError(
                f"{self.name} knows no functional connectivity. Load a GM-LDM "
                "checkpoint, or leave the connectivity out."
            )
        given = {n: self.parse(n, v) for n, v in conditions.as_dict().items()}
        every = {c.name: c.reference for c in self.vocabulary} | given
        return replace(Conditions.of(every), fnc=conditions.fnc)

    def parse(self, name: str, value: Value) -> Value:
        """`value` of covariate `name` as its own type, or an EngineError sentence."""
        return self.covariate(name).parse(value)

    def vector(self, conditions: Conditions) -> tuple[float, ...]:
        """The condition vector, 0..1 within the training range."""
        values: Mapping[str, Value] = self.complete(conditions).as_dict()
        return tuple(c.encode(values[c.name]) for c in self.vocabulary)


def _named(name: str, entries: tuple[Entry, ...], what: str, model: str) -> Entry:
    """The entry `name`; an EngineError sentence that tells those there are."""
    for entry in entries:
        if entry.name == name:
            return entry
    known = ", ".join(entry.name for entry in entries) or "none"
    raise EngineError(
        f"{name!r} is not a {what} of {model}. Its {what}s are: {known}. Use one of "
        "these."
    )
