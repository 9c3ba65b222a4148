"""For everybody: screen readers, keyboards, dark rooms and small screens."""

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from experiment_records import measured, report
from fakes import FakeNetwork, fake_heads, head, picture
from playwright.sync_api import expect

from service.store.card import Golden

pytestmark = pytest.mark.slow

LONG = "Bernese mountain dog, the kind that is called Berner Sennenhund where it is from"
NAMES = (
    "gap",
    "flatten",
    "average-3",
    "gmp",
    "gap-int8",
    "a-head-whose-name-is-as-long-as-names-may-be-in-this-store-63",
)


class Even(FakeNetwork):
    """The same probability for every one of `classes`."""

    def __init__(self, classes):
        super().__init__()
        self._classes = classes

    def compute(self, batch):
        return np.full((len(batch), self._classes), 1 / self._classes)


def heads_of(classes, names=NAMES):
    labels = (LONG, *(f"class {number}" for number in range(1, classes)))
    golden = Golden.model_construct(image=picture("red"), probabilities=(0.0,) * classes)
    return fake_heads(*(head(name, Even(classes), labels=labels, golden=golden) for name in names))


@pytest.fixture
def measured_page(imagined):
    """Prepares a page where maps and moves are made up, and a report of two heads is there."""
    told = report(measured("flatten", 40, 400), measured("gap", 30, 300)).model_dump(mode="json")

    def prepare(page):
        imagined(page)
        page.route("**/benchmark", lambda route: route.fulfill(json=told))

    return prepare


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_violation(visit, serve, measured_page, scheme):
    """Before and after a picture, and while something is wrong."""
    page = (seen := visit(serve(), measured_page, color_scheme=scheme)).page
    expect(page.locator("#report canvas")).to_have_count(3)
    assert serious(page) == []
    seen.look()
    page.locator("#move-all").click()
    expect(page.locator(".moves")).to_have_count(2)
    page.set_input_files("#file", {"name": "a.txt", "mimeType": "text/plain", "buffer": b"hello"})
    expect(page.locator("#picture-notice")).to_be_visible()
    page.locator("#heads summary").first.click()
    assert serious(page) == []


def serious(page):
    found = Axe().run(page).response["violations"]
    return [
        (one["id"], [node["target"] for node in one["nodes"]])
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def test_the_key_form_is_as_good(visit, serve):
    page = visit(serve(api_keys=("key",)), color_scheme="dark").page
    expect(page.locator("#key")).to_be_visible()
    assert serious(page) == []


@pytest.mark.parametrize("width", [380, 800, 1400])
@pytest.mark.parametrize("classes", [2, 1000])
def test_nothing_is_wider_than_the_screen(visit, serve, imagined, width, classes):
    """With six heads, long names, and few or many classes."""
    url = serve(heads_of(classes))
    page = (seen := visit(url, imagined, viewport={"width": width, "height": 800})).page
    seen.look()
    expect(page.locator("#heads .sum:visible")).to_have_count(len(NAMES))
    page.locator("#move-all").click()
    expect(page.locator(".moves")).to_have_count(len(NAMES))
    assert page.evaluate("document.documentElement.scrollWidth") == width
    spilling = """() => [...document.querySelectorAll("article, article button")]
        .filter((one) => one.scrollWidth > one.clientWidth + 1).map((one) => one.className)"""
    assert page.evaluate(spilling) == []


def test_one_of_a_thousand_classes_is_found_by_typing(visit, serve, imagined):
    page = (seen := visit(serve(heads_of(1000)), imagined)).page
    seen.look()
    field = page.get_by_label("Map of", exact=True)
    field.fill("class 777")
    field.press("Enter")
    expect(page.locator("h4")).to_contain_text(["Evidence for class 777"] * len(NAMES))
    field.fill("no such class")
    field.press("Enter")
    expect(page.locator("h4").first).to_contain_text("Evidence for class 777")
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("h4").first).to_contain_text(f"Evidence for {LONG}")


def test_classes_of_the_same_name_are_asked_for_by_number(visit, serve, imagined):
    """ImageNet has two cranes."""
    labels = ("red", "crane", "crane")  # of which the first is likeliest
    page = (seen := visit(serve(fake_heads(head("gap", labels=labels))), imagined)).page
    seen.look("red-top-left.jpg")
    for index in ("1", "2"):
        with page.expect_request(f"**/explain?head=gap&class={index}"):
            seen.panel("gap").get_by_role("button", name=f"crane ({index})").click()


def test_everything_is_reached_by_the_tab_key_in_reading_order(visit, serve, imagined):
    page = (seen := visit(serve(), imagined)).page
    seen.look()
    page.locator("#file").focus()
    order = [page.evaluate("document.activeElement.id || document.activeElement.className")]
    for _ in range(30):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    wanted = ["file", "stage", "class", "blend", "move-all", "seconds", "measure-now"]
    assert [name for name in order if name in wanted][: len(wanted)] == wanted
