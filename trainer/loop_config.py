"""The settings of one run of the training loop."""

from __future__ import annotations

from dataclasses import dataclass

from napari_brainldm.engine.request import EngineError

AUTO = "auto"
PRECISIONS = (AUTO, "no", "bf16")
_EVERY = ("save_every", "log_every", "picture_every")


@dataclass(frozen=True)
class LoopConfig:
    """One run of the training loop.

    Attributes
    ----------
    steps
        Optimizer steps.
    batch, accumulate
        Samples per step over all processes = batch * accumulate.
    learning_rate, warmup
        Peak rate of AdamW; steps of linear warm-up, then cosine decay to a tenth.
    ema
        Decay of the averaged weights that are saved; 0 saves the raw ones.
    precision
        "no" or "bf16" (autocast); "auto" for bf16 where a short probe finds it right
        and faster. A processor without bf16 instructions takes ten times as long by it.
    save_every, log_every, picture_every
        Steps between states for resume, log lines, sample pictures.
    clip
        Largest norm of the gradient.
    milestones, decay
        Shares of the steps, 0 to 1, after each of which the rate is multiplied by
        `decay`, instead of the cosine; empty for the cosine.
    """

    steps: int = 1000
    batch: int = 1
    accumulate: int = 1
    learning_rate: float = 1e-4
    warmup: int = 50
    ema: float = 0.999
    precision: str = AUTO
    seed: int = 0
    save_every: int = 250
    log_every: int = 25
    picture_every: int = 500
    clip: float = 1.0
    milestones: tuple[float, ...] = ()
    decay: float = 0.1

    def __post_init__(self) -> None:
        """Refuse what no run can be made of."""
        for name in ("steps", "batch", "accumulate", *_EVERY):
            if getattr(self, name) < 1:
                raise EngineError(
                    f"loop.{name} is {getattr(self, name)}; at least 1 is needed. "
                    "Correct the config."
                )
        if self.precision not in PRECISIONS:
            raise EngineError(
                f"loop.precision is {self.precision!r}; known are "
                f"{', '.join(PRECISIONS)}. Choose one of these."
            )
        if not 0 <= self.ema < 1:
            raise EngineError(
                f"loop.ema is {self.ema:g}; a decay lies in 0 <= ema < 1. Correct it."
            )
