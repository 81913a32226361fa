"""Pictures of several models, made side by side and kept: a stopped run goes on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.engine.files import put_whole
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import Conditions, Request, Sampler, Seed
from trainer.data.pictures import OneByOne
from trainer.stages.gan import GanPictures

if TYPE_CHECKING:
    from napari_brainldm.engine.volume import Array


class Made(Protocol):
    """Makes a picture (i, j, k) by its number."""

    def picture(self, number: int) -> Array:
        """The picture of this number; the same whenever it is asked for."""


@dataclass(frozen=True)
class Recipe:
    """How a row's pictures are made: all that another process needs.

    Attributes
    ----------
    key, title
        Folder of its pictures; the name of its row.
    path
        Checkpoint: a brain LDM's, or a GAN's.
    sampler
        Of the LDM; None for a GAN.
    conditions
        Asked for in turn; none for a GAN.
    device
        Empty for the best.
    """

    key: str
    title: str
    path: Path
    sampler: Sampler | None = None
    conditions: tuple[Conditions, ...] = ()
    device: str = ""

    def ready(self) -> Made:
        """The model, loaded."""
        checkpoint = load_checkpoint(self.path)
        if self.sampler is None:
            from napari_brainldm.engine.device import best_device

            return GanPictures(checkpoint, self.device or best_device())
        return _Ldm(Renderer(checkpoint, self.device), self.sampler, self.conditions)


@dataclass(frozen=True, eq=False)
class _Ldm:
    renderer: Renderer
    sampler: Sampler
    conditions: tuple[Conditions, ...]

    def picture(self, number: int) -> Array:
        wanted = self.conditions[number % len(self.conditions)]
        request = Request(wanted, Seed(number), (), self.sampler)
        return finish(self.renderer.render(request)).data


class Kept(OneByOne):
    """Pictures (i, j, k) of one recipe on disk, with the seconds they took."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.total = folder, count

    def path(self, number: int) -> Path:
        """The file of a picture."""
        return self.folder / f"{number:06d}.npz"

    def __len__(self) -> int:
        return self.total

    def picture(self, number: int) -> Array:
        """In [0, 1]: a decoder may go a little beyond."""
        with np.load(self.path(number)) as held:
            picture: Array = held["picture"].astype(np.float32)
        return np.asarray(picture.clip(0.0, 1.0), np.float32)

    def seconds(self) -> tuple[float, float]:
        """Mean and SD of the time per picture, without those that warmed a model up."""
        every, warm = [], []
        for number in range(self.total):
            with np.load(self.path(number)) as held:
                every.append(float(held["seconds"]))
                warm.append(not held["first"])
        times = np.array(every)[warm] if any(warm) else np.array(every)
        return float(times.mean()), float(times.std())


def make(
    recipes: Sequence[Recipe], n: int, folder: Path, ready: Callable[[Recipe], Made]
) -> Iterator[str]:
    """Make pictures 0 to n - 1 of every recipe, in turn, those that are not there yet.

    In turn, so that whatever else the machine does slows all of them. `ready` loads a
    model; it is called when the first picture of it is missing.
    """
    models: dict[str, Made] = {}
    kept = {recipe.key: Kept(folder / recipe.key, n) for recipe in recipes}
    for number in range(n):
        for recipe in recipes:
            path = kept[recipe.key].path(number)
            if path.is_file():
                continue
            first = recipe.key not in models
            if first:
                models[recipe.key] = ready(recipe)
            _keep(models[recipe.key], number, path, first)
        yield f"{number + 1} of {n} pictures of {len(recipes)} models"


def _keep(model: Made, number: int, path: Path, first: bool) -> None:
    started = time.perf_counter()
    picture = model.picture(number)
    seconds = time.perf_counter() - started
    path.parent.mkdir(parents=True, exist_ok=True)
    put_whole(path, lambda beside: _save(beside, picture, seconds, first))


def _save(path: Path, picture: Array, seconds: float, first: bool) -> None:
    """`first`: of a model in its process, which warms it up."""
    with path.open("wb") as file:  # given a name, numpy would add .npz to it
        np.savez(
            file,
            picture=picture.astype(np.float16),
            seconds=np.array(seconds),
            first=np.array(first),
        )


def peak_memory(recipe: Recipe) -> float:
    """GiB that one picture needs at most, in a process of its own.

    Of the GPU where there is one: allocated by torch; else of the process.
    """
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_peak, recipe).result()


def _peak(recipe: Recipe) -> float:
    import torch

    recipe.ready().picture(0)
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated()) / 2**30
    return own_peak() / 2**30


def own_peak() -> float:
    """Bytes that this process has held at most.

    Linux's `ru_maxrss` is no help: a process begins with the peak of its parent.
    """
    import resource
    import sys

    if sys.platform == "darwin":
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    status = Path("/proc/self/status").read_text(encoding="ascii")
    [line] = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return 1024 * float(line.split()[1])
