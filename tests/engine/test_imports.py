"""Public weights become ours by their keys and shapes; nothing in them is run."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.engine.framing import framed
from napari_brainldm.engine.imports import brain_ldm, ldae, parts
from napari_brainldm.engine.imports.find import (
    UNRECOGNISED,
    find,
    is_foreign,
    recognise,
)
from napari_brainldm.engine.imports.write import write_found
from napari_brainldm.engine.networks.autoencoder import AutoencoderSpec
from napari_brainldm.engine.networks.gradient_estimator import GradientEstimatorSpec
from napari_brainldm.engine.networks.semantic_encoder import SemanticEncoderSpec
from napari_brainldm.engine.networks.unet import UNetSpec
from napari_brainldm.engine.renderer import finish
from napari_brainldm.engine.request import Conditions, EngineError
from napari_brainldm.engine.volume import Volume
from tests import foreign


def imported(source: Path, folder: Path) -> Any:
    path = folder / "imported.safetensors"
    for _ in write_found(find(source), path):
        pass
    return load_checkpoint(path)


def shapes(spec: Any) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        found: dict[str, torch.Tensor] = spec.build().state_dict()
    return found


# -- sizes from keys and shapes ----------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from((8, 16, 24)), min_size=1, max_size=4), st.data())
def test_any_autoencoder_is_told(channels: list[int], data: Any) -> None:
    blocks, latent = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 8))
    spec = AutoencoderSpec(tuple(channels), latent, blocks, 8)
    assert parts.autoencoder_spec(shapes(spec), {"norm_num_groups": 8}) == spec


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from((8, 16, 24)), min_size=2, max_size=4), st.data())
def test_any_brain_ldm_denoiser_is_told(channels: list[int], data: Any) -> None:
    levels = data.draw(st.lists(st.booleans(), min_size=len(channels) - 1).map(tuple))
    attention = (*levels[: len(channels) - 1], True)
    spec = UNetSpec(
        tuple(channels),
        attention,
        tuple(n if on else 0 for n, on in zip(channels, attention, strict=True)),
        data.draw(st.integers(1, 3)),
        8,
        data.draw(st.integers(1, 4)),
        data.draw(st.integers(1, 6)),
    )
    plain = {k.removeprefix("unet."): v for k, v in shapes(spec).items()}
    assert parts.unet_spec(plain, {"norm_num_groups": 8}) == spec


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from((8, 16, 24)), min_size=1, max_size=4), st.data())
def test_any_two_branches_are_told(channels: list[int], data: Any) -> None:
    attention = data.draw(st.tuples(*(st.booleans() for _ in channels)))
    spec = GradientEstimatorSpec(
        tuple(channels),
        attention,
        data.draw(st.integers(1, 3)),
        8,
        data.draw(st.integers(1, 4)),
        data.draw(st.sampled_from((0, 12, 40))),
    )
    assert parts.two_branches_spec(shapes(spec), {"norm_num_groups": 8}) == spec


def test_any_encoder_is_told() -> None:
    for channels, blocks in (((8, 16, 24, 32), (1, 2, 3, 1)), ((8, 16), (2, 1))):
        spec = SemanticEncoderSpec(channels, blocks, 40, 4)
        published = {
            f"backbone.{k}" if k.startswith("backbone.") else k: v
            for k, v in shapes(spec).items()
        }
        assert parts.encoder_spec(published, {"num_heads": 4}) == spec


# -- whole checkpoints -------------------------------------------------------------


def test_a_bundle_is_imported_whole(tmp_path: Path) -> None:
    found = imported(foreign.save_bundle(tmp_path / "zoo"), tmp_path)
    assert found.card.kind == "brain-ldm"
    assert (found.card.autoencoder, found.card.denoiser) == (
        foreign.CODER,
        foreign.UNET,
    )
    assert found.card.grid.shape == (20, 24, 20)
    assert found.card.schedule.spacing == "leading"
    assert [c.name for c in found.card.vocabulary] == [
        "sex",
        "age",
        "ventricles",
        "brain",
    ]
    for name, value in foreign.weights(foreign.UNET).items():
        assert torch.equal(found.tensors[f"denoiser.{name}"], value)
    for name, value in foreign.weights(foreign.CODER).items():
        assert torch.equal(found.tensors[f"autoencoder.{name}"], value)


def test_both_layouts_of_the_bundle_give_the_same(tmp_path: Path) -> None:
    old = imported(foreign.save_bundle(tmp_path / "old"), tmp_path)
    new = tmp_path / "new"
    new.mkdir()
    torch.save(foreign.weights(foreign.CODER), new / "autoencoder.pt")
    torch.save({"state_dict": foreign.new_unet()}, new / "model.pt")
    settings = dict(foreign.BUNDLE_SETTINGS)
    settings["network_def"] = settings.pop("diffusion_def") | {
        "channels": "$whatever",
        "head_channels": "@not_this",
    }
    (new / "config.json").write_text(json.dumps(settings))
    found = imported(new, tmp_path)
    assert found.card == old.card
    assert found.tensors.keys() == old.tensors.keys()
    assert all(torch.equal(v, old.tensors[k]) for k, v in found.tensors.items())


def test_names_of_files_say_nothing(tmp_path: Path) -> None:
    folder = foreign.save_bundle(tmp_path / "zoo")
    models = folder / "models"
    (models / "autoencoder.pth").rename(models / "b.pth")
    (models / "diffusion_model.pth").rename(models / "autoencoder.pth")
    assert imported(folder, tmp_path).card.denoiser == foreign.UNET


def test_a_file_brings_those_beside_it(tmp_path: Path) -> None:
    folder = foreign.save_ldae(tmp_path / "ldae")
    found = imported(folder / "decoder.pth", tmp_path)
    assert found.card.encoder == foreign.ENCODER
    assert found.card.denoiser == replace(foreign.BRANCHES, dropout=0.1)
    assert [d.name for d in found.card.directions] == ["AD"]
    assert found.card.schedule.clamp == 1.0


def test_the_direction_points_away_from_normal(tmp_path: Path) -> None:
    """The published classifier's positive class is CN (facts of the release)."""
    folder = foreign.save_ldae(tmp_path / "ldae")
    tensors = imported(folder, tmp_path).tensors
    probe = torch.load(folder / "disease_classifier.ckpt", weights_only=True)
    mean, std = tensors["semantic.mean"], tensors["semantic.std"]
    code = torch.randn(32)
    moved = code + 1.5 * tensors["direction.AD.move"]
    before, after = (
        float(probe["weight"] @ ((y - mean) / std) + probe["bias"])
        for y in (code, moved)
    )
    length = float(probe["weight"].norm())
    assert after - before == pytest.approx(-1.5 * 32**0.5 * length, rel=1e-4)
    weight, bias = tensors["direction.AD.weight"], tensors["direction.AD.bias"]
    ours = float(weight @ ((code - mean) / std) + bias)
    assert ours == pytest.approx(-before, rel=1e-4)


