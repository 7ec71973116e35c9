"""The log that everything is kept in: what was told is there, or the file says that it is damaged."""

import errno
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetcast.errors import TargetError, UsageError
from localcloud.durable.folder import Folder
from localcloud.durable.log import Log, NotKeptError
from localcloud.durable.readers import KeptReaders, Place

ENTRIES = st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=12)


def told(folder: Path) -> list[bytes]:
    return [entry for _, entry in Log(folder).entries()]


def only_file(folder: Path) -> Path:
    (file,) = folder.glob("*.log")
    return file


@given(ENTRIES, st.integers(1, 64))
def test_entries_come_back_in_order_from_however_many_segments(entries, segment_bytes):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        log = Log(folder, segment_bytes)
        segments = [log.append([entry]) for entry in entries]
        assert segments == sorted(segments)
        assert list(Log(folder).entries()) == list(zip(segments, entries, strict=True))


@given(ENTRIES, st.data())
def test_what_was_cut_off_at_the_end_is_all_that_is_missing(entries, data):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        log = Log(folder)
        ends = []
        for entry in entries:
            log.append([entry])
            ends.append(only_file(folder).stat().st_size)
        cut = data.draw(st.integers(0, ends[-1]))
        os.truncate(only_file(folder), cut)
        whole = [entry for entry, end in zip(entries, ends, strict=True) if end <= cut]
        assert told(folder) == whole
        # What comes after is not behind the rest of a torn entry.
        Log(folder).append([b"later"])
        assert told(folder) == [*whole, b"later"]


def test_zeros_that_a_file_system_left_at_the_end_are_no_entries(tmp_path):
    Log(tmp_path).append([b"one"])
    with only_file(tmp_path).open("ab") as file:
        file.write(bytes(4096))
    assert told(tmp_path) == [b"one"]


@given(st.data())
def test_a_byte_that_changed_before_the_end_is_told_of(data):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        log = Log(folder, segment_bytes=40)
        for number in range(4):
            log.append([f"entry number {number}".encode()])
        first = min(folder.glob("*.log"))
        content = bytearray(first.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= 0xFF
        first.write_bytes(content)
        with pytest.raises(TargetError, match=rf"{first.name} is damaged at byte \d+"):
            told(folder)


def test_an_entry_that_finds_no_room_leaves_the_others_whole(tmp_path, monkeypatch):
    log = Log(tmp_path)
    log.append([b"kept"])
    write = os.write

    def half(file, content):
        if len(content) > 8:
            return write(file, content[:8])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(NotKeptError, match="No space left on device") as refused:
        log.append([b"not kept"])
    assert refused.value.status == 500
    monkeypatch.undo()
    log.append([b"kept again"])
    assert told(tmp_path) == [b"kept", b"kept again"]


def test_nobody_else_may_read_what_is_kept(tmp_path):
    folder = Folder(tmp_path / "data", "us-east-1", "123456789012")
    folder.log("requests").append([b"secret"])
    assert folder.path.stat().st_mode & 0o077 == 0
    assert only_file(folder.path / "requests").stat().st_mode & 0o077 == 0


def test_a_folder_is_open_once_and_of_one_region(tmp_path):
    folder = Folder(tmp_path / "data", "us-east-1", "123456789012")
    with pytest.raises(TargetError, match="another local cloud has it open"):
        Folder(tmp_path / "data", "us-east-1", "123456789012")
    folder.close()
    with pytest.raises(UsageError, match="made with region us-east-1"):
        Folder(tmp_path / "data", "eu-west-1", "123456789012")
    Folder(tmp_path / "data", "us-east-1", "123456789012").close()


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(UsageError, match=r"holds thesis\.tex"):
        Folder(tmp_path, "us-east-1", "123456789012")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("name", ["..", ".", "a/b", "%2E%2E"])
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    folder = Folder(tmp_path / "data", "us-east-1", "123456789012")
    folder.log("streams", name).append([b"x"])
    assert [one.name for one in (tmp_path / "data" / "streams").iterdir()] != []
    folder.keep_only("streams", [name])
    assert told(folder._place("streams", name)) == [b"x"]
    folder.forget("streams", name)
    assert list((tmp_path / "data" / "streams").iterdir()) == []


MOVES = st.lists(
    st.one_of(
        st.tuples(
            st.just("moved"),
            st.sampled_from("st"),
            st.sampled_from("ab"),
            st.sampled_from("12"),
            st.integers(0, 9),
        ),
        st.tuples(st.just("gone"), st.sampled_from("st"), st.sampled_from(["a", "b", None])),
    ),
    max_size=30,
)


@given(MOVES, st.integers(1, 200))
def test_places_of_readers_outlive_every_segment(moves, segment_bytes):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        readers = KeptReaders(Log(folder, segment_bytes))
        expected: dict = {}
        for kind, stream, reader, *rest in moves:
            if kind == "moved":
                shard, position = rest
                readers.moved(stream, reader, shard, Place(position, {"at": position}))
                expected[stream, reader, shard] = Place(position, {"at": position})
            else:
                readers.forget(stream, reader)
                for key in [k for k in expected if k[0] == stream and reader in (None, k[1])]:
                    del expected[key]
        again = KeptReaders(Log(folder, segment_bytes))
        found = {
            (stream, reader, shard): place
            for stream in "st"
            for reader, shards in again.of(stream).items()
            for shard, place in shards.items()
        }
        assert found == expected
        assert len(list(folder.glob("*.log"))) <= 2
