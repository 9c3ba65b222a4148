"""The picture is moved: by mouse, finger and keys, and over the whole grid."""

import re
import threading
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

pytestmark = pytest.mark.slow

# a finger, as Chromium's own input pipeline sees it
TOUCH = {"touchStart": [(0, 0)], "touchMove": [(20, 0), (40, 0)], "touchEnd": []}


@pytest.fixture
def looked(visit, serve, imagined):
    """A visit where an example is on show, and the offsets that were asked for so far."""
    seen = visit(serve(), imagined, has_touch=True)
    seen.look()
    return seen, lambda: [
        parse_qs(urlsplit(url).query)["offset"][0] for url in seen.requests if "shift?offset" in url
    ]


def test_a_drag_shifts_the_picture_and_shows_how_the_answers_change(looked):
    """Half the width of the stage is half the width of the head's input, here 4 of 8 pixels."""
    seen, asked = looked
    page = seen.page
    box = page.locator("#stage").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + box["width"] / 4, y - box["height"] / 8)
    page.mouse.up()
    expect(page.locator("#moved")).to_have_text("2 px right, 1 px up")
    expect(page.locator("#answers thead th").last).to_have_text("Moved 2 px right, 1 px up")
    expect(page.locator("#answers tbody tr").first).to_contain_text("red 76 %")
    assert asked()[-1] == "2,-1"
    page.mouse.move(x - 100, y)
    expect(page.locator("#moved")).to_have_text("2 px right, 1 px up")


def test_a_finger_shifts_it_too(looked):
    seen, asked = looked
    page = seen.page
    page.locator("#stage").scroll_into_view_if_needed()
    box = page.locator("#stage").bounding_box()
    devtools = page.context.new_cdp_session(page)
    for kind, steps in TOUCH.items():
        for across, along in steps or [(0, 0)]:
            at = {"x": box["x"] + 60 + across * box["width"] / 80, "y": box["y"] + 60 + along}
            points = [] if kind == "touchEnd" else [at]
            devtools.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    expect(page.locator("#moved")).to_have_text("4 px right")
    expect(page.locator("#answers thead th").last).to_have_text("Moved 4 px right")
    assert asked()[-1] == "4,0"


def test_arrow_keys_shift_it_and_escape_puts_it_back(looked):
    seen, asked = looked
    page = seen.page
    stage = page.get_by_role("application")
    stage.press("Shift+ArrowLeft")
    stage.press("Shift+ArrowDown")
    expect(page.locator("#moved")).to_have_text("1 px left, 1 px down")
    expect(page.locator("#answers thead th").last).to_have_text("Moved 1 px left, 1 px down")
    stage.press("Escape")
    expect(page.locator("#moved")).to_have_text("in its place")
    expect(page.locator("#answers thead th").last).to_have_text("Moved")
    assert asked()[-1] == "-1,1"


def test_what_is_drawn_is_the_picture_with_its_edges_repeated(looked):
    stage = looked[0].page.get_by_role("application")
    pixels = "(one) => [...one.getContext('2d').getImageData(0, 0, 8, 8).data]"
    before = stage.evaluate(pixels)
    for _ in range(3):
        stage.press("Shift+ArrowRight")
    after = stage.evaluate(pixels)
    for row in range(8):
        line = [before[32 * row + 4 * x : 32 * row + 4 * x + 4] for x in range(8)]
        moved = [after[32 * row + 4 * x : 32 * row + 4 * x + 4] for x in range(8)]
        assert moved == [line[0]] * 3 + line[:5]


def test_a_class_that_is_no_longer_first_is_told_in_words(looked):
    seen, _ = looked
    page = seen.page
    page.locator("#move-all").click()
    for head in ("flatten", "gap"):
        panel = page.locator("#moved-heads").get_by_role("article", name=head, exact=True)
        expect(panel).to_contain_text("80 % of the moves keep red")
        expect(panel.locator("td")).to_have_count(26)
        expect(panel.locator("td .swapped")).to_have_count(5)
        expect(panel).to_contain_text("another class was first: green.")


def test_one_question_is_asked_at_a_time_and_the_newest_wins(visit, serve, imagined):
    """Five more moves are made while the first answer is held back: one more question follows."""
    asked, held = [], threading.Event()

    def slow(page):
        imagined(page)

        def hold(route):
            asked.append(parse_qs(urlsplit(route.request.url).query)["offset"][0])
            if held.is_set():
                route.fallback()
            else:
                held.set()
                waiting.append(route)

        page.route(re.compile(r"/shift\?offset"), hold)

    waiting = []
    page = (seen := visit(serve(), slow)).page
    seen.look()
    stage = page.get_by_role("application")
    with page.expect_request(lambda request: "/shift?offset" in request.url):
        stage.press("Shift+ArrowRight")
    page.wait_for_function("() => document.getElementById('moved').textContent === '1 px right'")
    for _ in range(2):
        stage.press("Shift+ArrowRight")
    for _ in range(3):
        stage.press("Shift+ArrowDown")
    assert asked == ["1,0"]
    waiting.pop().fallback()
    expect(page.locator("#answers thead th").last).to_have_text("Moved 3 px right, 3 px down")
    assert asked == ["1,0", "3,3"]
