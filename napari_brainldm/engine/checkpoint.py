"""One file per model: the card and the weights in a .safetensors, loaded strictly."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from napari_brainldm.engine.card import KINDS, Card, without_autoencoder
from napari_brainldm.engine.files import write_whole, writing_into
from napari_brainldm.engine.fnc_edit import FncLaw
from napari_brainldm.engine.frozen import from_plain, to_plain
from napari_brainldm.engine.networks.autoencoder import AutoencoderSpec
from napari_brainldm.engine.networks.convolution import quicken
from napari_brainldm.engine.request import Conditions, EngineError

if TYPE_CHECKING:
    from napari_brainldm.engine.networks.segmenter import SegmenterNet
    from napari_brainldm.engine.networks.semantic_encoder import SemanticEncoder

N = TypeVar("N", bound=nn.Module, covariant=True)

FORMAT = "napari-brainldm 1"
HEADER = "napari-brainldm"
FOREIGN = (".pth", ".pt", ".ckpt")
"""Suffixes of files that torch wrote; these are imported."""

PROBE = "probe."  # a linear read-out of the conditions from a scan's latent


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A card and the weights it describes.

    Attributes
    ----------
    tensors
        float32, keyed "autoencoder.*", "denoiser.*", "encoder.*", "segmenter.*",
        "preview.*", "latent.mean", "semantic.*", "direction.*", "plane.*",
        "forecast.weight", "fnc.*", "network.*", "probe.*".
    sha256
        Of the file this was loaded from, hex; empty for one not yet saved.
    """

    card: Card
    tensors: Mapping[str, Tensor]
    sha256: str = ""

    def part(self, prefix: str) -> dict[str, Tensor]:
        """The tensors under `prefix`, which is removed."""
        start = prefix + "."
        return {
            k[len(start) :]: v for k, v in self.tensors.items() if k.startswith(start)
        }

    def autoencoder(self) -> nn.Module:
        """The autoencoder with its weights, in eval mode."""
        if self.card.autoencoder is None:
            raise EngineError(without_autoencoder(self.card.name))
        return _with_weights(self.card.autoencoder, self.part("autoencoder"))

    def denoiser(self) -> nn.Module:
        """The denoiser with its weights, in eval mode."""
        if self.card.denoiser is None:
            raise EngineError(
                f"{self.card.name} holds an autoencoder only, so it cannot make new "
                "pictures. Train the stage ldm on it, or load a brain LDM."
            )
        return _with_weights(self.card.denoiser, self.part("denoiser"))

    def semantic_encoder(self) -> SemanticEncoder:
        """The semantic encoder with its weights, in eval mode."""
        if self.card.encoder is None:
            raise EngineError(
                f"{self.card.name} holds no semantic encoder, so it has no directions "
                "to move a scan along. Load an LDAE checkpoint."
            )
        return _with_weights(self.card.encoder, self.part("encoder"))

    def latent_mean(self) -> Tensor:
        """What is taken off a latent before it is scaled: (C, i, j, k), or 0."""
        return self.tensors.get("latent.mean", torch.zeros(()))

    def fnc_law(self) -> FncLaw:
        """Mean, covariance and norms of the connectivity it was trained on."""
        if self.card.fnc is None:
            raise EngineError(
                f"{self.card.name} knows no functional connectivity. Load a GM-LDM "
                "checkpoint."
            )
        held = self.part("fnc")
        return FncLaw(*(held[f.name].numpy() for f in fields(FncLaw)))

    def read_out(self, latent: Tensor) -> Conditions:
        """Covariates that the linear read-out sees in a latent (1, C, i, j, k).

        `latent` is scaled as the card says. Clipped to the training range; the
        reference values where the checkpoint has no read-out.
        """
        probe = self.part("probe")
        if not probe:
            return self.card.complete(Conditions())
        codes = probe["weight"] @ latent.flatten().cpu() + probe["bias"]
        read = zip(self.card.vocabulary, codes.clamp(0.0, 1.0).tolist(), strict=True)
        return Conditions.of({c.name: c.decode(code) for c, code in read})

    def yearly(self, person: Conditions) -> Tensor:
        """What a year adds to the semantic code (E,) of `person`, by the forecast."""
        asked = torch.tensor((1.0, *self.card.person(person)))
        return asked @ self.part("forecast")["weight"]

    def segmenter(self) -> SegmenterNet:
        """The segmentation network with its weights, in eval mode."""
        if self.card.segmenter is None:
            raise EngineError(
                f"{self.card.name} holds no segmenter, so it cannot measure pictures. "
                "Load a checkpoint of the stage segmenter."
            )
        return _with_weights(self.card.segmenter, self.part("segmenter"))

    def network(self) -> nn.Module:
        """The network that stands alone, with its weights, in eval mode."""
        if self.card.network is None:
            raise EngineError(
                f"{self.card.name} holds no reader and no generator of a GAN. Load a "
                "checkpoint of the stages brain_age, sex, lsgan or vaegan."
            )
        return _with_weights(self.card.network, self.part("network"))


