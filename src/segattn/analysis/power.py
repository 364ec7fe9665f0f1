"""Adjusted p-values of several claims, and the effects and seeds that a test would need.

Effects have the unit of the estimate: IoU and recall as fractions.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from segattn.analysis.stats import Estimate, welch_df

ALPHA = 0.05
POWER = 0.8


def holm(p: Sequence[float]) -> list[float]:
    """Step-down adjusted p-values, in the order given (Holm 1979).

    Rejecting where the adjusted value is below alpha keeps the chance of any false rejection
    below alpha, whatever the dependence (A simple sequentially rejective multiple test procedure).

    Args:
        p: p-values of one family; a NaN stays NaN and does not count as a test.
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values)  # NaN last
    tested = order[: np.count_nonzero(~np.isnan(values))]
    scaled = values[tested] * np.arange(len(tested), 0, -1)
    adjusted = np.full(len(values), np.nan)
    adjusted[tested] = np.minimum(np.maximum.accumulate(scaled), 1)
    return [float(value) for value in adjusted]


def minimal_detectable_effect(
    estimate: Estimate, *, seeds: int | None = None, power: float = POWER, alpha: float = ALPHA
) -> float:
    """The effect that a two-sided t test with this standard error finds with the given power.

    Args:
        estimate: A contrast measured with at least 2 seeds.
        seeds: Number of seeds of a planned study with the same heads and test images; None takes
            that of the estimate.
        power: Chance to find the effect, above `alpha` and below 1.
        alpha: Level of the test.

    Returns:
        The effect; NaN where the estimate or the plan has one seed, which shows no seed noise.

    Raises:
        ValueError: `power` is not between `alpha` and 1.
    """
    if not 0 < alpha < power < 1:
        raise ValueError(
            f"power must lie between alpha and 1, got power {power} and alpha {alpha}; "
            "0.8 and 0.05 are usual"
        )
    planned = estimate.seeds if seeds is None else seeds
    if min(estimate.seeds, planned) < 2 or math.isnan(estimate.se):
        return math.nan
    se, df = _plan(estimate, seeds=planned)
    return se * _noncentrality(df, power=power, alpha=alpha)


def seeds_needed(estimate: Estimate, *, effect: float, limit: int = 1000) -> int | None:
    """The smallest number of seeds whose minimal detectable effect is at most `effect`.

    All numbers are tried: with few blocks of images the detectable effect is not monotone, as
    more seeds shift the weight to the image part and its few degrees of freedom.

    Args:
        estimate: A contrast measured with at least 2 seeds.
        effect: The effect to find with power 0.8 at level 0.05; positive.
        limit: The largest number to try, at least 2.

    Returns:
        The number of seeds, 2 or more. None where no number up to the limit is enough, as the
        images alone are too few, and where the estimate has one seed.

    Raises:
        ValueError: `effect` is not positive.
    """
    if not effect > 0:
        raise ValueError(f"the effect to find must be positive, got {effect}; give its size")
    if estimate.seeds < 2:
        return None
    sizes = np.arange(2, limit + 1)
    se, df = np.array([_plan(estimate, seeds=int(size)) for size in sizes]).T
    with np.errstate(divide="ignore"):
        # scipy's nct gives NaN for a huge noncentrality, and at 1000 the power is already 1
        noncentrality = np.minimum(effect / se, 1000)
    # the rounding of the root finder must not turn down an effect that is just detectable
    enough = _rejection(noncentrality, df=df, alpha=ALPHA) >= POWER - 1e-9
    return int(sizes[enough.argmax()]) if enough.any() else None


def _plan(estimate: Estimate, *, seeds: int) -> tuple[float, float]:
    """Standard error and degrees of freedom with another number of seeds."""
    seed_var = estimate.se_seed**2 * estimate.seeds / seeds
    image_var = estimate.se_images**2
    df = welch_df(seed_var, image_var=image_var, seeds=seeds, blocks=estimate.blocks)
    return math.sqrt(seed_var + image_var), df


def _noncentrality(df: float, *, power: float, alpha: float) -> float:
    """Effect over standard error at which the two-sided t test has the given power."""
    # Z + n > c * chi wherever Z > -z and chi < x, each with probability sqrt(power): a bound
    root = math.sqrt(power)
    chi = math.sqrt(stats.chi2.ppf(root, df) / df) if math.isfinite(df) else 1.0
    upper = stats.t.isf(alpha / 2, df) * chi + stats.norm.ppf(root)
    return float(
        optimize.brentq(lambda n: float(_rejection(n, df=df, alpha=alpha)) - power, 0, upper)
    )


def _rejection(noncentrality: ArrayLike, *, df: ArrayLike, alpha: float) -> NDArray[np.float64]:
    """Power of the two-sided t test; the noncentral t distribution of scipy."""
    critical = stats.t.isf(alpha / 2, df)
    # scipy gives NaN for some tails on the other side, all below 1e-13
    other = np.nan_to_num(stats.nct.cdf(-critical, df, noncentrality))
    return np.asarray(stats.nct.sf(critical, df, noncentrality) + other)
