"""From logits at an eighth of the size to class maps, without logits at full size."""

from torch import Tensor

from isda_suite.layers.enlarged_rows import CroppedRows, EnlargedRows, TensorRows, argmax

Size = tuple[int, int]


def class_map(
    logits: Tensor, input_hw: Size, output_hw: Size, padding: tuple[int, int] = (0, 0)
) -> Tensor:
    """Resize logits to the network's input, cut the padding, resize to the image, take the arg-max.

    Both resizings are bilinear and in this order, as published. A block of rows exists at a time:
    K maps of the image's size are 700 MB for 7 classes and 5000 x 5000 pixels.

    Args:
        logits: (K, h, w) of one image.
        input_hw: Size of the network's input.
        output_hw: Size of the image.
        padding: Rows to cut at the bottom of the input, and columns at its right.

    Returns:
        output_hw class indices: uint8, or int64 from 256 classes on.
    """
    kept_hw = (input_hw[0] - padding[0], input_hw[1] - padding[1])
    enlarged = EnlargedRows(TensorRows(logits[None]), input_hw)
    return argmax(EnlargedRows(CroppedRows(enlarged, kept_hw), output_hw))[0]
