"""Weights from files: by name, for an encoder of segmentation-models-pytorch (smp)."""

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
"""How the names of a classification network's last layers begin, which no encoder has."""

_NUM_LISTED = 8

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
IMAGENET: Normalisation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LIKE = {
    "dpn": "dpn68",
    "inception": "inception_v4",
    "xception": "legacy_xception",
    "timm-tf_efficientnet_lite": "tf_efficientnet_lite0",
}
"""Names of smp's own encoders begin so, and a model of timm whose weights want the same images."""


def normalisation(encoder: str, weights: str | None = "imagenet") -> Normalisation:
    """Return the mean and deviation of the images that an encoder's weights were trained with.

    Those of a file are taken for the encoder's usual ones; None, from scratch, has ImageNet's.
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
        UserError: It is neither a name of this encoder's weights nor a file.
    """
    names = weight_names(encoder)
    if weights is None or weights in names:
        return None
    path = Path(weights).expanduser()
    if not path.is_file():
        raise UserError(
            f"encoder.weights={weights} is not a file, nor one of the pretrained weights of "
            f"{encoder}: {', '.join(names) or 'it has none'}; null starts from scratch"
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
