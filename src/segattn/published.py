"""Weights of the published code, renamed so that they load into the modules of this package.

| name         | published module, code                           | loads into                     |
|--------------|--------------------------------------------------|--------------------------------|
| `pam`        | PAM_Module, junfu1115/DANet                      | `heads.blocks.SpatialBlock`    |
| `cam`        | CAM_Module, junfu1115/DANet                      | `heads.blocks.ChannelBlock`    |
| `fla`        | FullyAttentionalBlock, Ilareina/FullyAttentional | `block` (FullBlock) + `refine` |
| `danet_head` | DANetHead, junfu1115/DANet                       | `heads.danet.DANetHead`        |

`block` and `refine` are the middle of `heads.scaffold.ScaffoldHead`.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from segattn.arguments import check_choice

COUNTER = "num_batches_tracked"
LAYER = ("weight", "bias")
NORM = (*LAYER, "running_mean", "running_var", COUNTER)
CONV_NORM = ("0.weight", *(f"1.{suffix}" for suffix in NORM))


def _each(suffixes: tuple[str, ...], modules: dict[str, str]) -> dict[str, str]:
    """Parameter names from module names: every module has the same parameters in both codes."""
    return {f"{old}.{s}": f"{new}.{s}" for old, new in modules.items() for s in suffixes}


# published parameter name -> ours
RENAMES: dict[str, dict[str, str]] = {
    "pam": {
        "gamma": "gamma",
        **_each(LAYER, {"query_conv": "query", "key_conv": "key", "value_conv": "value"}),
    },
    "cam": {"gamma": "gamma"},
    "fla": {
        "gamma": "block.gamma",
        **_each(LAYER, {"conv1": "block.column_context", "conv2": "block.row_context"}),
        **_each(CONV_NORM, {"conv": "refine"}),
    },
    "danet_head": {
        **_each(
            CONV_NORM,
            {
                "conv5a": "branches.spatial.0",
                "conv51": "branches.spatial.2",
                "conv5c": "branches.channel.0",
                "conv52": "branches.channel.2",
            },
        ),
        "sa.gamma": "branches.spatial.1.gamma",
        "sc.gamma": "branches.channel.1.gamma",
        **_each(
            LAYER,
            {
                "sa.query_conv": "branches.spatial.1.query",
                "sa.key_conv": "branches.spatial.1.key",
                "sa.value_conv": "branches.spatial.1.value",
                "conv6.1": "aux.spatial.1",
                "conv7.1": "aux.channel.1",
                "conv8.1": "classify.1",
            },
        ),
    },
}

# Linear in the published code, a convolution of one tap along one axis here
LINEAR_TO_CONV1D = {"block.column_context.weight", "block.row_context.weight"}


def convert(name: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the weights of a published module for `load_state_dict(strict=True)` into ours.

    The names in `state_dict` count from the published module itself, so a head must be taken out
    of a whole model's dict first; `module.` before every name (DataParallel) is accepted.
    Checkpoints older than PyTorch 0.4.1 have no `num_batches_tracked`. It becomes 0, as in PyTorch
    itself: batch norm with a fixed momentum, the only kind here, never reads it.

    Args:
        name: A key of `RENAMES`.
        state_dict: Parameters and buffers by published name.

    Returns:
        The same tensors (not copies) by our names; for "fla" the Linear weights [C, C] of the
        contexts as Conv1d weights [C, C, 1].

    Raises:
        ValueError: Unknown `name` (lists the choices), or `state_dict` has other names than the
            published module; the message lists every missing and every unexpected one.
    """
    check_choice("published module", name, RENAMES)
    renames = RENAMES[name]
    weights = _with_counters(_without_prefix(state_dict), renames)
    missing, unexpected = sorted(renames.keys() - weights), sorted(weights.keys() - renames)
    if missing or unexpected:
        raise ValueError(
            f"not the weights of a published {name!r}: missing {missing or 'none'}, "
            f"unexpected {unexpected or 'none'}"
        )
    renamed = {ours: weights[published] for published, ours in renames.items()}
    return {k: v.unsqueeze(-1) if k in LINEAR_TO_CONV1D else v for k, v in renamed.items()}


def _without_prefix(state_dict: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    if not all(key.startswith("module.") for key in state_dict):
        return state_dict
    return {key.removeprefix("module."): value for key, value in state_dict.items()}


def _with_counters(state_dict: Mapping[str, Tensor], names: Iterable[str]) -> dict[str, Tensor]:
    counters = {name: torch.tensor(0) for name in names if name.endswith(COUNTER)}
    return {**counters, **state_dict}
