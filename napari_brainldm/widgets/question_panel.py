"""The questions of a trial, answered by keys alone."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QLabel, QLineEdit, QVBoxLayout, QWidget

from napari_brainldm.widgets.looks import DARK, Colours, named, sentence_label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from napari_brainldm.review.protocols import Question
    from napari_brainldm.review.session import Value

FIRST, SECOND = int(Qt.Key.Key_F), int(Qt.Key.Key_J)
ENTER = (int(Qt.Key.Key_Return), int(Qt.Key.Key_Enter))
LONGEST = 9
"""Digits of a number."""


class QuestionPanel(QWidget):
    """Shows the questions, which one is next, and what was answered.

    It keeps no answer: who listens gives them back by `tell`.
    """

    answered = Signal(str, object)  # question, value

    def __init__(self) -> None:
        super().__init__()
        self._questions: tuple[Question, ...] = ()
        self._answers: Mapping[str, Value] = {}
        self._current = 0
        self._typed = ""
        self.colours: Colours = DARK
        self.words = sentence_label("Questions")
        self.words.setTextFormat(Qt.TextFormat.RichText)
        self.words.setTextInteractionFlags(Qt.TextInteractionFlag.NoTextInteraction)
        self.box, self.box_title = QLineEdit(), QLabel()
        named(self.box, "Words", "Enter keeps the words, Esc leaves")
        self.box.returnPressed.connect(self._on_box_returned)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.words)
        layout.addWidget(self.box_title)
        layout.addWidget(self.box)
        layout.addStretch(1)

    def ask(self, questions: Sequence[Question]) -> None:
        """Begin with the first of `questions`."""
        self._questions, self._current, self._typed = tuple(questions), 0, ""
        self._answers = {}
        self.box.clear()
        self.tell({})

    def tell(self, answers: Mapping[str, Value]) -> None:
        """Show what is answered."""
        taken_back = [
            place
            for place, question in enumerate(self._questions)
            if question.name in self._answers and question.name not in answers
        ]
        self._answers = answers
        if taken_back:
            self._current = taken_back[0]
        self._write()

    @property
    def current(self) -> Question | None:
        """The question that keys answer."""
        found = self._questions
        return found[self._current] if self._current < len(found) else None

    def press(self, key: int, text: str) -> bool:
        """Take a key; False when it is none of a question."""
        question = self.current
        if question is None:
            return False
        if key in (int(Qt.Key.Key_Tab), int(Qt.Key.Key_Backtab)):
            self._go(1 if key == int(Qt.Key.Key_Tab) else -1)
            return True
        takes = {
            "choice": self._press_choice,
            "ticks": self._press_ticks,
            "number": self._press_number,
            "words": self._press_words,
        }
        take = takes.get(question.kind)
        return take is not None and take(question, key, text)

    def settle(self) -> bool:
        """Hand out a number that was typed and not yet entered; whether there was."""
        question = self.current
        if question is None or question.kind != "number" or not self._typed:
            return False
        value = float(self._typed)
        self._typed = ""
        if value > 0:
            self.answered.emit(question.name, value)
        return value > 0

    def missing(self) -> str:
        """Text of the first needed question without an answer; empty when complete."""
        open_ = (q for q in self._questions if q.needed and q.name not in self._answers)
        return next((q.text for q in open_), "")

    def set_colours(self, colours: Colours) -> None:
        """Follow the theme."""
        self.colours = colours
        self._write()

    # -- keys ----------------------------------------------------------------------

    def _press_choice(self, question: Question, key: int, text: str) -> bool:
        place = int(text) if text.isdigit() else 0
        if len(question.options) == 2 and key in (FIRST, SECOND):
            place = 1 if key == FIRST else 2
        if not 1 <= place <= len(question.options):
            return False
        self.answered.emit(question.name, place)
        if question.name in self._answers:  # not when it came too early
            self._go_to_open()
        return True

    def _press_ticks(self, question: Question, key: int, text: str) -> bool:
        place = int(text) if text.isdigit() else 0
        if not 1 <= place <= len(question.options):
            return False
        before: Any = self._answers.get(question.name, [])
        option = question.options[place - 1]
        kept = [o for o in question.options if (o in before) != (o == option)]
        self.answered.emit(question.name, kept)
        return True

    def _press_number(self, question: Question, key: int, text: str) -> bool:
        if key in ENTER:
            return self.settle()
        if key == int(Qt.Key.Key_Backspace):
            self._typed = self._typed[:-1]
        elif text.isdigit() or (text == "." and "." not in self._typed and self._typed):
            self._typed = (self._typed + text)[:LONGEST]
        else:
            return False
        self._write()
        return True

    def _press_words(self, question: Question, key: int, text: str) -> bool:
        if key not in ENTER:
            return False
        self.box.setFocus()
        return True

    def _on_box_returned(self) -> None:
        question = self.current
        self.box.clearFocus()
        if question is not None and question.kind == "words":
            self.answered.emit(question.name, self.box.text())

    def _go(self, by: int) -> None:
        self.settle()
        self._current = (self._current + by) % max(1, len(self._questions))
        self._write()

    def _go_to_open(self) -> None:
        """On to the next question without an answer, after the current one."""
        later = range(self._current + 1, len(self._questions))
        names = [q.name for q in self._questions]
        self._current = next(
            (n for n in later if names[n] not in self._answers), self._current
        )
        self._write()

    # -- words ---------------------------------------------------------------------

    def _write(self) -> None:
        parts = [self._paragraph(n, q) for n, q in enumerate(self._questions)]
        self.words.setText("".join(parts))
        question = self.current
        typing = question is not None and question.kind == "words"
        self.box.setVisible(typing)
        self.box_title.setVisible(typing)
        self.box_title.setText("Enter: write, Enter again: done")

    def _paragraph(self, place: int, question: Question) -> str:
        now = place == self._current
        colour = self.colours.text if now else self.colours.faint
        answer = self._answers.get(question.name)
        head = f"<b>{escape(question.text)}</b>" if now else escape(question.text)
        body = self._options(question, answer) if now else self._short(question, answer)
        return f'<p style="color:{colour}">{head}{body}</p>'

    def _short(self, question: Question, answer: Value | None) -> str:
        if answer is None:
            return "" if question.needed else " <i>(may stay open)</i>"
        said = said_of(question, answer)
        return f' <span style="color:{self.colours.accent}">✓ {escape(said)}</span>'

    def _options(self, question: Question, answer: Any) -> str:
        if question.kind == "number":
            value = self._typed or ("" if answer is None else f"{answer:g}")
            return f'<br><span style="font-size:x-large">{value or "…"}</span>'
        if question.kind == "point":
            return f"<br>{'Marked.' if answer else 'Not marked; it may stay open.'}"
        if question.kind == "words":
            return f"<br>{escape(str(answer or ''))}"
        rows = (
            self._option(question, number, option, answer)
            for number, option in enumerate(question.options, start=1)
        )
        return f'<table cellpadding="3">{"".join(rows)}</table>'

    def _option(self, question: Question, number: int, option: str, answer: Any) -> str:
        chosen = (
            answer == number if question.kind == "choice" else option in (answer or ())
        )
        key = str(number)
        if len(question.options) == 2:
            key = "FJ"[number - 1]
        mark = "●" if chosen else "○"
        if question.kind == "ticks":
            mark = "☑" if chosen else "☐"
        colour = self.colours.accent if chosen else self.colours.text
        style = f'style="color:{colour}"'
        return (
            f"<tr><td {style}><b>{key}</b></td><td {style}>{mark}</td>"
            f"<td {style}>{escape(option)}</td></tr>"
        )


def said_of(question: Question, answer: Any) -> str:
    """`answer` in words."""
    if question.kind == "choice":
        return question.options[answer - 1]
    if question.kind == "ticks":
        return ", ".join(answer) or "none"
    if question.kind == "point":
        return "marked"
    return f"{answer:g}" if question.kind == "number" else str(answer)
