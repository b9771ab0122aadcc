"""Names of runs: ids, starts of ids, `latest`, champions and aliases."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mnist_bp.errors import ConfigError, MnistBpError, StoreError
from mnist_bp.registry.names import resolve_run
from tests.registry.test_champion import CountingStore
from tests.support.memory_store import MemoryStore
from tests.support.published_runs import promote, publish, run_id_of

ID = "20261125T072013Z-1d4ef8bd"
TWIN = "20261125T072013Z-1d4ef8be"
LATER = "20261125T073000Z-00000000"


@pytest.fixture
def store() -> MemoryStore:
    """A store with three runs on mnist, the last of which is incomplete, and one of the month before on kmnist."""
    store = MemoryStore()
    publish(store, "20261001T000000Z-00000000", "kmnist")
    publish(store, ID)
    publish(store, TWIN)
    publish(store, LATER, manifest=False)
    return store


def error_of(store: MemoryStore, name: str, kind: type[MnistBpError]) -> str:
    with pytest.raises(kind) as caught:
        resolve_run(store, name)
    assert type(caught.value) is kind
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_an_id_means_its_run_without_a_request() -> None:
    store = CountingStore()
    assert resolve_run(store, ID) == ID
    assert store.requests == {}


@pytest.mark.parametrize("prefix", [LATER[:-1], "20261125T0730", "202610", "20261001", LATER])
def test_the_start_of_an_id_means_the_only_run_that_has_it(prefix: str, store: MemoryStore) -> None:
    assert resolve_run(store, prefix).startswith(prefix)


def test_a_start_that_several_runs_have_is_refused_with_their_ids(store: MemoryStore) -> None:
    assert error_of(store, "20261125T072", ConfigError) == (
        f"run 20261125T072: several ids begin with it, expected one: {ID}, {TWIN}; give more characters"
    )
    for number in range(20):
        publish(store, f"20261130T0000{number:02}Z-00000000")
    message = error_of(store, "202611", ConfigError)
    assert message.count("Z-") == 4
    assert ", ...; give more characters" in message


def test_a_run_of_this_machine_counts_as_a_candidate_and_once(store: MemoryStore) -> None:
    local = ["20261125T0731" + LATER[13:], "20261009T000000Z-00000000", ID]
    assert resolve_run(store, "2026100", [local[0], ID]) == "20261001T000000Z-00000000"
    assert resolve_run(store, "20261001", ["20261001T000000Z-00000000"]) == "20261001T000000Z-00000000"
    assert resolve_run(store, "20261009", local) == local[1]
    with pytest.raises(ConfigError, match=r"expected one: 20261125T073000Z-00000000, 20261125T073100Z-00000000"):
        resolve_run(store, "20261125T073", local)


@pytest.mark.parametrize("short", ["2", "20261"])
def test_a_start_of_fewer_than_6_characters_is_refused_without_a_request(short: str) -> None:
    store = CountingStore()
    assert error_of(store, short, ConfigError) == (
        f"run {short}: expected an id, or at least 6 characters of its start"
    )
    assert store.requests["read"] == 0


def test_a_start_that_no_run_has_is_refused(store: MemoryStore) -> None:
    assert error_of(store, "202512", StoreError) == (
        "memory://runs/: no run has an id that begins with 202512; see mnist-bp runs"
    )


@pytest.mark.parametrize("name", ["", "../x", "x/y", "20261125T072013Z-1d4ef8bd0", "RUN", "20261125t07"])
def test_another_name_is_answered_with_the_nearest_ids(name: str, store: MemoryStore) -> None:
    assert "no such run; the nearest are 2026" in error_of(store, name, StoreError)


def test_latest_is_the_newest_complete_run_that_is_not_of_the_future(store: MemoryStore) -> None:
    store = MemoryStore()
    assert error_of(store, "latest", StoreError) == "memory://runs/: no run is complete yet; run mnist-bp train"
    old = publish(store, "19990101T000000Z-00000000")
    assert resolve_run(store, "latest") == old
    new = publish(store, "20240101T000000Z-00000000")
    publish(store, "20240102T000000Z-00000000", manifest=False)
    publish(store, "29990101T000000Z-00000000")
    assert resolve_run(store, "latest") == new
    skewed = publish(store, "20261231T235959Z-00000000")
    assert resolve_run(store, "latest", now=datetime(2026, 12, 31, tzinfo=UTC)) == skewed
    assert resolve_run(store, "latest", now=datetime(2026, 12, 30, tzinfo=UTC)) == new
    assert resolve_run(store, "latest", now=datetime(2027, 1, 1, tzinfo=UTC)) == skewed
    assert resolve_run(store, "latest", now=datetime(2029, 1, 1, tzinfo=UTC)) == skewed


def test_champion_means_the_only_one_and_with_a_dataset_its_own(store: MemoryStore) -> None:
    assert promote(store, TWIN)
    assert resolve_run(store, "champion") == resolve_run(store, "champion:mnist") == TWIN
    assert promote(store, "20261001T000000Z-00000000", "kmnist")
    assert resolve_run(store, "champion:kmnist") == "20261001T000000Z-00000000"
    assert error_of(store, "champion", ConfigError) == "champion: expected one of champion:kmnist, champion:mnist"


def test_without_a_champion_the_error_states_how_to_get_one(store: MemoryStore) -> None:
    assert error_of(store, "champion", StoreError) == (
        "memory://champion/: there is no champion yet: the first run on a dataset becomes its champion; "
        "run mnist-bp train"
    )
    message = error_of(store, "champion:fashion-mnist", StoreError)
    assert "no champion of fashion-mnist yet" in message
    assert message.endswith("run mnist-bp train --dataset fashion-mnist")


def test_a_name_that_nothing_has_is_refused_with_what_is_expected(store: MemoryStore) -> None:
    assert error_of(store, "best", StoreError) == (
        "memory://runs/: no run has the name 'best': expected a run id, latest, champion or an alias; "
        "there are no aliases; see mnist-bp runs"
    )


def test_the_ids_of_made_up_runs_are_ids() -> None:
    assert resolve_run(MemoryStore(), run_id_of(1)) == run_id_of(1)
