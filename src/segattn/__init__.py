"""Which attention helps objects of which size? Heads, metric and evidence for segmentation.

A room imports only rooms above it:

    metrics     objects of a label map, and IoU by their size
    base        the run folder, whole files, checked arguments, the machine
    data        one file a data set, augmentation, the data module, the check
    models      the equations of attention, heads, encoders, the network
    config      the schema of a run's config, its checks, and Hydra
    tracking    loggers and pictures: W&B, TensorBoard, CSV
    training    a run: train, test, result.json
    evaluation  a checkpoint or predictions: test, predict, export, score
    grid        many runs: here or under Slurm
    analysis    runs compared: statistics, claims, figures, report, publishing

Images and labels come from `data`, pass `models` in `training`, and leave objects.parquet and
result.json in a run folder; `analysis` reads run folders alone. `benchmark` times attention.
"""

__version__ = "0.1.0"
