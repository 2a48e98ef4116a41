"""Bytes alive, counted storage by storage, on tensors that need not exist.

Every tensor that an operation returns is looked at; its storage counts from that moment until the
last reference to it is gone, be it a variable's, the autograd graph's or a gradient's. Under
``FakeTensorMode`` storages have a size and a life but no memory, so a step of any batch can be
counted on any machine. What is not counted: a kernel's own workspace and the allocator's rounding.
"""

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

MIB = 2**20


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of all storages that were made inside of it and are still alive.

    Example::

        with FakeTensorMode(), PeakMemory() as memory:
            x = torch.empty(2**20)  # nothing is allocated
        memory.alive_bytes  # 4 * 2**20

    Attributes:
        alive_bytes: now.
        peak_bytes: the most so far, or since :meth:`forget_peak`.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive_bytes = 0
        self.peak_bytes = 0
        self._watched: set[int] = set()

    def forget_peak(self) -> None:
        """Count the peak from here on."""
        self.peak_bytes = self.alive_bytes

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._watch(leaf.untyped_storage())
        return result

    def _watch(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata  # a view or an in-place result has the storage of another tensor
        if key in self._watched:
            return
        self._watched.add(key)
        size = storage.nbytes()
        self.alive_bytes += size
        self.peak_bytes = max(self.peak_bytes, self.alive_bytes)
        weakref.finalize(storage, self._gone, key, size).atexit = False

    def _gone(self, key: int, size: int) -> None:
        self._watched.discard(key)
        self.alive_bytes -= size
