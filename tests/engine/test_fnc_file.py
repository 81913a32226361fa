"""Connectivity from the files people have, written here by scipy, h5py and numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from napari_brainldm.engine.components import write_components
from napari_brainldm.engine.fnc import Fnc, connections, square, triangle
from napari_brainldm.engine.fnc_file import read_fnc, write_fnc
from napari_brainldm.engine.request import EngineError

COUNT = 7


def matrices(people: int = 4, count: int = COUNT, top: float = 1.6) -> np.ndarray:
    """Symmetric (people, count, count) from -top to top, an infinite diagonal."""
    rng = np.random.default_rng(people)
    vectors = rng.uniform(-0.9, 0.9, (people, connections(count)))
    vectors[0, 0] = top
    found = square(vectors.astype(np.float32)).astype(np.float64)
    found[:, range(count), range(count)] = np.inf
    return found


def refused(sentence: str, path: Path, **words) -> None:
    with pytest.raises(EngineError, match=sentence):
        read_fnc(path, **words)


def test_gifts_file_is_read_as_fisher_z(tmp_path: Path) -> None:
    path = tmp_path / "x_postprocess_results.mat"
    held = matrices(top=0.8)  # below 1 throughout, and z all the same
    savemat(path, {"fnc_corrs_all": held[:, None], "spectra": np.zeros((4, 5))})
    found = read_fnc(path)
    np.testing.assert_allclose(found.vectors, triangle(held))
    assert len(found.components) == COUNT
    assert found.participants == ("row 1", "row 2", "row 3", "row 4")
    assert found.numbered
    assert "4 participants, 7 components" in found.notes[0]
    assert "Fisher z" in found.notes[-1]


def test_gifts_version_7_3_has_its_axes_reversed(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "x_postprocess_results.mat"
    held = np.stack([matrices(4), matrices(4) * 0.5], axis=1)
    with h5py.File(path, "w", userblock_size=512) as file:
        file["fnc_corrs_all"] = held.T
        file["comp"] = np.arange(3.0)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file")
    refused("2 sessions.*session 0 to 1", path)
    refused("no session 2", path, session=2)
    found = read_fnc(path, session=1)
    np.testing.assert_allclose(found.vectors, triangle(held[:, 1]), rtol=1e-6)


def test_one_square_variable_is_taken_two_are_not(tmp_path: Path) -> None:
    path = tmp_path / "own.mat"
    savemat(path, {"z": matrices(3), "age": np.arange(3)})
    assert "variable z was taken" in read_fnc(path).notes[1]
    savemat(path, {"z": matrices(3), "other": matrices(3)})
    refused("holds z, other", path)


def test_a_table_of_ids_and_triangles_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "fnc.csv"
    held = triangle(matrices())
    people = [Fnc(v, f"sub-{n:02d}") for n, v in enumerate(held)]
    path.write_text(write_fnc(people))
    assert path.read_text().startswith("Id,2_vs_1,3_vs_1,")
    found = read_fnc(path)
    np.testing.assert_allclose(found.vectors, held, rtol=1e-5)
    assert found.participants == ("sub-00", "sub-01", "sub-02", "sub-03")
    assert not found.numbered


@pytest.mark.parametrize("head", [",{}", "Id,{}", "participant_id,{}", "{}"])
@pytest.mark.parametrize("start", [0, 1])
def test_numbered_columns_are_no_participant(
    tmp_path: Path, head: str, start: int
) -> None:
    """As pandas writes a data frame: else 0, 1, 2 and so on are somebody's, and z."""
    path = tmp_path / "fnc.csv"
    held = np.tanh(triangle(matrices()))
    columns = ",".join(str(n + start) for n in range(held.shape[1]))
    names = [""] * 4 if head == "{}" else [f"{100 + n}," for n in range(4)]
    body = [
        name + ",".join(f"{v:.7f}" for v in row)
        for name, row in zip(names, held, strict=True)
    ]
    path.write_text("\n".join([head.format(columns), *body]) + "\n")
    found = read_fnc(path)
    assert "Pearson" in str(found.notes)
    np.testing.assert_allclose(np.tanh(found.vectors), held, atol=1e-6)
    named = ("100", "101", "102", "103")
    rows = ("row 1", "row 2", "row 3", "row 4")
    assert found.participants == (rows if head == "{}" else named)


