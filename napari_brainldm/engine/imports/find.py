"""From a file or folder that somebody published to a checkpoint that can be written."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_brainldm.engine.card import Card, Intensity, Provenance
from napari_brainldm.engine.checkpoint import FOREIGN
from napari_brainldm.engine.imports import brain_ldm, ldae, parts
from napari_brainldm.engine.imports.found import Found, Terms
from napari_brainldm.engine.imports.source import (
    Weights,
    read_weights,
    section,
    settings_near,
    weight_files,
)
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.volume import mni_grid

if TYPE_CHECKING:
    from torch import Tensor

NEEDED = (
    "Needed is a MONAI brain LDM bundle (its autoencoder and diffusion model), LDAE's "
    "autoencoder, encoder and decoder, one autoencoder, or a checkpoint of an LDAE "
    "training."
)

LATENT_GRID_MM = 1.0
"""Of a lone autoencoder, which nobody tells the grid of."""


def is_foreign(path: Path) -> bool:
    """Whether `path` may be imported: a folder, or a file that torch wrote."""
    return path.is_dir() or path.suffix in FOREIGN


def find(source: Path, *, published_affine: bool = False) -> Found:
    """Understand the weights at `source`, a folder or one of the files in it.

    Nothing is copied yet: tensors stay on the disk until they are written.

    Raises
    ------
    EngineError
        If what lies there is not complete, ambiguous, or none of the public models.
    """
    if not source.exists():
        raise EngineError(f"There is no {source}. Choose an existing file or folder.")
    try:
        return _found(source, published_affine=published_affine)
    except (LookupError, ArithmeticError, AttributeError) as error:
        raise EngineError(
            f"The weights in {source.name} look like those of a public model, but "
            f"something of it is not there ({error}). Get them again. {NEEDED}"
        ) from error


def _found(source: Path, *, published_affine: bool) -> Found:
    given = {}
    if source.is_file():
        own = read_weights(source)
        found = _training(own)
        if found is not None:
            return found
        given = {_part(own): own}
        if not given.keys() & {*parts.SIGNS, parts.PROBE}:
            raise _unknown(own)
    folder = source if source.is_dir() else source.parent
    files = _by_part(weight_files(folder), folder, given)
    return _complete(files, _settings(files), folder, published_affine=published_affine)


def _part(weights: Weights) -> str:
    return parts.part_of(weights.tensors)


def _unknown(weights: Weights) -> EngineError:
    keys = sorted(weights.tensors) or ["one tensor without a name"]
    return EngineError(
        f"{weights.path.name} holds {len(keys)} tensors ({', '.join(keys[:3])}, ...) of"
        f" no model that is known here. {NEEDED}"
    )


def _by_part(
    files: list[Path], folder: Path, given: dict[str, Weights]
) -> dict[str, Weights]:
    """The files of weights in `folder` by what they are; `given` comes first."""
    found = dict(given)
    for path in files:
        if any(path == weights.path for weights in given.values()):
            continue
        weights = read_weights(path)
        name = _part(weights) or _statistic(weights)
        if not name or name in given:
            continue
        if name in found:
            raise EngineError(
                f"{folder.name} holds {name} twice, in {found[name].path.name} and "
                f"{path.name}. Keep one of them there, or choose a file that is alone."
            )
        found[name] = weights
    return found


def _statistic(weights: Weights) -> str:
    """What a lone tensor is: mean or std of codes, which their names tell apart."""
    if weights.lone is None or weights.lone.dim() != 1:
        return ""
    name = weights.path.stem.lower()
    if "std" in name and bool((weights.lone > 0).all()):
        return "std"
    return "mean" if "mean" in name else ""


def _settings(files: Mapping[str, Weights]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for weights in files.values():
        found = settings_near(weights.path) | found
    return found


def _complete(
    files: Mapping[str, Weights],
    settings: Mapping[str, Any],
    folder: Path,
    *,
    published_affine: bool,
) -> Found:
    coder, unet = files.get(parts.AUTOENCODER), files.get(parts.UNET)
    branches = files.get(parts.TWO_BRANCHES)
    if unet is not None and branches is not None:
        raise EngineError(
            f"{folder.name} holds {parts.UNET} ({unet.path.name}) and "
            f"{parts.TWO_BRANCHES} ({branches.path.name}). Keep the files of one model "
            "in a folder."
        )
    if coder is None:
        words = ", ".join(f"{k} ({w.path.name})" for k, w in files.items())
        found_there = f"{words}, but no autoencoder" if words else "no known weights"
        raise EngineError(f"In {folder.name} there is {found_there}. {NEEDED}")
    if unet is not None:
        found = brain_ldm.assembled(
            coder.tensors, unet.tensors, settings, published_affine=published_affine
        )
    elif branches is not None:
        found = ldae.assembled(_networks(files, coder, branches), settings)
    else:
        found = _alone(coder, settings)
    return _with_words(found, files)


def _networks(
    files: Mapping[str, Weights], coder: Weights, branches: Weights
) -> ldae.Networks:
    encoder, probe = files.get(parts.ENCODER), files.get(parts.PROBE)
    mean, std = (files[n].lone if n in files else None for n in ("mean", "std"))
    return ldae.Networks(
        coder.tensors,
        branches.tensors,
        encoder.tensors if encoder else None,
        probe.tensors if probe else {},
        mean,
        std,
    )


def _alone(coder: Weights, settings: Mapping[str, Any]) -> Found:
    """An autoencoder without a denoiser: it can rebuild pictures, not make them."""
    arguments = section(settings, "autoencoder_def", "vae_args")
    card = Card(
        kind="autoencoder",
        name=f"Autoencoder of {coder.path.name}",
        grid=mni_grid(LATENT_GRID_MM),
        autoencoder=parts.autoencoder_spec(coder.tensors, arguments),
        intensity=Intensity(scaling="minmax", stripped=False),
        provenance=Provenance(command="brainldm import", citation="", licence=""),
    )
    tensors = parts.autoencoder_keys(coder.tensors)
    words = "No licence lies beside these weights; ask whoever made them."
    return Found(
        card,
        {f"autoencoder.{k}": v for k, v in tensors.items()},
        Terms(coder.path.name, words, open=True),
    )


def _training(weights: Weights) -> Found | None:
    """An LDAE from a checkpoint of its training; None of any other file."""
    if not any(key.startswith("vae.") for key in weights.tensors):
        return None
    autoencoder = _under(weights.tensors, "vae.")
    for names in (("ema_decoder.", "ema_encoder."), ("decoder.", "encoder.")):
        decoder, encoder = (_under(weights.tensors, name) for name in names)
        if decoder and encoder:
            networks = ldae.Networks(autoencoder, decoder, encoder)
            return _told(ldae.assembled(networks, weights.settings), weights, names[0])
    for name in ("ema_unet.", "unet."):
        plain = _under(weights.tensors, name)
        if plain:
            networks = ldae.Networks(autoencoder, plain)
            return _told(ldae.assembled(networks, weights.settings), weights, name)
    raise _unknown(weights)


def _told(found: Found, weights: Weights, prefix: str) -> Found:
    which = "averaged (EMA)" if prefix.startswith("ema_") else "last, not averaged"
    words = f"Training checkpoint {weights.path.name}: the {which} weights were taken."
    return Found(found.card, found.tensors, found.terms, (words,))


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    size = len(prefix)
    return {k[size:]: v for k, v in tensors.items() if k.startswith(prefix)}


def _with_words(found: Found, files: Mapping[str, Weights]) -> Found:
    told = tuple(f"{w.path.name}: {part}." for part, w in files.items())
    return Found(found.card, found.tensors, found.terms, told)


def recognised(source: Path) -> tuple[str, ...]:
    """Which files at `source` are published ones, by their MD5; reads them whole."""
    folder = source if source.is_dir() else source.parent
    words = []
    for path in weight_files(folder):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, _md5)
        name = brain_ldm.MD5.get(digest.hexdigest())
        if name is not None:
            words.append(f"{path.name} is {name}, by its MD5.")
    return tuple(words)


def _md5() -> Any:
    return hashlib.md5(usedforsecurity=False)
