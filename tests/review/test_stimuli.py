"""Every picture goes the same road, and its file tells nothing."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.review_study import GRID, PLANTED, audited, plain_pictures
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.volume import Volume, mni_grid
from napari_brainldm.review import leaks, stimuli
from napari_brainldm.review.statistics.interval import Interval
from napari_brainldm.review.study import WHITE, Stimulus


@pytest.fixture(scope="module")
def road():
    return stimuli.Road.around_brain(GRID)


def blob(road, seed=0):
    rng = np.random.default_rng(seed)
    texture = 1 + 0.3 * rng.standard_normal(GRID.shape).astype(np.float32)
    return road.mask * texture


def test_scale_offset_and_surroundings_of_a_picture_are_gone(road):
    data = blob(road)
    plain = road.stimulus(Volume(data, GRID.matrix))
    louder = road.stimulus(Volume(731 * data, GRID.matrix))
    noisy = np.where(road.mask, data, 0.02).astype(np.float32)
    assert (plain == louder).all()
    assert (plain == road.stimulus(Volume(noisy, GRID.matrix))).all()
    assert (plain.dtype, plain.min(), plain.max()) == (np.uint16, 0, WHITE)
    assert (plain[~road.mask] == 0).all()


def test_axes_stored_another_way_give_the_same_stimulus(road):
    data = blob(road)
    flipped, affine = data[::-1, :, ::-1].transpose(1, 0, 2), GRID.matrix.copy()
    size = np.array(GRID.shape) - 1
    turn = np.eye(4)
    turn[:3, :3] = [[0, -1, 0], [1, 0, 0], [0, 0, -1]]
    turn[:3, 3] = [size[0], 0, size[2]]
    other = Volume(np.ascontiguousarray(flipped), affine @ turn)
    same = road.stimulus(Volume(data, affine))
    assert np.abs(road.stimulus(other).astype(int) - same).max() <= 1


def test_a_dark_picture_is_refused(road):
    with pytest.raises(EngineError, match="empty where a brain should be"):
        outside = np.where(road.mask, 0, 1).astype(np.float32)
        road.stimulus(Volume(outside * 0, GRID.matrix))


def test_files_are_alike_in_all_but_their_voxels(road, tmp_path):
    (tmp_path / "stimuli").mkdir()
    rng = np.random.default_rng(0)
    picture = Volume(blob(road), GRID.matrix)
    pictures = [
        picture,
        stimuli.blurred(picture, 16.0),
        stimuli.corrupted(picture, rng),
    ]
    written = [
        stimuli.write_stimulus(tmp_path / "stimuli", road.stimulus(p)) for p in pictures
    ]
    paths = [tmp_path / "stimuli" / f"{w.token}.npz" for w in written]
    assert len({p.stat().st_size for p in paths}) == 1
    assert {p.stat().st_mtime for p in paths} == {float(stimuli.WRITTEN)}
    for path in paths:
        with np.load(path) as arrays:
            assert arrays.files == ["data"]
    assert all(len(w.token) == 32 for w in written)
    again = stimuli.read_stimulus(tmp_path, written[0])
    assert (again == road.stimulus(picture)).all()


def test_a_changed_file_is_refused(road, tmp_path):
    (tmp_path / "stimuli").mkdir()
    written = stimuli.write_stimulus(
        tmp_path / "stimuli", road.stimulus(Volume(blob(road), GRID.matrix))
    )
    with pytest.raises(EngineError, match="not the file the study was frozen"):
        stimuli.read_stimulus(tmp_path, Stimulus(written.token, "0" * 64))
    with pytest.raises(EngineError, match="cannot be read"):
        stimuli.read_stimulus(tmp_path, Stimulus("0" * 32, "0" * 64))


def test_blur_spreads_a_point_to_its_full_width_at_half_maximum():
    grid = mni_grid(2.0)
    data = np.zeros(grid.shape, np.float32)
    data[40, 48, 40] = 1
    line = stimuli.blurred(Volume(data, grid.matrix), 12.0).data[:, 48, 40]
    assert line[40 + 3] / line[40] == pytest.approx(0.5, abs=0.02)


def test_controls_have_the_length_and_area_they_tell():
    grid = mni_grid(2.0)
    drawn, length = stimuli.bar(grid, 60.0)
    assert length == pytest.approx(60, abs=2)
    assert drawn.data[:, 48, 40].sum() * 2 == length
    drawn, area = stimuli.disc(grid, 2000.0)
    assert area == pytest.approx(2000, rel=0.03)
    assert drawn.data[:, :, 40].sum() * 4 == area


def test_the_audit_passes_a_clean_study(tmp_path):
    finding = audited(tmp_path, leaks.ENOUGH, "", seed=0)
    assert finding.counts == (100, 100)
    assert not finding.leaks
    assert "no leak found" in finding.sentence()


@pytest.mark.parametrize("leak", ["8 bits before 12", "a later file time"])
def test_the_audit_catches_a_planted_leak(leak, tmp_path):
    assert leak in PLANTED
    finding = audited(tmp_path, leaks.ENOUGH, leak, seed=0)
    assert finding.refuses
    assert "a leak" in finding.sentence()


def test_what_shuffled_arms_give_as_well_is_no_leak():
    rng = np.random.default_rng(0)
    rows, signal = rng.normal(size=(200, 4)), np.repeat([True, False], 100)
    assert leaks._chance(rows, signal, 0.45) > leaks.CHANCE
    assert leaks._chance(rows, signal, 0.99) <= leaks.CHANCE
    found = leaks.Finding(
        ("real", "synthetic"), (100, 100), Interval(0.62, 0.54, 0.7), ("name",), 0.02
    )
    assert not found.leaks


def test_a_small_study_is_warned_not_refused(tmp_path):
    finding = audited(tmp_path, 20, "a frame", seed=0)
    assert finding.leaks
    assert not finding.refuses


def test_of_a_handful_of_stimuli_the_audit_says_that_it_tells_nothing(tmp_path):
    finding = audited(tmp_path, 6, "a frame", seed=0)
    assert not finding.leaks
    assert "so few that the leak audit tells nothing" in finding.sentence()
    assert "AUC" not in finding.sentence()
    assert leaks.sentences([finding])["warned"] == [finding.sentence()]


def test_pictures_of_the_benchmark_are_of_one_population():
    pictures = list(plain_pictures(4, 0))
    assert len({p.shape for p in pictures}) == 1
    assert len({p.tobytes() for p in pictures}) == 4
