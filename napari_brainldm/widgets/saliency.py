"""Asks the desk for saliency maps of the connectivity, and shows them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_brainldm.engine.atlas import Atlas, bundled, nearest_centre
from napari_brainldm.engine.attention import Attended, attended
from napari_brainldm.engine.attribution import (
    Attributed,
    RegionMean,
    integrated_gradients,
)
from napari_brainldm.engine.compared import Sharpened
from napari_brainldm.engine.components import Components
from napari_brainldm.engine.fnc import Fnc
from napari_brainldm.engine.heat import Heat, heat_of_fnc
from napari_brainldm.engine.renderer import Renderer
from napari_brainldm.engine.request import Derived
from napari_brainldm.engine.saliency import (
    ByBlock,
    Sanity,
    occluded,
    paired_difference,
    randomised,
    sanity_of,
)
from napari_brainldm.engine.saliency_export import (
    map_record,
    saliency_of,
    write_saliency,
)
from napari_brainldm.engine.volume import Volume
from napari_brainldm.widgets import layers, overlays
from napari_brainldm.widgets.job import Step, Task, Tick
from napari_brainldm.widgets.saliency_panel import (
    ATTENTION,
    BLOCKS,
    BY_BLOCK,
    DIFFERENCE,
    GRADIENTS,
    METHODS,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from numpy.typing import NDArray

    from napari_brainldm.engine.request import Request, Value
    from napari_brainldm.widgets.desk import Desk

NAME = "Saliency"
WORDS = {
    DIFFERENCE: "Picture minus that of the mean connectivity, same noise.",
    BLOCKS: (
        "What each block of networks adds, against the training mean. Click a cell to "
        "see the map of its block, and its region."
    ),
}


@dataclass(frozen=True)
class Asked:
    """What is to be found out.

    Attributes
    ----------
    method
        A key of `saliency_panel.METHODS`.
    region
        Index in the atlas, for gradients.
    check
        Whether to do the same with randomised weights.
    """

    method: str
    region: int
    seeds: int
    points: int
    check: bool


@dataclass(frozen=True, eq=False)
class Found:
    """What was found out, and how it stands the test; None without one.

    Attributes
    ----------
    record
        How it came to be.
    """

    asked: Asked
    fnc: Fnc
    components: Components
    record: Derived
    value: Any
    sanity: Sanity | None


class Saliency(QObject):
    """Keeps the last saliency map and its layer.

    Attributes
    ----------
    found
        The last one; None without one.
    atlas
        Whose regions are told, on the grid of the model; None before it is read.
    """

    told = Signal(object)  # Found
    ready = Signal(object)  # Atlas

    def __init__(self, viewer: Any, desk: Desk) -> None:
        super().__init__()
        self._viewer, self._desk = viewer, desk
        self.found: Found | None = None
        self.atlas: Atlas | None = None
        self._layer: Any = None
        desk.opened.connect(self.forget)

    def forget(self, *_: object) -> None:
        """Nothing is known of the model in use; its grid is another."""
        self.found = None
        renderer = self._desk.renderer
        if renderer is not None and renderer.card.fnc is not None:
            self.atlas = bundled().on(renderer.card.grid)
            self.ready.emit(self.atlas)

    def find(
        self, request: Request, fnc: Fnc, components: Components, asked: Asked
    ) -> None:
        """Find it out in the background."""
        renderer = self._desk.renderer
        if renderer is None or self.atlas is None:
            return
        title, told = METHODS[asked.method], _parameters(asked, self.atlas)
        from_mean = asked.method not in BY_BLOCK
        record = saliency_of(renderer, request, fnc, title, told, from_mean)
        one = partial(_map, request, fnc, components, self.atlas, asked)
        work = partial(_found, renderer, one, asked)
        receive = partial(self._on_found, asked, fnc, components, record)
        self._desk.background(Task("saliency", work, receive))

    def show_block(self, block: int, region: int) -> None:
        """Show the map of one block, and go to a region."""
        if self.found is None or not isinstance(self.found.value, ByBlock):
            return
        value: ByBlock = self.found.value
        first, second = value.blocks[block]
        what = "Attention to" if isinstance(value, Attended) else f"{NAME}:"
        name = f"{first}–{second}"
        self._show(value.maps[block], f"{what} {name}", name)
        here = value.atlas.labels == value.atlas.regions[region].index
        layers.go_to(self._viewer, nearest_centre(here, value.atlas.grid))

    def matrix_of(self, found: Found, components: Components) -> Heat:
        """Attributions as a matrix."""
        assert isinstance(found.value, Attributed)
        heat = heat_of_fnc(replace(found.fnc, vector=found.value.vector), components)
        return replace(heat, unit="")

    def write(self, path: Path) -> None:
        """Write the table of what was found; `path` names what its files begin with."""
        if self.found is None or self._desk.renderer is None or self.atlas is None:
            return
        work = partial(_write, self._desk.renderer, self.found, self.atlas, path)
        self._desk.run(Task("save", work, self._desk.saved.emit, kept=True))

    def close(self) -> None:
        """Let go of viewer and layers; what is shown stays."""
        self._viewer = self._layer = None

    def _on_found(
        self,
        asked: Asked,
        fnc: Fnc,
        components: Components,
        record: Derived,
        told: tuple[Any, Sanity | None],
    ) -> None:
        found = self.found = Found(asked, fnc, components, record, *told)
        if asked.method == DIFFERENCE:
            self._show(found.value.change, f"{NAME}: paired difference")
        self.told.emit(found)

    def _show(self, data: NDArray[Any], name: str, block: str = "") -> None:
        assert self._desk.renderer is not None
        assert self.found is not None
        picture = Volume(data, self._desk.renderer.card.grid.matrix)
        record = map_record(self._desk.renderer, self.found.record, picture, block)
        self._layer = overlays.show_map(
            self._viewer, self._layer, name, picture, "change", record
        )
        self._layer.name = name


def words_of(found: Found) -> str:
    """What was found, in a few sentences."""
    if isinstance(found.value, Attributed | Attended):
        return found.value.told()
    return WORDS[found.asked.method]


def title_of(found: Found) -> str:
    """What was looked for, and in whose connectivity."""
    region = dict(found.record.parameters).get("region")
    words = METHODS[found.asked.method] + ("" if region is None else f" ({region})")
    return f"{words}: {found.fnc.name}." if found.fnc.name else f"{words}."


def _parameters(asked: Asked, atlas: Atlas) -> dict[str, Value]:
    """What was asked for, as records tell it."""
    told: dict[str, Value] = {"seeds": float(asked.seeds)}
    if asked.method == GRADIENTS:
        names = {region.index: region.name for region in atlas.regions}
        told |= {"points": float(asked.points), "region": names[asked.region]}
    return told


def _write(
    renderer: Renderer, found: Found, atlas: Atlas, path: Path
) -> Generator[Step, None, list[str]]:
    yield Tick("save", 0, 1)
    known, test = (found.components, atlas), found.sanity
    notes = {
        "Found": words_of(found),
        "RandomisedWeights": None if test is None else test.told(),
    }
    written = write_saliency(renderer, found.value, known, found.record, notes, path)
    return [str(one) for one in written]


def _found(
    renderer: Renderer,
    one: Callable[[Renderer], Generator[Step, None, Any]],
    asked: Asked,
) -> Generator[Step, None, tuple[Any, Sanity | None]]:
    value = yield from one(renderer)
    if not asked.check:
        return value, None
    yield Tick("randomised", 0, 1)
    compute = renderer.compute
    other = Renderer(randomised(renderer.checkpoint), compute.device, compute.precision)
    again = yield from one(other)
    return value, sanity_of(value, again)


def _map(
    request: Request,
    fnc: Fnc,
    components: Components,
    atlas: Atlas,
    asked: Asked,
    renderer: Renderer,
) -> Generator[Step, None, Any]:
    """One saliency map of whatever model `renderer` holds."""
    renderer.fnc.admit(fnc)
    if asked.method == GRADIENTS:
        here, device = atlas.labels == asked.region, renderer.compute.device
        region = RegionMean(renderer.checkpoint, here, device)
        return (
            yield from integrated_gradients(
                region, request, fnc, asked.points, asked.seeds
            )
        )
    if asked.method in (BLOCKS, ATTENTION):
        by_block = occluded if asked.method == BLOCKS else attended
        found = by_block(renderer, request, fnc, components, atlas, asked.seeds)
        return (yield from found)
    return (yield from _plain(paired_difference(renderer, request, fnc, asked.seeds)))


def _plain(steps: Generator[Any, None, Any]) -> Generator[Step, None, Any]:
    """The same, the mean so far as one more step."""
    while True:
        try:
            step = next(steps)
        except StopIteration as end:
            return end.value
        if isinstance(step, Sharpened):
            step = Tick("pair", step.done, step.total)
        yield step
