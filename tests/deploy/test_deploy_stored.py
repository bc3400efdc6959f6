"""What is stored of a cut language model gives the same bits in another process, with its ties."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from deploy_models import HOW, NAMES, TIED, cut, example, fresh, logits
from safetensors.torch import load_file

import secateur
from held import same_weights
from secateur.errors import CheckpointError

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("stored")


def test_a_fresh_process_says_the_same_bit_for_bit(folder):
    wanted = {}
    for name in NAMES:
        secateur.save(cut(name, "ranked"), folder / f"{name}.safetensors")
        wanted[name] = logits(cut(name, "ranked").model, example(name))
    paths = os.pathsep.join([str(HERE), str(HERE.parent)])
    done = subprocess.run(
        [sys.executable, str(HERE / "deploy_reader.py"), paths, str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = load_file(folder / "said")
    assert said.keys() == wanted.keys()
    assert [name for name in NAMES if not torch.equal(said[name], wanted[name])] == []


@pytest.mark.parametrize("name", NAMES)
def test_a_loaded_model_is_the_cut_one(name, tmp_path):
    pruned = cut(name, "ranked")
    secateur.save(pruned, tmp_path / "small.safetensors")
    loaded = secateur.load(tmp_path / "small.safetensors", into=fresh(name, seed=5))
    assert same_weights(loaded, pruned.model)
    head, table = loaded.get_output_embeddings(), loaded.get_input_embeddings()
    assert (head.weight is table.weight) == (name in TIED)
    ids = example(name)["input_ids"]
    said = [m.eval().generate(input_ids=ids, max_new_tokens=5, do_sample=False) for m in (loaded, pruned.model)]
    assert torch.equal(*said)


def test_what_was_stored_after_training_in_bfloat16_is_read(tmp_path):
    model = fresh("gpt2").bfloat16()
    pruned = secateur.prune(model, example("gpt2"), **HOW["ranked"])
    small = pruned.model.eval()
    small(input_ids=example("gpt2")["input_ids"], labels=example("gpt2")["input_ids"]).loss.backward()
    torch.optim.SGD(small.parameters(), lr=0.1).step()
    secateur.save(pruned, tmp_path / "small.safetensors")
    loaded = secateur.load(tmp_path / "small.safetensors", into=fresh("gpt2").bfloat16())
    assert torch.equal(logits(loaded, example("gpt2")), logits(small, example("gpt2")))


def test_a_config_of_other_sizes_is_refused_by_the_first_mismatch(tmp_path):
    secateur.save(cut("llama"), tmp_path / "small.safetensors")
    other = fresh("llama", intermediate_size=40)
    with pytest.raises(CheckpointError, match=r"mlp\.gate_proj\.weight.*48.*40"):
        secateur.load(tmp_path / "small.safetensors", into=other)
