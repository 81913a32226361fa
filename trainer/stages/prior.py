"""The Gaussian of the training latents under their conditions, fitted in one go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from napari_brainldm.engine.networks.prior import PriorSpec
from napari_brainldm.engine.request import EngineError

if TYPE_CHECKING:
    from napari_brainldm.engine.networks.prior import GaussianPrior
    from trainer.config import LdmConfig
    from trainer.gm_config import GmLdmConfig

MOST = 3000
"""Latents fitted to; the fit solves systems of this size."""


def prior_spec(
    config: LdmConfig | GmLdmConfig, shape: tuple[int, ...], section: str
) -> PriorSpec | None:
    """Sizes of the prior for latents of `shape` (N, C, i, j, k); None for none.

    `section` of the config is named in sentences.
    """
    if not config.prior_rank:
        return None
    if config.schedule.prediction != "v" or not config.centred:
        raise EngineError(
            f"{section}.prior_rank is {config.prior_rank}, which needs latents without "
            f"their mean and a denoiser that predicts v. Set {section}.centred = true "
            f'and {section}.schedule.prediction = "v", or prior_rank = 0.'
        )
    most = min(shape[0], MOST) - 1
    if not 0 < config.prior_rank <= most:
        raise EngineError(
            f"{section}.prior_rank is {config.prior_rank}; {shape[0]} training latents "
            f"allow 1 to {most}. Set a rank in that range, or 0 for no prior."
        )
    i, j, k = shape[2:]
    return PriorSpec(config.prior_rank, (i, j, k), config.schedule.steps)


def fit_prior(
    prior: GaussianPrior, latents: Tensor, vectors: Tensor, sigmas: Sequence[float]
) -> None:
    """Fit `prior` to latents (N, C, i, j, k) of mean 0 and their conditions (N, n).

    Least squares for the mean, then the leading principal directions of what is left,
    by the eigenvectors of its N x N Gram matrix.

    Parameters
    ----------
    sigmas
        Noise level of each timestep, rising.
    """
    rank = len(prior.basis)
    chosen = torch.linspace(0, len(latents) - 1, min(len(latents), MOST)).long()
    left = latents[chosen].flatten(1)
    count, size = left.shape
    codes = vectors[chosen].double()
    away = codes - codes.mean(0)
    slopes = (torch.linalg.pinv(away) @ left.double()).float()
    left = left - away.float() @ slopes
    values, rows = torch.linalg.eigh((left @ left.T).double())
    values, rows = values.flip(0).clamp(min=0)[:rank], rows.flip(1)[:, :rank]
    basis = rows.T.float() @ left / values.sqrt().clamp(min=1e-6).float()[:, None]
    variances = values / count
    total = float(left.square().sum()) / count
    rest = max(total - float(variances.sum()), 1e-6) / max(size - rank, 1)
    prior.load_state_dict(
        {
            "slopes": slopes,
            "centre": codes.mean(0).float(),
            "basis": basis,
            "variances": variances.float().clamp(min=rest),
            "rest": torch.tensor(rest),
            "sigmas": torch.tensor(sigmas, dtype=torch.float32),
        }
    )


SHARES = 0.02, 0.98
"""Of a variance that may be left under a code."""


@torch.no_grad()
def fit_meaning(prior: GaussianPrior, codes: Tensor, latents: Tensor) -> None:
    """Fit what codes (N, E) tell of where latents (N, C, i, j, k) lie in the basis.

    Ridge regression, one penalty for each direction by leave-one-out, whose error is
    the variance left.
    """
    from sklearn.linear_model import RidgeCV

    along = latents.flatten(1) @ prior.basis.T / prior.variances.sqrt()
    model = RidgeCV(
        np.logspace(-1, 6, 15), alpha_per_target=True, store_cv_results=True
    )
    model.fit(codes.numpy(), along.numpy())
    errors = model.cv_results_.mean(0).min(-1) / along.numpy().var(0)
    prior.meaning.weight.copy_(torch.from_numpy(model.coef_))
    prior.meaning.bias.copy_(torch.from_numpy(model.intercept_))
    prior.left.copy_(torch.logit(torch.from_numpy(errors).float().clamp(*SHARES)))
