"""Loggers and what they show; the only room, beside publishing, that talks to W&B."""
