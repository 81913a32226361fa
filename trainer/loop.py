"""The one training loop: a generator of reports, resumable to the bit.

Order and noise of every sample are functions of (seed, step, position), never of a
global random state, so a resumed run sees what an uninterrupted one would have seen.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn

from napari_brainldm.engine.request import EngineError
from trainer.processes import on_processor, processes, settled
from trainer.state import load_state, save_state, saved_precision

if TYPE_CHECKING:
    from napari_brainldm.engine.checkpoint import Checkpoint
    from trainer.loop_config import LoopConfig

Losses = dict[str, Tensor]
Loss = Callable[[nn.Module, "Batch", Any, int], tuple[Losses, Any]]
"""(network, batch, carried from the player before, step) -> losses, to carry on."""


@dataclass(frozen=True)
class Item:
    """One sample: which one, and the seed of its own randomness."""

    index: int
    seed: int


Batch = Sequence[Item]


@dataclass(frozen=True, eq=False)
class Player:
    """A network with its own optimizer; the sum of its losses is minimised."""

    name: str
    network: nn.Module
    loss: Loss
    learning_rate: float = 1.0
    betas: tuple[float, float] = (0.9, 0.999)


class Stage(Protocol):
    """What the loop needs to know of a stage."""

    name: str
    count: int
    players: tuple[Player, ...]

    def finish(self, weights: Mapping[str, Tensor]) -> Checkpoint:
        """The checkpoint with the first player's trained `weights`."""

    def pictures(self, weights: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
        """Sample pictures (rows, columns) in [0, 1] for the log."""

    def held_out(self, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """Figures on held-out subjects."""


@dataclass(frozen=True)
class Report:
    """One logged step: losses, held-out figures, speed; the pictures when due."""

    step: int
    total: int
    losses: dict[str, float]
    seconds_per_step: float
    figures: dict[str, float]
    pictures: dict[str, np.ndarray]

    @property
    def seconds_left(self) -> float:
        """Expected time to the end, at the present speed."""
        return (self.total - self.step) * self.seconds_per_step


def items(config: LoopConfig, count: int, step: int, rank: int, world: int) -> Batch:
    """The samples of `step` on process `rank` of `world`.

    Epochs are permutations seeded by (seed, epoch). The samples of a step are dealt out
    to the processes, so any `world` sees the same ones at the same step.
    """
    size = config.batch * config.accumulate
    positions = range(step * size + rank, (step + 1) * size, world)
    return [_item(config.seed, count, position) for position in positions]


def _item(seed: int, count: int, position: int) -> Item:
    epoch, place = divmod(position, count)
    order = np.random.default_rng((seed, epoch)).permutation(count)
    own = np.random.default_rng((seed, 1, position)).integers(2**62)
    return Item(int(order[place]), int(own))


def rate(config: LoopConfig, step: int) -> float:
    """Learning rate at `step` as a fraction of the peak."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    if config.milestones:
        passed = sum(step >= share * config.steps for share in config.milestones)
        return float(config.decay**passed)
    done = (step - config.warmup) / max(config.steps - config.warmup, 1)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * min(done, 1.0)))


class Training:
    """The mutable half of a run: networks, optimizers, averaged weights, step."""

    def __init__(
        self, stage: Stage, config: LoopConfig, device: str, before: str = ""
    ) -> None:
        processes(device)
        self.stage, self.config = stage, config
        self.accelerator = Accelerator(
            mixed_precision=settled(config.precision, device, before),
            cpu=on_processor(device),
            # a network may be asked several times a step; buffers must lie still
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        )
        _check_shares(config, self.accelerator.num_processes)
        self.step = 0
        self.networks = {}
        self.optimizers = {}
        for player in stage.players:
            optimizer = torch.optim.AdamW(
                player.network.parameters(),
                lr=config.learning_rate * player.learning_rate,
                betas=player.betas,
                weight_decay=0.0,
            )
            prepared = self.accelerator.prepare(player.network, optimizer)
            self.networks[player.name], self.optimizers[player.name] = prepared
        self.average = copy.deepcopy(self.raw())

    def raw(self) -> dict[str, Tensor]:
        """The first player's weights as they are."""
        first = self.stage.players[0].name
        network = self.accelerator.unwrap_model(self.networks[first])
        return {k: v.detach() for k, v in network.state_dict().items()}

    def weights(self) -> dict[str, Tensor]:
        """The weights to keep: averaged, or raw when no average is wished."""
        return self.average if self.config.ema > 0 else self.raw()

    def advance(self) -> dict[str, float]:
        """One optimizer step of every player; their losses."""
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        batch = items(self.config, self.stage.count, self.step, rank, world)
        micro = _parts(batch, self.config.accumulate)
        carried: list[Any] = [None] * len(micro)
        found: dict[str, float] = {}
        for player in self.stage.players:
            losses, carried = self._play(player, micro, carried)
            found |= losses
        self.step += 1
        self._update_average()
        return found

    def _play(
        self, player: Player, micro: list[Batch], carried: list[Any]
    ) -> tuple[dict[str, float], list[Any]]:
        network, optimizer = self.networks[player.name], self.optimizers[player.name]
        peak = self.config.learning_rate * player.learning_rate
        for group in optimizer.param_groups:
            group["lr"] = peak * rate(self.config, self.step)
        optimizer.zero_grad()
        found: dict[str, float] = {}
        onward = []
        for number, (part, before) in enumerate(zip(micro, carried, strict=True)):
            self._seed(player, number)
            # the way forward too: it settles whether the way back meets the others
            with self._apart(network, last=part is micro[-1]):
                with self.accelerator.autocast():
                    losses, after = player.loss(network, part, before, self.step)
                if losses:
                    total = torch.stack(list(losses.values())).sum()
                    self.accelerator.backward(total / len(micro))
            onward.append(after)
            for name, value in losses.items():
                found[name] = found.get(name, 0.0) + float(value.detach()) / len(micro)
        if found:
            self._step(network, optimizer)
        return found, onward

    def _seed(self, player: Player, part: int) -> None:
        """What dropout draws is a function of the place in the run, as all else is."""
        place = self.stage.players.index(player), self.step, part
        own = (self.config.seed, 2, *place, self.accelerator.process_index)
        torch.manual_seed(int(np.random.default_rng(own).integers(2**62)))

    def _apart(self, network: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Let gradients add up before the `last` part: processes meet once a step."""
        held: AbstractContextManager[None] = self.accelerator.no_sync(network)
        return nullcontext() if last else held

    def _step(self, network: nn.Module, optimizer: Any) -> None:
        weights, clip = network.parameters(), self.config.clip
        norm = self.accelerator.clip_grad_norm_(weights, clip)
        # seen: oneDNN's bfloat16 weight gradients of 2 x 2 x 2 inputs are rubbish
        if norm is not None and not math.isfinite(float(norm)):
            raise EngineError(
                f"The gradient of step {self.step} is not finite: training diverged. "
                'Set precision = "no" or a lower learning_rate in the config, and go '
                "on from the last saved state with --resume."
            )
        optimizer.step()

    @torch.no_grad()
    def _update_average(self) -> None:
        # a shorter memory at the start, so that the random initial weights fade
        decay = min(self.config.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.raw().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    def mean(self, losses: dict[str, float]) -> dict[str, float]:
        """The mean of `losses` over the processes: those of the whole batch."""
        if self.accelerator.num_processes == 1:
            return losses
        names = sorted(losses)
        told = torch.tensor([losses[n] for n in names], dtype=torch.float64)
        found = self.accelerator.reduce(told.to(self.accelerator.device), "mean")
        return dict(zip(names, found.tolist(), strict=True))

    def save(self, path: Path) -> None:
        """Write everything needed to go on, atomically, from the main process."""
        if self.accelerator.is_main_process:
            self._write(path)
        self.accelerator.wait_for_everyone()

    def _write(self, path: Path) -> None:
        parts = {f"network/{k}": self._unwrapped(k).state_dict() for k in self.networks}
        parts["average/"] = self.average
        optimizers = {k: v.state_dict() for k, v in self.optimizers.items()}
        precision = str(self.accelerator.mixed_precision)
        save_state(path, self.step, parts, optimizers, precision)

    def load(self, path: Path) -> None:
        """Go on from what `save` wrote; EngineError if it is of other networks."""
        step, parts, optimizers = load_state(path)
        try:
            for name in self.networks:
                self._unwrapped(name).load_state_dict(parts[f"network/{name}"])
                self.optimizers[name].load_state_dict(optimizers[name])
        except (RuntimeError, KeyError, ValueError) as error:
            raise EngineError(
                f"{path} is the state of a run with other networks than this config. "
                "Take the config it was started with, or start without --resume."
            ) from error
        self.step = step
        device = self.accelerator.device
        self.average = {k: v.to(device) for k, v in parts["average/"].items()}

    def _unwrapped(self, name: str) -> nn.Module:
        network: nn.Module = self.accelerator.unwrap_model(self.networks[name])
        return network


def _check_shares(config: LoopConfig, world: int) -> None:
    if config.batch % world:
        raise EngineError(
            f"A batch of {config.batch} cannot be dealt evenly to {world} processes. "
            "Set batch to a multiple of the number of processes."
        )


def _parts(batch: Batch, count: int) -> list[Batch]:
    size = max(len(batch) // count, 1)
    return [batch[i : i + size] for i in range(0, len(batch), size)]


def train(
    stage: Stage, config: LoopConfig, state: Path, resume: bool, device: str = ""
) -> Iterator[Report]:
    """Train `stage`, saving its state to `state`; reports every log_every steps.

    The state is saved every save_every steps and at the end; `resume` goes on from it.
    """
    going_on = resume and state.is_file()
    # measured again, "auto" might turn out otherwise on a busier machine
    before = saved_precision(state) if going_on else ""
    training = Training(stage, config, device, before)
    if going_on:
        training.load(state)
    started, first = time.perf_counter(), training.step
    while training.step < config.steps:
        losses = training.advance()
        step, ended = training.step, training.step == config.steps
        if step % config.save_every == 0 or ended:
            training.save(state)
        if step % config.log_every == 0 or ended:
            seconds = (time.perf_counter() - started) / (step - first)
            yield _report(training, training.mean(losses), seconds)


def _report(training: Training, losses: dict[str, float], seconds: float) -> Report:
    stage, config, step = training.stage, training.config, training.step
    figures: dict[str, float] = {}
    pictures: dict[str, np.ndarray] = {}
    due = step % config.picture_every == 0 or step == config.steps
    if due and training.accelerator.is_main_process:
        figures = stage.held_out(training.weights())
        pictures = stage.pictures(training.weights())
    return Report(step, config.steps, losses, seconds, figures, pictures)


def trained(stage: Stage, state: Path) -> Checkpoint:
    """The checkpoint of a finished run, from its saved state."""
    _, parts, _ = load_state(state)
    return stage.finish(parts["average/"])
