"""From a plan to a report, on the command line."""

from __future__ import annotations

import csv
import json
import shutil
import time

import nibabel as nib
import numpy as np
import pytest

from benchmarks.review_study import GRID, Hurried, at_work
from napari_brainldm.cli import main
from napari_brainldm.engine.checkpoint import save_checkpoint
from napari_brainldm.engine.placement import mni_template
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resample import resample
from napari_brainldm.review import leaks
from napari_brainldm.review.build import build
from napari_brainldm.review.check import checked
from napari_brainldm.review.plan import Chosen, Plan, read_plan
from napari_brainldm.review.report import close, write_report
from napari_brainldm.review.session import Clock, Session
from napari_brainldm.review.sources import Source
from napari_brainldm.review.statistics.interval import Interval
from napari_brainldm.review.study import key_path, read_key, read_order, read_study
from tests.tiny import tiny_checkpoint

PLAN = """
name = "A small study"
seed = 3
readers = ["R01", "R02", "R03"]
checkpoint = "tiny.safetensors"
reconstruct = true
blur_mm = [8.0, 16.0]
blur_pictures = 8
rules = { catch_pass = 0.9, draws = 100 }

[[protocols]]
id = "P1"
trials = 24
catches = 2
repeats = 2
practice = 2
block = 10

[[protocols]]
id = "P3a"
trials = 60
practice = 2
levels = [-6.0, -2.0, 2.0, 6.0]

[[protocols]]
id = "P5f"
trials = 12
practice = 0

[[protocols]]
id = "P6"
trials = 12

[[sources]]
arm = "real"
folder = "secret-clinic"
placed = true
table = "facts.tsv"
metrics = ["fid"]

[[sources]]
arm = "synthetic"
label = "secret-model"
requests = "requests.jsonl"
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A folder with a plan, scans, a table, requests and a checkpoint."""
    folder = tmp_path_factory.mktemp("owner")
    save_checkpoint(tiny_checkpoint(), folder / "tiny.safetensors")
    (folder / "secret-clinic").mkdir()
    rng = np.random.default_rng(0)
    brain = resample(mni_template().picture, GRID)
    rows = ["file\tage\tventricles\tfid"]
    for number in range(16):
        noise = 1 + 0.2 * rng.random(brain.shape)
        name = f"sub-{number:02d}_T1w.nii.gz"
        image = nib.Nifti1Image((brain * noise).astype(np.float32), GRID.matrix)
        nib.save(image, folder / "secret-clinic" / name)
        rows.append(f"{name}\t{50 + number}\t{15 * 1.15**number:.3f}\t{number}")
    (folder / "facts.tsv").write_text("\n".join(rows))
    (folder / "facts.csv").write_text("\n".join(rows).replace("\t", ","))
    (folder / "requests.jsonl").write_text(_requests(12))
    (folder / "plan.toml").write_text(PLAN)
    return folder


def _requests(count):
    from napari_brainldm.engine.request import Conditions, Request, Sampler, Seed

    card = tiny_checkpoint().card
    return "\n".join(
        Request(
            card.complete(Conditions.of({"age": 60.0})),
            Seed(seed),
            sampler=Sampler("ddim", 2),
        ).to_json()
        for seed in range(count)
    )


@pytest.fixture(scope="module")
def built(base):
    """The folder of the built study."""
    told = list(build(read_plan(base / "plan.toml"), base / "study", base))
    assert "stimuli; trials" in told[-1]
    return base / "study"


def everything_handed_out(folder):
    """All bytes that a reader's machine gets, names of files among them."""
    return b"".join(
        str(path.relative_to(folder)).encode() + path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )


def test_nothing_handed_out_tells_an_arm(built):
    study, _ = read_study(built)
    key = read_key(key_path(built), study)
    handed = everything_handed_out(built)
    items = {item.token: item for item in key.items}
    arms = {item.arm for item in key.items}
    assert arms >= {"real", "synthetic", "reconstructed", "blurred", "catch"}
    for word in (
        "secret",
        "sub-0",
        "seed 0",
        "reconstructed",
        "blurred",
        "autoencoder",
    ):
        assert word.encode() not in handed
    for item in key.items:
        assert item.token.encode() in handed
        assert not item.request or item.request.encode() not in handed
    assert [s.token for s in study.stimuli] == sorted(items)
    for reader in study.orders:
        main_part = [t for t in read_order(built, study, reader) if not t.practice]
        practised = {
            token
            for t in read_order(built, study, reader)
            if t.practice
            for token in t.stimuli
        }
        assert not practised & {token for t in main_part for token in t.stimuli}
        assert all(items[token].practice for token in practised)
    assert not (built / "key.json").exists()
    assert key_path(built).parent == built.parent


