"""docs/coming-from.md: every cell of what to write now runs; torch's own calls give the zeros that ours give."""

import ast
import copy
import re
import shlex
import warnings
from pathlib import Path

import pytest
import torch
from torch.nn.utils import prune

import secateur
from secateur.allocation.uniform import Uniform
from secateur.cli import main
from secateur.errors import SecateurWarning

PAGE = Path(__file__).parent.parent / "docs" / "coming-from.md"
PACKAGES = ("Torch-Pruning", "NNI", "torch.nn.utils.prune", "SparseML")


def rows():
    """(package, what was written there, what to write now) of every row of every table."""
    package = ""
    for line in PAGE.read_text().splitlines():
        package = line[3:] if line.startswith("## ") else package
        if line.startswith("| ") and line != "| there | now |":
            there, now = (cell.strip() for cell in line.strip("|").split(" | "))
            yield package, there, now


ROWS = list(rows())
CODE = [(there, now.strip("`")) for _, there, now in ROWS if now != "not yet"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the page is: what one line writes, a later one may read."""
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module")
def page(folder):
    names = {"__name__": "__main__"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_blocks(names)
    return names


def run_blocks(names):
    for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.M | re.S):
        exec(compile(block, PAGE.name, "exec"), names)


@pytest.fixture
def prepared(page):
    """The names of the page; a cell may train its models in place, so they are put back."""
    models = [page["model"], page["pruned"].model, page["sparse"].model]
    before = [copy.deepcopy(m.state_dict()) for m in models]
    yield page
    for model, state in zip(models, before, strict=True):
        model.load_state_dict(state)


def test_each_package_has_a_table():
    assert all(any(found.startswith(package) for found, _, _ in ROWS) for package in PACKAGES)
    assert len(ROWS) > 80


@pytest.mark.parametrize("now", [now for _, _, now in ROWS])
def test_a_cell_is_one_piece_of_code_or_says_not_yet(now):
    assert now == "not yet" or re.fullmatch(r"`[^`]+`", now)


COMMANDS = sorted({now for _, now in CODE if now.startswith("secateur ")})


@pytest.mark.parametrize("now", sorted({now for _, now in CODE} - {*COMMANDS}))
def test_a_cell_runs_and_gives_something(now, prepared, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    names = dict(prepared)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SecateurWarning)  # that nothing is faster here is no failure of the page
        exec(compile(now, PAGE.name, "exec"), names)
    bound = {n.id for n in ast.walk(ast.parse(now)) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    assert all(names[n] is not None for n in bound if n in names)
    assert bound or capsys.readouterr().out or now.startswith(("fit(", "secateur.save("))


@pytest.mark.parametrize("now", COMMANDS)
def test_a_command_runs(now, prepared, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(now)[1:])
    assert ended.value.code in (None, 0), capsys.readouterr()
    assert capsys.readouterr().out


def cell(package, start):
    """Our side of the row whose other side starts so."""
    return next(now.strip("`") for p, there, now in ROWS if p == package and there.startswith(f"`{start}"))


def run(code, prepared):
    names = dict(prepared)
    exec(compile(code, PAGE.name, "exec"), names)
    return names


def test_l1_unstructured_zeroes_what_torch_zeroes(prepared):
    dense = copy.deepcopy(prepared["model"])
    prune.l1_unstructured(dense.conv1, "weight", amount=0.3)
    sparse = run(cell("torch.nn.utils.prune", "prune.l1_unstructured"), prepared)["sparse"]
    assert torch.equal(sparse.masks["conv1.weight"], dense.conv1.weight_mask.bool())
    assert sparse.masks.keys() == {"conv1.weight"}


def test_global_unstructured_zeroes_what_torch_zeroes(prepared):
    dense = copy.deepcopy(prepared["model"])
    sparse = run(cell("torch.nn.utils.prune", "prune.global_unstructured"), prepared)["sparse"]
    modules = {name.removesuffix(".weight"): dense.get_submodule(name.removesuffix(".weight")) for name in sparse.masks}
    prune.global_unstructured([(m, "weight") for m in modules.values()], prune.L1Unstructured, amount=0.3)
    for name, module in modules.items():
        assert torch.equal(sparse.masks[f"{name}.weight"], module.weight_mask.bool()), name


def test_random_and_custom_masks_are_as_asked(prepared):
    names = run(cell("torch.nn.utils.prune", "prune.random_unstructured"), prepared)
    assert int((~names["sparse"].masks["conv1.weight"]).sum()) == round(0.3 * names["model"].conv1.weight.numel())
    model = copy.deepcopy(prepared["model"])
    run(cell("torch.nn.utils.prune", "prune.custom_from_mask"), prepared | {"model": model})
    assert torch.equal(model.conv1.weight != 0, prepared["mask"])


@pytest.mark.parametrize(("n", "criterion"), [(1, "l1"), (2, "l2")])
def test_ln_structured_takes_the_channels_that_we_take(n, criterion, prepared):
    """Of a layer that writes a group alone; where several write it, torch's call sees only one of them."""
    dense = copy.deepcopy(prepared["model"])
    name = "layer3.0.conv1"
    conv = dense.get_submodule(name)
    prune.ln_structured(conv, "weight", amount=0.25, n=n, dim=0)
    plan = secateur.prune(
        prepared["model"], prepared["example"], criterion=criterion, allocator=Uniform(keep={name: 0.75})
    ).plan
    assert plan.kept[name].tolist() == conv.weight_mask.flatten(1).any(1).nonzero().flatten().tolist()


def test_the_cells_of_ratios_keep_what_they_say(prepared):
    half = run(cell("Torch-Pruning", "tp.pruner.BasePruner"), prepared)["pruned"]
    assert all(len(units) == g.size // 2 for g in prepared["graph"].groups for units in [half.plan.kept[g.name]])
    eight = run(cell("Torch-Pruning", "round_to"), prepared)["pruned"]
    assert all(width % 8 == 0 for width in eight.plan.widths(prepared["graph"]).values())
    least = run(cell("Torch-Pruning", "max_pruning_ratio"), prepared)["pruned"].plan
    assert all(len(units) >= 0.1 * prepared["graph"][name].size for name, units in least.kept.items())
    three = run(cell("Torch-Pruning", "group = DG.get_pruning_group"), prepared)["plan"]
    assert three.kept["conv1"].tolist() == [k for k in range(16) if k not in (2, 6, 9)]
