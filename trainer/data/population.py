"""Who is in the simulated cohort: ages, sexes, diagnoses and the volumes asked for.

Volumes from 45 years on follow fits to the cognitively normal centile curves of
NiChart (DLMUSE definitions), below 35 the IXI means, blended between. They are asked
volumes; what a picture really holds is read off its warped labels.

Three choices fill gaps of those sources. IXI gives all ventricles of the young; the
lateral ones are their share at 40 in NiChart. IXI's mean and SD become the median and
log SD of a log-normal. IXI's intracranial volume is of people over 40 and would be
smaller than the brain of young women; the young get the one that their brain fills to
93 %. The hippocampus, whose parabola falls again below 48, keeps its value of 45.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

Sex = str
Diagnosis = str

SEXES: tuple[Sex, ...] = ("F", "M")
DIAGNOSES: tuple[Diagnosis, ...] = ("CN", "MCI", "AD")
BLEND_FROM, BLEND_TO = 35.0, 45.0
"""Years between which the young figures give way to the curves."""
YOUNG_BRAIN_FRACTION = 0.93
"""Brain over intracranial volume below 35 years."""
LEAST_CSF = 0.02
"""Least share of the intracranial volume left outside brain and lateral ventricles."""

_VENTRICLES = {"M": (10.168, 0.02665, 1.68e-4), "F": (9.839, 0.02643, 1.99e-4)}
_ALL_VENTRICLES = {"M": (10.306, 0.02541, 1.70e-4), "F": (9.981, 0.02524, 2.12e-4)}
_BRAIN = {"M": (1298.0, -3.258, -0.0178), "F": (1161.7, -2.805, -0.0290)}
_HIPPOCAMPUS = {"M": (8.105, -0.0311, -9.17e-4), "F": (7.462, -0.0293, -9.17e-4)}
_ICV = {"M": 1495.0, "F": 1292.0}
_YOUNG_BRAIN = {"M": 1448.0, "F": 1301.0}
_YOUNG_ALL_VENTRICLES = {  # mean and SD in ml at 18-30 and 30-40 years
    "M": ((14.9, 6.6), (17.0, 6.4)),
    "F": ((13.2, 3.9), (13.0, 4.0)),
}
_ICV_SD = 0.08
_SD = {"ventricles": 0.37, "brain": 0.02, "hippocampus": 0.072}
_ICV_SLOPE = {
    "M": {"ventricles": 1.9, "brain": 1.0, "hippocampus": 0.68},
    "F": {"ventricles": 1.6, "brain": 1.0, "hippocampus": 0.68},
}
_AD_FACTOR = {"ventricles": 1.5, "brain": 0.965, "hippocampus": 0.85}
_STRENGTH = {"CN": 0.0, "MCI": 0.5, "AD": 1.0}

# Percent a year, mean and SD. ADNI (PMC3032014), Barnes 2009 and OASIS-2; where the
# sources give no SD or no figure, the nearest group lends it.
_RATES: dict[str, dict[str, tuple[float, float]]] = {
    "CN": {
        "ventricles": (4.2, 3.6),
        "brain": (-0.49, 0.56),
        "hippocampus": (-1.41, 1.4),
    },
    "stable MCI": {
        "ventricles": (5.2, 4.3),
        "brain": (-0.6, 0.6),
        "hippocampus": (-2.0, 2.1),
    },
    "converter": {
        "ventricles": (8.2, 4.7),
        "brain": (-0.78, 0.61),
        "hippocampus": (-3.5, 2.2),
    },
    "AD": {
        "ventricles": (9.9, 5.3),
        "brain": (-0.88, 0.99),
        "hippocampus": (-4.66, 2.2),
    },
}


@dataclass(frozen=True)
class PopulationConfig:
    """How people are drawn.

    Attributes
    ----------
    youngest, oldest
        Range of ages at the first visit in years, uniform.
    women
        Share of women, 0 to 1.
    mix
        Shares of CN, MCI and AD from `disease_from` years on.
    disease_from
        Age in years below which everybody is CN.
    converters
        Share of the MCI whose rates of change are those of converters.
    effect
        Strength of the diagnosis: 0 none, 1 as published; above 1 it is stronger at the
        first visit alone.
    spread
        Multiplies every SD between people: 0 gives the medians.
    """

    youngest: float = 20.0
    oldest: float = 90.0
    women: float = 0.5
    mix: tuple[float, float, float] = (0.6, 0.2, 0.2)
    disease_from: float = 55.0
    converters: float = 0.4
    effect: float = 1.0
    spread: float = 1.0


@dataclass(frozen=True)
class Volumes:
    """Volumes in ml: lateral ventricles, total brain, hippocampi, intracranial."""

    ventricles_ml: float
    brain_ml: float
    hippocampus_ml: float
    icv_ml: float


@dataclass(frozen=True)
class Rates:
    """Change in percent a year."""

    ventricles: float = 0.0
    brain: float = 0.0
    hippocampus: float = 0.0


@dataclass(frozen=True)
class Subject:
    """One person at the first visit.

    Attributes
    ----------
    index
        Place in the cohort, from 0.
    age
        Years.
    sex
        "F" or "M".
    diagnosis
        "CN", "MCI" or "AD".
    volumes
        Asked for at the first visit, ml.
    rates
        Percent a year.
    course
        Whose rates: "CN", "stable MCI", "converter" or "AD".
    """

    index: int
    age: float
    sex: Sex
    diagnosis: Diagnosis
    volumes: Volumes
    rates: Rates = field(default_factory=Rates)
    course: str = "CN"


@dataclass(frozen=True)
class Visit:
    """One visit: its number from 0, the age in years, the volumes asked for in ml."""

    number: int
    age: float
    volumes: Volumes


def median_volumes(age: float, sex: Sex, strength: float = 0.0) -> Volumes:
    """Population medians at `age` in years, in ml; strength 0 CN, 0.5 MCI, 1 AD."""
    young = _young_share(age)
    factor = {name: value**strength for name, value in _AD_FACTOR.items()}
    ventricles = _blend(young, _young_ventricles(age, sex), _old_ventricles(age, sex))
    brain = _blend(young, _YOUNG_BRAIN[sex], _parabola(_BRAIN[sex], age))
    icv = _blend(young, _YOUNG_BRAIN[sex] / YOUNG_BRAIN_FRACTION, _ICV[sex])
    hippocampus = _parabola(_HIPPOCAMPUS[sex], max(age, BLEND_TO))
    return Volumes(
        ventricles * factor["ventricles"],
        brain * factor["brain"],
        hippocampus * factor["hippocampus"],
        icv,
    )


def draw_subject(config: PopulationConfig, seed: int, index: int) -> Subject:
    """Person `index` of the cohort `seed`: the same two numbers, the same person."""
    rng = np.random.default_rng([seed, index, 0])
    age = round(float(rng.uniform(config.youngest, config.oldest)), 1)
    sex = "F" if rng.uniform() < config.women else "M"
    diagnosis = _draw_diagnosis(config, age, float(rng.uniform()))
    course = _course(diagnosis, float(rng.uniform()) < config.converters)
    z = np.clip(rng.standard_normal(7), -2.5, 2.5) * config.spread
    volumes = scattered(
        median_volumes(age, sex, _STRENGTH[diagnosis] * config.effect), sex, z[:4]
    )
    rates = _rates(course, z[4:], config.effect)
    return Subject(index, age, sex, diagnosis, volumes, rates, course)


def scattered(median: Volumes, sex: Sex, z: np.ndarray) -> Volumes:
    """Volumes of a person `z` (4,) SDs off: head, ventricles, brain, hippocampus."""
    head = float(z[0]) * _ICV_SD
    slope = _ICV_SLOPE[sex]
    away = {
        name: math.exp(slope[name] * head + _SD[name] * float(value))
        for name, value in zip(_SD, z[1:], strict=True)
    }
    icv = median.icv_ml * math.exp(head)
    ventricles = median.ventricles_ml * away["ventricles"]
    brain = median.brain_ml * away["brain"]
    most = (1 - LEAST_CSF) * icv - 1.15 * ventricles  # 1.15: third and fourth as well
    hippocampus = median.hippocampus_ml * away["hippocampus"]
    return Volumes(ventricles, min(brain, most), hippocampus, icv)


def visits(subject: Subject, times: Sequence[float]) -> tuple[Visit, ...]:
    """The visits `times` years after the first one, which is at 0."""
    return tuple(
        Visit(n, round(subject.age + years, 2), _later(subject, years))
        for n, years in enumerate(times)
    )


def _later(subject: Subject, years: float) -> Volumes:
    """Volumes asked for `years` after the first visit; the head does not change."""
    now, rates = subject.volumes, subject.rates
    return Volumes(
        now.ventricles_ml * (1 + rates.ventricles / 100) ** years,
        now.brain_ml * (1 + rates.brain / 100) ** years,
        now.hippocampus_ml * (1 + rates.hippocampus / 100) ** years,
        now.icv_ml,
    )


def _draw_diagnosis(config: PopulationConfig, age: float, u: float) -> Diagnosis:
    if age < config.disease_from:
        return "CN"
    edges = np.cumsum(config.mix) / sum(config.mix)
    return DIAGNOSES[min(int(np.searchsorted(edges, u, side="right")), 2)]


def _course(diagnosis: Diagnosis, converts: bool) -> str:
    if diagnosis != "MCI":
        return diagnosis
    return "converter" if converts else "stable MCI"


def _rates(course: str, z: np.ndarray, effect: float) -> Rates:
    """Percent a year of a person `z` (3,) SDs off the mean of the course.

    Without an `effect` that of the healthy; with more than the published, no more.
    """
    table, healthy, share = _RATES[course], _RATES["CN"], min(effect, 1.0)
    drawn = []
    for name, value in zip(("ventricles", "brain", "hippocampus"), z, strict=True):
        mean, sd = (
            (1 - share) * of + share * to
            for of, to in zip(healthy[name], table[name], strict=True)
        )
        drawn.append(mean + sd * float(value))
    return Rates(*drawn)


def _young_share(age: float) -> float:
    """1 below BLEND_FROM, 0 above BLEND_TO, linear between."""
    return min(1.0, max(0.0, (BLEND_TO - age) / (BLEND_TO - BLEND_FROM)))


def _blend(young_share: float, young: float, old: float) -> float:
    return young_share * young + (1 - young_share) * old


def _parabola(coefficients: tuple[float, float, float], age: float) -> float:
    a = age - 65.0
    constant, slope, curve = coefficients
    return constant + slope * a + curve * a * a


def _old_ventricles(age: float, sex: Sex) -> float:
    """Lateral ventricles in ml; the fit is of ln mm3."""
    return math.exp(_parabola(_VENTRICLES[sex], age)) / 1000


def _young_ventricles(age: float, sex: Sex) -> float:
    """Lateral ventricles in ml from IXI's all ventricles, bins centred on 24 and 35."""
    share = math.exp(
        _parabola(_VENTRICLES[sex], 40.0) - _parabola(_ALL_VENTRICLES[sex], 40.0)
    )
    medians = [
        mean / math.sqrt(1 + (sd / mean) ** 2)
        for mean, sd in _YOUNG_ALL_VENTRICLES[sex]
    ]
    return share * float(np.interp(age, (24.0, 35.0), medians))
