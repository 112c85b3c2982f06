"""Masks as COCO's run-length code."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def as_array(values: Any) -> NDArray[Any]:
    """Return a tensor of any device, or what numpy takes, as an array."""
    return values.detach().cpu().numpy() if hasattr(values, 'detach') else np.asarray(values)


def encode_mask(mask: NDArray[Any]) -> dict[str, Any]:
    """Encode a mask.

    Args:
        mask: (H, W), 0/1 or bool.

    Returns:
        ``size`` (h, w) and ``counts`` as text, ready for JSON.
    """
    from pycocotools import mask as coco_mask

    code = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {'size': [int(side) for side in code['size']], 'counts': code['counts'].decode('ascii')}
