"""Speed of a training: FLOPs, utilisation and energy are right, and stay out of outputs."""

import json
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from train_fixtures import COMPACT, UNET, tiny

from components.networks import registry
from components.train import energy, throughput

CPU = torch.device("cpu")


class Straight(nn.Module):
    """One 3 x 3 convolution."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 3, 1)

    def forward(self, sample, timestep, class_labels=None):
        return SimpleNamespace(sample=self.outer(self.inner(sample)))


def test_flops_are_those_counted_by_hand():
    inner, outer = 2 * 9 * 3 * 16 * 64, 2 * 16 * 3 * 64
    # Backwards each weight meets each pixel twice, but nobody asks for the gradient of the image.
    assert throughput.flops(Straight(), (3, 8, 8), labels=False) == 3 * outer + 2 * inner


def test_counting_copies_no_weight(monkeypatch):
    network = Straight()
    network.register_buffer("table", torch.zeros(4))
    monkeypatch.setattr(torch.Tensor, "__deepcopy__", lambda *_: pytest.fail("a tensor was copied"))
    monkeypatch.setattr(nn.Parameter, "__deepcopy__", lambda *_: pytest.fail("a weight was copied"))
    assert throughput.flops(network, (3, 8, 8), labels=False) > 0
    assert {each.device.type for each in (*network.parameters(), *network.buffers())} == {"cpu"}


@pytest.mark.parametrize("chosen", [UNET, COMPACT])
def test_flops_of_a_network_grow_with_its_pixels_below_the_bound(chosen):
    params = tiny(network=chosen | {"widths": [32, 32]}, onnx=chosen is COMPACT)
    counts = []
    for side in (8, 16):
        network = registry.build(params.network, schedule_name="cosine", shape=(3, side, side), classes=3)
        counts.append(throughput.flops(network, registry.sample_shape(network), labels=True))
        assert counts[-1] <= throughput.at_most(network, (3, side, side)) * 1.5  # attention is beyond the bound
        assert next(network.parameters()).device.type == "cpu"
    assert 3 < counts[1] / counts[0] < 6


def test_the_peak_is_measured_once_and_remembered(tmp_path, monkeypatch):
    path = tmp_path / "peaks.json"
    first = throughput.peak(CPU, "fp32", path)
    assert first > 1e8
    monkeypatch.setattr(throughput, "_measured", lambda *_: pytest.fail("measured again"))
    assert throughput.peak(CPU, "fp32", path) == first


@pytest.mark.parametrize("content", ["", "[]", '{"x": "y"}', "nonsense", '{"x": -1}'])
def test_a_damaged_memory_of_peaks_is_measured_again(tmp_path, monkeypatch, content):
    path = tmp_path / "peaks.json"
    path.write_text(content, "utf-8")
    monkeypatch.setattr(throughput, "_measured", lambda *_: 5e9)
    assert throughput.peak(CPU, "fp32", path) == 5e9
    assert 5e9 in json.loads(path.read_text("utf-8")).values()


def reported(monkeypatch, tmp_path, *, ranks=1):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(throughput.time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(throughput, "peak", lambda *_: 1e9)
    points = []
    monkeypatch.setattr(throughput.events, "metrics", lambda values, step: points.append((step, values)))
    speed = throughput.Throughput(lambda: 2e6, CPU, precision="fp32", ranks=ranks, remembered=None)
    speed._energy = SimpleNamespace(joules=lambda: 30.0 * clock.now, share=lambda ranks: 1)
    for step in range(1, 26):
        clock.now += 1.0
        speed.advance(100, seen=100 * step)
    return speed, points


def test_rate_utilisation_and_energy_of_each_window_are_reported(monkeypatch, tmp_path):
    speed, points = reported(monkeypatch, tmp_path)
    assert [step for step, _ in points] == [1300, 2300]
    assert points[0][1] == pytest.approx({
        "speed/images_per_second": 100.0, "speed/flops_per_second": 2e8, "speed/utilisation": 0.2,
        "speed/joules_per_image": 0.3, "speed/watts": 30.0,
    })  # fmt: skip
    assert speed.note == "200 MFLOP/s, 20 % of peak, 30 W"


def test_two_ranks_can_do_twice_as_much(monkeypatch, tmp_path):
    _, points = reported(monkeypatch, tmp_path, ranks=2)
    assert points[0][1]["speed/utilisation"] == pytest.approx(0.1)


# --- energy ----------------------------------------------------------------------------------------------------


def rapl(folder, microjoules):
    for name, value in (("intel-rapl:0", microjoules), ("intel-rapl:0:0", 10**9), ("intel-rapl:1", 500_000)):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "energy_uj").write_text(f"{value}\n", "ascii")
        (folder / name / "max_energy_range_uj").write_text("4000000\n", "ascii")


def test_the_processors_packages_are_added_up_and_their_parts_are_not(tmp_path):
    rapl(tmp_path, 1_500_000)
    assert energy.Energy(CPU, tmp_path).joules() == pytest.approx(2.0)


def test_a_counter_that_starts_again_goes_on(tmp_path):
    rapl(tmp_path, 3_900_000)
    counter = energy.Energy(CPU, tmp_path)
    before = counter.joules()
    rapl(tmp_path, 100_000)
    assert counter.joules() - before == pytest.approx(0.2)


def test_without_a_counter_or_with_a_strange_one_the_energy_is_unknown(tmp_path):
    assert energy.Energy(CPU, tmp_path).joules() is None
    rapl(tmp_path, 5)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("?", "ascii")
    assert energy.Energy(CPU, tmp_path).joules() is None
