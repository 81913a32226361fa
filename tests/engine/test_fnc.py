"""Connectivity: its shape, who it belongs to, and what edits leave alone."""

from __future__ import annotations

import numpy as np
import pytest

from napari_brainldm.engine.components import (
    Component,
    components_of,
    domains,
    members,
    read_components,
    write_components,
)
from napari_brainldm.engine.fnc import (
    Fnc,
    FncTable,
    connections,
    count_of,
    join,
    square,
    triangle,
)
from napari_brainldm.engine.fnc_edit import (
    between,
    law_of,
    mean_of,
    random,
    scaled,
    swapped,
    without,
)
from napari_brainldm.engine.request import EngineError

COUNT = 6
COMPONENTS = tuple(
    Component(n, f"c{n}", d) for n, d in enumerate(("SC",) * 2 + ("CB",) * 4, start=1)
)


def vectors(people: int = 5, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(0.2, 0.3, (people, connections(COUNT))).astype(np.float32)


def table(names: tuple[str, ...] = ("a", "b", "c", "d", "e"), **more) -> FncTable:
    return FncTable(names, vectors(len(names)), COMPONENTS, **more)


def test_the_triangle_is_the_papers_order() -> None:
    matrix = np.array([[0, 1, 2, 3], [1, 0, 4, 5], [2, 4, 0, 6], [3, 5, 6, 0]], float)
    np.testing.assert_array_equal(triangle(matrix), [1, 2, 3, 4, 5, 6])
    # MATLAB's mat2vec: the lower triangle, down the columns
    lower = [matrix[row, column] for column in range(4) for row in range(column + 1, 4)]
    np.testing.assert_array_equal(triangle(matrix), lower)
    np.testing.assert_array_equal(square(triangle(matrix)), matrix)


@pytest.mark.parametrize(("count", "pairs"), [(53, 1378), (105, 5460), (3, 3)])
def test_the_number_of_components_is_read_from_the_pairs(count: int, pairs: int):
    assert (connections(count), count_of(pairs)) == (pairs, count)
    assert count_of(pairs - 1) == 0 or pairs == 3


def test_neuromarks_domains_stand_where_they_were_published() -> None:
    found = components_of(53)
    last = {"SC": 5, "AU": 7, "SM": 16, "VI": 25, "CC": 42, "DM": 49, "CB": 53}
    assert {d: max(members(found, d)) + 1 for d in domains(found)} == last
    assert found[2] == Component(3, "Putamen", "SC")
    assert domains(components_of(105)) == ("all",)


def test_components_of_ones_own_come_back(tmp_path) -> None:
    path = tmp_path / "components.tsv"
    path.write_text(write_components(COMPONENTS))
    assert read_components(path, COUNT) == COMPONENTS
    with pytest.raises(EngineError, match="names 6 components; the connectivity has 7"):
        read_components(path, 7)
    path.write_text("a\tb\n1\t2\n")
    with pytest.raises(EngineError, match="no column 'index'"):
        read_components(path, COUNT)
    path.write_text("index\tname\tdomain\none\tx\ty\n")
    with pytest.raises(EngineError, match="names no component"):
        read_components(path, 1)


def test_the_digest_is_of_the_values_alone() -> None:
    one, two = vectors(2)
    assert Fnc(one, "a").digest == Fnc(one.copy(), "b").digest
    assert Fnc(one).digest != Fnc(two).digest


def test_people_meet_by_their_ids_and_the_others_are_told() -> None:
    found = join(table(), ["sub-b", "sub-x", "b", "e"])
    assert found.rows == ((0, 1), (2, 1), (3, 4))
    assert found.without_fnc == ("sub-x",)
    assert found.without_scan == ("a", "c", "d")
    told = "3 scans have connectivity; 1 scans have none (sub-x)"
    assert found.told().startswith(told)


@pytest.mark.parametrize(
    ("held", "sentence"),
    [
        (table(numbered=True), "names no participants"),
        (table(("a", "sub-a", "c")), "names sub-a twice"),
        (table(("1", "2", "3")), "must be the same"),  # 001 is not 1: nothing guessed
    ],
)
def test_what_cannot_be_joined_gets_a_sentence(held: FncTable, sentence: str) -> None:
    with pytest.raises(EngineError, match=sentence):
        join(held, ["001", "a"] if held.participants[0] == "a" else ["001"])


def test_a_pair_of_networks_is_scaled_and_no_other() -> None:
    before = table().of("b")
    after = scaled(before, COMPONENTS, "CB", "SC", 0.5).matrix
    block = np.zeros((COUNT, COUNT), bool)
    block[:2, 2:] = block[2:, :2] = True
    np.testing.assert_array_equal(after[block], before.matrix[block] / 2)
    np.testing.assert_array_equal(after[~block], before.matrix[~block])
    assert between(COMPONENTS, "CB", "CB").sum() == connections(4)


def test_a_network_is_taken_out_with_all_its_connections() -> None:
    before = table().of("b")
    after = without(before, COMPONENTS, "SC").matrix
    assert not after[:2].any() and not after[:, :2].any()
    np.testing.assert_array_equal(after[2:, 2:], before.matrix[2:, 2:])
    with pytest.raises(EngineError, match="no network 'VI'; there are SC, CB"):
        without(before, COMPONENTS, "VI")


def test_a_block_comes_from_another_person() -> None:
    one, other = table().of("a"), table().of("b")
    found = swapped(one, other, COMPONENTS, "SC", "CB")
    assert found.name == "a, SC-CB of b"
    np.testing.assert_array_equal(found.matrix[:2, 2:], other.matrix[:2, 2:])
    np.testing.assert_array_equal(found.matrix[2:, 2:], one.matrix[2:, 2:])
    with pytest.raises(EngineError, match="same components"):
        swapped(one, Fnc(vectors()[0, :10]), COMPONENTS, "SC", "CB")


def test_everybody_of_a_table_is_a_person_whatever_is_edited() -> None:
    found = table(groups=("x", "", "x", "", ""))
    assert [fnc.person for fnc in found.people("x")] == ["a", "c"]
    np.testing.assert_array_equal(found.people("x")[1].vector, found.vectors[2])
    one, other = found.of("a"), found.of("b")
    edits = (
        scaled(one, COMPONENTS, "SC", "CB", 0.5),
        without(one, COMPONENTS, "SC"),
        swapped(one, other, COMPONENTS, "SC", "CB"),
    )
    assert {fnc.person for fnc in edits} == {"a"}
    assert mean_of(found).person == random(law_of(found.vectors), 1).person == ""


def test_whoever_is_not_there_is_told() -> None:
    with pytest.raises(EngineError, match="z is not among the 5 participants"):
        table().of("z")


def test_the_mean_is_numpys() -> None:
    np.testing.assert_allclose(mean_of(table()).vector, vectors().mean(0), atol=1e-6)


def test_random_connectivity_has_mean_covariance_and_norm_of_the_people() -> None:
    rng = np.random.default_rng(4)
    factor = rng.normal(0, 0.3, (2, connections(COUNT)))
    people = rng.standard_normal((200, 2)) @ factor + vectors(200, 1)
    law = law_of(people.astype(np.float32), rank=4)
    drawn = np.stack([random(law, seed).vector for seed in range(1500)])
    spread = np.cov(people.T)
    error = np.abs(np.cov(drawn.T) - spread).max() / spread.max()
    assert error < 0.15
    assert np.abs(drawn.mean(0) - people.mean(0)).max() < 0.15
    lengths, own = (np.linalg.norm(v, axis=1) for v in (drawn, people))
    levels = (0.1, 0.5, 0.9)
    np.testing.assert_allclose(
        np.quantile(lengths, levels), np.quantile(own, levels), rtol=0.1
    )
    assert own.min() <= 1.001 * lengths.min() and lengths.max() <= own.max() * 1.001


def test_random_connectivity_is_of_its_seed() -> None:
    law = law_of(vectors(30))
    assert random(law, 3).digest == random(law, 3).digest
    assert random(law, 3).digest != random(law, 4).digest
    with pytest.raises(EngineError, match="at least 3"):
        law_of(vectors(2))
