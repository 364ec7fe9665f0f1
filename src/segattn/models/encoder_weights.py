"""Pretrained weights of encoders: their names, the images they expect, and weights from files."""

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from segattn.base.errors import UserError, first_line

_CLASSIFIERS = (
    *("fc.", "_fc.", "last_linear.", "classifier.", "head."),
    *("incre_modules.", "downsamp_modules.", "final_layer."),  # of an HRNet
)
"""First parts of the names of a classification network's last layers; encoders lack these."""

_NUM_LISTED = 8

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
IMAGENET: Normalisation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LIKE = {
    "dpn": "dpn68",
    "inception": "inception_v4",
    "xception": "legacy_xception",
    "timm-tf_efficientnet_lite": "tf_efficientnet_lite0",
}
"""First parts of names of smp encoders, each with a timm model trained on the same images."""


def normalisation(encoder: str, weights: str | None = "imagenet") -> Normalisation:
    """Return the mean and deviation of the images that an encoder's weights were trained with.

    Weights from a file are assumed to expect the same images as the encoder's pretrained ones.
    None, from scratch, gives ImageNet's mean and deviation.
    """
    model = encoder.removeprefix("tu-")
    if model == encoder:
        model = next((like for start, like in _LIKE.items() if model.startswith(start)), "resnet18")
        model = "tf_efficientnet_b0.ap_in1k" if weights == "advprop" else model
    facts = timm.get_pretrained_cfg(model)
    return IMAGENET if weights is None or facts is None else (facts.mean, facts.std)


def weight_names(encoder: str) -> list[str]:
    """Return the names of the pretrained weights of an encoder."""
    if encoder.startswith("tu-"):
        return ["imagenet"] if timm.is_model_pretrained(encoder.removeprefix("tu-")) else []
    return list(smp.encoders.encoders[encoder]["pretrained_settings"])


def weights_file(encoder: str, weights: str | None) -> Path | None:
    """Return the file that `encoder.weights` names; None for None and names such as "imagenet".

    Raises:
        UserError: `weights` is neither a name of this encoder's weights nor a file.
    """
    names = weight_names(encoder)
    if weights is None or weights in names:
        return None
    path = Path(weights).expanduser()
    if not path.is_file():
        raise UserError(
            f"encoder.weights={weights} is not a file, nor one of the pretrained weights of "
            f"{encoder}: {', '.join(names) or 'none exist'}; null starts from scratch"
        )
    return path


def read_weights(path: Path) -> dict[str, Any]:
    """Read a file of torch or safetensors into a dict by name.

    Raises:
        UserError: The file cannot be read, or holds more than tensors and plain values.
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

    Deeper stages than the encoder has and a classifier in the file are skipped.

    Args:
        encoder: Result of `build_encoder`, without the stages that it does not use.
        path: File of torch or safetensors. It holds the state dict itself, or has it under
            "state_dict" or "model".
        name: Name of the encoder.

    Raises:
        UserError: Weights that the encoder needs are missing or of another shape, or some belong
            to none of its stages. The message lists them.
    """
    body, given = _network(getattr(encoder, "branches", encoder)), _state(read_weights(path))
    needed = body.state_dict()
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
        listed = "; ".join(f"{kind}: {_listed(keys)}" for kind, keys in faults.items() if keys)
        raise UserError(
            f"encoder.weights={path} does not fit encoder {name} at this depth. {listed}"
        )
    nn.Module.load_state_dict(body, {k: v for k, v in given.items() if k in needed}, strict=False)


def _network(encoder: Any) -> nn.Module:
    """Return the encoder itself, or timm's network inside smp's encoder ("tu-...")."""
    return encoder.model if isinstance(getattr(encoder, "model", None), nn.Module) else encoder


def _state(content: dict[str, Any]) -> dict[str, Tensor]:
    """Return the state dict itself, or the one inside a checkpoint."""
    for key in ("state_dict", "model"):
        if isinstance(content.get(key), dict):
            content = content[key]
    return {key: value for key, value in content.items() if isinstance(value, Tensor)}


def _listed(keys: Sequence[str]) -> str:
    shown = ", ".join(sorted(keys)[:_NUM_LISTED])
    return shown + (f" and {len(keys) - _NUM_LISTED} more" if len(keys) > _NUM_LISTED else "")
