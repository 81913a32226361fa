"""Claims about the segmenter's samples and stage. 4 mm, one thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from scipy import ndimage

from napari_brainldm.engine.card import Card
from napari_brainldm.engine.networks.segmenter import STRUCTURES, SegmenterSpec
from tests.trainer import toys
from trainer.config import SegmenterConfig
from trainer.data.phantom import simulate
from trainer.data.photograph import Scanner
from trainer.data.population import PopulationConfig, draw_subject, visits
from trainer.data.randomise import (
    Randomisation,
    Sample,
    _blurred,
    draw_sample,
    normalised,
)
from trainer.loop import Item, train, trained
from trainer.stages.segmenter import UNSEEN, SegmenterStage, overlap, volume_loss

if TYPE_CHECKING:
    from trainer.data.template import TemplatePack

PLAIN = Randomisation(
    lesions=0.0,
    choroid=0.0,
    slices=0.0,
    blur=(0.0, 0.0),
    bias=(0.0, 0.0),
    noise=(0.0, 0.0),
    whole_head=0.0,
    plain=0.0,
)
PLACE = {s.name: n for n, s in enumerate(STRUCTURES, start=1)}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pack(template_of: Callable[[float], TemplatePack]) -> TemplatePack:
    return template_of(4.0)


def head_ml(sample: Sample) -> float:
    return float((1 - sample.memberships[0]).sum()) * 0.064


def ml(sample: Sample, name: str) -> float:
    return float(sample.memberships[PLACE[name]].sum()) * 0.064


def test_the_same_seed_gives_the_same_sample(pack):
    first, again, other = (draw_sample(pack, Randomisation(), s) for s in (3, 3, 4))
    assert torch.equal(first.picture, again.picture)
    assert torch.equal(first.memberships, again.memberships)
    assert not torch.equal(first.picture, other.picture)


def test_memberships_are_shares_of_every_voxel(pack):
    for seed in range(3):
        m = draw_sample(pack, Randomisation(), seed).memberships
        assert m.shape == (1 + len(STRUCTURES), *pack.grid.shape)
        assert float(m.min()) >= 0
        assert torch.allclose(m.sum(0), torch.ones(pack.grid.shape), atol=1e-5)


def test_wishes_for_ventricles_are_followed(pack):
    sizes = [
        ml(
            draw_sample(pack, replace(PLAIN, ventricles=(v, v)), 7),
            "lateral_ventricles",
        )
        for v in (-0.8, 0.5, 2.0, 5.0)
    ]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 3 * sizes[0]


def test_tissues_differ_in_the_direction_of_t1_weighting(pack):
    for seed in range(3):
        sample = draw_sample(pack, PLAIN, seed)
        fluid, gray, white = (
            float(sample.picture[sample.memberships[PLACE[n]] > 0.8].mean())
            for n in ("lateral_ventricles", "cortical_gray_matter", "white_matter")
        )
        assert fluid < gray < white


def test_a_whole_head_surrounds_the_brain_and_a_stripped_one_does_not(pack):
    for share, least, most in ((1.0, 0.3, 1.0), (0.0, 0.0, 0.12)):
        looks = replace(PLAIN, whole_head=share)
        sample = draw_sample(pack, looks, 2)
        outside = sample.memberships[0] > 0.99
        filled = float((sample.picture[outside] > 0).float().mean())
        assert least <= filled <= most


def test_where_a_stripped_brain_was_cut_nothing_is_to_be_found(pack):
    cut = replace(PLAIN.surroundings, nibbled_mm=4.0, crumbs=0.0)
    for seed in range(4):
        sample = draw_sample(pack, replace(PLAIN, surroundings=cut), seed)
        gone = (sample.picture == 0) & (sample.memberships[0] < 0.4)
        assert float(gone.float().mean()) < 0.002


def test_a_plain_sample_looks_as_the_scans_of_the_cohort(pack):
    # of the old and ill: narrower ventricles have no voxel of their own at 4 mm
    people = PopulationConfig(youngest=85.0, mix=(0.0, 0.0, 1.0), effect=2.0)
    looks = replace(Randomisation(), plain=1.0, people=people)
    levels = Scanner()
    for seed in range(3):
        sample = draw_sample(pack, looks, seed)
        fluid, white = (
            float(sample.picture[sample.memberships[PLACE[n]] > 0.95].median())
            for n in ("lateral_ventricles", "white_matter")
        )
        assert fluid / white == pytest.approx(levels.csf / levels.white, abs=0.06)
        assert float(sample.picture[sample.memberships[0] > 0.6].max()) == 0


def test_a_plain_sample_holds_the_volumes_of_its_person(pack):
    looks = replace(Randomisation(), plain=1.0)
    volumes = []
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        torch.rand((), generator=generator)
        number = int(torch.randint(2**31, (), generator=generator))
        subject = draw_subject(looks.people, number, 0)
        scan = simulate(
            pack, subject, visits(subject, (0.0,))[0], number, looks.plainly
        )
        sample = draw_sample(pack, looks, seed)
        volumes.append((scan.volumes.icv_ml, head_ml(sample)))
        name = "lateral_ventricles"
        assert ml(sample, name) == pytest.approx(scan.structures_ml[name], rel=0.03)
    true, found = np.array(volumes).T
    assert np.allclose(found, true, rtol=0.02)
    assert np.corrcoef(true, found)[0, 1] > 0.99


def test_the_blur_is_a_gaussian(pack):
    data = torch.rand(20, 24, 20, generator=torch.Generator().manual_seed(0))
    ours = _blurred(data, [0.5, 0.0, 1.2]).numpy()
    theirs = ndimage.gaussian_filter(
        data.numpy(), (0.5, 0.0, 1.2), mode="constant", truncate=3.4
    )
    inner = (slice(5, -5), slice(None), slice(5, -5))
    assert np.allclose(ours[inner], theirs[inner], atol=0.01)


def test_intensities_are_scaled_by_the_brain_alone():
    picture = torch.rand(10, 10, 10, generator=torch.Generator().manual_seed(0))
    brain = torch.zeros(10, 10, 10, dtype=torch.bool)
    brain[2:8, 2:8, 2:8] = True
    picture[0] = 50.0  # a bright scalp
    scaled = normalised(picture, brain)
    assert float(torch.quantile(scaled[brain], 0.99)) == pytest.approx(1.0, abs=1e-5)
    assert float(scaled.max()) == 1.5


def stage(pack: TemplatePack, steps: int = 30) -> SegmenterStage:
    spec = SegmenterSpec((8, 8, 8, 8, 8, 8))
    loop = replace(toys.LOOP, steps=steps, batch=1, save_every=steps, log_every=1)
    card = Card("segmenter", "Toy", pack.grid, segmenter=spec)
    return SegmenterStage(SegmenterConfig(spec, loop, 4.0, dice_steps=9), card, pack)


def test_the_loss_is_least_at_the_truth(pack):
    running = stage(pack)
    m = draw_sample(pack, PLAIN, 0).memberships[None]
    early, late = (running.losses(m.clamp(min=1e-6).log(), m, step) for step in (0, 9))
    assert (set(early), set(late)) == ({"cross_entropy", "dice"}, {"cross_entropy"})
    for wrong in (m.roll(1, dims=2), 0.9 * m + 0.1 / m.shape[1]):
        for name, value in running.losses(wrong.clamp(min=1e-6).log(), m, 0).items():
            assert float(value) > float(early[name])


def test_the_volume_loss_is_the_error_of_what_is_measured(pack):
    m = draw_sample(pack, PLAIN, 0).memberships[None]
    m = torch.nn.functional.one_hot(m.argmax(1), m.shape[1]).movedim(-1, 1).float()
    assert float(volume_loss(m.clamp(min=1e-9).log(), m)) < 1e-3
    wrong = torch.zeros_like(m)
    wrong[:, 0] = 1  # everything is background: every structure is missed whole
    assert float(volume_loss(20 * wrong, m)) == pytest.approx(1.0)


def test_no_sample_for_training_is_one_for_judging(pack):
    assert Item(0, 2**62 - 1).seed < UNSEEN


def test_overlap_is_the_dice_of_most_likely_labels():
    from monai.metrics.meandice import compute_dice

    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(5, 9, 9, 9, generator=generator).softmax(0) for _ in "ab")
    hot = [
        torch.nn.functional.one_hot(m.argmax(0), 5).movedim(-1, 0)[None] for m in (a, b)
    ]
    wanted = compute_dice(hot[0], hot[1], include_background=False)[0]
    assert torch.allclose(overlap(a, b), wanted)


def test_training_learns_and_gives_a_checkpoint_that_segments(pack, tmp_path):
    running, state = stage(pack), tmp_path / "segmenter.state"
    loop = running.config.loop
    losses = [r.losses["cross_entropy"] for r in train(running, loop, state, False)]
    checkpoint = trained(running, state)
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.2
    logits = checkpoint.segmenter()(torch.zeros(1, 1, *pack.grid.shape))
    assert logits.shape == (1, 1 + len(STRUCTURES), *pack.grid.shape)
    figures = running.held_out(checkpoint.part("segmenter"))
    assert 0 <= figures["held_out_dice_least"] <= figures["held_out_dice"] <= 1
