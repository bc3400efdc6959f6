"""Exporters: names of inputs, an open batch, quiet, and refusals that say why."""

import logging
import sys

import pytest
import torch
from engine_nets import cut, gap, wanted, words
from torch import nn

from secateur.engines.base import floats
from secateur.engines.export import input_names, quiet, to_exported_program, to_onnx
from secateur.engines.onnx import arrays, from_onnx
from secateur.errors import BadExample, ExportError, MissingDependency


class Two(nn.Module):
    """Inputs whose order matters; an option; outputs of which one is whole numbers."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, a, b, scale=1.0, nothing=None):
        out = self.linear(a - 2 * b) * scale
        return {"out": out, "best": out.argmax(1), "last": b}


class Branches(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


EXAMPLES = [
    (torch.ones(1, 3), torch.zeros(1, 3)),
    {"b": torch.randn(2, 3), "nothing": None, "a": torch.randn(2, 3), "scale": 2.0},
]


def dims(model):
    import onnx

    graph = onnx.load_from_string(model).graph
    return {i.name: [d.dim_param or d.dim_value for d in i.type.tensor_type.shape.dim] for i in graph.input}


@pytest.mark.parametrize("example", EXAMPLES, ids=["tuple", "keywords"])
def test_inputs_are_named_and_none_is_mistaken_for_another(example):
    model = Two()
    names = ["a", "b"] if isinstance(example, dict) else ["input_0", "input_1"]
    assert input_names(model, example) == names
    file = to_onnx(model, example)
    assert list(dims(file)) == names
    with from_onnx(file, arrays(model, example)) as runner:
        assert gap(wanted(model, example), runner.outputs()) < 1e-6


def test_one_input_has_no_number():
    assert input_names(Two(), torch.ones(1)) == ["input"]
    assert input_names(Two(), {"a": (torch.ones(1), torch.ones(1)), "b": torch.ones(1)}) == ["a_0", "a_1", "b"]


@pytest.mark.parametrize("batch", [1, 2])
def test_an_open_batch_from_any(batch):
    model, _ = cut("gpt2")
    file = to_onnx(model, words(batch), dynamic_batch=True)
    assert dims(file) == {"input_ids": ["batch", 6], "attention_mask": ["batch", 6]}
    with from_onnx(file, arrays(model, words(3))) as runner:
        assert gap(wanted(model, words(3)), runner.outputs()) < 1e-4


def test_a_program_with_an_open_batch_and_without_the_cache():
    model, example = cut("gpt2")
    program = to_exported_program(model, example, dynamic_batch=True)
    assert model.training
    assert gap(wanted(model, words(5)), program.module()(**words(5))) < 1e-4


def test_a_program_gives_what_the_model_gives():
    said = to_exported_program(Two(), EXAMPLES[0]).module()(*EXAMPLES[0])
    assert list(said) == ["out", "best", "last"]
    assert len(floats(said)) == 2


def test_a_batch_that_inputs_do_not_share():
    with pytest.raises(BadExample, match=r"\[\[2, 3\], \[1, 3\]\]"):
        to_exported_program(Two(), (torch.ones(2, 3), torch.ones(1, 3)), dynamic_batch=True)


def test_a_refusal_names_the_model_and_the_reason():
    with pytest.raises(ExportError, match=r"torch.export: Branches cannot be exported: .+\. Try an input"):
        to_onnx(Branches(), torch.ones(1, 3))


def test_more_than_a_file_holds_is_refused_before_any_work():
    with torch.device("meta"):
        model = nn.Linear(2**15, 2**15)
    with pytest.raises(ExportError, match="4 GiB of weights"):
        to_onnx(model, torch.ones(1, 2**15))


def test_no_float_output_is_refused():
    class Best(nn.Module):
        def forward(self, x):
            return x.argmax(1)

    with pytest.raises(ExportError, match="Best gives no float tensor"):
        to_onnx(Best(), torch.ones(1, 3))


def test_a_missing_exporter_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(MissingDependency, match="onnxscript"):
        to_onnx(Two(), EXAMPLES[0])


def test_chatter_is_silenced_and_errors_are_not(capfd):
    to_onnx(Two(), EXAMPLES[0])
    assert capfd.readouterr() == ("", "")
    with quiet():
        print("chatter")
        logging.getLogger("torch.onnx").warning("more")
    with pytest.raises(ZeroDivisionError), quiet():
        raise ZeroDivisionError
    assert capfd.readouterr() == ("", "")
    assert logging.root.manager.disable == logging.NOTSET
