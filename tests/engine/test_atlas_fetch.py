"""Atlases by nilearn's own fetchers, from small files in its data folder, offline."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from napari_brainldm.engine.atlas_fetch import NO_LICENCE, SOURCES, fetch
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.volume import Volume

AFFINE = np.array([[-2.0, 0, 0, 6], [0, 2, 0, -8], [0, 0, 2, -4], [0, 0, 0, 1]])
"""As FSL's maps lie: the first axis runs from right to left."""


def picture(path: Path, first: int, second: int) -> None:
    """A label map: `first` at x >= 4 mm, `second` at x = 0 mm, 0 elsewhere."""
    labels = np.zeros((6, 5, 4), np.int16)
    labels[:2], labels[3] = first, second
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels, AFFINE), path)


def harvard_oxford(home: Path) -> None:
    folder = home / "fsl" / "data" / "atlases"
    name = "HarvardOxford-cort-maxprob-thr25-2mm.nii.gz"
    picture(folder / "HarvardOxford" / name, 1, 2)
    (folder / "HarvardOxford-Cortical.xml").write_text(
        '<atlas><data><label index="0" x="1">Frontal Pole</label>'
        '<label index="1" x="1">Insular Cortex</label></data></atlas>'
    )


def aal(home: Path) -> None:
    folder = home / "aal_SPM12" / "aal" / "atlas"
    picture(folder / "AAL.nii", 2002, 4101)
    rows = ((2001, "Precentral_L"), (2002, "Precentral_R"), (4101, "Hippocampus_L"))
    labels = "".join(
        f"<label><index>{index}</index><name>{name}</name></label>"
        for index, name in rows
    )
    (folder / "AAL.xml").write_text(f"<atlas><data>{labels}</data></atlas>")


def schaefer(home: Path) -> None:
    stem = "Schaefer2018_100Parcels_7Networks_order"
    picture(home / "schaefer_2018" / f"{stem}_FSLMNI152_1mm.nii.gz", 1, 2)
    (home / "schaefer_2018" / f"{stem}.txt").write_text(
        "1\t7Networks_LH_Vis_1\t120\t18\t131\t0\n2\t7Networks_LH_Vis_2\t120\t18\t132\t0\n"
    )


def destrieux(home: Path) -> None:
    folder = home / "destrieux_2009"
    picture(folder / "destrieux2009_rois_lateralized.nii.gz", 1, 2)
    (folder / "destrieux2009.rst").write_text("words")
    (folder / "destrieux2009_rois_labels_lateralized.csv").write_text(
        "index,name\n0,Background\n1,L G_and_S_frontomargin\n2,R S_temporal_sup\n"
    )


ATLASES = {
    "harvard-oxford": (harvard_oxford, {1: "Frontal Pole", 2: "Insular Cortex"}),
    "aal": (aal, {2002: "Precentral_R", 4101: "Hippocampus_L"}),
    "schaefer-100": (schaefer, {1: "7Networks_LH_Vis_1", 2: "7Networks_LH_Vis_2"}),
    "destrieux-2009": (
        destrieux,
        {1: "L G_and_S_frontomargin", 2: "R S_temporal_sup"},
    ),
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nilearn's data folder, empty; the network is away."""

    def away(*_: object, **__: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.delenv("NILEARN_SHARED_DATA", raising=False)
    monkeypatch.setenv("NILEARN_DATA", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", away)
    monkeypatch.setattr(socket.socket, "connect", away)
    return tmp_path


def test_every_source_has_a_case() -> None:
    assert ATLASES.keys() == SOURCES.keys()


@pytest.mark.parametrize("key", ATLASES)
def test_names_belong_to_their_places(key: str, home: Path) -> None:
    write: Callable[[Path], None]
    write, names = ATLASES[key]
    write(home)
    atlas = fetch(SOURCES[key])
    assert {region.index: region.name for region in atlas.regions} == names
    assert (atlas.name, atlas.licence) == (SOURCES[key].title, SOURCES[key].licence)
    to_voxel = np.linalg.inv(atlas.grid.matrix)
    first, second = names
    for x, label in ((6.0, first), (4.0, first), (2.0, 0), (0.0, second), (-4.0, 0)):
        i, j, k = np.rint(to_voxel @ [x, -4.0, 2.0, 1.0])[:3].astype(int)
        assert atlas.labels[i, j, k] == label


def test_an_atlas_fetched_goes_onto_other_grids(home: Path) -> None:
    aal(home)
    atlas = fetch(SOURCES["aal"])
    flipped = Volume(np.zeros((6, 5, 4), np.float32), np.diag([2.0, 2, 2, 1]))
    on = atlas.on(flipped.grid)
    assert (on.labels[2:4] == 2002)[:, :1, :2].all()  # x from 4 mm, as nibabel says
    assert (on.labels[0] == 4101)[:1, :2].all()


@pytest.mark.parametrize("key", ATLASES)
def test_without_a_network_one_sentence_says_so(key: str, home: Path) -> None:
    with pytest.raises(EngineError) as told:
        fetch(SOURCES[key])
    words = str(told.value)
    assert (
        f"{SOURCES[key].title} could not be fetched from {SOURCES[key].host}" in words
    )
    assert "Check the network" in words
    assert "open a label file" in words
    assert len(words) < 320
    assert "\n" not in words


@pytest.mark.parametrize(
    "error", [TimeoutError("timed out"), ValueError("read-only"), Exception("tar")]
)
def test_whatever_nilearn_raises_is_one_sentence(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(**_: object) -> None:
        raise error

    monkeypatch.setattr("nilearn.datasets.fetch_atlas_aal", fails)
    with pytest.raises(EngineError, match=f"{type(error).__name__}: {error}"):
        fetch(SOURCES["aal"])


def test_maps_of_probabilities_are_refused(home: Path) -> None:
    aal(home)
    image = nib.Nifti1Image(np.full((6, 5, 4, 2), 0.3, np.float32), AFFINE)
    nib.save(image, home / "aal_SPM12" / "aal" / "atlas" / "AAL.nii")
    with pytest.raises(EngineError, match=r"AAL \(SPM12\) is no label map"):
        fetch(SOURCES["aal"])


def test_licences_are_sentences_that_nilearn_tells() -> None:
    from nilearn.datasets._utils import get_dataset_descr

    told = {
        key: get_dataset_descr(name).rpartition("-------")[2].strip()
        for key, name in (
            ("harvard-oxford", "harvard_oxford"),
            ("aal", "aal"),
            ("schaefer-100", "schaefer_2018"),
            ("destrieux-2009", "destrieux_surface"),
        )
    }
    for key, words in told.items():
        expected = {"unknown": NO_LICENCE}.get(words, words.removeprefix("See "))
        assert expected in SOURCES[key].licence
