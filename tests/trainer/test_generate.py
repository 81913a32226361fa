"""A plan becomes a BIDS dataset of pictures, each from its row alone."""

from __future__ import annotations

import csv
import json

import pytest

from napari_brainldm.engine.checkpoint import file_sha256, save_checkpoint
from napari_brainldm.engine.request import EngineError
from tests.tiny import tiny_checkpoint
from trainer.generate import generate, read_plan

CARD = tiny_checkpoint().card
PLAN = "participant_id\tage\tsex\tseed\nsub-A1\t70\tM\t5\nsub-B2\t30\tF\t\n"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_checkpoint(tiny_checkpoint(), path)
    return path


@pytest.fixture
def plan(tmp_path):
    path = tmp_path / "plan.tsv"
    path.write_text(PLAN)
    return path


def test_a_row_becomes_a_request(plan):
    (first, one), (second, two) = read_plan(plan, CARD)
    assert (first, second) == ("sub-A1", "sub-B2")
    assert (one.origin.value, two.origin.value) == (5, 1)  # no seed: the row's number
    assert one.conditions.as_dict() == {
        "age": 70.0,
        "sex": "M",
        "ventricles": 20.0,
        "brain": 1200.0,
    }


def test_rows_without_names_are_numbered(tmp_path):
    path = tmp_path / "plan.tsv"
    path.write_text("age\n70\n71\n")
    assert [name for name, _ in read_plan(path, CARD)] == ["sub-000001", "sub-000002"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("age\n", "has no rows"),
        ("mood\n3\n", "'mood' is not a condition"),
        ("age\told\n70\t\n", "'old' is not a condition"),
        ("age\nold\n", "a number is needed"),
        ("sex\tage\nF\n", "age is ''; a number is needed"),
        ("seed\tage\n-3\t70\n", "seed '-3' is not a whole number"),
        ("seed\tage\n99999999999999999999\t70\n", "at most 18 digits"),
        ("participant_id\tage\n../up\t70\n", r"sub- and then letters or digits"),
        ("participant_id\tage\nsub-1\t70\nsub-1\t71\n", "sub-1 2 times"),
    ],
)
def test_a_plan_that_cannot_be_followed_gets_a_sentence(tmp_path, text, sentence):
    path = tmp_path / "plan.tsv"
    path.write_text(text)
    with pytest.raises(EngineError, match=sentence):
        read_plan(path, CARD)


def test_a_missing_plan_gets_a_sentence(tmp_path):
    with pytest.raises(EngineError, match="There is no plan"):
        read_plan(tmp_path / "plan.tsv", CARD)


def test_the_pictures_are_a_dataset_and_are_made_once(model, plan, tmp_path):
    out = tmp_path / "out"
    lines = list(generate(model, plan, out))
    assert [line[:6] for line in lines] == ["1 of 2", "2 of 2"]
    facts = json.loads((out / "dataset_description.json").read_text())
    assert facts["Synthetic"] is True
    assert facts["Checkpoint"] == file_sha256(model)
    with (out / "participants.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert rows[0] == {
        "participant_id": "sub-A1",
        "age": "70.0",
        "sex": "M",
        "ventricles": "20.0",
        "brain": "1200.0",
    }
    pictures = sorted(out.rglob("*.nii.gz"))
    assert [p.parent.parent.name for p in pictures] == ["sub-A1", "sub-B2"]
    assert all("desc-synthetic" in p.name for p in pictures)
    before = pictures[0].read_bytes(), pictures[1].stat().st_mtime_ns
    # the first was cut short: its sidecar, written last, is not there
    next((out / "sub-A1").rglob("*.json")).unlink()
    pictures[0].write_bytes(b"half")
    list(generate(model, plan, out))
    assert (pictures[0].read_bytes(), pictures[1].stat().st_mtime_ns) == before


def test_pictures_of_another_plan_are_not_passed_off(model, plan, tmp_path):
    out = tmp_path / "out"
    list(generate(model, plan, out))
    plan.write_text(PLAN.replace("70", "71"))
    with pytest.raises(EngineError, match="belongs to another plan or checkpoint"):
        list(generate(model, plan, out))
