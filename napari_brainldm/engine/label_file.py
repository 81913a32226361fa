"""Label maps on disk: NIfTI, the BIDS table of their names, a JSON sidecar."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from napari_brainldm.engine.export import MARK, versions
from napari_brainldm.engine.files import write_whole, writing_into
from napari_brainldm.engine.measure import measure
from napari_brainldm.engine.notice import NOTICE
from napari_brainldm.engine.scan_header import axis_angles_cosine
from napari_brainldm.engine.segment import labels_on

if TYPE_CHECKING:
    from napari_brainldm.engine.finding import Finding
    from napari_brainldm.engine.networks.segmenter import Structure
    from napari_brainldm.engine.segment import Labels
    from napari_brainldm.engine.volume import Affine, Volume

_SCANNER, _MNI = 1, 4  # NIfTI codes of what the coordinates mean
_DESCRIPTION = "structures found by napari-brainldm"


def write_finding(
    finding: Finding, scan: Volume, folder: Path, synthetic: bool = False
) -> Path:
    """Write `scan-<digest>_dseg.nii.gz` on the scan's grid, with .tsv and .json.

    Named by digest: a file name may hold a person's name, which must not travel on.

    Parameters
    ----------
    scan
        What the structures were found in, in its own space.
    synthetic
        Whether it is a generated picture: its label map says so too.

    Raises
    ------
    EngineError
        When `folder` cannot be written to.
    """
    labels = labels_on(finding.segmentation, scan.grid, finding.to_scan)
    mark = f"_{MARK}" if synthetic else ""
    path = folder / f"scan-{scan.digest[:8]}{mark}_dseg.nii.gz"
    stem = path.name.removesuffix(".nii.gz")
    beside = {
        f"{stem}.tsv": names_table(finding.segmentation.structures),
        f"{stem}.json": json.dumps(record(finding, scan, synthetic), indent=1),
    }
    content = _nifti_bytes(labels, scan.affine, synthetic)
    with writing_into(folder):
        write_whole(path, gzip.compress(content, compresslevel=6, mtime=0))
        for name, text in beside.items():
            write_whole(folder / name, text.encode())
    return path


def record(finding: Finding, scan: Volume, synthetic: bool) -> dict[str, Any]:
    """How the structures were found and how large they are, as plain values."""
    quality = finding.quality
    weights = finding.checkpoint
    return {
        "Synthetic": synthetic,
        "Notice": NOTICE,
        "GeneratedBy": [{"Name": "napari-brainldm"}],
        "Method": finding.segmentation.method,
        "Checkpoint": weights and {"name": weights[0], "sha256": weights[1]},
        "Scan": {
            "Sha256": scan.digest,
            "Quality": quality and quality.as_dict(),
            "Steps": list(finding.steps),
        },
        "VolumesMl": measure(finding.segmentation).as_dict(),
        "Versions": versions(),
    }


def names_table(structures: Sequence[Structure]) -> str:
    """BIDS table of label indices and names, tab-separated."""
    names = {0: "background"}
    for structure in structures:
        if structure.left == structure.right:
            names[structure.left] = structure.name
        else:
            names[structure.left] = f"{structure.name}_left"
            names[structure.right] = f"{structure.name}_right"
    lines = [f"{index}\t{name}" for index, name in sorted(names.items())]
    return "\n".join(["index\tname", *lines]) + "\n"


def _nifti_bytes(labels: Labels, affine: Affine, synthetic: bool) -> bytes:
    """NIfTI-1 of `labels` with a header made from nothing else."""
    from nibabel.nifti1 import Nifti1Image

    image: Any = cast("Any", Nifti1Image)(labels, None)
    image.header.set_xyzt_units("mm")
    what = f"SYNTHETIC, {_DESCRIPTION}" if synthetic else _DESCRIPTION
    image.header["descrip"] = what.encode()
    image.header.set_intent("label")
    code = _MNI if synthetic else _SCANNER
    straight = axis_angles_cosine(affine) < 1e-6
    image.set_sform(affine, code)
    image.set_qform(affine, code if straight else 0)
    return bytes(image.to_bytes())
