"""Logs of a run: JSON lines and sample pictures always, TensorBoard where installed."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from trainer.loop import Report


class RunLog:
    """Writes reports into `folder`; `resume` appends to what is there.

    `log.jsonl` holds every report; sample pictures go to `NAME-STEP.npy` (rows,
    columns in [0, 1]) and, where TensorBoard is installed, into its event files.
    """

    def __init__(self, folder: Path, resume: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.lines = folder, folder / "log.jsonl"
        if not resume:
            self.lines.unlink(missing_ok=True)
        self.board = None
        if importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(folder))

    def write(self, report: Report) -> None:
        """Append one report."""
        plain = {k: v for k, v in asdict(report).items() if k != "pictures"}
        with self.lines.open("a", encoding="utf-8") as file:
            file.write(json.dumps(plain) + "\n")
        for name, picture in report.pictures.items():
            np.save(self.folder / f"{name}-{report.step:06d}.npy", picture)
        if self.board is not None:
            self._to_board(report)

    def _to_board(self, report: Report) -> None:
        assert self.board is not None
        for name, value in (report.losses | report.figures).items():
            self.board.add_scalar(name, value, report.step)
        for name, picture in report.pictures.items():
            self.board.add_image(name, picture[None], report.step)
        self.board.flush()

    @staticmethod
    def line(report: Report) -> str:
        """One line for the terminal: step, losses, figures, time left."""
        numbers = report.losses | report.figures
        values = "  ".join(f"{k} {v:.4g}" for k, v in numbers.items())
        return (
            f"step {report.step}/{report.total}  {values}  "
            f"{report.seconds_per_step:.2f} s/step, "
            f"{duration(report.seconds_left)} left"
        )


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, as "1:02:03"."""
    minutes, second = divmod(round(seconds), 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour}:{minute:02d}:{second:02d}"
