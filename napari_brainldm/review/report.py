"""The report of a closed study: report.html, report.json and CSV files."""

from __future__ import annotations

import csv
import html
import io
import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_brainldm.engine.files import write_whole, writing_into
from napari_brainldm.engine.notice import NOTICE
from napari_brainldm.engine.request import EngineError
from napari_brainldm.review.analysis.rate import against_metrics, rating
from napari_brainldm.review.analysis.section import (
    Material,
    Section,
    Table,
    cell,
    judgement,
)
from napari_brainldm.review.analysis.tell import detection, picking
from napari_brainldm.review.analysis.weigh import comparison, estimation, ranking
from napari_brainldm.review.joined import Flow, Judged, joined
from napari_brainldm.review.record import seal
from napari_brainldm.review.statistics.interval import Interval
from napari_brainldm.review.study import Key, Study, read_key, read_study

if TYPE_CHECKING:
    from napari_brainldm.review.protocols import Protocol

ANALYSES: dict[str, Callable[[Section, Protocol, Material], None]] = {
    "rate": rating,
    "detect": detection,
    "pick": picking,
    "compare": comparison,
    "estimate": estimation,
    "rank": ranking,
}
METRICS_FOR = ("rate", "detect")
OWN_ITEMS = ("compare", "estimate")
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 "
    "1em;color:#222}table{border-collapse:collapse;margin:.5em 0 1.5em}td,th{padding:"
    ".2em .8em;border-bottom:1px solid #ddd;text-align:left}th{font-weight:600}"
    "caption{text-align:left;font-weight:600;padding:.3em 0}svg{max-width:100%;height:"
    "auto}.claim{background:#fff3cd;padding:.5em 1em}"
)
COLUMNS = (
    *("schema", "study_hash", "session", "reader_code", "seed", "protocol", "phase"),
    *("block", "trial", "trial_uid", "stim_a", "stim_b", "stim_c", "stim_d", "kind"),
    *("truth", "right_answer", "standard", "repeat_of", "level_planned", "level_shown"),
    *("question", "response", "confidence", "changed_from", "timeout", "reshown"),
    *("t_shown_utc", "t_utc", "rt_ms", "frames_shown", "slices_visited"),
    *("cursor_path_len", "zoom", "window", "flicker_count", "viewport_px"),
    *("device_pixel_ratio", "display_note", "pixel_sha256", "row_hash"),
)
"""Of answers.csv."""


def close(folder: Path) -> None:
    """Close a study: no more answers, and the hash of every record noted."""
    study, digest = read_study(folder)
    path = folder / "closed.json"
    if path.exists():
        return
    last = {}
    for reader in sorted(study.orders):
        last[reader] = seal(folder / "records" / f"{reader}.jsonl", digest, reader)
    now = datetime.now(UTC).isoformat()
    plain = {"closed_utc": now, "study_hash": digest, "records": last}
    write_whole(path, json.dumps(plain, indent=1).encode())


def write_report(folder: Path, key_file: Path, out: Path) -> Path:
    """Write the report of the closed study in `folder`; the path of report.html.

    Raises
    ------
    EngineError
        If the study is not closed, or the key is missing or another's.
    """
    study, digest = read_study(folder)
    if not (folder / "closed.json").is_file():
        raise EngineError(
            f"The study {study.name} is not closed, and nobody sees results before it "
            "is. Add --close to close it for good."
        )
    key = read_key(key_file, study)
    judged, flows = joined(folder, study, digest, key)
    kept = {flow.reader for flow in flows if flow.kept}
    included = [j for j in judged if j.reader in kept]
    sections = list(_sections(study, included))
    if len(included) < len(judged):
        sections += [
            replace(s, name=f"{s.name}-all", title=f"{s.title}: no reader left out")
            for s in _sections(study, judged)
        ]
    with writing_into(out):
        _write_json(out / "report.json", study, digest, key, flows, sections)
        _write_answers(out / "answers.csv", judged)
        _write_tables(out, sections)
        text = _page(study, digest, key, flows, sections)
        write_whole(out / "report.html", text.encode())
    return out / "report.html"


def _sections(study: Study, judged: Sequence[Judged]) -> Iterable[Section]:
    for protocol in study.protocols:
        own = tuple(j for j in judged if j.row["protocol"] == protocol.id)
        section = Section(protocol.id, f"{protocol.id}: {protocol.title}")
        material = Material(study, own, np.random.default_rng(study.seed))
        section.sentences += judgement(material, protocol.task not in OWN_ITEMS)
        if material.main:
            ANALYSES[protocol.task](section, protocol, material)
            if protocol.task in METRICS_FOR:
                against_metrics(section, protocol, material)
        else:
            section.sentences.append("Nobody has answered a trial of it.")
        yield section


# -- files -------------------------------------------------------------------------


