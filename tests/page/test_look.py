"""What a person does first: give a picture, and read what every head makes of it."""

import importlib.resources
import re

import httpx
import pytest
from fakes import fake_heads, head, picture
from playwright.sync_api import expect
from process import serving

pytestmark = pytest.mark.slow

EXAMPLES = importlib.resources.files("service").joinpath("page", "examples")
RED = {"name": "red.png", "mimeType": "image/png", "buffer": picture("red")}
DROP = """([bytes, type]) => {
    const files = new DataTransfer();
    files.items.add(new File([new Uint8Array(bytes)], "given", { type: "image/png" }));
    const event = type === "drop"
        ? new DragEvent("drop", { dataTransfer: files, bubbles: true, cancelable: true })
        : new ClipboardEvent("paste", { clipboardData: files, bubbles: true });
    document.body.dispatchEvent(event);
}"""


def test_an_example_gets_an_answer_of_every_head_and_a_map_of_each(visit, small_store):
    """The same as a client of /compare gets."""
    with serving(small_store) as server:
        picture = (EXAMPLES / "red-top-left.jpg").read_bytes()
        (told,) = httpx.post(f"{server.url}/compare", content=picture).json()["results"]
        page = (seen := visit(server.url)).page
        seen.look("red-top-left.jpg")
        expect(page.locator(".sum:visible")).to_have_count(2)
        for name, predictions in told["predictions"].items():
            labels = [one["label"] for one in predictions]
            expect(seen.panel(name).locator(".ranked .label")).to_have_text(labels)
            row = page.locator("#answers tbody tr", has_text=name)
            expect(row).to_contain_text(f"{labels[0]} {100 * predictions[0]['probability']:.0f} %")
            (mapped,) = httpx.post(f"{server.url}/explain?head={name}", content=picture).json()[
                "results"
            ]
            logit = f"{mapped['logit']:+.2f}".replace("-", "\u2212")
            expect(seen.panel(name).locator(".sum")).to_contain_text(f"logit {logit}")
        page.locator("#move-all").click()
        shifted = httpx.post(f"{server.url}/shift", content=picture).json()
        for one in shifted["heads"]:
            moved = page.locator("#moved-heads").get_by_role("article", name=one["head"], exact=True)
            expect(moved.locator(".big")).to_have_text(f"{100 * one['stability']:.0f} %")
            expect(moved.locator(".moves span")).to_have_count(25)
        expect(page.locator("#timing")).to_contain_text("decoding")
        expect(page.locator("#agreement")).to_contain_text("agree:" if told["agree"] else "disagree")


def test_a_file_is_taken_from_the_chooser(visit, serve, imagined):
    page = visit(serve(), imagined).page
    page.set_input_files("#file", RED)
    expect(page.locator("#answers tbody tr")).to_have_text(
        [re.compile("^flattenred"), re.compile("^gapred")]
    )
    expect(page.locator("#agreement")).to_have_text("Both heads agree: red.")


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_file_is_taken_when_it_is_dropped_or_pasted(visit, serve, imagined, way):
    page = visit(serve(), imagined).page
    expect(page.locator("#serving")).to_contain_text("Serving")
    page.evaluate(DROP, [list(picture("blue")), way])
    expect(page.locator("#agreement")).to_have_text("Both heads agree: blue.")


def test_a_click_on_a_prediction_shows_that_class_in_every_head(visit, serve, imagined):
    page = (seen := visit(serve(), imagined)).page
    seen.look()
    seen.panel("gap").get_by_role("button", name="blue").click()
    expect(page.locator("h4")).to_have_text(["Evidence for blue, 17 %"] * 2)
    expect(page.locator("[aria-pressed=true]")).to_contain_text(["blue", "blue"])
    expect(page.get_by_label("Map of", exact=True)).to_have_value("blue")
    page.get_by_label("Map of", exact=True).select_option("green")
    expect(page.locator("h4")).to_have_text(["Evidence for green, 25 %"] * 2)


def test_a_class_that_a_head_lacks_is_told_by_it(visit, serve, imagined):
    other = head("other", labels=("red", "green", "pink"))
    page = (seen := visit(serve(fake_heads(head("gap"), other)), imagined)).page
    seen.look()
    page.get_by_label("Map of", exact=True).select_option("pink")
    told = seen.panel("gap").locator("h4")
    expect(told).to_contain_text("This head has no class pink. Evidence for")


def test_cells_are_painted_as_they_are_and_add_up(visit, serve, imagined):
    """Pixel by pixel of the canvas: one for each cell, of a colour from the table, unsmoothed."""
    page = (seen := visit(serve(), imagined)).page
    with page.expect_response(re.compile(r"/explain\?head=gap")) as answered:
        seen.look()
    grid = [value for row in answered.value.json()["results"][0]["grid"] for value in row]
    colours = page.evaluate("async () => (await fetch('static/vik.json')).json()")
    canvas = seen.panel("gap").locator(".cells")
    drawn = canvas.evaluate(
        "(one) => [...one.getContext('2d').getImageData(0, 0, one.width, one.height).data]"
    )
    most = max(map(abs, grid))
    expected = [colours[int((value / most + 1) / 2 * 255 + 0.5)] for value in grid]
    assert [drawn[4 * at : 4 * at + 3] for at in range(len(grid))] == expected
    assert canvas.evaluate("(one) => getComputedStyle(one).imageRendering") == "pixelated"


def test_the_slider_goes_from_the_picture_to_the_map(visit, serve, imagined):
    page = (seen := visit(serve(), imagined)).page
    seen.look()
    slider = page.get_by_label("From the picture to the map")
    for end, opacity in {"Home": "0", "End": "1"}.items():
        slider.press(end)
        expect(page.locator(".cells").first).to_have_css("opacity", opacity)


def test_a_head_that_cannot_be_explained_says_so(visit, serve):
    told = "Its layers are no sum over positions."

    def refuse(page):
        problem = {"type": "urn:resnet-heads:problem:cannot-explain", "status": 422, "detail": told}
        page.route(re.compile(r"/explain\?"), lambda route: route.fulfill(status=422, json=problem))

    page = visit(serve(), refuse).page
    page.locator("[data-example]").first.click()
    expect(page.locator("#heads .notice")).to_have_text([f"No map: {told}"] * 2)
    expect(page.locator("#answers tbody tr")).to_have_count(2)


def test_a_newer_picture_wins_over_one_that_is_still_asked_about(visit, serve, imagined):
    page = visit(serve(), imagined).page
    page.set_input_files("#file", RED)
    page.set_input_files("#file", RED | {"buffer": picture("green")})
    expect(page.locator("#agreement")).to_have_text("Both heads agree: green.")
    expect(page.locator("h4")).to_have_text([re.compile("Evidence for green")] * 2)
