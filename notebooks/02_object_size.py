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
# The size of an object is the root of its area. Two edges sort objects into small, medium and
# large; an area / width² from `elongation` on makes them thin. These are choices: move them, and
# see which findings stay. The runs keep every object, so nothing is trained or tested again.

# %%
from dataclasses import replace

from IPython.display import HTML

from segattn.analysis import compare, figures, html, remote
from segattn.base.runs import load_runs

comparison = compare(load_runs(remote.find_runs_folder()))
print(comparison.measures)

# %% [markdown]
# Half of the edges of the test. `size_classes` says which classes a bin scores: the picture leaves
# out a class with fewer than 20 test objects in a bin, and the note says which.

# %%
low, high = comparison.measures.size_edges
moved = replace(comparison.measures, size_edges=(low / 2, high / 2), elongation=4.0)
again = replace(comparison, measures=moved, scores=comparison.rescore(moved)).judged
picture = html.figure(figures.gain_picture(again), alt="gain by size or class")
HTML(picture + html.bullets(again.notes))
