import json
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from fakes import (
    COLOURS,
    INPUT,
    LABELS,
    PATIENCE_S,
    BrokenHead,
    EchoHead,
    FakeEngine,
    MeanBackbone,
    fake_heads,
    head,
    picture,
    publish,
    publish_network,
    structure,
)
from stored import BACKBONE, HEAD, failures, filled, heads_of, load, load_real, serving

from service.errors import HeadUnavailable, NotReady, UnknownHead, VersionError
from service.serving.loading import batch_sizes
from service.serving.rebuild import compile_in_child
from service.store.card import PREPROCESSING, Backbone, Golden
from service.store.layout import CARD, MANIFEST, MODEL, Store

FLATTEN, OTHER = "f" * 64, "0" * 64


def edit_card(store, name, number, /, **changes):
    path = store.folder(name, number) / CARD
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.fixture
def store(tmp_path):
    """`gap` 1 and `flatten` 1 on one backbone, with fake compiled files."""
    made = filled(tmp_path, "gap")
    publish_network(made, FLATTEN)
    publish(made, "flatten", structure=structure(digest=FLATTEN))
    return made


def test_every_head_of_the_store_serves(store):
    heads = load(store)
    assert serving(heads) == {"flatten": 1, "gap": 1}
    assert failures(heads) == {}
    assert heads.engine_name == "openvino"
    assert heads.missing(("gap", "flatten")) == []
    assert heads.get("gap").card == store.read_card("gap", 1)


def test_the_newest_version_serves(store):
    for _ in range(2):
        publish(store, "gap")
    heads = load(store)
    assert serving(heads) == {"flatten": 1, "gap": 3}
    assert heads.statuses["gap"].versions == [3, 2, 1]


def test_an_unknown_head_is_told_which_there_are(store):
    with pytest.raises(UnknownHead, match=r"no head named 'nope'; heads in the store: flatten, gap\."):
        load(store).get("nope")


@pytest.mark.parametrize("make", [Path.mkdir, lambda _: None], ids=["empty", "absent"])
def test_a_store_without_heads_says_how_to_fill_it(tmp_path, make):
    make(tmp_path / "store")
    heads = load(Store(tmp_path / "store", tmp_path / "cache"))
    with pytest.raises(UnknownHead, match=r"heads in the store: none\."):
        heads.get("gap")
    for required in ((), ("gap",)):
        assert heads.missing(required) == ["The store is empty; fill it with: resnet-heads init"]


def test_while_heads_load_none_is_served(store):
    heads = heads_of(store)
    with pytest.raises(NotReady, match="still loading"):
        heads.get("gap")
    assert heads.missing(()) == ["Heads are still loading."]
    assert heads.serving() == {}


class HeldEngine(FakeEngine):
    """Opens one network each time it is let."""

    def __init__(self):
        super().__init__()
        self.let = threading.Semaphore(0)

    def open(self, folder, *how, **more):
        assert self.let.acquire(timeout=PATIENCE_S)
        return super().open(folder, *how, **more)


def test_readers_see_all_heads_or_none(store):
    engine = HeldEngine()
    heads = heads_of(store, lambda: engine)
    loading = threading.Thread(target=heads.load)
    seen = []
    loading.start()
    until = time.monotonic() + PATIENCE_S
    while not seen or seen[-1] == "loading":
        assert time.monotonic() < until
        try:
            seen.append(heads.get("gap").card.head + heads.get("flatten").card.head)
        except NotReady:
            seen.append("loading")
            engine.let.release()
    loading.join()
    assert seen[0] == "loading"
    assert seen[-1] == "gapflatten"


def test_heads_without_an_engine_say_why(store):
    def no_engine():
        raise ImportError("libopenvino.so: cannot open shared object file")

    heads = heads_of(store, no_engine)
    with pytest.raises(ImportError):
        heads.load()
    reason = "Heads could not be loaded: ImportError: libopenvino.so: cannot open shared object file"
    assert heads.missing(()) == heads.missing(("gap",)) == [reason]
    with pytest.raises(NotReady, match="libopenvino"):
        heads.get("gap")


