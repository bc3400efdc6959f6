"""Second-order Taylor scores against changes of losses that are quadratic in gates."""

import pytest
import torch
from torch import nn

import secateur
from gated import SIZES, USES, assert_close, data, filled, gate_gradients, loss_at, traced
from nets import fill, images
from secateur.testing import check_criterion


def hidden(size=3, outputs=3):
    """Inputs, a hidden layer of three gates, and a linear reading of it: the outputs are linear in the gates."""
    net = fill(nn.Sequential(nn.Linear(4, size), nn.Linear(size, outputs))).double()
    return net, secateur.trace(net, images(2, 4).double()), images(3, 4).double()


def changes(net, x, loss):
    """(units + 1,) of the loss when a unit goes, by brute force; the last: when all go."""

    def at(z):
        return loss(net[1](net[0](x) * z), None).detach()

    ones = torch.ones(net[0].out_features, dtype=torch.float64)
    return torch.stack(
        [at(ones) - at(ones - e) for e in torch.eye(len(ones), dtype=torch.float64)] + [at(ones) - at(0 * ones)]
    )


def test_it_is_that_of_real_gates():
    net = filled(act=nn.Tanh())
    scores = secateur.score(traced(net), "taylor-so", batches=data())
    g = gate_gradients(net, data())
    sizes = list(SIZES.values())
    rows = []
    for x, y in data():
        f = lambda flat, x=x, y=y: loss_at(net, x, y, dict(zip(SIZES, flat.split(sizes), strict=True)))  # noqa: E731
        rows.append(torch.autograd.functional.hessian(f, torch.ones(sum(sizes), dtype=torch.float64)).sum(1))
    for name, h in zip(SIZES, torch.stack(rows).split(sizes, 1), strict=True):
        assert_close(scores[name], (g[name] - h / 2).square().mean(0) / USES[name])


def test_a_quadratic_loss_is_met_exactly_where_gates_do_nothing_together():
    """Each output sees one unit, so that the Hessian of the gates is diagonal."""
    net, graph, x = hidden()
    net[1].weight.data.copy_(torch.diag(torch.tensor([1.0, -2.0, 0.5])))

    def loss(output, _):
        return (output - 0.3).square().sum()

    scores = secateur.score(graph, "taylor-so", batches=[(x, None)], loss=loss)["0"]
    assert_close(scores, changes(net, x, loss)[:3].square())
    first = secateur.score(graph, "taylor", batches=[(x, None)], loss=loss)["0"]
    assert ((first - scores).abs() > 0.1 * scores).any()  # the first order alone is not exact


def test_one_gate_is_met_exactly():
    net, graph, x = hidden(size=1)

    def loss(output, _):
        return output.square().sum()

    scores = secateur.score(graph, "taylor-so", batches=[(x, None)], loss=loss)["0"]
    assert_close(scores, changes(net, x, loss)[:1].square())


def test_the_terms_of_a_quadratic_loss_add_up_to_the_change_when_all_go():
    """As the paper writes it: the row of the Hessian times all gates, so that what two do together is halved."""
    net, graph, x = hidden()

    def loss(output, _):
        return output.square().sum() + output.sum()

    fields = secateur.collect(graph, "taylor-so", batches=[(x, None)], loss=loss).of("curvature", "0")
    gradient = secateur.collect(graph, "taylor", batches=[(x, None)], loss=loss).of("gradients", "0")["total"] / len(x)
    assert_close((gradient - fields["product"] / 2).sum(), changes(net, x, loss)[3])


def test_where_the_loss_is_linear_it_is_the_first_order():
    net, graph, x = hidden()
    options = {"batches": [(x, None)], "loss": lambda output, _: (output * torch.arange(3)).sum()}
    second, first = (secateur.score(graph, c, **options)["0"] for c in ("taylor-so", "taylor"))
    assert_close(second, first)
    assert_close(second, changes(net, x, options["loss"])[:3].square())


@pytest.mark.parametrize("criterion", ["taylor", "taylor-so"])
def test_three_gates_are_ranked_as_the_oracle_ranks_them(criterion):
    """The squared change of the loss by brute force, where each unit does little."""
    net, graph, x = hidden()
    net[1].weight.data.mul_(1e-3)
    y = torch.arange(3)
    loss = nn.functional.cross_entropy
    scores = secateur.score(graph, criterion, batches=[(x, y)], loss=loss)["0"]
    oracle = changes(net, x, lambda output, _: loss(output, y))[:3].square()
    assert scores.argsort().tolist() == oracle.argsort().tolist()
    torch.testing.assert_close(scores, oracle, rtol=0.05, atol=0)


def test_the_contract():
    check_criterion("taylor-so")