def test_a_training_gives_its_averaged_weights(tmp_path: Path) -> None:
    averaged = foreign.weights(foreign.BRANCHES, seed=5)
    state = {f"vae.{k}": v for k, v in foreign.old_coder().items()}
    for name, tensors in (
        ("decoder", foreign.weights(foreign.BRANCHES)),
        ("ema_decoder", averaged),
        ("encoder", foreign.old_encoder()),
        ("ema_encoder", foreign.old_encoder()),
    ):
        state |= {f"{name}.{k}": v for k, v in tensors.items()}
    path = tmp_path / "last.ckpt"
    settings = foreign.LDAE_SETTINGS
    torch.save({"epoch": 1, "state_dict": state, "hyper_parameters": settings}, path)
    found = imported(path, tmp_path)
    assert torch.equal(found.tensors["denoiser.out.2.bias"], averaged["out.2.bias"])
    assert "averaged" in find(path).told[0]


def test_an_autoencoder_alone_is_one(tmp_path: Path) -> None:
    folder = tmp_path / "alone"
    folder.mkdir()
    wrapped = {f"module.{k}": v for k, v in foreign.old_coder().items()}
    torch.save(wrapped, folder / "best.pt")
    (folder / "config.json").write_text(json.dumps(foreign.LDAE_SETTINGS))
    card = imported(folder / "best.pt", tmp_path).card
    assert (card.kind, card.autoencoder) == ("autoencoder", foreign.CODER)


def published(spec: Any) -> dict[str, torch.Tensor]:
    """Tensors of the published sizes, without numbers."""
    found = {k.removeprefix("unet."): v for k, v in shapes(spec).items()}
    return {
        k.replace("backbone.", "backbone.backbone.", 1): v for k, v in found.items()
    }


