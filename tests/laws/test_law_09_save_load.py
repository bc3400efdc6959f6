"""Law 9: save, then load in a fresh process, is exact; and what is loaded into stays as it was."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import secateur
from held import assert_unchanged, batches, loss, random_plan, same_weights
from nets import ALL, HAND, OURS, fresh, graph
from secateur.errors import CheckpointError, WrongArchitecture
from secateur.graph.example import call, tensors
from secateur.methods.slimming import Slimming
from secateur.methods.srinivas2015 import NeuronMerging

LOADS = """
import json, sys
import conftest, torch
from held import snapshot
from nets import ALL, fresh
from safetensors.torch import save_file
import secateur
from secateur.errors import WrongArchitecture
from secateur.graph.example import call, tensors

for case, name in json.loads(sys.argv[2]).items():
    into = fresh(name, seed=5)
    before = snapshot(into)
    model = secateur.load(f"{sys.argv[1]}/{case}.safetensors", into=into).eval()
    assert snapshot(into) == before, case
    with torch.no_grad():
        outputs = {f"{i}": t.contiguous() for i, t in enumerate(tensors(call(model, ALL[name].example)))}
    state = {f"state.{n}": t.clone() for n, t in model.state_dict().items()}
    save_file(outputs | state, f"{sys.argv[1]}/{case}.loaded")
"""


def cases():
    """Every network that is small enough, and one each that was cut twice, folded, merged, and reconstructed."""
    names = [*HAND, *OURS, "mobilenet_v2"]
    made = {name: (name, secateur.cut(graph(name), random_plan(graph(name), seed=8))) for name in names}
    budget, example = secateur.Budget(macs=0.7), ALL["padded"].example
    first = secateur.prune(fresh("padded"), example, budget=budget)
    made["twice-cut"] = ("padded", secateur.prune(first, example, budget=budget))
    data = batches(example)
    plan = Slimming().plan(graph("padded"), budget, batches=data, loss=loss)
    made["folded"] = ("padded", secateur.cut(graph("padded"), plan))
    merging = NeuronMerging().plan(graph("padded"), budget)
    made["merged"] = ("padded", secateur.cut(graph("padded"), merging))
    repaired = secateur.prune(fresh("plain"), example, budget=budget, batches=data, repair="reconstruct")
    made["reconstructed"] = ("plain", repaired)
    return made


def test_a_fresh_process_gets_the_same_bits(tmp_path):
    made = cases()
    for case, (_, pruned) in made.items():
        secateur.save(pruned, tmp_path / f"{case}.safetensors")
    names = json.dumps({case: name for case, (name, _) in made.items()})
    tests = Path(__file__).parents[1]
    command = [sys.executable, "-c", LOADS, str(tmp_path), names]
    done = subprocess.run(command, cwd=tests, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for case, (name, pruned) in made.items():
        loaded, model = load_file(tmp_path / f"{case}.loaded"), pruned.model.eval()
        for key, value in model.state_dict().items():
            assert torch.equal(loaded[f"state.{key}"], value), (case, key)
        with torch.no_grad():
            for i, value in enumerate(tensors(call(model, ALL[name].example))):
                assert torch.equal(loaded[str(i)], value), case


@pytest.mark.parametrize("name", ["padded", "twice", "tied", "grouped", "named", "depthwise"])
def test_loaded_is_the_same_model_and_can_be_pruned_on(name, tmp_path):
    g = graph(name)
    pruned = secateur.cut(g, random_plan(g, seed=9, keep=0.7))
    secateur.save(pruned, tmp_path / "model.safetensors")
    into = fresh(name, seed=3)
    with assert_unchanged(into, pruned.model):
        loaded = secateur.load(tmp_path / "model.safetensors", into=into)
    assert same_weights(pruned.model, loaded)
    assert type(loaded) is type(into)
    if name == "tied":
        assert loaded.b.weight is loaded.c.weight
    further = secateur.trace(loaded, g.example)
    assert same_weights(
        secateur.cut(further, random_plan(further, keep=0.5)).model,
        secateur.cut(secateur.trace(pruned.model, g.example), random_plan(further, keep=0.5)).model,
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_types_are_stored_as_they_are(dtype, tmp_path):
    example = ALL["plain"].example.to(dtype)
    pruned = secateur.prune(fresh("plain").to(dtype), example, budget=secateur.Budget(macs=0.5))
    secateur.save(pruned, tmp_path / "model.safetensors")
    loaded = secateur.load(tmp_path / "model.safetensors", into=fresh("plain", seed=2).to(dtype))
    assert same_weights(pruned.model, loaded)


def test_another_type_is_kept_or_refused(tmp_path):
    pruned = secateur.prune(fresh("plain").half(), ALL["plain"].example.half(), budget=secateur.Budget(macs=0.5))
    secateur.save(pruned, tmp_path / "model.safetensors")
    try:
        loaded = secateur.load(tmp_path / "model.safetensors", into=fresh("plain"))
    except WrongArchitecture:
        return
    assert same_weights(loaded, pruned.model)


class Extra(nn.Linear):
    """Keeps something in its state that is no tensor."""

    def get_extra_state(self):
        return {"scale": 2}

    def set_extra_state(self, state):
        raise AssertionError("nothing is loaded")


def test_extra_state_that_is_no_tensor_is_refused_by_name(tmp_path):
    x = torch.zeros(2, 5)
    pruned = secateur.prune(nn.Sequential(Extra(5, 6), nn.Linear(6, 2)), x, budget=secateur.Budget(macs=0.5))
    with pytest.raises(CheckpointError, match=r"0\._extra_state is a dict, not a tensor"):
        secateur.save(pruned, tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


def test_saving_again_replaces_the_file_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "deep" / "model.safetensors"
    g = graph("plain")
    for seed in range(2):
        pruned = secateur.cut(g, random_plan(g, seed=seed))
        secateur.save(pruned, str(path))
    assert [p.name for p in path.parent.iterdir()] == ["model.safetensors"]
    assert same_weights(secateur.load(path, into=fresh("plain")), pruned.model)


def test_the_file_is_plain_safetensors_and_its_header_is_json(tmp_path):
    path = tmp_path / "model.safetensors"
    g = graph("padded")
    pruned = secateur.cut(g, random_plan(g, seed=1))
    secateur.save(pruned, path)
    assert all(torch.equal(load_file(path)[n], t) for n, t in pruned.model.state_dict().items())
    size = int.from_bytes(path.read_bytes()[:8], "little")
    stored = json.loads(json.loads(path.read_bytes()[8 : 8 + size])["__metadata__"]["secateur"])
    facts = json.loads(stored["text"])["facts"]
    assert facts["class"] == "nets.Padded"
    assert secateur.Plan.model_validate(facts["plans"][0]) == pruned.plan


def test_training_mode_moves_nothing_in_the_file(tmp_path):
    """Saving does not touch the model."""
    g = graph("plain")
    pruned = secateur.cut(g, random_plan(g, seed=1))
    with assert_unchanged(pruned.model):
        secateur.save(pruned, tmp_path / "model.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")  # a neighbour is not disturbed
    secateur.save(pruned, tmp_path / "model.safetensors")
    assert load_file(tmp_path / "other.safetensors").keys() == {"x"}
