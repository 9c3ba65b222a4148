"""What it costs: the last report, a new one while one watches, and what trained heads get for it."""

import json

import pytest
from experiment_records import experiment, measured, report, training
from fakes import fake_heads, head
from playwright.sync_api import expect
from process import serving

from service.benchmark.report import Ratio
from service.store.layout import Store
from service.study.page import write_page
from service.study.study import study_of

pytestmark = pytest.mark.slow

RATIO = {"head": "flatten", "engine": "openvino", "to_head": "gap", "to_engine": "openvino"}
DRAWN = """(canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return data.filter((value, at) => at % 4 === 3 && value > 0).length;
}"""

WATCH = """
    window.seen = [];
    const watch = new MutationObserver(() => seen.push([doing.textContent, progress.value]));
    addEventListener("DOMContentLoaded", () => watch.observe(doing, { childList: true }));
"""


def told(**changes) -> dict:
    """A report of `gap` and `flatten`."""
    document = report(measured("gap", 30, 300), measured("flatten", 40, 400)).model_dump(mode="json")
    return document | changes


def answering(answer):
    """Prepares a page where GET /benchmark gets the report `answer`."""

    def prepare(page):
        page.route("**/benchmark", lambda route: route.fulfill(json=answer))

    return prepare


def test_it_measures_while_one_watches_and_draws_what_it_found(visit, small_store, copied):
    store: Store = copied(small_store)
    with serving(store) as server:
        page = visit(server.url).page
        expect(page.locator("#benchmark-notice")).to_contain_text(
            "Nothing was measured on this machine yet."
        )
        page.get_by_label("Measure for").select_option("10 s")
        page.get_by_role("button", name="Measure now").click()
        expect(page.get_by_role("progressbar")).to_be_visible()
        expect(page.get_by_role("button", name="Cancel")).to_be_visible()
        expect(page.get_by_role("button", name="Measure now")).to_be_visible(timeout=90_000)
        expect(page.locator("#benchmark-notice")).to_be_hidden()
        expect(page.locator("#report canvas")).to_have_count(3)
        for canvas in page.locator("#report canvas").all():
            assert canvas.evaluate(DRAWN) > 1000
        expect(page.get_by_role("progressbar")).to_be_hidden()
        expect(page.get_by_role("button", name="Measure now")).to_be_visible()
        stored = store.root.joinpath(".benchmark")
        (file,) = stored.iterdir()
        p50_ms = json.loads(file.read_text())["heads"][0]["latency"][0]["p50_ms"]
        page.get_by_text("Figures: Latency: how it is spread").click()
        digits = f"{p50_ms:.1f}" if p50_ms < 10 else f"{p50_ms:.0f}"
        expect(page.locator("#report table").first).to_contain_text(f"{digits} ms")


def test_a_run_can_be_cancelled(visit, small_store, copied):
    with serving(copied(small_store)) as server:
        page = visit(server.url).page
        page.get_by_role("button", name="Measure now").click()
        page.get_by_role("button", name="Cancel").click()
        expect(page.locator("#benchmark-notice")).to_contain_text("Cancelled.")
        expect(page.get_by_role("button", name="Measure now")).to_be_enabled()


def test_progress_is_read_from_a_stream_of_events(visit, serve):
    events = [
        ("progress", {"step": 1, "of_seconds": 20, "elapsed_s": 5, "doing": "gap on openvino: memory"}),
        ("report", told()),
    ]

    def stream(page):
        body = "".join(f"event: {name}\r\ndata: {json.dumps(data)}\r\n\r\n" for name, data in events)

        def answer(route):
            if route.request.method == "GET":
                route.fallback()
            else:
                assert "text/event-stream" in route.request.headers["accept"]
                route.fulfill(body=body, content_type="text/event-stream")

        page.route("**/benchmark", answer)
        page.add_init_script(WATCH)

    page = visit(serve(), stream).page
    page.get_by_role("button", name="Measure now").click()
    expect(page.locator("#report canvas")).to_have_count(3)
    assert ["gap on openvino: memory", 0.25] in page.evaluate("window.seen")