def _write_json(
    path: Path,
    study: Study,
    digest: str,
    key: Key,
    flows: Sequence[Flow],
    sections: Sequence[Section],
) -> None:
    plain = {
        "study": study.name,
        "study_hash": digest,
        "built_by": study.version,
        "rules": asdict(study.rules),
        "notes": list(key.notes),
        "notice": NOTICE,
        "flow": [asdict(flow) for flow in flows],
        "sections": {
            section.name: {
                "title": section.title,
                "sentences": section.sentences,
                "tables": [_plain_table(table) for table in section.tables],
            }
            for section in sections
        },
    }
    write_whole(path, json.dumps(plain, indent=1, allow_nan=False).encode())


def _plain_table(table: Table) -> dict[str, Any]:
    rows = [
        dict(zip(table.columns, map(_plain, row), strict=True)) for row in table.rows
    ]
    return {"title": table.title, "rows": rows}


def _plain(value: Any) -> Any:
    """JSON of a cell; None where it is not finite."""
    if isinstance(value, Interval):
        return {k: _plain(v) for k, v in asdict(value).items()}
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def _write_tables(out: Path, sections: Sequence[Section]) -> None:
    for section in sections:
        for number, table in enumerate(section.tables, start=1):
            rows = [[cell(value) for value in row] for row in table.rows]
            path = out / f"{section.name}_table-{number}.csv"
            _write_csv(path, [[table.title], list(table.columns), *rows])


def _write_answers(path: Path, judged: Sequence[Judged]) -> None:
    """One line for each answered question, with the truth beside it."""
    rows: list[list[Any]] = [list(COLUMNS)]
    for j in judged:
        for question, response in j.row["responses"].items():
            plain = _line(j) | {"question": question, "response": response}
            if question == "real":
                plain["confidence"] = math.ceil(abs(response - 3.5))
            plain["changed_from"] = j.row["changed_from"].get(question, "")
            rows.append([plain.get(column, "") for column in COLUMNS])
    _write_csv(path, rows)


def _line(j: Judged) -> dict[str, Any]:
    tokens = dict(
        zip(("stim_a", "stim_b", "stim_c", "stim_d"), j.row["stimuli"], strict=False)
    )
    truth = {
        "kind": j.truth.kind,
        "truth": j.truth.truth,
        "right_answer": j.truth.answer or "",
        "standard": j.truth.standard,
        "repeat_of": j.truth.repeat_of,
        "level_shown": "" if j.level is None else j.level,
    }
    return {**j.row, **j.row["view"], **tokens, **truth}


def _write_csv(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    write_whole(path, stream.getvalue().encode())


# -- page --------------------------------------------------------------------------


def _page(
    study: Study,
    digest: str,
    key: Key,
    flows: Sequence[Flow],
    sections: Sequence[Section],
) -> str:
    """HTML that loads nothing."""
    left_out = [flow.reader for flow in flows if flow.answered and not flow.kept]
    words = [
        NOTICE,
        f"Study hash {digest}.",
        *key.notes,
        f"Left out by the rule on catch trials, frozen before the study "
        f"({study.rules.catch_pass:.0%} right), or for a damaged record: "
        f"{', '.join(left_out) or 'nobody'}.",
        "Intervals are 95 %, unless said otherwise. Metrics stand beside the readers' "
        "answers; the answers decide.",
    ]
    names = tuple(field.name.replace("_", " ") for field in fields(Flow))
    begun = (asdict(flow) for flow in flows if flow.answered)
    flow = Table(
        "Trials and exclusions of who answered any",
        names,
        tuple(tuple(one.values()) for one in begun),
    )
    body = "".join(map(_section_html, sections))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>'
        f"{html.escape(study.name)}</title><style>{STYLE}</style>"
        f"<h1>{html.escape(study.name)}</h1>{_paragraphs(words)}{_table_html(flow)}"
        f"{body}</html>"
    )


def _section_html(section: Section) -> str:
    tables = "".join(map(_table_html, section.tables))
    drawings = "".join(
        f"<figure>{d.svg}<figcaption>{html.escape(d.title)}</figcaption></figure>"
        for d in section.drawings
    )
    title = html.escape(section.title)
    return f"<h2>{title}</h2>{_paragraphs(section.sentences)}{tables}{drawings}"


def _paragraphs(sentences: Sequence[str]) -> str:
    return "".join(
        f"<p{_mark(sentence)}>{html.escape(sentence)}</p>" for sentence in sentences
    )


def _mark(sentence: str) -> str:
    return ' class="claim"' if sentence.startswith("Not enough") else ""


def _table_html(table: Table) -> str:
    heads = "".join(f"<th>{html.escape(column)}</th>" for column in table.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell(v))}</td>" for v in row) + "</tr>"
        for row in table.rows
    )
    title = html.escape(table.title)
    return f"<table><caption>{title}</caption><tr>{heads}</tr>{rows}</table>"