def test_columns_in_another_order_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "fnc.csv"
    names = ["B_vs_A", "C_vs_A", "D_vs_A", "C_vs_B", "D_vs_B", "D_vs_C"]
    row = "7,0.1,0.2,0.3,0.4,0.5,0.6\n"
    path.write_text(",".join(["Id", *names]) + "\n" + row)
    assert read_fnc(path).participants == ("7",)
    names[2], names[3] = names[3], names[2]  # down the columns of the upper triangle
    path.write_text(",".join(["Id", *names]) + "\n" + row)
    refused("not in the order of an upper triangle", path)


def test_correlations_become_fisher_z_and_it_is_told(tmp_path: Path) -> None:
    path = tmp_path / "fnc.npy"
    held = np.tanh(triangle(matrices()))
    np.save(path, held)
    found = read_fnc(path)
    np.testing.assert_allclose(np.tanh(found.vectors), held, rtol=1e-5)
    assert "Pearson correlations, made into Fisher z: they stay within 1" in str(
        found.notes
    )
    np.testing.assert_allclose(read_fnc(path, scale="z").vectors, held)
    refused("scale 'p'", path, scale="p")
    path.with_suffix(".json").write_text('{"Scale": "z"}')
    np.testing.assert_allclose(read_fnc(path).vectors, held)
    path.with_suffix(".json").write_text("nonsense")
    assert "Pearson" in str(read_fnc(path).notes)


def test_groups_are_read_beside_the_table(tmp_path: Path) -> None:
    path = tmp_path / "fnc.csv"
    drawn = np.random.default_rng(0).normal(0, 1, (3, 6)).astype(np.float32)
    rows = [Fnc(v, name) for v, name in zip(drawn, ("a", "b", "c"), strict=True)]
    path.write_text(write_fnc(rows))
    assert read_fnc(path).groups == ()
    told = '{"Scale": "z", "Groups": {"a": "patient", "c": "control", "x": "patient"}}'
    path.with_suffix(".json").write_text(told)
    table = read_fnc(path)
    assert table.groups == ("patient", "", "control")
    assert [fnc.name for fnc in table.people("patient")] == ["a"]
    assert [fnc.name for fnc in table.people()] == ["a", "b", "c"]
    path.with_suffix(".json").write_text('{"Groups": ["a"]}')
    assert read_fnc(path).groups == ()


def test_a_person_who_stands_twice_is_refused(tmp_path: Path) -> None:
    """Else the first row would count as two people."""
    path, ids = tmp_path / "fnc.csv", tmp_path / "ids.txt"
    held = triangle(matrices())
    names = ("sub-7", "sub-8", "7", "sub-8")
    path.write_text(write_fnc([Fnc(*row) for row in zip(held, names, strict=True)]))
    refused(r"fnc\.csv names 7, sub-8 twice\. Keep one row", path)
    bare = tmp_path / "fnc.npy"
    np.save(bare, held)
    assert read_fnc(bare).numbered
    ids.write_text("a\nb\na\nc\n")
    refused(r"ids\.txt names a twice", bare, participants=ids)


def test_53_components_named_by_their_number_alone_are_told(tmp_path: Path) -> None:
    path, names = tmp_path / "fnc.npy", tmp_path / "components.tsv"
    np.save(path, triangle(matrices(count=53)))
    found = read_fnc(path)
    assert "taken for NeuroMark 1.0 by their number alone" in found.notes[-1]
    names.write_text(write_components(found.components))
    assert "NeuroMark" not in str(read_fnc(path, components=names).notes)


