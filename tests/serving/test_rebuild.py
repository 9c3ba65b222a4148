import os
import signal
import sys

import pytest
from children import python
from fakes import publish
from stored import empty

from service.errors import RebuildInterrupted, VersionError
from service.serving.rebuild import compile_in_child


@pytest.fixture
def store(tmp_path):
    return empty(tmp_path)


def test_without_tensorflow_the_reason_names_the_command(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # Python's own way to say: not to be had
    with pytest.raises(VersionError) as refused:
        compile_in_child(store, "gap", 3, "openvino")
    assert str(refused.value) == (
        "it is not compiled for openvino; run: "
        "resnet-heads compile gap --version 3 --engine openvino (needs TensorFlow)."
    )


def test_what_cannot_be_compiled_says_why_in_one_line(store):
    publish(store, model=b"not a keras file")
    one_line = r"^it could not be compiled for openvino: resnet-heads: model\.keras \S.*\.$"
    with pytest.raises(VersionError, match=one_line):
        compile_in_child(store, "gap", 1, "openvino")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import time; time.sleep(60)", "it took longer than 1 s."),
        ("import os; os.kill(os.getpid(), 9)", f"signal {signal.SIGKILL} ended the compilation."),
        (f"import sys; print('full', file=sys.stderr); sys.exit({os.EX_TEMPFAIL})", "full"),
    ],
    ids=["late", "killed", "short of something"],
)
def test_what_may_succeed_another_time_is_told_apart(store, code, reason):
    with pytest.raises(RebuildInterrupted) as cut_short:
        compile_in_child(store, "gap", 1, "openvino", limit_s=1, command=python(code))
    assert str(cut_short.value) == f"it could not be compiled for openvino: {reason}"


@pytest.mark.parametrize("status", [1, 2])
def test_what_will_fail_again_is_a_failure_of_the_version(store, status):
    with pytest.raises(VersionError) as refused:
        compile_in_child(store, "gap", 1, "openvino", command=python(f"import sys; sys.exit({status})"))
    assert not isinstance(refused.value, RebuildInterrupted)


def test_a_process_that_cannot_be_started_may_be_later(store, tmp_path):
    (tmp_path / "python").write_text("not executable")
    with pytest.raises(RebuildInterrupted, match="Permission denied"):
        compile_in_child(store, "gap", 1, "openvino", command=[str(tmp_path / "python")])


@pytest.mark.slow
def test_a_disk_that_takes_nothing_is_not_the_models_fault(small_store, copied):
    """In the real process: its compiled files may not be larger than a limit."""
    import resource

    store = copied(small_store)
    for one in (store.root / ".compiled").iterdir():
        one.rename(store.root / f".aside-{one.name}")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, limits[1]))
    try:
        with pytest.raises(RebuildInterrupted):
            compile_in_child(store, "gap", 1, "openvino")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
