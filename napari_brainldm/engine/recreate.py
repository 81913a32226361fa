"""A picture made again from its sidecar, and whether it came out the same."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from napari_brainldm.engine.export import sidecar_of, versions
from napari_brainldm.engine.lineage import Lineage
from napari_brainldm.engine.request import (
    UNREADABLE,
    EngineError,
    Request,
    request_from_plain,
)

if TYPE_CHECKING:
    from pathlib import Path

    from napari_brainldm.engine.renderer import Renderer
    from napari_brainldm.engine.volume import Volume


@dataclass(frozen=True)
class Original:
    """What a sidecar tells of its picture.

    Attributes
    ----------
    request
        What was asked for.
    checkpoint_name, checkpoint_sha256
        The model that answered.
    picture_sha256
        `Volume.digest` of the picture.
    device, versions
        Where and with what it was made.
    lineage
        How its connectivity was drawn or edited; None where it was not.
    """

    request: Request
    checkpoint_name: str
    checkpoint_sha256: str
    picture_sha256: str
    device: str
    versions: tuple[tuple[str, str], ...]
    lineage: Lineage | None = None


def read_sidecar(path: Path) -> Original:
    """The picture that the sidecar at `path` (.json) describes.

    Raises
    ------
    EngineError
        If it is no sidecar of one picture made by this program.
    """
    try:
        return original(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, *UNREADABLE) as error:
        raise EngineError(
            f"{path.name} is not the sidecar of a picture of this program ({error!r})."
            " Choose the .json that lies beside an exported picture."
        ) from error


def original(plain: dict[str, Any]) -> Original:
    """From a record as `export.record` makes it; one of UNREADABLE on others."""
    lineage = plain.get("Connectivity")
    return Original(
        request_from_plain(plain["Request"]),
        str(plain["Checkpoint"]["name"]),
        str(plain["Checkpoint"]["sha256"]),
        str(plain["PictureSha256"]),
        str(plain["Device"]),
        tuple(sorted((str(k), str(v)) for k, v in plain["Versions"].items())),
        None if lineage is None else Lineage.from_plain(lineage),
    )


def check_model(found: Original, renderer: Renderer) -> None:
    """Raise EngineError unless `renderer` holds the model of `found`."""
    if found.checkpoint_sha256 != renderer.checkpoint.sha256:
        raise EngineError(
            f"The picture was made by {found.checkpoint_name} (sha256 "
            f"{found.checkpoint_sha256[:12]}...), not by the checkpoint in use. "
            "Open that checkpoint first."
        )


def refuse_other(
    renderer: Renderer, request: Request, folder: Path, stem: str, space: str = "mni"
) -> None:
    """Raise EngineError if `export` would write over the picture of another request."""
    path = sidecar_of(folder, stem, space)
    if not path.is_file():
        return
    same = False
    with suppress(EngineError):  # what it cannot read is another's
        found = read_sidecar(path)
        same_model = found.checkpoint_sha256 == renderer.checkpoint.sha256
        same = same_model and found.request == renderer.resolve(request)
    if not same:
        raise EngineError(
            f"{path} is of a picture that was asked for otherwise, and would be "
            "written over. Choose another folder with --out, or move it away."
        )


def make_connectivity(found: Original, renderer: Renderer) -> None:
    """Draw or edit the connectivity of `found` again, so that it can be asked for.

    Raises
    ------
    EngineError
        If somebody whose connectivity it takes is not loaded.
    """
    if found.lineage is not None:
        found.lineage.again(found.request.conditions.fnc, renderer.fnc)


def verdict(found: Original, picture: Volume, renderer: Renderer) -> str:
    """One sentence: the same bits, or what differs between then and now."""
    if picture.digest == found.picture_sha256:
        return "Re-created: the same voxels, bit for bit."
    now = dict(sorted({**versions(), "device": renderer.compute.device}.items()))
    then = {**dict(found.versions), "device": found.device}
    changed = [
        f"{name} {then.get(name, 'unknown')} then, {now[name]} now"
        for name in now
        if then.get(name) != now[name]
    ]
    why = "; ".join(changed) or (
        "the same versions and device: the kind of processor, its threads or the batch "
        "differ, or the sidecar was edited"
    )
    return f"Re-created, but not the same voxels ({why})."
