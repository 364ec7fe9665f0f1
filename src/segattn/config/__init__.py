"""The config of a run: its schema, its checks, and how Hydra composes it."""
