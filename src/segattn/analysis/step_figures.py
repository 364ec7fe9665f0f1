"""The figure of `segattn.analysis.steps`: how sure a difference is."""

import numpy as np
from matplotlib.figure import Figure

from segattn.analysis import steps
from segattn.analysis.claims import Condition
from segattn.analysis.comparison import Comparison
from segattn.analysis.figures import clean_axes
from segattn.analysis.measures import contrast

_BAR, _BAND = "#9db8cc", "#e4e4e4"


def spread(comparison: Comparison, condition: Condition) -> Figure:
    """The difference on resampled test sets, a dot per seed, and the 95% interval."""
    seeds = steps.common_seeds(comparison, condition)
    total = np.zeros(0)
    for term in condition.terms:
        sample = steps.sample_of(comparison, term)
        rows = sample.replicates[[sample.seeds.index(seed) for seed in seeds]]
        scores = 100 * term.sign * contrast(comparison, term.measure)(rows).mean(axis=0)
        total = scores if total.size == 0 else total + scores
    figure = Figure(figsize=(9, 3), layout="constrained")
    axes = figure.subplots()
    smallest = steps.claims().smallest(condition)
    axes.axvspan(-smallest, smallest, color=_BAND, label="negligible")
    axes.hist(total[~np.isnan(total)], bins=50, color=_BAR, label="resampled test sets")
    axes.axvline(condition.threshold, color="black", linewidth=1.5, label="threshold")
    signs = np.array([term.sign for term in condition.terms])
    found, top = steps.estimate(comparison, condition), axes.get_ylim()[1]
    own = signs @ steps.per_seed(comparison, condition)
    axes.plot(own, np.full(len(own), -0.06 * top), "o", color="#D55E00", label="one seed")
    ends = [100 * found.low, 100 * found.high]
    axes.plot(ends, [-0.14 * top] * 2, color="#0072B2", linewidth=3, label="95% interval")
    axes.set_yticks([tick for tick in axes.get_yticks() if 0 <= tick <= top])
    axes.set(xlabel="difference [points]", ylabel="test sets")
    axes.set_title(condition.text, fontsize=10, loc="left")
    figure.legend(loc="outside right center", frameon=False, fontsize=9)
    clean_axes(axes, grid="y")
    return figure
