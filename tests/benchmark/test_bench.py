"""Runs with fake children, whose figures are known; and one with real ones."""

import threading

import pytest
from children import FAKE, python
from fakes import card, publish, publish_network, quantization, structure
from stored import filled, publish_compiled_files
from waiting import PATIENCE_S, wait_until

from service.benchmark.bench import Bench
from service.benchmark.children import Children
from service.benchmark.plan import Plan, Subject, cards_in
from service.benchmark.report import Report
from service.errors import (
    BadParameter,
    BenchmarkFailed,
    BenchmarkRunning,
    CommandError,
    HeadUnavailable,
    NoReport,
    TooLittleMemory,
    UnknownHead,
)
from service.store.layout import Store
from service.store.publish import publish_report

FLATTEN = "f" * 64
PLAN = Plan(seconds=2, batch_sizes=[1, 4])


def fill(folder):
    """A store with files of gap and of flatten, which weighs more; no engine could open them."""
    store = filled(folder, "gap")
    publish(store, "flatten", structure=structure("flatten", 588, digest=FLATTEN))
    publish_network(store, FLATTEN)
    return store


@pytest.fixture
def store(tmp_path):
    return fill(tmp_path)


@pytest.fixture
def bench(store):
    return Bench(store, threads=1, command=python(FAKE))


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Of one run with fake children."""
    store = fill(tmp_path_factory.mktemp("measured"))
    return measure(Bench(store, threads=1, command=python(FAKE)))


def measure(bench, plan=PLAN, heads=None):
    return bench.measure(plan, cards_in(bench.store, heads), "openvino", Children())


def test_a_report_holds_what_the_children_said(report):
    gap, flatten = report.heads  # the lightest first
    assert (gap.head, gap.version, gap.engine, gap.classes) == ("gap", 1, "openvino", 3)
    assert flatten.head == "flatten"
    assert gap.parameters == 100 + 12
    one, four = flatten.latency
    assert (one.batch_size, one.first_call_ms, one.p50_ms) == (1, 27, 6)
    assert 8 < one.p90_ms <= 9
    assert one.images_per_s == pytest.approx(1000 / 6)
    assert one.n == 3 * report.rounds
    assert (four.batch_size, four.first_call_ms) == (4, 27)
    assert four.images_per_s == pytest.approx(4000 / 6)
    assert report.requests_meanwhile is None
    assert report.seconds < 2 * PLAN.seconds


def test_it_tells_what_it_is_about_to_do(bench):
    told = []
    cards = cards_in(bench.store, ["gap"])
    bench.measure(PLAN, cards, "openvino", Children(), told.append)
    assert [one.doing for one in told[:4]] == [
        "gap on openvino: memory",
        "gap on openvino: loading",
        "gap on openvino: latency, batch size 1",
        "gap on openvino: latency, batch size 4",
    ]
    assert [one.step for one in told] == list(range(1, len(told) + 1))
    assert {one.of_seconds for one in told} == {PLAN.seconds}


def test_memory_is_what_they_weighed_and_what_the_card_and_the_files_say(report):
    gap, flatten = (head.memory for head in report.heads)
    assert (gap.resident_mb, gap.anonymous_mb, gap.file_backed_mb) == (7, 4, 3)
    assert (gap.peak_mb, gap.marginal_mb, gap.reason) == (8, 2, None)
    assert gap.weights_mb == pytest.approx((4 * 100 + 48) / 1e6)
    assert flatten.weights_mb == pytest.approx((4 * 100 + 2352) / 1e6)
    assert gap.file_mb == pytest.approx(4 * len(b"a network") / 1e6)


def test_ratios_are_of_the_heavier_over_the_lighter(report):
    ratios = report.ratios
    assert [(row.head, row.to_head, row.batch_size) for row in ratios] == [
        ("flatten", "gap", 1),
        ("flatten", "gap", 4),
    ]
    assert [row.ratio for row in ratios] == [3, 3]


def test_pairs_differ_in_the_head_or_in_the_engine():
    subjects = Subject.every([card("gap"), card("flatten")], ["openvino", "keras"])
    pairs = {
        tuple(sorted((str(one), str(other))))
        for one in subjects
        for other in subjects
        if one.differs_in_one(other)
    }
    assert len(pairs) == 4
    assert ("flatten on keras", "gap on openvino") not in pairs


def test_each_batch_size_and_head_is_measured_once(bench):
    report = measure(bench, Plan(seconds=2, batch_sizes=[4, 4], heads=["gap"]), ["gap"])
    assert [row.batch_size for row in report.heads[0].latency] == [4]
    assert report.ratios == ()


def test_the_last_report_is_kept_and_read_by_another_process(bench, store):
    with pytest.raises(NoReport, match="POST /benchmark"):
        bench.last({})
    assert not bench.has_report()
    report = measure(bench)
    assert Bench(store, 1).last({}) == report
    assert report.measured_here
    (file,) = (store.root / ".benchmark").iterdir()
    assert Report.model_validate_json(file.read_bytes()) == report
    assert store.heads() == ["flatten", "gap"]


def test_it_was_not_measured_here_when_something_changed(bench, store, report):
    def stored(text):
        publish_report(store, report.machine.host, text)
        return bench.last({"gap": 1}).measured_here

    text = report.model_dump_json()
    assert stored(text)
    assert not bench.last({"gap": 2}).measured_here
    assert not stored(text.replace(report.machine.versions["numpy"], "0.1"))
    assert not stored(text.replace(report.machine.cpu, "Z80"))


def test_a_report_that_cannot_be_read_is_none(bench, store, report):
    publish_report(store, report.machine.host, '{"from": "the future"}')
    assert not bench.has_report()
    with pytest.raises(NoReport):
        bench.last({})


def test_where_nothing_can_be_written_the_report_lives_in_memory(bench, store):
    (store.root / ".benchmark").write_text("in the way")
    report = measure(bench)
    assert bench.last({}) == report


def test_too_little_memory_is_refused_before_anything_starts(store):
    bench = Bench(store, 1, available_bytes=lambda: 10**6, command=("nobody", "starts", "this"))
    with pytest.raises(TooLittleMemory, match="1 MB are available"):
        measure(bench)


def test_one_run_at_a_time_and_a_stop_lets_the_next_begin(store):
    begun = store.root.with_name("begun")
    bench = Bench(store, 1, command=python(f"open({str(begun)!r}, 'w'); input(); input()"))
    children, failures = Children(), []

    def run():
        try:
            bench.measure(Plan(seconds=60), cards_in(store, None), "openvino", children)
        except BenchmarkFailed as exc:
            failures.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(begun.exists)
    with pytest.raises(BenchmarkRunning):
        measure(bench)
    children.stop()
    thread.join(PATIENCE_S)
    assert failures
    bench.command = python(FAKE)
    assert measure(bench).heads


def test_a_round_that_time_cuts_off_is_not_counted(store):
    """Flatten's fourth order, its first turn of the second round, takes longer than there is."""
    count = (
        "for number, line in enumerate(sys.stdin):\n    time.sleep(60 * (times == 3 and number == 3))"
    )
    report = measure(Bench(store, 1, command=python(FAKE.replace("for line in sys.stdin:", count))))
    assert report.rounds == 1
    assert [row.n for head in report.heads for row in head.latency] == [3] * 4
    assert report.seconds > PLAN.seconds - 0.1


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("raise SystemExit('cannot open it')", "cannot open it"),
        ("print('hello')\nimport time; time.sleep(9)", "hello"),
        ("import time; time.sleep(9)", "give it more seconds"),
        (FAKE.replace('"turn"', '"other"'), "KeyError"),
    ],
)
def test_a_child_that_fails_ends_the_run_with_the_name_of_its_head(store, code, told):
    with pytest.raises(BenchmarkFailed, match=f"^gap on openvino.*{told}"):
        measure(Bench(store, 1, command=python(code)))


