from service.serving.host import groups


def told(folder, text):
    (folder / "self").mkdir()
    (folder / "self/cgroup").write_text(text)
    return folder


def test_of_version_2_there_is_one_hierarchy(tmp_path):
    proc = told(tmp_path, "0::/slice/unit\n")
    assert groups("cpu", proc, tmp_path) == [tmp_path / "slice/unit", tmp_path / "slice", tmp_path]


def test_of_version_1_the_controller_is_looked_for_among_those_that_share(tmp_path):
    proc = told(tmp_path, "5:memory:/m\n3:cpu,cpuacct:/docker/abc\n1:name=systemd:/\n")
    cpu = tmp_path / "cpu"
    assert groups("cpu", proc, tmp_path) == [cpu / "docker/abc", cpu / "docker", cpu]
    assert groups("memory", proc, tmp_path) == [tmp_path / "memory/m", tmp_path / "memory"]


def test_a_controller_is_not_taken_for_another_of_a_longer_name(tmp_path):
    assert groups("cpu", told(tmp_path, "4:cpuset:/a\n3:cpuacct:/a\n"), tmp_path) == []


def test_beside_version_1_version_2_has_a_folder_of_its_own(tmp_path):
    (tmp_path / "unified").mkdir()
    proc = told(tmp_path, "1:cpu:/a\n0::/b\n")
    assert groups("cpu", proc, tmp_path) == [
        *(tmp_path / "cpu/a", tmp_path / "cpu"),
        *(tmp_path / "unified/b", tmp_path / "unified"),
    ]


def test_where_no_one_tells_both_roots_are_looked_at(tmp_path):
    assert groups("cpu", tmp_path / "none", tmp_path) == [tmp_path, tmp_path / "cpu"]
