"""Simulated connectivity, and what it has in common with simulated gray matter.

One factor, the severity of an illness, moves both: connections between a few pairs of
networks, and the volume of a few structures. Everything else in the connectivity
(the domains, what people differ in, the site of the scanner, noise) has nothing to do
with anatomy, so the truth of a map from one to the other is known: with strength 0
there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_brainldm.engine.components import Components, components_of
from napari_brainldm.engine.fnc import Fnc, connections
from napari_brainldm.engine.fnc_edit import between
from napari_brainldm.engine.request import EngineError
from trainer.data.flow import push, smooth
from trainer.data.phantom import Growth, Simulated, generator_of
from trainer.data.template import TISSUE

_STREAM, _COMMON, _SITES = 2, 3, 4  # beside seed and index: draws of their own
_GRAY_STREAM = 1000  # of the generators of a person; visits take the first ones
_FWHM = 2.3548

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Shift:
    """A pair of networks that the illness moves: Fisher z at severity 1."""

    first: str
    second: str
    z: float


@dataclass(frozen=True)
class Loss:
    """A structure of `template.NAMES` that shrinks.

    Attributes
    ----------
    change
        Log change of volume asked for at severity 1. Small structures take up less of
        it, for their neighbours pull.
    """

    structure: str
    change: float


@dataclass(frozen=True)
class ConnectivityConfig:
    """Illness, connectivity and gray matter of a simulated cohort.

    Attributes
    ----------
    strength
        Of the illness: multiplies what it does to connectivity and to gray matter; 0
        leaves both as they are.
    patients
        Share of patients.
    severity_sd
        SD of the severity among patients, whose mean is 1; among controls, whose mean
        is 0, half of it.
    components
        Number of components; 53 are NeuroMark 1.0.
    shifts
        Pairs of networks that change.
    losses
        Structures that shrink.
    factors, factor_sd
        What people differ in beside the illness: how many patterns, and the SD that
        they give a connection (Fisher z).
    sites, site_sd
        Scanners, and the SD of what each adds to a connection (Fisher z).
    noise
        SD of what is added to each connection of each person (Fisher z).
    gray_site, gray_noise
        SD of the log gain of gray matter of a site, and of the noise of a voxel, in
        measured maps.
    smooth_mm
        FWHM in mm by which measured maps are smoothed.
    """

    strength: float = 1.0
    patients: float = 0.5
    severity_sd: float = 0.35
    components: int = 53
    shifts: tuple[Shift, ...] = (
        Shift("SC", "CB", -0.25),
        Shift("SC", "SM", 0.2),
        Shift("CB", "SM", 0.15),
    )
    losses: tuple[Loss, ...] = (
        Loss("cerebellum", -0.2),
        Loss("caudate", -0.5),
        Loss("putamen", -0.3),
    )
    factors: int = 12
    factor_sd: float = 0.12
    sites: int = 4
    site_sd: float = 0.05
    noise: float = 0.1
    gray_site: float = 0.01
    gray_noise: float = 0.02
    smooth_mm: float = 4.0

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated."""
        names = [loss.structure for loss in self.losses]
        unknown = [name for name in names if name not in TISSUE]
        if unknown:
            raise EngineError(
                f"connectivity.losses names {unknown[0]!r}; known are "
                f"{', '.join(TISSUE)}. Correct the config."
            )
        if self.sites < 1 or self.components < 3 or not 0 <= self.patients <= 1:
            raise EngineError(
                f"The connectivity asks for {self.sites} sites, {self.components} "
                f"components and a share of {self.patients:g} patients. At least 1, at "
                "least 3, and 0 to 1 are possible. Correct the config."
            )


@dataclass(frozen=True)
class Patient:
    """What the illness is in one person.

    Attributes
    ----------
    group
        "patient" or "control".
    severity
        About 1 in patients and 0 in controls.
    site
        Number of the scanner, from 0.
    """

    group: str
    severity: float
    site: int


@dataclass(frozen=True, eq=False)
class Common:
    """What the connectivity of all people of a cohort is made of, in Fisher z.

    Attributes
    ----------
    mean, illness
        (p,): of everybody, and what severity 1 adds.
    factors
        (k, p): patterns in which people differ.
    sites
        (s, p): what each site adds.
    gains
        (s,): log gain of gray matter of each site.
    """

    mean: Floats
    illness: Floats
    factors: Floats
    sites: Floats
    gains: Floats


