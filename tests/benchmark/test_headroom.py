import pytest
from fakes import card, quantization

from service.benchmark.headroom import available_bytes, check, needed_bytes, weight_bytes
from service.benchmark.plan import Subject
from service.errors import TooLittleMemory
from service.store.card import Backbone, Structure

GB = 10**9
BACKBONE = Backbone(digest="b" * 64, parameters=23_587_712, feature_shape=(7, 7, 2048))


def subject(classes, flatten=False, engine="openvino"):
    weights = (100_352 if flatten else 2048) * classes + classes
    structure = Structure(digest="e" * 64, pooling="gap", parameters=weights, weight_bytes=4 * weights)
    return Subject(card(backbone=BACKBONE, structure=structure), engine)


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)


def test_weights_are_exact():
    assert weight_bytes(subject(1000).card) == 4 * (23_587_712 + 2048 * 1000 + 1000)
    assert weight_bytes(subject(1000, flatten=True).card) == 4 * (23_587_712 + 100_352 * 1000 + 1000)


def test_the_weights_of_an_int8_backbone_are_those_of_its_graph():
    made = {"quantization": quantization(weight_bytes=23_667_884)}
    one = subject(1000).card.model_copy(update=made | {"precision": "int8"})
    assert weight_bytes(one) == 23_667_884 + 4 * (2048 * 1000 + 1000)
    assert weight_bytes(one.model_copy(update={"precision": "bf16"})) == weight_bytes(subject(1000).card)


@pytest.mark.parametrize(
    ("measured", "one", "batch_size"),
    [
        # resident or peak of a whole child, measured on two cores; see headroom.py
        (0.43e9, subject(10), 8),
        (0.68e9, subject(10), 32),
        (1.24e9, subject(1000, flatten=True), 8),
        (1.48e9, subject(1000, flatten=True), 32),
        (1.05e9, subject(10, engine="keras"), 32),
        (3.50e9, subject(1000, flatten=True, engine="keras"), 32),
    ],
)
def test_the_estimate_is_above_what_was_measured_and_not_far(measured, one, batch_size):
    assert measured < needed_bytes(one, batch_size) < 2.5 * measured


def test_what_fits_passes_and_what_does_not_is_refused_with_the_figures():
    both = [subject(1000), subject(1000, flatten=True)]
    needed = sum(needed_bytes(one, 8) for one in both)
    check(both, 8, int(needed) + 1)
    with pytest.raises(TooLittleMemory) as refusal:
        check(both, 8, 1 * GB)
    assert f"{needed / 1e6:.0f} MB" in str(refusal.value)
    assert "1000 MB" in str(refusal.value)


def test_where_nobody_knows_all_is_let_through(tmp_path):
    assert available_bytes(tmp_path, tmp_path) is None
    check([subject(1000, flatten=True)], 64, None)


def test_the_machine_tells_what_is_available(tmp_path):
    write(tmp_path, meminfo="MemTotal: 9000 kB\nMemAvailable:  4000 kB\n")
    assert available_bytes(tmp_path, tmp_path / "none") == 4000 * 1024


def test_a_container_may_have_less_by_version_2(tmp_path):
    write(tmp_path / "proc", meminfo="MemAvailable: 99999999 kB\n")
    group = {
        "memory.max": "5000000",
        "memory.current": "3000000",
        "memory.stat": "anon 1\ninactive_file 500000",
    }
    write(tmp_path / "cgroup", **group)
    assert available_bytes(tmp_path / "proc", tmp_path / "cgroup") == 2_500_000


def test_a_container_may_have_less_by_version_1(tmp_path):
    write(tmp_path / "proc/self", cgroup="4:memory:/docker/abc\n3:cpu:/\n0::/\n")
    group = {
        "memory.limit_in_bytes": "5000000",
        "memory.usage_in_bytes": "3000000",
        "memory.stat": "total_inactive_file 500000",
    }
    write(tmp_path / "cgroup/memory", **group)
    assert available_bytes(tmp_path / "proc", tmp_path / "cgroup") == 2_500_000


def test_of_nested_groups_the_tightest_counts(tmp_path):
    write(tmp_path / "proc/self", cgroup="0::/slice/unit\n")
    for path, limit in {"slice": "4000000", "slice/unit": "max"}.items():
        group = {"memory.max": limit, "memory.current": "1000000", "memory.stat": "inactive_file 0"}
        write(tmp_path / "cgroup" / path, **group)
    assert available_bytes(tmp_path / "proc", tmp_path / "cgroup") == 3_000_000
