"""Digits and CIFAR-10: splits, layouts written here byte by byte, augmentation against a loop, refusals."""

import pickle

import numpy as np
import pytest
import torch

from secateur.errors import DataError, UnknownName
from secateur.experiments import models
from secateur.experiments.data import Data, Split, load
from secateur.experiments.data.augment import crop_and_flip
from secateur.experiments.data.base import stratified
from secateur.training import Recipe, fit

PER_FILE = 4


def batch(number):
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (PER_FILE, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, PER_FILE)


def write_npz(folder):
    for number, name in enumerate(["train_0", "train_1", "train_2", "train_3", "train_4", "test"]):
        images, labels = batch(number)
        np.savez_compressed(folder / f"{name}.npz", images=images.transpose(0, 2, 3, 1), labels=labels.astype(np.uint8))


def names(suffix):
    return [f"data_batch_{number}{suffix}" for number in range(1, 6)] + [f"test_batch{suffix}"]


def write_binary(folder):
    for number, name in enumerate(names(".bin")):
        images, labels = batch(number)
        records = np.concatenate([labels[:, None].astype(np.uint8), images.reshape(PER_FILE, -1)], axis=1)
        (folder / name).write_bytes(records.tobytes())


def write_python(folder):
    for number, name in enumerate(names("")):
        images, labels = batch(number)
        content = {b"data": images.reshape(PER_FILE, -1), b"labels": labels.tolist(), b"batch_label": b"synthetic"}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))


LAYOUTS = [
    (write_npz, ""),
    (write_binary, ""),
    (write_binary, "cifar-10-batches-bin"),
    (write_python, ""),
    (write_python, "cifar-10-batches-py"),
]


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def test_digits_are_split_class_by_class_always_the_same_way(digits):
    assert (len(digits.train), len(digits.test)) == (1437, 360)
    assert digits.train.x.shape[1:] == digits.shape == (1, 8, 8)
    assert 0 <= digits.train.x.min() < digits.train.x.max() == 1
    assert (digits.test.y.bincount() - 0.2 * (digits.train.y.bincount() + digits.test.y.bincount())).abs().max() <= 1
    assert torch.equal(load("digits").test.x, digits.test.x)


def test_normalised_training_images_have_no_mean_and_unit_deviation(digits):
    x = digits.normalise(digits.train.x)
    assert x.mean().item() == pytest.approx(0, abs=1e-5)
    assert x.std().item() == pytest.approx(1, abs=1e-5)
    assert torch.equal(digits.example(3), digits.normalise(digits.test.x[:3]))


def test_loader_gives_every_image_once_normalised_and_shuffles_training_only(digits):
    batches = list(digits.loader("test", batch_size=100))
    assert [len(y) for _, y in batches] == [100, 100, 100, 60]
    assert torch.equal(torch.cat([x for x, _ in batches]), digits.normalise(digits.test.x))
    labels = torch.cat([y for _, y in digits.loader("train", batch_size=100, seed=1)])
    assert not torch.equal(labels, digits.train.y)
    assert torch.equal(labels.sort().values, digits.train.y.sort().values)
    again = torch.cat([y for _, y in digits.loader("train", batch_size=100, seed=1)])
    assert torch.equal(labels, again)


def test_loader_augments_only_if_asked(tmp_path):
    write_binary(tmp_path)
    data = load(f"cifar10:{tmp_path}")
    plain = next(iter(data.loader("train", batch_size=20)))[0]
    distorted = next(iter(data.loader("train", batch_size=20, augment=True)))[0]
    assert plain.shape == distorted.shape
    assert sorted(plain.flatten(1).sum(1).tolist()) == pytest.approx(
        sorted(data.normalise(data.train.x).flatten(1).sum(1).tolist()), rel=1e-4, abs=1e-2
    )
    assert not torch.equal(plain, distorted)


