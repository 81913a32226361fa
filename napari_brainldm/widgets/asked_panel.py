"""The table "Asked against got", and whether structures are shown."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import (
    QCheckBox,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QVBoxLayout,
    QWidget,
)

from napari_brainldm.engine.asked import beside
from napari_brainldm.widgets.looks import (
    DARK,
    Colours,
    named,
    quiet,
    sentence_label,
    set_style,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_brainldm.engine.asked import Findings, Line
    from napari_brainldm.widgets.comparison import Comparison
    from napari_brainldm.widgets.desk import Desk

HEADS = ("ml", "asked", "got", "difference")
BEFORE = ("ml", "reference", "now", "difference")
"""Where the model asks for no volume, and a picture is pinned."""

FOUND = ("ml", "", "now", "")
"""Where it asks for none, and none is pinned."""

WIDEST = ("", "8888", "8888", "−88.8", "−8.8 %")
"""Room kept in each column, so that the dock keeps its width when numbers change."""

NONE = "–"
TITLE, FOUND_TITLE = "Asked against got", "Measured volumes"


def digits(*values: float | None) -> int:
    """Digits behind the point that fit all of `values`: 1 below 100, else 0."""
    return 0 if any(abs(v) >= 100 for v in values if v is not None) else 1


def plain(value: float | None, behind: int) -> str:
    """`value` with `behind` digits behind the point; a dash for None."""
    return NONE if value is None else f"{value:.{behind}f}"


def signed(value: float | None, behind: int, unit: str = "") -> str:
    """`value` with its sign, but for zero; empty for None."""
    if value is None:
        return ""
    text = f"{value:+.{behind}f}"
    if not float(text):
        text = text[1:]
    return text.replace("-", "−") + unit


def percent_text(line: Line) -> str:
    """The difference in percent, with a digit behind the point below 10."""
    value = line.percent
    return signed(value, 1 if value is not None and abs(value) < 9.95 else 0, " %")


def told(line: Line, asked: str = "asked") -> str:
    """A line of the table as words, for a screen reader; `asked` is the column's."""
    behind = digits(line.asked, line.got)
    words = [f"{line.title}:"]
    if line.asked is not None:
        words.append(f"{asked} {plain(line.asked, behind)} ml,")
    words.append(f"got {plain(line.got, behind)} ml")
    if line.percent is not None:
        words.append(f"({signed(line.difference, behind)} ml, {percent_text(line)})")
    return " ".join(words) + "."


def _heads(lines: Sequence[Line]) -> tuple[str, ...]:
    return HEADS if any(line.asked is not None for line in lines) else FOUND


class LineLabels:
    """The five labels of one line: title, asked, got, difference, percent."""

    def __init__(self, line: Line) -> None:
        self._unknown = replace(line, asked=None, got=None)
        self.title = QLabel(line.title)
        self.asked, self.got, self.difference, self.percent = (
            QLabel() for _ in range(4)
        )
        for label in self.numbers:
            label.setAlignment(
                Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            )
        self.tell(line)

    @property
    def numbers(self) -> tuple[QLabel, ...]:
        """The labels to the right of the title."""
        return self.asked, self.got, self.difference, self.percent

    def tell(self, line: Line, asked: str = "asked") -> None:
        """Show the numbers of `line`; `asked` is the head of their first column."""
        behind = digits(line.asked, line.got)
        self.asked.setText("" if line.asked is None else plain(line.asked, behind))
        self.got.setText(plain(line.got, behind))
        self.difference.setText(signed(line.difference, behind))
        self.percent.setText(percent_text(line))
        for label in (self.title, *self.numbers):
            label.setToolTip(line.note)
            label.setAccessibleName(told(line, asked))

    def forget(self) -> None:
        """Show that nothing was measured."""
        self.tell(self._unknown)


