"""From a file or folder that somebody published to a checkpoint that can be written."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Generator, Mapping
from dataclasses import replace
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

AT_ONCE = 2**24
"""Bytes read at once."""

UNRECOGNISED = "By their MD5, these are not the published files."

NEEDED = (
    "Needed is a MONAI brain LDM bundle (its autoencoder and diffusion model), LDAE's "
    "autoencoder, encoder and decoder, one autoencoder, or a checkpoint of an LDAE "
    "training."
)

MEAN, STD = "the mean of semantic codes", "the SD of semantic codes"

LONE_GRID_MM = 1.0
"""Of a lone autoencoder, which nobody tells the grid of."""

LONE_NOTE = (
    "Nothing says the grid and the intensities of this autoencoder: 1 mm in MNI space "
    "and minimum to maximum are guesses."
)


def is_foreign(path: Path) -> bool:
    """Whether `path` may be imported: a folder, or a file that torch wrote."""
    return path.is_dir() or path.suffix in FOREIGN


def find(source: Path) -> Found:
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
        return _found(source)
    except (LookupError, ArithmeticError, AttributeError) as error:
        raise EngineError(
            f"The weights in {source.name} look like those of a public model, but "
            f"something of it is not there ({error}). Get them again. {NEEDED}"
        ) from error


def _found(source: Path) -> Found:
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
    beside = _beside(folder, given)
    trainings = [] if given else [w for w in beside if _is_training(w)]
    if len(trainings) == 1:
        found = _training(trainings[0])
        assert found is not None
        return found
    files = _by_part(beside, folder, given)
    return _complete(files, _settings(files), folder)


def _beside(folder: Path, given: Mapping[str, Weights]) -> list[Weights]:
    """What can be read in `folder`; files that are no weights are no one's fault."""
    taken = [weights.path for weights in given.values()]
    found = []
    for path in weight_files(folder):
        if path not in taken:
            with contextlib.suppress(EngineError):
                found.append(read_weights(path))
    return found


def _part(weights: Weights) -> str:
    return parts.part_of(weights.tensors)


def _unknown(weights: Weights) -> EngineError:
    keys = sorted(weights.tensors) or ["one tensor without a name"]
    return EngineError(
        f"{weights.path.name} holds {len(keys)} tensors ({', '.join(keys[:3])}, ...) of"
        f" no model that is known here. {NEEDED}"
    )


def _by_part(
    beside: list[Weights], folder: Path, given: Mapping[str, Weights]
) -> dict[str, Weights]:
    """The weights in `folder` by what they are; `given` comes first."""
    found = dict(given)
    for weights in beside:
        name = _part(weights) or _statistic(weights)
        if not name or name in given:
            continue
        if name in found:
            raise EngineError(
                f"{folder.name} holds {name} twice, in {found[name].path.name} and "
                f"{weights.path.name}. Keep one of them there, or choose a file that "
                "is alone."
            )
        found[name] = weights
    return found


def _statistic(weights: Weights) -> str:
    """What a lone tensor is: mean or std of codes, which their names tell apart."""
    lone = weights.lone
    if lone is None or lone.numel() != max(lone.shape, default=0):
        return ""
    name = weights.path.stem.lower()
    if "std" in name and bool((lone > 0).all()):
        return STD
    return MEAN if "mean" in name else ""


def _settings(files: Mapping[str, Weights]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for weights in files.values():
        found = settings_near(weights.path) | found
    return found


def _complete(
    files: Mapping[str, Weights],
    settings: Mapping[str, Any],
    folder: Path,
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
        found = brain_ldm.assembled(coder.tensors, unet.tensors, settings)
    elif branches is not None:
        found = ldae.assembled(_networks(files, coder, branches), settings)
    else:
        found = _alone(coder, settings)
    return _with_words(found, files)


def _networks(
    files: Mapping[str, Weights], coder: Weights, branches: Weights
) -> ldae.Networks:
    encoder, probe = files.get(parts.ENCODER), files.get(parts.PROBE)
    mean, std = (files[n].lone if n in files else None for n in (MEAN, STD))
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
        grid=mni_grid(LONE_GRID_MM),
        autoencoder=parts.autoencoder_spec(coder.tensors, arguments),
        intensity=Intensity(scaling="minmax", stripped=False),
        provenance=Provenance(
            command="brainldm import", citation="", licence="", notes=(LONE_NOTE,)
        ),
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
    if not _is_training(weights):
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


def _is_training(weights: Weights) -> bool:
    return any(key.startswith("vae.") for key in weights.tensors)


def _told(found: Found, weights: Weights, prefix: str) -> Found:
    which = "averaged (EMA)" if prefix.startswith("ema_") else "last, not averaged"
    words = f"Training checkpoint {weights.path.name}: the {which} weights were taken."
    return replace(found, told=(words, *found.told))


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    size = len(prefix)
    return {k[size:]: v for k, v in tensors.items() if k.startswith(prefix)}


def _with_words(found: Found, files: Mapping[str, Weights]) -> Found:
    told = tuple(f"{w.path.name}: {part}." for part, w in files.items())
    return replace(found, told=(*told, *found.told))


def recognise(found: Found, source: Path) -> Generator[int, None, tuple[str, ...]]:
    """Which files of a brain LDM at `source` are the published ones, by their MD5.

    Reads them whole; yields the bytes read of each file after every part of it.
    """
    if found.card.kind != "brain-ldm":
        return ()  # no MD5 of other weights was published
    words = []
    for path in weight_files(source if source.is_dir() else source.parent):
        digest, read = hashlib.md5(usedforsecurity=False), 0
        with path.open("rb") as file:
            while part := file.read(AT_ONCE):
                digest.update(part)
                read += len(part)
                yield read
        name = brain_ldm.MD5.get(digest.hexdigest())
        words += [] if name is None else [f"{path.name} is {name}, by its MD5."]
    return tuple(words) or (UNRECOGNISED,)