def test_one_serving_head_is_enough_where_none_is_required():
    heads = fake_heads(head("gap"), failed={"flatten": {1: "it is broken."}})
    heads.load()
    assert heads.missing(()) == []
    assert heads.missing(("gap",)) == []


def test_every_required_head_that_does_not_serve_is_named():
    heads = fake_heads(head("gap"), failed={"flatten": {2: "it is broken.", 1: "so is this."}})
    heads.load()
    assert heads.missing(("gap", "flatten", "nope")) == [
        "flatten: version 2: it is broken.; version 1: so is this.",
        "nope: it is not in the store",
    ]


def test_where_no_head_serves_every_reason_is_told():
    heads = fake_heads(failed={"flatten": {1: "it is broken."}, "gap": {3: "so is this."}})
    heads.load()
    assert heads.missing(()) == [
        "flatten: version 1: it is broken.",
        "gap: version 3: so is this.",
    ]
    with pytest.raises(HeadUnavailable, match=r"'gap' is not available: version 3: so is this\."):
        heads.get("gap")


def test_a_newer_version_that_fails_does_not_make_the_service_unready():
    heads = fake_heads(head("gap"), failed={"gap": {2: "it is broken."}})
    heads.load()
    assert heads.missing(("gap",)) == []
    assert heads.get("gap").card.version == 1


def test_heads_that_share_hold_one_backbone_which_is_opened_once(store):
    engine = FakeEngine()
    heads = load(store, engine)
    assert heads.get("gap").backbone is heads.get("flatten").backbone
    assert sorted(engine.opened) == ["b", "e", "f"]


@pytest.mark.parametrize(
    "other",
    [
        {"resize": "center_crop"},
        {"decode": "scaled"},
        {"preprocessing": PREPROCESSING["tf"]},
        {"height": 16},
    ],
)
def test_heads_whose_input_differs_do_not_share(store, other):
    publish(store, "flatten", structure=structure(digest=FLATTEN), input=INPUT.model_copy(update=other))
    heads = load(store)
    assert serving(heads) == {"flatten": 2, "gap": 1}
    assert heads.get("gap").backbone is not heads.get("flatten").backbone


def test_heads_whose_backbone_differs_do_not_share(store):
    publish_network(store, OTHER)
    other = Backbone(digest=OTHER, parameters=1, feature_shape=(1, 1, 3))
    publish(store, "flatten", structure=structure(digest=FLATTEN), backbone=other)
    heads = load(store, FakeEngine(n0=MeanBackbone()))
    assert heads.get("gap").backbone is not heads.get("flatten").backbone


class NoBf16(FakeEngine):
    """On a processor without bfloat16."""

    def computes_in(self, precision):
        return "f32" if precision == "bf16" else precision


@pytest.mark.parametrize("engine", [FakeEngine, NoBf16])
def test_a_bf16_head_shares_with_a_float32_one_only_where_it_computes_in_float32(store, engine, caplog):
    publish(store, "gap-bf16", precision="bf16")
    heads = load(store, engine())
    low, full = (heads.get(name).backbone for name in ("gap-bf16", "gap"))
    is_slower = engine is NoBf16
    assert (low is full) == is_slower
    assert (full.computes_in, low.computes_in) == ("f32", "f32" if is_slower else "bf16")
    told = "this processor has no bf16; it computes in f32, and is no faster for it"
    assert (told in caplog.text) == is_slower


