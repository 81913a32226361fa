"""Undo and redo over requests: plain values, no Qt."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_brainldm.engine.request import Request

MOST = 200
"""Requests remembered; the oldest are forgotten."""


class History:
    """The final pictures asked for, in order, and where in them we are.

    A step is taken when its picture is shown: until then it may be refused or stopped.
    """

    def __init__(self) -> None:
        self._requests: list[Request] = []
        self._place = -1
        self._steps = 0  # asked for, not yet taken

    @property
    def can_undo(self) -> bool:
        """Whether there is an earlier request."""
        return self._place + self._steps > 0

    @property
    def can_redo(self) -> bool:
        """Whether there is a later request."""
        return self._place + self._steps < len(self._requests) - 1

    @property
    def state(self) -> tuple[tuple[Request, ...], int]:
        """All requests in order, and the place of the one shown."""
        return tuple(self._requests), self._place

    def restore(self, requests: Sequence[Request], place: int) -> None:
        """Take over a former `state`."""
        self._requests = list(requests)[-MOST:]
        self._place = min(max(place, 0), len(self._requests) - 1)
        self._steps = 0

    def visit(self, request: Request) -> None:
        """Remember `request` as the newest; what was undone is forgotten.

        The same request again changes nothing. One that was stepped to is no new one.
        """
        there, self._steps = self._place + self._steps, 0
        if self._requests and self._requests[there] == request:
            self._place = there
            return
        if self._requests and self._requests[self._place] == request:
            return
        self._requests = [*self._requests[: self._place + 1], request][-MOST:]
        self._place = len(self._requests) - 1

    def undo(self) -> Request | None:
        """Step back; None at the first."""
        return self._step(-1) if self.can_undo else None

    def redo(self) -> Request | None:
        """Step forward; None at the last."""
        return self._step(1) if self.can_redo else None

    def clear(self) -> None:
        """Forget everything: another checkpoint understands other requests."""
        self._requests, self._place, self._steps = [], -1, 0

    def stay(self) -> None:
        """Forget the steps that were asked for: their picture does not come."""
        self._steps = 0

    def _step(self, by: int) -> Request:
        self._steps += by
        return self._requests[self._place + self._steps]
