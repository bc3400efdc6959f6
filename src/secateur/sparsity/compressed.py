"""A linear layer that holds its weight as compressed rows and multiplies with them, for inference on the CPU.

Rows are stored as scipy and torch do: the values that are kept, their columns, and where each row starts. Both kernels
give features by samples, so that a batch is laid out anew before and after the product; that is part of the forward.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, Literal

import torch
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from ..errors import BadModel, CheckpointError

Kernel = Literal["scipy", "torch"]
KERNELS: tuple[Kernel, ...] = ("scipy", "torch")
DTYPES = (torch.float32, torch.float64)


class CompressedLinear(nn.Module):
    """y = x W^T + b, (..., inputs) -> (..., outputs), with W as compressed rows. It has no parameters.

    Its state is plain tensors: `values` (kept,), `columns` (kept,) and `starts` (outputs + 1,) int32, `shape` (2,),
    `bias` (outputs,) where there is one, and `kernel`, a number of `KERNELS`. Its forward raises `BadModel`, with its
    name, in training mode and where a gradient is asked for.
    """

    values: Tensor
    columns: Tensor
    starts: Tensor
    shape: Tensor
    kernel: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None = None, *, kernel: Kernel = "scipy", path: str = "") -> None:
        super().__init__()
        rows = csr_matrix(weight.detach().cpu().numpy())
        self.register_buffer("values", torch.from_numpy(rows.data))
        self.register_buffer("columns", torch.from_numpy(rows.indices.astype("int32", copy=False)))
        self.register_buffer("starts", torch.from_numpy(rows.indptr.astype("int32", copy=False)))
        self.register_buffer("shape", torch.tensor(weight.shape))
        self.register_buffer("kernel", torch.tensor(KERNELS.index(kernel)))
        self.register_buffer("bias", None if bias is None else bias.detach().clone())
        self.path = path
        self._ready: Any = None  # (rows, outputs, inputs): what a kernel multiplies with, made when it is first needed
        self.training = False

    @classmethod
    def like(cls, state: Mapping[str, Tensor], path: str = "") -> CompressedLinear:
        """The layer that has this state. Raises `CheckpointError`."""
        made = cls(torch.zeros(0, 0), path=path)
        if "bias" in state:
            made.bias = torch.empty_like(state["bias"])
        made.load_state_dict(dict(state))
        return made

    @property
    def in_features(self) -> int:
        """Inputs."""
        return int(self.shape[1])

    @property
    def out_features(self) -> int:
        """Outputs."""
        return int(self.shape[0])

    @property
    def weight(self) -> Tensor:
        """(outputs, inputs), dense, made anew each time."""
        return torch.from_numpy(self._csr().toarray())

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs). Raises `BadModel`."""
        if self.training or (x.requires_grad and torch.is_grad_enabled()):
            why = "it is in training mode" if self.training else "a gradient is asked of its input"
            raise BadModel(
                f"{self.path!r} holds compressed rows, for inference alone, and {why}; call eval(), under "
                "torch.no_grad(), and train the model that `inference` was given"
            )
        if x.device.type != "cpu" or x.dtype != self.values.dtype:
            raise BadModel(
                f"{self.path!r} multiplies {self.values.dtype} on the CPU, and is given {x.dtype} on {x.device}"
            )
        if self._ready is None:
            self._ready = (self._torch() if int(self.kernel) else self._csr(), *self.shape.tolist())
        rows, outputs, inputs = self._ready
        flat = x.detach().reshape(-1, inputs)
        if isinstance(rows, Tensor):
            result = (rows @ flat.T.contiguous()).T.contiguous()
        elif len(flat) == 1:  # a vector is laid out alike both ways
            result = torch.from_numpy(rows @ flat.numpy()[0])
        else:
            result = torch.from_numpy(rows @ flat.numpy().T).T.contiguous()
        if self.bias is not None:
            result += self.bias
        return result.reshape(*x.shape[:-1], outputs)

    def _torch(self) -> Tensor:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*[Ss]parse CSR.*")
            size = (self.out_features, self.in_features)
            held = (self.starts, self.columns, self.values)
            return torch.sparse_csr_tensor(*held, size, check_invariants=True)

    def _csr(self) -> Any:
        held = (self.values.numpy(), self.columns.numpy(), self.starts.numpy())
        return csr_matrix(held, shape=(self.out_features, self.in_features))

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        # As many values as the state has, and not as many as there were.
        for name in ("values", "columns", "starts"):
            stored = state_dict.get(prefix + name)
            if stored is not None:
                setattr(self, name, torch.empty_like(stored))
        self._ready = None
        super()._load_from_state_dict(state_dict, prefix, *args)
        self._check(prefix)

    def _check(self, prefix: str) -> None:
        kept, outputs, inputs = self.values.numel(), *self.shape.tolist()
        sound = self.starts.numel() == outputs + 1 and self.columns.numel() == kept == int(self.starts[-1])
        rising = sound and bool((self.starts.diff() >= 0).all()) and int(self.starts[0]) == 0
        inside = rising and (not kept or (int(self.columns.min()) >= 0 and int(self.columns.max()) < inputs))
        if not inside or int(self.kernel) not in range(len(KERNELS)):
            raise CheckpointError(f"{prefix or self.path}: these are no compressed rows of {outputs} x {inputs}")

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._ready = None
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_ready": None}

    def extra_repr(self) -> str:
        """Sizes, how many values are kept, and by what it multiplies."""
        kernel = KERNELS[int(self.kernel)]
        return f"{self.in_features}, {self.out_features}, kept={self.values.numel()}, kernel={kernel!r}"
