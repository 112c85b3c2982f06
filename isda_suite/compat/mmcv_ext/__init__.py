"""Stand-in for mmcv's compiled operators on those of torchvision, PyTorch and ``isda_suite.ops``.

It covers what the models of mmdet and mmseg call, on the CPU and on a GPU, with the signatures of
``mmcv._ext``: results are written into tensors that the caller made. Names without an operator
here give a function that says so when it is called.
"""

from collections.abc import Callable
from typing import Any

from isda_suite.compat.versions import torchvision_problem

from .missing import missing_operator

__all__ = ['OPERATORS', 'missing_operator']


def _load_operators() -> dict[str, Callable[..., Any]]:
    """Import the operators, explaining the usual reason if torchvision's do not load."""
    import torch

    try:
        import torchvision  # noqa: F401  registers torch.ops.torchvision

        torch.ops.torchvision.deform_conv2d  # noqa: B018
    except (ImportError, AttributeError, RuntimeError) as error:
        problem = torchvision_problem() or f'the operators of torchvision do not load: {error}'
        raise ImportError(f'{problem} (needed by the stand-in for mmcv._ext)') from error
    from . import (
        boxes,
        build_info,
        carafe,
        deform_conv,
        deform_roi_pool,
        focal_loss,
        masked_conv,
        ms_deform_attn,
        psa_mask,
        roi_align,
        roi_pool,
    )

    functions = (
        boxes.nms,
        boxes.softnms,
        boxes.nms_match,
        boxes.bbox_overlaps,
        build_info.get_compiler_version,
        build_info.get_compiling_cuda_version,
        carafe.carafe_forward,
        carafe.carafe_backward,
        carafe.carafe_naive_forward,
        carafe.carafe_naive_backward,
        deform_conv.deform_conv_forward,
        deform_conv.deform_conv_backward_input,
        deform_conv.deform_conv_backward_parameters,
        deform_conv.modulated_deform_conv_forward,
        deform_conv.modulated_deform_conv_backward,
        deform_roi_pool.deform_roi_pool_forward,
        deform_roi_pool.deform_roi_pool_backward,
        focal_loss.sigmoid_focal_loss_forward,
        focal_loss.sigmoid_focal_loss_backward,
        focal_loss.softmax_focal_loss_forward,
        focal_loss.softmax_focal_loss_backward,
        masked_conv.masked_im2col_forward,
        masked_conv.masked_col2im_forward,
        ms_deform_attn.ms_deform_attn_forward,
        ms_deform_attn.ms_deform_attn_backward,
        psa_mask.psamask_forward,
        psa_mask.psamask_backward,
        roi_align.roi_align_forward,
        roi_align.roi_align_backward,
        roi_pool.roi_pool_forward,
        roi_pool.roi_pool_backward,
    )
    return {function.__name__: function for function in functions}


OPERATORS = _load_operators()
"""Name in ``mmcv._ext`` to function."""
