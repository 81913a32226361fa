"""Ask what importing the public checkpoints costs at their full size.

    python -m benchmarks.import_size [--quick] [--json] [--seed S]

Writes random weights in the published layouts (bundle 2.2 GB, LDAE 3.5 GB) into a
temporary folder, imports them with `brainldm import` in a process of its own, once to
the end and once stopped while it writes, and then takes one denoising step and decodes.
It says what time and memory these take, not what the pictures show. `--quick` leaves
the LDAE and the picture out.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from benchmarks.report import AT_MOST, Limit, finish, options
from napari_brainldm.engine.checkpoint import load_checkpoint
from napari_brainldm.engine.networks.autoencoder import AutoencoderSpec
from napari_brainldm.engine.networks.gradient_estimator import GradientEstimatorSpec
from napari_brainldm.engine.networks.semantic_encoder import SemanticEncoderSpec
from napari_brainldm.engine.networks.unet import UNetSpec
from napari_brainldm.engine.renderer import Renderer
from napari_brainldm.engine.request import Request, Sampler, Seed

LIMITS = {
    "brain_ldm_memory": Limit(AT_MOST, 1.3),
    "ldae_memory": Limit(AT_MOST, 1.3),
    "brain_ldm_left_when_stopped": Limit(AT_MOST, 0),
    "ldae_left_when_stopped": Limit(AT_MOST, 0),
    "brain_ldm_picture_gib": Limit(AT_MOST, 20.0),
    "ldae_picture_gib": Limit(AT_MOST, 20.0),
}
QUICK = ("brain_ldm_memory", "brain_ldm_left_when_stopped")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 0 if every figure is within its limit."""
    chosen = options("import_size", __doc__).parse_args(arguments)
    quick = {k: v for k, v in LIMITS.items() if k in QUICK}
    limits = quick if chosen.quick else LIMITS
    return finish(chosen, limits, lambda: figures(chosen.seed, chosen.quick))


def figures(seed: int, quick: bool) -> dict[str, Any]:
    """Seconds, peak memory over the size of the weights, and what a picture takes."""
    torch.manual_seed(seed)
    found: dict[str, Any] = {}
    with TemporaryDirectory(prefix="brainldm-") as name:
        for model in ("brain_ldm",) if quick else ("brain_ldm", "ldae"):
            folder = Path(name) / model
            folder.mkdir()
            size = _written(model, folder)
            found |= _imported(model, folder, size)
            if not quick:
                # a process of its own, so that its memory is its own
                with get_context("spawn").Pool(1) as alone:
                    work = model, folder / "out.safetensors"
                    found |= alone.apply(_pictured, work)
            for file in folder.iterdir():
                file.unlink()
    return found


def _written(model: str, folder: Path) -> int:
    """Put random weights under their published names; their size in bytes."""
    files = {"autoencoder.pth": _old_names(AutoencoderSpec().build().state_dict())}
    if model == "brain_ldm":
        unet = UNetSpec().build().unet.state_dict()
        files["diffusion_model.pth"] = _old_names(unet)
    else:
        files["decoder.pth"] = GradientEstimatorSpec().build().state_dict()
        encoder = SemanticEncoderSpec().build().state_dict()
        files["encoder.pth"] = {
            re.sub(r"^backbone\.", "backbone.backbone.", k): v
            for k, v in encoder.items()
        }
    for name, tensors in files.items():
        torch.save(dict(tensors), folder / name)
    return sum((folder / name).stat().st_size for name in files)


def _old_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """MONAI's names as GenerativeModels had them: what the importer undoes."""
    return {
        k.replace(".postconv.conv.", ".conv.conv.").replace(
            ".out_proj.", ".to_out.0." if "transformer_blocks" in k else ".out_proj."
        ): v
        for k, v in tensors.items()
    }


def _imported(model: str, folder: Path, size: int) -> dict[str, Any]:
    out = folder / "out.safetensors"
    words = [str(folder), str(out), "--accept-terms"]
    code = "from napari_brainldm.cli import main; import sys; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "import", *words]
    stopped = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not any(folder.glob(".out*")):  # until it writes
        time.sleep(0.01)
    time.sleep(0.2)
    stopped.send_signal(signal.SIGINT)
    stopped.wait()
    left = len([p for p in folder.iterdir() if "out" in p.name])
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED.format(code=code), "import", *words],
        check=True,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - start
    peak = int(done.stdout.split()[-1])
    return {
        f"{model}_gb": size / 1e9,
        f"{model}_seconds": seconds,
        f"{model}_memory": peak / size,
        f"{model}_left_when_stopped": left,
    }


_MEASURED = """{code}
from benchmarks.import_size import peak_bytes
print(peak_bytes())"""


def peak_bytes() -> int:
    """Most memory that this process had, by Linux; not that of whoever started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = next(line for line in lines if line.startswith("VmHWM")).split()[1]
    return 1024 * int(kilobytes)


def _pictured(model: str, path: Path) -> dict[str, Any]:
    """A denoising step and the decode of the imported checkpoint, bfloat16."""
    renderer = Renderer(load_checkpoint(path), precision="bfloat16")
    steps = renderer.render(Request(origin=Seed(0), sampler=Sampler("ddim", 2)))
    found: dict[str, Any] = {}
    start = time.perf_counter()
    while True:
        try:
            progress = next(steps)
        except StopIteration as done:
            found[f"{model}_decode_seconds"] = time.perf_counter() - start
            found[f"{model}_shape"] = "x".join(str(n) for n in done.value.data.shape)
            break
        if progress.stage == "denoise":
            found[f"{model}_step_seconds"] = time.perf_counter() - start
        start = time.perf_counter()
    return found | {f"{model}_picture_gib": peak_bytes() / 2**30}


if __name__ == "__main__":
    sys.exit(main())
