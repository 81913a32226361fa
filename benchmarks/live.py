"""Ask whether the Explore dock keeps up with a hand: ratios of times in one run.

    python -m benchmarks.live [--quick] [--json] [--seed S] [--checkpoint FILE]

Drives the real dock in a real window (under Xvfb where there is no display). The
reference of every ratio is the same weights in float32 with DDIM, 50 steps, decoded in
full, timed in the same run. Nothing else should run meanwhile. What the fast road loses
is asked too: volumes and MS-SSIM of its final pictures against the reference's.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.report import AT_LEAST, AT_MOST, Limit, finish, options
from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.engine.measure import measure
from napari_brainldm.engine.renderer import Renderer
from napari_brainldm.engine.renderer import finish as finished
from napari_brainldm.engine.request import Conditions, Request, Sampler, Seed
from napari_brainldm.engine.resources import bundled_checkpoint, bundled_segmenter
from napari_brainldm.engine.segment import Segmenter
from napari_brainldm.engine.similarity import ms_ssim

if TYPE_CHECKING:
    import argparse

    from napari_brainldm.engine.volume import Volume
    from napari_brainldm.widgets.explore import ExploreDock

REFERENCE = Sampler("ddim", 50)
CONDITION = "ventricles"
BEAT_MS = 5
"""The event loop is asked so often whether it is awake."""

LIMITS = {
    "preview_over_reference": Limit(AT_MOST, 1 / 25),
    "picture_over_reference": Limit(AT_MOST, 1 / 3),
    "lag_p95_ms": Limit(AT_MOST, 100.0),
    "cancel_over_step": Limit(AT_MOST, 1.5),  # a step, and the way of the news
    "last_value_won": Limit(AT_LEAST, 1.0),
    "slope_lost": Limit(AT_MOST, 0.05),
    "r_lost": Limit(AT_MOST, 0.02),
    "likeness_over_seeds": Limit(AT_LEAST, 1.0),
}


@dataclass(frozen=True)
class Size:
    """How much is timed: references, moves, drags, and pictures compared."""

    references: int
    moves: int
    drags: int
    compared: int


FULL, QUICK = Size(3, 15, 200, 6), Size(1, 2, 3, 2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 0 if every figure is within its limit."""
    parser = options("live", __doc__)
    parser.add_argument("--checkpoint", type=Path, help="default: the bundled one")
    chosen = parser.parse_args(arguments)
    return finish(chosen, LIMITS, lambda: figures(chosen))


def figures(chosen: argparse.Namespace) -> dict[str, Any]:
    """Every figure."""
    size = QUICK if chosen.quick else FULL
    path = chosen.checkpoint or bundled_checkpoint()
    slow = Renderer(load_checkpoint(path), precision="float32")
    reference = median_time(lambda: made(slow, 0.5, REFERENCE), size.references)
    found = in_the_dock(path, size, chosen.seed)
    found["reference_seconds"] = reference
    found["preview_over_reference"] = found["preview_seconds"] / reference
    found["picture_over_reference"] = found["picture_seconds"] / reference
    return found | what_is_lost(path, slow, size)


def made(renderer: Renderer, share: float, sampler: Sampler, seed: int = 0) -> Volume:
    """The picture with the ventricles at `share` of the training range."""
    value = renderer.card.covariate(CONDITION).decode(share)
    conditions = Conditions.of({CONDITION: value})
    return finished(renderer.render(Request(conditions, Seed(seed), sampler=sampler)))


def median_time(work: Callable[[], object], count: int) -> float:
    """Median seconds of `count` runs, after one that does not count."""
    work()
    times = []
    for _ in range(count):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return float(np.median(times))


# The dock -----------------------------------------------------------------------------


def in_the_dock(path: Path, size: Size, seed: int) -> dict[str, Any]:
    """Times of previews, pictures, lag and cancelling, and who wins a drag."""
    import napari

    from napari_brainldm.widgets.explore import ExploreDock

    viewer = napari.Viewer(show=True, show_welcome_screen=False)
    dock = ExploreDock(viewer, path)
    viewer.window.add_dock_widget(dock, name="Explore", area="right")
    rest(dock)
    rng = np.random.default_rng(seed)
    found = moves(dock, rng.uniform(0.1, 0.9, size.moves))
    found |= cancelling(dock)
    found["last_value_won"] = drags(dock, rng, size.drags)
    viewer.close()
    return found


def moves(dock: ExploreDock, places: Sequence[float]) -> dict[str, float]:
    """From rest: move and hold until a preview, let go, wait for the picture."""
    previews, pictures, lags = [], [], Lag()
    arrived: list[bool] = []
    dock.desk.shown.connect(lambda _, preview: arrived.append(preview))
    for place in places:
        arrived.clear()
        slider = slider_of(dock)
        start = time.perf_counter()
        slider.setSliderDown(True)
        slider.setValue(_at(slider, place))
        until(lambda: bool(arrived))
        previews.append(time.perf_counter() - start)
        rest_of_preview(dock)
        start = time.perf_counter()
        with lags:
            slider.setSliderDown(False)
            until(lambda: arrived[-1:] == [False])
            pictures.append(time.perf_counter() - start)
            rest(dock)
    return {
        "preview_seconds": float(np.median(previews)),
        "picture_seconds": float(np.median(pictures)),
        "lag_p95_ms": lags.p95(),
    }