def test_weights_of_the_published_sizes_have_the_papers_ranges() -> None:
    coder, unet = published(AutoencoderSpec()), published(UNetSpec())
    card = brain_ldm.assembled(coder, unet, {}).card
    assert card.name == "Brain LDM (Pinaya 2022, UK Biobank)"
    assert card.provenance.licence == "Apache-2.0"
    ranges = {c.name: (c.low, c.high) for c in card.vocabulary if not c.categories}
    assert ranges == {
        "age": (44.0, 82.0),
        "ventricles": (6.99568, 171.375),
        "brain": (1144.24, 1793.91),
    }
    assert all(c.range_from == "the paper" for c in card.vocabulary if c.unit)
    assert card.vector(Conditions.of({"sex": "M", "age": 63.0}))[:2] == (1.0, 0.5)
    # 16, 16 and 96 voxels were cut off before, 5 and 5 by the saver
    x, y, z = brain_ldm.ORIGIN_MM
    assert f"({x + 21:.2f}, {y - 21:.2f}, {z - 96:.2f})" in card.provenance.notes[0]
    grid = card.grid
    assert grid.shape == (160, 224, 160)
    middle = grid.matrix @ np.array([79.5, 111.5, 79.5, 1])
    np.testing.assert_allclose(middle[:3], (1, -14, 19), atol=1)  # inside a head


def test_weights_of_other_sizes_claim_nothing(tmp_path: Path) -> None:
    card = find(foreign.save_bundle(tmp_path / "zoo")).card
    told = card.provenance
    assert (card.name, told.trained_on, told.licence) == ("Brain LDM", "", "")
    assert {(c.low, c.high, c.range_from) for c in card.vocabulary} == {(0, 1, "")}
    card = find(foreign.save_ldae(tmp_path / "ldae")).card
    assert (card.name, card.provenance.trained_on) == ("LDAE", "")


def test_ldae_of_the_published_sizes_says_whose_it_is() -> None:
    parts_ = (AutoencoderSpec(), GradientEstimatorSpec(), SemanticEncoderSpec())
    found = ldae.assembled(ldae.Networks(*map(published, parts_)), {})
    assert found.card.name == "LDAE (Lozupone 2025, ADNI)"
    assert found.card.grid.shape == (128, 160, 128)
    assert "No direction towards Alzheimer's disease" in found.told[0]


@pytest.mark.parametrize("latent", [[16, 20, 16], [5, 8, 12], [20, 10, 16]])
def test_ldaes_grid_is_where_its_framing_puts_it(latent: list[int]) -> None:
    """Against MONAI's transforms on the 1 mm template's grid."""
    affine = np.diag([-1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = (90, -126, -72)
    grid = ldae._grid({"latent_shape": latent}, 8)
    found = framed(
        Volume(np.zeros((182, 218, 182), np.float32), affine), 1.5, grid.shape
    )
    assert found.data.shape == grid.shape
    np.testing.assert_allclose(found.affine, grid.matrix, atol=1e-9)


def test_published_files_are_recognised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = foreign.save_bundle(tmp_path / "zoo")
    assert seen(folder) == (UNRECOGNISED,)
    file = folder / "models" / "autoencoder.pth"
    digest = hashlib.md5(file.read_bytes()).hexdigest()
    monkeypatch.setitem(brain_ldm.MD5, digest, "the one")
    assert seen(folder) == ("autoencoder.pth is the one, by its MD5.",)
    assert seen(foreign.save_ldae(tmp_path / "ldae")) == ()


def seen(folder: Path) -> tuple[str, ...]:
    return finish(recognise(find(folder), folder))


# -- what lies beside ----------------------------------------------------------------


def test_files_of_others_beside_it_do_not_matter(tmp_path: Path) -> None:
    folder = foreign.save_bundle(tmp_path / "zoo")
    (folder / "models" / "notes.pt").write_text("no weights")
    (folder / "models" / "other.pt").write_bytes(pickle.dumps({"x": Bomb(tmp_path)}))
    torch.save({"w": torch.ones(2)}, folder / "models" / "small.pt")
    assert find(folder / "models" / "autoencoder.pth").card.kind == "brain-ldm"
    assert find(folder).card.kind == "brain-ldm"


def test_a_folder_with_a_training_is_that_training(tmp_path: Path) -> None:
    state = {f"vae.{k}": v for k, v in foreign.old_coder().items()}
    plain = replace(foreign.BRANCHES, code_size=0)
    state |= {f"unet.{k}": v for k, v in foreign.weights(plain).items()}
    settings = foreign.LDAE_SETTINGS
    folder = tmp_path / "run"
    folder.mkdir()
    path = folder / "last.ckpt"
    torch.save({"state_dict": state, "hyper_parameters": settings}, path)
    found = find(folder)
    assert found.card.encoder is None
    assert "last, not averaged" in found.told[0]


def test_trained_parameters_and_nested_wrappers_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "alone"
    folder.mkdir()
    wrapped = {
        f"_orig_mod.module.{k}": torch.nn.Parameter(v)
        for k, v in foreign.old_coder().items()
    }
    torch.save(wrapped, folder / "best.pt")
    (folder / "config.json").write_text(json.dumps(foreign.LDAE_SETTINGS))
    assert imported(folder, tmp_path).card.autoencoder == foreign.CODER


@pytest.mark.parametrize(
    "settings",
    [
        {"diffusion_def": {"norm_num_groups": 8, "num_head_channels": [0, "$x"]}},
        {"scale_factor": float("nan"), "num_train_timesteps": -5},
        {"latent_shape": [1, 2, 10**6, 12, 10]},
        {"scheduler": {"num_train_timesteps": -5, "beta_start": float("inf")}},
    ],
)
def test_odd_values_of_a_config_are_left_aside(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    usual = foreign.BUNDLE_SETTINGS
    card = find(foreign.save_bundle(tmp_path / "zoo", {**usual, **settings})).card
    assert (card.schedule.steps, card.schedule.beta_start) == (1000, 0.0015)
    assert max(card.grid.shape) <= 224


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"schedule": "cosine"}, "schedule = 'cosine'"),
        ({"prediction_type": "flow"}, "prediction_type = 'flow'"),
    ],
)
def test_a_schedule_that_is_not_known_is_refused(
    tmp_path: Path, settings: dict[str, str], words: str
) -> None:
    usual = foreign.BUNDLE_SETTINGS | {"scheduler": settings}
    refuse(foreign.save_bundle(tmp_path / "zoo", usual), words, tmp_path)


