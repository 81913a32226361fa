"""Fixtures and limits of the whole suite."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from trainer.data.template import TemplatePack

# Before torch, numpy or ITK is imported: one thread each, so that the suite is as
# repeatable and as quick on two busy cores as on many. Child processes inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")
# napari then raises when a plugin touches the viewer from a thread.
os.environ.setdefault("NAPARI_ENSURE_PLUGIN_MAIN_THREAD", "1")
# Figures are drawn into files, never into a window.
os.environ.setdefault("MPLBACKEND", "Agg")

ROOT = Path(__file__).parents[1]

PARITY = pytest.StashKey[Path]()
"""Folder of parity sets given on the command line."""


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Let `pytest tests/parity --fixtures DIR` name the folder of parity sets.

    pytest has a flag of that name, which lists its fixtures: it is left alone
    everywhere else.
    """
    parity = ROOT / "tests" / "parity"
    paths = [(config.invocation_params.dir / a.partition("::")[0]) for a in config.args]
    tests = [p for p in paths if p.resolve().is_relative_to(parity)]
    folders = [p for p in paths if p not in tests and p.is_dir()]
    if config.option.showfixtures and tests and len(folders) == 1:
        config.option.showfixtures = False
        config.stash[PARITY] = folders[0].resolve()
        config.args = [a for a, p in zip(config.args, paths, strict=True) if p in tests]


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """Within `full_disk(n)` no file of this process grows beyond n bytes."""
    resource = pytest.importorskip("resource")

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real scans and fixtures beside the checkout."""
    folder = (ROOT / ".." / "shared").resolve()
    if not (folder / "data").is_dir():
        pytest.skip("needs the folder ../shared with data/ beside the checkout")
    return folder


@pytest.fixture(scope="session")
def template_of(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[float], TemplatePack]:
    """The simulated head at a voxel size in mm; built once for all workers."""
    from napari_brainldm.engine.volume import mni_grid
    from trainer.data.template import build_template

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent

    def made(voxel_mm: float) -> TemplatePack:
        kept = folder / f"template-{voxel_mm:g}mm.pickle"
        with FileLock(f"{kept}.lock"):
            if not kept.is_file():
                kept.write_bytes(pickle.dumps(build_template(mni_grid(voxel_mm))))
        pack: TemplatePack = pickle.loads(kept.read_bytes())
        return pack

    return made


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A brain LDM of random weights on the 8 mm grid: a file of 2.4 MB."""
    import torch

    from napari_brainldm.engine import card, checkpoint
    from napari_brainldm.engine.networks.autoencoder import AutoencoderSpec
    from napari_brainldm.engine.networks.unet import UNetSpec
    from napari_brainldm.engine.volume import mni_grid

    ages = card.Histogram(44.0, 82.0, (3, 8, 14, 20, 17, 9, 4))
    vocabulary = (
        card.Covariate("age", "Age", "years", "", 44.0, 82.0, 64.0, histogram=ages),
        card.Covariate("sex", "Sex", reference="F", categories=("F", "M")),
        card.Covariate("ventricles", "Lateral ventricles", "ml", "", 7.0, 172.0, 30.0),
        card.Covariate("brain", "Brain volume", "ml", "", 850.0, 1650.0, 1150.0),
    )
    spec = card.Card(
        kind="brain-ldm",
        name="Tiny",
        grid=mni_grid(8.0),
        autoencoder=AutoencoderSpec((8, 16), 2, 1, 8),
        denoiser=UNetSpec((16, 32), (False, True), (0, 16), 1, 8, 2, 4, True),
        vocabulary=vocabulary,
    )
    torch.manual_seed(0)
    parts = {"autoencoder": spec.autoencoder.build(), "denoiser": spec.denoiser.build()}
    tensors = {
        f"{part}.{key}": torch.randn_like(value) * 0.05
        + (value if value.ndim == 1 else 0)
        for part, network in parts.items()
        for key, value in network.state_dict().items()
    }
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    checkpoint.save_checkpoint(checkpoint.Checkpoint(spec, tensors), path)
    return path