def test_validation_is_cut_out_of_training(digits):
    chosen = digits.split_validation(0.25, seed=3)
    assert isinstance(chosen, Data)
    assert len(chosen.train) + len(chosen.test) == len(digits.train)
    rows = torch.cat([chosen.train.x, chosen.test.x]).flatten(1)
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, digits.train.x.flatten(1).tolist()))
    assert (chosen.test.y.bincount() - 0.25 * digits.train.y.bincount()).abs().max() <= 1
    assert not torch.equal(digits.split_validation(0.25, seed=4).test.x, chosen.test.x)
    assert torch.equal(digits.split_validation(0.25, seed=3).test.x, chosen.test.x)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_validation_refuses_a_senseless_fraction(digits, fraction):
    with pytest.raises(DataError, match=f"fraction of {fraction}"):
        digits.split_validation(fraction)


def test_stratified_refuses_an_empty_part():
    with pytest.raises(DataError, match=r"holding out 0\.01 of 3 images"):
        stratified(torch.arange(3), 0.01, 0)


@pytest.mark.parametrize(("write", "folder"), LAYOUTS)
def test_every_cifar_layout_gives_the_same_images(tmp_path, write, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    write(tmp_path / folder)
    data = load(f"cifar10:{tmp_path}")
    images, labels = zip(*(batch(number) for number in range(6)), strict=True)
    assert torch.equal(data.train.x, torch.from_numpy(np.concatenate(images[:5])))
    assert torch.equal(data.train.y, torch.from_numpy(np.concatenate(labels[:5])))
    assert torch.equal(data.test.x, torch.from_numpy(images[5]))
    assert torch.equal(data.test.y, torch.from_numpy(labels[5]))
    assert (data.train.x.dtype, data.train.y.dtype) == (torch.uint8, torch.int64)
    red = (data.test.x[0, 0, 0, 0] / 255 - 0.485) / 0.229
    assert data.example()[0, 0, 0, 0].item() == pytest.approx(red.item(), abs=1e-5)


def test_python_batch_written_by_python_2_is_read(tmp_path):
    write_python(tmp_path)
    images, labels = batch(5)
    columns = np.asfortranarray(images.reshape(PER_FILE, -1))
    text = pickle.dumps({"data": columns, "labels": labels.tolist()}, protocol=2)
    (tmp_path / "test_batch").write_bytes(text.replace(b"numpy._core", b"numpy.core"))
    assert torch.equal(load(f"cifar10:{tmp_path}").test.x, torch.from_numpy(images))


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_hostile_pickle_runs_nothing(tmp_path):
    write_python(tmp_path)
    (tmp_path / "test_batch").write_bytes(pickle.dumps({b"data": Hostile(tmp_path / "touched")}, protocol=2))
    with pytest.raises(DataError, match=r"test_batch .*asks for .*open"):
        load(f"cifar10:{tmp_path}")
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    "content",
    [
        [1, 2],
        {b"labels": [0]},
        {b"data": np.zeros((1, 3072), np.float32), b"labels": [0]},
        {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0]},
        {b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]},
        {b"data": np.zeros((1, 3072), np.uint8), b"labels": ["cat"]},
    ],
)
def test_foreign_python_batches_are_refused(tmp_path, content):
    write_python(tmp_path)
    (tmp_path / "data_batch_3").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(DataError, match=r"data_batch_3 is damaged or is not CIFAR-10"):
        load(f"cifar10:{tmp_path}")


@pytest.mark.parametrize(("write", "name"), [(write_npz, "test.npz"), (write_binary, "test_batch.bin")])
@pytest.mark.parametrize("keep", [0, 100, -100])
def test_truncated_files_are_refused(tmp_path, write, name, keep):
    write(tmp_path)
    file = tmp_path / name
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(DataError, match=f"{name} is damaged"):
        load(f"cifar10:{tmp_path}")


