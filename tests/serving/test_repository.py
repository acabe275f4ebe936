"""The life of models: versions, policy, labels, replacement, faults in between."""

import threading
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from strongroom.errors import ConfigurationError, FormatError, Tampered, UnavailableError, WrongPath
from strongroom.serving.models.limits import BatchingLimits, ModelLimits
from strongroom.serving.models.policy import ALL_VERSIONS, ModelSettings, VersionPolicy, version_folders
from strongroom.serving.models.repository import Chosen, Repository
from strongroom.serving.models.served import State
from strongroom.serving.models.storage import DangerousPlaintextFolder, VersionFiles
from strongroom.serving.status import InvalidRequest, ModelNotFound, Refused, Status


def put(memory: Any, version: int | str, factor: str, model: str = "m") -> None:
    memory.files[f"{model}/{version}/factor"] = factor.encode()


@pytest.fixture
def repository(memory: Any, scale: Any) -> Iterator[Repository]:
    made = Repository(memory, [scale], drain_timeout_s=5)
    yield made
    made.close()


def ask(repository: Repository, chosen: Chosen) -> float:
    with repository.lease(chosen) as version:
        answer = version.runner.run("serving_default", {"x": np.ones((1, 2), np.float32)}, ("y",), None)
        return float(answer["y"][0, 0])


def states(repository: Repository, name: str = "m") -> dict[int, State]:
    return {status.version: status.state for status in repository.status(Chosen(name))}


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        (VersionPolicy(), {5}),
        (VersionPolicy(latest=2), {5, 3}),
        (VersionPolicy(latest=9), {1, 3, 5}),
        (ALL_VERSIONS, {1, 3, 5}),
        (VersionPolicy(latest=None, specific=frozenset({1, 4})), {1}),
    ],
)
def test_policy(policy: VersionPolicy, wanted: set[int]) -> None:
    assert policy.wanted([3, 1, 5]) == wanted


def test_version_folders() -> None:
    names = ["1", "007", "7", "v2", "", "-3", "1.5", "٣", "9" * 30, "2 "]
    assert version_folders(names) == {1: "1", 7: "7"}


def test_highest_version_is_served(repository: Repository, memory: Any) -> None:
    put(memory, 1, "2")
    put(memory, "00000002", "3")
    repository.configure([ModelSettings("m", "m")])
    assert ask(repository, Chosen("m")) == 3
    assert states(repository) == {2: State.AVAILABLE}


def test_each_engine_is_made_for_its_own_models_concurrency(repository: Repository, memory: Any, scale: Any) -> None:
    """An engine divides the cores by it: another model's number would leave cores idle."""
    put(memory, 1, "2", "a")
    put(memory, 1, "2", "b")
    limits = {"a": 1, "b": 3}
    repository.configure([ModelSettings(name, name, limits=ModelLimits(number)) for name, number in limits.items()])
    assert sorted(scale.concurrency) == [1, 3]


