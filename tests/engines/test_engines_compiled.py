"""torch.compile says the same, and names the compiler that is missing."""

import pytest
import torch
from engine_nets import cut, gap, wanted
from torch import nn

from secateur.engines.compiled import Compiled, torch_threads
from secateur.errors import ExportError, MissingDependency


def test_no_compiler_is_refused_by_name(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler -O3")
    with pytest.raises(MissingDependency, match="no-such-compiler"):
        Compiled().prepare(nn.Linear(2, 2), torch.ones(1, 2))


def test_threads_are_given_back():
    before = torch.get_num_threads()
    with torch_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_what_torch_compile_refuses_is_said(monkeypatch):
    def refuses(graph, inputs):
        raise RuntimeError("no such operator\nand much more")

    compiled = torch.compile
    monkeypatch.setattr(Compiled, "check", lambda self: None)
    monkeypatch.setattr(torch, "compile", lambda model, dynamic: compiled(model, backend=refuses))
    with pytest.raises(ExportError, match=r"Linear: RuntimeError: no such operator\. Try engine 'eager'"):
        Compiled().prepare(nn.Linear(2, 2), torch.ones(1, 2))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["digits", "gpt2"])
def test_it_says_what_the_model_says(name):
    model, example = cut(name)
    with Compiled().prepare(model, example, threads=2) as runner:
        assert gap(wanted(model, example), runner.outputs()) < 1e-4
    assert model.training