def cancelling(dock: ExploreDock) -> dict[str, float]:
    """Seconds from Esc to rest, over those of a step."""
    steps: list[float] = []
    dock.desk.progressed.connect(lambda _: steps.append(time.perf_counter()))
    slider = slider_of(dock)
    slider.setValue(_at(slider, 0.35))
    dock.ask()
    until(lambda: len(steps) >= 6)
    step = float(np.median(np.diff(steps)))
    start = time.perf_counter()
    dock.cancel()
    rest(dock)
    return {"cancel_over_step": (time.perf_counter() - start) / step}


def drags(dock: ExploreDock, rng: np.random.Generator, count: int) -> float:
    """Share of random drags whose last value is that of the picture at the end."""
    assert dock.form is not None
    dock.form.sampler.steps.setValue(2)  # who wins does not hang on the steps
    rest(dock)
    return float(np.mean([_drag(dock, rng) for _ in range(count)]))


def _drag(dock: ExploreDock, rng: np.random.Generator) -> bool:
    slider = slider_of(dock)
    slider.setSliderDown(True)
    for place in rng.uniform(0, 1, rng.integers(1, 30)):
        slider.setValue(_at(slider, place))
        pause(rng.exponential(0.02))
    slider.setSliderDown(False)
    rest(dock)
    assert dock.form is not None
    wanted = dock.form.rows[CONDITION].value()
    picture = dock.desk.picture
    return picture is not None and picture.request.conditions.as_dict()[CONDITION] == (
        wanted
    )


class Lag:
    """How late the event loop answers while it is watched."""

    def __init__(self) -> None:
        from qtpy.QtCore import QTimer

        self._late: list[float] = []
        self._last = 0.0
        self._timer = QTimer()
        self._timer.setInterval(BEAT_MS)
        self._timer.timeout.connect(self._beat)

    def __enter__(self) -> None:
        """Begin to watch."""
        self._last = time.perf_counter()
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        """No longer watch."""
        self._timer.stop()

    def p95(self) -> float:
        """95th percentile of the lateness in milliseconds."""
        return float(np.percentile(self._late, 95)) if self._late else float("nan")

    def _beat(self) -> None:
        now = time.perf_counter()
        self._late.append(max(1000 * (now - self._last) - BEAT_MS, 0.0))
        self._last = now


def slider_of(dock: ExploreDock) -> Any:
    """The slider that is moved."""
    assert dock.form is not None
    return dock.form.rows[CONDITION].slider  # type: ignore[union-attr]


def _at(slider: Any, share: float) -> float:
    low, high = slider.minimum(), slider.maximum()
    return float(low + share * (high - low))


def rest(dock: ExploreDock) -> None:
    """Run the event loop until the dock has nothing more to do."""
    until(lambda: not dock.settle.isActive() and not dock.desk.busy)


def rest_of_preview(dock: ExploreDock) -> None:
    """Until the preview has come to its last step; the hand still holds."""
    until(lambda: not dock.desk.busy)


def until(done: Callable[[], bool], seconds: float = 600.0) -> None:
    """Run the event loop until `done`."""
    from qtpy.QtWidgets import QApplication

    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise SystemExit("The dock did not come to rest; see the log above.")
        QApplication.processEvents()
        time.sleep(0.001)


def pause(seconds: float) -> None:
    """Run the event loop for a while."""
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() > end)


# What is lost -------------------------------------------------------------------------


def what_is_lost(path: Path, slow: Renderer, size: Size) -> dict[str, float]:
    """Volumes and likeness of fast final pictures against slow ones.

    `likeness_over_seeds`: how like the fast picture is to the slow one of the same
    seed, less how like two slow ones of other seeds are, in SDs of the latter.
    """
    fast = Renderer(load_checkpoint(path))
    segmenter = Segmenter(load_checkpoint(bundled_segmenter()))
    places = np.linspace(0.05, 0.95, size.compared)
    quick = [made(fast, place, Sampler(), seed) for seed, place in enumerate(places)]
    truth = [made(slow, place, REFERENCE, seed) for seed, place in enumerate(places)]
    wanted = [slow.card.covariate(CONDITION).decode(place) for place in places]
    slopes, rs = zip(
        *(followed(segmenter, wanted, p) for p in (quick, truth)), strict=True
    )
    same = [ms_ssim(a.data, b.data) for a, b in zip(quick, truth, strict=True)]
    others = [made(slow, 0.5, REFERENCE, 100 + seed) for seed in range(size.compared)]
    other = [ms_ssim(a.data, b.data) for a, b in pairwise(others)]
    return {
        "slope": slopes[0],
        "slope_of_reference": slopes[1],
        "slope_lost": abs(slopes[0] - slopes[1]),
        "r": rs[0],
        "r_of_reference": rs[1],
        "r_lost": max(rs[1] - rs[0], 0.0),
        "ms_ssim_same_seed": float(np.mean(same)),
        "ms_ssim_other_seeds": float(np.mean(other)),
        "likeness_over_seeds": float(
            (np.mean(same) - np.mean(other)) / max(np.std(other), 1e-6)
        ),
    }


def followed(
    segmenter: Segmenter, wanted: Sequence[Any], pictures: Sequence[Volume]
) -> tuple[float, float]:
    """Slope and r of ventricles measured against those asked for."""
    got = [measure(segmenter.segment(picture)).ventricles for picture in pictures]
    slope = float(np.polyfit(np.asarray(wanted, float), got, 1)[0])
    return slope, float(np.corrcoef(wanted, got)[0, 1])


if __name__ == "__main__":
    sys.exit(main())
