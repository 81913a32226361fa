"""The region table: search, sort, go there, export."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import (
    QAbstractTableModel,
    QModelIndex,
    QPersistentModelIndex,
    QSortFilterProxyModel,
    Qt,
    Signal,
)
from qtpy.QtWidgets import (
    QComboBox,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLineEdit,
    QPushButton,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from napari_brainldm.engine.atlas_fetch import SOURCES, Source
from napari_brainldm.engine.files import write_whole, writing_into
from napari_brainldm.engine.regions import Table
from napari_brainldm.engine.request import EngineError
from napari_brainldm.widgets.looks import agreed, named, sentence_label

if TYPE_CHECKING:
    from napari_brainldm.engine.regions import Row

Index = QModelIndex | QPersistentModelIndex
SORTED = Qt.ItemDataRole.UserRole
EMPTY = Table("", ("region",), ())
SMALLEST = 0.0005
"""Numbers below it are told by their first digit: no p is 0."""

STRUCTURES, BUNDLED, OPEN = "structures", "bundled", "open"


class RegionModel(QAbstractTableModel):
    """A `Table` as Qt wants it; numbers sort as numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.table = EMPTY

    def show_table(self, table: Table) -> None:
        """Show another table."""
        self.beginResetModel()
        self.table = table
        self.endResetModel()

    def rowCount(self, parent: Index | None = None) -> int:
        """One row a region."""
        return len(self.table.rows)

    def columnCount(self, parent: Index | None = None) -> int:
        """The name and the values."""
        return len(self.table.heads)

    def headerData(self, section: int, orientation: Any, role: int = 0) -> Any:
        """The heads; no numbers before the rows."""
        across = orientation == Qt.Orientation.Horizontal
        if role == Qt.ItemDataRole.DisplayRole and across:
            return self.table.heads[section]
        return None

    def data(self, index: Index, role: int = 0) -> Any:
        """Text to show, numbers to sort by."""
        row, column = self.table.rows[index.row()], index.column()
        value = row.name if column == 0 else row.values[column - 1]
        if role == Qt.ItemDataRole.DisplayRole:
            return value if isinstance(value, str) else number_text(value)
        if role == SORTED:
            return -math.inf if value is None else value
        numbers = bool(column) and not isinstance(value, str)
        if role == Qt.ItemDataRole.TextAlignmentRole and numbers:
            return int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return None


