"""Groups of pictures against real ones: nearness, variety, and what bounds them.

A Fréchet distance means nothing by itself: it falls with the number of pictures and
depends on the network. So it always stands beside the distance of real pictures from
other real ones (the floor) and of real pictures that were spoilt (the ceilings), all
of the same number of pictures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.volume import Grid
from trainer.evaluate.metrics.distributions import (
    NEIGHBOUR,
    frechet_distance,
    kernel_distance,
    prdc,
    standardised,
)
from trainer.evaluate.metrics.gradient_ssim import WINDOW
from trainer.evaluate.metrics.pairs import likeness_of_pairs, window_of
from trainer.evaluate.table import Row, Table, means

if TYPE_CHECKING:
    from napari_brainldm.engine.volume import Array
    from trainer.evaluate.metrics.features import Features

Floats = NDArray[np.float64]
Group = Sequence["Array"]

BLUR = 2.0  # voxels, SD of the Gaussian of the blur ceiling
NOISE = 0.1  # SD of the noise ceiling, of a range of 1
DRAWS = 10
"""Random halves of the real pictures; distances are means over them."""

LEAST = NEIGHBOUR + 1
"""Pictures a side: so many have a k-th neighbour."""

FLOOR = "real against real (floor)"
BLURRED = f"real, blurred by {BLUR:g} voxels (ceiling)"
NOISY = f"real, with noise of SD {NOISE:g} (ceiling)"


@dataclass(frozen=True, eq=False)
class Compared:
    """What is compared.

    Attributes
    ----------
    real
        Pictures (i, j, k) in [0, 1] of `grid`.
    groups
        Name of the row -> pictures of the same kind.
    scaling
        How they came into [0, 1].
    people
        Whose each of the real pictures is; empty where each is of somebody else.
    """

    grid: Grid
    real: Group
    groups: Mapping[str, Group]
    scaling: str = "the 99.5th percentile of a picture's bright voxels is 1"
    people: Sequence[str] = ()

    @property
    def whose(self) -> Sequence[str]:
        """Whose each of the real pictures is."""
        return self.people or tuple(str(n) for n in range(len(self.real)))

    @property
    def n(self) -> int:
        """Pictures a side of every distance: the real people serve both sides."""
        people = len(set(self.whose))
        return min(people // 2, *(len(g) for g in self.groups.values()))

    @property
    def facts(self) -> str:
        """Window, range and mask of every figure, in a sentence."""
        shape = " x ".join(str(n) for n in self.grid.shape)
        size = " x ".join(f"{s:.3g}" for s in self.grid.voxel_size)
        return (
            f"Whole pictures of {shape} voxels of {size} mm, no mask, range 0 to 1 "
            f"({self.scaling}; what is above is clipped)."
        )


def check_enough(compared: Compared) -> None:
    """Raise an EngineError if a distance cannot be told, or not beside its floor."""
    people = len(set(compared.whose))
    counts = {"real": people // 2}
    counts |= {name: len(group) for name, group in compared.groups.items()}
    for name, count in counts.items():
        if count < LEAST:
            need = 2 * LEAST if name == "real" else LEAST
            found = people if name == "real" else count
            raise EngineError(
                f"There are {found} pictures of {name}; at least {need} are needed, of "
                "as many people, for real ones are held against others'. Give more."
            )


def tables(compared: Compared, networks: Sequence[Features]) -> Iterator[Table]:
    """Nearness by every network, then variety; one after another, for they take time.

    Raises
    ------
    EngineError
        If there are too few pictures, or they are too small.
    """
    check_enough(compared)
    window_of(compared.grid.shape)
    for network in networks:
        yield nearness(compared, network)
    yield variety(compared)


def nearness(compared: Compared, network: Features) -> Table:
    """Fréchet, KID and PRDC of every group by one network, with floor and ceilings."""
    real = network.all_of(compared.real)
    spoilt = {
        BLURRED: network.all_of(blurred(picture) for picture in compared.real),
        NOISY: network.all_of(noisy(p, n) for n, p in enumerate(compared.real)),
    }
    groups = {name: network.all_of(g) for name, g in compared.groups.items()}
    found = drawn(real, spoilt, groups, compared.n, compared.whose)
    note = (
        f"Fréchet distance in float64 of the features as they are; the others of "
        f"features in SD of the real ones, k = {NEIGHBOUR}. N = {compared.n} a side, "
        f"means over {DRAWS} random halves of {len(set(compared.whose))} people with "
        "a real picture, one of each. "
        f"{compared.facts}"
    )
    rows: tuple[Row, ...] = tuple(
        {"pictures": name, **means(draws), "Fréchet SD": _sd(draws), "N": compared.n}
        for name, draws in found.items()
    )
    return Table(f"near-{network.name}", f"Nearness by {network.title}", rows, note)


def drawn(
    real: Floats,
    spoilt: Mapping[str, Floats],
    groups: Mapping[str, Floats],
    n: int,
    people: Sequence[str],
) -> dict[str, list[dict[str, float]]]:
    """Figures of every draw, by the name of the row.

    Parameters
    ----------
    real
        Features (N, D) of at least 2 n people.
    spoilt
        Of the same pictures, spoilt: (N, D). They are drawn from the other half too,
        so that no scan is held against itself.
    groups
        Of pictures without partner, (M, D), M at least n.
    people
        (N,), whose each picture is: nobody is on both sides, or twice on one.
    """
    scans = [np.flatnonzero(np.asarray(people) == one) for one in dict.fromkeys(people)]
    found: dict[str, list[dict[str, float]]] = {}
    rng = np.random.default_rng(0)
    for _ in range(DRAWS):
        order = np.array(
            [rng.choice(scans[one]) for one in rng.permutation(len(scans))]
        )
        reference, other = real[order[:n]], order[n : 2 * n]
        sides = {FLOOR: real[other]}
        sides |= {k: g[rng.permutation(len(g))[:n]] for k, g in groups.items()}
        sides |= {name: features[other] for name, features in spoilt.items()}
        for name, side in sides.items():
            found.setdefault(name, []).append(_figures(reference, side))
    return found


def _figures(real: Floats, other: Floats) -> dict[str, float]:
    x, y = standardised(real, real), standardised(other, real)
    return {
        "Fréchet": frechet_distance(real, other),
        "KID": kernel_distance(x, y),
        **prdc(x, y),
    }


def _sd(draws: Sequence[Mapping[str, float]]) -> float:
    return float(np.std([draw["Fréchet"] for draw in draws]))


def variety(compared: Compared) -> Table:
    """MS-SSIM and 4-G-R-SSIM of pairs within every group and within the real ones."""
    groups = {"real": compared.real, **compared.groups}
    rows: tuple[Row, ...] = tuple(
        {"pictures": name, **likeness_of_pairs(group)} for name, group in groups.items()
    )
    note = (
        f"Means over random pairs of different pictures. Gaussian windows of SD 1.5: "
        f"{window_of(compared.grid.shape)} voxels for MS-SSIM, {WINDOW} for 4-G-R-SSIM "
        f"(mean of both orders). Low is varied; near real is right. {compared.facts}"
    )
    return Table("variety", "Variety", rows, note)


def blurred(picture: Array) -> Array:
    """`picture` (i, j, k) under a Gaussian of BLUR voxels."""
    from scipy import ndimage

    found: Array = ndimage.gaussian_filter(picture, BLUR)
    return found


def noisy(picture: Array, seed: int) -> Array:
    """`picture` (i, j, k) with Gaussian noise of SD NOISE, clipped to [0, 1]."""
    noise = np.random.default_rng(seed).normal(0.0, NOISE, picture.shape)
    return np.clip(picture + noise, 0.0, 1.0).astype(np.float32)
