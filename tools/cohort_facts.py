"""Tell what a simulated cohort is made of, to freeze it: python tools/cohort_facts.py.

Prints one JSON object: the settings, the sha256 of participants.tsv, and who is in it.
Sums of floating-point numbers differ between processors, so another machine's cohort
may have another hash; the settings make it the same people.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import pandas as pd

QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)
NUMBERS = ("age", "ventricles_ml", "brain_ml", "hippocampus_ml", "icv_ml")


def facts(folder: Path) -> dict[str, object]:
    """Settings, hash, counts and quantiles of the cohort in `folder`."""
    table = folder / "participants.tsv"
    people = pd.read_csv(table, sep="\t")
    decade = (people["age"] // 10 * 10).astype(int)
    return {
        "settings": json.loads((folder / "cohort.json").read_text()),
        "participants_sha256": hashlib.sha256(table.read_bytes()).hexdigest(),
        "people": len(people),
        "sex": people["sex"].value_counts().to_dict(),
        "diagnosis": people["diagnosis"].value_counts().to_dict(),
        "decades": {str(k): int(v) for k, v in decade.value_counts(sort=False).items()},
        "quantiles": {
            name: {str(q): round(float(people[name].quantile(q)), 2) for q in QUANTILES}
            for name in NUMBERS
        },
    }


if __name__ == "__main__":
    where = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/cohort")
    print(json.dumps(facts(where), indent=1))
