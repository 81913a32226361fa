"""Where a scan lies among the training people, and how an edit moves it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import QSizePolicy, QVBoxLayout, QWidget

from napari_brainldm.engine.request import Request
from napari_brainldm.engine.scale import room
from napari_brainldm.engine.trajectory import Crowd, Place, crowds, place, readings
from napari_brainldm.widgets.looks import DARK, Colours, sentence_label, set_style

if TYPE_CHECKING:
    from napari_brainldm.engine.checkpoint import Checkpoint
    from napari_brainldm.engine.codes import Code

GROUPS = ("#4da6e0", "#e8743b", "#e8b13b", "#3bb38a", "#c98bb9")
"""Of groups, told apart by the colour-blind and readable on both themes."""

SPREADS = (1, 2)
"""SDs at which a group is drawn."""

DOT = 5.0
"""Radius of the scan's point in pixels."""

EDGE = 14
LINE, SWATCH = 16, 4.0
"""Height of a line of the key, radius of its dot, in pixels."""

LEGEND = (
    "● the scan   ◆ the edit. Rings: training people, 1 and 2 SD of each group; axes "
    "in SD within groups."
)
NO_PLANE = "This checkpoint has no plane of training people to show."
EMPTY = "Encode a scan to see where it lies."


class PlanePlot(QWidget):
    """The plane of a checkpoint: groups as rings, the scan, the edit."""

    def __init__(self) -> None:
        super().__init__()
        self.colours, self.excuse = DARK, EMPTY
        self.groups: tuple[Crowd, ...] = ()
        self.here: Place | None = None
        self.there: Place | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Plane of training people")

    def sizeHint(self) -> QSize:
        """As wide as the dock, not quite as high."""
        return QSize(240, 190)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the groups, the scan and the way of the edit."""
        with QPainter(self) as painter:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            font = painter.font()
            font.setPixelSize(11)
            painter.setFont(font)
            if self.here is None or self.there is None or not self.groups:
                painter.setPen(QColor(self.colours.faint))
                centre = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
                painter.drawText(self.rect(), centre, self.excuse)
                return
            self._fit(self.here, self.there)
            for row, (group, colour) in enumerate(
                zip(self.groups, GROUPS, strict=False)
            ):
                self._draw_group(painter, group, QColor(colour))
                self._draw_key(painter, row, group.name, QColor(colour))
            self._draw_way(painter, self.here, self.there)

    def _fit(self, here: Place, there: Place) -> None:
        """Choose centre and pixels per SD so that all is seen, alike on both axes."""
        far = SPREADS[-1]
        ranges = []
        for axis in (0, 1):
            values = [here.point[axis], there.point[axis]]
            for group in self.groups:
                reach = far * group.radii[0]
                values += [group.centre[axis] - reach, group.centre[axis] + reach]
            ranges.append(room(values, 1.0))
        sizes = self.width() - 2 * EDGE, self.height() - 2 * EDGE
        spans = [high - low for low, high in ranges]
        self._unit = min(size / span for size, span in zip(sizes, spans, strict=True))
        self._middle = tuple((low + high) / 2 for low, high in ranges)

    def _at(self, point: tuple[float, float]) -> QPointF:
        x = self.width() / 2 + (point[0] - self._middle[0]) * self._unit
        return QPointF(x, self.height() / 2 - (point[1] - self._middle[1]) * self._unit)

    def _draw_group(self, painter: QPainter, group: Crowd, colour: QColor) -> None:
        painter.save()
        painter.translate(self._at(group.centre))
        painter.rotate(-group.degrees)
        for spread, strength in zip(SPREADS, (0.28, 0.0), strict=True):
            filled = QColor(colour)
            filled.setAlphaF(strength)
            painter.setBrush(filled)
            painter.setPen(QPen(colour, 1.2))
            radii = (spread * radius * self._unit for radius in group.radii)
            painter.drawEllipse(QPointF(0, 0), *radii)
        painter.restore()

    def _draw_key(self, painter: QPainter, row: int, name: str, colour: QColor) -> None:
        """Name a group in the corner: at their centres names cover each other."""
        line = QRectF(EDGE, EDGE / 2 + row * LINE, self.width() - 2 * EDGE, LINE)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(colour)
        painter.drawEllipse(QPointF(line.left(), line.center().y()), SWATCH, SWATCH)
        painter.setPen(QColor(self.colours.text))
        line.setLeft(line.left() + 3 * SWATCH)
        painter.drawText(line, Qt.AlignmentFlag.AlignVCenter, name)

    def _draw_way(self, painter: QPainter, here: Place, there: Place) -> None:
        first, last = self._at(here.point), self._at(there.point)
        painter.setPen(QPen(QColor(self.colours.accent), 2.0))
        painter.drawLine(first, last)
        painter.setPen(QPen(QColor(self.colours.text), 1.0))
        painter.setBrush(QColor(self.colours.accent))
        corners = ((0, -DOT), (DOT, 0), (0, DOT), (-DOT, 0))
        painter.drawPolygon([last + QPointF(x, y) for x, y in corners])
        painter.setBrush(QColor(self.colours.text))
        painter.drawEllipse(first, DOT - 1, DOT - 1)


class TrajectoryPanel(QWidget):
    """The plane, and what the probes say of scan and edit."""

    def __init__(self) -> None:
        super().__init__()
        self.plot = PlanePlot()
        self.words, self.legend = sentence_label("Probes"), sentence_label("Legend")
        self._checkpoint: Checkpoint | None = None
        self._code: Code | None = None
        self.legend.setText(LEGEND)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        for part in (self.plot, self.legend, self.words):
            layout.addWidget(part)
        self.forget()

    def forget(self) -> None:
        """Nothing is known of a scan."""
        self._checkpoint = self._code = None
        self._tell((), None, None)

    def begin(self, checkpoint: Checkpoint, code: Code) -> None:
        """Show the scan of `code` among the training people of `checkpoint`."""
        self._checkpoint, self._code = checkpoint, code
        self.look(Request())

    def look(self, request: Request) -> None:
        """Show where `request` moves the scan."""
        if self._checkpoint is None or self._code is None:
            return
        checkpoint, code, both = self._checkpoint, self._code, (Request(), request)
        if checkpoint.card.plane is None or code.semantic is None:
            self.plot.excuse = NO_PLANE
            self._tell((), None, None)
        else:
            here, there = (place(checkpoint, code, one) for one in both)
            self._tell(crowds(checkpoint), here, there)
            self._tell_probes(here.values, there.values)
            return
        if code.semantic is not None:
            before, after = (readings(checkpoint, code, one) for one in both)
            self._tell_probes(before, after)

    def set_colours(self, colours: Colours) -> None:
        """Follow the theme."""
        self.plot.colours = colours
        set_style(self.legend, f"color: {colours.faint}; font-size: 10px;")
        self.plot.update()

    def _tell_probes(
        self, before: Mapping[str, float], after: Mapping[str, float]
    ) -> None:
        assert self._checkpoint is not None
        lines = [
            f"{d.title}: {_change(before[d.name], after[d.name], d.reads)}"
            for d in self._checkpoint.card.directions
            if d.reads
        ]
        self.words.setText("\n".join(lines))

    def _tell(
        self, groups: Sequence[Crowd], here: Place | None, there: Place | None
    ) -> None:
        plot = self.plot
        plot.groups, plot.here, plot.there = tuple(groups), here, there
        self.legend.setVisible(bool(groups))
        if here is None or there is None:
            self.words.setText("")
        else:
            told = f"scan at {_point(here)}, edit at {_point(there)}"
            plot.setAccessibleDescription(told)
        plot.update()


def _point(found: Place) -> str:
    return f"({found.point[0]:.1f}, {found.point[1]:.1f})"


def _change(before: float, after: float, unit: str) -> str:
    first, last = f"{before:.1f}", f"{after:.1f}"
    return f"{first} {unit}" if first == last else f"{first} → {last} {unit}"
