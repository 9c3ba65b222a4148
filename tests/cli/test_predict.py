"""`resnet-heads predict`: against a real server on fake heads, and as a process."""

import json
from contextlib import ExitStack
from pathlib import Path

import pytest
from fakes import BrokenHead, EchoHead, backbone, explainable, fake_heads, head, picture
from fastapi import Request, Response
from live import running
from process import reserved_port, run
from scripted import Script, ok, status
from waiting import wait_until

from service.app import create_app
from service.cli.predict import Asking, find, predict_files
from service.client import Client, NotUnderstood, Refused, Unreachable
from service.errors import CommandError
from service.settings import Settings


class Inverted(EchoHead):
    """Puts the darkest colour first: it never agrees with `gap`."""

    def compute(self, batch):
        shares = super().compute(batch)
        return (1 - shares) / 2


@pytest.fixture
def serve():
    """Starts a server of `gap` and `flatten`, or of other heads, and returns its URL."""
    with ExitStack() as stack:

        def start(*heads, **settings):
            loaded = fake_heads(*(heads or explainable()))
            url = stack.enter_context(running(create_app(Settings(**settings), heads_=loaded)))
            wait_until(lambda: not loaded.is_loading)
            return url

        yield start


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working folder with pictures of one colour in two classes, and what is none."""
    monkeypatch.chdir(tmp_path)
    for name in ("warm/a.png", "warm/deep/b.PNG", "cold/c.png", "cold/.hidden.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture("blue" if name.startswith("cold") else "red"))
    (tmp_path / "warm" / "notes.txt").write_text("not asked about")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    return tmp_path


@pytest.fixture
def ask(capsys, folder):  # noqa: ARG001 (the files lie there)
    """`ask(url, names)` is the exit code, the JSON printed, and the lines on stderr."""

    def asked(url, *names, **wishes):
        with Client(url, timeout_s=10) as client:
            code = predict_files(Asking(client, **wishes), list(map(Path, names)), as_json=True)
        printed = capsys.readouterr()
        return code, json.loads(printed.out), printed.err.splitlines()

    return asked


def test_every_picture_of_a_folder_is_answered(ask, serve):
    code, printed, told = ask(serve(), "warm", "cold")
    assert code == 0
    assert told == []
    assert [one["file"] for one in printed] == ["warm/a.png", "warm/deep/b.PNG", "cold/c.png"]
    tops = [one["predictions"]["gap"][0]["label"] for one in printed]
    assert tops == ["red", "red", "blue"]
    assert {one["agree"] for one in printed} == {None}


def test_several_heads_are_compared(ask, serve):
    on = backbone()
    url = serve(head("gap", on=on), head("flatten", Inverted(), on=on))
    code, (one,), _ = ask(url, "warm/a.png", heads=["gap", "flatten"], top_k=2)
    assert code == 0
    assert one["agree"] is False
    assert one["predictions"]["gap"][0]["label"] == "red"
    assert len(one["predictions"]["flatten"]) == 2


def test_a_file_that_fails_is_told_and_the_rest_is_answered(ask, serve):
    names = ["warm/a.png", "nothing.png", "broken.png", "broken.png", "cold", "gone.png"]
    code, printed, told = ask(serve(), *names)
    assert code == 1
    assert [one["file"] for one in printed] == [
        "warm/a.png",
        "nothing.png",
        "broken.png",
        "broken.png",
        "cold/c.png",
        "gone.png",
    ]
    assert [one["failed"] is None for one in printed] == [True, False, False, False, True, False]
    assert told[0] == "nothing.png: No such file or directory"
    assert told[1].startswith("broken.png: ")
    assert "Image" not in told[1]
    assert len(told) == 4


def test_a_server_that_takes_fewer_files_gets_fewer(ask, serve):
    code, printed, _ = ask(serve(max_images_per_request=1), "warm", "cold", "warm")
    assert (code, len(printed)) == (0, 5)
    assert all(one["predictions"] for one in printed)


def test_a_file_that_is_too_large_fails_alone(ask, serve, folder):
    (folder / "large.png").write_bytes(picture() + bytes(20_000))
    code, printed, told = ask(serve(max_body_bytes=10_000), "warm", "large.png", "cold")
    assert code == 1
    assert [one["failed"] is None for one in printed] == [True, True, False, True]
    assert "10000 bytes" in told[0]


def test_requests_are_bounded_in_files_and_bytes(folder, ask):
    for number in range(20):
        (folder / "warm" / f"{number:02}.png").write_bytes(picture())
    for number in range(3):
        (folder / "cold" / f"{number}.png").write_bytes(bytes(10 * 2**20))
    asked = []

    async def count(scope, receive, send):
        asked.append((await Request(scope, receive).body()).count(b"filename="))
        await Response(answers(asked[-1]), media_type="application/json")(scope, receive, send)

    with running(count) as url:
        code, printed, told = ask(url, "warm", "cold")
    assert (code, len(printed)) == (0, 26)
    assert asked == [8, 8, 7, 1, 2]
    assert told == ["Predicting ..."]


def test_what_the_server_cannot_do_for_a_file_is_its_failure(ask, serve):
    code, (one,), (told,) = ask(serve(head("gap", BrokenHead())), "warm/a.png")
    assert code == 1
    assert one["predictions"] == {}
    assert "engine failed" in told


@pytest.mark.parametrize(
    ("settings", "wishes", "told"),
    [
        ({}, {"heads": ["nope"]}, "no head named 'nope'"),
        ({"api_keys": "secret"}, {}, "API key"),
        ({}, {"top_k": 10**6}, "top_k"),
    ],
)
def test_what_would_be_refused_for_every_file_ends_it(ask, serve, settings, wishes, told):
    with pytest.raises(Refused, match=told):
        ask(serve(**settings), "warm", **wishes)


def test_what_was_answered_before_the_end_is_printed(folder, capsys):
    for number in range(8):
        (folder / "warm" / f"{number}.png").write_bytes(picture())
    ok = status(200, answers(8), "application/json")
    with (
        running(Script(ok, status(502))) as url,
        Client(url) as client,
        pytest.raises(NotUnderstood, match="502"),
    ):
        predict_files(Asking(client), [folder / "warm"], as_json=True)
    assert len(json.loads(capsys.readouterr().out)) == 8


def answers(count: int) -> bytes:
    one = '{"predictions":[{"index":0,"label":"red","probability":0.9}]}'
    results = ",".join([one] * count)
    timing = '{"decode":1,"queue":1,"inference":1,"total":3}'
    return (
        f'{{"head":"gap","version":1,"engine":"openvino","results":[{results}],"timing_ms":{timing}}}'
    ).encode()


def test_a_file_that_fails_while_it_is_read_is_told_and_the_others_are_answered(ask, serve, folder):
    """This one can be opened, and its first bytes belong to nobody."""
    (folder / "warm/memory.png").symlink_to("/proc/self/mem")
    code, outcomes, told = ask(serve(), "warm")
    assert code == 1
    assert told == ["warm/memory.png: Input/output error"]
    assert [bool(one["predictions"]) for one in outcomes] == [True, False, True]


def test_no_server_is_unreachable(ask):
    with reserved_port() as port, pytest.raises(Unreachable):
        ask(f"http://127.0.0.1:{port}", "warm")


def test_maps_lie_where_their_pictures_do(ask, serve, folder):
    code, _, _ = ask(serve(), "warm", "cold", maps=folder / "maps")
    assert code == 0
    written = sorted(str(path.relative_to(folder)) for path in folder.glob("maps/**/*.png"))
    assert written == [
        "maps/cold/c.png.gap.png",
        "maps/warm/a.png.gap.png",
        "maps/warm/deep/b.PNG.gap.png",
    ]
    assert (folder / written[0]).read_bytes().startswith(b"\x89PNG")


def test_one_picture_has_its_map_at_the_top(ask, serve, folder):
    ask(serve(), "warm/deep/b.PNG", maps=folder / "maps")
    assert [path.name for path in (folder / "maps").iterdir()] == ["b.PNG.gap.png"]


def test_a_place_for_maps_that_takes_none_is_told_before_anything_is_asked(folder):
    (folder / "file").touch()
    script = Script(ok())
    with running(script) as url, Client(url) as client, pytest.raises(FileExistsError, match="file"):
        predict_files(Asking(client, maps=folder / "file"), [folder / "warm/a.png"], as_json=True)
    assert script.requests == []


def test_a_head_without_a_map_fails_its_file_which_is_answered_all_the_same(ask, serve, folder):
    code, (one,), (told,) = ask(serve(), "cold", heads=["gap", "flatten"], maps=folder / "maps")
    assert code == 1
    assert set(one["predictions"]) == {"gap", "flatten"}
    assert told == "cold/c.png: no map: This head cannot be explained exactly: it is a fake."
    assert (folder / "maps" / "c.png.gap.png").exists()


def test_a_folder_without_pictures_is_told(folder):
    (folder / "empty").mkdir()
    with pytest.raises(CommandError, match=r"no pictures in .*empty"):
        find([folder / "warm", folder / "empty"])


def test_the_table_has_a_row_for_each_class_of_each_head(serve, folder, capsys):
    with Client(serve()) as client:
        assert predict_files(Asking(client, ["gap", "flatten"], 2), [folder / "warm/a.png"], False) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split() == ["file", "head", "label", "probability", "heads", "agree"]
    assert rows[0].split()[1:3] == ["gap", "red"]
    assert [row.split()[-1] for row in rows] == ["yes"] * 4


def test_it_is_a_command_with_exit_codes(serve, folder):
    url = serve(api_keys="right")
    wanted = {"RESNET_HEADS_URL": url, "RESNET_HEADS_API_KEY": "right"}
    done = run("predict", str(folder / "warm"), **wanted)
    assert (done.returncode, done.stderr) == (0, "")
    assert "red" in done.stdout
    done = run("predict", str(folder), "--json", **wanted)
    assert done.returncode == 1
    assert "broken.png" in done.stderr
    assert len(json.loads(done.stdout)) == 4
    done = run("predict", str(folder / "warm"), "--url", url)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "resnet-heads: A valid API key is required.\n"
    done = run("predict", str(folder), "--url", "localhost:8000")
    assert done.returncode == 2
    assert "is not a URL" in done.stderr
