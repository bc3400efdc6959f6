import pytest
import torch
import torch.nn.functional as F
from torch import nn

from secateur.errors import NeedsData
from secateur.training import Loader, evaluate_accuracy
from secateur.training.evaluate import device_of, keeping_modes, mean_loss


def test_accuracy_is_the_share_of_right_labels_over_uneven_batches():
    x = F.one_hot(torch.tensor([0, 1, 2, 0, 1, 2, 0]), 3).float()
    y = torch.tensor([0, 1, 2, 0, 1, 0, 1])
    assert evaluate_accuracy(nn.Identity(), Loader(x, y, batch_size=3)) == 5 / 7


def test_accuracy_of_maps_counts_every_position():
    x = F.one_hot(torch.tensor([[0, 1], [1, 1]]), 2).float().movedim(-1, 1)  # (n, classes, length)
    assert evaluate_accuracy(nn.Identity(), [(x, torch.tensor([[0, 1], [0, 1]]))]) == 3 / 4


def test_mean_loss_is_over_examples_not_batches(net, examples):
    x, y = examples
    net.eval()
    whole = F.cross_entropy(net(x), y).item()
    assert mean_loss(net, Loader(x, y, batch_size=16)) == pytest.approx(whole, rel=1e-6)
    assert mean_loss(net, [(x, y)], lambda outputs, y: outputs.mean()) == pytest.approx(net(x).mean().item(), rel=1e-5)


def test_the_model_is_measured_in_eval_mode_and_left_as_it_was(net, examples):
    net.train()
    net[3].eval()  # a mixed state must come back as it was
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert len({evaluate_accuracy(net, [examples]) for _ in range(3)}) == 1
    assert [module.training for module in net] == [True, True, True, False, True, True, True]
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert net(examples[0]).requires_grad


def test_modes_come_back_after_an_error(net):
    net.train()
    with pytest.raises(ZeroDivisionError), keeping_modes(net):
        1 / len(net.eval()[:0])
    assert net[1].training


def test_nothing_to_evaluate_on_is_an_error(net):
    with pytest.raises(NeedsData):
        evaluate_accuracy(net, [])


def test_a_model_without_parameters_is_on_the_cpu():
    assert device_of(nn.ReLU()) == torch.device("cpu")
    assert device_of(nn.Linear(1, 1, device="meta")) == torch.device("meta")
