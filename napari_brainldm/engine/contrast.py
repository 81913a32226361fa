"""What several pictures tell together: differences, mean and spread over seeds.

Both pictures of a pair start from the same noise, so that only what was asked for
differs; a difference over seeds is the mean of such pairs.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from napari_brainldm.engine.request import Derived, EngineError, Request, Seed
from napari_brainldm.engine.volume import Volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_brainldm.engine.renderer import Progress, Renderer
    from napari_brainldm.engine.volume import Array

T = TypeVar("T")

FLOOR = 1e-6
"""Differences below this are rounding, in intensities of 0 to about 1."""


def difference(first: Volume, second: Volume) -> Volume:
    """First minus second, signed, in their units of intensity.

    Raises
    ------
    EngineError
        If the two lie on different grids.
    """
    if first.grid != second.grid:
        raise EngineError(
            "The two pictures lie on different grids, so no difference can be taken. "
            "Pin a picture of the checkpoint in use."
        )
    return Volume(first.data - second.data, first.affine)


class Running:
    """Mean and SD of volumes that come one after another (Welford 1962)."""

    def __init__(self) -> None:
        self.count = 0
        self._mean: NDArray[np.float64] = np.zeros(())
        self._squares: NDArray[np.float64] = np.zeros(())

    def add(self, data: Array) -> None:
        """Take in one more (i, j, k)."""
        self.count += 1
        off = data - self._mean
        self._mean = self._mean + off / self.count
        self._squares = self._squares + off * (data - self._mean)

    def mean(self) -> Array:
        """Mean so far, float32 (i, j, k)."""
        return np.asarray(self._mean, np.float32)

    def sd(self) -> Array:
        """Sample SD (n - 1), float32 (i, j, k); 0 for a single one."""
        variance = self._squares / max(self.count - 1, 1)
        return np.asarray(np.sqrt(variance), np.float32)


@dataclass(frozen=True, eq=False)
class Spread:
    """What changes from seed to seed under the same conditions.

    Attributes
    ----------
    mean, sd
        Of the pictures of all seeds.
    change
        Mean over seeds of picture minus reference with the same noise; None without
        a reference.
    change_sd
        SD of those differences over seeds; None without a reference.
    record
        How all of it came to be.
    """

    mean: Volume
    sd: Volume
    change: Volume | None
    change_sd: Volume | None
    record: Derived

    def sure(self, least: float) -> Volume | None:
        """The change where its mean is at least `least` of its SDs, 0 elsewhere.

        SD is that of one pair, so `least` is an effect size (Cohen's d for pairs), not
        a t value: it does not grow with the number of seeds.
        """
        if self.change is None or self.change_sd is None:
            return None
        size, sd = np.abs(self.change.data), self.change_sd.data
        kept = (size >= least * sd) & (size > FLOOR)
        return Volume(np.where(kept, self.change.data, 0.0), self.change.affine)


def seeds_from(request: Request, count: int) -> tuple[Request, ...]:
    """`request` with its seed and the `count` - 1 that follow.

    Raises
    ------
    EngineError
        If it does not start from noise, or `count` is below 2.
    """
    if not isinstance(request.origin, Seed):
        raise EngineError(
            "This picture starts from a scan, not from a seed, so there is nothing to "
            "vary. Choose a picture that starts from noise."
        )
    if count < 2:
        raise EngineError(f"{count} seeds have no spread; choose at least 2.")
    first = request.origin.value
    return tuple(replace(request, origin=Seed(first + n)) for n in range(count))


def across_seeds(
    renderer: Renderer, request: Request, count: int, reference: Request | None = None
) -> Generator[Progress, None, Spread]:
    """Render `request` under `count` seeds, and `reference` under the same.

    Yields the progress of all pictures together.
    """
    asked = seeds_from(request, count)
    compared = () if reference is None else _same_seeds(reference, asked)
    total = len(asked) + len(compared)
    pictures, changes = Running(), Running()
    for number, one in enumerate(asked):
        done = number * (2 if compared else 1)
        picture = yield from counted(renderer.render(one), done, total)
        pictures.add(picture.data)
        if compared:
            other = yield from counted(
                renderer.render(compared[number]), done + 1, total
            )
            changes.add(difference(picture, other).data)
    affine = renderer.card.grid.matrix
    resolved = tuple(renderer.resolve(one) for one in (*asked, *compared))
    return Spread(
        Volume(pictures.mean(), affine),
        Volume(pictures.sd(), affine),
        Volume(changes.mean(), affine) if compared else None,
        Volume(changes.sd(), affine) if compared else None,
        Derived("spread over seeds", (("seeds", float(count)),), resolved),
    )


def _same_seeds(reference: Request, asked: Sequence[Request]) -> tuple[Request, ...]:
    """`reference` from the noise of each of `asked`."""
    seeds_from(reference, 2)  # it must start from noise
    return tuple(replace(reference, origin=one.origin) for one in asked)


def counted(
    steps: Generator[Progress, None, T], done: int, total: int
) -> Generator[Progress, None, T]:
    """One work of several: its progress as hundredths of them all."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            found: T = end.value
            return found
        share = round(100 * step.index / max(step.total, 1))
        within = 99 if step.stage == "decode" else min(share, 98)
        yield replace(step, index=100 * done + within, total=100 * total)
