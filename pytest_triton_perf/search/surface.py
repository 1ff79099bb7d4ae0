"""A smooth surface through what was measured, which tells what was not: a Gaussian process.

C. E. Rasmussen and C. K. I. Williams, "Gaussian Processes for Machine Learning", 2006: prediction
is algorithm 2.1, the Matérn 5/2 kernel (4.17), the marginal likelihood (5.8).
"""

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]

_TYPICAL_STEPS = 3.0
"""Over so many steps of a coordinate the surface is expected to change its course."""

_SPREAD = 0.8
"""Of the logarithm of that, and of the amplitude: how much surfaces differ."""

_SLOPE = 0.5
"""Standard deviation of the slope along a coordinate, as logarithm per step; doubling is 0.7."""


class Surface:
    """Predicts a function on ``points`` (one row each) from noisy values at some of them."""

    def __init__(self, points: Floats) -> None:
        self._points = points - points.mean(axis=0)
        # The logarithms of the length along each coordinate, and of the amplitude.
        self._shape: Floats = np.zeros(points.shape[1] + 1)

    def predict(self, rows: list[int], values: Floats, errors: Floats) -> tuple[Floats, Floats]:
        """Mean and standard error at all points; ``values`` with ``errors`` are those at ``rows``.

        The shape of the surface is the most likely one near that of the prediction before.
        """
        known = self._points[rows]
        centre = float(values.mean())
        centred = values - centre
        best = self._misfit(self._shape, known, centred, errors)
        for index in range(self._shape.size):
            for step in (-0.5, 0.5):
                shape = self._shape.copy()
                shape[index] += step
                misfit = self._misfit(shape, known, centred, errors)
                if misfit < best:
                    best, self._shape = misfit, shape
        covariance = self._covariance(self._shape, known, known) + np.diag(errors**2)
        inverse = np.linalg.inv(covariance)
        between = self._covariance(self._shape, self._points, known)
        # Not by BLAS: its threads would wait for each other where the server has the cores.
        weighted = np.einsum("pk,kl->pl", between, inverse)
        mean = centre + np.einsum("pl,l->p", weighted, centred)
        explained = np.einsum("pl,pl->p", weighted, between)
        return mean, np.sqrt(np.maximum(self._variance(self._shape) - explained, 1e-12))

    def _misfit(self, shape: Floats, known: Floats, values: Floats, errors: Floats) -> float:
        """The negative logarithm of how likely a shape is."""
        covariance = self._covariance(shape, known, known) + np.diag(errors**2)
        try:
            factor = np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError:
            return math.inf
        whitened = np.linalg.solve(factor, values)
        likelihood = 0.5 * float(whitened @ whitened) + float(np.log(np.diag(factor)).sum())
        return likelihood + 0.5 * float(((shape / _SPREAD) ** 2).sum())

    def _covariance(self, shape: Floats, left: Floats, right: Floats) -> Floats:
        lengths = _TYPICAL_STEPS * np.exp(shape[:-1])
        difference = (left[:, None, :] - right[None, :, :]) / lengths
        distance = np.sqrt(5 * (difference**2).sum(axis=2))
        matern = (1 + distance + distance**2 / 3) * np.exp(-distance)
        slopes = np.einsum("ic,jc->ij", left, right)
        covariance: Floats = np.exp(2 * shape[-1]) * matern + _SLOPE**2 * slopes
        return covariance

    def _variance(self, shape: Floats) -> Floats:
        variance: Floats = np.exp(2 * shape[-1]) + _SLOPE**2 * (self._points**2).sum(axis=1)
        return variance
