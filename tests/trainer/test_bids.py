"""A BIDS dataset becomes scans with covariates, split by subject."""

from __future__ import annotations

import pytest

from napari_brainldm.engine.request import EngineError
from trainer.config import Column, DataConfig
from trainer.data.bids import read_dataset
from trainer.data.vocabulary import conditions, vocabulary

AGE = Column("age", "Age", "age", "years")
SEX = Column("sex", "Sex", "sex", categories=("F", "M"))


def dataset(root, table, scans=None, sessions=None, encoding="utf-8"):
    """Empty scan files under a participants table of tab-separated rows."""
    rows = [row.split() for row in table.strip().splitlines()]
    text = "\n".join("\t".join(row) for row in rows) + "\n"
    root.mkdir(exist_ok=True)
    (root / "participants.tsv").write_bytes(text.encode(encoding))
    for scan in scans or [f"{row[0]}/anat/{row[0]}_T1w.nii.gz" for row in rows[1:]]:
        (root / scan).parent.mkdir(parents=True, exist_ok=True)
        (root / scan).touch()
    for subject, lines in (sessions or {}).items():
        path = root / subject / f"{subject}_sessions.tsv"
        path.write_text("\n".join("\t".join(line.split()) for line in lines) + "\n")
    return root


def read(root, *columns, held_out=0.0, seed=0):
    config = DataConfig(str(root), held_out=held_out, seed=seed, covariates=columns)
    return read_dataset(config)


def many(root, count):
    rows = [f"sub-{n:02d} {20 + n}" for n in range(count)]
    return dataset(root, "\n".join(["participant_id age", *rows]))


CODING = {"1": "M", "2": "F"}
TABLE = """
participant_id age sex brain icv
sub-01 30 1 1000000 1400000
sub-02 40 2 1100000 1600000
sub-03 n/a 2 1200000 1500000
sub-04 60 1 1300000 1500000
"""


def test_numbers_categories_and_missing_values(tmp_path):
    coded = Column("sex", "Sex", "sex", categories=("F", "M"), coding=CODING)
    found = read(dataset(tmp_path / "d", TABLE), AGE, coded)
    told = {e.subject: dict(e.covariates) for e in found.train}
    assert told == {
        "sub-01": {"age": 30.0, "sex": "M"},
        "sub-02": {"age": 40.0, "sex": "F"},
        "sub-04": {"age": 60.0, "sex": "M"},
    }
    assert found.head_size == 0.0
    assert [e.path.is_file() for e in found.train] == [True] * 3


def test_brain_volume_is_scaled_to_the_mean_head(tmp_path):
    brain = Column("brain", "Brain", "brain", "ml", scale=0.001, per_head="icv")
    found = read(dataset(tmp_path / "d", TABLE), brain)
    assert found.head_size == pytest.approx(1500.0)  # ml: mean of 1.4, 1.6, 1.5, 1.5
    values = [dict(e.covariates)["brain"] for e in found.train]
    expected = [b * 1500 / i for b, i in ((1000, 1400), (1100, 1600), (1200, 1500))]
    assert values[:3] == pytest.approx(expected)


@pytest.mark.parametrize("first", [0, 1])
def test_columns_in_other_units_than_the_head_are_scaled_alike(tmp_path, first):
    table = (
        "participant_id brain vent icv\nsub-01 1000 20000 1400\n"
        "sub-02 1100 30000 1600\nsub-03 1200 25000 1500"
    )
    scans = [f"sub-0{n}/anat/sub-0{n}_T1w.nii.gz" for n in (1, 2, 3)]
    columns = (
        Column("brain", "Brain", "brain", "ml", per_head="icv"),
        Column("vent", "Ventricles", "vent", "ml", scale=0.001, per_head="icv"),
    )
    found = read(
        dataset(tmp_path / "d", table, scans), *columns[first:], *columns[:first]
    )
    assert found.head_size == pytest.approx(1500.0)
    values = dict(found.train[0].covariates)
    assert values == pytest.approx(
        {"brain": 1000 * 1500 / 1400, "vent": 20 * 1500 / 1400}
    )


def test_the_mean_head_is_that_of_the_training_scans(tmp_path):
    brain = Column("brain", "Brain", "brain", "ml", scale=0.001, per_head="icv")
    found = read(dataset(tmp_path / "d", TABLE), brain, held_out=0.25)
    sizes = {"sub-01": 1400, "sub-02": 1600, "sub-03": 1500, "sub-04": 1500}
    kept = [sizes[e.subject] for e in found.train]
    assert len(found.held_out) == 1
    assert found.head_size == pytest.approx(sum(kept) / len(kept))


VISITS = [
    "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz",
    "sub-01/ses-b/anat/sub-01_ses-b_T1w.nii.gz",
    "sub-02/ses-a/anat/sub-02_ses-a_T1w.nii.gz",
    "sub-02/ses-b/anat/sub-02_ses-b_T1w.nii.gz",
]


