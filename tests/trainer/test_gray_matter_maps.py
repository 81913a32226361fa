"""Every T1 of a dataset gets its map, once, where the trainer finds it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_brainldm.engine import gray_matter
from napari_brainldm.engine.gray_matter import GrayMatter
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.scan_file import save_volume
from napari_brainldm.engine.volume import Volume, mni_grid
from trainer.config import DataConfig
from trainer.data.bids import read_dataset
from trainer.data.gray_matter_maps import write_maps

GRID = mni_grid(8.0)


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    """Three people, one with two visits."""
    rows = ["participant_id\tage"]
    for number, visits in enumerate((("",), ("",), ("ses-1", "ses-2"))):
        name = f"sub-{number}"
        rows.append(f"{name}\t{60 + number}")
        for visit in visits:
            folder = tmp_path / name / visit / "anat"
            folder.mkdir(parents=True)
            stem = "_".join(part for part in (name, visit, "T1w") if part)
            level = np.zeros(GRID.shape, np.float32)
            level[5:15] = number + 1
            save_volume(Volume(level, GRID.matrix), folder / f"{stem}.nii.gz")
    (tmp_path / "participants.tsv").write_text("\n".join(rows) + "\n")
    (tmp_path / "dataset_description.json").write_text(
        '{"Name": "Toy", "BIDSVersion": "1.9.0"}'
    )
    return DataConfig(str(tmp_path), 8.0, held_out=0.0, registration="nonlinear")


@pytest.fixture
def asked(monkeypatch) -> list[float]:
    """What of each scan was asked for a map, by its level; sub-1 has none."""
    met: list[float] = []

    def made(scan, grid, segmenter):
        met.append(float(scan.data.max()))
        if met[-1] == 2:
            raise EngineError("No brain was found.")
        return GrayMatter(Volume(scan.data / 10, grid.matrix), True, ("Halved.",))

    for name in ("of_t1", "of_t1_modulated"):
        monkeypatch.setattr(gray_matter, name, made)
    return met


def test_maps_lie_where_the_config_finds_them(data, asked) -> None:
    *lines, last = write_maps(data, 1)
    assert asked == [1, 2, 3, 3]
    assert any("sub-1_T1w: No brain was found." in line for line in lines)
    pattern = last.split('"')[1]
    found = read_dataset(replace(data, maps=pattern)).train
    assert [(e.subject, e.session) for e in found] == [
        ("sub-0", ""),
        ("sub-2", "ses-1"),
        ("sub-2", "ses-2"),
    ]
    told = json.loads(Path(str(found[0].path).replace(".nii.gz", ".json")).read_text())
    assert told["Modulated"] and told["Sources"] == ["sub-0/anat/sub-0_T1w.nii.gz"]
    # once more: only the one that failed is tried again, and scans are still the T1s
    list(write_maps(data, 1))
    assert asked == [1, 2, 3, 3, 2]


def test_rigid_maps_have_another_name(data, asked) -> None:
    nonlinear = list(write_maps(data, 1))[-1]
    rigid = list(write_maps(replace(data, registration="rigid"), 1))[-1]
    assert "desc-modulated" in nonlinear and "desc-rigid" in rigid
    assert len(asked) == 8


def test_a_dataset_of_which_nothing_comes_gets_a_sentence(data, monkeypatch) -> None:
    def never(scan, grid, segmenter):
        raise EngineError("No brain was found.")

    monkeypatch.setattr(gray_matter, "of_t1_modulated", never)
    with pytest.raises(EngineError, match="Of none of 4 scans"):
        list(write_maps(data, 1))
