"""The scans that a user brought, each conformed once to the grid of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_brainldm.engine.conform import Conformed, Preparation, in_scan_space
from napari_brainldm.engine.convention import conform_to, prepared
from napari_brainldm.engine.request import EngineError
from napari_brainldm.engine.resources import segmenter_at_hand
from napari_brainldm.engine.segment import Segmenter, brain_finder
from napari_brainldm.engine.strip import check_way

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card
    from napari_brainldm.engine.volume import Volume


class Scans:
    """Scans by digest, prepared as the model of `card` needs them.

    Parameters
    ----------
    card
        Says grid and convention.
    device
        Where the brain is searched.
    segmenter
        Finds the brain; None for the bundled one, loaded when first needed.
    """

    def __init__(
        self, card: Card, device: str, segmenter: Segmenter | None = None
    ) -> None:
        self._card, self._device, self._segmenter = card, device, segmenter
        self._scans: dict[str, Volume] = {}
        self._preparations: dict[str, Preparation] = {}
        self._conformed: dict[str, Conformed] = {}

    def admit(self, scan: Volume, preparation: Preparation | None) -> tuple[str, bool]:
        """Digest of `scan`, and whether what was known of it no longer holds."""
        digest = scan.digest
        wanted = preparation or self._preparations.get(digest, Preparation())
        check_way(wanted.strip)
        self._scans.setdefault(digest, scan)
        anew = self._preparations.get(digest) != wanted
        if anew:
            self._conformed.pop(digest, None)
        self._preparations[digest] = wanted
        return digest, anew

    def keep(self, picture: Volume) -> str:
        """Digest of a picture that needs no preparation, see `Renderer.admit`."""
        digest = picture.digest
        self._scans[digest] = picture
        self._preparations[digest] = Preparation()
        self._conformed[digest] = prepared(picture)
        return digest

    def conformed(self, digest: str) -> Conformed:
        """The scan on the card's grid; computed once."""
        if digest not in self._scans:
            raise EngineError(
                f"The request starts from a scan ({digest[:12]}...) that is not loaded."
                " Open that scan first."
            )
        if digest not in self._conformed:
            self._conformed[digest] = conform_to(
                self._card,
                self._scans[digest],
                self._brain_finder(),
                self._preparations[digest],
            )
        return self._conformed[digest]

    def in_scan_space(self, digest: str, picture: Volume) -> Volume:
        """A picture of a scan, resampled into the scan's own voxels."""
        return in_scan_space(picture, self.conformed(digest), self._scans[digest].grid)

    def _brain_finder(self) -> Segmenter | None:
        """The segmenter given, else the bundled one if this tree has it."""
        path = segmenter_at_hand() if self._segmenter is None else None
        if path is not None:
            self._segmenter = brain_finder(path, self._device)
        return self._segmenter
