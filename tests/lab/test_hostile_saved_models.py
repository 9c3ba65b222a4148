"""A stranger's SavedModel runs nothing, and reads and writes nothing but its own files."""

import contextlib
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.framework.attr_value_pb2 import AttrValue
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from service.errors import CommandError
from service.lab.models.opening import open_source
from service.lab.models.publishing import Description, publish
from service.lab.models.saved_model.answering import COMMAND, scores_of
from service.store.layout import Store

SIZE = (16, 16)
MOST_MB, MOST_S = 500, 30


class Twin(tf.Module):
    """A small classifier, which on its way does what `trap` does with a path and the pixels."""

    def __init__(self, trap: Callable, path: Path) -> None:
        super().__init__()
        rng = np.random.default_rng(1)
        self.kernel = tf.Variable(rng.normal(size=(3, 3, 3, 8)).astype("float32") / 100)
        self.dense = tf.Variable(rng.normal(size=(8, 3)).astype("float32"))
        self.trap, self.path = trap, str(path)
        self.table = table(path.with_name("words.txt")) if trap is looks_up else None

    @tf.function(input_signature=[tf.TensorSpec((None, *SIZE, 3), tf.float32)])
    def __call__(self, pixels):
        more = looks_up(self.table) if self.table else self.trap(self.path, pixels)
        features = tf.nn.relu(tf.nn.conv2d(pixels, self.kernel, 2, "SAME"))
        pooled = tf.reduce_mean(features, (1, 2)) + (0.0 if more is None else 0.0 * more)
        return {"scores": tf.nn.softmax(pooled @ self.dense)}


def table(file: Path) -> tf.lookup.StaticHashTable:
    """A table from words to numbers, whose words are an asset."""
    file.write_text("a\nb\n")
    words = tf.lookup.TextFileInitializer(
        str(file),
        *(tf.string, tf.lookup.TextFileIndex.WHOLE_LINE),
        *(tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER),
    )
    return tf.lookup.StaticHashTable(words, -1)


def looks_up(words):
    return tf.cast(words.lookup(tf.constant("b")), tf.float32)


def nothing(_path, _pixels):
    return None


def reads(_path, _pixels):
    return tf.cast(tf.strings.length(tf.io.read_file("/etc/hostname")), tf.float32)


def reads_in_vain(_path, _pixels):
    tf.io.read_file("/etc/hostname")


def lists(_path, _pixels):
    return tf.cast(tf.size(tf.io.matching_files("/etc/*")), tf.float32)


def writes(path, _pixels):
    tf.io.write_file(path, "sprung")


def writes_in_a_function(path, _pixels):
    @tf.function
    def write():
        tf.io.write_file(path, "sprung")

    write()


def prints(path, _pixels):
    tf.print("sprung", output_stream=f"file://{path}")


def runs_python(path, pixels):
    return tf.py_function(lambda x: Path(path).touch() or x, [pixels[0, 0, 0, 0]], tf.float32)


def runs_numpy(path, pixels):
    return tf.numpy_function(lambda x: Path(path).touch() or x, [pixels[0, 0, 0, 0]], tf.float32)


def answers_at_random(_path, _pixels):
    return tf.random.uniform(())


def branches(path, pixels):
    """Writes in one of its branches, which is a function of its own."""

    def write():
        tf.io.write_file(path, "sprung")
        return 1.0

    return tf.cond(pixels[0, 0, 0, 0] > 5, write, lambda: 0.0)


def decodes(_path, _pixels):
    return tf.cast(tf.io.decode_png(tf.constant(b"")), tf.float32)[0, 0, 0]


def pads(_path, pixels):
    padded = tf.pad(pixels, [(0, 0), (0, 60_000), (0, 60_000), (0, 0)])
    return tf.reduce_sum(padded, (1, 2, 3))[:, None]


TRAPS = {
    reads: "reads or writes files",
    reads_in_vain: "reads or writes files",
    lists: "reads or writes files",
    writes: "reads or writes files",
    writes_in_a_function: "reads or writes files",
    prints: "files or strings",
    runs_python: "Python function",
    runs_numpy: "Python function",
    looks_up: "files or strings",
    answers_at_random: "at random",
    branches: "one thing or another",
    decodes: "files or strings",
    pads: "too many",
}


def made(trap: Callable, place: Path) -> Path:
    twin = Twin(trap, place / "sprung")
    tf.saved_model.save(twin, place / "twin", {"serving_default": twin.__call__})
    return place / "twin"


