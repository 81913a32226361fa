"""Figures for a paper, looked at before they are written."""

from __future__ import annotations

from collections.abc import Mapping

from qtpy.QtCore import QRect, QSize, Qt
from qtpy.QtGui import QPainter, QPaintEvent, QPixmap
from qtpy.QtWidgets import (
    QSizePolicy,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from napari_brainldm.widgets.looks import scrolling, sentence_label

TITLES = {
    "glass-brain": "Glass brain",
    "slices": "Slices",
    "region-bars": "Regions",
}


class FigureView(QWidget):
    """A picture as large as its place allows, never larger than it is."""

    def __init__(self, name: str, content: bytes) -> None:
        super().__init__()
        self.picture = QPixmap()
        self.picture.loadFromData(content)
        self.setAccessibleName(name)
        policy = QSizePolicy.Policy.Expanding
        self.setSizePolicy(policy, policy)
        tall = self.picture.height() > self.picture.width() / 2
        # a wide one is seen whole; of a tall one the words would be too small
        self.setMinimumSize(160, self.picture.height() // 2 if tall else 90)

    def sizeHint(self) -> QSize:
        """A third of its dots: figures are made for print."""
        return QSize(self.picture.width() // 3, self.picture.height() // 3)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Draw it in the middle."""
        ratio = self.devicePixelRatioF()
        room = QSize(round(self.width() * ratio), round(self.height() * ratio))
        keep, smooth = Qt.AspectRatioMode, Qt.TransformationMode
        shown = self.picture
        if not (shown.width() <= room.width() and shown.height() <= room.height()):
            shown = shown.scaled(
                room, keep.KeepAspectRatio, smooth.SmoothTransformation
            )
        wide, high = round(shown.width() / ratio), round(shown.height() / ratio)
        left, top = (self.width() - wide) // 2, (self.height() - high) // 2
        QPainter(self).drawPixmap(QRect(left, top, wide, high), shown)


class FiguresPanel(QWidget):
    """One tab a figure."""

    def __init__(self) -> None:
        super().__init__()
        self.tabs, self.words = QTabWidget(), sentence_label("Figures")
        self.tabs.setDocumentMode(True)
        layout = QVBoxLayout(self)
        layout.addWidget(self.tabs, 1)
        layout.addWidget(self.words)
        self.clear()

    def clear(self) -> None:
        """There are none of what is compared now, until it is done."""
        self._empty()
        self.words.setText("Figures are drawn when the comparison is done.")

    def show_figures(self, drawn: Mapping[str, bytes]) -> None:
        """Show the contents of PNG files, by name; the tab in front stays."""
        place = max(self.tabs.currentIndex(), 0)
        self._empty()
        for name, content in drawn.items():
            title = TITLES[name]
            view = FigureView(title, content)
            self.tabs.addTab(scrolling(view, sideways=True), title)
        self.tabs.setCurrentIndex(place)
        self.words.setText("Export… writes them as PNG and SVG beside maps and tables.")

    def _empty(self) -> None:
        views = [self.tabs.widget(place) for place in range(self.tabs.count())]
        self.tabs.clear()  # which deletes no page
        for view in filter(None, views):
            view.deleteLater()
