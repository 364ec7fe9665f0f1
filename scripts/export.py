"""Write a checkpoint's model as a program that runs without segattn, and check it by running it.

    python scripts/export.py checkpoint=RUN/checkpoints/last.ckpt out=model.onnx
    python scripts/export.py checkpoint=RUN/checkpoints/last.ckpt out=model.pt2 size=1024,2048

.pt2 is torch.export's format (torch.export.load), .onnx needs `pip install -e ".[export]"`. The
program maps images uint8 [B, 3, H, W] to logits float32 [B, C, H, W], one pass over whole images.
B is free; so are H and W, in the steps that are printed, unless size=H,W fixes them.
"""

from pathlib import Path

from segattn.base.commandline import parse_words, plain_errors, read_words
from segattn.evaluation.export import export, read_size


def main() -> None:
    words = parse_words(__doc__)
    with plain_errors():
        given = read_words(words, needed=("checkpoint", "out"), optional=("size",))
        out = Path(given["out"])
        size = read_size(given["size"]) if "size" in given else None
        exported = export(Path(given["checkpoint"]), out=out, size=size)
    print(f"{out}: images uint8 [B, 3, H, W] to logits, H x W: {exported.sizes}")
    print(
        f"checked on random images: logits reach {exported.scale:.3g}, "
        f"the largest difference from the model is {exported.difference:.1e}"
    )


if __name__ == "__main__":
    main()