def changed(place: Path, change: Callable[[MetaGraphDef], object]) -> Path:
    """The twin without a trap, something in whose graph is another."""
    folder = made(nothing, place)
    saved = SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    change(saved.meta_graphs[0])
    (folder / "saved_model.pb").write_bytes(saved.SerializeToString())
    return folder


@pytest.fixture
def refused(snapshot, tmp_path):
    """Opens and cuts a folder: the sentence about it, and that nothing else came of it."""

    def refused(folder: Path) -> str:
        before, began_s, peak_mb = snapshot(tmp_path), time.process_time(), peak()
        with pytest.raises(CommandError) as caught:
            open_source(folder).cut(SIZE, None)
        assert snapshot(tmp_path) == before
        assert time.process_time() - began_s < MOST_S
        assert peak() - peak_mb < MOST_MB
        assert len(str(caught.value)) <= 300
        assert len(str(caught.value).splitlines()) == 1
        return str(caught.value)

    return refused


def peak() -> float:
    """The most memory that this process had, in millions of bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


@pytest.mark.parametrize("trap", TRAPS, ids=lambda trap: trap.__name__)
def test_a_trap_does_not_spring(trap, refused, tmp_path):
    assert TRAPS[trap] in refused(made(trap, tmp_path))


def test_the_trap_springs_where_tensorflow_loads_it(tmp_path):
    """Else the traps above might be harmless."""
    loaded = tf.saved_model.load(made(writes, tmp_path))
    loaded.signatures["serving_default"](tf.zeros((1, *SIZE, 3)))
    assert (tmp_path / "sprung").read_text() == "sprung"


def test_the_twin_without_a_trap_is_taken(tmp_path):
    """Else the refusals above could come from something else."""
    cut = open_source(made(nothing, tmp_path)).cut(SIZE, None)
    assert (cut.pooling, cut.classes, cut.backbone_parameters, cut.head_parameters) == (
        "gap",
        3,
        216,
        24,
    )


# The graph, as somebody changed it


def function_of(meta: MetaGraphDef, word: str):
    """A function of the graph by a word in its name."""
    return next(one for one in meta.graph_def.library.function if word in one.signature.name)


def constant(nodes, name: str, text: str) -> None:
    node = nodes.add(name=name, op="Const")
    node.attr["dtype"].type = tf.string.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(text))


def restores_from_elsewhere(meta):
    function = function_of(meta, "traced_restore")
    constant(function.node_def, "elsewhere", "/etc/variables")
    restore = next(node for node in function.node_def if node.op == "RestoreV2")
    restore.input[0] = "elsewhere:output:0"


def restores_from_a_constant(meta):
    """The path that the restoring function takes is given by the graph."""
    constant(meta.graph_def.node, "elsewhere", "/etc/variables")
    call = next(node for node in meta.graph_def.node if node.name == meta.saver_def.restore_op_name)
    call.input[0] = "elsewhere"


def reads_on_restoring(meta):
    function = function_of(meta, "traced_restore")
    constant(function.node_def, "name", "/etc/hostname")
    function.node_def.add(name="read", op="ReadFile", input=["name:output:0"])


def restores_by_another_operation(meta):
    constant(meta.graph_def.node, "name", "/etc/hostname")
    meta.graph_def.node.add(name="read", op="ReadFile", input=["name"])
    meta.saver_def.restore_op_name = "read"


def calls_itself(meta):
    function = function_of(meta, "signature_wrapper")
    call = next(node for node in function.node_def if node.op == "StatefulPartitionedCall")
    call.attr["f"].func.name = function.signature.name


def calls_what_is_not_there(meta):
    function = function_of(meta, "signature_wrapper")
    call = next(node for node in function.node_def if node.op == "StatefulPartitionedCall")
    call.attr["f"].func.name = "nowhere"


def lies_about_a_constant(meta):
    _constants(meta)[0].tensor_content = bytes(2)


def holds_a_huge_constant(meta):
    _constants(meta)[0].tensor_shape.dim[0].size = 2**40


def holds_a_negative_constant(meta):
    _constants(meta)[0].tensor_shape.dim[0].size = -5


def doubles_thirty_times(meta):
    """Each of thirty functions calls the one before it twice: a billion operations."""
    types = AttrValue(list=AttrValue.ListValue(type=[types_pb2.DT_FLOAT]))
    for number in range(30):
        function = meta.graph_def.library.function.add()
        function.signature.name = f"doubled_{number}"
        function.signature.input_arg.add(name="x", type=types_pb2.DT_FLOAT)
        function.signature.output_arg.add(name="y", type=types_pb2.DT_FLOAT)
        for name in "ab":
            _call(function, name, "x", f"doubled_{number - 1}" if number else None, types)
        add = function.node_def.add(name="sum", op="AddV2", input=["a:output:0", "b:output:0"])
        add.attr["T"].type = types_pb2.DT_FLOAT
        function.ret["y"] = "sum:z:0"
    answering = function_of(meta, "inference___call__")
    softmax = next(node for node in answering.node_def if node.op == "Softmax")
    _call(answering, "doubled", softmax.input[0], "doubled_29", types)
    softmax.input[0] = "doubled:output:0"


def _call(function, name, given, called, types):
    """A call of another function, or what only passes its input on."""
    node = function.node_def.add(
        name=name, op="PartitionedCall" if called else "Identity", input=[given]
    )
    if called:
        node.attr["f"].func.name = called
        node.attr["Tin"].CopyFrom(types)
        node.attr["Tout"].CopyFrom(types)
    else:
        node.attr["T"].type = types_pb2.DT_FLOAT


def _constants(meta):
    function = function_of(meta, "inference___call__")
    return [node.attr["value"].tensor for node in function.node_def if node.op == "Const"]


def lies_about_a_shape(meta):
    """Its input is said to be small, and what comes out of it to be another number of classes."""
    for signature in meta.signature_def.values():
        for tensor in signature.inputs.values():
            for dim in tensor.tensor_shape.dim:
                dim.size = 4
    return meta


def takes_strings(meta):
    signature = meta.signature_def["serving_default"]
    for tensor in signature.inputs.values():
        tensor.dtype = tf.string.as_datatype_enum


def takes_a_type_that_is_none(meta):
    for tensor in meta.signature_def["serving_default"].inputs.values():
        tensor.dtype = 9999


def has_no_signature(meta):
    del meta.signature_def["serving_default"]


def serves_nobody(meta):
    meta.meta_info_def.tags[:] = ["train"]


CHANGES = {
    restores_from_elsewhere: "a way of its own",
    restores_from_a_constant: "a way of its own",
    reads_on_restoring: "a way of its own",
    restores_by_another_operation: "does not say how its variables are restored",
    calls_itself: "call themselves",
    calls_what_is_not_there: "functions that it does not hold",
    doubles_thirty_times: "more than 20000 operations",
    lies_about_a_constant: "damaged constant",
    holds_a_huge_constant: "a constant of",
    holds_a_negative_constant: "a constant of",
    lies_about_a_shape: "input is",
    takes_strings: "no numbers",
    takes_a_type_that_is_none: "no numbers",
    has_no_signature: "no signature serving_default",
    serves_nobody: "0 graphs for serving",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_graph_that_was_changed_is_refused(change, refused, tmp_path):
    assert CHANGES[change] in refused(changed(tmp_path, change))


def test_what_runs_when_a_model_is_loaded_does_not_run(tmp_path):
    """TensorFlow and its server run the initializer; nothing here does."""

    def writes_at_first(meta):
        constant(meta.graph_def.node, "where", str(tmp_path / "sprung"))
        meta.graph_def.node.add(name="write", op="WriteFile", input=["where", "where"])
        meta.signature_def["__saved_model_init_op"].outputs["__saved_model_init_op"].name = "write"
        meta.collection_def["saved_model_main_op"].node_list.value[:] = ["write"]

    folder = changed(tmp_path, writes_at_first)
    cut = open_source(folder).cut(SIZE, None)
    cut.graphs()
    assert cut.whole(np.zeros((1, *SIZE, 3), np.uint8)).shape == (1, 3)
    assert not (tmp_path / "sprung").exists()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.saved_model.load(session, ["serve"], str(folder))
    assert (tmp_path / "sprung").exists()


# The folder, as somebody put it together


def outside(place: Path, folder: Path, name: str) -> None:
    """Moves something of the folder out of it, and leaves a link."""
    (folder / name).rename(place / "outside")
    (folder / name).symlink_to(place / "outside")


def pipe(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)


def grown(folder: Path, name: str, size: int) -> None:
    """Makes a file larger than it is on the disk."""
    os.truncate(folder / name, size)


INDEX, DATA = "variables/variables.index", "variables/variables.data-00000-of-00001"
FOLDERS = {
    "variables are a link": (lambda place, folder: outside(place, folder, "variables"), "is no folder"),
    "data are a link": (lambda place, folder: outside(place, folder, DATA), "no regular file"),
    "index is a link": (lambda place, folder: outside(place, folder, INDEX), "no regular file"),
    "graph is a link": (
        lambda place, folder: outside(place, folder, "saved_model.pb"),
        "no regular file",
    ),
    "data are a pipe": (lambda _, folder: pipe(folder, DATA), "no regular file"),
    "graph is a pipe": (lambda _, folder: pipe(folder, "saved_model.pb"), "no regular file"),
    "no variables": (lambda _, folder: shutil.rmtree(folder / "variables"), "cannot be read"),
    "no data": (lambda _, folder: (folder / DATA).unlink(), "are damaged"),
    "no index": (lambda _, folder: (folder / INDEX).unlink(), "missing or damaged"),
    "short data": (lambda _, folder: grown(folder, DATA, 100), "they need"),
    "endless data": (lambda _, folder: grown(folder, DATA, 10**12), "they need"),
    "endless graph": (lambda _, folder: grown(folder, "saved_model.pb", 10**12), "larger than"),
    "no graph": (lambda _, folder: (folder / "saved_model.pb").unlink(), "is a folder without a model"),
    "empty graph": (
        lambda _, folder: (folder / "saved_model.pb").write_bytes(b""),
        "0 graphs for serving",
    ),
    "another file": (
        lambda _, folder: (folder / "saved_model.pb").write_text("no graph"),
        "saved_model.pb in twin is damaged",
    ),
    "a length of two gigabytes": (
        lambda _, folder: (folder / "saved_model.pb").write_bytes(b"\x12\xff\xff\xff\xff\x07graph"),
        "saved_model.pb in twin is damaged",
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_was_changed_is_refused(name, refused, tmp_path):
    folder = made(nothing, tmp_path)
    change, sentence = FOLDERS[name]
    change(tmp_path, folder)
    if "pipe" not in name and "endless" not in name:  # Which a snapshot would read.
        assert sentence in refused(folder)
        return
    with pytest.raises(CommandError, match=sentence):
        open_source(folder)


@pytest.mark.parametrize("at", range(0, 200, 8))
def test_damaged_variables_are_refused_or_answer_as_before(at, tmp_path):
    """The index has checksums; a byte that has none is not read."""
    folder = made(nothing, tmp_path)
    before = open_source(folder).cut(SIZE, None).flat.weights
    content = bytearray((folder / INDEX).read_bytes())
    content[at % len(content)] ^= 255
    (folder / INDEX).write_bytes(content)
    with contextlib.suppress(CommandError):
        after = open_source(folder).cut(SIZE, None).flat.weights
        assert all(np.array_equal(before[name], after[name]) for name in before)


def test_other_files_in_the_folder_are_not_published(tmp_path):
    folder = made(nothing, tmp_path)
    (folder / "assets.extra").mkdir()
    (folder / "assets.extra" / "requests").write_bytes(bytes(1000))
    (folder / "notes.txt").symlink_to("/etc/hostname")
    kept = tmp_path / "kept"
    open_source(folder).keep(kept)
    files = (file for file in kept.rglob("*") if file.is_file())
    assert {str(file.relative_to(kept)) for file in files} == {
        "saved_model/saved_model.pb",
        "saved_model/fingerprint.pb",
        f"saved_model/{INDEX}",
        f"saved_model/{DATA}",
    }


def test_weights_that_are_no_numbers_are_not_published(tmp_path, snapshot):
    class Broken(Twin):
        def __init__(self, trap, path):
            super().__init__(trap, path)
            self.dense.assign(self.dense * np.nan)

    twin = Broken(nothing, tmp_path / "sprung")
    tf.saved_model.save(twin, tmp_path / "twin", {"serving_default": twin.__call__})
    store = Store(tmp_path / "store", tmp_path / "cache")
    store.root.mkdir()
    before = snapshot(tmp_path)
    with pytest.raises(CommandError, match="no probabilities"):
        publish(
            store, open_source(tmp_path / "twin"), Description("x", ("a", "b", "c"), SIZE, "imported")
        )
    assert snapshot(tmp_path) == before


# TensorFlow's answers, from a child process


def test_an_answer_that_takes_too_long_is_given_up(tmp_path):
    with pytest.raises(
        CommandError, match=r"^TensorFlow cannot run the model: it took longer than 0.1 s"
    ):
        scores_of(made(nothing, tmp_path), np.zeros((1, *SIZE, 3), np.float32), limit_s=0.1)


def test_the_child_says_in_one_line_why_it_cannot(tmp_path):
    with pytest.raises(CommandError, match=r"^TensorFlow cannot run the model: \S.*$"):
        scores_of(made(nothing, tmp_path), np.zeros((1, 5), np.float32))


def test_the_child_ends_with_its_parent(tmp_path):
    """Its stdin closes then."""
    command = [*COMMAND, str(made(nothing, tmp_path)), str(tmp_path)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, timeout=60, check=False)
    assert done.returncode == 1
