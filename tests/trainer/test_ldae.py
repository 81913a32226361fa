"""Stage ldae: a code explains what the frozen denoiser leaves."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from napari_brainldm.engine import diffusion
from napari_brainldm.engine.card import Card, ScheduleSpec
from napari_brainldm.engine.checkpoint import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from napari_brainldm.engine.networks.gradient_estimator import GradientEstimatorSpec
from napari_brainldm.engine.networks.semantic_encoder import SemanticEncoderSpec
from napari_brainldm.engine.networks.unet import UNetSpec
from napari_brainldm.engine.renderer import Renderer, finish
from napari_brainldm.engine.request import (
    Conditions,
    EngineError,
    Request,
    Sampler,
    Scan,
)
from napari_brainldm.engine.volume import Volume
from tests.trainer import toys
from trainer.config import (
    LdaeConfig,
    LdmConfig,
    SupervisedConfig,
    Target,
    load_config,
)
from trainer.loop import Item, train, trained
from trainer.stages import representation
from trainer.stages.backbone import begin_backbone
from trainer.stages.ldae import NEW, LdaeStage
from trainer.stages.ldm import LdmStage
from trainer.stages.supervised import SupervisedStage

EDGE = 32  # pixels of a slice, the least that the encoder can halve so often
BRANCHES = GradientEstimatorSpec(
    (8, 16), (False, True), 1, 4, strides=(2, 2, 2), dropout=0.0
)
ENCODER = SemanticEncoderSpec((4, 4, 8, 16), (1, 1, 1, 1), EDGE, 2, 0.0)
SCHEDULE = ScheduleSpec(prediction="v")
LOOP = replace(toys.LOOP, steps=60, batch=4, learning_rate=3e-3, log_every=60)


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    return toys.pictures(6, EDGE)


@pytest.fixture(scope="module")
def autoencoder() -> Checkpoint:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = toys.SPEC.build().state_dict()
    card = Card("autoencoder", "Toy", toys.grid(EDGE), toys.SPEC)
    return Checkpoint(card, {f"autoencoder.{k}": v for k, v in weights.items()})


@pytest.fixture(scope="module")
def latents(autoencoder: Checkpoint, pictures: np.ndarray) -> np.ndarray:
    renderer = Renderer(autoencoder, "cpu", "float32")
    return np.stack([renderer.latent_of(p.astype(np.float32)) for p in pictures])


@pytest.fixture(scope="module")
def pretrained(autoencoder: Checkpoint, latents: np.ndarray) -> Checkpoint:
    """An unconditional denoiser, trained for no step; its prior is fitted."""
    config = LdmConfig(BRANCHES, SCHEDULE, LOOP, centred=True, prior_rank=3)
    none = [Conditions()] * 6
    stage = LdmStage(config, autoencoder, (latents, none), (latents[:2], none[:2]))
    return stage.finish(stage.players[0].network.state_dict())


def ldae_stage(
    pretrained: Checkpoint, pictures: np.ndarray, latents: np.ndarray
) -> LdaeStage:
    data = pictures, latents
    unseen = pictures[:2], latents[:2]
    mirrored = latents[:, :, ::-1].copy()
    return LdaeStage(LdaeConfig(ENCODER, LOOP), pretrained, data, unseen, mirrored)


def test_the_unconditional_denoiser_is_an_ldae_without_a_code(
    pretrained: Checkpoint, tmp_path: Path
) -> None:
    path = tmp_path / "ldm.safetensors"
    save_checkpoint(pretrained, path)
    found = load_checkpoint(path)
    assert found.card.kind == "ldae"
    assert found.card.denoiser == pretrained.card.denoiser
    assert found.card.denoiser.code_size == 0
    picture = finish(Renderer(found, "cpu", "float32").render(Request()))
    assert picture.data.shape == (EDGE, EDGE, EDGE)


def test_covariates_have_no_place_in_it(
    autoencoder: Checkpoint, latents: np.ndarray
) -> None:
    known = replace(autoencoder, card=replace(autoencoder.card, vocabulary=(toys.AGE,)))
    with pytest.raises(EngineError, match="knows no conditions"):
        LdmStage(LdmConfig(BRANCHES), known, (latents, []), (latents, []))


def test_another_denoiser_is_refused(
    pretrained: Checkpoint, pictures: np.ndarray, latents: np.ndarray
) -> None:
    card = replace(pretrained.card, denoiser=UNetSpec())
    with pytest.raises(EngineError, match="no denoiser of LDAE's kind"):
        ldae_stage(replace(pretrained, card=card), pictures, latents)


def test_it_begins_with_codes_that_differ_and_what_they_tell(
    pretrained: Checkpoint, pictures: np.ndarray, latents: np.ndarray
) -> None:
    stage = ldae_stage(pretrained, pictures, latents)
    network = stage.players[0].network.eval()
    some = torch.stack([stage._seen(n, n) for n in range(stage.count)])
    with torch.no_grad():
        codes = network.encoder(some)
        assert torch.allclose(codes.mean(0), torch.zeros(()), atol=1e-3)
        assert torch.allclose(codes.std(0), torch.ones(()), atol=1e-3)
        prior = network.denoiser.prior
        along = stage.latents.flatten(1) @ prior.basis.T / prior.variances.sqrt()
        left = (along - prior.meaning(codes)).square().mean(0)
    assert (left < 1.05 * along.square().mean(0)).all()
    # the second branch gives nothing yet: all that is explained, the law explains
    for parameter in network.denoiser.shift_out[2].parameters():
        assert not parameter.any()


def test_a_branch_that_never_looks_at_codes_is_told_from_one_that_does(
    pretrained: Checkpoint, pictures: np.ndarray, latents: np.ndarray
) -> None:
    stage = ldae_stage(pretrained, pictures, latents)
    weights = dict(stage.players[0].network.state_dict())
    weights["denoiser.prior.meaning.weight"] *= 0
    weights["denoiser.shift_out.2.bias"] = torch.full_like(
        weights["denoiser.shift_out.2.bias"], 0.01
    )
    deaf = stage.held_out(weights)
    assert deaf["held_out_explained"] != 0
    assert deaf["held_out_by_code"] == pytest.approx(0, abs=1e-9)


def test_the_code_learns_to_explain_and_nothing_else_moves(
    pretrained: Checkpoint, pictures: np.ndarray, latents: np.ndarray, tmp_path: Path
) -> None:
    stage = ldae_stage(pretrained, pictures, latents)
    state = tmp_path / "ldae.state"
    (report,) = train(stage, LOOP, state, resume=False, device="cpu")
    assert report.figures["held_out_explained"] > 0.1
    assert report.figures["held_out_by_code"] > 0.05
    assert report.pictures["picture_autoencoder_code"].shape[0] > 0
    found = trained(stage, state)
    before = pretrained.tensors
    for name, value in found.tensors.items():
        if name in before and not name.startswith("denoiser.shift_"):
            assert torch.equal(value, before[name]), name
    new = [
        k for k in found.tensors if k.startswith(tuple(f"denoiser.{n}" for n in NEW))
    ]
    assert new and any(k.startswith("encoder.") for k in found.tensors)


def test_what_is_trained_renders_a_scan(
    pretrained: Checkpoint, pictures: np.ndarray, latents: np.ndarray, tmp_path: Path
) -> None:
    stage = ldae_stage(pretrained, pictures, latents)
    path = tmp_path / "ldae.safetensors"
    save_checkpoint(stage.finish(stage.players[0].network.state_dict()), path)
    found = load_checkpoint(path)
    # as its own grid says: a picture that lies there is taken as prepared
    card = replace(found.card, registration="nonlinear")
    renderer = Renderer(replace(found, card=card), "cpu", "float32")
    scan = Volume(pictures[0].astype(np.float32), found.card.grid.matrix)
    own = Scan(renderer.admit(scan))
    direct = renderer.rebuild(renderer.conformed(scan.digest).volume.data)
    errors = []
    for steps in (5, 20):
        request = Request(origin=own, sampler=Sampler("ddim", steps))
        rebuilt = finish(renderer.render(request)).data
        errors.append(float(np.abs(rebuilt - direct).mean()))
    # there and back by Euler's method: four times the steps, about a quarter the error
    assert errors[1] < 0.5 * errors[0]


def test_a_mirrored_sample_is_the_mirrored_picture(
    pretrained: Checkpoint, pictures: np.ndarray, latents: np.ndarray
) -> None:
    stage = ldae_stage(pretrained, pictures, latents)
    assert stage.count == 12
    assert torch.equal(stage.picture(2).flip(1), stage.picture(8))


@pytest.mark.parametrize("prediction", ["epsilon", "v", "sample"])
def test_a_gradient_that_says_the_rest_leaves_no_noise(prediction: str) -> None:
    """G makes up for a wrong prediction; of noise it is in units of sqrt(1 - abar)."""
    generator = torch.Generator().manual_seed(0)
    x0, eps, wrong = (torch.randn((2, 1, 2, 2, 2), generator=generator) for _ in "abc")
    sigma = torch.tensor([0.3, 5.0]).view(-1, 1, 1, 1, 1)
    told = x0 + sigma * eps - sigma * wrong  # x0 if the noise were `wrong`
    out = diffusion.target(prediction, told, wrong, sigma)
    right = diffusion.target(prediction, x0, eps, sigma)
    gradient = {
        "epsilon": (out - right) * torch.sqrt(1 + sigma**2) / sigma,
        "v": out - right,
        "sample": right - out,
    }[prediction]
    truth = x0, eps
    with_gradient = representation.noise_left(prediction, (out, gradient), truth, sigma)
    assert float(with_gradient.abs().max()) < 1e-8
    alone = representation.noise_left(prediction, (out, 0 * gradient), truth, sigma)
    torch.testing.assert_close(alone, (eps - wrong) ** 2, atol=1e-5, rtol=1e-4)


def test_even_weights_make_the_noise_left_the_error_of_v() -> None:
    generator = torch.Generator().manual_seed(0)
    x0, eps, out = (torch.randn((2, 1, 2, 2, 2), generator=generator) for _ in "abc")
    sigmas = torch.tensor([0.01, 90.0])
    sigma = sigmas.view(-1, 1, 1, 1, 1)
    gradient = torch.zeros_like(out)
    left = representation.noise_left("v", (out, gradient), (x0, eps), sigma)
    weight = representation.even_weights_at(sigmas).view(-1, 1, 1, 1, 1)
    error = (diffusion.target("v", x0, eps, sigma) - out) ** 2
    torch.testing.assert_close((weight * left).float(), error, atol=2e-3, rtol=2e-3)


def of_torchvision(spec: SemanticEncoderSpec) -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision's ConvNeXt of these sizes, with 1000 classes."""
    found: dict[str, tuple[int, ...]] = {}

    def layer(name: str, *weight: int) -> None:
        found[f"{name}.weight"], found[f"{name}.bias"] = weight, weight[:1]

    before = spec.channels[0]
    layer("features.0.0", before, 3, 4, 4)
    layer("features.0.1", before)
    for level, (width, count) in enumerate(
        zip(spec.channels, spec.blocks, strict=True)
    ):
        if level:
            layer(f"features.{2 * level}.0", before)
            layer(f"features.{2 * level}.1", width, before, 2, 2)
        for n in range(count):
            place = f"features.{2 * level + 1}.{n}"
            found[f"{place}.layer_scale"] = (width, 1, 1)
            layer(f"{place}.block.0", width, 1, 7, 7)
            layer(f"{place}.block.2", width)
            layer(f"{place}.block.3", 4 * width, width)
            layer(f"{place}.block.5", width, 4 * width)
        before = width
    layer("classifier.0", before)
    layer("classifier.2", 1000, before)
    return found


