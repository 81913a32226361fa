"""The sample study that comes with the package: copied out, read by one after another.

Its key lies beside the copy, as that of any other study does, and is not opened by who
reads. It holds no secret: whoever has the package can look.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resources import bundled_sample_study
from napari_brainldm.review.record import read_rows
from napari_brainldm.review.replay import standing
from napari_brainldm.review.stimuli import WRITTEN
from napari_brainldm.review.study import Study, key_path, read_order, read_study

NAME = "sample-study"
"""Of the study's folder, in the archive and among a user's folders."""


def sample_study(home: Path) -> tuple[Path, str]:
    """Folder of the sample study in `home`, and the first reader who is not through.

    It is copied there when it is not there yet: records never go into the package.

    Raises
    ------
    EngineError
        If nothing can be written there, or all have read it, or it is closed.
    """
    folder = home / NAME
    if not folder.exists():
        _copy(folder)
    study, _ = read_study(folder)
    left = [r for r in sorted(study.orders) if not _is_through(folder, study, r)]
    if not left or (folder / "closed.json").exists():
        raise EngineError(
            f"The sample study in {folder} takes no more answers. See its report with "
            "brainldm review report (add --close), or move the folder and its key away "
            "to begin anew."
        )
    return folder, left[0]


def archive(folder: Path, path: Path) -> None:
    """Pack the study in `folder`, called `NAME`, and its key into the archive `path`.

    The same study gives the same bytes.
    """
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    with zipfile.ZipFile(path, "w") as packed:
        for file in [*files, key_path(folder)]:
            name = file.relative_to(folder.parent).as_posix()
            about = zipfile.ZipInfo(name)  # of 1980, as every file of a study is
            packed.writestr(about, file.read_bytes(), zipfile.ZIP_LZMA)


def _copy(folder: Path) -> None:
    """Unpack the archive into the new `folder`, whole or not at all."""
    bundled = bundled_sample_study()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{NAME}-", dir=folder.parent) as name:
            _unpack(bundled, Path(name) / NAME)
            os.replace(key_path(Path(name) / NAME), key_path(folder))
            os.replace(Path(name) / NAME, folder)
    except OSError as error:
        raise EngineError(
            f"The sample study cannot be copied to {folder.parent} ({error}). Make "
            "room there, or allow writing."
        ) from error


def _unpack(bundled: Path, folder: Path) -> None:
    """The study into `folder`, its key beside it."""
    with zipfile.ZipFile(bundled) as packed:
        packed.extractall(folder.parent)
    for stimulus in (folder / "stimuli").iterdir():
        os.utime(stimulus, (WRITTEN, WRITTEN))
    (folder / "records").mkdir(exist_ok=True)


def _is_through(folder: Path, study: Study, reader: str) -> bool:
    """Whether `reader` has answered every trial."""
    path = folder / "records" / f"{reader}.jsonl"
    rows = standing(list(read_rows(path)))
    answered = sum(row["event"] == "answer" for row in rows)
    return bool(answered >= len(read_order(folder, study, reader)))
