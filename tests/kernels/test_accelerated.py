"""`accelerate` on networks that know nothing of it."""

import copy
import io
from collections import Counter

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

import striate
from striate.kernels import accelerated, memory
from striate.kernels.accelerated import FastConv2d, accelerate, as_torch, kernel_of, report
from striate.kernels.compiled import backend
from striate.kernels.dispatch import Call

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=1, bias=False), nn.Conv2d(32, 32, 3, stride=2),
        nn.Conv2d(32, 32, 1), nn.Conv2d(32, 32, 3, groups=2), nn.Conv2d(32, 32, 3, dilation=2),
        nn.Conv2d(32, 8, 3, padding="same"), nn.Conv2d(8, 8, 3, padding_mode="circular", padding=1),
        nn.Conv2d(8, 8, 2, padding="same"),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


def test_answers_gradients_and_names_stay():
    plain, x = network(), torch.randn(2, 3, 20, 20)
    fast = striate.accelerate(copy.deepcopy(plain))
    assert list(fast.state_dict()) == list(plain.state_dict())
    answers = [net(x) for net in (plain, fast)]
    torch.testing.assert_close(*answers, rtol=1e-4, atol=1e-5)
    for answer in answers:
        answer.square().sum().backward()
    for one, other in zip(plain.parameters(), fast.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4)


def test_it_says_what_it_left_alone_and_why():
    found = report(network())
    assert found.swapped == ("0", "1", "3", "4", "5", "6", "7", "8")
    assert found.left == {
        "9": "its border is circular",
        "10": "padding 'same' is not the same on both sides of kernel (2, 2)",
    }
    assert report(found.model).swapped == ()  # done already


TRANSPOSED = [
    {"kernel_size": 2, "stride": 2},
    {"kernel_size": 3, "stride": 2, "padding": 1, "output_padding": 1},
    {"kernel_size": 4, "stride": 2, "padding": 1, "bias": False},
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": (3, 5), "stride": (1, 3), "padding": (0, 2), "groups": 2},
    {"kernel_size": 3, "stride": 1, "dilation": 2, "output_padding": 1},  # PyTorch's own
]


@pytest.mark.parametrize("how", TRANSPOSED, ids=str)
@pytest.mark.parametrize("compiled", [True, False])
def test_transposed_convolutions(ours, monkeypatch, how, compiled):
    ours(1)
    monkeypatch.setattr(accelerated, "SMALL", 0)
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ConvTranspose2d(4, 6, **how))
    exact = copy.deepcopy(plain).double()
    fast = copy.deepcopy(plain) if compiled else accelerate(copy.deepcopy(plain))
    x = torch.randn(2, 3, 5, 7)
    y = (torch.compile(fast, backend=backend) if compiled else fast)(x)
    wanted = exact(x.double())
    torch.testing.assert_close(y, wanted.float(), rtol=1e-5, atol=1e-5)
    y.square().sum().backward()
    wanted.square().sum().backward()
    for own, other in zip(fast.parameters(), exact.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad.float(), rtol=1e-4, atol=1e-3)


def test_a_transposed_convolution_takes_the_size_it_is_asked_for(monkeypatch):
    monkeypatch.setattr(accelerated, "SMALL", 0)
    plain = nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1)
    fast, x = accelerate(copy.deepcopy(plain)), torch.randn(2, 4, 5, 7)
    for size in (None, [9, 13], [10, 14]):
        torch.testing.assert_close(fast(x, size), plain(x, size), rtol=1e-5, atol=1e-5)
    for wrong in ([20, 20], [3, 13]):
        with pytest.raises(ValueError, match="requested an output size"):
            fast(x, wrong)
    with pytest.raises(RuntimeError):
        fast(x[:, :3])
    assert kernel_of(plain, x) == "pytorch"
    assert kernel_of(fast, x) != "pytorch"


