"""Experts that are sent their rows in groups, and the mixtures of transformers: cut, stored, trained, asked to write."""

import copy

import pytest
import torch
import torch.nn.functional as F
from odd_case import WORDS, filled, refusal
from odd_experts import BOTH, GatheredMixture, Mixture, SoftMixture

import secateur
from held import difference, loss, random_plan, run, same_weights, tensors_of, unchanged
from secateur.allocation.ranked import Ranked
from secateur.allocation.uniform import Uniform
from secateur.errors import PlanError, TraceError
from secateur.groups.group import WIDTHS
from secateur.surgery.checkpoint import load, save


class GroupedMixture(Mixture):
    """Rows sorted by expert, counted, and multiplied in one product, as transformers does."""

    def __init__(self):
        super().__init__()
        self.stem, self.gate, self.head = torch.nn.Linear(12, 8), torch.nn.Linear(8, 5), torch.nn.Linear(8, 3)
        self.up, self.down = (torch.nn.Parameter(torch.zeros(5, *s)) for s in ((8, 4), (4, 8)))
        self.shift = torch.nn.Parameter(torch.zeros(5, 8))

    def ends(self, chosen):
        counts = torch.histc(chosen.float(), bins=self.count, min=0, max=self.count - 1)
        return counts.cumsum(0, dtype=torch.int32)

    def mix(self, x):
        share, chosen = self.chosen(x)
        chosen, order = chosen.flatten().sort()
        y = F.grouped_mm(x[order // self.taken], self.up, offs=self.ends(chosen))
        y = F.grouped_mm(F.relu(y), self.down, offs=self.ends(chosen)) + self.shift[chosen]
        y = y * share.flatten()[order, None]
        back = torch.empty_like(order)
        back[order] = torch.arange(len(order))
        return y[back].view(len(x), self.taken, -1).sum(1)


class CountedMixture(GroupedMixture):
    """Counted up to the number of experts, inclusive."""

    def ends(self, chosen):
        counts = torch.histc(chosen.to(torch.float32), self.count, 0, self.count)
        return counts.to(torch.int32).cumsum(0).to(torch.int32)


class BinnedMixture(GroupedMixture):
    def ends(self, chosen):
        return torch.bincount(chosen, minlength=self.count).cumsum(0).to(torch.int32)


class SummedMixture(GroupedMixture):
    def ends(self, chosen):
        return F.one_hot(chosen, self.count).sum(0).cumsum(0).to(torch.int32)


GROUPED = (GroupedMixture, CountedMixture, BinnedMixture, SummedMixture)


def closed(model, plan, group="gate"):
    """The model with a router that never gives a word to experts that are gone: it knows nothing of secateur."""
    model = copy.deepcopy(model)
    gone = torch.ones(len(model.gate.bias), dtype=torch.bool)
    gone[plan.kept[group].tolist()] = False
    model.gate.bias.data[gone] = float("-inf")
    return model


@pytest.mark.parametrize("cls", GROUPED)
def test_rows_sent_in_groups(cls):
    model = filled(cls())
    with unchanged(model):
        g = secateur.trace(model, WORDS, kinds="expert")
        assert [(x.name, x.size, x.least) for x in g.groups] == [("gate", 5, 2)]
        for seed in range(3):
            pruned = secateur.cut(g, random_plan(g, seed=seed))
            assert pruned.check.max_error < 1e-9
            wanted, got = closed(model, pruned.plan)(WORDS), pruned.model(WORDS)
            assert difference([wanted], [got]) < 1e-5
            assert pruned.model.count == len(pruned.model.up) == len(pruned.model.gate.bias)
            loss(got, None).backward()
            assert all(p.grad is not None and p.grad.shape == p.shape for p in pruned.model.parameters())


@pytest.mark.parametrize("cls", [GatheredMixture, SoftMixture])
def test_a_router_closed_by_hand_gives_the_same(cls):
    g = secateur.trace(filled(cls()), WORDS, kinds="expert")
    plan = secateur.Plan.keeping(g, {"gate": [0, 2, 3]})
    small = secateur.cut(g, plan).model
    assert small.up.shape == (3, 6, 4)
    assert small.gate.weight.equal(g.model.gate.weight[[0, 2, 3]])
    assert difference(run(closed(g.model, plan), WORDS), run(small, WORDS)) < 1e-12
    assert difference(run(g.model, WORDS), run(small, WORDS)) > 1e-3


def test_experts_go_only_if_they_are_asked_for():
    model = filled(GatheredMixture())
    g = secateur.trace(model, WORDS)
    assert {x.kind for x in g.groups} <= set(WIDTHS)
    with pytest.raises(PlanError, match="'gate' is frozen: its units are experts, not in kinds="):
        g["gate"]
    assert [x.name for x in secateur.trace(model, WORDS, kinds=BOTH).groups if x.kind == "expert"] == ["gate"]


def test_as_many_stay_as_are_taken_at_a_time():
    g = secateur.trace(filled(GatheredMixture()), WORDS, kinds="expert")
    with pytest.raises(PlanError, match="keeps 1 units of group 'gate', of which the forward takes 2 at a time"):
        secateur.Plan.keeping(g, {"gate": [3]})
    scores = secateur.score(g, "l2")
    for allocator, budget in ((Uniform(keep=0.2), None), (Ranked(keep={"gate": 0.2}), None), (Ranked(drop=3), None)):
        budget = secateur.Budget(params=0.99) if isinstance(allocator, Ranked) and not allocator.drop else budget
        assert secateur.allocate(g, scores, budget, allocator=allocator).widths(g) == {"gate": 2}
    assert secateur.allocate(g, scores, allocator=Uniform(keep=0.2, round_to=3)).widths(g) == {"gate": 3}
    with pytest.raises(secateur.errors.BudgetUnreachable):
        secateur.allocate(g, scores, secateur.Budget(params=0.1))
    with pytest.raises(secateur.errors.SecateurError, match="only 3 may go"):
        secateur.allocate(g, scores, allocator=Ranked(drop=4))


def test_two_cuts_are_one_and_what_is_stored_is_read(tmp_path):
    g = secateur.trace(filled(GatheredMixture()), WORDS, kinds=BOTH)
    first = random_plan(g, seed=1, keep=0.8)
    once = secateur.cut(g, first)
    again = secateur.trace(once.model, WORDS, kinds=BOTH)
    assert {x.name: (x.size, x.least) for x in again.groups}["gate"] == (4, 2)
    second = random_plan(again, seed=2, keep=0.6)
    twice = secateur.cut(again, second)
    assert same_weights(twice.model, secateur.cut(g, first.then(second)).model)
    for name, pruned in (("once", once), ("whole", secateur.cut(g, secateur.Plan()))):
        save(pruned, tmp_path / f"{name}.safetensors")
        fresh = load(tmp_path / f"{name}.safetensors", into=filled(GatheredMixture(), seed=3))
        assert same_weights(fresh, pruned.model)
    assert same_weights(secateur.cut(g, secateur.Plan()).model, g.model)


# --- what stays exact by staying ---------------------------------------------------------------------------------------
class Loop(Mixture):
    """Each expert in turn, by its number."""

    def mix(self, x):
        share, chosen = self.chosen(x)
        y = torch.zeros_like(x)
        for e in range(len(self.up)):
            y = y + ((chosen == e) * share).sum(-1, keepdim=True) * (F.relu(x @ self.up[e]) @ self.down[e])
        return y


class Shifted(Mixture):
    """The neighbour of the best."""

    def mix(self, x):
        return (F.relu(x[:, None] @ self.up[(self.gate(x).argmax(-1) + 1) % self.count]) @ self.down[0]).squeeze(1)


class Sorted(Mixture):
    def mix(self, x):
        chosen = self.gate(x).argsort(-1, descending=True)[:, 0]
        return (F.relu(x[:, None] @ self.up[chosen]) @ self.down[chosen]).squeeze(1)


class Every(Mixture):
    """All of them, the best first."""

    def mix(self, x):
        share, chosen = self.gate(x).topk(self.count)
        return (F.relu(x[:, None, None] @ self.up[chosen]) @ self.down[chosen] * share[..., None, None]).sum((1, 2))


class Written(Mixture):
    """The count stands in the code."""

    def mix(self, x):
        share, chosen = self.chosen(x)
        return torch.einsum("nke,nk,end->nd", F.one_hot(chosen, 5).to(x.dtype), share, self.all(x))


class Refilled(Mixture):
    """Numbers written over."""

    def mix(self, x):
        chosen = self.gate(x).argmax(-1)
        chosen[0] = 0
        return (F.relu(x[:, None] @ self.up[chosen]) @ self.down[chosen]).squeeze(1)


class Given(Mixture):
    """Numbers in a tensor that was there before."""

    def mix(self, x):
        share, chosen = x.new_empty(len(x), 1), torch.empty(len(x), 1, dtype=torch.long)
        torch.topk(self.gate(x), 1, out=(share, chosen))
        return (F.relu(x[:, None] @ self.up[chosen[:, 0]]) @ self.down[chosen[:, 0]]).squeeze(1)


class Recounted(GroupedMixture):
    """Counts that are no longer counts when they are added up."""

    def ends(self, chosen):
        counts = torch.histc(chosen.float(), bins=self.count, min=0, max=self.count - 1)
        counts.view(-1).add_(0)
        return counts.cumsum(0, dtype=torch.int32)


class Winners(Mixture):
    """The largest two of a stream: values alone, no experts."""

    def mix(self, x):
        return x * x.topk(2).values[..., -1:] + self.gate(x).sum(-1, keepdim=True)


STAY = {
    Loop: ("gate", "number"),
    Shifted: ("gate", "the number of one of its indices is used"),
    Sorted: ("gate", "puts its indices into an order"),
    Every: ("gate", "puts its indices into an order"),
    Written: ("gate", "num_classes is the plain number 5"),
    Refilled: ("gate", "the number of one of its indices is used"),
    Given: ("gate", "puts its indices into an order"),
    Recounted: ("gate", "depends on the place along it"),
    Winners: ("stem", "aten.topk.default puts its indices into an order"),
}


@pytest.mark.parametrize("cls", STAY)
def test_what_cannot_follow_stays_by_name(cls):
    name, reason = STAY[cls]
    g = secateur.trace(filled(cls()), WORDS, kinds=BOTH)
    told = {f.name: f.reason for f in g.frozen}
    assert reason in told[name]
    if g.groups:
        assert secateur.cut(g, random_plan(g, keep=0.5)).check.max_error < 1e-6


# --- transformers ------------------------------------------------------------------------------------------------------
SIZES = dict(vocab_size=53, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2)
SIZES |= dict(intermediate_size=24, moe_intermediate_size=16, max_position_embeddings=32, num_experts_per_tok=2)
LATENT = dict(q_lora_rank=8, kv_lora_rank=8, qk_rope_head_dim=4, qk_nope_head_dim=4, v_head_dim=8)
MODELS = {
    "Mixtral": dict(num_local_experts=5),
    "Qwen2Moe": dict(num_experts=5, shared_expert_intermediate_size=12, decoder_sparse_step=1),
    "Qwen3Moe": dict(num_experts=5, head_dim=8),
    "DeepseekV3": LATENT | dict(n_routed_experts=6, n_group=1, topk_group=1, first_k_dense_replace=1),
    "GptOss": dict(num_local_experts=5, head_dim=8),
}
TOKENS = {"input_ids": torch.tensor([[1, 4, 0, 9, 2, 7, 33, 20], [3, 3, 10, 2, 7, 50, 41, 6]]), "use_cache": False}


def mixture(name, implementation):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**SIZES | MODELS[name])
    config._experts_implementation = implementation
    model = getattr(transformers, f"{name}ForCausalLM")(config).eval()
    with torch.no_grad():
        for tensor in tensors_of(model).values():
            if tensor.is_floating_point() and tensor.dim() > 1:
                tensor.normal_(std=0.4)
    return model


@pytest.mark.parametrize("implementation", ["batched_mm", "grouped_mm"])
@pytest.mark.parametrize("name", MODELS)
def test_the_experts_of_transformers(name, implementation):
    model = mixture(name, implementation)
    g = secateur.trace(model, TOKENS, kinds="expert")
    layers = 1 if name == "DeepseekV3" else 2
    assert [(x.size, x.least) for x in g.groups] == [(6 if name == "DeepseekV3" else 5, 2)] * layers
    pruned = secateur.cut(g, random_plan(g, keep=0.6))
    assert pruned.check.max_error < 1e-9
    assert pruned.after.params < pruned.before.params
    assert model(**TOKENS).logits.shape == pruned.model(**TOKENS).logits.shape
    held = {n: v for m in pruned.model.modules() for n, v in vars(m).items() if n == "num_experts"}
    assert set(held.values()) == {3}
    secateur.cut(g, random_plan(g, seed=1))
    pruned.model.config._experts_implementation = "grouped_mm" if implementation == "batched_mm" else "batched_mm"
    other = run_float(pruned.model)
    pruned.model.config._experts_implementation = implementation
    assert difference([other], [run_float(pruned.model)]) < 1e-4


def run_float(model):
    with torch.no_grad():
        return model(**TOKENS).logits


def test_a_cut_mixtral_writes_with_a_cache_what_it_writes_without():
    model = mixture("Mixtral", "batched_mm")
    g = secateur.trace(model, TOKENS, kinds=BOTH)
    small = secateur.cut(g, random_plan(g, keep=0.6)).model
    given = dict(max_new_tokens=8, do_sample=False, pad_token_id=0)
    told = [small.generate(TOKENS["input_ids"], use_cache=cache, **given) for cache in (True, False)]
    assert told[0].equal(told[1])
    loss(small.train()(**TOKENS).logits, None).backward()
    assert all(p.grad is not None for p in small.parameters())


def test_a_mixtral_whose_layers_agree_saves_itself(tmp_path):
    model = mixture("Mixtral", "batched_mm")
    g = secateur.trace(model, TOKENS, kinds="expert")
    alike = secateur.cut(g, random_plan(g, keep=0.6)).model
    alike.save_pretrained(tmp_path)
    read = type(model).from_pretrained(tmp_path, experts_implementation="batched_mm")
    assert alike.config.num_local_experts == read.config.num_local_experts == 3
    assert run_float(read).equal(run_float(alike))
    first, second = g.groups
    unlike = secateur.cut(g, secateur.Plan.keeping(g, {first.name: [0, 1, 4], second.name: [1, 2]})).model
    assert unlike.config.num_local_experts == 5
    with pytest.raises(secateur.errors.CheckpointError, match="save_pretrained"):
        unlike.save_pretrained(tmp_path)


def test_experts_visited_one_by_one_are_refused_with_their_line():
    model = mixture("Mixtral", "eager")
    assert "modeling_mixtral.py" in refusal(TraceError, lambda: secateur.trace(model, TOKENS, kinds="expert"))
