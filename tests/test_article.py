"""What a reference article on convolutional networks says, statement by statement.

Numbers are those of docs/article.md. Here stand the statements that no other test shows; those that
have to train are slow.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from striate.analysis import profile, receptive_fields
from striate.layers import Convolution, GlobalPool, conv, max_pool, participation
from striate.lessons.lesson import accuracy, taught
from striate.models import build
from striate.recipe import Recipe
from striate.spec import Spec
from striate.train.loop import State


def spec(channels, *size, classes=2, **more):
    return Spec(channels=channels, size=size, classes=tuple(str(k) for k in range(classes)), **more)


# A.1 Introduction


@pytest.mark.slow
def test_a004_a_volume_of_time_tells_where_a_bar_moves():
    """Eight directions of a moving bar, by convolution in time and space."""
    draw = torch.Generator().manual_seed(0)
    count, steps, side = 800, 6, 12
    y = torch.randint(0, 8, (count,), generator=draw)
    x = torch.zeros(count, 1, steps, side, side)
    place = torch.arange(float(side))
    start = 3 + 5 * torch.rand(count, 2, generator=draw)
    for n in range(count):
        turn = torch.tensor(float(y[n]) * np.pi / 4)
        for t in range(steps):
            v = place[:, None] - start[n, 0] - (t - 2.5) * turn.sin()
            h = place[None] - start[n, 1] - (t - 2.5) * turn.cos()
            x[n, 0, t] = torch.exp(-((v * turn.sin() + h * turn.cos()) ** 2)) * (
                (v * turn.cos() - h * turn.sin()).abs() < 4
            )
    torch.manual_seed(0)
    net = nn.Sequential(
        conv(3, 1, 16, 3), nn.ReLU(), conv(3, 16, 32, 3), nn.ReLU(), GlobalPool("max"),
        nn.Linear(32, 8),
    )  # fmt: skip
    taught(net, x[:600], y[:600], 30)
    assert accuracy(net, x[600:], y[600:]) >= 0.95


@pytest.mark.slow
def test_a005_taste_is_heard_from_what_was_listened_to():
    """A 1-D net over what users took before finds what they like better than popularity does."""
    draw = torch.Generator().manual_seed(0)
    items, users, length, kinds = 60, 1500, 12, 6
    kind = torch.arange(items) % kinds
    popular = torch.rand(items, generator=draw) ** 2 + 0.05
    taste = torch.randint(0, kinds, (users,), generator=draw)
    like = torch.where(kind[None] == taste[:, None], 8.0, 0.5) * popular
    taken = torch.multinomial(like, length + 1, True, generator=draw)
    x, y = F.one_hot(taken[:, :-1], items).float().mT, taken[:, -1]
    torch.manual_seed(0)
    net = nn.Sequential(
        conv(1, items, 32, 1), nn.ReLU(), conv(1, 32, 32, 3), nn.ReLU(), GlobalPool("mean"),
        nn.Linear(32, items),
    )  # fmt: skip
    taught(net, x[:1200], y[:1200], 15)
    with torch.no_grad():
        ours = net.eval()(x[1200:]).topk(10).indices
    usual = torch.bincount(y[:1200], minlength=items).topk(10).indices
    hit = (ours == y[1200:, None]).any(1).float().mean()
    assert hit > (usual == y[1200:, None]).any(1).float().mean() + 0.1


@pytest.mark.slow
def test_a007_every_pixel_gets_a_class():
    """U-Net on shapes: mean intersection over union of three classes."""
    draw = torch.Generator().manual_seed(0)
    place = torch.arange(32.0)
    x, y = torch.zeros(160, 1, 32, 32), torch.zeros(160, 32, 32, dtype=torch.int64)
    for n in range(160):
        for label in (1, 2):
            v, h = (6 + 20 * torch.rand(2, generator=draw)).tolist()
            away = torch.stack([(place[:, None] - v).abs().expand(32, 32),
                                (place[None] - h).abs().expand(32, 32)])  # fmt: skip
            inside = away.amax(0) < 5 if label == 1 else away.norm(dim=0) < 5
            y[n][inside] = label
            x[n, 0][inside] = 1.0
    x += 0.3 * torch.randn(x.shape, generator=draw)
    torch.manual_seed(0)
    net = build("unet", spec(1, 32, 32, classes=3), width=8)
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
    for _ in range(30):
        for rows in torch.randperm(120, generator=draw).split(20):
            loss = F.cross_entropy(net(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    with torch.no_grad():
        found = net.eval()(x[120:]).argmax(1)
    both = [((found == k) & (y[120:] == k)).sum() / ((found == k) | (y[120:] == k)).sum()
            for k in range(3)]  # fmt: skip
    assert torch.stack(both).mean() >= 0.85


@pytest.mark.slow
def test_a009_the_order_of_words_is_heard():
    """Texts that say "not good" against those that say "good not", hidden among other words."""
    draw = torch.Generator().manual_seed(0)
    x = torch.randint(3, 40, (1200, 1, 14), generator=draw).float()
    y = torch.randint(0, 2, (1200,), generator=draw)
    for n in range(1200):
        at = int(torch.randint(0, 13, (1,), generator=draw))
        x[n, 0, at : at + 2] = torch.tensor([1.0, 2.0] if y[n] else [2.0, 1.0])
    torch.manual_seed(0)
    net = build("textcnn", spec(1, 14, dtype="float32"), vocabulary=40, width=16, maps=20)
    taught(net, x[:1000], y[:1000], 15)
    assert accuracy(net, x[1000:], y[1000:]) >= 0.95


@pytest.mark.slow
def test_a010_power_in_a_band_is_told_apart():
    """EEGNet: 10 Hz over one half of the scalp or the other, phase at random, under noise."""
    draw = torch.Generator().manual_seed(0)
    time = torch.arange(128) / 128
    y = torch.randint(0, 2, (600,), generator=draw)
    x = torch.randn(600, 8, 128, generator=draw)
    phase = 6.28 * torch.rand(600, 1, 1, generator=draw)
    wave = torch.sin(2 * np.pi * 10 * time + phase)
    x[y == 0, :4] += wave[y == 0]
    x[y == 1, 4:] += wave[y == 1]
    torch.manual_seed(0)
    net = build("eegnet", spec(8, 128))
    taught(net, x[:450], y[:450], 15)
    assert accuracy(net, x[450:], y[450:]) >= 0.90


def test_a012_a_multilayer_perceptron_is_linear_layers():
    """C-17."""
    net = nn.Sequential(nn.Linear(784, 800), nn.Tanh(), nn.Linear(800, 10))
    assert sum(p.numel() for p in net.parameters()) == 636_010


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_a014_decay_alone_shrinks_a_weight_by_the_learning_rate(name):
    layer = nn.Linear(3, 2)
    before = layer.weight.detach().clone()
    recipe = Recipe(optimizer=name, lr=0.1, weight_decay=0.2, momentum=0.0)
    state = State.start(layer, recipe)
    for p in layer.parameters():
        p.grad = torch.zeros_like(p)
    state.optimizer.step()
    torch.testing.assert_close(layer.weight.detach(), before * (1 - 0.1 * 0.2))


def test_a015_dropout_keeps_the_mean_and_is_absent_in_evaluation():
    """C-40."""
    drop, x = nn.Dropout(0.5), torch.ones(100_000)
    torch.manual_seed(0)
    assert drop(x).mean().item() == pytest.approx(1, abs=3 * (1 / 100_000) ** 0.5)
    assert torch.equal(drop.eval()(x), x)


@pytest.mark.parametrize("name", ["lenet5", "lenet1", "nin"])
def test_a016_what_is_seen_grows_with_depth(name):
    net = build(name)
    fields = receptive_fields(net, torch.rand(1, *net.spec.shape))
    sizes = [field.size[0] for field in fields]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 5 * sizes[0]


def test_a018_fields_overlap_and_cover_everything():
    counts = participation((9, 9), 3, stride=1)
    assert int(counts.min()) >= 1
    assert counts[0].tolist() == [1, 2, 3, 3, 3, 3, 3, 2, 1]


# A.2 Layers


def test_a029_both_orders_of_axes_in_memory_give_the_same():
    torch.manual_seed(0)
    layer, x = nn.Conv2d(3, 4, 3).double(), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    other = layer(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(layer(x), other, rtol=0, atol=1e-12)


def test_a031_nothing_outside_the_field_matters():
    net = build("lenet5")
    x = torch.rand(1, 1, 32, 32, requires_grad=True)
    net[0][:3](x)[0, 0, 3, 4].backward()
    seen = x.grad[0, 0].nonzero()
    assert seen.min(0).values.tolist() == [6, 8]
    assert seen.max(0).values.tolist() == [11, 13]


def test_a040_a_fully_connected_layer_is_a_convolution_with_a_kernel_of_full_size():
    full, wide = nn.Linear(3 * 5 * 4, 7), nn.Conv2d(3, 7, (5, 4))
    with torch.no_grad():
        wide.weight.copy_(full.weight.view(7, 3, 5, 4))
        wide.bias.copy_(full.bias)
    x = torch.randn(2, 3, 5, 4)
    torch.testing.assert_close(wide(x).flatten(1), full(x.flatten(1)))


def test_a041_flattening_keeps_the_order_and_can_be_undone():
    x = torch.arange(24.0).view(1, 2, 3, 4)
    assert nn.Flatten()(x)[0].tolist() == list(range(24))
    assert torch.equal(nn.Flatten()(x).view_as(x), x)


def test_a049_one_kernel_and_one_bias_for_all_neurons_of_a_map_unless_untied():
    shared = Convolution(2, 1, 12, 5, stride=2, padding=2)
    untied = Convolution(2, 1, 12, 5, stride=2, padding=2, bias="untied", size=(16, 16))
    assert sum(p.numel() for p in shared.parameters()) == 25 * 12 + 12
    assert sum(p.numel() for p in untied.parameters()) == 25 * 12 + 768


def test_a050_parameters_do_not_depend_on_the_size_of_the_picture():
    counts = {profile(build("nin", spec(3, n, n)), fields=False).parameters for n in (32, 48, 64)}
    assert len(counts) == 1


# A.3 History


def test_a070_the_gradient_of_a_shared_weight_is_the_sum_over_its_places():
    layer = nn.Conv1d(1, 1, 3, bias=False).double()
    x = torch.randn(1, 1, 10, dtype=torch.float64)
    layer(x).square().sum().backward()
    weight = layer.weight.detach()
    total = torch.zeros(3, dtype=torch.float64)
    for t in range(8):
        window = x[0, 0, t : t + 3]
        total += 2 * (weight[0, 0] @ window) * window
    torch.testing.assert_close(layer.weight.grad[0, 0], total)


def test_a075_a_stream_in_pieces_is_heard_like_the_whole():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv1d(4, 6, 3), nn.Sigmoid(), nn.Conv1d(6, 2, 5))
    x = torch.randn(1, 4, 60)
    parts = [net(x[..., start : start + 20 + 6]) for start in (0, 20)]
    torch.testing.assert_close(torch.cat(parts, 2), net(x)[..., :40])


# A.4 Building blocks


def test_a111_a_filter_fires_most_where_its_feature_is():
    torch.manual_seed(0)
    picture = torch.randn(1, 1, 20, 20)
    patch = picture[..., 7:12, 9:14]
    said = F.conv2d(picture, patch - patch.mean())
    assert divmod(int(said.argmax()), said.shape[3]) == (7, 9)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 2), (2, 2), (3, 4)])
def test_a116_windows_overlap_by_kernel_less_stride(kernel, stride):
    counts = participation((41,), kernel, stride)
    shared = int((counts[kernel : 41 - 2 * kernel] > 1).sum() > 0)
    assert shared == (max(0, kernel - stride) > 0)


def test_a132_pooling_works_map_by_map():
    x, order = torch.randn(1, 5, 8, 8), torch.tensor([3, 0, 4, 1, 2])
    pool = max_pool(2, 2)
    assert torch.equal(pool(x[:, order]), pool(x)[:, order])
    assert pool(x).shape[1] == 5
    assert pool(x).numel() == x.numel() // 4


def test_a139_the_rectifier_has_slope_1_where_it_answers_and_sees_no_more():
    x = torch.tensor([-2.0, 3.0], requires_grad=True)
    nn.ReLU()(x).sum().backward()
    assert x.grad.tolist() == [0, 1]
    net = nn.Sequential(nn.Conv1d(1, 1, 3), nn.ReLU())
    before, after = receptive_fields(net, torch.rand(1, 1, 9))
    assert before == after


def test_a160_pooling_by_4_keeps_a_sixteenth():
    assert max_pool(2, 4)(torch.rand(1, 1, 32, 32)).numel() == 1024 // 16


def test_a165_pooling_of_stride_1_commutes_with_every_circular_shift():
    x = torch.randn(1, 2, 10, 10)
    wide = F.pad(x, [1, 1, 1, 1], "circular")
    still = max_pool(2, 3, 1)(wide)
    for step in range(10):
        moved = max_pool(2, 3, 1)(F.pad(x.roll(step, 3), [1, 1, 1, 1], "circular"))
        assert torch.equal(moved, still.roll(step, 3))


def test_a168_a_fully_connected_layer_breaks_what_convolution_kept():
    torch.manual_seed(0)
    features = nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular")
    x = torch.randn(1, 1, 8, 8)
    full, pooled = nn.Linear(256, 3), GlobalPool("mean")
    moved = x.roll(2, 3)
    assert (full(features(x).flatten(1)) - full(features(moved).flatten(1))).abs().max() > 0.01
    torch.testing.assert_close(pooled(features(x)), pooled(features(moved)))


def test_a169_no_sampling_and_global_pooling_ignore_every_shift():
    """C-44, on all 256 shifts of 16 x 16."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1, padding_mode="circular"), nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1, padding_mode="circular"), nn.ReLU(), GlobalPool("mean"),
    ).double()  # fmt: skip
    x = torch.randn(1, 1, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        still = net(x)
        worst = max(
            (net(x.roll((dy, dx), (2, 3))) - still).abs().max().item()
            for dy in range(16)
            for dx in range(16)
        )
    assert worst <= 1e-12