def test_values_of_the_visit_go_before_those_of_the_subject(tmp_path):
    root = dataset(
        tmp_path / "d",
        "participant_id age sex\nsub-01 50 F\nsub-02 60 M",
        VISITS,
        {"sub-01": ["session_id age", "ses-a 50.5", "ses-b 52"]},
    )
    found = read(root, AGE, SEX)
    told = {(e.subject, e.session): dict(e.covariates) for e in found.train}
    assert told["sub-01", "ses-a"] == {"age": 50.5, "sex": "F"}
    assert told["sub-01", "ses-b"] == {"age": 52.0, "sex": "F"}
    assert told["sub-02", "ses-b"] == {"age": 60.0, "sex": "M"}


def test_a_column_that_some_visits_lack_leaves_these_out(tmp_path):
    root = dataset(
        tmp_path / "d",
        "participant_id sex\nsub-01 F\nsub-02 M\nsub-03 M",
        [*VISITS, "sub-03/ses-a/anat/sub-03_ses-a_T1w.nii.gz"],
        {
            "sub-01": ["session_id age", "ses-a 50", "ses-b 52"],
            "sub-03": ["session_id age", "ses-a 70"],
        },
    )
    found = read(root, AGE)
    assert [e.subject for e in found.train] == ["sub-01", "sub-01", "sub-03"]


def test_visits_of_one_subject_stay_on_one_side(tmp_path):
    rows = "\n".join(f"sub-{n:02d} {n}" for n in range(10))
    scans = [
        f"sub-{n:02d}/ses-{s}/anat/sub-{n:02d}_ses-{s}_T1w.nii.gz"
        for n in range(10)
        for s in "ab"
    ]
    root = dataset(tmp_path / "d", "participant_id age\n" + rows, scans)
    splits = []
    for seed in (0, 0, 1, 2):
        found = read(root, AGE, held_out=0.3, seed=seed)
        train, held = ({e.subject for e in s} for s in (found.train, found.held_out))
        assert len(held) == 3 and len(train) == 7 and not train & held
        assert len(found.held_out) == 6
        splits.append(held)
    assert splits[0] == splits[1]
    assert len({frozenset(s) for s in splits}) > 1


def test_scans_of_nobody_and_derivatives_and_other_contrasts_are_not_read(tmp_path):
    scans = [
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-01/anat/sub-01_T2w.nii.gz",
        "sub-02/anat/sub-02_T1w.nii",
        "sub-09/anat/sub-09_T1w.nii.gz",
        "derivatives/x/sub-01/anat/sub-01_T1w.nii.gz",
    ]
    table = "participant_id age\nsub-01 30\nsub-02 40\nsub-05 50"
    found = read(dataset(tmp_path / "d", table, scans), AGE)
    names = [str(e.path.relative_to(tmp_path / "d")) for e in found.train]
    assert names == [scans[0], scans[2]]


def test_a_byte_order_mark_and_short_rows_do_no_harm(tmp_path):
    root = dataset(tmp_path / "d", TABLE + "sub-05 70\n", encoding="utf-8-sig")
    assert len(read(root, AGE).train) == 4
    assert len(read(root, AGE, Column("icv", "Head", "icv")).train) == 3


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ((Column("age", "Age", "years"),), "has no column 'years'; it has .*age, sex"),
        ((SEX,), "holds '1'; known are F, M. Map it under `coding`"),
        ((Column("age", "Age", "participant_id"),), "where a number is needed"),
        ((Column("b", "B", "brain", per_head="head"),), "has no column 'head'"),
    ],
)
def test_what_cannot_be_read_gets_a_sentence(tmp_path, columns, sentence):
    root = dataset(tmp_path / "d", TABLE)
    with pytest.raises(EngineError, match=sentence):
        read(root, *columns)


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("participant_id age\n01 30\n02 40", "belongs to a participant_id"),
        ("id age\nsub-01 30\nsub-02 40", "has no column 'participant_id', found id"),
        ("participant_id age\nsub-01 inf\nsub-02 40", "where a number is needed"),
        ("participant_id age\nsub-01 n/a\nsub-02 40", "1 subjects of .* are left"),
        ("participant_id age", "belongs to a participant_id"),
    ],
)
def test_a_table_that_cannot_be_used_gets_a_sentence(tmp_path, table, sentence):
    scans = [f"sub-0{n}/anat/sub-0{n}_T1w.nii.gz" for n in (1, 2)]
    with pytest.raises(EngineError, match=sentence):
        read(dataset(tmp_path / "d", table, scans), AGE)


def test_a_head_of_no_volume_is_refused(tmp_path):
    brain = Column("brain", "Brain", "brain", per_head="icv")
    table = "participant_id brain icv\nsub-01 900 0\nsub-02 900 1300"
    with pytest.raises(EngineError, match="a head has a volume above 0"):
        read(dataset(tmp_path / "d", table), brain)


