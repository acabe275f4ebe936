"""The definition file: what is read, and that anything else is refused with a field and a code."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from strongroom.errors import ConfigurationError, MalformedFile
from strongroom.workload import Mount, Resources, Workload, load_workload
from strongroom.workload.definition import MAX_DEFINITION_BYTES, parse_workload
from strongroom.workload.template import render_template

Read = Callable[[dict[str, Any]], Workload]


def test_reads_every_field(read: Read, document: dict[str, Any], folder: Path) -> None:
    workload = read(document)
    assert workload == Workload(
        name="loan-train",
        command=("python3", "train.py", "--rounds", "50"),
        product_id=7,
        security_version=3,
        trusted_files=("lib", "train.py"),
        packages=(),
        environment={"LANG": "C", "OMP_NUM_THREADS": "2"},
        mounts=(Mount("data/book", "book", "read"), Mount("models", "model", "read-write")),
        keys={"book": "loan/key/book", "model": "loan/key/model"},
        resources=Resources(memory_mib=2048, cpus=2, epc_mib=512, threads=8),
        insecure_host_arguments=False,
        broker_ca=None,
        file=folder / "job.toml",
    )
    assert workload.folder == folder


def test_defaults(read: Read) -> None:
    workload = read(
        {"name": "a", "command": ["true"], "product_id": 0, "security_version": 0, "trusted_files": ["train.py"]}
    )
    assert workload.resources == Resources(memory_mib=1024, cpus=1, epc_mib=256, threads=16)
    assert (workload.mounts, dict(workload.keys), dict(workload.environment)) == ((), {}, {})


def test_is_frozen(read: Read, document: dict[str, Any]) -> None:
    workload = read(document)
    with pytest.raises(AttributeError):
        workload.name = "other"  # type: ignore[misc]  # the point of the test
    with pytest.raises(TypeError):
        workload.keys["book"] = "x/y/z"  # type: ignore[index]  # the point of the test


def test_template_is_a_valid_definition(tmp_path: Path) -> None:
    workload = parse_workload(render_template("loan-train"), folder=tmp_path)
    assert workload.name == "loan-train"
    assert workload.keys["data"] == "loan-train/key/data"
    assert "insecure_host_arguments" not in tomllib.loads(render_template("x"))


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a.b", "a" * 64, "ä", "a\n", "a/b", "..", 5, None, ["a"]])
def test_refuses_name(read: Read, document: dict[str, Any], name: Any) -> None:
    document["name"] = name
    if name is None:
        del document["name"]
    _refused(read, document, "workload.field", "name")


@pytest.mark.parametrize("name", ["a", "a" * 63, "0", "a-b-9"])
def test_accepts_name(read: Read, document: dict[str, Any], name: str) -> None:
    assert read({**document, "name": name}).name == name


@pytest.mark.parametrize("command", [[], [""], "python3", [1], [["a"]], ["a\0b"], ["a"] * 257, ["x" * 4097], {}])
def test_refuses_command(read: Read, document: dict[str, Any], command: Any) -> None:
    if command == ["a\0b"]:
        command = ["a\x00b"]
    _refused(read, {**document, "command": command}, "workload.field", "command")


@pytest.mark.parametrize("field", ["product_id", "security_version"])
@pytest.mark.parametrize("value", [-1, 65536, 10**30, "1", 1.0, True, [1]])
def test_refuses_number(read: Read, document: dict[str, Any], field: str, value: Any) -> None:
    _refused(read, {**document, field: value}, "workload.field", field)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/etc/passwd",
        "..",
        "../a",
        "a/../b",
        "a/..",
        "./a",
        "a/./b",
        "a//b",
        ".",
        "a\nb",
        "a\x1bb",
        "x" * 772,
        "a//",
    ],
)
@pytest.mark.parametrize("field", ["trusted_files", "mounts"])
def test_refuses_path_that_leaves_or_has_two_spellings(
    read: Read, document: dict[str, Any], field: str, path: str
) -> None:
    document[field] = [path] if field == "trusted_files" else [{"path": path, "key": "book", "mode": "read"}]
    code = "workload.field" if len(path) > 771 else "workload.path"
    _refused(read, document, code, field)


def test_mount_with_trailing_slash_is_refused_but_a_trusted_folder_may_have_one(
    read: Read, document: dict[str, Any]
) -> None:
    assert read({**document, "trusted_files": ["lib/"]}).trusted_files == ("lib",)
    document["mounts"][0]["path"] = "data/"
    _refused(read, document, "workload.path", "mounts[0].path")


def test_path_limit_counts_bytes(read: Read, document: dict[str, Any]) -> None:
    document["mounts"][0]["path"] = "ä" * 385
    assert read(document).mount_for("ä" * 385).key == "book"
    document["mounts"][0]["path"] = "ä" * 386
    _refused(read, document, "workload.field", "mounts[0].path")


@pytest.mark.parametrize(
    ("field", "value", "where"),
    [
        ("trusted_files", "train.py", "trusted_files"),
        ("trusted_files", [1], "trusted_files[0]"),
        ("trusted_files", ["a"] * 257, "trusted_files"),
        ("packages", ["a.b"], "packages"),
        ("packages", ["../x"], "packages"),
        ("packages", ["a-b"], "packages"),
        ("packages", [""], "packages"),
        ("environment", {"A": 1}, "environment.A"),
        ("environment", {"A-B": "x"}, "environment.A-B"),
        ("environment", {"A=B": "x"}, "environment.A=B"),
        ("environment", {"": "x"}, "environment."),
        ("environment", {"STRONGROOM_ROOM": "/evil"}, "environment.STRONGROOM_ROOM"),
        ("environment", {"strongroom_room": "/evil"}, "environment.strongroom_room"),
        ("environment", ["A=1"], "environment"),
        ("environment", {f"A{n}": "" for n in range(257)}, "environment"),
        ("keys", {"book": "loan/key"}, "keys.book"),
        ("keys", {"book": "loan/key/book/more"}, "keys.book"),
        ("keys", {"book": "loan/../book"}, "keys.book"),
        ("keys", {"book": "loan//book"}, "keys.book"),
        ("keys", {"book": "/loan/key/book"}, "keys.book"),
        ("keys", {"book": "loan/key/b%2fk"}, "keys.book"),
        ("keys", {"book": 7}, "keys.book"),
        ("keys", {"Book": "loan/key/book"}, "keys.Book"),
        ("keys", {"..": "loan/key/book"}, "keys..."),
        ("keys", {f"k{n}": "a/b/c" for n in range(65)}, "keys"),
        ("mounts", {"path": "a"}, "mounts"),
        ("mounts", ["a"], "mounts[0]"),
        ("mounts", [{"path": "a", "key": "book", "mode": "write"}], "mounts[0].mode"),
        ("mounts", [{"path": "a", "key": "book", "mode": "read "}], "mounts[0].mode"),
        ("mounts", [{"path": "a", "key": "nobody", "mode": "read"}], "mounts[0].key"),
        ("mounts", [{"path": "a", "key": "book"}], "mounts[0].mode"),
        ("mounts", [{"key": "book", "mode": "read"}], "mounts[0].path"),
        ("mounts", [{"path": f"m{n}", "key": "book", "mode": "read"} for n in range(65)], "mounts"),
        ("resources", {"memory": "2GB"}, "resources.memory"),
        ("resources", {"memory": "0GiB"}, "resources.memory"),
        ("resources", {"memory": "-1GiB"}, "resources.memory"),
        ("resources", {"memory": "1.5GiB"}, "resources.memory"),
        ("resources", {"memory": 2048}, "resources.memory"),
        ("resources", {"epc": "12345678GiB"}, "resources.epc"),
        ("resources", {"cpus": 0}, "resources.cpus"),
        ("resources", {"cpus": True}, "resources.cpus"),
        ("resources", {"threads": 4097}, "resources.threads"),
        ("insecure_host_arguments", "yes", "insecure_host_arguments"),
        ("insecure_host_arguments", 1, "insecure_host_arguments"),
        ("broker_ca", "unmeasured-ca.pem", "broker_ca"),
        ("broker_ca", 1, "broker_ca"),
    ],
)
def test_refuses_field(read: Read, document: dict[str, Any], field: str, value: Any, where: str) -> None:
    _refused(read, {**document, field: value}, "workload.field", where)


@pytest.mark.parametrize("field", ["name", "command", "product_id", "security_version"])
def test_refuses_missing_field(read: Read, document: dict[str, Any], field: str) -> None:
    del document[field]
    _refused(read, document, "workload.field", field)


def test_refuses_workload_without_any_code(read: Read, document: dict[str, Any]) -> None:
    _refused(read, {**document, "trusted_files": []}, "workload.field", "no code would be measured")


@pytest.mark.parametrize(
    ("change", "where", "hint"),
    [
        ({"trusted_file": ["a"]}, "trusted_file", "did you mean 'trusted_files'?"),
        ({"debug": True}, "debug", "known here"),
        ({"resources": {"memroy": "1GiB"}}, "resources.memroy", "did you mean 'memory'?"),
        ({"mounts": [{"path": "a", "key": "book", "mode": "read", "type": "x"}]}, "mounts[0].type", "known here"),
    ],
)
def test_refuses_unknown_key(
    read: Read, document: dict[str, Any], change: dict[str, Any], where: str, hint: str
) -> None:
    error = _refused(read, document | change, "workload.unknown_key", where)
    assert error.hint is not None
    assert hint in error.hint


@pytest.mark.parametrize("field", ["trusted_files", "packages"])
def test_refuses_duplicates(read: Read, document: dict[str, Any], field: str) -> None:
    document[field] = ["lib", "json", "lib"]
    _refused(read, document, "workload.duplicate", field)


def test_trailing_slash_does_not_hide_a_duplicate(read: Read, document: dict[str, Any]) -> None:
    document["trusted_files"] = ["lib", "lib/"]
    _refused(read, document, "workload.duplicate", "trusted_files")


@pytest.mark.parametrize("paths", [("a", "a"), ("a", "a/b"), ("a/b/c", "a"), ("a", "a-b", "a/b")])
def test_refuses_overlapping_mounts(read: Read, document: dict[str, Any], paths: tuple[str, ...]) -> None:
    document["mounts"] = [{"path": path, "key": "book", "mode": "read"} for path in paths]
    _refused(read, document, "workload.mounts_overlap", "overlap")


def test_neighbours_do_not_overlap(read: Read, document: dict[str, Any]) -> None:
    document["mounts"] = [{"path": path, "key": "book", "mode": "read"} for path in ("a", "a-b", "a.b", "ab")]
    assert len(read(document).mounts) == 4


@pytest.mark.parametrize(
    "text",
    [
        "name = ",
        "name = 'a'\nname = 'b'\n",
        "[keys]\na = 'x/y/z'\n[keys]\n",
        "x = " + "[" * 100_000,
        "x = " + "9" * 10_000,
        "x = 2026-13-45",
        "\x00",
        "\ufeffname = 'a'",
    ],
)
def test_refuses_what_is_not_toml(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        parse_workload(text, folder=tmp_path)
    assert refusal.value.code in {"workload.syntax", "workload.field"}


def test_syntax_error_names_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "w.toml").write_text("name = 'a'\ncommand = [\n")
    with pytest.raises(ConfigurationError, match=r"w\.toml is not TOML: .*(line|end of document)") as refusal:
        load_workload(tmp_path / "w.toml")
    assert refusal.value.code == "workload.syntax"


@pytest.mark.parametrize(("content", "line"), [(b"\xff\xfe", 1), (b"name = 'a'\n\xe4", 2)])
def test_refuses_file_that_is_not_text(tmp_path: Path, content: bytes, line: int) -> None:
    (tmp_path / "w.toml").write_bytes(content)
    with pytest.raises(MalformedFile, match=f"line {line}") as refusal:
        load_workload(tmp_path / "w.toml")
    assert refusal.value.code == "workload.syntax"


def test_refuses_file_that_is_too_long(tmp_path: Path) -> None:
    (tmp_path / "w.toml").write_bytes(b"#" * (MAX_DEFINITION_BYTES + 1))
    with pytest.raises(ConfigurationError) as refusal:
        load_workload(tmp_path / "w.toml")
    assert refusal.value.code == "workload.file"


@pytest.mark.parametrize("name", ["absent.toml", "."])
def test_refuses_missing_file_and_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        load_workload(tmp_path / name)
    assert refusal.value.code == "workload.file"


def test_folder_is_the_one_the_file_was_named_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, toml: Callable[[Any], str], document: dict[str, Any]
) -> None:
    # Kubernetes mounts configuration as links into a hidden folder: the code is beside the link, not its target.
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "w.toml").write_text(toml(document))
    (tmp_path / "w.toml").symlink_to("hidden/w.toml")
    monkeypatch.chdir(tmp_path / "hidden")
    assert load_workload(Path("../w.toml")).folder == tmp_path


@pytest.mark.parametrize(
    ("path", "alias"),
    [("data/book", "book"), ("data/book/2026/q1.csv", "book"), ("models/m.json", "model"), ("models", "model")],
)
def test_key_for_path(read: Read, document: dict[str, Any], path: str, alias: str) -> None:
    assert read(document).key_for(path) == alias


@pytest.mark.parametrize("path", ["data", "data/bookkeeping", "data/book.csv", "model", "modelsx/m", "x", "DATA/BOOK"])
def test_no_key_for_path_outside_mounts(read: Read, document: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        read(document).key_for(path)
    assert refusal.value.code == "workload.no_mount"


@pytest.mark.parametrize("path", ["data/book/../../models", "/data/book", "data/book/", "./models", "", "models//m"])
def test_no_key_for_path_in_another_spelling(read: Read, document: dict[str, Any], path: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        read(document).key_for(path)
    assert refusal.value.code == "workload.path"


def _refused(read: Read, document: dict[str, Any], code: str, text: str) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as refusal:
        read(document)
    assert refusal.value.code == code
    assert text in str(refusal.value)
    return refusal.value
