"""A heat map with names: a matrix of connectivity, or blocks against regions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import (
    QColor,
    QHelpEvent,
    QImage,
    QLinearGradient,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
)
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from napari_brainldm.engine.heat import LEVELS, Heat, runs
from napari_brainldm.widgets.looks import DARK, LIGHT, Colours

if TYPE_CHECKING:
    from collections.abc import Sequence

BAND, HEAD, SCALE, GAP = 24, 16, 30, 4
"""Pixels: names of groups beside and above, the scale of colours, and between them."""

LEAST_ROW = 11
"""Pixels of a row whose name is written beside it."""

ENDS = {
    DARK: ("#5b9bff", "#23262c", "#ff6f61"),
    LIGHT: ("#1f4fbf", "#ffffff", "#b8141a"),
}
"""Colour below 0, at 0, and above it."""


def mixed(first: QColor, second: QColor, share: float) -> QColor:
    """`first`, going over to `second` as `share` goes from 0 to 1."""
    return QColor.fromRgbF(
        first.redF() + share * (second.redF() - first.redF()),
        first.greenF() + share * (second.greenF() - first.greenF()),
        first.blueF() + share * (second.blueF() - first.blueF()),
    )


class HeatMap(QWidget):
    """Cells with a tooltip each; a click tells which.

    Parameters
    ----------
    name
        For screen readers.
    square
        Whether cells are square; else they fill the room there is.
    names
        Pixels for the names of rows; 0 writes those of groups alone.
    """

    clicked = Signal(int, int)  # row, column

    def __init__(self, name: str, square: bool = False, names: int = 0) -> None:
        super().__init__()
        self.heat: Heat | None = None
        self.excuse = ""
        self._square, self._names = square, names
        self._marked: tuple[tuple[int, int], ...] = ()
        self._image = QImage()
        self.colours = DARK
        self.setAccessibleName(name)
        self.setMouseTracking(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        """A square, or every row's name."""
        if self._square or self.heat is None:
            return QSize(270, 300)
        return QSize(270, len(self.heat.rows) * LEAST_ROW + HEAD + SCALE + GAP)

    def show_heat(self, heat: Heat) -> None:
        """Show other numbers."""
        self.heat = heat
        levels = heat.levels()
        rows, columns = levels.shape
        form = QImage.Format.Format_Indexed8
        # a copy: Qt does not keep the bytes it is given
        self._image = QImage(levels.tobytes(), columns, rows, columns, form).copy()
        self._colour()
        self.updateGeometry()
        self.update()

    def clear(self) -> None:
        """Show the excuse instead of numbers."""
        self.heat = None
        self._marked = ()
        self.update()

    def mark(self, cells: Sequence[tuple[int, int]]) -> None:
        """Outline `cells` (row, column)."""
        self._marked = tuple(cells)
        self.update()

    def set_colours(self, colours: Colours) -> None:
        """Follow the theme."""
        self.colours = colours
        self._colour()
        self.update()

    def cell_at(self, at: QPointF) -> tuple[int, int] | None:
        """(row, column) under a point; None beside the map."""
        area = self._area()
        if self.heat is None or not area.contains(at):
            return None
        rows, columns = self.heat.values.shape
        row = int((at.y() - area.top()) / area.height() * rows)
        column = int((at.x() - area.left()) / area.width() * columns)
        return min(row, rows - 1), min(column, columns - 1)

    def centre_of(self, row: int, column: int) -> QPointF:
        """The middle of a cell."""
        return self._box(row, row + 1, column, column + 1).center()

    def event(self, event: QEvent) -> bool:
        """Tell the cell under the pointer."""
        if isinstance(event, QHelpEvent):
            cell = self.cell_at(QPointF(event.pos()))
            if cell is None or self.heat is None:
                QToolTip.hideText()
            else:
                QToolTip.showText(event.globalPos(), self.heat.told(*cell), self)
            return True
        return super().event(event)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Tell which cell was clicked."""
        cell = self.cell_at(event.position())
        if cell is not None:
            self.clicked.emit(*cell)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw cells, groups, what is marked, and the scale."""
        with QPainter(self) as painter:
            font = painter.font()
            font.setPixelSize(9)
            painter.setFont(font)
            if self.heat is None:
                painter.setPen(QColor(self.colours.faint))
                centre = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
                painter.drawText(self.rect(), centre, self.excuse)
                return
            painter.drawImage(self._area(), self._image)
            self._draw_groups(painter)
            self._draw_names(painter)
            self._draw_marked(painter)
            self._draw_scale(painter)

    def _area(self) -> QRectF:
        left = BAND + self._names
        wide = max(self.width() - left - GAP, 1)
        high = max(self.height() - HEAD - SCALE - GAP, 1)
        if self._square:
            edge = min(wide, high)
            return QRectF(left + (wide - edge) / 2, HEAD, edge, edge)
        return QRectF(left, HEAD, wide, high)

    def _box(self, top: int, bottom: int, left: int, right: int) -> QRectF:
        """Where rows `top` to `bottom` of columns `left` to `right` lie."""
        assert self.heat is not None
        area, (rows, columns) = self._area(), self.heat.values.shape
        high, wide = area.height() / rows, area.width() / columns
        x, y = area.left() + left * wide, area.top() + top * high
        return QRectF(x, y, (right - left) * wide, (bottom - top) * high)

    def _draw_groups(self, painter: QPainter) -> None:
        assert self.heat is not None
        area, (rows, columns) = self._area(), self.heat.values.shape
        text, line = QColor(self.colours.text), QColor(self.colours.faint)
        line.setAlphaF(0.4)
        centre = Qt.AlignmentFlag.AlignCenter
        for name, start, stop in runs(self.heat.column_groups):
            box = self._box(0, rows, start, stop)
            painter.setPen(QPen(line, 1.0))
            painter.drawRect(box)
            painter.setPen(text)
            if painter.fontMetrics().horizontalAdvance(name) <= box.width():
                above = QRectF(box.left(), area.top() - 13, box.width(), 12)
                painter.drawText(above, centre, name)
        for name, start, stop in runs(self.heat.row_groups):
            box = self._box(start, stop, 0, columns)
            painter.setPen(QPen(line, 1.0))
            painter.drawRect(box)
            painter.setPen(text)
            if not self._names and box.height() >= 8:
                beside = QRectF(area.left() - BAND, box.top(), BAND - 3, box.height())
                right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
                painter.drawText(beside, right, name)

    def _draw_names(self, painter: QPainter) -> None:
        assert self.heat is not None
        if not self._names:
            return
        painter.setPen(QColor(self.colours.text))
        right = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        for row, name in enumerate(self.heat.rows):
            box = self._box(row, row + 1, 0, 1)
            beside = QRectF(0, box.top(), box.left() - 3, box.height())
            painter.drawText(beside, right, name)

    def _draw_marked(self, painter: QPainter) -> None:
        """The outline of what is marked: edges that another marked cell lacks."""
        marked = set(self._marked)
        painter.setPen(QPen(QColor(self.colours.warning), 1.5))
        for row, column in self._marked:
            box = self._box(row, row + 1, column, column + 1)
            for beside, start, stop in (
                ((row - 1, column), box.topLeft(), box.topRight()),
                ((row + 1, column), box.bottomLeft(), box.bottomRight()),
                ((row, column - 1), box.topLeft(), box.bottomLeft()),
                ((row, column + 1), box.topRight(), box.bottomRight()),
            ):
                if beside not in marked:
                    painter.drawLine(start, stop)

    def _draw_scale(self, painter: QPainter) -> None:
        assert self.heat is not None
        area = self._area()
        bar = QRectF(area.left(), area.bottom() + 6, area.width(), 7)
        fade = QLinearGradient(bar.topLeft(), bar.topRight())
        for place, colour in zip((0.0, 0.5, 1.0), self._ends(), strict=True):
            fade.setColorAt(place, colour)
        painter.fillRect(bar, fade)
        painter.setPen(QColor(self.colours.text))
        words = QRectF(bar.left(), bar.bottom() + 1, bar.width(), 13)
        limit = f"{self.heat.limit:.2g}"
        left, right = Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignRight
        painter.drawText(words, left, f"−{limit}")
        painter.drawText(words, Qt.AlignmentFlag.AlignHCenter, "0")
        painter.drawText(words, right, f"{limit} {self.heat.unit}".rstrip())

    def _ends(self) -> tuple[QColor, QColor, QColor]:
        low, middle, high = ENDS[self.colours]
        return QColor(low), QColor(middle), QColor(high)

    def _colour(self) -> None:
        low, middle, high = self._ends()
        half = LEVELS // 2
        below = [mixed(low, middle, n / half) for n in range(half)]
        above = [mixed(middle, high, n / half) for n in range(half + 1)]
        if not self._image.isNull():
            self._image.setColorTable([c.rgb() for c in (*below, *above)])
