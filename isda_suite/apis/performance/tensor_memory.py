"""How many bytes of tensors are alive at the most while something runs.

Every operator of PyTorch passes through here and its results are counted until they are freed, in
the backward pass too. That is exact and the same on every machine; what the kernels take inside of
themselves is not seen.
"""

import weakref
from collections.abc import Iterable
from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class TensorMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's has no types
    """Count the bytes of tensors that are made inside the ``with`` block.

    Args:
        known: Tensors that were there before, as parameters; views of them are not counted.

    Attributes:
        current: Bytes that are alive now.
        peak: Most bytes that were alive at one time.
        gradients: Bytes of the gradients that ``known`` tensors have got so far.
        peak_beside_gradients: Most bytes that were alive at one time, these gradients left out.
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        known = list(known)
        self.current = 0
        self.peak = 0
        self.gradients = 0
        self.peak_beside_gradients = 0
        self._gradients: set[int] = set()
        self._hooks = [
            tensor.register_post_accumulate_grad_hook(self._take_as_gradient)  # type: ignore[no-untyped-call]
            for tensor in known
            if tensor.requires_grad and tensor.is_leaf
        ]
        self._sizes: dict[int, int] = {tensor.untyped_storage()._cdata: 0 for tensor in known}
        self._finalizers: list[Any] = []

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop counting."""
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        self._look_beside_gradients()
        for hook in self._hooks:
            hook.remove()
        for finalizer in self._finalizers:
            finalizer.detach()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operator and count what it returns."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.layout is torch.strided:
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        before = self._sizes.get(key)
        if before is None:
            finalizer = weakref.finalize(storage, self._forget, key)
            finalizer.atexit = False
            self._finalizers.append(finalizer)
        elif not before:
            return
        self._look_beside_gradients()
        self._sizes[key] = size
        self.current += size - (before or 0)
        self.peak = max(self.peak, self.current)

    def _look_beside_gradients(self) -> None:
        """Keep the peak; before anything changes, as only then what is a gradient is known."""
        beside = self.current - self.gradients
        self.peak_beside_gradients = max(self.peak_beside_gradients, beside)

    def _take_as_gradient(self, tensor: Tensor) -> None:
        assert tensor.grad is not None
        key = tensor.grad.untyped_storage()._cdata
        if key not in self._gradients:
            self._gradients.add(key)
            self.gradients += self._sizes.get(key, 0)

    def _forget(self, key: int) -> None:
        self._look_beside_gradients()
        size = self._sizes.pop(key, 0)
        self.current -= size
        if key in self._gradients:
            self._gradients.remove(key)
            self.gradients -= size
