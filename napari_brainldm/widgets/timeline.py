"""A slider through age, with the scans as anchors, and the curve between them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent
from qtpy.QtWidgets import (
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)
from superqt import QDoubleSlider

from napari_brainldm.engine.request import CURVES, Request, Through
from napari_brainldm.widgets.condition_rows import HANDLE
from napari_brainldm.widgets.looks import (
    DARK,
    LIGHT,
    Colours,
    WheelGuard,
    named,
    quiet,
    sentence_label,
    set_style,
)
from napari_brainldm.widgets.request_form import RequestForm

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card
    from napari_brainldm.engine.visits import Course

RADIUS = 8.0
"""Of an anchor, in pixels."""

TITLES = {
    "piecewise": "straight from visit to visit",
    "smooth": "one smooth curve",
}


class Anchors(QWidget):
    """The visits over the slider; beyond them the line is broken."""

    chosen = Signal(float)  # the age of the visit that was clicked

    def __init__(self) -> None:
        super().__init__()
        self.course: Course | None = None
        self.colours = DARK
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip("The scans; click one to go there")

    def sizeHint(self) -> QSize:
        """Height of an anchor."""
        return QSize(100, round(2 * RADIUS) + 2)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the line between the visits, the broken ones beyond, the anchors."""
        if self.course is None:
            return
        with QPainter(self) as painter:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            self._draw_lines(painter)
            for number, age in enumerate(self.course.ages, start=1):
                self._draw_anchor(painter, number, self._x(age))

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Go to the visit under the mouse."""
        if self.course is None:
            return
        left = event.position().x()
        age = min(self.course.ages, key=lambda one: abs(self._x(one) - left))
        if abs(self._x(age) - left) <= RADIUS:
            self.chosen.emit(age)

    def _draw_lines(self, painter: QPainter) -> None:
        assert self.course is not None
        (low, high), ages = self.course.reach, self.course.ages
        middle = self.height() / 2
        legs = (
            (low, ages[0], True),
            (ages[0], ages[-1], False),
            (ages[-1], high, True),
        )
        for first, last, beyond in legs:
            pen = painter.pen()
            pen.setColor(QColor(self.colours.warning if beyond else self.colours.text))
            pen.setWidthF(2.0)
            style = Qt.PenStyle.DotLine if beyond else Qt.PenStyle.SolidLine
            pen.setStyle(style)
            painter.setPen(pen)
            ends = QPointF(self._x(first), middle), QPointF(self._x(last), middle)
            painter.drawLine(*ends)

    def _draw_anchor(self, painter: QPainter, number: int, x: float) -> None:
        disc = QRectF(x - RADIUS, self.height() / 2 - RADIUS, 2 * RADIUS, 2 * RADIUS)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(self.colours.text))
        painter.drawEllipse(disc)
        font = painter.font()
        font.setPixelSize(11)
        font.setBold(True)
        painter.setFont(font)
        painter.setPen(QColor((LIGHT if self.colours is DARK else DARK).text))
        painter.drawText(disc, Qt.AlignmentFlag.AlignCenter, str(number))

    def _x(self, age: float) -> float:
        assert self.course is not None
        low, high = self.course.reach
        return HANDLE + (age - low) / (high - low) * (self.width() - 2 * HANDLE)


class Timeline(QWidget):
    """Where in a person's time the picture lies."""

    moved = Signal()
    released = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.colours = DARK
        self._course: Course | None = None
        self.title, self.note = QLabel("Age"), sentence_label("Place among the visits")
        self.box = QDoubleSpinBox()
        self.slider = QDoubleSlider(Qt.Orientation.Horizontal)
        self.anchors = Anchors()
        self.box.setDecimals(2)
        self.box.setSuffix(" years")
        self.box.setKeyboardTracking(False)
        self.box.setAlignment(Qt.AlignmentFlag.AlignRight)
        self.box.setFixedWidth(120)
        self._lay_out()
        for control in (self.box, self.slider):
            control.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            control.installEventFilter(WheelGuard(control))
        tip = "The age the picture is made for"
        named(self.box, "Age of the picture", tip)
        named(self.slider, "Age of the picture, slider", tip)
        self.box.valueChanged.connect(self._on_box_changed)
        self.slider.valueChanged.connect(self._on_slider_changed)
        self.slider.sliderReleased.connect(self.released)
        self.anchors.chosen.connect(self.box.setValue)
        self.show_course(None)

    @property
    def dragging(self) -> bool:
        """Whether the slider is held."""
        return self.slider.isSliderDown()

    def value(self) -> float:
        """The age asked for in years."""
        return self.box.value()

    def show_course(self, course: Course | None) -> None:
        """Lie along `course`, at its first visit; None is nowhere."""
        self._course = self.anchors.course = course
        low, high = (0.0, 1.0) if course is None else course.reach
        with quiet(self.box, self.slider):
            for control in (self.box, self.slider):
                control.setRange(low, high)
            self.slider.setSingleStep((high - low) / 50)
            self.box.setSingleStep(max(round((high - low) / 50, 2), 0.01))
        self.title.setText("Age" if course is None else course.title)
        self.setEnabled(course is not None)
        self.set_value(low if course is None else course.ages[0])
        self.anchors.update()

    def set_value(self, age: float) -> None:
        """Show `age` without a signal."""
        with quiet(self.box):
            self.box.setValue(age)
        self._sync()

    def set_colours(self, colours: Colours) -> None:
        """Follow the theme."""
        self.colours = self.anchors.colours = colours
        self._sync()
        self.anchors.update()

    def _sync(self) -> None:
        """Bring slider and note to the box, the one holder of the value."""
        if not self.dragging:
            with quiet(self.slider):
                self.slider.setValue(self.box.value())
        course, age = self._course, self.box.value()
        beyond = course is not None and bool(course.beyond(age))
        words = "no visits are encoded" if course is None else course.where(age)
        self.note.setText(f"⚠ {words}" if beyond else words)
        colour = self.colours.warning if beyond else self.colours.faint
        set_style(self.note, f"color: {colour}; font-size: 10px;")
        box_colour = self.colours.warning if beyond else self.colours.text
        set_style(self.box, f"color: {box_colour}; padding: 1px 3px;")

    def _on_slider_changed(self, value: float) -> None:
        self.box.setValue(value)

    def _on_box_changed(self) -> None:
        self._sync()
        self.moved.emit()

    def _lay_out(self) -> None:
        head = QHBoxLayout()
        head.addWidget(self.title, 1)
        head.addWidget(self.box)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(head)
        for part in (self.anchors, self.slider, self.note):
            layout.addWidget(part)


