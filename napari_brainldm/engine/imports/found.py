"""What an import hands on: a card, tensors still on the disk, and the terms of use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from napari_brainldm.engine.card import Card


@dataclass(frozen=True)
class Terms:
    """What may be done with foreign weights, told before their first use.

    Attributes
    ----------
    title
        Whose weights they are.
    text
        Licence and limits, in sentences.
    open
        Whether the licence allows any use; otherwise it has to be agreed to.
    """

    title: str
    text: str
    open: bool


@dataclass(frozen=True, eq=False)
class Found:
    """A foreign checkpoint, understood but not yet written as ours.

    Attributes
    ----------
    card
        As our own checkpoints have it.
    tensors
        Under our names, memory-mapped, in the precision they were saved in.
    terms
        Of the weights.
    told
        What was recognised, sentences.
    """

    card: Card
    tensors: Mapping[str, Tensor]
    terms: Terms
    told: tuple[str, ...] = ()
