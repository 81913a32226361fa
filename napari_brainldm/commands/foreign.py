"""`brainldm import`: a public checkpoint becomes one of ours."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional, arg

from napari_brainldm.engine.request import EngineError

if TYPE_CHECKING:
    from napari_brainldm.engine.imports.found import Found

MEGABYTE = 2**20


@dataclass(frozen=True)
class Import:
    """Turn public weights into a checkpoint: the MONAI brain LDM bundle, or LDAE."""

    source: Positional[
        Annotated[
            Path, arg(metavar="SOURCE", help="folder of weights, or a file in it")
        ]
    ]
    out: Positional[
        Annotated[Path, arg(metavar="OUT", help="new file, ending in .safetensors")]
    ]
    accept_terms: Annotated[
        bool, arg(help="agree to terms that limit the use of the weights")
    ] = False


def import_(command: Import) -> None:
    """Tell what was found and its terms, then write OUT."""
    from napari_brainldm.engine.imports.find import find, recognise
    from napari_brainldm.engine.renderer import finish

    check_out(command.out)
    found = find(command.source)
    print(f"{found.card.name} ({found.card.kind})")
    seen = finish(recognise(found, command.source))
    for sentence in (*found.told, *seen, *found.card.provenance.notes):
        print(f"  {sentence}")
    print(f"  Terms: {found.terms.text}")
    if not (found.terms.open or command.accept_terms):
        raise EngineError(
            f"The terms of {found.terms.title} limit what may be done with the "
            "weights. If you agree to them, add --accept-terms."
        )
    try:
        _write(found, command.out)
    except KeyboardInterrupt:
        print("\nStopped; nothing was written.", file=sys.stderr)
        sys.exit(130)
    print(command.out)


def check_out(path: Path) -> None:
    """Raise EngineError unless a new checkpoint may be written at `path`."""
    if path.suffix != ".safetensors":
        raise EngineError(
            f"{path.name} does not end in .safetensors, which checkpoints do. Give "
            f"OUT such a name, for example {path.with_suffix('.safetensors').name}."
        )
    if path.exists():
        raise EngineError(f"{path} is there already. Choose another name for OUT.")


def _write(found: Found, path: Path) -> None:
    """With its progress on a terminal's last line."""
    from napari_brainldm.engine.imports.write import write_found

    terminal = sys.stderr.isatty()
    for written in write_found(found, path):
        if terminal:
            done, total = (n // MEGABYTE for n in (written.done, written.total))
            print(f"\rwriting {done}/{total} MB   ", end="", file=sys.stderr)
    if terminal:
        print(file=sys.stderr)
