"""Equality with the original code of the public checkpoints, output by output.

    pytest tests/parity --fixtures DIR -s

runs every parity set in DIR, whatever its sizes; without DIR the ones beside the
checkout. A set is a folder with weights as published and `io.safetensors`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from napari_brainldm.engine.framing import framed
from napari_brainldm.engine.imports import parts
from napari_brainldm.engine.networks.autoencoder import AutoencoderSpec
from napari_brainldm.engine.networks.gradient_estimator import GradientEstimatorSpec
from napari_brainldm.engine.networks.semantic_encoder import SemanticEncoderSpec
from napari_brainldm.engine.networks.unet import UNetSpec
from napari_brainldm.engine.scan_file import read_scan
from tests.parity import brain_ldm, ldae
from tests.parity.sets import Opened, Outputs, compared, opened


def sets(folder: Path, sign: str) -> list[Path]:
    """Folders in `folder` that hold `sign`, a file or a folder."""
    return sorted(p for p in folder.iterdir() if p.is_dir() and (p / sign).exists())


def test_there_are_sets(fixtures: Path) -> None:
    """A folder without any would let everything below pass."""
    kinds = [*sets(fixtures, "bundle"), *sets(fixtures, "models")]
    assert kinds or any(fixtures.glob("*/*.ckpt")) or any(fixtures.glob("*/meta.json"))


@pytest.mark.parametrize(
    ("sign", "outputs"), [("bundle", brain_ldm.outputs), ("models", ldae.outputs)]
)
def test_published_files(
    fixtures: Path, tmp_path: Path, sign: str, outputs: Callable[[Opened], Outputs]
) -> None:
    """A MONAI bundle lies in `bundle`, LDAE's files in `models`."""
    failed = []
    for folder in sets(fixtures, sign):
        io = folder / "io.safetensors"
        set_ = opened(folder / sign, io, tmp_path / folder.name)
        failed += compared(folder.name, outputs(set_), set_.io)
    assert not failed


def test_ldae_trainings(fixtures: Path, tmp_path: Path) -> None:
    failed = []
    for file in sorted(fixtures.glob("*/*.ckpt")):
        io = file.with_suffix(".io.safetensors")
        name = f"{file.parent.name}/{file.stem}"
        set_ = opened(file, io, tmp_path / name)
        failed += compared(name, ldae.training_outputs(set_), load_file(io))
    assert not failed


def test_ldae_framing(fixtures: Path) -> None:
    """A picture already in template space onto LDAE's grid, as its authors do it."""
    failed = []
    for file in sorted(fixtures.glob("*/meta.json")):
        for name, meta in json.loads(file.read_text()).items():
            expected = load_file(file.parent / f"{name}.expected.safetensors")
            scan = read_scan(file.parent / f"{name}.nii.gz").volume
            found = framed(scan, meta["pixdim"], tuple(meta["size"]))
            voxels = torch.from_numpy(found.data)
            off = float((voxels - expected["aekl_input"][0]).abs().max())
            axial = voxels.permute(2, 0, 1) - expected["semantic_input_axial"][0]
            place = float(np.abs(found.affine - expected["affine"].numpy()).max())
            print(f"\n{name}: voxels {off:.1e} (limit 1e-5), affine {place:.1e}")
            failed += [name] if max(off, place, float(axial.abs().max())) > 1e-5 else []
    assert not failed


PUBLISHED = {
    "pinaya_autoencoder": AutoencoderSpec(),
    "pinaya_unet": UNetSpec(),
    "ldae_unet_pretrain": GradientEstimatorSpec(code_size=0),
    "ldae_decoder_shiftunet": GradientEstimatorSpec(),
    "ldae_semantic_encoder": SemanticEncoderSpec(),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes_are_told_from_keys_and_shapes(
    fixtures: Path, name: str
) -> None:
    """The full-size lists of keys load strictly, without a byte of weights."""
    file = fixtures / "key_manifest_full.json"
    if not file.is_file():
        pytest.skip("needs key_manifest_full.json in the folder of parity sets")
    manifest = json.loads(file.read_text())[name]
    tensors = {k: torch.empty(shape, device="meta") for k, shape in manifest.items()}
    told, renamed = understood(tensors)
    assert told == PUBLISHED[name]
    with torch.device("meta"):
        told.build().load_state_dict(renamed, strict=True)


def understood(tensors: dict[str, torch.Tensor]) -> tuple[Any, dict[str, torch.Tensor]]:
    """The spec that keys and shapes tell, and the tensors under our names."""
    part = parts.part_of(tensors)
    if part == parts.AUTOENCODER:
        return parts.autoencoder_spec(tensors, {}), parts.autoencoder_keys(tensors)
    if part == parts.UNET:
        return parts.unet_spec(tensors, {}), parts.unet_keys(tensors)
    if part == parts.TWO_BRANCHES:
        return parts.two_branches_spec(tensors, {}), tensors
    return parts.encoder_spec(tensors, {}), parts.encoder_keys(tensors)