def test_the_key_holds_what_the_pictures_are(built):
    study, _ = read_study(built)
    key = read_key(key_path(built), study)
    by_arm = {
        arm: [i for i in key.items if i.arm == arm] for arm in ("real", "blurred")
    }
    assert len(by_arm["real"]) == 16
    assert len(by_arm["blurred"]) == 2 * 8
    real = next(i for i in by_arm["real"] if i.source == "secret-clinic/sub-03")
    assert real.facts["age"] == 53
    assert real.metrics == {"fid": 3.0}
    sharper, blurrier = (
        next(
            i
            for i in by_arm["blurred"]
            if i.source == real.source and i.facts["blur_mm"] == mm
        )
        for mm in (8.0, 16.0)
    )
    assert sharper.metrics["SSIM"] > blurrier.metrics["SSIM"]
    made = next(i for i in key.items if i.arm == "synthetic")
    assert made.label == "secret-model"
    assert json.loads(made.request)["origin"] == {"seed": int(made.source.split()[1])}


def test_a_key_of_another_study_is_refused(built, tmp_path):
    other = tmp_path / "other.key.json"
    text = key_path(built).read_text()
    other.write_text(text.replace('"main"', '"catch"', 1))
    with pytest.raises(EngineError, match="not the file the study was frozen with"):
        read_key(other, read_study(built)[0])


def answers(items, rng):
    """A simulated reader of the whole study."""

    def answer(session, question):
        shown = [items[token] for token in session.showing.stimuli]
        if question == "real":
            made = shown[0].arm in ("synthetic", "reconstructed")
            level = 3.5 + (1.2 if made else -1.2) + rng.normal(0, 1.2)
            return 6 if shown[0].arm == "catch" else int(np.clip(round(level), 1, 6))
        if question == "greater":
            difference = shown[1].facts["age"] - shown[0].facts["age"]
            return 2 if difference + rng.normal(0, 2) > 0 else 1
        if question == "better":
            blur = [i.facts.get("blur_mm", 0.0) for i in shown]
            return 1 if blur[0] + rng.normal(0, 6) < blur[1] else 2
        if question == "faults":
            return ["blur"] if shown[0].arm == "blurred" else []
        return [10, 12, 9] if question == "fault" else int(rng.integers(1, 5))

    return answer


@pytest.fixture(scope="module")
def read(built):
    """The study after three simulated readers, the third of them asleep."""
    study, _ = read_study(built)
    items = {i.token: i for i in read_key(key_path(built), study).items}
    for number, reader in enumerate(study.orders):
        session = Session(built, reader, Clock(time.time, Hurried()))
        awake = answers(items, np.random.default_rng(number))

        def asleep(session, question, awake=awake):
            return 1 if question == "real" else awake(session, question)

        for _ in at_work(session, asleep if number == 2 else awake):
            pass
        session.close()
    return built


def told(capsys, *words):
    main([str(word) for word in words])
    return capsys.readouterr().out


