"""One row per covariate of a card: a slider for a number, buttons for categories."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qtpy.QtCore import QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPaintEvent
from qtpy.QtWidgets import (
    QButtonGroup,
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)
from superqt import QDoubleSlider

from napari_brainldm.engine.card import Covariate
from napari_brainldm.widgets.looks import (
    DARK,
    Colours,
    WheelGuard,
    quiet,
    sentence_label,
    set_style,
)

if TYPE_CHECKING:
    from napari_brainldm.engine.request import Value
    from napari_brainldm.engine.semantic_space import Direction

BEYOND = 0.25
"""Share of the training range by which a slider goes beyond either end of it."""

HANDLE = 8
"""Half a slider's handle in pixels: where its groove begins and ends."""


def slider_range(covariate: Covariate) -> tuple[float, float]:
    """Ends of the slider: beyond training, but no negative ages or volumes."""
    margin = BEYOND * (covariate.high - covariate.low)
    low = covariate.low - margin
    if covariate.low >= 0:
        low = max(low, 0.0)
    return low, covariate.high + margin


def decimals(covariate: Covariate) -> int:
    """Digits behind the point that a value of `covariate` is asked with."""
    span = covariate.high - covariate.low
    return next((d for d, s in enumerate((300, 10, 1)) if span >= s), 3)


def range_text(covariate: Covariate) -> str:
    """Return the training range in words, such as "7-172 ml" with a dash."""
    digits = decimals(covariate)
    low, high = (f"{round(v, digits):g}" for v in (covariate.low, covariate.high))
    return f"{low}–{high} {covariate.unit}".rstrip()


class Density(QWidget):
    """The training histogram over the slider; nothing was seen where it is empty."""

    def __init__(self, covariate: Covariate) -> None:
        super().__init__()
        self._covariate = covariate
        self._ends = slider_range(covariate)
        self.colours = DARK
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip(f"How often training saw each value ({range_text(covariate)})")

    def sizeHint(self) -> QSize:
        """Height of a line of text."""
        return QSize(100, 18)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw the bars, or one flat band when the card has no histogram."""
        with QPainter(self) as painter:
            bars = QColor(self.colours.bar)
            for low, high, share in self._bars():
                left, right = self._x(low), self._x(high)
                height = max(share * (self.height() - 2), 1.0)
                bar = QRectF(left, self.height() - height, right - left - 0.5, height)
                painter.fillRect(bar, bars)

    def _x(self, value: float) -> float:
        low, high = self._ends
        return HANDLE + (value - low) / (high - low) * (self.width() - 2 * HANDLE)

    def _bars(self) -> list[tuple[float, float, float]]:
        """(low, high, share of the tallest bar) of each bin."""
        histogram = self._covariate.histogram
        if histogram is None or not any(histogram.counts):
            return [(self._covariate.low, self._covariate.high, 0.2)]
        low, counts = histogram.low, histogram.counts
        width, tallest = (histogram.high - low) / len(counts), max(counts)
        return [
            (low + i * width, low + (i + 1) * width, count / tallest)
            for i, count in enumerate(counts)
        ]


class NumberRow(QWidget):
    """Title and value box, histogram, slider, and the training range in words."""

    moved = Signal()
    released = Signal()

    def __init__(self, covariate: Covariate, words: str = "") -> None:
        super().__init__()
        self.covariate, self._words = covariate, words
        self.colours = DARK
        self.box, self.slider = (
            QDoubleSpinBox(),
            QDoubleSlider(Qt.Orientation.Horizontal),
        )
        self.density, self.note = Density(covariate), sentence_label("Training range")
        self._set_up_box()
        self._set_up_slider()
        self._lay_out()
        self.set_value(covariate.reference)

    @property
    def dragging(self) -> bool:
        """Whether the slider is held."""
        return self.slider.isSliderDown()

    def value(self) -> Value:
        """The value asked for, in the covariate's unit, as shown in the box."""
        return self.box.value()

    def set_value(self, value: Value) -> None:
        """Show `value` without a signal."""
        with quiet(self.box):
            self.box.setValue(float(value))
        self._sync()

    def set_colours(self, colours: Colours) -> None:
        """Follow the theme."""
        self.colours = self.density.colours = colours
        self._sync()
        self.density.update()

    def _set_up_box(self) -> None:
        covariate = self.covariate
        digits = decimals(covariate)
        self.box.setDecimals(digits)
        # typed values may go further than the slider
        span = covariate.high - covariate.low
        floor = 0.0 if covariate.low >= 0 else covariate.low - 10 * span
        self.box.setRange(floor, covariate.high + 10 * span)
        self.box.setSingleStep(max(10.0**-digits, round(span / 50, digits)))
        self.box.setSuffix(f" {covariate.unit}" if covariate.unit else "")
        self.box.setKeyboardTracking(False)
        self.box.setAlignment(Qt.AlignmentFlag.AlignRight)
        self.box.setFixedWidth(120)
        self.box.setAccessibleName(f"{covariate.title}, value")
        self.box.valueChanged.connect(self._on_box_value_changed)
        self._guard(self.box)

    def _set_up_slider(self) -> None:
        low, high = slider_range(self.covariate)
        self.slider.setRange(low, high)
        self.slider.setSingleStep(self.box.singleStep())
        self.slider.setPageStep(5 * self.box.singleStep())
        self.slider.setAccessibleName(self.covariate.title)
        self.slider.setToolTip(self._tip())
        self.slider.valueChanged.connect(self._on_slider_value_changed)
        self.slider.sliderReleased.connect(self.released)
        self._guard(self.slider)

    def _guard(self, control: QWidget) -> None:
        control.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        control.installEventFilter(WheelGuard(control))

    def _tip(self) -> str:
        described = self.covariate.description or self.covariate.title
        return f"{described}\nTraining range {range_text(self.covariate)}."

    def _lay_out(self) -> None:
        title = sentence_label(self.covariate.title)  # a long one must not widen all
        title.setText(self.covariate.title)
        title.setToolTip(self._tip())
        title.setBuddy(self.box)
        head = QHBoxLayout()
        head.addWidget(title, 1)
        head.addWidget(self.box)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(1)
        layout.addLayout(head)
        for part in (self.density, self.slider, self.note):
            layout.addWidget(part)

    def _on_slider_value_changed(self, value: float) -> None:
        self.box.setValue(value)

    def _on_box_value_changed(self) -> None:
        self._sync()
        self.moved.emit()

    def _sync(self) -> None:
        """Bring slider and note to the box, the one holder of the value."""
        if not self.dragging:  # the hand is right while it holds the handle
            with quiet(self.slider):
                self.slider.setValue(self.box.value())
        outside = self.covariate.extrapolates(self.box.value())
        text = f"training range {range_text(self.covariate)}{self._origin()}"
        text = self._words or text
        self.note.setText(f"⚠ outside {text}" if outside else text)
        colour = self.colours.warning if outside else self.colours.faint
        set_style(self.note, f"color: {colour}; font-size: 10px;")
        box_colour = self.colours.warning if outside else self.colours.text
        # napari's padding of 10 px leaves too little room between the buttons
        set_style(self.box, f"color: {box_colour}; padding: 1px 3px;")

    def _origin(self) -> str:
        """Who says the range, and where the value lies in its 0..1."""
        if not self.covariate.range_from:
            return ""
        code = self.covariate.encode(self.box.value())
        return f" (from {self.covariate.range_from}); now {code:.2f} of 0..1"