@pytest.mark.parametrize(
    "arrays", [{"images": np.zeros((1, 32, 32, 3), np.uint8)}, {"images": np.zeros(3), "labels": []}]
)
def test_foreign_archives_are_refused(tmp_path, arrays):
    write_npz(tmp_path)
    np.savez(tmp_path / "train_2.npz", **arrays)
    with pytest.raises(DataError, match=r"train_2\.npz is damaged or is not CIFAR-10"):
        load(f"cifar10:{tmp_path}")


def test_missing_data_says_where_it_looked_and_for_what(tmp_path, monkeypatch):
    with pytest.raises(
        DataError, match=r"(?s)no folder '.*absent'.*train_0\.npz.*data_batch_1\.bin.*cifar-10-batches-py"
    ):
        load(f"cifar10:{tmp_path / 'absent'}")
    with pytest.raises(DataError, match=r"(?s)no CIFAR-10 in a known layout.*train_0\.npz"):
        load(f"cifar10:{tmp_path}")
    write_binary(tmp_path)
    (tmp_path / "data_batch_1.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_1\.bin is missing"):
        load(f"cifar10:{tmp_path}")
    monkeypatch.delenv("SECATEUR_DATA", raising=False)
    with pytest.raises(DataError, match="set SECATEUR_DATA"):
        load("cifar10")


def test_cifar_without_a_folder_lies_under_the_variable(tmp_path, monkeypatch):
    (tmp_path / "cifar10").mkdir()
    write_npz(tmp_path / "cifar10")
    monkeypatch.setenv("SECATEUR_DATA", str(tmp_path))
    assert len(load("cifar10").train) == 5 * PER_FILE


def test_unknown_names_are_refused(digits):
    with pytest.raises(UnknownName, match=r"no data set 'cifar11'.*Did you mean 'cifar10'"):
        load("cifar11:somewhere")
    with pytest.raises(UnknownName, match=r"no split 'trian'.*Did you mean 'train'"):
        digits.loader("trian")
    with pytest.raises(DataError, match="'somewhere'"):
        load("digits:somewhere")
    with pytest.raises(DataError, match=r"images \[2, 3\] and labels \[2\]"):
        Split(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_every_augmented_image_is_one_of_the_crops_and_flips(dtype):
    x = torch.randint(1, 256, (50, 3, 6, 5)).to(dtype)
    out = crop_and_flip(x, torch.Generator().manual_seed(0))
    assert out.dtype == dtype
    assert out.shape == x.shape
    padded = torch.nn.functional.pad(x, (4, 4, 4, 4))
    seen = set()
    for image, frame in zip(out, padded, strict=True):
        crops = {(i, j): frame[:, i : i + 6, j : j + 5] for i in range(9) for j in range(9)}
        views = {(*at, flip): crop.flip(2) if flip else crop for at, crop in crops.items() for flip in (False, True)}
        found = [at for at, view in views.items() if torch.equal(view, image)]
        assert len(found) == 1
        seen.add(found[0])
    assert {flip for _, _, flip in seen} == {False, True}
    assert {i for i, _, _ in seen} == {j for _, j, _ in seen} == set(range(9))


def test_augmentation_follows_its_generator_and_no_other():
    x = torch.randint(256, (8, 3, 32, 32), dtype=torch.uint8)
    before = torch.get_rng_state()
    first, second = (crop_and_flip(x, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(first, crop_and_flip(x, torch.Generator().manual_seed(6)))


@pytest.mark.parametrize("name", ["digits-resnet", "digits-vgg"])
def test_digits_are_learnt_in_seconds(digits, name):
    torch.manual_seed(0)
    net = models.build(name)
    recipe = Recipe(epochs=3, lr=0.1, batch_size=64, schedule="onecycle")
    fit(net, digits.loader("train", batch_size=64), recipe)
    with torch.inference_mode():
        right = net.eval()(digits.example(360)).argmax(1) == digits.test.y
    assert right.float().mean() > 0.93
