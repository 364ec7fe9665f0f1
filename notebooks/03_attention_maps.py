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
# # What does a pixel attend to?
#
# The attention of trained heads on a few test images. It reads finished runs: those below
# `$SEGATTN_RUNS`, else the newest below `runs/`. `make ablation-quick` makes some in minutes.

# %%
from IPython.display import HTML

from segattn.analysis import attention_explorer, html, remote

FOLDER = remote.find_runs_folder(example="tests/fixture/runs")
RUNS = attention_explorer.attention_runs(FOLDER)
HTML(html.paragraph(f"Runs: {FOLDER.name}") + html.table(attention_explorer.overview(RUNS)))

# %% [markdown]
# Every block returns its input plus gamma times the attention. Gamma starts at 0 and is learned, so
# a block whose gamma stayed near 0 adds little to what the head sees.
#
# ## Spatial attention
#
# A pixel is given the mean of all places, weighted by softmax(q . k). The numbered pixels lie
# inside objects from small to large, each of another class. Every panel shows what one of them
# attends to; its title says in which share of the image half of that attention lies.

# %%
HTML(attention_explorer.figures_of(RUNS, "spatial"))

# %% [markdown]
# ## Channel attention
#
# A channel is given the mean of all channels, weighted by the softmax of its energies X X^T, which
# are large for channels that are alike. The published code flips their sign (`energy=published`):
# there a channel attends to those least like it, as the weights above the panels say.

# %%
HTML(attention_explorer.figures_of(RUNS, "channel"))

# %% [markdown]
# ## Full attention
#
# FLA lets channels attend to channels inside every column and every row of the image. Above, one
# channel at a time: the strip below its map shows, for every image column, how much it draws from
# each channel; the strip beside it, for every image row. Then the whole maps, in the image column
# and in the image row of each pixel. A channel that is zero along a column draws from all others
# alike.

# %%
HTML(attention_explorer.figures_of(RUNS, "full"))

# %% [markdown]
# ## Any pixel
#
# Change the run and the numbers. A run with a checkpoint answers for every pixel, one without for
# the nearest pixel that it keeps. Channel attention is the same for every pixel.

# %%
HTML(attention_explorer.pixel_view(RUNS[-1], image=0, row=40, column=60))
