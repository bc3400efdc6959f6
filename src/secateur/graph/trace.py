"""Run a model's own forward once on fake tensors and write down what it does to each axis."""

from __future__ import annotations

import copy
import random
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from ..errors import TraceError
from .example import Example, as_call, map_tensors, results, tensors
from .provenance import Size, Traced, is_settings, traced_attributes
from .record import Trace
from .rules import FUNCTIONS, STATED, Call, follow, lookup
from .tracer import Tracer


class _Authored(TorchFunctionMode):
    """Sees calls as the author wrote them, Python ints and all; sizes read from tensors remember their axis."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", str(func))
        if func in TRANSPARENT:
            with self:
                return TRANSPARENT[func](*args, **kwargs)
        outer = self.tracer.call
        self.tracer.begin(name, args, kwargs)
        try:
            if name in STATED:
                STATED[name](self.tracer, *args, **kwargs)
            if name in FUNCTIONS:
                result = FUNCTIONS[name](self.tracer, *args, **kwargs)
                self.tracer.carriers.called(self.tracer.path, name, args, kwargs, result)
                return result
            result = func(*args, **kwargs)
            if func is not Tensor.size:
                _pin(self.tracer, name, (args, kwargs))
                self.tracer.carriers.called(self.tracer.path, name, args, kwargs, result)
        finally:
            self.tracer.call = outer
        if func is Tensor.size or getattr(func, "__self__", None) is _SHAPE:
            return self._sized(result, *args, **kwargs)
        return result

    def _sized(self, result: Any, tensor: Tensor, dim: int | None = None) -> Any:
        axes = self.tracer.axes(tensor)
        if isinstance(result, torch.Size):
            return torch.Size([Traced(n, Size(a)) for n, a in zip(result, axes, strict=True)])
        return result if dim is None else Traced(result, Size(axes[dim]))


def _pin(tracer: Tracer, name: str, tree: Any) -> None:
    """Ints given to a function that no rule has read must stay as they are."""
    if isinstance(tree, Traced):
        if id(tree) not in tracer.used:
            tracer.pin(tree, f"an argument of {name}")
    elif isinstance(tree, slice):
        _pin(tracer, name, (tree.start, tree.stop, tree.step))
    elif isinstance(tree, (tuple, list, dict)):
        for value in tree.values() if isinstance(tree, dict) else tree:
            _pin(tracer, name, value)


def _transparent(function: Any) -> Any:
    """A function of torch, written in Python, whose inner calls a function mode sees too."""
    unseen = dict.fromkeys(("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic"), _never)
    seen = FunctionType(function.__code__, function.__globals__ | unseen, function.__name__, function.__defaults__)
    seen.__kwdefaults__ = function.__kwdefaults__
    return seen


def _never(*_: Any) -> bool:
    return False


_SHAPE: Any = vars(torch._C.TensorBase)["shape"]
TRANSPARENT: dict[Any, Any] = {f: _transparent(f) for f in (F.multi_head_attention_forward, F.normalize)}


class _Ops(TorchDispatchMode):
    """Sees every ATen op and asks its rule where the labels go."""

    def __init__(self, tracer: Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func.namespace == "prim":
            return result
        outputs = tensors(result)
        if outputs:
            call = Call(func, args, kwargs, tensors((args, kwargs)), outputs)
            self.tracer.saw(call.name, call.inputs, outputs, follows=True)
            lookup(func)(self.tracer, call)
            follow(self.tracer, call)
            self.tracer.lives.ran(call.inputs, outputs)
        return result


def block_paths(model: nn.Module) -> set[str]:
    """The modules that are checked alone: the largest that hold no stack of others."""

    def stacks(module: nn.Module) -> bool:
        stack = isinstance(module, (nn.ModuleList, nn.Sequential))
        return stack and sum(any(True for _ in child.children()) for child in module.children()) > 1

    found: set[str] = set()

    def walk(path: str, module: nn.Module) -> None:
        if not any(stacks(m) for m in module.modules()):
            found.add(path)
            return
        for name, child in module.named_children():
            walk(f"{path}.{name}".lstrip("."), child)

    walk("", model)
    return found


@contextmanager
def _module_paths(model: nn.Module, tracer: Tracer) -> Iterator[None]:
    """Keep `tracer.path` at the module being called."""
    paths = {id(m): name for name, m in model.named_modules()}
    blocks = block_paths(model)
    stack: list[str] = []

    def enter(module: nn.Module, args: Any) -> None:
        stack.append(tracer.path)
        tracer.carriers.enter(args)
        tracer.path = paths.get(id(module), tracer.path)

    def leave(module: nn.Module, args: Any, *rest: Any) -> None:
        if len(rest) < 2:  # not (kwargs, output): the forward raised
            tracer.broke_at = tracer.broke_at or tracer.path
            tracer.carriers.broke()
        else:
            path = paths.get(id(module))
            tracer.carriers.leave(path, args, *rest)
            if path in blocks:
                tracer.block(path, (args, rest[0]), results(rest[1]))
        tracer.path = stack.pop()

    pre = nn.modules.module.register_module_forward_pre_hook(enter)
    post = nn.modules.module.register_module_forward_hook(leave, with_kwargs=True, always_call=True)
    try:
        yield
    finally:
        pre.remove()
        post.remove()
        for table in ("_global_forward_hooks_with_kwargs", "_global_forward_hooks_always_called"):
            getattr(nn.modules.module, table, {}).pop(post.id, None)  # torch's handle leaves these behind


_Holdings = list[tuple[Any, Any]]


def _holdings(model: nn.Module) -> _Holdings:
    """The lists, dicts, sets and plain objects that modules hold, each with a copy of what is in it."""
    found: _Holdings = []
    seen: set[int] = set()
    for module in model.modules():
        for name, value in vars(module).items():
            if name not in ("_parameters", "_buffers", "_modules"):
                _hold(value, found, seen)
    return found


def _hold(value: Any, found: _Holdings, seen: set[int]) -> None:
    if isinstance(value, (str, int, float, Tensor, nn.Module)) or value is None or id(value) in seen:
        return
    container = isinstance(value, (list, dict, set, deque))
    if not container and not is_settings(value):
        return
    seen.add(id(value))
    inside = value if container else vars(value)
    found.append((inside, copy.copy(inside) if inside else type(inside)()))
    for child in list(inside.values() if isinstance(inside, dict) else inside):
        _hold(child, found, seen)


def _restore(held: Any, before: Any) -> None:
    if isinstance(held, (dict, set)):
        held.clear()
        held.update(before)
    elif list(held) != list(before) or len(held) != len(before):
        held.clear()
        held.extend(before)


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """The model in eval mode, to be run; after it all is as before: attributes, modes, buffers, and the RNG."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    kept = [(module, dict(vars(module)), dict(module._buffers)) for module in model.modules()]
    holdings, drawn, drawn_by_numpy = _holdings(model), random.getstate(), np.random.get_state()  # noqa: NPY002  users' own
    mha = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # it hides the plain ops that rules and masks speak of
    try:
        for module, _, buffers in kept:
            module._buffers.update({name: None if b is None else b.clone() for name, b in buffers.items()})
        model.eval()
        grads = torch.is_grad_enabled()
        with torch.random.fork_rng(devices=devices), ExitStack() as stack:
            stack.enter_context(torch.inference_mode(False))  # there ops arrive before they are taken apart
            stack.enter_context(torch.set_grad_enabled(grads))
            for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
                stack.enter_context(torch.autocast(device, enabled=False))  # its casts hide parameters
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(mha)
        random.setstate(drawn)
        np.random.set_state(drawn_by_numpy)  # noqa: NPY002
        for held, before in holdings:
            _restore(held, before)
        for module, attributes, buffers in kept:
            vars(module).clear()
            vars(module).update(attributes)
            module._buffers.clear()
            module._buffers.update(buffers)


