"""A picture in template space onto LDAE's grid, exactly as its authors bring it there.

Their steps are MONAI's transforms; so are these. Nothing is turned: arrays keep the
order they are stored in.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from napari_brainldm.engine.volume import Volume


def framed(picture: Volume, voxel_mm: float, shape: tuple[int, int, int]) -> Volume:
    """`picture` in cubes of `voxel_mm`, cut or padded to `shape`, 0 to 1.

    Linear, borders repeated; the padding has the least intensity, and the least and the
    greatest one of what was kept become 0 and 1.
    """
    import torch
    from monai.data.meta_tensor import MetaTensor
    from monai.transforms.croppad.array import ResizeWithPadOrCrop
    from monai.transforms.intensity.array import ScaleIntensity
    from monai.transforms.spatial.array import Spacing

    x: Any = MetaTensor(
        torch.from_numpy(np.ascontiguousarray(picture.data))[None],
        affine=torch.from_numpy(picture.affine),
    )
    for step in (
        Spacing(pixdim=voxel_mm, mode="bilinear", padding_mode="border"),
        ResizeWithPadOrCrop(shape, mode="minimum"),
        ScaleIntensity(0.0, 1.0),
    ):
        x = step(x)
    affine = np.asarray(x.affine, np.float64)
    return Volume(np.asarray(x[0], np.float32), affine)
