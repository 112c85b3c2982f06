"""Copies of modules that share weights with the original and differ in a part."""

import copy
from typing import Any, TypeVar

from torch import nn

Module = TypeVar('Module', bound=nn.Module)


def with_children(module: Module, **children: nn.Module) -> Module:
    """Copy a module, not its weights, and give the copy other children.

    Args:
        module: The module, which stays as it is.
        **children: New children by name; names that the module does not have are refused.

    Returns:
        A module of the same class; all other children, parameters and buffers are the same
        objects.

    Raises:
        KeyError: for a child that is not there.
    """
    absent = children.keys() - module._modules.keys()
    if absent:
        raise KeyError(f'{type(module).__name__} has no child {", ".join(sorted(absent))}')
    twin = copy.copy(module)
    twin._modules = {**module._modules, **children}
    return twin


def with_attributes(module: Module, **values: Any) -> Module:
    """Copy a module, not its weights, and give the copy other plain attributes.

    Args:
        module: The module, which stays as it is.
        **values: Attributes that are neither modules nor tensors.
    """
    twin = with_children(module)
    vars(twin).update(values)
    return twin
