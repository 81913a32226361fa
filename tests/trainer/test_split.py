"""Nobody changes sides between two stages of a run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from napari_brainldm.engine.request import EngineError
from tests.trainer.test_bids import AGE, many
from trainer.config import DataConfig
from trainer.data.bids import read_dataset, subjects_of
from trainer.data.split import FILE, keep_split, split_of


def data_of(root: Path) -> DataConfig:
    return DataConfig(str(root), held_out=0.3, covariates=(AGE,))


def test_people_who_come_later_are_trained_on(tmp_path: Path) -> None:
    data, run = data_of(many(tmp_path / "d", 20)), tmp_path / "run"
    first = keep_split(data, run)
    assert first == read_dataset(data) == split_of(data, run)
    many(tmp_path / "d", 26)
    drawn = subjects_of(read_dataset(data).held_out)
    assert drawn & subjects_of(first.train)  # what a new draw would leak
    later = keep_split(data, run)
    assert later.held_out == first.held_out
    assert subjects_of(later.train) - subjects_of(first.train) == {
        f"sub-{n}" for n in range(20, 26)
    }


def test_who_is_gone_leaves_the_others_where_they_were(tmp_path: Path) -> None:
    root, run = many(tmp_path / "d", 20), tmp_path / "run"
    first = keep_split(data_of(root), run)
    gone = sorted(subjects_of(first.held_out))[0]
    lines = (root / "participants.tsv").read_text().splitlines()
    kept = [line for line in lines if not line.startswith(gone)]
    (root / "participants.tsv").write_text("\n".join(kept) + "\n")
    found = split_of(data_of(root), run)
    assert subjects_of(found.held_out) == subjects_of(first.held_out) - {gone}
    assert found.train == first.train


def test_another_split_than_the_kept_one_is_refused(tmp_path: Path) -> None:
    data, run = data_of(many(tmp_path / "d", 20)), tmp_path / "run"
    keep_split(data, run)
    others = replace(data, dataset=str(many(tmp_path / "other", 4)))
    for changed in (replace(data, seed=1), replace(data, held_out=0.5)):
        with pytest.raises(EngineError, match="choose another out"):
            split_of(changed, run)
    told = json.loads((run / FILE).read_text())
    told["subjects"] = ["sub-x"]
    (run / FILE).write_text(json.dumps(told))
    with pytest.raises(EngineError, match="0 of their scans are in the dataset"):
        split_of(others, run)
    (run / FILE).write_text("{")
    with pytest.raises(EngineError, match="is not what a stage left there"):
        split_of(data, run)
