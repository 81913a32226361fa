"""The Gaussian of the training latents under their conditions, fitted in one go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from napari_brainldm.engine.networks.prior import PriorSpec
from napari_brainldm.engine.request import EngineError
from trainer.linear import FOLDS

if TYPE_CHECKING:
    from napari_brainldm.engine.networks.prior import GaussianPrior
    from napari_brainldm.engine.networks.vit_denoiser import CodedPrior
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
    chosen = _chosen(latents)
    left = latents[chosen].flatten(1)
    codes = vectors[chosen].double()
    away = codes - codes.mean(0)
    slopes = (torch.linalg.pinv(away) @ left.double()).float()
    left = left - away.float() @ slopes
    basis, variances, rest = _principal(left, len(prior.basis))
    mean = slopes, codes.mean(0).float()
    _set(prior, mean, basis, variances.clamp(min=rest), rest, sigmas)


def fit_places(
    prior: CodedPrior, latents: Tensor, vectors: Tensor, sigmas: Sequence[float]
) -> None:
    """Fit `prior` to latents (N, C, i, j, k) of mean 0 and connectivity (N, p).

    Where a latent lies along the leading principal directions is read from the
    connectivity by ridge regression, one penalty for each direction by leave-one-out
    (over people), whose error is the variance left. Directions of the connectivity
    itself would not do: the largest are of sites and scanners, and an illness is in
    the small ones.

    Parameters
    ----------
    sigmas
        Noise level of each timestep, rising.
    """
    gaussian, count = prior.gaussian, prior.compress.shape[1]
    chosen = _chosen(latents)
    flat = latents[chosen].flatten(1)
    basis, variances, rest = _principal(flat, len(gaussian.basis))
    weights, offsets, errors = _ridge(vectors[chosen], flat @ basis[:count].T)
    prior.compress.copy_(weights.T)
    variances[:count] = torch.minimum(variances[:count], errors)
    mean = basis[:count], -offsets
    _set(gaussian, mean, basis, variances.clamp(min=rest), rest, sigmas)


def _chosen(latents: Tensor) -> Tensor:
    return torch.linspace(0, len(latents) - 1, min(len(latents), MOST)).long()


def _principal(left: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    """Directions (rank, D) that lead in `left` (N, D), variances along and across."""
    count, size = left.shape
    values, rows = torch.linalg.eigh((left @ left.T).double())
    values, rows = values.flip(0).clamp(min=0)[:rank], rows.flip(1)[:, :rank]
    basis = rows.T.float() @ left / values.sqrt().clamp(min=1e-6).float()[:, None]
    variances = values / count
    total = float(left.square().sum()) / count
    rest = max(total - float(variances.sum()), 1e-6) / max(size - rank, 1)
    return basis, variances.float(), rest


def _set(
    prior: GaussianPrior,
    mean: tuple[Tensor, Tensor],
    basis: Tensor,
    variances: Tensor,
    rest: float,
    sigmas: Sequence[float],
) -> None:
    """`mean`: slopes and centre."""
    state = {
        "slopes": mean[0],
        "centre": mean[1],
        "basis": basis,
        "variances": variances,
        "rest": torch.tensor(rest),
        "sigmas": torch.tensor(sigmas, dtype=torch.float32),
    }
    prior.load_state_dict(state)


PENALTIES = np.logspace(-1, 7, 17)
"""Of what is read from codes or connectivity."""

SHARES = 0.02, 0.98
"""Of a variance that may be left under a code."""


@torch.no_grad()
def fit_meaning(prior: GaussianPrior, codes: Tensor, latents: Tensor) -> None:
    """Fit what codes (N, E) tell of where latents (N, C, i, j, k) lie in the basis.

    Ridge regression, one penalty for each direction by leave-one-out, whose error is
    the variance left.
    """
    along = latents.flatten(1) @ prior.basis.T / prior.variances.sqrt()
    weights, offsets, errors = _ridge(codes, along)
    prior.meaning.weight.copy_(weights)
    prior.meaning.bias.copy_(offsets)
    shares = errors / along.var(0, correction=0)
    prior.left.copy_(torch.logit(shares.clamp(*SHARES)))


def _ridge(vectors: Tensor, along: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (k, n), offsets (k,) and squared errors (k,) of `along` (N, k).

    Predicted from `vectors` (N, n), each column with the penalty whose leave-one-out
    error, the one that is told, is least. Rows of the same vector, a person's visits
    under one connectivity, are left out together: 5 folds of them.
    """
    from sklearn.linear_model import Ridge, RidgeCV
    from sklearn.model_selection import GroupKFold, cross_val_predict

    x, y = vectors.double().numpy(), along.double().numpy()
    apart, rows = np.unique(x, axis=0, return_inverse=True)
    if len(apart) == len(x):
        model = RidgeCV(PENALTIES, alpha_per_target=True, store_cv_results=True)
        errors = model.fit(x, y).cv_results_.mean(0)
    else:
        folds = list(GroupKFold(min(FOLDS, len(apart))).split(x, y, rows.ravel()))
        made = (cross_val_predict(Ridge(p), x, y, cv=folds) for p in PENALTIES)
        errors = np.stack([np.mean((m.reshape(y.shape) - y) ** 2, 0) for m in made], -1)
        model = Ridge(PENALTIES[errors.argmin(-1)]).fit(x, y)
    parts = np.atleast_2d(model.coef_), np.atleast_1d(model.intercept_), errors.min(-1)
    weights, offsets, left = (torch.from_numpy(np.asarray(p)).float() for p in parts)
    return weights, offsets, left