def test_a_problem_within_the_stream_is_told(visit, serve):
    problem = {
        "type": "urn:resnet-heads:problem:benchmark-failed",
        "status": 503,
        "detail": "A child died.",
    }

    def stream(page):
        body = f"event: problem\ndata: {json.dumps(problem)}\n\n"
        page.route(
            "**/benchmark",
            lambda route: (
                route.fulfill(body=body, content_type="text/event-stream")
                if route.request.method == "POST"
                else route.fallback()
            ),
        )

    page = visit(serve(), stream).page
    page.get_by_role("button", name="Measure now").click()
    expect(page.locator("#benchmark-notice")).to_have_text("A child died.")


def test_the_administrators_key_is_asked_for_when_measuring_needs_it(visit, serve):
    page = visit(serve(admin_key="boss")).page
    page.get_by_role("button", name="Measure now").click()
    expect(page.get_by_label("Measuring needs the administrator's key.")).to_be_focused()


def test_memory_is_split_into_what_adds_up_to_what_is_resident(visit, serve):
    """Weights of 99 MB, but for 12 of them the backbone's; 300 resident, 20 the head's: 181 are left."""
    one = measured("gap", 30, 300)
    grown = one.memory.model_copy(update={"marginal_mb": 20.0})
    page = visit(
        serve(), answering(told(heads=[one.model_copy(update={"memory": grown}).model_dump()]))
    ).page
    page.get_by_text("Figures: Memory").click()
    cells = page.locator("#report figure", has_text="Figures: Memory").locator("tbody td")
    expect(cells).to_have_text(["99 MB", "20 MB", "181 MB", "300 MB", "\u2013"])


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        (
            (1.31, 1.2, 1.4),
            "One picture: flatten takes 1.31 times as long as gap (95 % interval 1.20 to 1.40).",
        ),
        (
            (1.01, 0.9, 1.1),
            "One picture: no difference was found; flatten / gap is 1.01 (95 % interval 0.90 to 1.10).",
        ),
        (
            (1.5, None, None),
            "One picture: flatten takes 1.50 times as long as gap (too few rounds for an interval).",
        ),
    ],
)
def test_ratios_are_said_in_words(visit, serve, figures, words):
    ratio = Ratio(**RATIO, batch_size=1, **dict(zip(("ratio", "low", "high"), figures, strict=True)))
    page = visit(serve(), answering(told(ratios=[ratio.model_dump()]))).page
    expect(page.locator(".ratios li")).to_have_text(words)


def test_a_report_of_another_machine_says_so(visit, serve):
    page = visit(serve(), answering(told(measured_here=False, requests_meanwhile=3))).page
    expect(page.locator(".caution")).to_contain_text(["measure again", "answered 3 requests"])


def test_accuracy_is_set_against_cost_where_heads_were_trained(visit, serve):
    heads = fake_heads(*(head(name, training=training(experiment())) for name in ("flatten", "gap")))
    page = visit(serve(heads), answering(told())).page
    expect(page.locator("#studied canvas")).to_have_count(2)
    for canvas in page.locator("#studied canvas").all():
        assert canvas.evaluate(DRAWN) > 1000
    row = page.locator("#studied tbody tr", has_text="flatten").first
    expect(row.locator("td")).to_have_text(
        ["80 %", "51 % to 99 %", "3", "50 % at 16 px", "40 ms", "400 MB"]
    )


def test_without_records_it_says_how_to_make_one(visit, serve):
    page = visit(serve()).page
    expect(page.locator("#studied")).to_contain_text("resnet-heads train photographs")


def test_charts_follow_the_colours_of_the_system(visit, serve):
    page = visit(serve(), answering(told()), color_scheme="light").page
    expect(page.locator("#report canvas")).to_have_count(3)
    colour = "() => Chart.getChart(report.querySelector('canvas')).options.plugins.legend.labels.color"
    page.wait_for_function("() => window.Chart?.getChart(report.querySelector('canvas'))")
    light = page.evaluate(colour)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function(f"(light) => ({colour})() !== light", arg=light)


def test_the_page_of_the_study_draws_its_charts(visit, bench_of_two, tmp_path):
    """`resnet-heads study --html`: one file, opened from the disk."""
    write_page(study_of(bench_of_two), tmp_path / "study.html")
    page = visit(f"file://{tmp_path}/study.html").page
    canvases = page.locator("canvas")
    expect(canvases).not_to_have_count(0)
    for canvas in canvases.all():
        assert canvas.evaluate(DRAWN) > 1000