def test_a_table_in_another_encoding_is_refused(tmp_path):
    root = dataset(tmp_path / "d", TABLE.replace("sex", "sexé"), encoding="latin-1")
    with pytest.raises(EngineError, match="not a tab-separated table in UTF-8"):
        read(root, AGE)


def test_a_folder_that_is_no_dataset_is_refused(tmp_path):
    with pytest.raises(EngineError, match=r"has no participants\.tsv"):
        read(tmp_path / "nowhere", AGE)
    (tmp_path / "participants.tsv").write_text("participant_id\tage\nsub-01\t3\n")
    with pytest.raises(EngineError, match="no T1w scan in BIDS layout"):
        read(tmp_path, AGE)


def test_the_vocabulary_tells_range_median_and_histogram(tmp_path):
    rows = [f"sub-{n:02d} {20 + n} {'F' if n % 3 else 'M'}" for n in range(11)]
    root = dataset(tmp_path / "d", "\n".join(["participant_id age sex", *rows]))
    entries = read(root, AGE, SEX).train
    age, sex = vocabulary((AGE, SEX), entries)
    assert (age.low, age.high, age.reference, age.unit) == (20.0, 30.0, 25.0, "years")
    assert age.histogram is not None and sum(age.histogram.counts) == 11
    assert (age.histogram.low, age.histogram.high) == (20.0, 30.0)
    assert (sex.categories, sex.reference) == (("F", "M"), "F")
    assert conditions(entries[0]).as_dict() == {"age": 20.0, "sex": "M"}


def test_a_covariate_that_never_varies_is_refused(tmp_path):
    root = dataset(tmp_path / "d", "participant_id age\nsub-01 60\nsub-02 60")
    with pytest.raises(EngineError, match="age is 60 for every training scan"):
        vocabulary((AGE,), read(root, AGE).train)


def test_a_real_dataset(shared):
    """ds002748: 48 people, 35 of them with a depression."""
    group = Column("group", "Group", "group", categories=("control", "depr"))
    root = shared / "data" / "ds002748"
    found = read(root, AGE, SEX, group, held_out=0.25)
    assert (len(found.train), len(found.held_out)) == (36, 12)
    everyone = {e.subject: dict(e.covariates) for e in found.train + found.held_out}
    table = (root / "participants.tsv").read_text().splitlines()[1:]
    rows = {row[0]: row[1:4] for row in map(str.split, table)}
    assert len(everyone) == 48
    for subject, told in everyone.items():
        assert [told["sex"], told["group"]] == rows[subject][1:]
        assert told["age"] == float(rows[subject][0])
    counts = dict.fromkeys(("control", "depr"), 0)
    for told in everyone.values():
        counts[told["group"]] += 1
    wanted = [row[2] for subject, row in rows.items() if subject in everyone]
    assert counts == {name: wanted.count(name) for name in counts}


ROWS = """
participant_id session_id age sex
sub-01 ses-a 50 F
sub-01 ses-b 52 F
sub-02 ses-a 60 M
"""


def test_a_row_per_visit_counts_for_that_visit(tmp_path):
    found = read(dataset(tmp_path / "d", ROWS, VISITS), AGE, SEX)
    told = {(e.subject, e.session): dict(e.covariates) for e in found.train}
    assert told == {
        ("sub-01", "ses-a"): {"age": 50.0, "sex": "F"},
        ("sub-01", "ses-b"): {"age": 52.0, "sex": "F"},
        ("sub-02", "ses-a"): {"age": 60.0, "sex": "M"},
    }


def test_two_rows_of_one_subject_are_refused(tmp_path):
    table = "participant_id age\nsub-01 50\nsub-01 52\nsub-02 60"
    scans = [f"sub-0{n}/anat/sub-0{n}_T1w.nii.gz" for n in (1, 2)]
    with pytest.raises(EngineError, match="two rows of sub-01, so it is not told"):
        read(dataset(tmp_path / "d", table, scans), AGE)


def test_sessions_are_also_read_from_a_table_without_a_name(tmp_path):
    table = "participant_id sex\nsub-01 F\nsub-02 M"
    root = dataset(tmp_path / "d", table, VISITS)
    for name in ("sub-01", "sub-02"):
        text = "session_id\tage\nses-a\t50\nses-b\t52\n"
        (root / name / "sessions.tsv").write_text(text)
    found = read(root, AGE)
    assert [dict(e.covariates)["age"] for e in found.train] == [50.0, 52.0] * 2


def test_who_is_named_is_left_out(tmp_path):
    table = "participant_id age\nsub-01 50\nsub-02 60\nsub-03 70"
    root = dataset(tmp_path / "d", table, [*VISITS, "sub-03/anat/sub-03_T1w.nii.gz"])
    without = ("sub-03", "sub-01_ses-b_T1w.nii.gz")
    found = read_dataset(
        DataConfig(str(root), held_out=0.0, without=without, covariates=(AGE,))
    )
    told = [(e.subject, e.session) for e in found.train]
    assert told == [("sub-01", "ses-a"), ("sub-02", "ses-a"), ("sub-02", "ses-b")]
