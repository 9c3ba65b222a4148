from datetime import UTC, datetime

from service.benchmark.report import Latency, Machine, MeasuredHead, Memory, Ratio, Report
from service.benchmark.table import show_report

LATENCY = Latency(
    batch_size=8,
    n=30,
    first_call_ms=99.9,
    p50_ms=10.04,
    p90_ms=12,
    p95_ms=13,
    p99_ms=14,
    mean_ms=11,
    stdev_ms=1.5,
    images_per_s=727.27,
)
RATIO = {"head": "flatten", "engine": "keras", "to_head": "gap", "to_engine": "keras", "batch_size": 8}


def report(**memory):
    machine = Machine(host="here", cpu="a processor", cores=2, cpu_quota=None, versions={})
    head = MeasuredHead(
        head="gap",
        version=3,
        engine="keras",
        classes=10,
        parameters=100,
        load_ms=120.4,
        latency=(LATENCY,),
        memory=Memory(weights_mb=94.4, file_mb=94.2, **memory),
    )
    return Report(
        started=datetime(2026, 1, 2, tzinfo=UTC),
        seconds=12.3,
        machine=machine,
        threads=2,
        rounds=7,
        requests_meanwhile=None,
        heads=(head,),
        ratios=(
            Ratio(**RATIO, ratio=1.25, low=1.2, high=1.3),
            Ratio(**RATIO, ratio=1.5, low=None, high=None),
        ),
    )


def test_without_a_terminal_it_is_plain_columns(capsys):
    show_report(report(resident_mb=300, marginal_mb=4.04))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:6] == ["head", "engine", "batch", "n", "p50", "ms"]
    assert " ".join(lines[1].split()) == "gap v3 keras 8 30 10.0 12.0 14.0 1.5 727.3 99.9 120"
    assert " ".join(lines[3].split()) == "gap v3 keras 94.4 94.2 300.0 - - - 4.0"
    assert " ".join(lines[5].split()) == "flatten keras / gap keras 8 1.250 1.200 to 1.300"
    assert lines[6].split()[-4:] == ["1.500", "too", "few", "rounds"]
    assert lines[7] == "7 rounds in 12 s on here: a processor, 2 threads"
    assert all(line.isascii() for line in lines)


def test_what_the_system_does_not_tell_is_no_number_and_the_reason_is_told(capsys):
    show_report(report(reason="this system has no /proc to read memory from"))
    assert "gap v3: this system has no /proc to read memory from" in capsys.readouterr().out
