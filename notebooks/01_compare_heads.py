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
# # Which attention helps objects of which size?
#
# The runs below `$SEGATTN_RUNS`, else the newest experiment below `runs/`. The first picture is the
# answer; the rest says how sure it is and where it comes from.

# %%
from IPython.display import HTML

from segattn.analysis import compare, figures, html, remote, report, tables, text
from segattn.base.runs import load_runs, read_crops

RUNS = remote.find_runs_folder()
comparison = compare(load_runs(RUNS))  # two heads: load_runs(RUNS, heads=["danet", "fla"])
HTML(html.figure(figures.gain_picture(comparison), alt="gain by size or class"))

# %%
HTML(html.bullets([text.subject(comparison), *text.findings(comparison)]))

# %% [markdown]
# ## The claims of the FLA paper
#
# Fixed before the runs in `segattn.analysis.claims`. *Equal* means that the 90 % interval lies
# within the smallest effect of interest, 0.5 points of mIoU or 1 point of another score.

# %%
HTML(report.claims_body(comparison))

# %% [markdown]
# ## Class by class

# %%
HTML(html.figure(figures.class_picture(comparison), alt="gain by size or class"))

# %% [markdown]
# ## Along the size of objects
#
# Compare heads at one size, not sizes along one head: a pixel of border costs a small object more.

# %%
curve = tables.size_curve(comparison)
HTML(report.curve_body(comparison, curve))

# %% [markdown]
# ## Objects won and lost

# %%
won_lost = tables.won_lost_of_heads(comparison)
HTML(report.won_lost_body(comparison, won_lost, read_crops(RUNS)))

# %% [markdown]
# ## Cost, and how it was made

# %%
HTML(html.table(tables.costs(comparison)) + html.bullets(text.setting(comparison)))

# %% [markdown]
# ## Every number
#
# `gains` is the first picture as a table; `run_scores` holds each run's values of result.json.

# %%
tables.gains(comparison)

# %%
tables.run_scores(comparison).pivot_table(index="score", columns="head", values="value")