def draw_patient(config: ConnectivityConfig, seed: int, index: int) -> Patient:
    """Group, severity and site of person `index` of the cohort `seed`."""
    rng = np.random.default_rng([seed, index, _STREAM])
    ill = rng.uniform() < config.patients
    away = config.severity_sd * float(rng.standard_normal()) * (1.0 if ill else 0.5)
    severity = round(float(ill) + away, 4)
    site = int(rng.integers(config.sites))
    return Patient("patient" if ill else "control", severity, site)


def growth(config: ConnectivityConfig, patient: Patient) -> Growth:
    """Log changes of the structures that the illness shrinks; none at strength 0."""
    if config.strength == 0:
        return ()
    amount = config.strength * patient.severity
    return tuple((loss.structure, amount * loss.change) for loss in config.losses)


def draw_fnc(config: ConnectivityConfig, seed: int, index: int, name: str) -> Fnc:
    """Connectivity of person `index`, called `name`."""
    common = common_of(config, seed)
    patient = draw_patient(config, seed, index)
    rng = np.random.default_rng([seed, index, _STREAM, 1])
    own = rng.standard_normal(config.factors) @ common.factors
    noise = config.noise * rng.standard_normal(len(common.mean))
    ill = config.strength * patient.severity * common.illness
    vector = common.mean + ill + own + common.sites[patient.site] + noise
    return Fnc(vector.astype(np.float32), name)


@lru_cache(maxsize=2)
def common_of(config: ConnectivityConfig, seed: int) -> Common:
    """What all people of the cohort `seed` have in common."""
    known = components_of(config.components)
    pairs = connections(config.components)
    rng = np.random.default_rng([seed, _COMMON])
    factors = rng.standard_normal((config.factors, pairs))
    size = config.factor_sd / max(np.sqrt(config.factors), 1)
    site = np.random.default_rng([seed, _SITES])
    return Common(
        _mean(known, rng),
        _illness(config, known),
        size * factors,
        config.site_sd * site.standard_normal((config.sites, pairs)),
        config.gray_site * site.standard_normal(config.sites),
    )


def _mean(known: Components, rng: np.random.Generator) -> Floats:
    """High within a domain, about 0 between two: as in people."""
    domain = np.array([c.domain for c in known])
    rows, columns = np.triu_indices(len(known), 1)
    level = np.where(domain[rows] == domain[columns], 0.35, 0.0)
    return np.asarray(level + 0.12 * rng.standard_normal(len(rows)), np.float64)


def _illness(config: ConnectivityConfig, known: Components) -> Floats:
    found = np.zeros(connections(len(known)))
    for shift in config.shifts:
        found += shift.z * between(known, shift.first, shift.second)
    return found


def on_template(scan: Simulated) -> Tensor:
    """True gray matter of `scan` in the template's space, modulated: (i, j, k).

    What a voxel of the template holds of the person's gray matter; the sum is the
    person's. 1 is a voxel full of it, more where the person's is larger.
    """
    gray = torch.from_numpy(scan.gray.data).to(scan.positions)
    pushed, density = push(
        torch.stack([gray, torch.ones_like(gray)]), scan.positions
    ).unbind(0)
    # a voxel may be hit often or rarely by chance: how large a place is, is smooth
    share = pushed / density.clamp(min=1e-3)
    found = share * smooth(density, 1.0).clamp(min=0)
    return found * (gray.sum() / found.sum())


def measured(
    config: ConnectivityConfig,
    truth: Tensor,
    voxel_mm: float,
    person: tuple[int, int, int],
) -> Tensor:
    """A true map (i, j, k) as a site measures it: its gain, noise, smoothed.

    `person` is the cohort's seed, the person's index and the number of the visit.
    """
    seed, index, visit = person
    site = draw_patient(config, seed, index).site
    gain = float(np.exp(common_of(config, seed).gains[site]))
    generator = generator_of(seed, index, _GRAY_STREAM + visit)
    noise = config.gray_noise * torch.randn(truth.shape, generator=generator)
    seen = gain * truth + noise.to(truth) * (truth > 0.05)
    return smooth(seen, config.smooth_mm / _FWHM / voxel_mm).clamp(min=0)
