import sys

import pytest
from fakes import publish

from service.errors import VersionError
from service.serving.rebuild import compile_in_child
from service.store.layout import Store


@pytest.fixture
def store(tmp_path):
    (tmp_path / "store").mkdir()
    return Store(tmp_path / "store", tmp_path / "cache")


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
