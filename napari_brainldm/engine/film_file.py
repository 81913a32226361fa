"""A sweep on disk: one NIfTI per frame, or a moving picture with its values burnt in.

Animated GIF and PNG are written by Pillow; MP4 by the ffmpeg of the system, where there
is one. Every frame says that it is synthetic.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from napari_brainldm.engine import program
from napari_brainldm.engine.conform import canonical
from napari_brainldm.engine.export import export
from napari_brainldm.engine.files import put_whole, writing_into
from napari_brainldm.engine.request import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from napari_brainldm.engine.renderer import Renderer
    from napari_brainldm.engine.sweep import Film
    from napari_brainldm.engine.volume import Array, Volume

MOVING = (".gif", ".png", ".mp4")
"""Kinds of moving pictures, by the end of the file's name."""

MARK = "SYNTHETIC"
BRIGHTEST = 1.1
"""Intensity shown white, as in the viewer."""

_LARGER = 3  # screen pixels per voxel of 2 mm
_GAP, _TEXT = 8, 18  # pixels


def write_series(renderer: Renderer, film: Film, folder: Path, stem: str) -> list[Path]:
    """Every frame as marked NIfTI with its own sidecar: `<stem>_frame-001...`."""
    pairs = zip(film.requests, film.pictures, strict=True)
    return [
        export(renderer, request, picture, folder, f"{stem}_frame-{number:03d}")
        for number, (request, picture) in enumerate(pairs, start=1)
    ]


def write_moving(film: Film, path: Path, frames_per_second: float = 4.0) -> Path:
    """The film as a moving picture, three slices through the middle of each frame.

    Raises
    ------
    EngineError
        If the kind of file is unknown, there is no ffmpeg for it, or the folder
        cannot be written to.
    """
    kind = path.suffix.lower()
    if kind not in MOVING:
        raise EngineError(
            f"{path.name} is no kind of moving picture that can be written. "
            f"End the name in {', '.join(MOVING)}."
        )
    pages = [page(p, c) for p, c in zip(film.pictures, film.captions, strict=True)]
    with writing_into(path.parent):
        if kind == ".mp4":
            put_whole(path, lambda beside: _encode(pages, beside, frames_per_second))
        else:
            put_whole(
                path, lambda beside: _animate(pages, beside, kind, frames_per_second)
            )
    return path


def page(picture: Volume, caption: str) -> Image.Image:
    """Middle slices (sagittal, coronal, axial) with caption and mark, 8-bit gray.

    Right is on the right whichever way the voxels of `picture` run, and says so.
    """
    slices = [_shown(one) for one in middle_slices(canonical(picture).data)]
    height = max(one.shape[0] for one in slices)
    width = sum(one.shape[1] for one in slices) + _GAP * (len(slices) - 1)
    sheet = Image.new("L", (_even(width), _even(height + 2 * _GAP + _TEXT)))
    left = 0
    for one in slices:
        sheet.paste(Image.fromarray(one), (left, (height - one.shape[0]) // 2))
        left += one.shape[1] + _GAP
        if one is not slices[0]:
            _write_side(sheet, left - _GAP, height // 2)
    _write_on(sheet, caption, height + _GAP)
    return sheet


def middle_slices(data: Array) -> tuple[Array, Array, Array]:
    """Sagittal, coronal and axial slice (rows down, columns right), right on the right.

    `data` is (i, j, k) growing to right, front and top.
    """
    i, j, k = (n // 2 for n in data.shape)
    return tuple(np.rot90(one) for one in (data[i], data[:, j], data[:, :, k]))  # type: ignore[return-value]


def _shown(slice_: Array) -> NDArray[np.uint8]:
    gray = np.clip(slice_ / BRIGHTEST, 0, 1) * 255
    return np.kron(gray.round().astype(np.uint8), np.ones((_LARGER, _LARGER), np.uint8))


def _even(pixels: int) -> int:
    return pixels + pixels % 2  # what video codecs ask for


def _write_on(sheet: Image.Image, caption: str, top: int) -> None:
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TEXT - 2)
    draw.text((_GAP, top), caption, fill=255, font=font)
    draw.text((sheet.width - _GAP, top), MARK, fill=255, font=font, anchor="ra")


def _write_side(sheet: Image.Image, right: int, middle: int) -> None:
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TEXT - 6)
    draw.text((right - 1, middle), "R", fill=255, font=font, anchor="rm")


def _animate(
    pages: Sequence[Image.Image], path: Path, kind: str, frames_per_second: float
) -> None:
    milliseconds = round(1000 / frames_per_second)
    pages[0].save(
        path,
        format=kind[1:].upper(),
        save_all=True,
        append_images=list(pages[1:]),
        duration=milliseconds,
        loop=0,
    )


def _encode(pages: Sequence[Image.Image], path: Path, frames_per_second: float) -> None:
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        raise EngineError(
            "No ffmpeg was found on this machine, and MP4 needs it. Install ffmpeg, or "
            "write a .gif or .png instead."
        )
    with tempfile.TemporaryDirectory() as folder:
        for number, one in enumerate(pages):
            one.save(Path(folder) / f"{number:05d}.png")
        made = Path(folder) / "film.mp4"
        inputs = ["-framerate", str(frames_per_second), "-i", f"{folder}/%05d.png"]
        command = [ffmpeg, "-y", *inputs, "-pix_fmt", "yuv420p", str(made)]
        _succeeded(program.run(command))
        shutil.copyfile(made, path)


def _succeeded(ended: program.Ended) -> None:
    if ended.code != 0:
        raise EngineError(
            f"ffmpeg could not write the film ({ended.words}). Write a .gif or .png "
            "instead."
        )
