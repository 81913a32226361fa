"""Are a model's pictures copies of the scans it was trained on? What a card says."""

from __future__ import annotations

from dataclasses import dataclass

from napari_brainldm.engine.request import EngineError

NONE_FOUND = "no copies found"
COPIES = "copies"
INCONCLUSIVE = "inconclusive"

FEW = 10
"""So many pictures may be made of a model that copies, to look at them."""


@dataclass(frozen=True)
class CopyTest:
    """The result of `python -m trainer evaluate memorisation`.

    Attributes
    ----------
    verdict
        NONE_FOUND, COPIES, or INCONCLUSIVE: planted copies were not told from new
        people well enough for the test to say anything.
    pictures, flagged
        Pictures made, and those of them taken for copies.
    training, held_out
        Scans they were compared with.
    copies_found, false_alarms
        Shares of planted copies (of the change that hid them best), and of people the
        model never saw, that were taken for copies.
    """

    verdict: str
    pictures: int
    flagged: int
    training: int
    held_out: int
    copies_found: float
    false_alarms: float

    def sentence(self) -> str:
        """The result with what it rests on."""
        return (
            f"{self.verdict}: {self.flagged} of {self.pictures} pictures taken for "
            f"copies of {self.training} training scans; the test found "
            f"{100 * self.copies_found:.0f} % of planted copies at "
            f"{100 * self.false_alarms:.0f} % false alarms"
        )


def refuse_copies(test: CopyTest | None, count: int, allowed: bool) -> None:
    """Raise an EngineError if `count` pictures of a model that copies are asked for."""
    if test is None or test.verdict != COPIES or count <= FEW or allowed:
        return
    raise EngineError(
        f"This checkpoint's card says that it copies training scans ({test.sentence()})"
        f", so {count} pictures may show people it was trained on. Ask for at most "
        f"{FEW}, use another checkpoint, or, if those people agreed, say "
        "--despite-copies."
    )
