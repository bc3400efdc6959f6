import pytest
import torch
from torch.utils.data import Dataset, TensorDataset

from secateur.errors import DataError
from secateur.training import Loader

X, Y = torch.arange(23, dtype=torch.uint8).reshape(23, 1), torch.arange(23) * 10


def jitter(x, generator):
    return x + torch.rand(x.shape, generator=generator)


def batches(loader, *args, **kwargs):
    return [(x.flatten().tolist(), y.tolist()) for x, y in loader.epoch(*args, **kwargs)]


def test_an_epoch_shows_each_example_once_with_its_label():
    loader = Loader(X, Y, batch_size=5, seed=3)
    shown = batches(loader, 4)
    assert [len(x) for x, _ in shown] == [5, 5, 5, 5, 3]
    assert [loader.size(s) for s in range(len(loader))] == [5, 5, 5, 5, 3]
    xs, ys = ([row for column in columns for row in column] for columns in zip(*shown, strict=True))
    assert sorted(xs) == list(range(23))
    assert ys == [10 * x for x in xs]
    assert xs != sorted(xs)
    assert (loader.examples, len(loader)) == (23, 5)


def test_order_depends_on_seed_and_epoch_alone():
    loader = Loader(X, Y, batch_size=5, seed=3)
    first = batches(loader, 1)
    batches(loader, 7)
    torch.rand(3)
    assert batches(loader, 1) == first == batches(Loader(X, Y, batch_size=5, seed=3), 1)
    assert batches(loader, 2) != first
    assert batches(Loader(X, Y, batch_size=5, seed=4), 1) != first


def test_without_shuffle_examples_come_in_order_and_iterating_is_epoch_0():
    loader = Loader(X, Y, batch_size=5, shuffle=False)
    assert [y.tolist() for _, y in loader] == [y.tolist() for y in Y.split(5)]
    shuffled = Loader(X, Y, batch_size=5)
    assert [y.tolist() for _, y in shuffled] == [y for _, y in batches(shuffled, 0)]


@pytest.mark.parametrize("augment", [None, jitter])
def test_starting_in_mid_epoch_gives_the_same_remaining_batches(augment):
    loader = Loader(X, Y, batch_size=5, augment=augment)
    whole = batches(loader, 2)
    assert all(batches(loader, 2, start=s) == whole[s:] for s in range(6))


@pytest.mark.parametrize("augment", [None, jitter])
def test_ranks_share_each_batch_of_one_process(augment):
    loader = Loader(X, Y, batch_size=5, augment=augment)
    parts = [batches(loader, 1, rank=rank, world=3) for rank in range(3)]
    for step, (x, y) in enumerate(batches(loader, 1)):
        for rank in range(3):
            assert parts[rank][step] == (x[rank::3], y[rank::3])


def test_augmentation_differs_between_steps_and_epochs_and_leaves_the_global_generator_alone():
    same = torch.zeros(8, 4)
    loader = Loader(same, torch.zeros(8), batch_size=4, augment=jitter)
    state = torch.get_rng_state()
    a, b, c = batches(loader, 0)[0], batches(loader, 0)[1], batches(loader, 1)[0]
    assert a != b
    assert a != c
    assert torch.equal(torch.get_rng_state(), state)


def test_transform_comes_after_augment_and_keeps_the_stored_rows():
    loader = Loader(X, Y, batch_size=4, shuffle=False, augment=lambda x, g: x + 1, transform=lambda x: x.float() / 2)
    x, _ = next(iter(loader))
    assert x.flatten().tolist() == [0.5, 1.0, 1.5, 2.0]
    assert X[0] == 0


def test_drop_last_leaves_out_the_short_batch():
    loader = Loader(X, Y, batch_size=5, drop_last=True)
    assert [len(y) for _, y in loader] == [5] * 4
    assert len(loader) == 4


class Pairs(Dataset):
    def __init__(self):
        self.read = []

    def __len__(self):
        return 23

    def __getitem__(self, i):
        self.read.append(i)
        return X[i], int(Y[i])


def test_a_dataset_gives_the_batches_of_the_same_tensors_and_is_read_lazily():
    pairs = Pairs()
    loader = Loader.of(pairs, batch_size=5, seed=3, augment=jitter, transform=torch.neg)
    assert pairs.read == []
    in_memory = Loader(X, Y, batch_size=5, seed=3, augment=jitter, transform=torch.neg)
    assert batches(loader, 2) == batches(in_memory, 2)
    pairs.read.clear()
    next(loader.epoch(0))
    assert len(pairs.read) == 5
    assert batches(Loader.of(TensorDataset(X, Y), batch_size=5), 1) == batches(Loader(X, Y, batch_size=5), 1)


def test_a_rank_reads_only_its_rows_of_a_dataset():
    pairs = Pairs()
    next(Loader.of(pairs, batch_size=6).epoch(0, rank=1, world=2))
    assert len(pairs.read) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"x": X, "y": Y[:-1], "batch_size": 5}, "23 rows and y has 22"),
        ({"x": X, "y": Y, "batch_size": 0}, "batch_size=0"),
        ({"x": X, "y": Y, "batch_size": 24, "drop_last": True}, "23 examples give no batch of 24"),
        ({"x": X[:0], "y": Y[:0], "batch_size": 5}, "0 examples"),
    ],
)
def test_what_gives_no_batches_is_refused(arguments, words):
    with pytest.raises(DataError, match=words):
        Loader(**arguments)