def test_single_images_are_warm_before_the_heads_serve_and_larger_batches_later(store):
    heads = load(store, max_batch_size=4)
    gap, flatten = heads.get("gap"), heads.get("flatten")
    assert gap.backbone.warm_sizes == [1]
    assert (gap.network.sizes, flatten.network.sizes) == ([1], [1])
    heads.warm_up()
    heads.warm_up()
    assert gap.backbone.warm_sizes == [1, 2, 4]
    for one in (gap, flatten):
        assert one.network.sizes == [1, 2, 3, 4], "any number of a batch's rows may be for this head"
        assert {batch.shape[1:] for batch in one.network.batches} == {(1, 1, 3)}
    assert [size for size in gap.backbone.network.sizes if size > 1] == [2, 4], "shared, and warmed once"
    assert {batch.shape[1:] for batch in gap.backbone.network.batches} == {(8, 8, 3)}


def test_no_batch_is_warmed_once_the_service_stops(store):
    stopping = threading.Event()
    heads = load(store, max_batch_size=4, stopping=stopping)
    stopping.set()
    heads.warm_up()
    assert heads.get("gap").backbone.warm_sizes == [1]


@pytest.mark.parametrize(
    ("largest", "sizes"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])]
)
def test_batch_sizes_are_powers_of_two_and_the_largest(largest, sizes):
    assert batch_sizes(largest) == sizes


def remove_card(store):
    (store.folder("gap", 2) / CARD).unlink()


def unknown_field(store):
    edit_card(store, "gap", 2, blur=True)


def wrong_probabilities(store):
    golden = {"image": picture("red"), "probabilities": (0.5, 0.3, 0.2)}
    golden = Golden.model_construct(**golden).model_dump(mode="json")
    edit_card(store, "gap", 2, golden=golden)


def no_golden_image(store):
    golden = Golden.model_construct(image=b"", probabilities=(1.0, 0.0, 0.0))
    edit_card(store, "gap", 2, golden=golden.model_dump(mode="json"))


def other_number_of_labels(store):
    golden = Golden.model_construct(image=picture("red"), probabilities=(1.0, 0.0))
    edit_card(store, "gap", 2, golden=golden.model_dump(mode="json"), labels=LABELS[:2])


def not_compiled(store):
    edit_card(store, "gap", 2, structure=structure(digest=OTHER).model_dump())


FAILURES = {
    remove_card: "card.json cannot be read: No such file or directory.",
    unknown_field: "card.json is not valid at blur: Extra inputs are not permitted.",
    wrong_probabilities: "golden check: probabilities differ from the card's by 0.5, more than 0.001.",
    no_golden_image: "golden check: its image cannot be read: the image is empty.",
    other_number_of_labels: "golden check: it computes 3 probabilities for 2 labels.",
    not_compiled: "run: compile gap 2 openvino",
}


@pytest.mark.parametrize("harm", FAILURES)
def test_a_version_that_fails_stays_out_with_its_reason_and_the_one_before_serves(store, harm):
    publish(store, "gap")
    harm(store)
    heads = load(store)
    assert serving(heads) == {"flatten": 1, "gap": 1}
    assert failures(heads) == {"gap": {2: FAILURES[harm]}}


def test_failures_of_the_golden_check_are_told_apart(store):
    publish(store, "gap")
    wrong_probabilities(store)
    publish(store, "gap")
    (store.folder("gap", 3) / CARD).unlink()
    gap = load(store).statuses["gap"]
    assert (set(gap.failures), gap.golden_failures) == ({2, 3}, {2})


def test_a_half_written_version_is_not_even_listed(store):
    (store.root / ".staging-abc" / "content").mkdir(parents=True)
    (store.root / ".staging-abc" / "content" / MODEL).write_bytes(b"half a mod")
    (store.root / "gap" / ".staging-2").mkdir()
    heads = load(store)
    assert serving(heads) == {"flatten": 1, "gap": 1}
    assert heads.statuses["gap"].versions == [1]
    assert failures(heads) == {}


def test_a_head_whose_every_version_fails_leaves_the_others_serving(store):
    publish(store, "gap")
    for version in (1, 2):
        (store.folder("gap", version) / CARD).unlink()
    heads = load(store)
    assert serving(heads) == {"flatten": 1}
    assert list(failures(heads)["gap"]) == [2, 1]
    with pytest.raises(HeadUnavailable, match=r"version 2: card\.json cannot be read: No such file"):
        heads.get("gap")


