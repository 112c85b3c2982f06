"""What mmcv's environment report prints about the compiled module."""

import torch


def get_compiler_version() -> str:
    """Say that nothing was compiled, where a compiled mmcv names its compiler."""
    return 'none (stand-in of isda_suite)'


def get_compiling_cuda_version() -> str:
    """Return the CUDA version of torch, whose kernels the stand-in uses."""
    return torch.version.cuda or 'not available'
