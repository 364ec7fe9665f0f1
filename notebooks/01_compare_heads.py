# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Which head helps which object size?
#
# The heads share encoder, data, metric and test images. Compare them **within** a size bin.

# %%
from IPython.display import HTML

from segattn.analysis import compare, display, figures, html, report, text
from segattn.runs import load_runs

RUNS = report.find_runs_folder()
comparison = compare(load_runs(RUNS))
HTML(html.paragraph(text.subject(comparison)))

# %% [markdown]
# ## What separates, and what does not

# %%
HTML(html.bullets(text.findings(comparison)))

# %% [markdown]
# ## Scores
#
# IoU in percent with 95% intervals over seeds and test images. Each panel has its own axis. Bars
# that overlap decide nothing: the differences below are paired.

# %%
HTML(html.figure(figures.size_iou(comparison), alt="IoU per size bin and head with intervals"))

# %%
HTML(html.table(display.heads(comparison)))

# %% [markdown]
# ## Differences
#
# Paired on the same seeds and images, in points. An interval that holds 0 is not separated.

# %%
HTML(html.table(display.differences(comparison)))

# %% [markdown]
# ## Classes

# %%
HTML(html.figure(figures.class_heatmap(comparison), alt="IoU per class and head"))

# %%
HTML(html.table(display.class_scores(comparison)))

# %% [markdown]
# ## Groups of classes
#
# IoU and recall over all sizes, and recall of the large and of the thin objects of the group.

# %%
HTML(html.table(display.class_groups(comparison)))

# %% [markdown]
# ## How many objects are behind a bin
#
# Cells in parentheses have too few objects or images; they enter no bin mean.

# %%
HTML(html.table(display.support(comparison)))

# %% [markdown]
# ## Examples
#
# The first seed of every head.

# %%
HTML(html.figure(figures.examples(comparison), alt="Test images, labels and predictions"))

# %% [markdown]
# ## Training
#
# Validation mIoU; the band spans the seeds.

# %%
HTML(html.figure(figures.learning_curves(comparison), alt="Validation mIoU over training steps"))

# %% [markdown]
# ## Limits

# %%
HTML(html.bullets(text.caveats(comparison)))

# %% [markdown]
# ## How this was made

# %%
HTML(html.bullets(text.provenance(comparison, folder=RUNS)))

# %% [markdown]
# ## Runs that are not in it

# %%
HTML(html.bullets(text.unfinished(comparison) or ["None: every run is finished."]))