def refused(capsys, *words):
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_the_commands_verify_close_and_report(read, capsys, tmp_path):
    assert "Nothing was changed." in told(capsys, "review", "verify", read)
    words = refused(capsys, "review", "report", read, "--out", tmp_path / "r")
    assert "nobody sees results before it is" in words
    out = told(capsys, "review", "report", read, "--out", tmp_path / "r", "--close")
    page = (tmp_path / "r" / "report.html").read_text()
    assert out.strip() == str(tmp_path / "r" / "report.html")
    for outside in ("http://", "https://", "src=", "<script", "@import"):
        assert outside not in page.replace("http://www.w3.org", "")
    assert page.count("<svg") >= 6
    assert "Not enough for a claim" in page
    assert "R03" in page.partition("or for a damaged record:")[2][:40]
    assert "no reader left out" in page
    figures = json.loads((tmp_path / "r" / "report.json").read_text())
    _check_figures(figures)
    with (tmp_path / "r" / "answers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["kind"] for row in rows} == {"main", "catch", "repeat"}
    sure = {row["confidence"] for row in rows if row["question"] == "real"}
    assert sure <= set("123")
    with pytest.raises(EngineError, match="is closed"):
        Session(read, "R01")
    assert "Nothing was changed." in told(capsys, "review", "verify", read)


def _check_figures(figures):
    flow = {row["reader"]: row for row in figures["flow"]}
    assert [flow[r]["kept"] for r in ("R01", "R02", "R03")] == [True, True, False]
    assert flow["R01"]["catches_right"] == flow["R01"]["catches"] == 2
    sections = figures["sections"]
    assert set(sections) == {
        f"{name}{end}" for name in ("P1", "P3a", "P5f", "P6") for end in ("", "-all")
    }
    tables = {t["title"]: t["rows"] for t in sections["P1"]["tables"]}
    assert [row["reader"] for row in tables["By reader"]] == ["R01", "R02"]
    assert all(row["AUC"]["estimate"] > 0.6 for row in tables["By reader"])
    kinds = [row["of"] for row in tables["Pooled"]]
    assert "synthetic against reconstructed" in kinds
    scale = next(
        t["rows"] for t in sections["P5f"]["tables"] if t["title"] == "Scale of realism"
    )
    arms = {row["arm"] for row in scale}  # names are random, so is who meets whom
    assert "real" in arms and any(arm.startswith("blurred by") for arm in arms)
    faults = next(
        t["rows"] for t in sections["P6"]["tables"] if t["title"] == "Faults seen"
    )
    seen = {row["arm"]: row["blur"]["estimate"] for row in faults}
    blurred = [seen[arm] for arm in seen if arm.startswith("blurred by")]
    assert blurred and set(blurred) == {1}
    assert seen["real"] == 0


def test_the_report_is_the_same_each_time(read, tmp_path):
    close(read)
    pages = [
        write_report(read, key_path(read), tmp_path / name).read_bytes()
        for name in ("a", "b")
    ]
    assert pages[0] == pages[1]


def reopened(read, folder):
    """A copy of the study that is not closed."""
    shutil.copytree(read, folder)
    (folder / "closed.json").unlink(missing_ok=True)
    return folder


def test_readers_who_never_began_do_not_hide_that_one_is_left_out(read, tmp_path):
    copy = reopened(read, tmp_path / "s")
    for path in (copy / "records").glob("R01.*"):
        path.unlink()
    close(copy)
    write_report(copy, key_path(read), tmp_path / "r")
    figures = json.loads((tmp_path / "r" / "report.json").read_text())
    flow = {
        row["reader"]: (row["answered"] > 0, row["kept"]) for row in figures["flow"]
    }
    assert flow == {"R01": (False, True), "R02": (True, True), "R03": (True, False)}
    assert "P1-all" in figures["sections"]


def test_a_damaged_record_does_not_keep_a_study_from_its_report(read, tmp_path):
    copy = reopened(read, tmp_path / "s")
    record = copy / "records" / "R01.jsonl"
    record.write_bytes(b"\n" + record.read_bytes())
    close(copy)
    noted = json.loads((copy / "closed.json").read_bytes())["records"]
    assert "no row of a record" in noted["R01"]["damaged"]
    assert noted["R02"]["rows"] > 0
    write_report(copy, key_path(read), tmp_path / "r")
    assert not any("closed with" in fault for fault in checked(copy)[1])
    record.write_bytes(record.read_bytes()[1:])  # mended behind the owner's back
    assert any("R01: the record is not the one" in fault for fault in checked(copy)[1])


def test_another_number_of_panels_has_as_many_answers():
    for panels in (2, 6):
        found = Chosen("P2", panels=panels).protocol()
        (question,) = found.questions
        assert question.options == tuple(str(n) for n in range(1, panels + 1))
    assert Chosen("P2").protocol().questions[0].options == ("1", "2", "3", "4")


def test_a_record_changed_after_closing_is_found(read, capsys):
    from napari_brainldm.review.record import Record

    close(read)
    path, digest = read / "records" / "R02.jsonl", read_study(read)[1]
    kept = {p: p.read_bytes() for p in (path, path.with_suffix(".head"))}
    record = Record(path, digest, "R02")
    record.append({"event": "note", "words": "later"})
    record.close()
    words = refused(capsys, "review", "verify", read)
    assert "not the one that the study was closed with" in words
    for p, content in kept.items():
        p.write_bytes(content)


def test_run_opens_the_dock_or_says_what_is_missing(built, capsys, monkeypatch):
    import napari_brainldm.cli as cli

    opened = []

    class Dock:
        @staticmethod
        def open_study(folder, reader):
            opened.append((folder, reader))

    monkeypatch.setattr(cli, "import_module", lambda name: Dock)
    main(["review", "run", str(built), "--reader", "R02"])
    assert opened == [(built, "R02")]
    assert "no reader 'R77'" in refused(
        capsys, "review", "run", built, "--reader", "R77"
    )

    def missing(name):
        raise ModuleNotFoundError(name="napari")

    monkeypatch.setattr(cli, "import_module", missing)
    words = refused(capsys, "review", "run", built, "--reader", "R02")
    assert "napari is not installed" in words


def test_a_leaky_study_is_refused_and_leaves_nothing(base, tmp_path, monkeypatch):
    from napari_brainldm.review import build as module

    finding = leaks.Finding(
        ("real", "synthetic"), (100, 100), Interval(0.9, 0.8, 1.0), ("file size",), 0.01
    )
    monkeypatch.setattr(module.leaks, "audit", lambda *_: [finding])
    plan = Plan(
        "Leaky",
        (Chosen("P1", trials=10, catches=0, repeats=0),),
        (
            Source("real", folder="secret-clinic", placed=True),
            Source("synthetic", requests="requests.jsonl"),
        ),
        checkpoint="tiny.safetensors",
    )
    with pytest.raises(EngineError, match=r"by file size: a leak\. Bring both arms"):
        list(build(plan, tmp_path / "study", base))
    assert not (tmp_path / "study").exists()


def test_a_study_is_never_built_over_another(built, base):
    with pytest.raises(EngineError, match="never built over another"):
        list(build(read_plan(base / "plan.toml"), built, base))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('id = "P1"', 'id = "P9"'), "P9"),
        (('arm = "real"', 'arm = "fake"'), "the arm 'fake'"),
        (("seed = 3", "sead = 3"), "unknown entry 'sead'"),
        (('readers = ["R01", "R02", "R03"]', 'readers = ["Jo Doe"]'), "Jo Doe"),
        (('folder = "secret-clinic"', 'folder = "x"\nbids = "y"'), "names 2 places"),
        (("trials = 24", "trials = 0"), "0 trials"),
        (("trials = 60", "catches = 4"), "P3a has 4 catches"),
        (("trials = 60", "panels = 3"), "P2 alone"),
        (('id = "P6"', 'id = "P2"\npanels = 12'), "12 panels"),
    ],
)
def test_mistakes_in_a_plan_are_told(base, tmp_path, change, said, capsys):
    path = tmp_path / "plan.toml"
    path.write_text(PLAN.replace(*change, 1))
    words = refused(capsys, "review", "build", path, "--out", tmp_path / "s")
    assert said in words
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('metrics = ["fid"]', 'metrics = ["FID", "kid"]'), "FID, kid is needed"),
        (('"facts.tsv"', '"facts.csv"'), "Columns are parted by tabs"),
    ],
)
def test_a_table_that_tells_nothing_is_refused(base, tmp_path, change, said):
    path = tmp_path / "plan.toml"
    path.write_text(PLAN.replace(*change, 1))
    with pytest.raises(EngineError, match=said):
        list(build(read_plan(path), tmp_path / "s", base))


