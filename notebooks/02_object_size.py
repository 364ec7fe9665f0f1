# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What if small began elsewhere?
#
# The size of an object is the square root of its area, counted in cells of the feature grid. Two
# edges sort objects into small, medium and large. They are a choice: move them, and see which
# findings stay. The runs keep the size of every object, so nothing is trained or tested again.

# %%
from IPython.display import HTML

from segattn.analysis import (
    compare,
    evidence_figures,
    explore,
    html,
    report,
    sections,
    text,
    won_lost,
)
from segattn.runs import load_runs

RUNS = report.find_runs_folder()
runs = load_runs(RUNS)
comparison = compare(runs)
HTML(html.bullets([text.subject(comparison), text.source(RUNS)]))

# %% [markdown]
# ## Move the edges
#
# Scores are IoU in percent, differences in points, each with its 95% interval. A class enters a bin
# with enough objects of that size; other edges can bring classes in and out, so compare heads
# within a bin. First the edges of the test. "Sort anew" takes seconds, up to half a minute for many
# runs. Without sliders, give the cell other numbers and run it again.

# %%
explore.show_bins(runs)  # other numbers: size_edges=(2, 6), elongation=3

# %% [markdown]
# ## Does a finding hang on the edges?
#
# The edges of the test, half of them and twice of them. A difference that changes its sign from row
# to row is a fact about the edges.

# %%
HTML(html.table(explore.edge_table(runs)))

# %% [markdown]
# ## Without edges
#
# Half-octave bins show where along the size a head gains.

# %%
HTML(html.figure(evidence_figures.size_curves(comparison), alt="IoU against object size"))

# %% [markdown]
# ## Objects won and lost
#
# An object is won if its IoU, mean over the common seeds, is more than 0.1 above that of the other
# head. The sizes are those of the test.

# %%
HTML(html.table(explore.won_lost_table(comparison)))

# %% [markdown]
# The clearest ones of the first pair. Take another: `won_lost.pairs(comparison)` lists them.

# %%
PAIR = won_lost.pairs(comparison)[0]
HTML(html.table(explore.extremes_table(comparison, PAIR)))

# %%
HTML(sections.objects_won_and_lost(comparison))