class CategoryRow(QWidget):
    """Title and one button per category, exactly one pressed."""

    moved = Signal()
    released = Signal()

    def __init__(self, covariate: Covariate) -> None:
        super().__init__()
        self.covariate = covariate
        self.buttons = QButtonGroup(self)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        title = QLabel(covariate.title)
        title.setToolTip(covariate.description)
        layout.addWidget(title, 1)
        for category in covariate.categories:
            layout.addWidget(self._button(category))
        self.set_value(covariate.reference)
        self.buttons.buttonToggled.connect(self._on_buttons_toggled)

    @property
    def dragging(self) -> bool:
        """A button is never held."""
        return False

    def value(self) -> Value:
        """The category asked for."""
        pressed = self.buttons.checkedButton()
        assert pressed is not None, "one button is always pressed"
        return str(pressed.property("category"))

    def set_value(self, value: Value) -> None:
        """Show `value` without a signal."""
        with quiet(self.buttons):
            for button in self.buttons.buttons():
                button.setChecked(button.property("category") == value)

    def set_colours(self, colours: Colours) -> None:
        """Nothing to do: napari's own style colours buttons."""

    def _button(self, category: str) -> QPushButton:
        button = QPushButton(category)
        button.setProperty("category", category)
        button.setCheckable(True)
        button.setMinimumWidth(44)
        button.setAccessibleName(f"{self.covariate.title}: {category}")
        button.setToolTip(f"{self.covariate.title}: {category}")
        self.buttons.addButton(button)
        return button

    def _on_buttons_toggled(self, button: QPushButton, checked: bool) -> None:
        if checked:
            self.moved.emit()


Row = NumberRow | CategoryRow


FARTHEST = 3.0
"""Amount along a direction, in its unit, to either side."""


def amount_of(direction: Direction) -> Covariate:
    """The amount along `direction` as a number with a range."""
    told = f"{direction.description} 0 changes nothing."
    return Covariate(
        direction.name,
        direction.title,
        direction.unit,
        told,
        -FARTHEST,
        FARTHEST,
        0.0,
    )


def way_of(direction: Direction) -> NumberRow:
    """The slider of an amount along `direction`; 0 changes nothing."""
    words = f"±{FARTHEST:g} {direction.unit}; 0 changes nothing"
    return NumberRow(amount_of(direction), words)


def row_of(covariate: Covariate) -> Row:
    """The control that fits `covariate`."""
    return CategoryRow(covariate) if covariate.categories else NumberRow(covariate)