def test_bids_scans_bring_their_ages_and_seeds_their_conditions(base, tmp_path):
    from napari_brainldm.engine.renderer import Renderer
    from napari_brainldm.review.sources import pictures

    anat = tmp_path / "data" / "sub-07" / "anat"
    anat.mkdir(parents=True)
    scan = (base / "secret-clinic" / "sub-00_T1w.nii.gz").read_bytes()
    (anat / "sub-07_T1w.nii.gz").write_bytes(scan)
    table = "participant_id\tage\tsex\nsub-07\t71.5\tF\n"
    (tmp_path / "data" / "participants.tsv").write_text(table)
    renderer = Renderer(tiny_checkpoint(), "cpu")
    source = Source("real", bids="data", placed=True)
    (one,) = pictures(source, renderer, None, tmp_path)
    assert (one.source, one.facts) == ("data/sub-07", {"age": 71.5})
    source = Source("synthetic", seeds=2, conditions={"age": (50, 60)})
    made = list(pictures(source, renderer, None, tmp_path))
    assert [(p.source, p.facts["age"]) for p in made] == [
        ("seed 0", 50.0),
        ("seed 0", 60.0),
        ("seed 1", 50.0),
        ("seed 1", 60.0),
    ]
    with pytest.raises(EngineError, match="holds no scans"):
        list(pictures(Source("real", folder="none"), renderer, None, tmp_path))
