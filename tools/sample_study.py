"""The sample reader study of resources/, from the demo checkpoint and simulated scans.

    python -m tools.sample_study --out resources/sample_study.zip

Simulates the scans (seed 41, people whom the demo model has not seen), builds the study
as `brainldm review build` does and packs it with its key. The pictures follow from the
seeds; the names of files are random, with them who sees which when, and the key's salt.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from napari_brainldm.engine.scan_file import save_volume
from napari_brainldm.engine.volume import mni_grid
from napari_brainldm.review.build import build
from napari_brainldm.review.plan import Chosen, Plan
from napari_brainldm.review.sample import NAME, archive
from napari_brainldm.review.sources import Source
from trainer.data.phantom import simulate
from trainer.data.population import PopulationConfig, draw_subject, visits
from trainer.data.template import build_template

SEED, PEOPLE = 41, 10
WELCOME = (
    "This is a sample, to try a reader study in five minutes. Its scans are simulated: "
    "where you are asked for scans of people, simulated people are meant. The other "
    "pictures are of the bundled model."
)


def main() -> None:
    """Build and pack; print what the build tells."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    with TemporaryDirectory() as name:
        base = Path(name)
        _simulate(base / "scans")
        for words in build(plan(), base / NAME, base):
            print(words, flush=True)
        archive(base / NAME, out)
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB")


def plan() -> Plan:
    """Of the sample: P1 and P3, each a minute or two."""
    return Plan(
        "Sample study: simulated scans and the demo model",
        (
            Chosen("P1", trials=16, catches=2, repeats=0, practice=4, block=18),
            Chosen("P3", trials=20, practice=2, block=20, standards=("any size",)),
        ),
        (
            Source("real", "simulated scans", folder="scans", placed=True),
            Source(
                "synthetic",
                "demo model",
                seeds=5,
                first_seed=SEED,
                conditions={"ventricles": (18.0, 32.0, 55.0)},
            ),
        ),
        ("R01", "R02", "R03", "R04", "R05", "R06"),
        SEED,
        welcome=WELCOME,
    )


def _simulate(folder: Path) -> None:
    """Scans of people from 60 to 85 who never were."""
    folder.mkdir()
    pack = build_template(mni_grid(2.0))
    config = PopulationConfig(youngest=60, oldest=85)
    for number in range(PEOPLE):
        subject = draw_subject(config, SEED, number)
        (visit,) = visits(subject, (0.0,))
        picture = simulate(pack, subject, visit, SEED).picture
        save_volume(picture, folder / f"sub-{number + 1:02d}.nii.gz")


if __name__ == "__main__":
    main()