class Buildable(Protocol[N]):
    """A spec of a network."""

    def build(self) -> N:
        """The network with fresh weights."""


def _with_weights(spec: Buildable[N], weights: Mapping[str, Tensor]) -> N:
    """The network of `spec` with copies of the weights, which may lie in a file.

    Built without numbers of its own, for a large model's are many. Copies, because the
    file may change, and because sums depend on how numbers lie in memory.
    """
    with torch.device("meta"):
        network = spec.build()
    copies = {name: value.clone() for name, value in weights.items()}
    network.load_state_dict(copies, strict=True, assign=True)
    quicken(network)
    return network.eval()


def save_checkpoint(
    checkpoint: Checkpoint, path: Path, dtype: torch.dtype = torch.float32
) -> str:
    """Write `checkpoint` atomically and return the file's sha256.

    `dtype` float16 or bfloat16 halves the file; it is read back as float32.
    """
    tensors = {k: v.detach().cpu().to(dtype) for k, v in checkpoint.tensors.items()}
    header = metadata(checkpoint.card)
    payload = save({k: v.contiguous() for k, v in tensors.items()}, metadata=header)
    with writing_into(path.parent):
        write_whole(path, payload)
    return hashlib.sha256(payload).hexdigest()


def metadata(card: Card) -> dict[str, str]:
    """The header's entry: one, for safetensors writes several in a random order."""
    return {HEADER: json.dumps({"format": FORMAT, "card": to_plain(card)})}


