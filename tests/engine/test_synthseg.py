"""mri_synthseg's road, with a double of the program, and FreeSurfer's labels."""

from __future__ import annotations

import os
import sys

import nibabel as nib
import numpy as np
import pytest

from napari_brainldm.engine.measure import measure
from napari_brainldm.engine.networks.segmenter import STRUCTURES
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.synthseg import from_labels, segment_with_synthseg
from napari_brainldm.engine.volume import Volume, mni_grid

GRID = mni_grid(8.0)
NAMES = [s.name for s in STRUCTURES]

DOUBLE = """#!{python}
import argparse, json, sys
parser = argparse.ArgumentParser()
parser.add_argument("--i")
parser.add_argument("--o")
parser.add_argument("--threads", type=int)
parser.add_argument("--cpu", action="store_true")
asked = parser.parse_args()
json.dump(vars(asked), open({told!r}, "w"))
import nibabel as nib, numpy as np
scan = nib.load(asked.i)
{body}
"""

WRITES = """
labels = np.where(np.asarray(scan.dataobj) > 0.5, 44, 0).astype(np.int32)
nib.save(nib.Nifti1Image(labels, scan.affine), asked.o)
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Put a double of the program first on PATH; returns where it tells its words."""
    if os.name != "posix":
        pytest.skip("the double is a script with a first line that posix alone reads")

    def install(body):
        told, path = tmp_path / "told.json", tmp_path / "bin" / "mri_synthseg"
        path.parent.mkdir()
        text = DOUBLE.format(python=sys.executable, told=str(told), body=body)
        path.write_text(text)
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(path.parent), prepend=os.pathsep)
        return told

    return install


def bright_box() -> Volume:
    data = np.zeros(GRID.shape, np.float32)
    data[4:6, 5:10, 5:9] = 1
    return Volume(data, GRID.matrix)


def test_the_program_is_run_and_its_labels_come_back(program):
    told = program(WRITES)
    found = segment_with_synthseg(bright_box(), GRID, device="cpu")
    assert found.method == "mri_synthseg"
    assert measure(found).ventricles == pytest.approx(40 * 0.512)
    assert np.unique(found.memberships).tolist() == [0, 1]
    words = told.read_text()
    assert '"cpu": true' in words
    folder = os.path.dirname(words.split('"i": "')[1].split('"')[0])
    assert not os.path.exists(folder)  # no scan is left behind


def test_labels_of_a_scan_elsewhere_are_brought_onto_the_grid(program):
    program(WRITES)
    shift = np.eye(4)
    shift[:3, 3] = (24.0, -16.0, 8.0)
    scan = Volume(bright_box().data, shift @ GRID.matrix)
    found = segment_with_synthseg(scan, GRID, shift)
    np.testing.assert_array_equal(found.labels() == 4, bright_box().data > 0)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("sys.exit('FREESURFER_HOME is not set.')", "FREESURFER_HOME is not set"),
        ("pass", "exit status 0, last words: none"),
    ],
)
def test_a_program_that_fails_gets_a_sentence(program, body, sentence):
    program(body)
    with pytest.raises(EngineError, match=sentence):
        segment_with_synthseg(bright_box(), GRID)


def test_a_missing_program_gets_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="mri_synthseg was chosen, but it is not on"):
        segment_with_synthseg(bright_box(), GRID)


@pytest.mark.parametrize(
    ("indices", "name"),
    [
        ((4, 5, 31, 43, 44, 63), "lateral_ventricles"),
        ((14, 15, 72), "other_ventricles"),
        ((3, 42, 1000, 1035, 2001, 11100, 12175), "cortical_gray_matter"),
        ((2, 41, 77, 251, 3001, 4035), "white_matter"),
        ((24,), "csf"),
        ((17, 53), "hippocampus"),
        ((8, 47), "cerebellar_gray_matter"),
        ((16,), "brain_stem"),
    ],
)
def test_freesurfer_indices_belong_to_structures(indices, name):
    data = np.zeros(GRID.shape, np.float32)
    data[2 : 2 + len(indices), 3, 3] = indices
    found = from_labels(Volume(data, GRID.matrix), GRID)
    row = found.memberships[1 + NAMES.index(name)]
    np.testing.assert_array_equal(row, data > 0)
    np.testing.assert_array_equal(found.memberships.sum(0), 1)


def test_a_coarser_grid_keeps_the_volume():
    data = np.zeros(mni_grid(2.0).shape, np.float32)
    data[21:34, 30:47, 30:41] = 53
    found = from_labels(Volume(data, mni_grid(2.0).matrix), mni_grid(4.0))
    wanted = (data > 0).sum() * 0.008
    assert measure(found).hippocampus == pytest.approx(wanted, rel=0.01)
    np.testing.assert_allclose(found.memberships.sum(0), 1, atol=1e-5)


def test_the_volumes_of_a_real_label_map_are_those_of_its_voxels(shared):
    path = shared / "data" / "scans" / "aomic_sub-0001_aseg.mgz"
    image = nib.load(path)
    data = np.asarray(image.dataobj, np.float32)
    labels = Volume(data, np.asarray(image.affine, np.float64))
    found = from_labels(labels, labels.grid, structures=STRUCTURES[3:6])
    counted = np.isin(data, (4, 5, 31, 43, 44, 63)).sum() / 1000
    assert measure(found).ventricles == pytest.approx(counted, abs=1e-3)
