"""The brain LDM of Pinaya 2022 as MONAI's model zoos publish it (UK Biobank).

Two layouts of one bundle hold the same two files of weights. Section numbers are those
of https://arxiv.org/abs/2209.07162.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_brainldm.engine.card import (
    Card,
    Covariate,
    Intensity,
    Provenance,
    ScheduleSpec,
)
from napari_brainldm.engine.imports import parts
from napari_brainldm.engine.imports.found import Found, Terms
from napari_brainldm.engine.imports.source import number, section, whole
from napari_brainldm.engine.networks.autoencoder import AutoencoderSpec
from napari_brainldm.engine.networks.unet import UNetSpec
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.volume import Grid

if TYPE_CHECKING:
    from torch import Tensor


MD5 = {
    "329e97b3085643ff235f11f049856242": "the published autoencoder",
    "21c3047556fb671caf0556f1cce6ef22": "the published diffusion model",
}
"""Of the two files in both layouts of the bundle."""

SHAPE = (160, 224, 160)
ORIGIN_MM = (80.48149872, -125.47715759, -60.55375671)
"""Of voxel (0, 0, 0), x then falling (LAS), where heads lie in MNI space."""

GRID_NOTE = (
    "The affine is a corrected one. The one that was published belongs to the volume "
    "before it was cropped and puts the first voxel of this grid at (101.48, -146.48, "
    "-156.55) mm, the head 21 mm aside and 96 mm below MNI space."
)
OTHER_NOTE = (
    "Of the layout of the public brain LDM, but of other sizes: it is not known what "
    "it was trained on, nor what 0 and 1 of its conditions mean."
)
MIDDLE_NOTE = "Sliders begin in the middle of their ranges: no medians are published."

PAPER = "the paper"

TERMS = Terms(
    "Brain LDM (Pinaya et al. 2022), MONAI bundle",
    "Licence: Apache-2.0, as the bundle states. Trained on UK Biobank; a research tool,"
    " not for clinical use.",
    open=True,
)

OTHER_TERMS = Terms(
    "Weights in the layout of the brain LDM",
    "No licence lies beside these weights; ask whoever made them.",
    open=True,
)

VOCABULARY = (
    Covariate(
        "sex",
        "Sex",
        description="Sex of the person: F female (0), M male (1).",
        reference="F",
        categories=("F", "M"),
    ),
    Covariate(
        "age",
        "Age",
        "years",
        "Age at the scan.",
        44.0,
        82.0,
        63.0,
        range_from=PAPER,
    ),
    Covariate(
        "ventricles",
        "Ventricular CSF",
        "ml",
        "Ventricular cerebrospinal fluid (UK Biobank field 25004; section 2.1).",
        6.99568,
        171.375,
        89.2,
        range_from=PAPER,
    ),
    Covariate(
        "brain",
        "Brain volume",
        "ml",
        "Normalised for head size (UK Biobank field 25009; section 2.1).",
        1144.24,
        1793.91,
        1469.1,
        range_from=PAPER,
    ),
)
"""In the order of the condition vector: gender, age, ventricular and brain volume."""


def assembled(
    autoencoder: Mapping[str, Tensor],
    unet: Mapping[str, Tensor],
    settings: Mapping[str, Any],
) -> Found:
    """The brain LDM of both networks; `settings` are those of its bundle, if any."""
    coder = parts.autoencoder_spec(autoencoder, section(settings, "autoencoder_def"))
    networks = section(settings, "diffusion_def", "network_def", "unet_def")
    denoiser = parts.unet_spec(unet, networks)
    check_latents(coder.latent_channels, denoiser.latent_channels)
    published = coder == AutoencoderSpec() and denoiser == UNetSpec()
    card = Card(
        kind="brain-ldm",
        name="Brain LDM (Pinaya 2022, UK Biobank)" if published else "Brain LDM",
        grid=_grid(settings, coder),
        autoencoder=coder,
        denoiser=denoiser,
        schedule=_schedule(section(settings, "scheduler", "noise_scheduler")),
        vocabulary=VOCABULARY if published else _plain(denoiser.condition_size),
        intensity=Intensity(scaling="minmax", stripped=False),
        provenance=_provenance(published),
    )
    tensors = {
        f"autoencoder.{k}": v for k, v in parts.autoencoder_keys(autoencoder).items()
    }
    tensors |= {f"denoiser.{k}": v for k, v in parts.unet_keys(unet).items()}
    return Found(card, tensors, TERMS if published else OTHER_TERMS)


def _provenance(published: bool) -> Provenance:
    if not published:
        return Provenance(
            command="brainldm import", licence="", notes=(OTHER_NOTE, GRID_NOTE)
        )
    return Provenance(
        trained_on="31,740 T1w scans of UK Biobank (says the paper), whole heads, "
        "rigidly in MNI space, 1 mm, intensities 0 to 1 by minimum and maximum",
        command="brainldm import",
        licence="Apache-2.0",
        notes=(GRID_NOTE, MIDDLE_NOTE),
    )


def check_latents(made: int, taken: int) -> None:
    """Raise an EngineError unless an autoencoder and a denoiser fit together."""
    if made != taken:
        raise EngineError(
            f"The autoencoder makes {made} latent channels, the diffusion model takes "
            f"{taken}: they do not belong together. Import one model at a time."
        )


def _plain(size: int) -> tuple[Covariate, ...]:
    """Conditions of 0 to 1, under the names of the published ones if as many."""
    names = [(c.name, c.title) for c in VOCABULARY]
    if size != len(names):
        names = [(f"condition{n}", f"Condition {n}") for n in range(1, size + 1)]
    words = "0 to 1 over the training range, which these weights do not tell."
    return tuple(
        Covariate(name, title, "", words, reference=0.5) for name, title in names
    )


NAMES = {"linear_beta": "linear", "scaled_linear_beta": "scaled_linear"}
PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v", "sample": "sample"}


def _schedule(settings: Mapping[str, Any]) -> ScheduleSpec:
    """As published, with what the bundle's own config says in plain values."""
    return ScheduleSpec(
        _known(settings, ("schedule", "beta_schedule"), NAMES, "scaled_linear_beta"),
        whole(settings, "num_train_timesteps", 1000),
        number(settings, "beta_start", 0.0015),
        number(settings, "beta_end", 0.0205),
        _known(settings, ("prediction_type",), PREDICTIONS, "epsilon"),
        spacing="leading",
    )