class NotANumber(EchoHead):
    def compute(self, batch):
        return super().compute(batch) * np.nan


class NotItsShape(EchoHead):
    def compute(self, batch):  # noqa: ARG002 (it fails whatever it is given)
        raise RuntimeError("Exception from infer_request.cpp:223:\n\n  shapes do not match")


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (
            NotANumber(),
            "golden check: probabilities differ from the card's by nan, more than 0.001.",
        ),
        (BrokenHead(), "RuntimeError: broken on purpose"),
        (NotItsShape(), "RuntimeError: Exception from infer_request.cpp:223: shapes do not match"),
        (VersionError("OpenVINO cannot open it: why."), "OpenVINO cannot open it: why."),
        (OSError(5, "Input/output error"), "OSError: [Errno 5] Input/output error"),
        (MemoryError(), "MemoryError:"),
    ],
)
def test_whatever_an_engine_raises_is_that_versions_failure(store, network, reason):
    heads = load(store, FakeEngine(ne=network))
    assert serving(heads) == {"flatten": 1}
    assert failures(heads) == {"gap": {1: reason}}


def test_a_broken_backbone_is_the_failure_of_each_head_on_it(store):
    heads = load(store, FakeEngine(nb=BrokenHead()))
    assert serving(heads) == {}
    assert set(failures(heads)) == {"gap", "flatten"}


def test_a_long_story_is_told_in_one_short_line(store):
    heads = load(store, FakeEngine(ne=RuntimeError("it\nwent " * 1000)))
    assert len(failures(heads)["gap"][1]) <= 300
    assert "\n" not in failures(heads)["gap"][1]


def harm_compiled(store, digest, name="network.bin"):
    (store.compiled(digest, "openvino") / name).write_bytes(b"harmed")


def test_missing_compiled_files_are_rebuilt_once_for_all_who_need_them(store):
    harm_compiled(store, BACKBONE)
    asked = []

    def rebuild(store_, head_, version, engine):
        asked.append((head_, version, engine))
        publish_network(store_, BACKBONE)

    assert serving(load(store, rebuild=rebuild)) == {"flatten": 1, "gap": 1}
    assert asked == [("flatten", 1, "openvino")]


@pytest.mark.parametrize("name", ["network.bin", MANIFEST])
def test_damaged_compiled_files_without_a_rebuild_keep_out_the_heads_that_need_them(store, name):
    harm_compiled(store, HEAD, name)
    heads = load(store)
    assert serving(heads) == {"flatten": 1}
    assert failures(heads) == {"gap": {1: "run: compile gap 1 openvino"}}


def test_a_rebuild_that_leaves_nothing_is_a_failure(store):
    harm_compiled(store, HEAD)
    heads = load(store, rebuild=lambda *_: None)
    assert serving(heads) == {"flatten": 1}
    assert failures(heads)["gap"][1].startswith("its compiled files for openvino are damaged")


def test_a_rebuild_that_cannot_even_start_is_a_failure(store):
    def no_processes(*_):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    harm_compiled(store, HEAD)
    heads = load(store, rebuild=no_processes)
    assert serving(heads) == {"flatten": 1}
    assert "Resource temporarily unavailable" in failures(heads)["gap"][1]


def test_a_colour_is_answered_by_what_was_loaded(store):
    """The fakes themselves: what the tests above load does answer."""
    gap = load(store).get("gap")
    for index, colour in enumerate(COLOURS.values()):
        answer = gap.network(gap.backbone.network(np.full((1, 8, 8, 3), colour, np.uint8)))
        assert int(answer.argmax()) == index


def test_real_heads_share_pass_their_golden_check_and_serve(small_store):
    heads = load_real(small_store)
    assert serving(heads) == {"flatten": 1, "gap": 1}
    assert heads.get("gap").backbone is heads.get("flatten").backbone


