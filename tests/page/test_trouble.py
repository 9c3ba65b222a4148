"""What stands in the way is told in words, and waited for where that helps."""

import re
import threading

import pytest
from fakes import EchoHead, SlowHead, fake_heads, head, picture
from playwright.sync_api import expect

pytestmark = pytest.mark.slow

RED = {"name": "red.png", "mimeType": "image/png", "buffer": picture("red")}
KEY = "correct-horse"


def test_a_text_file_gets_a_readable_error_and_the_last_answers_stay(visit, serve, imagined):
    page = (seen := visit(serve(), imagined)).page
    seen.look()
    page.set_input_files("#file", {"name": "a.txt", "mimeType": "text/plain", "buffer": b"hello"})
    notice = page.locator("#picture-notice")
    expect(notice).to_contain_text("This file is not a picture that the heads can read.")
    expect(notice.get_by_role("button")).to_have_count(0)
    seen.look()
    expect(notice).to_be_hidden()


def test_what_is_done_before_the_scripts_are_there_is_not_lost(visit, serve, imagined):
    """On a slow line the page is seen before its scripts: buttons wait, and a chosen picture is kept."""
    held = []

    def hold(route):
        held.append(route)

    def late(page):
        imagined(page)
        page.route("**/page.js", hold)

    seen = visit(serve(), late, until="commit")
    page = seen.page
    expect(page.get_by_role("button", name="Measure now")).to_be_disabled()
    expect(page.locator("[data-example]").first).to_be_disabled()
    page.set_input_files("#file", RED)
    held[0].continue_()
    expect(page.locator("#agreement")).to_have_text("Both heads agree: red.")
    expect(page.get_by_role("button", name="Measure now")).to_be_enabled()
    expect(page.locator("[data-example]").first).to_be_enabled()


def test_json_is_a_file_like_any_other(visit, serve):
    page = visit(serve()).page
    body = {"name": "a.json", "mimeType": "application/json", "buffer": b'{"images": []}'}
    page.set_input_files("#file", body)
    expect(page.locator("#picture-notice")).to_contain_text("This file is not a picture")


def test_a_picture_that_is_too_large_is_told_with_the_limit(visit, serve):
    page = visit(serve(max_image_pixels=1000)).page
    page.locator("[data-example]").first.click()
    told = "This picture is too large. 224 x 224 pixels are more than the 1000 allowed."
    expect(page.locator("#picture-notice")).to_have_text(told)


def test_a_file_over_the_limit_of_a_body_is_told(visit, serve):
    page = visit(serve(max_body_bytes=100_000)).page
    large = {"name": "large.png", "mimeType": "image/png", "buffer": picture("red") + bytes(3_000_000)}
    page.set_input_files("#file", large)
    expect(page.locator("#picture-notice")).to_contain_text(re.compile("too large|of this size"))


def test_a_key_is_asked_for_used_and_kept_nowhere(visit, serve, imagined):
    page = (seen := visit(serve(api_keys=(KEY,)), imagined)).page
    field = page.get_by_label("This service asks for a key.")
    expect(field).to_be_focused()
    field.fill("wrong")
    field.press("Enter")
    field = page.get_by_label("The service does not know this key.")
    expect(field).to_be_focused()
    expect(field).to_have_value("")
    field.fill(KEY)
    page.get_by_role("button", name="Use this key").click()
    expect(page.locator("#key")).to_be_hidden()
    seen.look()
    kept = (
        "() => JSON.stringify([localStorage, sessionStorage, document.cookie, location, history.state])"
    )
    assert KEY not in page.evaluate(kept)
    assert KEY not in page.content()
    assert not any(KEY in url for url in seen.requests)
    page.reload()
    expect(page.get_by_label("This service asks for a key.")).to_be_visible()


def test_a_busy_service_is_asked_again_after_the_time_it_says(visit, serve, imagined):
    answers = [429, 200]

    def busy(page):
        imagined(page)

        def refuse(route):
            if answers.pop(0) == 429:
                problem = {"type": "urn:resnet-heads:problem:too-busy", "status": 429, "detail": "Full."}
                route.fulfill(status=429, json=problem, headers={"Retry-After": "2"})
            else:
                route.fallback()

        page.route("**/compare?*", refuse)

    page = visit(serve(), busy).page
    page.set_input_files("#file", RED)
    notice = page.locator("#picture-notice")
    expect(notice).to_contain_text("The service is busy. Trying again in 2 s.")
    expect(notice).to_contain_text("Trying again in 1 s.")
    expect(page.locator("#agreement")).to_have_text("Both heads agree: red.")
    expect(notice).to_be_hidden()
    assert answers == []


def test_slow_work_says_so_and_can_be_cancelled(visit, serve):
    page = visit(serve(fake_heads(head("gap", SlowHead(6))))).page
    page.set_input_files("#file", RED)
    notice = page.locator("#picture-notice")
    expect(notice).to_contain_text("Still working (4 s)")
    notice.get_by_role("button", name="Cancel").click()
    expect(notice).to_have_text("Cancelled.")
    expect(page.locator("#answered")).to_be_hidden()


def test_heads_that_are_still_loading_are_waited_for(visit, serve):
    hold = threading.Event()
    page = visit(serve(fake_heads(head("gap", EchoHead()), hold=hold), wait=False)).page
    expect(page.locator("#start-notice")).to_contain_text("The heads are not ready yet.")
    hold.set()
    expect(page.locator("#serving")).to_have_text("Serving gap.")
    expect(page.locator("#start-notice")).to_be_hidden()


def test_a_head_that_stays_out_is_told_with_its_reason(visit, serve):
    broken = fake_heads(head("gap"), failed={"flatten": {1: "model.keras is damaged."}})
    page = visit(serve(broken)).page
    told = "Serving gap. flatten does not serve: model.keras is damaged."
    expect(page.locator("#serving")).to_have_text(told)


def test_a_server_that_is_gone_is_told_and_can_be_tried_again(visit, serve, imagined):
    page = visit(serve(), imagined).page
    expect(page.locator("#serving")).to_contain_text("Serving")
    page.route("**/compare?*", lambda route: route.abort("connectionrefused"))
    page.set_input_files("#file", RED)
    notice = page.locator("#picture-notice")
    expect(notice).to_contain_text("The server does not answer. Is it still running?")
    page.unroute("**/compare?*")
    notice.get_by_role("button", name="Try again").click()
    expect(page.locator("#agreement")).to_have_text("Both heads agree: red.")


def test_a_picture_that_is_given_before_the_heads_are_known_waits_for_them(visit, serve, imagined):
    hold = threading.Event()
    page = visit(serve(fake_heads(hold=hold), wait=False), imagined).page
    page.set_input_files("#file", RED)
    expect(page.locator("#start-notice")).to_contain_text("The heads are not ready yet.")
    hold.set()
    expect(page.locator("#agreement")).to_have_text("Both heads agree: red.")