def public_weights(spec: SemanticEncoderSpec = ENCODER) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = of_torchvision(spec)
    return {k: torch.randn(v, generator=generator) for k, v in shapes.items()}


def test_the_published_layout_is_that_of_convnext_small() -> None:
    found = of_torchvision(SemanticEncoderSpec())
    assert sum(math.prod(shape) for shape in found.values()) == 50_223_688
    with torch.device("meta"):
        own = SemanticEncoderSpec().build().backbone.state_dict()
    assert {k for k in found if not k.startswith("classifier.2.")} == own.keys()


@pytest.mark.parametrize("name", ["convnext.pth", "convnext.safetensors"])
def test_the_encoder_begins_with_torchvisions_weights(
    name: str,
    pretrained: Checkpoint,
    pictures: np.ndarray,
    latents: np.ndarray,
    tmp_path: Path,
) -> None:
    held, path = public_weights(), tmp_path / name
    (torch.save if path.suffix == ".pth" else save_file)(held, path)
    config = LdaeConfig(ENCODER, LOOP, backbone=str(path))
    unseen = pictures[:2], latents[:2]
    stage = LdaeStage(config, pretrained, (pictures, latents), unseen)
    rows = [{"sex": "FM"[n % 2]} for n in range(len(pictures))]
    taught = SupervisedStage(
        SupervisedConfig(LOOP),
        ENCODER,
        [Target("sex", "Sex", "sex", positive="M", negative="F")],
        pretrained.card,
        (pictures, rows),
        (pictures[:2], rows[:2]),
        flips=False,
        backbone=str(path),
    )
    gray = torch.rand((2, 1, 8, 8), generator=torch.Generator().manual_seed(1))
    weight, bias = (held[f"features.0.0.{part}"] for part in ("weight", "bias"))
    of_colours = functional.conv2d(gray.expand(-1, 3, -1, -1), weight, bias, stride=4)
    for one in (stage, taught):
        backbone = one.players[0].network.encoder.backbone
        for key, value in backbone.state_dict().items():
            if key != "features.0.0.weight":
                assert torch.equal(value, held[key]), key
        torch.testing.assert_close(backbone.features[0][0](gray), of_colours)
        notes = one.card.provenance.notes
        assert f"began with the weights of {name}." in notes[-1]


