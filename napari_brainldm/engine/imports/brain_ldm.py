"""The brain LDM of Pinaya 2022 as MONAI's model zoos publish it (UK Biobank).

Two layouts of one bundle hold the same two files of weights. Section numbers are those
of https://arxiv.org/abs/2209.07162.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

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
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.volume import Grid

if TYPE_CHECKING:
    from torch import Tensor

    from napari_brainldm.engine.networks.autoencoder import AutoencoderSpec
    from napari_brainldm.engine.networks.unet import UNetSpec

MD5 = {
    "329e97b3085643ff235f11f049856242": "the published autoencoder",
    "21c3047556fb671caf0556f1cce6ef22": "the published diffusion model",
}
"""Of the two files in both layouts of the bundle."""

SHAPE = (160, 224, 160)
ORIGIN_MM = (80.48149872, -125.47715759, -60.55375671)
PUBLISHED_ORIGIN_MM = (96.48149872, -141.47715759, -156.55375671)
"""Of voxel (0, 0, 0), x then falling (LAS). The published one belongs to the volume
before it was cropped to this shape: it puts the brain 90 mm below MNI space. The other
counts the crop, and is where heads lie."""

PAPER = "the paper"

TERMS = Terms(
    "Brain LDM (Pinaya et al. 2022), MONAI bundle",
    "Licence: Apache-2.0, as the bundle states. Trained on UK Biobank; a research tool,"
    " not for clinical use.",
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
        63.6,
        range_from=PAPER,
    ),
    Covariate(
        "ventricles",
        "Ventricular CSF",
        "ml",
        "Ventricular cerebrospinal fluid (UK Biobank field 25004; section 2.1).",
        6.99568,
        171.375,
        40.0,
        range_from=PAPER,
    ),
    Covariate(
        "brain",
        "Brain volume",
        "ml",
        "Normalised for head size (UK Biobank field 25009; section 2.1).",
        1144.24,
        1793.91,
        1470.0,
        range_from=PAPER,
    ),
)
"""In the order of the condition vector: gender, age, ventricular and brain volume."""


def assembled(
    autoencoder: Mapping[str, Tensor],
    unet: Mapping[str, Tensor],
    settings: Mapping[str, Any],
    *,
    published_affine: bool = False,
) -> Found:
    """The brain LDM of both networks; `settings` are those of its bundle, if any."""
    coder = parts.autoencoder_spec(autoencoder, section(settings, "autoencoder_def"))
    networks = section(settings, "diffusion_def", "network_def", "unet_def")
    denoiser = parts.unet_spec(unet, networks)
    _check_fit(coder, denoiser)
    card = Card(
        kind="brain-ldm",
        name="Brain LDM (Pinaya 2022, UK Biobank)",
        grid=_grid(settings, coder, published_affine=published_affine),
        autoencoder=coder,
        denoiser=denoiser,
        schedule=_schedule(section(settings, "scheduler", "noise_scheduler")),
        vocabulary=_vocabulary(denoiser.condition_size),
        intensity=Intensity(scaling="minmax", stripped=False),
        provenance=Provenance(
            trained_on="31,740 T1w scans of UK Biobank (says the paper), whole heads, "
            "rigidly in MNI space, 1 mm, intensities 0 to 1 by minimum and maximum",
            command="brainldm import",
            licence="Apache-2.0",
        ),
    )
    tensors = {
        f"autoencoder.{k}": v for k, v in parts.autoencoder_keys(autoencoder).items()
    }
    tensors |= {f"denoiser.{k}": v for k, v in parts.unet_keys(unet).items()}
    return Found(card, tensors, TERMS)


def _check_fit(autoencoder: AutoencoderSpec, denoiser: UNetSpec) -> None:
    ours, theirs = autoencoder.latent_channels, denoiser.latent_channels
    if ours != theirs:
        raise EngineError(
            f"The autoencoder makes {ours} latent channels, the diffusion model takes "
            f"{theirs}: they do not belong together. Import one bundle at a time."
        )


def _vocabulary(size: int) -> tuple[Covariate, ...]:
    """The published conditions; of a network with others, plain numbers 0 to 1."""
    if size == len(VOCABULARY):
        return VOCABULARY
    words = "A condition of unknown meaning, 0 to 1 over the training range."
    return tuple(
        Covariate(f"condition{n}", f"Condition {n}", "", words, reference=0.5)
        for n in range(1, size + 1)
    )


def _schedule(settings: Mapping[str, Any]) -> ScheduleSpec:
    """As published, with the numbers of the bundle's own config."""
    linear = "linear_beta" in (settings.get("schedule"), settings.get("beta_schedule"))
    return ScheduleSpec(
        "linear" if linear else "scaled_linear",
        whole(settings, "num_train_timesteps", 1000),
        number(settings, "beta_start", 0.0015),
        number(settings, "beta_end", 0.0205),
        spacing="leading",
    )


def _grid(
    settings: Mapping[str, Any], autoencoder: AutoencoderSpec, *, published_affine: bool
) -> Grid:
    origin = PUBLISHED_ORIGIN_MM if published_affine else ORIGIN_MM
    rows = [[0.0] * 3 + [value] for value in origin]
    for axis, step in enumerate((-1.0, 1.0, 1.0)):
        rows[axis][axis] = step
    affine = (*(tuple(row) for row in rows), (0.0, 0.0, 0.0, 1.0))
    return Grid(latent_to_shape(settings, autoencoder.factor, SHAPE), affine)


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
    if not all(isinstance(n, int) and n > 0 for n in (i, j, k)):
        return default
    return (i * factor, j * factor, k * factor)