def test_what_says_r_but_is_not_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fnc.npy"
    np.save(path, triangle(matrices()))
    refused("reaches 1.6, which no correlation does", path, scale="r")
    np.save(path, np.ones((1, 3)))
    refused("correlation of 1", path)


@pytest.mark.parametrize("whole", [True, False])
def test_numpy_files_of_matrices_and_triangles(tmp_path: Path, whole: bool) -> None:
    path = tmp_path / "fnc.npz"
    held = matrices()
    array = held if whole else triangle(held)
    np.savez(path, fnc=array, ids=np.array(["p", "q", "r", "s"]))
    found = read_fnc(path)
    np.testing.assert_allclose(found.vectors, triangle(held))
    assert found.participants == ("p", "q", "r", "s")


def test_an_array_of_objects_is_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "fnc.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    refused("cannot be read", path)


def test_hcps_text_of_flattened_matrices_with_a_list_of_ids(tmp_path: Path) -> None:
    path, names = tmp_path / "netmats1.txt", tmp_path / "subjectIDs.txt"
    held = matrices(count=9, top=12.0)  # 36 pairs, which are also 6 x 6
    held[:, range(9), range(9)] = 0
    np.savetxt(path, held.reshape(4, -1))
    names.write_text("100206\n100307\n100408\n100610\n")
    found = read_fnc(path, participants=names)
    np.testing.assert_allclose(found.vectors, triangle(held), rtol=1e-6)
    assert found.participants[0] == "100206"
    assert "may be z statistics" in found.notes[-1]
    names.write_text("100206\n")
    refused("1 ids for 4 rows", path, participants=names)


def test_36_numbers_are_9_components_or_a_matrix_of_6(tmp_path: Path) -> None:
    path = tmp_path / "fnc.txt"
    np.savetxt(path, triangle(matrices(count=9)))
    assert len(read_fnc(path).components) == 9
    small = matrices(count=6)
    small[:, range(6), range(6)] = 0
    np.savetxt(path, small.reshape(4, -1))
    assert len(read_fnc(path).components) == 6


def test_one_square_matrix_as_text(shared: Path) -> None:
    found = read_fnc(shared / "data" / "fnc" / "funcMatrix_ctx.csv")
    assert (len(found.participants), len(found.components)) == (1, 68)
    held = np.loadtxt(shared / "data" / "fnc" / "funcMatrix_ctx.csv", delimiter=",")
    assert held.max() > 1
    np.testing.assert_allclose(found.vectors[0], triangle(held), rtol=1e-6)


def test_what_is_no_connectivity_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fnc.npy"
    crooked = matrices()
    crooked[2, 1, 3] += 0.1
    np.save(path, crooked)
    refused("row 3 is not symmetric", path)
    lost = matrices()
    lost[1, 2, 3] = lost[1, 3, 2] = np.nan
    np.save(path, lost)
    refused(r"1 of 4 rows hold values that are not finite numbers \(row 2\)", path)
    np.save(path, np.zeros((3, 5)))
    refused(r"shape \(3, 5\), which is no connectivity", path)
    path.write_bytes(b"nonsense")
    refused("cannot be read", path)
    refused("no file", tmp_path / "none.csv")
    other = tmp_path / "fnc.xlsx"
    other.write_bytes(b"")
    refused("no file of connectivity by its name", other)
    text = tmp_path / "fnc.csv"
    text.write_text("Id,a\nx,1\ny\n")
    refused("rows of", text)
    text.write_text("\n")
    refused("is empty", text)
    text.write_text("Id,a,b,c\nx,1,2,y\n")
    refused("holds text where numbers", text)


def test_a_damaged_matlab_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "x.mat"
    savemat(path, {"fnc_corrs_all": matrices()})
    path.write_bytes(path.read_bytes()[:300])
    refused("cannot be read", path)
    for held in (b"", b"no arrays\n", b"Id,a,b,c\n1,0.1,0.2,0.3\n" * 20, bytes(600)):
        path.write_bytes(held)
        refused("cannot be read .* damaged or of another kind", path)