@pytest.mark.parametrize("momentum", [0.1, None])
@pytest.mark.parametrize("tracked", [True, False])
def test_large_batches_are_normalised_by_ours(monkeypatch, momentum, tracked):
    monkeypatch.setattr(accelerated, "LARGE", 0)
    calls, true = [], accelerated.batch_norm

    def counted(*args, **kwargs):
        calls.append(args)
        return true(*args, **kwargs)

    monkeypatch.setattr(accelerated, "batch_norm", counted)
    plain = nn.BatchNorm2d(5, momentum=momentum, track_running_stats=tracked)
    fast = striate.accelerate(copy.deepcopy(plain))
    for step in range(3):
        x = torch.randn(4, 5, 6, 7).contiguous(memory_format=torch.channels_last) + step
        x, other = x.requires_grad_(), x.detach().clone().requires_grad_()
        for net, own in ((fast, x), (plain, other)):
            net(own).square().sum().backward()
        torch.testing.assert_close(fast(x), plain(other))
        torch.testing.assert_close(x.grad, other.grad, rtol=1e-4, atol=1e-4)
    assert len(calls) == 6
    for one, other in zip(fast.state_dict().values(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other)
    fast.eval(), plain.eval()
    torch.testing.assert_close(fast(x), plain(x))
    assert len(calls) == (6 if tracked else 7)  # without statistics, those of the batch


def stop(norm):
    norm.track_running_stats = False


def forget(norm):
    norm.num_batches_tracked = None


@pytest.mark.parametrize("change", [stop, forget])
@pytest.mark.parametrize("momentum", [0.3, None])
def test_running_statistics_follow_what_is_set_afterwards(monkeypatch, momentum, change):
    monkeypatch.setattr(accelerated, "LARGE", 0)
    plain = nn.BatchNorm2d(5, momentum=momentum)
    fast = accelerate(copy.deepcopy(plain))
    x = torch.randn(4, 5, 6, 7).contiguous(memory_format=torch.channels_last) + 1
    for net in (plain, fast):
        net(x)
        change(net)
        net(x + 1)
    for one, other in zip(fast.buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(one, other)


def test_a_convolution_of_another_kind_is_left_alone():
    class Odd(nn.Conv2d):
        def forward(self, x):
            return super().forward(x) + 1

    odd = Odd(3, 4, 3)
    assert report(nn.Sequential(odd)).left == {"0": "Odd may compute something else than Conv2d"}
    assert type(odd) is Odd


def test_modules_stay_the_objects_that_they_are():
    net = network()
    first, seen = net[0], []
    net[0].register_forward_hook(lambda *_: seen.append("forward"))
    net.append(first)  # shared
    accelerate(net)
    assert net[0] is first
    assert net[-1] is first
    net[:2](torch.randn(1, 3, 8, 8))
    assert seen == ["forward"]
    assert isinstance(first, nn.Conv2d)
    assert repr(first) == repr(network()[0]).replace("Conv2d", "FastConv2d")


def test_it_can_be_copied_saved_and_loaded():
    net = accelerate(network()).eval()
    x = torch.randn(1, 3, 20, 20)
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    for other in (copy.deepcopy(net), torch.load(file, weights_only=False)):
        assert type(other[0]) is FastConv2d
        torch.testing.assert_close(other(x), net(x), rtol=0, atol=0)
    plain = network().eval()
    plain.load_state_dict(net.state_dict())
    torch.testing.assert_close(plain(x), net(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((1, 3, 8, 8), torch.float64), ((3, 8, 8), torch.float32), ((0, 3, 8, 8), torch.float32)],
)
def test_what_is_not_ours_goes_to_torch(shape, dtype):
    plain, x = nn.Conv2d(3, 32, 3).to(dtype), torch.randn(shape, dtype=dtype)
    fast = accelerate(copy.deepcopy(plain))
    assert torch.equal(fast(x), plain(x))


@pytest.fixture(autouse=True)
def nothing_is_small(monkeypatch):
    monkeypatch.setattr(accelerated, "SMALL", 0)


def test_little_work_is_left_to_torch(monkeypatch):
    monkeypatch.setattr(accelerated, "SMALL", 3e7)
    monkeypatch.setattr(accelerated, "convolution", None)  # whoever calls it fails
    net, x = accelerate(nn.Conv2d(16, 16, 3)), torch.randn(2, 16, 8, 8)
    assert net(x).shape == (2, 16, 6, 6)
    with pytest.raises(TypeError):
        net(torch.randn(64, 16, 32, 32))


def test_one_axis_stays_as_it_is():
    """Turning the channels last takes as long as is gained, where they are few."""
    net = accelerate(nn.Sequential(nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8)))
    assert [type(layer) for layer in net] == [nn.Conv1d, nn.BatchNorm1d]


def volumes():
    """Return a network of three axes, and samples large enough for our kernels."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv3d(3, 32, 3, padding=1), nn.SiLU(), nn.Conv3d(32, 32, 3, stride=2, bias=False),
        nn.BatchNorm3d(32), nn.SiLU(), nn.Conv3d(32, 32, 3, groups=4), nn.SiLU(),
        nn.Conv3d(32, 8, 1, bias=False), nn.BatchNorm3d(8),
    )  # fmt: skip
    last = torch.channels_last_3d
    return net.to(memory_format=last), torch.randn(4, 3, 16, 32, 32).to(memory_format=last)


def test_three_axes_train_and_answer_alike(monkeypatch):
    monkeypatch.setattr(accelerated, "ASKED", 0)
    called = Counter()
    for name in ("convolution", "batch_norm"):
        real = getattr(accelerated, name)

        def counted(*given, real=real, name=name, **more):
            called[name] += 1
            return real(*given, **more)

        monkeypatch.setattr(accelerated, name, counted)
    plain, x = volumes()
    found = report(copy.deepcopy(plain))
    fast = found.model
    assert len(found.swapped) == 6
    for turn in range(2):
        answers = [net(x + turn) for net in (plain, fast)]
        torch.testing.assert_close(*answers, rtol=1e-4, atol=1e-4)
        for answer in answers:
            answer.square().mul(answer.detach() > 0).sum().backward()
    assert called["convolution"] >= 2
    assert called["batch_norm"] >= 2
    for one, other in zip(plain.parameters(), fast.parameters(), strict=True):
        assert (one.grad - other.grad).norm() < 1e-3 * one.grad.norm()
    for one, other in zip(plain.buffers(), fast.buffers(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(fast.eval()(x), plain.eval()(x), rtol=1e-4, atol=1e-4)


def test_one_number_a_channel_is_refused_as_before():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        accelerate(nn.BatchNorm3d(2**20))(torch.randn(1, 2**20, 1, 1, 1))


def test_too_small_samples_get_the_message_of_torch():
    with pytest.raises(RuntimeError, match="Kernel size can't be greater than actual input size"):
        accelerate(nn.Conv2d(3, 8, 5))(torch.randn(1, 3, 4, 4))


def test_autocast_is_left_to_torch():
    net = accelerate(nn.Conv2d(3, 32, 3))
    with torch.autocast("cpu", torch.bfloat16):
        assert net(torch.randn(1, 3, 8, 8)).dtype == torch.bfloat16


def test_wrong_channels_get_the_message_of_torch():
    with pytest.raises(RuntimeError, match="to have 3 channels, but got 4"):
        accelerate(nn.Conv2d(3, 32, 3))(torch.randn(1, 4, 8, 8))


def test_off_leaves_everything_alone(monkeypatch):
    monkeypatch.setenv("STRIATE_KERNELS", "off")
    assert report(network()).swapped == ()


def test_an_accelerated_network_can_be_compiled():
    net = accelerate(nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU()))
    x = torch.randn(2, 16, 12, 12)
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), net(x))
    compiled(x).sum().backward()
    assert net[0].weight.grad is not None


@pytest.mark.parametrize(
    ("algorithm", "name"),
    [(0, "pytorch"), (1, "direct"), (2, "winograd 2x2"), (4, "winograd 4x4"),
     (None, "tried at first use")],
)  # fmt: skip
def test_who_will_compute_a_layer_can_be_asked(monkeypatch, algorithm, name):
    asked = []
    monkeypatch.setattr(accelerated, "foreseen", lambda call: asked.append(call) or algorithm)
    layer, x = nn.Conv2d(16, 32, 3, padding="same"), torch.zeros(4, 16, 10, 12)
    assert kernel_of(layer, x) == "pytorch"  # it is not ours yet
    assert kernel_of(accelerate(layer), x) == name
    one, size = (1, 1, 1), (1, 10, 12)
    threads = torch.get_num_threads()
    wanted = Call("forward", 4, 16, 32, size, size, (1, 3, 3), one, (0, 1, 1), one, 1, threads)
    assert asked == [wanted]
    assert kernel_of(layer, x.double()) == "pytorch"


def test_a_network_can_be_torchs_for_a_while():
    net = accelerate(network())
    before = [type(module) for module in net]
    with as_torch(net):
        assert FastConv2d not in map(type, net)
    assert [type(module) for module in net] == before


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@torch.no_grad()
def test_a_network_that_is_torchs_for_a_while_can_be_scripted():
    net = accelerate(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())).eval()
    x, hooks = torch.randn(2, 3, 9, 9), list(net._forward_hooks.values())
    wanted = net(x)
    with as_torch(net):
        scripted = torch.jit.script(net)
    torch.testing.assert_close(scripted(x), wanted, rtol=1e-4, atol=1e-5)
    assert list(net._forward_hooks.values()) == hooks
    assert torch.equal(net(x), wanted)


@pytest.mark.parametrize("large", [0, memory.LARGE])
@pytest.mark.parametrize("algorithm", [0, 1, 4])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_an_answer_may_be_changed_in_place(ours, monkeypatch, algorithm, order, large):
    ours(algorithm)
    monkeypatch.setattr(memory, "LARGE", large)
    monkeypatch.setattr("striate.kernels.accelerated.SMALL", 0)
    plain = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True))
    fast = accelerate(copy.deepcopy(plain))
    x = torch.randn(2, 3, 9, 9).contiguous(memory_format=order)
    for net in (plain, fast):
        net(x).square().sum().backward()
    torch.testing.assert_close(fast[0].weight.grad, plain[0].weight.grad, rtol=1e-4, atol=1e-4)


class Viewing(nn.Module):
    """Code that knows how PyTorch's answers lie."""

    def __init__(self, kind=nn.Conv2d):
        super().__init__()
        self.conv, self.norm = kind(4, 8, 3, padding=1), nn.BatchNorm2d(8)

    def forward(self, x):
        y = self.norm(self.conv(x)).relu()
        return y.view(y.size(0), -1).sum(1)


@pytest.mark.parametrize("mode", ["training", "inference", "small"])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_views_of_contiguous_answers_are_legal(monkeypatch, kind, mode):
    monkeypatch.setattr(accelerated, "SMALL_KEPT", 1e9 if mode == "small" else 0)
    plain, x = Viewing(kind).train(mode == "training"), torch.randn(2, 4, 9, 8)
    fast = accelerate(copy.deepcopy(plain))
    with torch.set_grad_enabled(mode == "training"):
        torch.testing.assert_close(fast(x), plain(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernels", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
@pytest.mark.parametrize("graded", [True, False])
def test_an_answer_lies_as_torchs_does(kind, order, kernels, graded):
    plain = nn.Sequential(kind(4, 8, 3, padding=1)).eval().to(memory_format=kernels)
    x = torch.randn(2, 4, 9, 8).to(memory_format=order)
    with torch.set_grad_enabled(graded):
        strides = [net(x).stride() for net in (plain, accelerate(copy.deepcopy(plain)))]
    assert strides[0] == strides[1]


def test_what_is_recorded_for_other_machines_is_torchs():
    net = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ConvTranspose2d(8, 8, 2))
    net, x = accelerate(net).eval(), torch.randn(2, 8, 9, 9)
    graphs = [
        *(make_fx(net, pre_dispatch=early)(x).graph for early in (True, False)),
        *(torch.export.export(net, (x,), strict=strict).graph for strict in (True, False)),
    ]
    for graph in graphs:
        names = [str(node.target) for node in graph.nodes]
        assert not [name for name in names if "striate" in name]
        assert [name for name in names if "conv" in name]