class VisitForm(RequestForm):
    """The form of a picture between visits: an age and a curve, nothing else.

    The conditions are those of the visits, so their rows are left out.
    """

    def __init__(self, card: Card) -> None:
        super().__init__(replace(card, vocabulary=(), directions=()), of_scan=True)
        self.timeline, self.curve = Timeline(), QComboBox()
        for name in CURVES:
            self.curve.addItem(TITLES[name], name)
        tip = (
            "How the model goes between the scans: straight from one to the next, or "
            "along one smooth curve through all of them (three or more)"
        )
        named(self.curve, "Curve between the visits", tip)
        line = QHBoxLayout()
        line.addWidget(QLabel("Between visits"))
        line.addWidget(self.curve, 1)
        layout = self.layout()
        layout.insertWidget(0, self.timeline)  # type: ignore[union-attr]
        layout.insertLayout(1, line)  # type: ignore[union-attr]
        self.timeline.moved.connect(self.moved)
        self.timeline.released.connect(self.released)
        self.curve.currentIndexChanged.connect(self.moved)
        self.show_course(None)

    @property
    def dragging(self) -> bool:
        """Whether the slider is held."""
        return self.timeline.dragging

    @property
    def way(self) -> str:
        """The curve chosen."""
        return str(self.curve.currentData())

    def show_course(self, course: Course | None) -> None:
        """Go through the visits of `course`, beginning at the first."""
        self.timeline.show_course(course)
        self.curve.setEnabled(course is not None and len(course.visits) > 2)

    def show_request(self, request: Request) -> None:
        """Show what `request` asks for, without a signal."""
        origin = request.origin
        if isinstance(origin, Through):
            self.timeline.set_value(origin.place)
            with quiet(self.curve):
                self.curve.setCurrentIndex(self.curve.findData(origin.curve))

    def set_colours(self, colours: Colours) -> None:
        """Follow the theme."""
        self.timeline.set_colours(colours)