def load_checkpoint(path: Path) -> Checkpoint:
    """Read and check a checkpoint.

    Raises
    ------
    EngineError
        If the file is missing, damaged, foreign, of an unknown kind, or its weights are
        not exactly the finite tensors that its card describes.
    """
    if not path.exists():
        raise EngineError(f"There is no checkpoint {path}. Choose an existing file.")
    if path.is_dir() or path.suffix in FOREIGN:
        raise EngineError(
            f"{path.name} holds weights as torch saves them, without a card. Bring "
            f"them in first: brainldm import {path} NEW.safetensors, or Open in the "
            "Explore dock."
        )
    try:
        card, tensors = _read(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise EngineError(
            f"{path.name} is not a readable .safetensors file ({error}). "
            "Download or copy it again."
        ) from error
    check_shapes(path.name, card, tensors)
    check_finite(path.name, tensors)
    return Checkpoint(card, tensors, file_sha256(path))


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> tuple[Card, dict[str, Tensor]]:
    with safe_open(path, framework="pt", device="cpu") as file:
        card = _card(path.name, file.metadata() or {})
        _refuse_repeated_keys(path)
        return card, {k: file.get_tensor(k).float() for k in file.keys()}  # noqa: SIM118


def _card(name: str, header: Mapping[str, str]) -> Card:
    plain = json.loads(header.get(HEADER, "{}"))
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        raise EngineError(
            f"{name} is a .safetensors file without a {FORMAT} card, so nothing says "
            "what its weights are. Load a checkpoint that this program's trainer wrote."
        )
    card = from_plain(Card, plain.get("card"), f"The card of {name}")
    if card.kind not in KINDS:
        raise EngineError(
            f"{name} is a checkpoint of the kind {card.kind!r}; this version opens "
            f"{', '.join(KINDS)}. Update napari-brainldm."
        )
    return card


def _refuse_repeated_keys(path: Path) -> None:
    """Refuse a tensor named twice: safetensors reads such a file without a word."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length)
    keys: Counter[str] = Counter()
    json.loads(header, object_pairs_hook=lambda pairs: keys.update(k for k, _ in pairs))
    known = {"dtype", "shape", "data_offsets", "__metadata__", HEADER}
    twice = [k for k, n in keys.items() if n > 1 and k not in known]
    if twice:
        raise EngineError(
            f"{path.name} names the tensor {twice[0]!r} twice, so it was tampered with "
            "or damaged. Get it again from its source."
        )


def expected_shapes(card: Card) -> dict[str, tuple[int, ...]]:
    """Tensor name to shape, as the card's specs build them (without the probe)."""
    with torch.device("meta"):
        specs = {
            "autoencoder": card.autoencoder,
            "denoiser": card.denoiser,
            "encoder": card.encoder,
            "segmenter": card.segmenter,
            "network": card.network,
        }
        parts: dict[str, nn.Module] = {
            name: spec.build() for name, spec in specs.items() if spec is not None
        }
        if card.preview is not None and isinstance(card.autoencoder, AutoencoderSpec):
            parts["preview"] = card.preview.build(card.autoencoder)
    shapes: dict[str, tuple[int, ...]] = {
        f"{part}.{key}": tuple(tensor.shape)
        for part, network in parts.items()
        for key, tensor in network.state_dict().items()
    }
    if card.latent_centred:
        shapes["latent.mean"] = card.latent_shape
    if card.plane is not None and card.encoder is not None:
        groups = len(card.plane.groups)
        shapes["plane.axes"] = (2, card.encoder.code_size)
        shapes |= {"plane.centres": (groups, 2), "plane.spreads": (groups, 2, 2)}
    if card.forecast and card.encoder is not None:
        terms = 1 + len(card.forecast)
        shapes["forecast.weight"] = (terms, card.encoder.code_size)
    return shapes | _direction_shapes(card) | _fnc_shapes(card)


def _direction_shapes(card: Card) -> dict[str, tuple[int, ...]]:
    if card.encoder is None or not card.directions:
        return {}
    size = (card.encoder.code_size,)
    shapes: dict[str, tuple[int, ...]] = {"semantic.mean": size, "semantic.std": size}
    for direction in card.directions:
        place = f"direction.{direction.name}"
        shapes |= {f"{place}.move": size, f"{place}.weight": size, f"{place}.bias": ()}
    return shapes


def _fnc_shapes(card: Card) -> dict[str, tuple[int, ...]]:
    if card.fnc is None:
        return {}
    pairs = card.fnc.pairs
    return {
        "fnc.mean": (pairs,),
        "fnc.factors": (card.fnc.rank, pairs),
        "fnc.rest": (pairs,),
        "fnc.norms": (2,),
    }


def check_shapes(name: str, card: Card, tensors: Mapping[str, Tensor]) -> None:
    """Raise an EngineError unless `tensors` are exactly those that `card` describes."""
    found = {k: tuple(v.shape) for k, v in tensors.items() if not k.startswith(PROBE)}
    expected = _build_shapes(name, card)
    if told := differing(found, expected):
        raise EngineError(
            f"{name} does not hold the weights its card describes: {told}. Get it "
            "again."
        )


def differing(
    found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]
) -> str:
    """How many shapes differ, and the first that does; empty for none."""
    names = found.keys() | expected.keys()
    wrong = sorted(k for k in names if found.get(k) != expected.get(k))
    if not wrong:
        return ""
    one, other = (shapes.get(wrong[0], "nothing") for shapes in (found, expected))
    return (
        f"{len(wrong)} tensors differ, the first is {wrong[0]!r} with {one} where "
        f"{other} is needed"
    )


def check_finite(name: str, tensors: Mapping[str, Tensor]) -> None:
    """Raise an EngineError if a number in `tensors` is not finite."""
    broken = [k for k, v in tensors.items() if not bool(torch.isfinite(v).all())]
    if broken:
        raise EngineError(
            f"{name} holds numbers that are not finite in {broken[0]!r}. "
            "Its training diverged or the file is damaged; use another checkpoint."
        )


def _build_shapes(name: str, card: Card) -> dict[str, tuple[int, ...]]:
    try:
        return expected_shapes(card)
    except (ValueError, RuntimeError, TypeError, ArithmeticError, IndexError) as error:
        raise EngineError(
            f"The card of {name} describes networks that cannot be built ({error}). "
            "Get the checkpoint again from its source."
        ) from error


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """Everything `brainldm info` tells, as plain values."""
    weights = sum(v.numel() for v in checkpoint.tensors.values())
    return to_plain(checkpoint.card) | {
        "sha256": checkpoint.sha256,
        "parameters": weights,
    }
