"""What NAME=VALUE words on the command line ask for."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from napari_brainldm.engine.request import Conditions, EngineError, Value

if TYPE_CHECKING:
    from napari_brainldm.engine.card import Card

Words = tuple[tuple[str, ...], ...]
"""As tyro gives an option that takes several words and may be repeated."""


def conditions_of(card: Card, settings: Words) -> Conditions:
    """All conditions of `card`, those of `settings` in place of the reference."""
    return card.complete(Conditions.of(settings_of(card, settings)))


def settings_of(card: Card, settings: Words) -> dict[str, Value]:
    """Covariate name to value from NAME=VALUE words; a word twice takes the last."""
    pairs = _pairs(settings, "NAME=VALUE, for example age=70")
    return {name: card.parse(name, value) for name, value in pairs}


def person_of(card: Card, settings: Words) -> Conditions:
    """What the forecast of `card` asks of a person, from NAME=VALUE words."""
    pairs = _pairs(settings, "NAME=VALUE, for example diagnosis=AD")
    found = Conditions.of({n: card.question(n).parse(v) for n, v in pairs})
    card.person(found)  # a card without a forecast says so
    return found


def shift_of(card: Card, settings: Words) -> tuple[tuple[str, float], ...]:
    """Amount along each direction from NAME=AMOUNT words, sorted by name."""
    found = {}
    for name, value in _pairs(settings, "NAME=AMOUNT, for example AD=2"):
        try:
            found[card.direction(name).name] = float(value)
        except ValueError:
            raise EngineError(
                f"{value!r} is no amount along {name}. Write a number, for example "
                f"{name}=2."
            ) from None
    if not all(map(math.isfinite, found.values())):
        raise EngineError(f"The amounts {found} are not all finite. Write numbers.")
    return tuple(sorted(found.items()))


def _pairs(settings: Words, form: str) -> Iterator[tuple[str, str]]:
    for word in (word for words in settings for word in words):
        name, equals, value = word.partition("=")
        if not equals:
            raise EngineError(f"{word!r} is not a setting. Write {form}.")
        yield name, value