def test_the_loss_of_a_batch_is_that_of_its_parts(
    pretrained: Checkpoint, pictures: np.ndarray
) -> None:
    """Processes have a part each, and those whom the table tells fall as they fall."""
    rows = [{"age": age} for age in ("70", "n/a", "62", "81")]
    stage = SupervisedStage(
        SupervisedConfig(LOOP),
        ENCODER,
        [Target("age", "Age", "age", unit="years")],
        pretrained.card,
        (pictures[:4], rows),
        (pictures[:2], rows[:2]),
        flips=False,
    )
    network = stage.players[0].network.eval()
    items = [Item(n, n) for n in range(4)]

    def loss(part: list[Item]) -> float:
        with torch.no_grad():
            return float(stage._loss(network, part, None, 0)[0]["age"])

    whole, halves = loss(items), [loss(items[:2]), loss(items[2:])]
    assert np.mean(halves) == pytest.approx(whole, rel=1e-5)
    assert halves[0] != pytest.approx(halves[1], rel=1e-3)
    told = [n for n in range(4) if n != 1]
    with torch.no_grad():
        said = network(torch.from_numpy(pictures[told].astype(np.float32))[:, None])
    errors = stage._errors(said, stage.values[told])
    assert whole == pytest.approx(float(errors["age"]), rel=1e-5)