class RegionsPanel(QWidget):
    """Which regions, a search box, the table, and its export.

    Parameters
    ----------
    of_structures
        Whether structures of the picture can be chosen, beside atlases.
    file
        Name of its file, as it is first offered.

    Signals
    -------
    wanted
        Another table is wanted: "structures", "bundled", a key of `SOURCES`, or the
        paths of an atlas.
    gone_to
        (x, y, z) in mm of the region that was clicked.
    """

    wanted = Signal(object)
    gone_to = Signal(tuple)
    failed = Signal(str)

    def __init__(self, of_structures: bool = True, file: str = "regions.tsv") -> None:
        super().__init__()
        self._file = file
        self.source, self.search = QComboBox(), QLineEdit()
        self.export, self.words = QPushButton("Export TSV…"), sentence_label("Table")
        self.model, self.sorted = RegionModel(), QSortFilterProxyModel(self)
        self.view = QTableView()
        self._chosen: object = STRUCTURES if of_structures else BUNDLED
        self._agreed: set[Source] = set()
        self._set_up()
        self._lay_out()
        self.source.activated.connect(self._on_source_activated)
        self.search.textChanged.connect(self.sorted.setFilterFixedString)
        self.export.clicked.connect(self._on_export_clicked)
        self.view.clicked.connect(self._on_view_clicked)
        self.view.activated.connect(self._on_view_clicked)

    @property
    def chosen(self) -> object:
        """What the table is to hold, as `wanted` tells it."""
        return self._chosen

    def show_table(self, table: Table) -> None:
        """Show `table`; order and search stay."""
        self.model.show_table(table)
        self.words.setText(table.title)
        self.export.setEnabled(bool(table.rows))

    def selected(self) -> Row | None:
        """The row under the cursor."""
        index = self.sorted.mapToSource(self.view.currentIndex())
        return self.model.table.rows[index.row()] if index.isValid() else None

    def _on_source_activated(self, place: int) -> None:
        kind = self.source.itemData(place)
        if kind == OPEN:
            self._open()
        elif kind in SOURCES and not self._may_download(SOURCES[kind]):
            self._put_back()
        else:
            self._chosen = kind
            self.wanted.emit(kind)

    def _may_download(self, source: Source) -> bool:
        """Whether the user agrees to the download; asked until it is so."""
        if source not in self._agreed and download_agreed(self, source):
            self._agreed.add(source)
        return source in self._agreed

    def _put_back(self) -> None:
        self.source.setCurrentIndex(self.source.findData(self._chosen))

    def _open(self) -> None:
        picture, _ = QFileDialog.getOpenFileName(
            self, "Label map in MNI space", "", "NIfTI (*.nii *.nii.gz)"
        )
        names = ""
        if picture:
            names, _ = QFileDialog.getOpenFileName(
                self, "Names of its regions", "", "Tables (*.tsv *.csv *.txt)"
            )
        if not names:
            self._put_back()
            return
        paths = (picture, names)
        self.source.insertItem(self.source.count() - 1, Path(picture).name, paths)
        self.source.setCurrentIndex(self.source.count() - 2)
        self._chosen = paths
        self.wanted.emit(paths)

    def _on_view_clicked(self, index: QModelIndex) -> None:
        row = self.model.table.rows[self.sorted.mapToSource(index).row()]
        if row.centre is not None:
            self.gone_to.emit(row.centre)

    def _on_export_clicked(self) -> None:
        name, _ = QFileDialog.getSaveFileName(
            self, "Export the table", self._file, "Tab-separated (*.tsv)"
        )
        if not name:
            return
        path = Path(name)
        try:
            with writing_into(path.parent):
                write_whole(path, self.model.table.to_tsv().encode())
        except EngineError as error:
            self.failed.emit(str(error))

    def _set_up(self) -> None:
        if self._chosen == STRUCTURES:
            self.source.addItem("Structures of the picture", STRUCTURES)
        self.source.addItem("Desikan-Killiany atlas", BUNDLED)
        for key, source in SOURCES.items():
            self.source.addItem(f"{source.title} (download)…", key)
        self.source.addItem("Open an atlas…", OPEN)
        self.search.setPlaceholderText("Search")
        self.search.setClearButtonEnabled(True)
        named(self.source, "Regions of", "Which regions the table holds")
        named(self.search, "Search regions", "Show only regions with this in the name")
        named(self.export, "Export TSV", "Write the whole table, tab-separated")
        self.export.setEnabled(False)
        self.sorted.setSourceModel(self.model)
        self.sorted.setSortRole(SORTED)
        self.sorted.setFilterCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        self.view.setModel(self.sorted)
        self.view.setSortingEnabled(True)
        self.view.sortByColumn(-1, Qt.SortOrder.AscendingOrder)  # as they come
        self.view.setSelectionBehavior(QTableView.SelectionBehavior.SelectRows)
        self.view.setAccessibleName("Region table")
        self.view.setToolTip("Click a region to go there")
        self.view.verticalHeader().hide()
        self.view.horizontalHeader().setSectionResizeMode(
            QHeaderView.ResizeMode.ResizeToContents
        )

    def _lay_out(self) -> None:
        head = QHBoxLayout()
        head.addWidget(self.source)
        head.addWidget(self.search, 1)
        head.addWidget(self.export)
        layout = QVBoxLayout(self)
        layout.addLayout(head)
        layout.addWidget(self.view, 1)
        layout.addWidget(self.words)


def download_agreed(parent: QWidget, source: Source) -> bool:
    """Ask whether `source` may be downloaded; its licence and origin are shown."""
    details = (
        f"{source.origin}\n\nLicence: {source.licence}\n\nIt is downloaded from "
        f"{source.host} into nilearn's data folder, unless it is there already."
    )
    question = f"Download the atlas {source.title}?"
    return agreed(parent, source.title, question, details, "Download")


def number_text(value: float | None) -> str:
    """Three digits or so of `value`, one of a tiny one.

    A dash for None, "new" for without bound.
    """
    if value is None:
        return "–"
    if isinstance(value, int):  # a count
        return str(value)
    if math.isinf(value):
        return "new"
    digits = 0 if abs(value) >= 100 else 2 if abs(value) >= 1 else 3
    small = 0 < abs(value) < SMALLEST
    told = f"{value:.1g}" if small else f"{value:.{digits}f}"
    return told.replace("-", "−")
