import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import Dataset

from secateur.errors import CheckpointError, TrainingError, WrongArchitecture
from secateur.methods.hook import Hook
from secateur.training import Loader, Recipe, checkpoint, evaluate_accuracy, fit

RECIPES = {
    "plain": Recipe(epochs=3, batch_size=16, lr=0.1, momentum=0.0),
    "onecycle": Recipe(epochs=3, batch_size=16, lr=0.1, schedule="onecycle"),
    "adamw": Recipe(
        epochs=3, batch_size=16, lr=0.01, schedule="cosine", optimizer="adamw", weight_decay=0.1, warmup=0.2
    ),
    "steps": Recipe(epochs=3, batch_size=16, lr=0.1, schedule="steps", nesterov=True, weight_decay=1e-3),
}
STEPS = 12


class Noise(Hook):
    """Random, stateful, and stoppable: a hook with all that could go wrong."""

    def __init__(self, stop_at=None):
        self.stop_at, self.decay = stop_at, torch.ones(2)

    def penalty(self, model):
        return self.decay[0] * 1e-3 * model[0].weight.abs().sum()

    def after_step(self, model, lr):
        self.decay = self.decay * 0.9
        with torch.no_grad():
            model[0].weight += 1e-3 * torch.randn_like(model[0].weight)
        if self.stop_at is not None:
            self.stop_at -= 1
            if self.stop_at == 0:
                raise KeyboardInterrupt

    def after_epoch(self, model, epoch):
        with torch.no_grad():
            model[4].weight *= 1 + 0.1 * torch.rand(1)

    def state_dict(self):
        return {"decay": self.decay}

    def load_state_dict(self, state):
        self.decay = state["decay"]


def jitter(x, generator):
    return x + 0.1 * torch.randn(x.shape, generator=generator)


def train(net, examples, recipe, path, stop_at=None, **options):
    loader = Loader(*examples, batch_size=16, augment=jitter)
    options = {"hooks": [Noise(stop_at)], "every": 3, "evaluate": lambda m: evaluate_accuracy(m, [examples])} | options
    return fit(net, loader, recipe, checkpoint=path, **options)


def content(path):
    """All that a checkpoint holds but times, which no two runs share."""
    tensors, facts = checkpoint.read(path)
    rows = [{name: value for name, value in row.items() if name != "seconds"} for row in facts["history"]]
    return tensors, {k: v for k, v in facts.items() if k != "seconds"} | {"history": rows}


def same(a, b):
    return a[1] == b[1] and a[0].keys() == b[0].keys() and all(torch.equal(a[0][name], b[0][name]) for name in a[0])


@pytest.mark.parametrize("kind", RECIPES)
def test_stopped_after_any_step_and_started_again_ends_bit_identical(new_net, examples, tmp_path, kind):
    net = new_net()
    train(net, examples, RECIPES[kind], tmp_path / "whole")
    expected = content(tmp_path / "whole")
    for stop_at in range(1, STEPS + 1):
        path, again = tmp_path / str(stop_at), new_net()
        with pytest.raises(KeyboardInterrupt):
            train(new_net(), examples, RECIPES[kind], path, stop_at)
        train(again, examples, RECIPES[kind], path)
        assert same(content(path), expected), stop_at
        assert all(
            torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True)
        )


def test_a_checkpoint_changes_nothing_in_the_run(new_net, examples, tmp_path):
    nets = [new_net(), new_net()]
    train(nets[0], examples, RECIPES["onecycle"], tmp_path / "a", every=1)
    train(nets[1], examples, RECIPES["onecycle"], None)
    assert all(torch.equal(a, b) for a, b in zip(*(net.state_dict().values() for net in nets), strict=True))


def test_a_finished_run_comes_back_at_once(new_net, examples, tmp_path):
    class Never(Dataset):
        def __len__(self):
            return 50

        def __getitem__(self, i):
            raise AssertionError("a finished run reads no data")

    def never(model):
        raise AssertionError("a finished run is not evaluated again")

    path, net, again = tmp_path / "run", new_net(), new_net(1)
    history = train(net, examples, RECIPES["onecycle"], path)
    written = path.stat().st_mtime_ns
    assert checkpoint.read(path)[1]["done"]
    loader = Loader.of(Never(), batch_size=16, augment=jitter)
    options = {"hooks": [Noise()], "evaluate": never, "checkpoint": path}
    assert fit(again, loader, RECIPES["onecycle"], **options) == history
    assert path.stat().st_mtime_ns == written
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), again.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": 1}, "seed is 0 in the file and 1 here"),
        ({"hooks": []}, "hooks is .*Noise"),
        ({"loss": F.multi_margin_loss}, "loss is .*cross_entropy"),
        ({"patience": 5}, "evaluations"),
        ({"recipe": RECIPES["steps"]}, "recipe is .*onecycle"),
        ({"examples": (torch.zeros(49, 6), torch.zeros(49).long())}, "loader is .*50.*49"),
    ],
)
def test_a_checkpoint_of_another_configuration_is_refused(new_net, examples, tmp_path, options, words):
    train(new_net(), examples, RECIPES["onecycle"], tmp_path / "run")
    net, arguments = new_net(1), {"examples": examples, "recipe": RECIPES["onecycle"]} | options
    before = net[0].weight.clone()
    with pytest.raises(CheckpointError, match=words):
        train(net, path=tmp_path / "run", **arguments)
    assert torch.equal(net[0].weight, before)