def test_the_heap_is_gathered_once_after_loading_and_by_nobody_who_waits(
    repository: Repository, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gathered: list[int] = []

    def gather(size: int) -> None:
        assert not repository._work.locked()  # a reload and the end of the server need it
        gathered.append(size)

    monkeypatch.setattr("strongroom.serving.models.repository.gather_heap", gather)
    put(memory, 1, "2")
    put(memory, 1, "25", "n")
    repository.configure([ModelSettings("m", "m"), ModelSettings("n", "n")])
    assert gathered == []
    repository.poll()
    put(memory, 2, "3")
    repository.poll()
    repository.poll()
    assert gathered == [3, 1, 0]


def test_the_heap_is_not_gathered_for_a_model_in_another_process(
    repository: Repository, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gathered: list[int] = []
    monkeypatch.setattr("strongroom.serving.models.repository.gather_heap", gathered.append)
    monkeypatch.setattr("strongroom.serving.models.loading._engine", lambda maker, files, _settings: maker.load(files))
    put(memory, 1, "2")
    repository.configure([ModelSettings("m", "m", isolated=True)])
    repository.poll()
    assert gathered == [0]


@pytest.mark.parametrize(("limit_s", "quick"), [(float("inf"), True), (0.0, False)])
def test_a_model_is_quick_if_its_warm_up_was(
    repository: Repository, memory: Any, monkeypatch: pytest.MonkeyPatch, limit_s: float, quick: bool
) -> None:
    monkeypatch.setattr("strongroom.serving.models.loading.QUICK_S", limit_s)
    put(memory, 1, "2")
    repository.configure([ModelSettings("m", "m")])
    assert repository.find(Chosen("m")).quick is quick
    assert repository.quick("m") is quick


def test_new_version_takes_over_and_the_old_one_is_closed(repository: Repository, memory: Any, scale: Any) -> None:
    put(memory, 1, "2")
    repository.configure([ModelSettings("m", "m")])
    put(memory, 2, "3")
    repository.poll()
    assert ask(repository, Chosen("m")) == 3
    assert states(repository) == {1: State.END, 2: State.AVAILABLE}
    assert [engine.closed for engine in scale.engines] == [True, False]


def test_corrupt_version_does_not_displace_a_good_one(repository: Repository, memory: Any) -> None:
    put(memory, 1, "2")
    repository.configure([ModelSettings("m", "m")])
    put(memory, 2, "not a number")
    repository.poll()
    assert ask(repository, Chosen("m")) == 2
    failed = repository.status(Chosen("m", version=2))[0]
    assert (failed.state, failed.error, failed.message) == (
        State.END,
        Status.FAILED_PRECONDITION,
        "serving.model",
    )


def test_corrupt_version_does_not_displace_a_good_one_when_the_server_restarts(
    repository: Repository, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(memory, 1, "2")
    put(memory, 2, "3")
    put(memory, 3, "garbage")
    repository.configure([ModelSettings("m", "m")])
    assert ask(repository, Chosen("m")) == 3 and repository.ready()
    assert states(repository) == {3: State.END, 2: State.AVAILABLE}
    repository.poll()
    assert states(repository) == {3: State.END, 2: State.AVAILABLE}
    put(memory, 3, "4")
    monkeypatch.setattr("strongroom.serving.models.repository.time.monotonic", lambda: float("inf"))
    repository.poll()
    assert ask(repository, Chosen("m")) == 4
    assert states(repository) == {3: State.AVAILABLE, 2: State.END}


def test_named_version_that_is_corrupt_is_not_replaced_by_another(repository: Repository, memory: Any) -> None:
    put(memory, 1, "2")
    put(memory, 2, "garbage")
    policy = VersionPolicy(latest=None, specific=frozenset({2}))
    with pytest.raises(Refused, match="no version"):
        repository.configure([ModelSettings("m", "m", policy=policy)])


@pytest.mark.parametrize("error", [Tampered("no"), WrongPath("no"), MemoryError(), RecursionError()])
def test_version_that_does_not_open_does_not_displace_a_good_one(
    repository: Repository, memory: Any, error: Exception
) -> None:
    put(memory, 1, "2")
    repository.configure([ModelSettings("m", "m")])
    put(memory, 2, "3")
    opened = memory.open

    def sealed_for_another(path: str) -> Any:
        if path.startswith("m/2/"):
            raise error
        return opened(path)

    memory.open = sealed_for_another
    repository.poll()
    assert ask(repository, Chosen("m")) == 2


def test_version_that_fails_its_warm_up_does_not_displace_a_good_one(
    repository: Repository, memory: Any, scale: Any
) -> None:
    put(memory, 1, "2")
    repository.configure([ModelSettings("m", "m")])
    put(memory, 2, "3")
    load = scale.load

    def load_bad(*arguments: Any, **named: Any) -> Any:
        engine = load(*arguments, **named)
        engine.run = lambda *_: 1 / 0
        return engine

    scale.load = load_bad
    repository.poll()
    assert ask(repository, Chosen("m")) == 2
    assert scale.engines[-1].closed


def test_unauthorised_digest_does_not_displace_a_good_one(repository: Repository, memory: Any) -> None:
    put(memory, 1, "2")
    repository.configure([ModelSettings("m", "m")])
    digest = repository.find(Chosen("m")).digest
    put(memory, 2, "3")
    settings = ModelSettings("m", "m", digests=MappingProxyType({1: digest, 2: "00" * 32}))
    repository.configure([settings])
    assert ask(repository, Chosen("m")) == 2
    assert repository.status(Chosen("m", version=2))[0].message == "serving.digest"


def test_failed_version_is_tried_again_later(
    repository: Repository, memory: Any, scale: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(memory, 1, "x")
    with pytest.raises(Refused, match="no version"):
        repository.configure([ModelSettings("m", "m")])
    put(memory, 1, "2")
    repository.poll()
    assert not repository.ready()  # not at once: a corrupt 100 MB model must not be read at every look
    import time

    later = time.monotonic() + 3
    monkeypatch.setattr("strongroom.serving.models.repository.time.monotonic", lambda: later)
    repository.poll()
    assert repository.ready()


def test_emptied_folder_does_not_stop_serving(repository: Repository, memory: Any) -> None:
    put(memory, 1, "2")
    repository.configure([ModelSettings("m", "m")])
    memory.files.clear()
    repository.poll()
    assert ask(repository, Chosen("m")) == 2


def test_roll_back_by_policy(repository: Repository, memory: Any) -> None:
    put(memory, 1, "2")
    put(memory, 2, "3")
    repository.configure([ModelSettings("m", "m")])
    assert ask(repository, Chosen("m")) == 3
    repository.configure([ModelSettings("m", "m", policy=VersionPolicy(latest=None, specific=frozenset({1})))])
    assert ask(repository, Chosen("m")) == 2
    assert states(repository) == {2: State.END, 1: State.AVAILABLE}


def test_labels_move_at_once(repository: Repository, memory: Any) -> None:
    put(memory, 1, "2")
    put(memory, 2, "3")
    both = {"policy": ALL_VERSIONS}
    repository.configure([ModelSettings("m", "m", labels={"stable": 1, "canary": 2}, **both)])  # type: ignore[arg-type]
    assert (ask(repository, Chosen("m", label="stable")), ask(repository, Chosen("m", label="canary"))) == (2, 3)
    repository.configure([ModelSettings("m", "m", labels={"stable": 2}, **both)])  # type: ignore[arg-type]
    assert ask(repository, Chosen("m", label="stable")) == 3
    with pytest.raises(InvalidRequest, match="Unrecognized servable version label: canary"):
        repository.find(Chosen("m", label="canary"))


def test_label_of_a_version_that_is_not_there_is_refused_and_labels_stay(repository: Repository, memory: Any) -> None:
    put(memory, 1, "2")
    repository.configure([ModelSettings("m", "m", labels={"stable": 1})])
    with pytest.raises(Refused, match="label stable") as refused:
        repository.configure([ModelSettings("m", "m", labels={"stable": 9})])
    assert refused.value.status is Status.FAILED_PRECONDITION
    assert ask(repository, Chosen("m", label="stable")) == 2


def test_labels_of_a_model_that_was_not_there_at_the_start_come_with_their_versions(
    repository: Repository, memory: Any
) -> None:
    settings = ModelSettings("m", "m", policy=ALL_VERSIONS, labels={"stable": 1, "canary": 2})
    with pytest.raises(Refused):
        repository.configure([settings])
    put(memory, 1, "2")
    repository.poll()
    with pytest.raises(InvalidRequest):
        repository.find(Chosen("m", label="stable"))  # all of them or none
    put(memory, 2, "3")
    repository.poll()
    assert (ask(repository, Chosen("m", label="stable")), ask(repository, Chosen("m", label="canary"))) == (2, 3)


def test_labels_that_were_replaced_while_they_waited_do_not_come_back(repository: Repository, memory: Any) -> None:
    put(memory, 1, "2")
    with pytest.raises(Refused):
        repository.configure([ModelSettings("m", "m", policy=ALL_VERSIONS, labels={"stable": 2})])
    repository.configure([ModelSettings("m", "m", policy=ALL_VERSIONS, labels={"stable": 1})])
    put(memory, 2, "3")
    repository.poll()
    assert ask(repository, Chosen("m", label="stable")) == 2


def test_base_path_outside_the_storage_changes_nothing(repository: Repository, memory: Any) -> None:
    put(memory, 1, "2", "a")
    repository.configure([ModelSettings("a", "a")])
    with pytest.raises(ConfigurationError):
        repository.configure([ModelSettings("b", "../b"), ModelSettings("a", "a")])
    assert repository.names() == ["a"] and repository.ready()
    put(memory, 2, "3", "a")
    repository.poll()
    assert ask(repository, Chosen("a")) == 3


def test_folder_that_can_not_be_read_holds_up_no_other_model(
    repository: Repository, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = memory.names

    def tampered(path: str) -> list[str]:
        if path == "bad":
            raise Tampered("the catalog was changed")
        return list(names(path))

    monkeypatch.setattr(memory, "names", tampered)
    with pytest.raises(Refused, match="model bad has no version"):
        repository.configure([ModelSettings("bad", "bad"), ModelSettings("m", "m")])
    put(memory, 1, "2")
    repository.poll()
    assert ask(repository, Chosen("m")) == 2


def test_models_that_are_no_longer_named_are_dropped(repository: Repository, memory: Any, scale: Any) -> None:
    put(memory, 1, "2", "a")
    put(memory, 1, "3", "b")
    repository.configure([ModelSettings("a", "a")])
    repository.configure([ModelSettings("b", "b")])
    assert repository.names() == ["b"]
    assert scale.engines[0].closed
    with pytest.raises(ModelNotFound, match=r"Servable not found for request: Latest\(a\)"):
        repository.find(Chosen("a"))


def test_changed_limits_reload_the_same_version(repository: Repository, memory: Any, scale: Any) -> None:
    put(memory, 1, "2")
    repository.configure([ModelSettings("m", "m")])
    repository.configure([ModelSettings("m", "m", batching=BatchingLimits())])
    assert len(scale.engines) == 2
    assert [engine.closed for engine in scale.engines] == [True, False]
    assert ask(repository, Chosen("m")) == 2


@pytest.mark.parametrize("chosen", [Chosen("nobody"), Chosen("m", version=9), Chosen("nobody", label="stable")])
def test_unknown_models_and_versions(repository: Repository, memory: Any, chosen: Chosen) -> None:
    put(memory, 1, "2")
    repository.configure([ModelSettings("m", "m")])
    with pytest.raises(ModelNotFound):
        repository.find(chosen)
    with pytest.raises(ModelNotFound):
        repository.status(chosen)


def test_request_under_way_keeps_its_version_until_it_is_answered(
    repository: Repository, memory: Any, scale: Any
) -> None:
    put(memory, 1, "2")
    repository.configure([ModelSettings("m", "m")])
    old = scale.engines[0]
    old.gate.clear()
    old.entered.clear()
    answers: list[float] = []
    asking = threading.Thread(target=lambda: answers.append(ask(repository, Chosen("m"))))
    asking.start()
    assert old.entered.wait(5)
    put(memory, 2, "3")
    polling = threading.Thread(target=repository.poll)
    polling.start()
    deadline = threading.Event()
    while repository.versions("m") != [2]:
        assert not deadline.wait(0.005)
    assert not old.closed
    assert ask(repository, Chosen("m")) == 3  # new requests go to the new version meanwhile
    old.gate.set()
    asking.join(5)
    polling.join(5)
    assert answers == [2]
    assert old.closed


def test_engine_is_not_closed_under_a_request_that_outlives_the_drain(memory: Any, scale: Any) -> None:
    put(memory, 1, "2")
    repository = Repository(memory, [scale], drain_timeout_s=0.01)
    repository.configure([ModelSettings("m", "m")])
    (engine,) = scale.engines
    with repository.lease(Chosen("m")):
        repository.close()
        assert not engine.closed


def test_unknown_engine_is_refused(repository: Repository, memory: Any) -> None:
    put(memory, 1, "2")
    with pytest.raises(Refused):
        repository.configure([ModelSettings("m", "m", engine="torch")])
    assert repository.status(Chosen("m"))[0].message == "serving.engine"


def test_not_ready_without_models_or_with_one_missing(repository: Repository, memory: Any) -> None:
    assert not repository.ready()
    put(memory, 1, "2")
    with pytest.raises(Refused):
        repository.configure([ModelSettings("m", "m"), ModelSettings("n", "n")])
    assert not repository.ready()
    assert ask(repository, Chosen("m")) == 2


def test_version_files_are_read_whole_and_bounded(memory: Any) -> None:
    memory.files["m/1/deep/weights"] = bytes(range(256)) * 40_000
    files = VersionFiles(memory, "m/1")
    assert files.names == {"deep/weights"}
    empty = files.digest()
    assert files.read("deep/weights") == memory.files["m/1/deep/weights"]
    assert files.digest() != empty
    with pytest.raises(FormatError, match="larger"):
        VersionFiles(memory, "m/1", max_file_bytes=5_000_000).read("deep/weights")


@pytest.mark.parametrize("name", ["../2/factor", "/etc/passwd", "deep/../../x"])
def test_version_files_cannot_climb(memory: Any, name: str) -> None:
    with pytest.raises(ConfigurationError):
        VersionFiles(memory, "m/1").read(name)


def test_plain_folder_does_not_follow_links_out_of_itself(tmp_path: Any) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "models/link").symlink_to(tmp_path / "secret")
    storage = DangerousPlaintextFolder(tmp_path / "models")
    with pytest.raises(ConfigurationError):
        storage.open("link")
    with pytest.raises(UnavailableError):
        storage.open("nothing")
    assert storage.names("nothing") == []
