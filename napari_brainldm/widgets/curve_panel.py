"""Measured volumes through time: the real scans as points, the model's as a line."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from qtpy.QtCore import QPointF, QRectF, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPaintEvent, QPen
from qtpy.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from napari_brainldm.engine.scale import room, ticks
from napari_brainldm.widgets.looks import (
    DARK,
    Colours,
    named,
    sentence_label,
    set_style,
)

if TYPE_CHECKING:
    from napari_brainldm.engine.ageing import Point
    from napari_brainldm.engine.visits import Course

STRUCTURES = {
    "ventricles": ("Lateral ventricles", 2.0),
    "brain": ("Brain", 20.0),
    "hippocampus": ("Hippocampus", 0.4),
}
"""Name to title, and the least range in ml that its axis shows: less is noise."""

LEFT, BOTTOM, TOP, RIGHT = 52, 36, 8, 10
DOT = 4.5
"""Radius of a real scan's point in pixels."""

LEGEND = "● the real scans, placed   — the model's pictures, dashed beyond the visits"
EMPTY = "Encode two visits to see their volumes."

Pairs = Sequence[tuple[float, float]]


class CurvePlot(QWidget):
    """Volume in ml against age in years."""

    def __init__(self) -> None:
        super().__init__()
        self.colours = DARK
        self.course: Course | None = None
        self.real: Pairs = ()
        self.made: Pairs = ()
        self.mark: float | None = None
        self.title, self.least, self.excuse = "", 1.0, EMPTY
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Volumes through time")

    def sizeHint(self) -> QSize:
        """Room for four ticks on the axis of volumes."""
        return QSize(240, 170)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw axes, line, points and the place of the picture shown."""
        with QPainter(self) as painter:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            font = painter.font()
            font.setPixelSize(10)
            painter.setFont(font)
            if self.course is None or not (*self.real, *self.made):
                painter.setPen(QColor(self.colours.faint))
                centre = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
                painter.drawText(self.rect(), centre, self.excuse)
                return
            self._draw(painter)

    def _draw(self, painter: QPainter) -> None:
        assert self.course is not None
        ml = [volume for _, volume in (*self.real, *self.made)]
        self._across, self._upwards = self.course.reach, room(ml, self.least)
        self._draw_axes(painter)
        if self.mark is not None:
            painter.setPen(QPen(QColor(self.colours.faint), 1.0, Qt.PenStyle.DotLine))
            top, bottom = self._upwards[1], self._upwards[0]
            painter.drawLine(self._at(self.mark, bottom), self._at(self.mark, top))
        self._draw_line(painter)
        painter.setPen(QPen(QColor(self.colours.text), 1.5))
        painter.setBrush(QColor(self.colours.text))
        for age, volume in self.real:
            painter.drawEllipse(self._at(age, volume), DOT, DOT)

    def _draw_line(self, painter: QPainter) -> None:
        assert self.course is not None
        for first, second in pairwise(self.made):
            middle = (first[0] + second[0]) / 2
            beyond = bool(self.course.beyond(middle))
            colour = self.colours.warning if beyond else self.colours.accent
            style = Qt.PenStyle.DashLine if beyond else Qt.PenStyle.SolidLine
            painter.setPen(QPen(QColor(colour), 2.0, style))
            painter.drawLine(self._at(*first), self._at(*second))
        painter.setPen(Qt.PenStyle.NoPen)
        for age, volume in self.made:
            beyond = bool(self.course.beyond(age))
            colour = self.colours.warning if beyond else self.colours.accent
            painter.setBrush(QColor(colour))
            painter.drawEllipse(self._at(age, volume), 2.5, 2.5)

    def _draw_axes(self, painter: QPainter) -> None:
        assert self.course is not None
        text, grid = QColor(self.colours.text), QColor(self.colours.bar)
        grid.setAlphaF(0.45)
        bottom = self._upwards[0]
        right, centre = Qt.AlignmentFlag.AlignRight, Qt.AlignmentFlag.AlignHCenter
        for volume in ticks(*self._upwards, most=5):
            at = self._at(self._across[0], volume)
            painter.setPen(QPen(grid, 1.0))
            painter.drawLine(at, self._at(self._across[1], volume))
            painter.setPen(text)
            box = QRectF(14, at.y() - 7, LEFT - 19, 14)
            painter.drawText(box, right | Qt.AlignmentFlag.AlignVCenter, f"{volume:g}")
        for age in ticks(*self._across, most=6):
            at = self._at(age, bottom)
            painter.drawLine(at, QPointF(at.x(), at.y() + 3))
            painter.drawText(
                QRectF(at.x() - 25, at.y() + 4, 50, 13), centre, f"{age:g}"
            )
        painter.drawLine(self._at(self._across[0], bottom), self._at(*self._ends))
        below = QRectF(LEFT, self.height() - 16, self.width() - LEFT - RIGHT, 15)
        painter.drawText(below, centre, f"{self.course.title} (years)")
        painter.save()
        painter.translate(0, self.height() - BOTTOM)
        painter.rotate(-90)
        aside = QRectF(0, 0, self.height() - BOTTOM - TOP, 14)
        painter.drawText(aside, centre, f"{self.title} (ml)")
        painter.restore()

    @property
    def _ends(self) -> tuple[float, float]:
        return self._across[1], self._upwards[0]

    def _at(self, age: float, volume: float) -> QPointF:
        (low, high), (least, most) = self._across, self._upwards
        wide, tall = self.width() - LEFT - RIGHT, self.height() - BOTTOM - TOP
        x = LEFT + (age - low) / (high - low) * wide
        return QPointF(x, TOP + (most - volume) / (most - least) * tall)


class CurvePanel(QWidget):
    """The plot, and which structure it shows."""

    def __init__(self) -> None:
        super().__init__()
        self._real: tuple[Point, ...] = ()
        self._made: dict[tuple[str, float], Point] = {}
        self._way = ""
        self.structure, self.plot = QComboBox(), CurvePlot()
        self.words = sentence_label("Legend")
        self.words.setText(LEGEND)
        for name, (title, _) in STRUCTURES.items():
            self.structure.addItem(title, name)
        tip = "Whose volume is shown, measured in scans and pictures alike"
        named(self.structure, "Structure", tip)
        head = QHBoxLayout()
        head.addWidget(QLabel("Volume through time"), 1)
        head.addWidget(self.structure)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 6, 0, 0)
        layout.setSpacing(3)
        layout.addLayout(head)
        layout.addWidget(self.plot)
        layout.addWidget(self.words)
        self.structure.currentIndexChanged.connect(self._refresh)
        self._refresh()

    def begin(self, course: Course | None, real: Sequence[Point] = ()) -> None:
        """Show the `real` scans of `course`; nothing of its pictures is known yet."""
        self.plot.course, self._real = course, tuple(real)
        self._made.clear()
        self._refresh()

    def warn(self, sentence: str) -> None:
        """Say under the plot what to mind of these volumes."""
        self.words.setText(f"{LEGEND}\n{sentence}" if sentence else LEGEND)

    def excuse(self, sentence: str) -> None:
        """Say why nothing is measured."""
        self.plot.excuse = sentence or EMPTY
        self.plot.update()

    def add(self, way: str, points: Sequence[Point]) -> None:
        """Show what was measured in pictures along the curve `way`."""
        self._made |= {(way, point.age): point for point in points}
        self._refresh()

    def look(self, way: str, age: float) -> None:
        """Mark `age`, and show what is known along the curve `way`."""
        self._way, self.plot.mark = way, age
        self._refresh()

    def set_colours(self, colours: Colours) -> None:
        """Follow the theme."""
        self.plot.colours = colours
        set_style(self.words, f"color: {colours.faint}; font-size: 10px;")
        self.plot.update()

    def _refresh(self) -> None:
        name = str(self.structure.currentData())
        plot = self.plot
        plot.title, plot.least = STRUCTURES[name]
        along = [p for (way, _), p in self._made.items() if way == self._way]
        plot.real = _pairs(self._real, name)
        plot.made = _pairs(sorted(along, key=lambda point: point.age), name)
        told = "; ".join(f"{age:.2f} years {ml:.1f} ml" for age, ml in plot.real)
        plot.setAccessibleDescription(
            f"{plot.title} of the real scans: {told or 'none'}"
        )
        plot.update()


def _pairs(points: Sequence[Point], name: str) -> Pairs:
    """(age, ml) of one structure."""
    return [(point.age, float(getattr(point.measured, name))) for point in points]
