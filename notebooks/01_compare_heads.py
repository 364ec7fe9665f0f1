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

from segattn.analysis import compare, details, figures, html, remote, report, tables, text
from segattn.base.runs import load_runs, read_crops

RUNS = remote.find_runs_folder()
comparison = compare(load_runs(RUNS)).judged  # two heads: load_runs(RUNS, heads=["danet", "fla"])
HTML(html.figure(figures.gain_picture(comparison), alt="gain by size or class"))

# %%
said = [*text.kind_of_data(comparison), text.subject(comparison), *text.findings(comparison)]
HTML(html.bullets([*said, *comparison.notes]))

# %% [markdown]
# ## The claims of the FLA paper
#
# Fixed before the runs in `segattn.analysis.claims`. Answers follow from the verdicts of the
# picture; docs/evidence.md has the rules.

# %%
HTML(report.claims_body(comparison))

# %% [markdown]
# ## Every seed

# %%
HTML(html.figure(figures.seeds_picture(comparison), alt="every run as a dot"))

# %% [markdown]
# ## Class by class

# %%
HTML(html.figure(figures.class_picture(comparison), alt="gain by size or class"))

# %% [markdown]
# ## Sizes over the same classes
#
# The columns of the first picture hold different classes. Here they hold the same ones, and a gain
# is shown as a part of what the reference lacks too, since small objects are harder.

# %%
HTML(report.sizes_body(comparison))

# %% [markdown]
# ## Along the training

# %%
HTML(report.learning_body(comparison))

# %% [markdown]
# ## Objects with the largest gains and losses

# %%
HTML(
    report.crops_body(comparison, read_crops(RUNS))
    or html.paragraph("scripts/collect.py adds them.")
)

# %% [markdown]
# ## Cost, and how it was made

# %%
HTML(html.table(tables.costs(comparison)) + html.bullets(text.setting(comparison)))

# %% [markdown]
# ## Every number
#
# `gains` is the first picture as a table, and `run_scores` holds the values of result.json.
# `neighbours` reads the same predictions as other papers do, see docs/evidence.md.

# %%
tables.gains(comparison)

# %%
details.neighbours(comparison)

# %%
tables.run_scores(comparison).pivot_table(index="score", columns="head", values="value")
