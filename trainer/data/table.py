"""Tab-separated tables; the engine reads them."""

from napari_brainldm.engine.table import read_rows

__all__ = ["read_rows"]
