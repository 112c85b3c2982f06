"""The best (query, class) pairs of an image."""

from torch import Tensor


def select_queries(cls_logits: Tensor, max_per_img: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pick the best (query, class) pairs; a query may be picked with several classes.

    Args:
        cls_logits: (Q, classes) logits.
        max_per_img: How many pairs at most, > 0; fewer where there are fewer pairs.

    Returns:
        ``scores`` (N,) in descending order, ``labels`` (N,) and ``query_inds`` (N,).
    """
    num_classes = cls_logits.shape[1]
    flat = cls_logits.sigmoid().flatten()
    scores, inds = flat.topk(min(max_per_img, len(flat)))
    return scores, inds % num_classes, inds.div(num_classes, rounding_mode='floor')
