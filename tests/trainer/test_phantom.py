"""Claims about one simulated scan: flows, volumes, pictures. 4 mm, one thread."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_brainldm.engine.request import EngineError
from trainer.data.flow import integrate, irrotational, warp
from trainer.data.phantom import Looks, Simulated, draw_individual, simulate
from trainer.data.photograph import Scanner
from trainer.data.population import Rates, Subject, Visit, median_volumes, visits
from trainer.data.template import (
    NAMES,
    TemplatePack,
    load_template,
    save_template,
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pack(template_of: Callable[[float], TemplatePack]) -> TemplatePack:
    return template_of(4.0)


@pytest.fixture(scope="module")
def woman() -> Subject:
    return Subject(0, 70.0, "F", "CN", median_volumes(70.0, "F"))


@pytest.fixture(scope="module")
def scan(pack: TemplatePack, woman: Subject) -> Simulated:
    return simulate(pack, woman, visits(woman, (0.0,))[0], seed=5)


def ball(shape: tuple[int, int, int], radius: float) -> torch.Tensor:
    """Smooth ball in the middle of a grid, 1 inside."""
    axes = [torch.arange(n) - (n - 1) / 2 for n in shape]
    i, j, k = torch.meshgrid(*axes, indexing="ij")
    return torch.sigmoid(2 * (radius - torch.sqrt(i * i + j * j + k * k)))


def positions(shape: tuple[int, int, int]) -> torch.Tensor:
    axes = [torch.arange(n, dtype=torch.float32) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def test_warp_without_divergence_is_the_identity() -> None:
    shape = (12, 14, 10)
    picture = torch.rand((1, *shape))
    u = integrate(irrotational(torch.zeros(shape)))
    assert torch.equal(u, torch.zeros(3, *shape))
    assert torch.allclose(warp(picture, positions(shape) + u), picture, atol=1e-5)


def test_velocity_has_the_asked_divergence_and_no_curl() -> None:
    d = ball((24, 24, 24), 6.0)
    d = d - d.mean()
    v = irrotational(d)
    central = [
        [(torch.roll(v[a], -1, b) - torch.roll(v[a], 1, b)) / 2 for b in range(3)]
        for a in range(3)
    ]
    got = central[0][0] + central[1][1] + central[2][2]
    assert torch.corrcoef(torch.stack([got.flatten(), d.flatten()]))[0, 1] > 0.98
    curl = (central[0][1] - central[1][0]).abs().max()
    assert curl < 0.03 * d.abs().max()  # of central differences, so not quite 0


def test_a_translation_flows_to_a_translation() -> None:
    velocity = torch.zeros(3, 8, 8, 8)
    velocity[1] = 1.5
    assert torch.allclose(integrate(velocity), velocity, atol=1e-5)


@pytest.mark.parametrize("change", [-0.4, 0.4])
def test_a_planted_ball_takes_up_nearly_the_asked_volume(change: float) -> None:
    shape = (40, 40, 40)
    wide = ball(shape, 14.0) * change  # the ball stays inside while it grows
    v = irrotational(wide - wide.mean())
    inner = ball(shape, 7.0)
    bent = warp(inner[None], positions(shape) + integrate(-v))
    realised = math.log(float(bent.sum() / inner.sum()))
    assert realised == pytest.approx(change - float(wide.mean()), abs=0.04)


def test_bending_back_and_forth_returns_the_picture() -> None:
    shape = (24, 24, 24)
    d = ball(shape, 6.0) * 0.5
    v = irrotational(d - d.mean())
    here = positions(shape)
    there, back = integrate(v), integrate(-v)
    assert (there + warp(back, here + there)).abs().max() < 0.1


def test_template_parts_fill_the_head(pack: TemplatePack) -> None:
    mask = pack.mask
    assert float(mask.min()) > -1e-5
    assert float(mask.max()) < 1 + 1e-4
    millilitre = math.prod(pack.grid.voxel_size) / 1000
    # nilearn's own brain mask of this template has 1882 ml
    assert float(mask.sum()) * millilitre == pytest.approx(1882, rel=0.02)


def test_template_ventricles_are_dark_and_white_matter_is_bright(
    pack: TemplatePack,
) -> None:
    soft = dict(zip(NAMES, pack.structures, strict=True))
    mean = {
        name: float((pack.t1 * soft[name]).sum() / soft[name].sum())
        for name in ("lateral_ventricles", "hippocampus", "white_matter")
    }
    ordered = [mean[n] for n in ("lateral_ventricles", "hippocampus", "white_matter")]
    assert ordered == sorted(ordered)


def test_template_pack_survives_the_file(pack: TemplatePack, tmp_path: Path) -> None:
    path = tmp_path / "pack.safetensors"
    save_template(pack, path)
    loaded = load_template(path)
    assert loaded.grid == pack.grid
    assert torch.allclose(loaded.structures, pack.structures, atol=0.5 / 255 + 1e-6)


def test_a_foreign_file_is_refused_with_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "pack.safetensors"
    path.write_bytes(b"not a template")
    with pytest.raises(EngineError, match="not a template pack"):
        load_template(path)


def test_realised_volumes_are_the_asked_ones(scan: Simulated, woman: Subject) -> None:
    asked = woman.volumes
    assert scan.volumes.ventricles_ml == pytest.approx(asked.ventricles_ml, rel=0.05)
    assert scan.volumes.brain_ml == pytest.approx(asked.brain_ml, rel=0.02)
    assert scan.volumes.hippocampus_ml == pytest.approx(asked.hippocampus_ml, rel=0.05)
    assert scan.volumes.icv_ml == pytest.approx(asked.icv_ml, rel=0.03)


@pytest.mark.parametrize("ventricles", [7.0, 80.0])
def test_small_and_large_ventricles_are_reached(
    pack: TemplatePack, woman: Subject, ventricles: float
) -> None:
    asked = replace(woman.volumes, ventricles_ml=ventricles)
    got = simulate(pack, woman, Visit(0, 70.0, asked), seed=5).volumes
    assert got.ventricles_ml == pytest.approx(ventricles, rel=0.1)
    assert got.brain_ml == pytest.approx(asked.brain_ml, rel=0.02)


def test_volumes_agree_with_counting_labels(scan: Simulated) -> None:
    counted = (scan.labels > 0).sum() * 0.064  # 4 mm voxels
    assert counted == pytest.approx(scan.volumes.icv_ml, rel=0.02)


def test_background_is_zero_and_everything_else_is_not(scan: Simulated) -> None:
    outside = scan.labels == 0
    assert not scan.picture.data[outside].any()
    assert not scan.truth.data[outside].any()
    assert (scan.picture.data[~outside] > 0).mean() > 0.999
    assert scan.picture.data.max() <= 1


def test_fluid_is_darker_than_gray_than_white(scan: Simulated) -> None:
    means = [
        scan.truth.data[scan.labels == NAMES.index(name) + 1].mean()
        for name in ("lateral_ventricles", "cortical_gray_matter", "white_matter")
    ]
    assert means[0] < 0.35 < means[1] < means[2]


def test_the_same_numbers_give_the_same_bits(
    pack: TemplatePack, woman: Subject, scan: Simulated
) -> None:
    again = simulate(pack, woman, visits(woman, (0.0,))[0], seed=5)
    other = simulate(pack, woman, visits(woman, (0.0,))[0], seed=6)
    assert again.picture.digest == scan.picture.digest
    assert np.array_equal(again.labels, scan.labels)
    assert other.picture.digest != scan.picture.digest


def test_visits_share_the_anatomy_and_not_the_noise(
    pack: TemplatePack, woman: Subject
) -> None:
    still = replace(woman, rates=Rates())
    first, second = (simulate(pack, still, v, 5) for v in visits(still, (0.0, 0.0)))
    assert np.array_equal(first.labels, second.labels)
    assert first.picture.digest != second.picture.digest


def test_visits_change_the_volumes_as_asked(pack: TemplatePack, woman: Subject) -> None:
    ill = replace(woman, rates=Rates(10.0, -1.0, -5.0))
    first, later = (simulate(pack, ill, v, 5).volumes for v in visits(ill, (0.0, 2.0)))
    growth = later.ventricles_ml / first.ventricles_ml
    assert growth == pytest.approx(1.21, abs=0.06)
    assert later.brain_ml / first.brain_ml == pytest.approx(0.98, abs=0.01)
    shrinking = later.hippocampus_ml / first.hippocampus_ml
    assert shrinking == pytest.approx(0.9025, abs=0.04)


def test_gray_white_contrast_falls_with_age(pack: TemplatePack, woman: Subject) -> None:
    looks = Looks(scanner=Scanner(contrast=0.0))
    cortex, white = (
        NAMES.index(n) + 1 for n in ("cortical_gray_matter", "white_matter")
    )

    def contrast(age: float) -> float:
        picture = simulate(pack, woman, Visit(0, age, woman.volumes), 5, looks)
        means = [
            picture.truth.data[picture.labels == n].mean() for n in (white, cortex)
        ]
        return float(means[0] - means[1])

    assert contrast(85.0) < 0.85 * contrast(30.0)


def test_placement_keeps_volumes() -> None:
    person = draw_individual(Looks().anatomy, 1, 2)
    assert float(torch.linalg.det(person.axes)) == pytest.approx(1.0, abs=1e-5)
