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
# # Which head helps which object size?
#
# The heads share encoder, data, metric and test images. Compare them **within** a size bin.

# %%
from IPython.display import HTML

from segattn.analysis import (
    compare,
    display,
    evidence_figures,
    figures,
    html,
    readings,
    report,
    sections,
    text,
)
from segattn.runs import load_runs

RUNS = report.find_runs_folder()
comparison = compare(load_runs(RUNS))  # two heads: load_runs(RUNS, heads=["danet", "fla"])
HTML(html.bullets([text.subject(comparison), text.source(RUNS)]))

# %% [markdown]
# ## The claims
#
# Fixed before the runs in `experiments/claims.yaml`. A claim is supported only if every condition
# holds. The verdict by object size sorts objects by their own size, that by class size whole
# classes by their typical size, as the papers do. The numbers are those of the condition with the
# least support, by object size, which stands in the last column. A claim that is not tested has
# there what it lacks.

# %%
HTML(sections.claims(comparison))

# %% [markdown]
# ## What separates, and what does not

# %%
HTML(html.bullets(text.findings(comparison)))

# %% [markdown]
# ## Scores
#
# IoU in percent with 95% intervals over seeds and test images. Each panel has its own axis. Bars
# that overlap decide nothing: the differences below are paired. Images/s are those of training, as
# mean and range over the seeds.

# %%
HTML(html.figure(figures.size_iou(comparison), alt="IoU per size bin and head with intervals"))

# %%
HTML(html.table(display.heads(comparison)))

# %% [markdown]
# "(perfect head)" is what the resolution of the feature map allows any head to score, here at
# every output stride:

# %%
HTML(html.table(display.oracle(comparison)))

# %% [markdown]
# ## Differences
#
# Paired on the same seeds and images, in points. An interval that holds 0 is not separated.

# %%
HTML(html.table(display.differences(comparison)))

# %% [markdown]
# ## Along the size of objects
#
# Half-octave bins. Compare heads at one size, not sizes along one head. First with the classes that
# have enough objects of a size, then with the classes that have them at every size shown.

# %%
HTML(html.figure(evidence_figures.size_curves(comparison), alt="IoU against object size"))

# %%
HTML(
    html.figure(
        evidence_figures.size_curves(comparison, classes="common"),
        alt="IoU against object size, the same classes at every size",
    )
)

# %% [markdown]
# ## Thin against compact objects

# %%
HTML(html.figure(evidence_figures.thin_against_compact(comparison), alt="Gain on thin objects"))

# %% [markdown]
# ## Both readings of object size
#
# Objects sorted by their own size, and classes sorted by the typical size of their training
# objects.

# %%
HTML(html.table(readings.class_sizes(comparison)))

# %%
HTML(html.table(readings.side_by_side(comparison)))

# %% [markdown]
# ## Small and large objects of the same class
#
# A class with enough objects at two sizes: what a head gains on each, in points.

# %%
HTML(html.table(readings.within_class_table(comparison)))

# %% [markdown]
# ## Other axes
#
# The same objects by their width, by terciles of the training objects, and by their share of the
# image.

# %%
HTML(html.table(readings.other_axes(comparison)))

# %% [markdown]
# ## Objects won and lost
#
# IoU of single objects, mean over seeds; the crops show each head's first seed.

# %%
HTML(sections.objects_won_and_lost(comparison))

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
