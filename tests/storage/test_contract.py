"""Stores: one contract for a directory and for every installed S3 server, and the errors of each."""

from __future__ import annotations

import errno
import json
import os
import re
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from mnist_bp.cli.main import main
from mnist_bp.errors import ChecksumError, ConflictError, StoreError
from mnist_bp.storage.address import open_store
from mnist_bp.storage.interface import Store
from mnist_bp.storage.probe import probe
from mnist_bp.storage.reading import sha256_of_bytes
from tests.support.s3_servers import S3Server, free_endpoint
from tests.support.store_files import error_of, local_file, put

PREFIX: Final = "some/prefix"
SIZES: Final = (0, 1, 1 << 20)

ACTIONS: Final[dict[str, Callable[[Store], object]]] = {
    "put": lambda store: put(store, "key", b"content"),
    "get": lambda store: store.get("key"),
    "check_writable": lambda store: store.check_writable(),
}
each_action = pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)


class StoreContract:
    """Claims about every store. Subclasses provide its address, and access to its files without the store."""

    @pytest.fixture
    def address(self) -> str:
        raise NotImplementedError

    @pytest.fixture
    def listing(self) -> Callable[[], list[str]]:
        """Lists all files of the place, including hidden ones."""
        raise NotImplementedError

    @pytest.fixture
    def honours_conditions(self) -> bool:
        """Whether the store refuses a write whose condition does not hold."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, address: str) -> Store:
        return open_store(address)

    @pytest.mark.parametrize("size", SIZES)
    def test_get_and_stream_return_the_bytes_that_were_put(self, store: Store, size: int) -> None:
        content = os.urandom(size)
        put(store, "deep/down/file.bin", content)
        assert store.get("deep/down/file.bin") == content
        assert b"".join(store.stream("deep/down/file.bin")) == content

    @pytest.mark.parametrize("size", SIZES)
    def test_stream_starts_at_the_given_byte(self, store: Store, size: int) -> None:
        content = os.urandom(size)
        put(store, "file.bin", content)
        for start in {0, size // 3, max(size - 1, 0)}:
            assert b"".join(store.stream("file.bin", start)) == content[start:]

    @pytest.mark.parametrize("size", SIZES)
    def test_stream_from_the_end_is_empty(self, store: Store, size: int) -> None:
        put(store, "file.bin", bytes(size))
        assert list(store.stream("file.bin", size)) == []

    def test_a_large_file_is_streamed_in_chunks(self, store: Store) -> None:
        put(store, "file.bin", bytes(1 << 20))
        assert len(list(store.stream("file.bin"))) > 1

    def test_a_local_file_is_put_like_bytes(self, store: Store) -> None:
        content = os.urandom(1000)
        store.put("file.bin", local_file(content), sha256_of_bytes(content))
        assert store.get("file.bin", sha256_of_bytes(content)) == content

    def test_the_same_bytes_put_again_are_not_written(
        self, store: Store, address: str, listing: Callable[[], list[str]]
    ) -> None:
        put(store, "file.txt", b"content")
        first = list(store.list_entries())
        put(store, "file.txt", b"content")
        put(open_store(address), "file.txt", b"content")
        assert listing() == [f"{PREFIX}/file.txt"]
        assert list(store.list_entries()) == first

    def test_other_bytes_under_the_same_name_are_refused_and_the_first_stay(self, store: Store) -> None:
        put(store, "file.txt", b"the first")
        with pytest.raises(ConflictError) as caught:
            put(store, "file.txt", b"the other")
        for what in (store.uri("file.txt"), sha256_of_bytes(b"the first"), sha256_of_bytes(b"the other")):
            assert what in str(caught.value)
        assert not caught.value.transient
        assert store.get("file.txt") == b"the first"

    def test_a_source_that_differs_from_its_digest_is_not_stored(
        self, store: Store, listing: Callable[[], list[str]]
    ) -> None:
        for source in (b"content", local_file(b"content")):
            with pytest.raises(ChecksumError):
                store.put("file.txt", source, sha256_of_bytes(b"other content"))
        assert listing() == []

    def test_get_does_not_return_bytes_that_differ_from_the_digest(self, store: Store) -> None:
        put(store, "file.txt", b"content")
        with pytest.raises(ChecksumError) as caught:
            store.get("file.txt", sha256_of_bytes(b"other content"))
        assert store.uri("file.txt") in str(caught.value)

    def test_a_listing_has_the_keys_in_order_with_sizes_and_times(self, store: Store) -> None:
        for key in ("runs/b/2", "runs/a", "champion/x", "runs/b/1", "runs-of-others/x", "runs/b-b"):
            put(store, key, key.encode())
        found = list(store.list_entries("runs/"))
        assert [entry.key for entry in found] == ["runs/a", "runs/b-b", "runs/b/1", "runs/b/2"]
        assert [entry.size for entry in found] == [len(entry.key) for entry in found]
        assert all(abs(datetime.now(UTC) - entry.modified) < timedelta(minutes=1) for entry in found)
        assert len(list(store.list_entries())) == 6
        assert [entry.key for entry in store.list_entries("runs/b")] == ["runs/b-b", "runs/b/1", "runs/b/2"]
        assert list(store.list_entries("none/")) == []

    def test_delete_removes_one_file_and_may_be_repeated(self, store: Store) -> None:
        put(store, "deep/a", b"a")
        put(store, "deep/b", b"b")
        for _ in range(2):
            store.delete("deep/a")
            assert [entry.key for entry in store.list_entries()] == ["deep/b"]
        put(store, "deep/a", b"another")
        assert store.get("deep/a") == b"another"

    def test_read_of_a_missing_file_is_none(self, store: Store) -> None:
        assert store.read("champion/x.json") is None

    def test_create_stores_bytes_under_a_free_key_only(self, store: Store, honours_conditions: bool) -> None:
        assert store.create("champion/x.json", b"1")
        assert store.read("champion/x.json") == b"1"
        assert store.create("champion/x.json", b"2") is not honours_conditions
        assert store.read("champion/x.json") == (b"1" if honours_conditions else b"2")
        store.delete("champion/x.json")
        assert store.create("champion/x.json", b"3")

    def test_probe_finds_which_conditions_the_store_honours(self, store: Store, honours_conditions: bool) -> None:
        found = {capability.name: capability.ok for capability in probe(store)}
        assert found == {
            "authentication and write": True,
            "read back": True,
            "list after write": True,
            "list in order and pages": True,
            "conditional create": honours_conditions,
            "delete": True,
        }
        assert store.supports_conditional_writes() is honours_conditions

    def test_probing_leaves_no_file_behind(self, store: Store, listing: Callable[[], list[str]]) -> None:
        probe(store)
        store.supports_conditional_writes()
        assert listing() == []

    def test_leftovers_of_a_killed_probe_are_hidden_and_removed_when_they_are_old(
        self, store: Store, listing: Callable[[], list[str]]
    ) -> None:
        put(store, ".mnist-bp-probe-0.tmp", b"")
        put(store, "champion/.mnist-bp-probe-1.tmp", b"")
        put(store, "runs/file", b"")
        assert [entry.key for entry in store.list_entries()] == ["runs/file"]
        names = sorted(store.uri(key) for key in (".mnist-bp-probe-0.tmp", "champion/.mnist-bp-probe-1.tmp"))
        assert store.remove_leftovers(datetime.now(UTC) - timedelta(hours=1)) == []
        soon = datetime.now(UTC) + timedelta(hours=1)
        assert store.remove_leftovers(soon, dry_run=True) == names
        assert len(listing()) == 3
        assert store.remove_leftovers(soon) == names
        assert listing() == [f"{PREFIX}/runs/file"]

    def test_keys_with_spaces_umlauts_and_percent_signs_are_distinct(self, store: Store) -> None:
        keys = ["a b.txt", "a+b.txt", "a%20b.txt", "ä b#c?d.txt"]
        for key in keys:
            put(store, key, key.encode())
        assert [store.get(key).decode() for key in keys] == keys

    def test_put_leaves_only_the_file(self, store: Store, listing: Callable[[], list[str]]) -> None:
        put(store, "deep/file.txt", b"content")
        assert listing() == [f"{PREFIX}/deep/file.txt"]

    @pytest.mark.parametrize("start", [0, 5])
    def test_a_missing_key_is_named_and_not_transient(self, store: Store, start: int) -> None:
        error = error_of(lambda: list(store.stream("nowhere.txt", start)))
        assert store.uri("nowhere.txt") in str(error)
        assert not error.transient
        assert not error_of(lambda: store.get("nowhere.txt")).transient

    def test_a_missing_local_file_is_named_and_not_transient(self, store: Store) -> None:
        error = error_of(lambda: store.put("file.txt", Path("never-written"), sha256_of_bytes(b"")))
        assert "never-written" in str(error)
        assert not error.transient

    def test_the_uri_of_a_directory_opens_a_store_of_its_files(self, store: Store, address: str) -> None:
        assert store.uri("deep/file.txt") == f"{address}/deep/file.txt"
        put(store, "deep/file.txt", b"content")
        assert open_store(store.uri("deep")).get("file.txt") == b"content"

    def test_many_threads_can_put_the_same_bytes(self, store: Store) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: put(store, "file.txt", b"content"), range(4)))
        assert store.get("file.txt") == b"content"

    def test_of_many_threads_that_put_different_bytes_one_wins(self, store: Store, honours_conditions: bool) -> None:
        if not honours_conditions:
            pytest.skip("a store that ignores conditions overwrites in a race")

        def stored(number: int) -> bool:
            try:
                put(store, "file.txt", b"%d" % number)
            except ConflictError:
                return False
            return True

        with ThreadPoolExecutor(4) as pool:
            won = list(pool.map(stored, range(4)))
        assert sorted(won) == [False, False, False, True]
        assert store.get("file.txt") == b"%d" % won.index(True)

    def test_store_check_succeeds_only_if_champions_can_be_moved_safely(
        self, store: Store, address: str, honours_conditions: bool, capsys: pytest.CaptureFixture[str]
    ) -> None:
        store.check_writable()  # a directory must exist
        assert main(["store", "check", "--artifacts", address, "--json"]) == (0 if honours_conditions else 1)
        report = json.loads(capsys.readouterr().out)
        assert (report["takes_runs"], report["takes_champions"]) == (True, honours_conditions)
        assert main(["store", "check", "--artifacts", address]) == (0 if honours_conditions else 1)
        refused = "rollback refuse it without --allow-unsafe-promotion" in capsys.readouterr().out
        assert refused is not honours_conditions

    def test_check_writable_leaves_nothing_behind(self, store: Store, listing: Callable[[], list[str]]) -> None:
        store.check_writable()
        assert listing() == []
        put(store, "file.txt", b"content")
        store.check_writable()
        assert listing() == [f"{PREFIX}/file.txt"]


class TestLocalStore(StoreContract):
    @pytest.fixture
    def honours_conditions(self) -> bool:
        return True

    @pytest.fixture
    def address(self, tmp_path: Path) -> str:
        return str(tmp_path / "place" / PREFIX)

    @pytest.fixture
    def listing(self, tmp_path: Path) -> Callable[[], list[str]]:
        place = tmp_path / "place"
        return lambda: [str(path.relative_to(place)) for path in place.rglob("*") if not path.is_dir()]

    def test_an_unreadable_directory_is_an_error_and_not_empty(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        put(store, "deep/down/file.txt", b"content")
        scandir = os.scandir

        def refuse(path: str) -> Any:
            if path.endswith("down"):
                raise PermissionError(errno.EACCES, "Permission denied", path)
            return scandir(path)

        monkeypatch.setattr(os, "scandir", refuse)
        refused = str(error_of(lambda: list(store.list_entries())))
        assert f"{store.uri('deep/down')}: Permission denied; check the address" in refused

    def test_a_writable_but_unreadable_directory_is_refused_before_there_is_work(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(path: str) -> Any:
            raise PermissionError(errno.EACCES, "Permission denied", path)

        monkeypatch.setattr(os, "scandir", refuse)
        assert "Permission denied; check the address" in str(error_of(store.check_writable))

    def test_a_file_in_place_of_the_directory_is_an_error_and_not_empty(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        store = open_store(str(tmp_path / "file"))
        assert "Not a directory" in str(error_of(lambda: list(store.list_entries())))
        assert "Not a directory" in str(error_of(lambda: list(store.list_entries("runs/"))))
        assert list(open_store(str(tmp_path / "nothing")).list_entries()) == []
        assert list(open_store(str(tmp_path)).list_entries("file/")) == []


class TestS3Store(StoreContract):
    @pytest.fixture
    def honours_conditions(self, s3_server: S3Server) -> bool:
        return s3_server.honours_conditions

    @pytest.fixture
    def address(self, s3_bucket: str) -> str:
        return f"s3://{s3_bucket}/{PREFIX}"

    @pytest.fixture
    def listing(self, s3_admin: Any, s3_bucket: str) -> Callable[[], list[str]]:
        return lambda: [entry["Key"] for entry in s3_admin.list_objects_v2(Bucket=s3_bucket).get("Contents", [])]

    @pytest.fixture
    def refusal(self, s3_server: S3Server) -> Callable[[Callable[[], object]], StoreError]:
        """Like `error_of`; checks that a traceback would show no secret."""

        def checked(action: Callable[[], object]) -> StoreError:
            error = error_of(action)
            for secret in (s3_server.secret_key, os.environ.get("AWS_SECRET_ACCESS_KEY")):
                assert secret is None or secret not in "".join(traceback.format_exception(error))
            return error

        return checked

    def test_all_pages_of_a_long_listing_are_read(self, store: Store) -> None:
        keys = [f"many/{number:04}" for number in range(21)]
        for key in keys:
            put(store, key, b"")
        assert [entry.key for entry in store.list_entries("many/", page_size=10)] == keys

    @pytest.mark.parametrize("source", [lambda content: content, local_file], ids=["bytes", "file"])
    def test_a_large_file_is_put_once_with_its_media_type(
        self, source: Callable[[bytes], Path | bytes], store: Store, s3_admin: Any, s3_bucket: str
    ) -> None:
        content = os.urandom((10 << 20) + 1)
        sha256 = sha256_of_bytes(content)
        for _ in range(2):
            store.put("big.json", source(content), sha256)
        assert store.get("big.json", sha256) == content
        about = s3_admin.head_object(Bucket=s3_bucket, Key=f"{PREFIX}/big.json")
        assert about["ContentType"] == "application/json"
        with pytest.raises(ConflictError):
            put(store, "big.json", content[:-1])

    @each_action
    def test_the_error_for_a_missing_bucket_says_to_create_it(
        self, action: Callable[[Store], object], s3_bucket: str, refusal: Callable[..., StoreError]
    ) -> None:
        error = refusal(lambda: action(open_store("s3://no-such-bucket/prefix")))
        assert "s3://no-such-bucket/prefix/" in str(error)
        assert re.search(r"NoSuchBucket \(HTTP 404\).*; create the bucket or correct the address", str(error))
        assert not error.transient

    @each_action
    def test_the_error_for_a_wrong_access_key_says_to_check_it(
        self,
        action: Callable[[Store], object],
        address: str,
        refusal: Callable[..., StoreError],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "another-user")
        error = refusal(lambda: action(open_store(address)))
        assert "; check AWS_ACCESS_KEY_ID" in str(error)  # HTTP 403, from versitygw 404
        assert not error.transient

    @each_action
    def test_the_error_for_a_wrong_secret_says_to_check_it(
        self,
        action: Callable[[Store], object],
        address: str,
        refusal: Callable[..., StoreError],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-what-the-server-knows")
        error = refusal(lambda: action(open_store(address)))
        assert re.search(r"\(HTTP 403\).*; check AWS_SECRET_ACCESS_KEY", str(error))
        assert not error.transient

    @pytest.mark.parametrize("missing", [["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], ["AWS_SECRET_ACCESS_KEY"]])
    def test_the_error_for_missing_credentials_says_to_set_them(
        self, missing: list[str], address: str, refusal: Callable[..., StoreError], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in missing:
            monkeypatch.delenv(name)
        error = refusal(lambda: ACTIONS["put"](open_store(address)))
        assert "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in str(error)
        assert not error.transient

    def test_each_store_reads_the_credentials_again(self, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
        open_store(address).check_writable()
        with monkeypatch.context() as wrong:
            wrong.setenv("AWS_SECRET_ACCESS_KEY", "expired")
            with pytest.raises(StoreError):
                open_store(address).check_writable()
        open_store(address).check_writable()

    @each_action
    def test_an_endpoint_without_a_listener_is_transient(
        self,
        action: Callable[[Store], object],
        address: str,
        refusal: Callable[..., StoreError],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        endpoint = free_endpoint()
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        error = refusal(lambda: action(open_store(address, attempts=1)))
        assert endpoint in str(error)
        assert "check AWS_ENDPOINT_URL_S3" in str(error)
        assert error.transient

    @pytest.mark.parametrize("endpoint", ["localhost:9000", "nonsense"])
    def test_an_endpoint_that_is_not_an_address_is_named_and_not_transient(
        self, endpoint: str, address: str, refusal: Callable[..., StoreError], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        error = refusal(lambda: open_store(address).check_writable())
        assert endpoint in str(error)
        assert "AWS_ENDPOINT_URL_S3" in str(error)
        assert not error.transient

    def test_a_password_in_the_endpoint_is_not_repeated(self, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", free_endpoint().replace("//", "//user:hunter2@"))
        assert "hunter2" not in str(error_of(lambda: open_store(address, attempts=1).check_writable()))
