"""Keys come and go with their file while the server runs; nothing that happens to it lets anybody in."""

import errno
import os

import pytest
from fakes import picture

from service.api.access import MAX_BYTES, Keys
from service.app import create_app
from service.errors import CommandError
from service.settings import Settings

RED = picture("red")
BROKEN = {
    "empty": b"",
    "blank lines": b"\n  \n",
    "not ASCII": "schlüssel\n".encode(),
    "an invisible character": b"k\x00ey\n",
    "huge": b"k" * (MAX_BYTES + 1),
}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "keys"
    path.write_text("old\n")
    return path


def statuses(client, *keys, path="/heads"):
    return [client.get(path, headers={"X-API-Key": key}).status_code for key in keys]


def test_keys_are_rotated_without_a_restart_and_two_are_valid_meanwhile(connect, file):
    client = connect(api_keys_file=file)
    assert statuses(client, "old", "new", "") == [200, 401, 401]
    file.write_text("old\nnew\n")
    assert statuses(client, "old", "new", "old\tnew") == [200, 200, 401]
    file.write_text("new\n")
    assert statuses(client, "old", "new") == [401, 200]


def test_keys_of_the_setting_and_of_the_file_are_both_valid(connect, file):
    client = connect(api_keys="set", api_keys_file=file)
    assert statuses(client, "set", "old", "") == [200, 200, 401]
    file.write_text("new")
    assert statuses(client, "set", "new", "old") == [200, 200, 401]


def test_a_secret_that_kubernetes_swaps_by_a_link_is_followed(connect, tmp_path):
    """A mounted secret is a link to a link to a folder; the folder's link is what is replaced."""
    for number, key in enumerate(("old", "new")):
        (tmp_path / f"v{number}").mkdir()
        (tmp_path / f"v{number}" / "api-keys").write_text(key)
        (tmp_path / f"link{number}").symlink_to(f"v{number}")
    (tmp_path / "link0").rename(tmp_path / "..data")
    (tmp_path / "api-keys").symlink_to("..data/api-keys")
    client = connect(api_keys_file=tmp_path / "api-keys")
    assert statuses(client, "old", "new") == [200, 401]
    (tmp_path / "link1").replace(tmp_path / "..data")
    assert statuses(client, "old", "new") == [401, 200]


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_file_that_breaks_leaves_the_last_good_keys_and_is_told_once(connect, file, caplog, content):
    client = connect(api_keys_file=file)
    file.write_bytes(content)
    assert statuses(client, "old", "", "k") == [200, 401, 401]
    told = [record for record in caplog.records if record.name == "service.api.access"]
    assert len(told) == 1
    assert "stay valid" in told[0].getMessage()
    file.write_text("new")
    assert statuses(client, "old", "new") == [401, 200]


def test_a_file_that_is_gone_leaves_the_last_good_keys_until_another_comes(connect, file):
    client = connect(api_keys_file=file)
    file.unlink()
    assert statuses(client, "old", "", "new") == [200, 401, 401]
    file.write_text("new")
    assert statuses(client, "old", "new") == [401, 200]


def test_a_file_that_cannot_be_read_now_is_read_by_the_next_request_and_told_once(file, caplog):
    errors = []

    class Busy(type(file)):
        def open(self, *arguments):
            if errors:
                raise errors.pop()
            return super().open(*arguments)

    keys = Keys((), Busy(file))
    file.write_text("new\n")
    errors += [OSError(errno.EMFILE, "Too many open files")] * 3
    assert [keys() for _ in range(4)] == [("old",)] * 3 + [("new",)]
    assert caplog.text.count("stay valid: Too many open files") == 1


@pytest.mark.parametrize("content", [None, *BROKEN.values()], ids=["missing", *BROKEN])
@pytest.mark.parametrize("setting", ["api_keys_file", "admin_key_file"])
def test_no_server_starts_on_a_file_without_keys(file, setting, content):
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(CommandError, match="cannot be used") as refused:
        create_app(Settings(**{setting: file}))
    assert len(str(refused.value).splitlines()) == 1
    if content:
        assert "key\n" not in str(refused.value), "a refusal must not repeat a secret"


def test_admin_keys_are_rotated_likewise_and_open_nothing_else(connect, file, tmp_path):
    client = connect(api_keys="user", admin_key_file=file, store_dir=tmp_path)

    def measure(key):
        return client.post("/benchmark", json={"seconds": 0}, headers={"X-API-Key": key}).status_code

    assert [measure(key) for key in ("user", "old", "new")] == [401, 422, 401]
    file.write_text("new")
    assert [measure(key) for key in ("user", "old", "new")] == [401, 401, 422]
    assert statuses(client, "new", "user") == [401, 200]


def test_an_unchanged_file_is_not_read_for_each_request(file):
    keys = Keys((), file)
    changed = file.stat()
    file.write_text("NEW\n")  # as long as before
    os.utime(file, ns=(changed.st_atime_ns, changed.st_mtime_ns))
    assert keys() == ("old",)
