"""Presets of a model: its medians and the ends of its people."""

from __future__ import annotations

from dataclasses import replace

import pytest

from napari_brainldm.engine.presets import TYPICAL, percentile, presets_of
from tests.tiny import VOCABULARY, tiny_checkpoint

AGE, _, VENTRICLES, _ = VOCABULARY


def test_percentiles_follow_the_histogram():
    # counts 5, 9, 4, 1 from 7 to 67: 18.05 of 19 people end 0.05 into the last bin
    assert percentile(VENTRICLES, 95) == pytest.approx(52 + 0.05 * 15)
    assert percentile(VENTRICLES, 5) == pytest.approx(7 + 0.95 / 5 * 15)
    assert percentile(VENTRICLES, 100) == 67


def test_without_a_histogram_they_are_shares_of_the_range():
    assert percentile(AGE, 5) == pytest.approx(23.5)
    empty = replace(VENTRICLES.histogram, counts=(0, 0))
    assert percentile(replace(VENTRICLES, histogram=empty), 50) == 37


def test_a_preset_moves_one_number_and_leaves_the_medians():
    card = tiny_checkpoint().card
    found = presets_of(card)
    assert set(found) == {
        TYPICAL,
        *(f"{w} {t}" for w in ("Low", "High") for t in ("age", "brain volume")),
        *(f"{w} lateral ventricles" for w in ("Low", "High")),
    }
    typical = found[TYPICAL].as_dict()
    assert typical == {c.name: c.reference for c in VOCABULARY}
    old = found["High age"].as_dict()
    assert {name for name in old if old[name] != typical[name]} == {"age"}
