"""Weights from files: by name, for an encoder of segmentation-models-pytorch (smp)."""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from segattn.base.errors import UserError, first_line

_CLASSIFIERS = (
    *("fc.", "_fc.", "last_linear.", "classifier.", "head."),
    *("incre_modules.", "downsamp_modules.", "final_layer."),  # of an HRNet
)
"""How the names of a classification network's last layers begin, which no encoder has."""

_NUM_LISTED = 8


def weights_file(encoder: str, weights: str | None) -> Path | None:
    """The file that `encoder.weights` means; None for a name of smp, such as "imagenet", and None.

    Raises:
        UserError: It is no name of this encoder, and no file.
    """
    names = ["imagenet"]
    if not encoder.startswith("tu-"):
        names = list(smp.encoders.encoders[encoder]["pretrained_settings"])
    if weights is None or weights in names:
        return None
    path = Path(weights).expanduser()
    if not path.is_file():
        raise UserError(
            f"encoder.weights={weights} is no file, and none of the weights of {encoder}: "
            f"{', '.join(names)}; null starts from scratch"
        )
    return path


def read_weights(path: Path) -> dict[str, Any]:
    """What a file of torch or safetensors holds by name.

    Raises:
        UserError: It cannot be read, or holds more than tensors and plain values.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (
        *(OSError, RuntimeError, EOFError, LookupError),
        *(pickle.UnpicklingError, SafetensorError),
    ) as error:
        raise UserError(
            f"cannot read weights from {path} ({first_line(error)}); a file that holds "
            f"more than tensors and plain values is not opened, since it could run code"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not weights by name")
    return content


def load_encoder(encoder: nn.Module, path: Path, *, name: str) -> None:
    """Load a state dict into an encoder of `build_encoder`.

    It may be deeper than the encoder and have a classifier: both are left out.

    Args:
        encoder: As `build_encoder` gives it, without the stages that it does not use.
        path: Of torch or safetensors; the state dict itself, or one under "state_dict" or "model".
        name: Of the encoder.

    Raises:
        UserError: Weights that the encoder needs are missing or of another shape, or there are
            others that belong to no stage of it; the message lists them.
    """
    body, given = _network(getattr(encoder, "branches", encoder)), _state(read_weights(path))
    needed = body.state_dict()
    with torch.device("meta"):  # names alone, of all stages
        whole = _network(smp.encoders.get_encoder(name, depth=5, weights=None)).state_dict()
    faults = {
        "missing": [
            k for k in needed.keys() - given.keys() if not k.endswith("num_batches_tracked")
        ],
        "of another shape": [k for k in needed if k in given and given[k].shape != needed[k].shape],
        "unknown": [
            k for k in given.keys() - whole.keys() - needed.keys() if not k.startswith(_CLASSIFIERS)
        ],
    }
    if any(faults.values()):
        told = "; ".join(f"{kind}: {_listed(keys)}" for kind, keys in faults.items() if keys)
        raise UserError(f"encoder.weights={path} is not of encoder {name} at this depth. {told}")
    nn.Module.load_state_dict(body, {k: v for k, v in given.items() if k in needed}, strict=False)


def _network(encoder: Any) -> nn.Module:
    """The encoder itself, or timm's network inside smp's ("tu-...")."""
    return encoder.model if isinstance(getattr(encoder, "model", None), nn.Module) else encoder


def _state(content: dict[str, Any]) -> dict[str, Tensor]:
    """The state dict itself, or the one that a training wrapped."""
    for key in ("state_dict", "model"):
        if isinstance(content.get(key), dict):
            content = content[key]
    return {key: value for key, value in content.items() if isinstance(value, Tensor)}


def _listed(keys: Sequence[str]) -> str:
    shown = ", ".join(sorted(keys)[:_NUM_LISTED])
    return shown + (f" and {len(keys) - _NUM_LISTED} more" if len(keys) > _NUM_LISTED else "")