def test_a_checkpoint_of_another_model_is_refused(new_net, examples, tmp_path):
    train(new_net(), examples, RECIPES["onecycle"], tmp_path / "run")
    net = new_net()
    net[4], net[6] = nn.Linear(8, 5), nn.Linear(5, 3)
    with pytest.raises(WrongArchitecture, match=r"4\.weight"):
        train(net, examples, RECIPES["onecycle"], tmp_path / "run")


def test_a_damaged_checkpoint_is_refused_by_name(new_net, examples, tmp_path):
    train(new_net(), examples, RECIPES["onecycle"], tmp_path / "run")
    (tmp_path / "run").write_bytes((tmp_path / "run").read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=str(tmp_path / "run")):
        train(new_net(), examples, RECIPES["onecycle"], tmp_path / "run")


def test_random_transforms_inside_a_dataset_resume_too(new_net, examples, tmp_path):
    class Shaken(Dataset):
        def __len__(self):
            return 50

        def __getitem__(self, i):
            return examples[0][i] + torch.randn(6), examples[1][i]

    loader, nets = Loader.of(Shaken(), batch_size=16), [new_net(), new_net()]
    fit(nets[0], loader, RECIPES["onecycle"], hooks=[Noise()])
    for stop_at in (5, None):
        try:
            fit(nets[1], loader, RECIPES["onecycle"], hooks=[Noise(stop_at)], checkpoint=tmp_path / "run", every=2)
        except KeyboardInterrupt:
            assert stop_at
    assert all(torch.equal(a, b) for a, b in zip(*(net.state_dict().values() for net in nets), strict=True))


class Diary(Hook):
    def __init__(self):
        self.lines = []

    def on_start(self, model):
        self.lines.append("start")
        model.register_parameter("gate", nn.Parameter(torch.tensor(2.0)))

    def penalty(self, model):
        self.lines.append("penalty")
        return 0.5 * model.gate**2

    def after_backward(self, model, lr):
        self.lines.append(f"backward {model.gate.grad.item():.3f} {lr}")

    def after_step(self, model, lr):
        self.lines.append(f"step {model.gate.item():.3f} {lr}")

    def after_epoch(self, model, epoch):
        self.lines.append(f"epoch {epoch}")


def test_hooks_are_called_in_order_with_gradients_weights_and_rates(net, examples):
    diary = Diary()
    recipe = Recipe(epochs=2, batch_size=50, lr=0.5, momentum=0, schedule="steps", milestones=(0.5,))
    fit(net, Loader(*examples, batch_size=50), recipe, hooks=[diary])
    second = ["penalty", "backward 1.000 0.05", "step 0.950 0.05", "epoch 2"]
    assert diary.lines == ["start", "penalty", "backward 2.000 0.5", "step 1.000 0.5", "epoch 1", *second]


def test_rows_tell_the_run(net, examples):
    metrics = iter([0.5, 0.6, 0.7])
    loader = Loader(*examples, batch_size=16, drop_last=True)
    recipe = Recipe(epochs=3, batch_size=16, lr=0.4, schedule="steps", milestones=(0.5,))
    options = {
        "loss": lambda outputs, y: outputs.sum() * 0 + 2.0,
        "evaluate": lambda m: next(metrics),
        "evaluate_every": 2,
    }
    history = fit(net, loader, recipe, **options)
    facts = [(row.epoch, row.loss, row.lr, row.metric) for row in history.rows]
    rates = [recipe.lr_at(last, 9) for last in (2, 5, 8)]
    assert facts == [(0, None, None, 0.5), (1, 2.0, rates[0], None), (2, 2.0, rates[1], 0.6), (3, 2.0, rates[2], 0.7)]
    assert all(row.seconds > 0 for row in history.rows[1:])


def test_patience_stops_early_and_stays_stopped(new_net, examples, tmp_path):
    def run(net, values):
        left = iter(values)
        options = {"evaluate": lambda m: next(left), "patience": 2, "hooks": []}
        return train(net, examples, RECIPES["plain"].stretched(3), tmp_path / "run", **options)

    nets = [new_net(), new_net(1)]
    history = run(nets[0], [0.1, 0.5, 0.4, 0.5])
    assert [row.epoch for row in history.rows] == [0, 1, 2, 3]
    assert run(nets[1], []) == history
    assert torch.equal(nets[0][0].weight, nets[1][0].weight)


def test_no_epochs_means_an_evaluation_only(new_net, examples, tmp_path):
    net, recipe = new_net(), Recipe(epochs=0, batch_size=16)
    history = train(net, examples, recipe, tmp_path / "run", hooks=[])
    assert [(row.epoch, row.loss) for row in history.rows] == [(0, None)]
    assert torch.equal(net[0].weight, new_net()[0].weight)
    assert checkpoint.read(tmp_path / "run")[1]["done"]
    assert fit(new_net(), Loader(*examples, batch_size=16), recipe).rows == []


def test_a_metric_that_is_not_a_number_is_refused(net, examples):
    with pytest.raises(TrainingError, match="gave nan"):
        train(net, examples, RECIPES["plain"], None, evaluate=lambda m: float("nan"))