def _known(
    settings: Mapping[str, Any],
    names: tuple[str, ...],
    known: Mapping[str, str],
    default: str,
) -> str:
    """Our word for what a config says under one of `names`; expressions are none."""
    given = next((settings[n] for n in names if n in settings), default)
    if not isinstance(given, str) or given.startswith(("$", "@", "%")):
        given = default
    if given not in known:
        raise EngineError(
            f"The bundle's config says {names[0]} = {given!r}; known are "
            f"{', '.join(known)}. Import a bundle with one of these."
        )
    return known[given]


def _grid(settings: Mapping[str, Any], autoencoder: AutoencoderSpec) -> Grid:
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = ORIGIN_MM
    return Grid.of(latent_to_shape(settings, autoencoder.factor, SHAPE), affine)


LARGEST = 1024
"""Voxels along an axis that a config is believed."""


def latent_to_shape(
    settings: Mapping[str, Any], factor: int, default: tuple[int, int, int]
) -> tuple[int, int, int]:
    """Shape of the pictures: `latent_shape` (..., i, j, k) of a config times `factor`.

    `default` where a config does not say it in numbers.
    """
    latent = settings.get("latent_shape")
    if not isinstance(latent, list) or len(latent) < 3:
        return default
    i, j, k = latent[-3:]
    if not all(type(n) is int and 0 < n * factor <= LARGEST for n in (i, j, k)):
        return default
    return (i * factor, j * factor, k * factor)