def test_a_v_prediction_is_one(tmp_path: Path) -> None:
    usual = foreign.BUNDLE_SETTINGS
    settings = usual | {"scheduler": {"prediction_type": "v_prediction"}}
    card = find(foreign.save_bundle(tmp_path / "zoo", settings)).card
    assert card.schedule.prediction == "v"


# -- what is refused ---------------------------------------------------------------


class Bomb:
    """Writes a file when it is unpickled as an object."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("kind", ["zip", "pickle", "hyper_parameters"])
def test_a_program_in_the_weights_never_runs(tmp_path: Path, kind: str) -> None:
    fired, path = tmp_path / "fired", tmp_path / "bad.ckpt"
    bomb = Bomb(fired)
    if kind == "pickle":
        path.write_bytes(pickle.dumps({"weight": bomb}))
    elif kind == "zip":
        torch.save({**foreign.old_coder(), "x": bomb}, path)
    else:
        state = {f"vae.{k}": v for k, v in foreign.old_coder().items()}
        torch.save({"state_dict": state, "hyper_parameters": bomb}, path)
    with pytest.raises(EngineError, match=r"left closed|cannot be read"):
        find(path)
    assert not fired.exists()
    torch.load(path, weights_only=False) if kind != "pickle" else pickle.loads(
        path.read_bytes()
    )
    assert fired.exists(), "the bomb itself does not work: the test proves nothing"


def test_expressions_of_a_bundle_are_never_evaluated(tmp_path: Path) -> None:
    fired = tmp_path / "fired"
    evil = f"$__import__('os').system('touch {fired}')"
    settings = foreign.BUNDLE_SETTINGS | {
        "latent_shape": evil,
        "scheduler": {"beta_start": evil, "num_train_timesteps": evil},
    }
    card = find(foreign.save_bundle(tmp_path / "zoo", settings)).card
    assert card.grid.shape == brain_ldm.SHAPE
    assert (card.schedule.steps, card.schedule.beta_start) == (1000, 0.0015)
    assert not fired.exists()


def change(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    tensors = torch.load(path, weights_only=True)
    edit(tensors)
    torch.save(tensors, path)


def refuse(folder: Path, words: str, out: Path) -> None:
    with pytest.raises(EngineError, match=words):
        for _ in write_found(find(folder), out / "never.safetensors"):
            pass
    assert not list(out.glob("*never*"))


def test_incomplete_and_ambiguous_folders_are_told(tmp_path: Path) -> None:
    bundle = foreign.save_bundle(tmp_path / "zoo")
    models = bundle / "models"
    torch.save(foreign.old_coder(), models / "another.pth")
    refuse(bundle, "twice, in another.pth and autoencoder.pth", tmp_path)
    (models / "another.pth").unlink()
    torch.save(foreign.weights(foreign.BRANCHES), models / "decoder.pth")
    refuse(bundle, "Keep the files of one model", tmp_path)
    (models / "decoder.pth").unlink()
    (models / "autoencoder.pth").unlink()
    refuse(bundle, "no autoencoder. Needed is", tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    refuse(empty, "no known weights", tmp_path)
    refuse(tmp_path / "nowhere", "There is no", tmp_path)


def test_ldae_without_its_encoder_is_told(tmp_path: Path) -> None:
    folder = foreign.save_ldae(tmp_path / "ldae")
    (folder / "encoder.pth").unlink()
    refuse(folder, "Put encoder.pth beside it", tmp_path)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda t: t.pop("out.0.bias"), "'denoiser.unet.out.0.bias' with nothing"),
        (lambda t: t.update(extra=torch.ones(1)), "'denoiser.unet.extra'"),
        (lambda t: t.update({"out.0.bias": torch.ones(3)}), r"\(3,\) where \(16,\)"),
        (lambda t: t["out.0.bias"].fill_(torch.nan), "not finite"),
        (lambda t: t.pop("out.2.conv.weight"), "is not there"),
        (
            lambda t: t.update({"conv_in.conv.weight": torch.ones(16, 9, 3, 3, 3)}),
            "adds 7 channels",
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    tmp_path: Path, edit: Callable[[dict[str, Any]], object], words: str
) -> None:
    folder = foreign.save_bundle(tmp_path / "zoo")
    change(folder / "models" / "diffusion_model.pth", edit)
    refuse(folder, words, tmp_path)


def test_ldae_parts_that_do_not_belong_together_are_told(tmp_path: Path) -> None:
    folder = foreign.save_ldae(tmp_path / "ldae")
    other = replace(foreign.CODER, latent_channels=4)
    torch.save(foreign.old_coder(other), folder / "autoencoderkl.pth")
    refuse(folder, "makes 4 latent channels, the diffusion model takes 2", tmp_path)
    settings = foreign.LDAE_SETTINGS | {"latent_shape": [2, 16, 16, 64]}
    refuse(foreign.save_ldae(tmp_path / "b", settings), "128 axial slices", tmp_path)


def test_other_files_are_told(tmp_path: Path) -> None:
    text = tmp_path / "notes.pt"
    text.write_text("no weights")
    with pytest.raises(EngineError, match="not a file that torch saved"):
        find(text)
    torch.save({"some.weight": torch.ones(2)}, tmp_path / "other.pt")
    with pytest.raises(
        EngineError, match=r"1 tensors \(some.weight, ...\) of no model"
    ):
        find(tmp_path / "other.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(EngineError, match="holds a list, not weights"):
        find(tmp_path / "list.pt")
    whole = foreign.save_bundle(tmp_path / "zoo") / "models" / "autoencoder.pth"
    whole.write_bytes(whole.read_bytes()[:2000])
    with pytest.raises(EngineError, match="cannot be read"):
        find(whole)


def test_our_own_loader_tells_the_way(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(foreign.new_unet(), path)
    assert is_foreign(path)
    with pytest.raises(EngineError, match="brainldm import"):
        load_checkpoint(path)


# -- writing -----------------------------------------------------------------------


def test_stopping_leaves_nothing(tmp_path: Path) -> None:
    found = find(foreign.save_bundle(tmp_path / "zoo"))
    out = tmp_path / "out"
    out.mkdir()
    steps = write_found(found, out / "new.safetensors")
    seen = [next(steps) for _ in range(20)]
    assert len(list(out.iterdir())) == 1
    assert [w.done for w in seen] == sorted({w.done for w in seen})
    steps.close()
    assert list(out.iterdir()) == []


def test_what_is_written_is_read_by_safetensors_itself(tmp_path: Path) -> None:
    found = find(foreign.save_ldae(tmp_path / "ldae"))
    path = tmp_path / "new.safetensors"
    last = list(write_found(found, path))[-1]
    assert last.done == last.total
    read = load_file(path)
    assert read.keys() == found.tensors.keys()
    assert all(torch.equal(v, found.tensors[k]) for k, v in read.items())
    assert all(v.dtype == torch.float32 for v in read.values())
