"""Planted groups lie apart in the plane, and edits move through it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_brainldm.engine.card import Card
from napari_brainldm.engine.checkpoint import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from napari_brainldm.engine.codes import Code
from napari_brainldm.engine.networks.semantic_encoder import SemanticEncoderSpec
from napari_brainldm.engine.request import Request
from napari_brainldm.engine.semantic_space import Direction
from napari_brainldm.engine.trajectory import crowds, place
from napari_brainldm.engine.volume import mni_grid
from trainer.config import Target
from trainer.stages.plane import with_plane

ENCODER = SemanticEncoderSpec((8, 8), (1, 1), 20)
SIZE = ENCODER.code_size
AD = Target("AD", "Alzheimer's disease", "diagnosis", positive="AD", negative="CN")
CENTRES = {"CN": (0.0, 0.0), "MCI": (4.0, 2.0), "AD": (8.0, 0.0)}


def base() -> Checkpoint:
    """Codes are normalised as they are; a step of AD is 2 of unit 0."""
    direction = Direction("AD", "Alzheimer's disease")
    card = Card("ldae", "P", mni_grid(8.0), encoder=ENCODER, directions=(direction,))
    move = torch.zeros(SIZE)
    move[0] = 2.0
    encoder = ENCODER.build().state_dict()
    return Checkpoint(
        card,
        {f"encoder.{k}": v for k, v in encoder.items()}
        | {
            "semantic.mean": torch.zeros(SIZE),
            "semantic.std": torch.ones(SIZE),
            "direction.AD.move": move,
            "direction.AD.weight": torch.eye(SIZE)[0],
            "direction.AD.bias": torch.tensor(-4.0),
        },
    )


def people(groups: tuple[str, ...]) -> tuple[np.ndarray, list[dict[str, str]]]:
    """50 of each group, of unit spread around its centre in units 0 and 1."""
    rng = np.random.default_rng(0)
    codes, rows = [], []
    for group in groups:
        found = rng.normal(0, 1, (50, SIZE))
        found[:, :2] += CENTRES[group]
        codes.append(found)
        rows += [{"diagnosis": group}] * 50
    return np.concatenate(codes), rows


def test_planted_groups_are_found_where_they_were_put() -> None:
    checkpoint = with_plane(base(), [AD], people(("CN", "MCI", "AD")))
    found = {crowd.name: crowd for crowd in crowds(checkpoint)}
    assert list(found) == ["CN", "MCI", "AD"]
    assert [crowd.count for crowd in found.values()] == [50, 50, 50]
    centres = {name: np.array(crowd.centre) for name, crowd in found.items()}
    for first, second in (("CN", "MCI"), ("MCI", "AD"), ("CN", "AD")):
        apart = np.linalg.norm(centres[first] - centres[second])
        planted = np.linalg.norm(np.subtract(CENTRES[first], CENTRES[second]))
        assert apart == pytest.approx(planted, rel=0.15)
    for crowd in found.values():  # of unit spread within groups
        assert crowd.radii == pytest.approx((1.0, 1.0), abs=0.35)
        assert crowd.radii[0] >= crowd.radii[1]


def test_groups_are_counted_in_people_not_in_scans() -> None:
    codes, rows = people(("CN", "MCI", "AD"))
    names = [f"sub-{n // 5}" if n < 100 else f"sub-{n // 25}x" for n in range(150)]
    told = [
        row | {"participant_id": name} for row, name in zip(rows, names, strict=True)
    ]
    found = crowds(with_plane(base(), [AD], (codes, told)))
    # 50 scans of two people with AD are no group
    assert [(crowd.name, crowd.count) for crowd in found] == [("CN", 10), ("MCI", 10)]


def test_two_groups_have_a_second_axis_that_does_not_tell_them_apart() -> None:
    checkpoint = with_plane(base(), [AD], people(("CN", "AD")))
    cn, ad = (np.array(crowd.centre) for crowd in crowds(checkpoint))
    assert abs(cn[0] - ad[0]) > 6
    assert abs(cn[1] - ad[1]) < 0.5


def test_an_edit_moves_a_scan_from_one_group_to_the_other() -> None:
    checkpoint = with_plane(base(), [AD], people(("CN", "MCI", "AD")))
    code = Code(torch.zeros(1, 1, 1, 1, 1), semantic=torch.zeros(1, SIZE))
    here, there = (
        place(checkpoint, code, Request(shift=(("AD", a),))) for a in (0.0, 4.0)
    )
    assert here.values == {"AD": pytest.approx(-4.0)}
    assert there.values == {"AD": pytest.approx(4.0)}  # 4 steps of 2
    groups = {crowd.name: np.array(crowd.centre) for crowd in crowds(checkpoint)}
    for point, group in ((here.point, "CN"), (there.point, "AD")):
        assert np.linalg.norm(np.array(point) - groups[group]) < 0.5


@pytest.mark.parametrize(
    "groups", [("CN",), ()], ids=["one group", "no table tells a group"]
)
def test_nothing_to_tell_apart_is_no_plane(groups: tuple[str, ...]) -> None:
    codes, rows = people(groups or ("CN",))
    told = rows if groups else [{"diagnosis": "n/a"}] * len(rows)
    assert with_plane(base(), [AD], (codes, told)).card.plane is None
    age = Target("age", "Age", "age")
    assert with_plane(base(), [age], people(("CN", "AD"))).card.plane is None
    assert crowds(base()) == ()


def test_the_plane_goes_with_the_file(tmp_path) -> None:
    checkpoint = with_plane(base(), [AD], people(("CN", "AD")))
    save_checkpoint(checkpoint, tmp_path / "p.safetensors")
    again = load_checkpoint(tmp_path / "p.safetensors")
    assert crowds(again) == crowds(checkpoint)
    assert again.card.plane == checkpoint.card.plane