def swap_networks(store, cards):
    """Each head's compiled files, manifest and all, in the place of the other's."""
    folders = [store.compiled(cards[name].structure.digest, "openvino") for name in ("gap", "flatten")]
    aside = folders[0].with_name("aside")
    folders[0].rename(aside)
    folders[1].rename(folders[0])
    aside.rename(folders[1])


def test_real_networks_that_were_swapped_fail_the_golden_check(small_store, copied):
    store = copied(small_store)
    swap_networks(store, {name: store.read_card(name, 1) for name in ("gap", "flatten")})
    heads = load_real(store)
    assert serving(heads) == {}
    for reasons in failures(heads).values():
        assert reasons[1].startswith("golden check: probabilities differ from the card's by ")


def test_a_backbone_in_the_place_of_a_real_head_is_that_heads_failure(small_store, copied):
    store = copied(small_store)
    card = store.read_card("gap", 1)
    backbone = store.compiled(card.backbone.digest, "openvino")
    store.compiled(card.structure.digest, "openvino").rename(store.root / "aside")
    (store.root / ".compiled" / card.structure.digest / "openvino").symlink_to(backbone)
    heads = load_real(store)
    assert serving(heads) == {"flatten": 1}
    assert "\n" not in failures(heads)["gap"][1]


def test_real_networks_that_are_damaged_in_their_manifests_words_too_are_a_failure(small_store, copied):
    """Someone replaced a file and its digest: the engine itself must refuse it."""
    store = copied(small_store)
    digest = store.read_card("gap", 1).structure.digest
    folder = store.compiled(digest, "openvino")
    folder.rename(store.root / "aside")
    publish_network(store, digest, b"<net>")
    heads = load_real(store)
    assert serving(heads) == {"flatten": 1}
    assert failures(heads)["gap"][1].startswith("OpenVINO cannot open it: ")


def test_real_probabilities_that_were_edited_fail_the_golden_check(small_store, copied):
    store = copied(small_store)
    golden = store.read_card("flatten", 1).golden
    wrong = golden.model_copy(update={"probabilities": golden.probabilities[::-1]})
    edit_card(store, "flatten", 1, golden=wrong.model_dump(mode="json"))
    heads = load_real(store)
    assert serving(heads) == {"gap": 1}
    assert failures(heads)["flatten"][1].startswith(
        "golden check: probabilities differ from the card's by "
    )


def test_a_real_version_with_a_damaged_model_serves_from_its_compiled_files(small_store, copied):
    store = copied(small_store)
    with (store.folder("gap", 1) / MODEL).open("r+b") as file:
        file.truncate(1000)
    heads = load_real(store)
    assert serving(heads) == {"flatten": 1, "gap": 1}
    assert failures(heads) == {}


def test_a_real_model_that_is_damaged_is_never_compiled(small_store, copied):
    store = copied(small_store)
    digest = store.card("gap", 1).structure.digest
    (store.compiled(digest, "openvino") / MANIFEST).unlink()
    with (store.folder("gap", 1) / MODEL).open("r+b") as file:
        file.truncate(1000)
    heads = load_real(store, compile_in_child)
    assert serving(heads) == {"flatten": 1}
    assert failures(heads)["gap"][1].endswith(
        "model.keras is damaged: its sha256 is not the recorded one."
    )


def test_real_compiled_files_are_rebuilt_in_a_child_process(small_store, copied):
    store = copied(small_store)
    card = store.read_card("gap", 1)
    for digest in (card.backbone.digest, card.structure.digest):
        with (store.compiled(digest, "openvino") / "network.bin").open("r+b") as file:
            file.truncate(1000)
    heads = load_real(store, compile_in_child)
    assert failures(heads) == {}
    assert serving(heads) == {"flatten": 1, "gap": 1}
    for digest in (card.backbone.digest, card.structure.digest):
        assert store.compiled(digest, "openvino").is_relative_to(store.root)