def without(name: str) -> dict[str, torch.Tensor]:
    return {k: v for k, v in public_weights().items() if k != name}


@pytest.mark.parametrize(
    ("held", "sentence"),
    [
        (
            public_weights(replace(ENCODER, channels=(4, 4, 8, 8))),
            r"tensors differ, the first is 'classifier.0.bias' with \(8,\) where \(16",
        ),
        (
            without("features.1.0.layer_scale"),
            "'features.1.0.layer_scale' with nothing",
        ),
        (without("features.0.0.weight"), "1 tensors differ.*with nothing"),
        (
            public_weights() | {"fc.weight": torch.zeros(2)},
            "'fc.weight' with .* nothing",
        ),
        (
            public_weights() | {"features.0.0.weight": torch.zeros(4, 2, 4, 4)},
            r"with \(4, 2, 4, 4\) where \(4, 1, 4, 4\) is needed",
        ),
    ],
    ids=["sizes", "missing", "no stem", "left over", "two colours"],
)
def test_other_weights_than_the_encoders_are_refused(
    held: dict[str, torch.Tensor], sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "convnext.pth"
    torch.save(held, path)
    with pytest.raises(EngineError, match=sentence):
        begin_backbone(ENCODER.build().backbone, path)


def test_a_file_of_weights_that_is_not_there_or_damaged_is_told(tmp_path: Path) -> None:
    network = ENCODER.build().backbone
    with pytest.raises(EngineError, match=r"nowhere\.pth, which is not there"):
        begin_backbone(network, tmp_path / "nowhere.pth")
    for name in ("x.pth", "x.safetensors"):
        (tmp_path / name).write_bytes(b"not weights")
        with pytest.raises(EngineError, match=r"Choose a file|Download or copy"):
            begin_backbone(network, tmp_path / name)


@pytest.mark.slow
def test_the_papers_networks_train_a_step_and_sample(tmp_path: Path) -> None:
    """The published sizes of all layers, on 64 x 64 x 32 voxels."""
    config = load_config(Path("ldae2025.toml"))
    grid = replace(toys.grid(64), shape=(64, 64, 32))
    loop = replace(LOOP, steps=1, batch=1, warmup=0, ema=0.0, picture_every=9)
    spec = config.autoencoder.spec
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = spec.build().state_dict()
    card = Card("autoencoder", "Paper size", grid, spec)
    base = Checkpoint(card, {f"autoencoder.{k}": v for k, v in weights.items()})
    pictures = np.random.default_rng(0).random((2, *grid.shape)).astype(np.float16)
    latents = np.random.default_rng(0).standard_normal((2, *card.latent_shape))
    latents, none = latents.astype(np.float32), [Conditions()] * 2
    first = LdmStage(
        replace(config.ldm, loop=loop), base, (latents, none), (latents[:0], [])
    )
    base = first.finish(first.players[0].network.state_dict())
    del first
    data = pictures, latents
    second = LdaeStage(replace(config.ldae, loop=loop), base, data, data)
    (report,) = train(second, loop, tmp_path / "ldae", resume=False, device="cpu")
    assert np.isfinite(report.losses["representation"])
    assert report.pictures["picture_autoencoder_code"].shape == (2 * 32, 3 * 64)