def test_what_is_not_compiled_names_the_command_that_compiles_it(bench):
    told = []
    with pytest.raises(HeadUnavailable, match="resnet-heads compile gap --version 1 --engine keras"):
        bench.measure(
            Plan(seconds=1, engines=["openvino", "keras"]),
            cards_in(bench.store, ["gap"]),
            "openvino",
            Children(),
            told.append,
        )
    assert not told, "it was known before anything began"


def test_an_int8_head_is_measured_on_its_own_engine_only(bench):
    publish(bench.store, "gap-int8", quantization=quantization(), precision="int8")
    reason = "gap-int8 on keras: it is an int8 graph, which only the openvino engine runs."
    with pytest.raises(BadParameter, match=reason):
        measure(bench, Plan(seconds=1, engines=["keras"]), ["gap-int8"])


def test_among_all_heads_an_int8_head_is_left_out_of_other_engines(bench):
    int8 = publish(bench.store, "gap-int8", quantization=quantization(), precision="int8")
    publish_compiled_files(bench.store, "keras")
    publish_network(bench.store, FLATTEN, engine="keras")
    cards = [*cards_in(bench.store, ["gap", "flatten"]), int8]
    told = bench.measure(Plan(seconds=2, engines=["keras"]), cards, "openvino", Children())
    assert [head.head for head in told.heads] == ["gap", "flatten"]


def test_an_int8_graph_that_was_damaged_meanwhile_is_told(bench):
    graph = quantization(files={"network.bin": "0" * 64})
    cards = [publish(bench.store, "gap-int8", quantization=graph, precision="int8")]
    with pytest.raises(HeadUnavailable, match=r"network\.bin cannot be read"):
        bench.measure(PLAN, cards, "openvino", Children())


def test_requests_are_counted_where_there_is_a_server(bench):
    counts = iter([40, 45])
    bench.answered = lambda: next(counts)
    assert measure(bench).requests_meanwhile == 5


def test_the_newest_good_version_of_each_head_is_measured(store):
    publish(store, "gap")
    (store.folder("gap", 2) / "card.json").write_text("{}")
    assert [one.version for one in cards_in(store, ["gap"])] == [1]
    (store.folder("gap", 1) / "card.json").write_text("{}")
    with pytest.raises(HeadUnavailable, match="version 2"):
        cards_in(store, ["gap"])
    with pytest.raises(UnknownHead):
        cards_in(store, ["nope"])
    with pytest.raises(CommandError, match="resnet-heads init"):
        cards_in(Store(store.root / "none", store.cache), None)


def test_a_real_run_is_plausible(small_store):
    """Whatever runs beside it: no latency is too short for a ResNet50, nor all of them for the run."""
    bench = Bench(small_store, threads=2)
    report = measure(bench, Plan(seconds=15, batch_sizes=[1, 4]))
    assert Report.model_validate_json(report.model_dump_json()) == report
    rows = [row for head in report.heads for row in head.latency]
    assert sum(row.n * row.mean_ms for row in rows) < 1e3 * report.seconds
    for row in rows:
        assert 0.5 < row.p50_ms <= row.p90_ms <= row.p95_ms <= row.p99_ms
    for head in report.heads:
        assert head.memory.weights_mb == pytest.approx(94.4, abs=0.2)
        assert head.memory.file_mb == pytest.approx(94.2, abs=0.5)
    for row in report.ratios:
        assert row.ratio > 0
        assert row.low is None or row.low <= row.ratio <= row.high