class AskedPanel(QFrame):
    """Volumes asked for, and volumes measured in the newest final picture.

    Where the model asks for none: volumes of the pinned picture, and of this one.
    The numbers are those of one picture: dimmed while a newer one is made, gone when
    the picture shown was not measured.
    """

    toggled = Signal(bool)  # whether structures are wanted

    def __init__(self) -> None:
        super().__init__()
        self.colours = DARK
        self._fresh = False
        self._why_not = ""
        self._lines: dict[str, LineLabels] = {}
        self._heads: list[QLabel] = []
        self.title, self.state, self.rule = QLabel(TITLE), QLabel(), QFrame()
        self.excuse = sentence_label("Why pictures are not measured")
        self.structures = QCheckBox("Show structures")
        self.table = QWidget()
        self._grid = QGridLayout(self.table)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)  # for screen readers
        self.state.setAccessibleName("State of the measurement")
        tip = "Lay the structures found over the picture; hover for names and volumes"
        named(self.structures, "Show structures", tip)
        self.structures.toggled.connect(self.toggled)
        self._lay_out()
        self.set_colours(DARK)

    # -- what is shown ---------------------------------------------------------

    def prepare(self, lines: Sequence[Line]) -> None:
        """Make room for `lines`, none of them measured yet."""
        for label in self.table.findChildren(QLabel):
            self._grid.removeWidget(label)
            label.deleteLater()
        self._heads.clear()
        self._lines = {line.name: LineLabels(line) for line in lines}
        self._add_heads()
        self._entitle(_heads(lines))
        for row, labels in enumerate(self._lines.values(), start=1):
            for column, label in enumerate((labels.title, *labels.numbers)):
                self._grid.addWidget(label, row, column)
        self.forget("")
        self.title.ensurePolished()
        metrics = self.title.fontMetrics()
        for column, text in enumerate(WIDEST):
            self._grid.setColumnMinimumWidth(column, metrics.horizontalAdvance(text))

    def tell(self, found: Findings, pinned: Findings | None = None) -> None:
        """Show what was measured in the picture that is shown.

        Where the model asks for no volume it is compared with the pinned picture.
        """
        compared = beside(found.lines, pinned.lines) if pinned else ()
        lines = compared or found.lines
        heads = BEFORE if compared else _heads(lines)
        self._entitle(heads)
        for line in lines:
            self._lines[line.name].tell(line, heads[1])
        self.setToolTip(f"Measured in the picture shown by {found.method}")
        words = " ".join(told(line, heads[1]) for line in lines)
        self._say("", words, fresh=True)

    def wait(self) -> None:
        """Show that a newer picture is on its way: the numbers are of an older one."""
        self._say("updating …", "Being measured.")

    def follow(self, desk: Desk, comparison: Comparison) -> None:
        """Tell the numbers again whenever another reference is compared with."""
        self._desk, self._comparison = desk, comparison
        comparison.changed.connect(self._on_comparison_changed)

    def _on_comparison_changed(self) -> None:
        if self._desk.findings is not None:
            self.tell(self._desk.findings, self._comparison.pinned_findings)

    def forget(self, why: str = "not measured") -> None:
        """Show no numbers: the picture shown has none."""
        for labels in self._lines.values():
            labels.forget()
        self._say(why, why.capitalize())

    def excuse_itself(self, sentence: str) -> None:
        """Say in one line that pictures are not measured, `sentence` telling why."""
        self._why_not = sentence
        self.setAccessibleDescription(sentence)
        self.excuse.setVisible(bool(sentence))
        self.excuse.setToolTip(sentence)
        for part in (self.title, self.state, self.table, self.structures):
            part.setVisible(not sentence)

    def unset_wanted(self) -> None:
        """Say that structures are shown no longer."""
        self.set_wanted(False)

    def set_wanted(self, wanted: bool) -> None:
        """Show whether structures are wanted, without a signal."""
        with quiet(self.structures):
            self.structures.setChecked(wanted)

    def set_colours(self, colours: Colours) -> None:
        """Follow the theme."""
        self.colours = colours
        self._dress()

    # -- parts -----------------------------------------------------------------

    def _say(self, state: str, description: str, fresh: bool = False) -> None:
        self.state.setText(state)
        self.setAccessibleDescription(self._why_not or description)
        self._fresh = fresh
        self._dress()

    def _dress(self) -> None:
        """Full colour for numbers of the picture shown, faint for older ones."""
        # without napari's padding: there are five columns
        for label in (self.title, *(line.title for line in self._lines.values())):
            set_style(label, f"color: {self.colours.text}; padding: 0px;")
        for label in (self.state, self.excuse, *self._heads):
            set_style(label, f"color: {self.colours.faint}; padding: 0px;")
        colour = self.colours.text if self._fresh else self.colours.faint
        for labels in self._lines.values():
            for label in labels.numbers:
                set_style(label, f"color: {colour}; padding: 0px;")
        set_style(self.rule, f"background: {self.colours.bar};")
        focus = f"AskedPanel:focus {{ border: 1px solid {self.colours.accent}; }}"
        set_style(self, f"AskedPanel {{ border: 1px solid transparent; }} {focus}")

    def _entitle(self, heads: tuple[str, ...]) -> None:
        for label, words in zip(self._heads, heads, strict=True):
            label.setText(words)
        title = TITLE if heads is HEADS else FOUND_TITLE
        self.title.setText(title)
        self.setAccessibleName(title)

    def _add_heads(self) -> None:
        for column in range(len(HEADS)):
            head = QLabel()
            self._heads.append(head)
            side = Qt.AlignmentFlag.AlignRight if column else Qt.AlignmentFlag.AlignLeft
            head.setAlignment(side)
            self._grid.addWidget(head, 0, column, 1, 2 if column == 3 else 1)

    def _lay_out(self) -> None:
        self.excuse.setText("No segmenter at hand: not measured.")
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(7)
        self._grid.setVerticalSpacing(2)
        self._grid.setColumnStretch(0, 1)
        self.rule.setFixedHeight(1)
        head = QHBoxLayout()
        head.addWidget(self.title, 1)
        head.addWidget(self.state)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(5, 2, 0, 2)  # in line with the rows above
        layout.setSpacing(3)
        layout.addWidget(self.rule)
        layout.addLayout(head)
        for part in (self.table, self.excuse, self.structures):
            layout.addWidget(part)