def read(model: nn.Module, example: Example, *, experts: bool = False) -> Trace:
    """One forward of `model` on fake tensors, as labels. The model, its mode and the RNG are left as they were.

    `experts`: where either they or what is inside of each can be cut, and not both, experts go.
    Raises `BadExample` for an example that is no call. Errors of the model's own forward come through as they are.
    """
    with torch.inference_mode(False):
        return _read(model, *as_call(example), experts)


def _line(error: BaseException) -> str:
    """The last line that is neither ours nor torch's."""
    ours = (str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(ours)]
    return f"{frames[-1].filename}:{frames[-1].lineno} ({frames[-1].line})" if frames else "a line of torch"


def _imitation(fake: FakeTensorMode, tensor: Tensor) -> Tensor:
    """A fake tensor of the same layout, type and device; the short way, where there is no view or subclass to keep."""
    if type(tensor) not in (Tensor, nn.Parameter) or tensor._is_view() or tensor.layout is not torch.strided:
        return fake.from_tensor(tensor)
    shell = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    return FakeTensor(fake, shell, tensor.device)


def _read(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], experts: bool) -> Trace:
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    state: dict[str, Tensor] = {}
    tracer = Tracer(experts)
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        state[name] = _imitation(fake, tensor)
        tracer.adopt(state[name], name, tensor)
    args, kwargs = map_tensors(args, fake.from_tensor), map_tensors(kwargs, fake.from_tensor)
    with ExitStack() as stack:
        stack.enter_context(undisturbed(model))
        attributes = stack.enter_context(traced_attributes(model, tracer))
        stack.enter_context(_module_paths(model, tracer))
        for mode in (torch.no_grad(), fake, _Ops(tracer), _Authored(tracer)):
            stack.enter_context(mode)
        try:
            output = torch.func.functional_call(model, state, args, kwargs)
        except (DataDependentOutputException, DynamicOutputShapeException) as error:
            raise TraceError(
                f"the forward goes by the values in a tensor ({error}) at {_line(error)}, in module "
                f"{tracer.broke_at or 'the model'!r}; a trace needs a path and shapes that depend on shapes alone"
            ) from error
        outputs = results(output)
        if not outputs:
            raise TraceError(f"the model returned no tensor but a {type(output).__name__}")
        return tracer.finish(outputs, attributes)
