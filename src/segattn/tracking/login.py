"""Logging in to W&B, for what is of no use offline."""

import os

from segattn.base.errors import UserError

_ADVICE = "Log in with `wandb login`, or set WANDB_API_KEY."


def log_in() -> str:
    """The user or team that runs go to by default; asks nobody anything.

    Raises:
        UserError: There is no key, the server does not know it, or there is no server.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb  # 0.7 s, and not needed where W&B is off

    try:
        if not wandb.login(prompt=False, verify=True):
            raise UserError(f"nobody is logged in to W&B. {_ADVICE}")
        return str(wandb.Api().default_entity)
    except wandb.Error as error:
        raise UserError(f"W&B does not let us in: {error}. {_ADVICE}") from error
