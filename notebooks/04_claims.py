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
# # From objects to a verdict
#
# One condition of a claim, step by step, then all claims at once. Every number comes from the run
# folders; nothing is trained or tested again.

# %%
from IPython.display import HTML

from segattn.analysis import claims, compare, html, report, sections, step_figures, steps, text
from segattn.runs import load_runs

RUNS = report.find_runs_folder()
comparison = compare(load_runs(RUNS))
HTML(html.bullets([text.subject(comparison), text.source(RUNS)]))

# %% [markdown]
# ## What is claimed
#
# Written down before the runs, in `experiments/claims.yaml`. A condition adds and subtracts scores;
# a claim is supported only if every condition that decides holds.

# %%
HTML(html.table(steps.claims_table()))

# %% [markdown]
# The steps below follow one condition. Try others, also your own:
# `CONDITION = claims.parse_condition("thin(spatial_nl) - thin(channel_nl) > 0")`.

# %%
CONDITION = claims.parse_condition(steps.choose(comparison).text)
HTML(html.paragraph(CONDITION.text))

# %% [markdown]
# ## 1. Objects
#
# A run keeps one row per object of the test set: its size and shape, the pixels found in it (tp)
# and the false positives that belong to it (fp).

# %%
ROWS = html.table(steps.object_rows(comparison, CONDITION))
HTML(html.paragraph(steps.objects_text(comparison, CONDITION)) + ROWS)

# %% [markdown]
# ## 2. Classes
#
# Pixels are summed over the objects of a class and a size; IoU is correct over labelled plus
# falsely found. Only classes with enough such objects take part, the same for every head. The first
# seed:

# %%
HTML(html.table(steps.class_rows(comparison, CONDITION)))

# %% [markdown]
# ## 3. Seeds
#
# A score is the mean over these classes. Runs with the same seed see the training images in the
# same order, so heads are compared seed by seed.

# %%
HTML(html.table(steps.seed_rows(comparison, CONDITION)))

# %% [markdown]
# ## 4. How sure is it?
#
# Another seed and another test set would both give another number. The first is seen from seed to
# seed, the second by drawing the test images again with replacement. Both add to one standard
# error, and that gives the interval.

# %%
HTML(
    html.figure(
        step_figures.spread(comparison, CONDITION), alt="The difference on resampled test sets"
    )
)

# %%
HTML(html.table(steps.estimate_rows(comparison, CONDITION)))

# %% [markdown]
# ## 5. What follows for this condition
#
# The questions in the order in which a verdict asks them. An interval that holds the threshold says
# that these runs do not tell, not that there is no difference.

# %%
HTML(html.table(steps.decision_rows(comparison, CONDITION)))

# %% [markdown]
# ## 6. Does it hang on how false positives are counted?
#
# A pixel found where there is none of its class belongs to no object by itself. IoU charges it to
# the nearest object of the class within a radius, and else, as a false alarm, to the size of the
# region that was found. Other rules: half or double the radius; IoU without the false alarms;
# recall, which charges no false positive; the mean of the IoU of single objects. A decided verdict
# whose sign they change is marked ATTRIBUTION-DEPENDENT.

# %%
HTML(html.table(steps.rule_rows(comparison, CONDITION)))

# %% [markdown]
# ## 7. Several claims at once
#
# A claim is as weak as its weakest condition, so its p is the largest of theirs. Holm's method
# raises the p of claims that are tested together.

# %%
HTML(html.table(steps.holm_rows(comparison)))

# %% [markdown]
# ## All claims
#
# The same, with class size as the second reading and every contrast as a forest plot.

# %%
HTML(sections.claims(comparison))
