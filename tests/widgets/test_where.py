"""What was written before is not overwritten without a question."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_brainldm.widgets import where
from napari_brainldm.widgets.where import ask_where, film_at, group_at, picture_at


def touched(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).touch()


def test_the_marked_name_is_looked_for(tmp_path: Path) -> None:
    named = tmp_path / "age-60_seed-0.nii.gz"
    assert picture_at(named) == []
    touched(tmp_path, "age-60_seed-0.nii.gz", "age-60_desc-synthetic_T1w.nii.gz")
    assert picture_at(named) == []
    target = tmp_path / "age-60_seed-0_desc-synthetic_T1w.nii.gz"
    target.touch()
    assert picture_at(named) == picture_at(target) == [target]


def test_names_with_dots_are_names_of_their_own(tmp_path: Path) -> None:
    first, second = (tmp_path / f"pilot.v{n}.nii.gz" for n in (1, 2))
    own = (
        "pilot.v1_A_desc-synthetic_T1w.nii.gz",
        "pilot.v1_desc-synthetic_regions.tsv",
        "pilot.v1_logp-max-t_desc-synthetic_T1w.json",
    )
    touched(tmp_path, *own, "pilot.v1_notes.txt", "other_A_desc-synthetic_T1w.nii.gz")
    assert [path.name for path in group_at(first)] == sorted(own)
    assert group_at(second) == group_at(tmp_path / "gone" / "pilot.v1.tsv") == []


def test_frames_are_looked_for_where_frames_are_written(tmp_path: Path) -> None:
    frames = [f"sweep_frame-{n:03d}_desc-synthetic_T1w.nii.gz" for n in (1, 2)]
    touched(tmp_path, *frames, "sweep.gif")
    assert [p.name for p in film_at(tmp_path / "sweep.nii.gz")] == frames
    assert film_at(tmp_path / "sweep.gif") == []  # the dialog has asked


@pytest.mark.parametrize("agrees", [True, False])
def test_who_is_asked_decides(
    qtbot: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, agrees: bool
) -> None:
    asked: list[str] = []

    def agreed(_: QWidget, __: str, question: str, *___: str) -> bool:
        asked.append(question)
        return agrees

    named = tmp_path / "contrast.nii.gz"
    monkeypatch.setattr(where, "agreed", agreed)
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(named), ""))
    parent = QWidget()
    qtbot.addWidget(parent)
    ask = (parent, "Export", "contrast.nii.gz", "NIfTI (*.nii.gz)", group_at)
    assert ask_where(*ask) == named and not asked
    touched(tmp_path, *(f"contrast_{n}_desc-synthetic_T1w.nii.gz" for n in "AB"))
    assert ask_where(*ask) == (named if agrees else None)
    told = "contrast_A_desc-synthetic_T1w.nii.gz and 1 more exists already. Write over"
    assert asked == [f"{told} it?"]
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: ("", ""))
    assert ask_where(*ask) is None
