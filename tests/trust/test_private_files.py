"""Files with keys, in a folder that somebody else can write in, too."""

from __future__ import annotations

import stat

import pytest

from isthmus.trust.private_files import write_privately


def mode(path):
    return oct(stat.S_IMODE(path.lstat().st_mode))


@pytest.fixture
def theirs(tmp_path):
    """A file that the attacker may read."""
    found = tmp_path / "theirs"
    found.write_text("before")
    found.chmod(0o666)
    return found


def test_a_file_is_its_owners_alone_and_replaced_whole(tmp_path):
    path = tmp_path / "key.pem"
    write_privately(path, b"one")
    before = path.stat().st_ino

    write_privately(path, b"two")

    assert (path.read_bytes(), mode(path)) == (b"two", "0o600")
    assert path.stat().st_ino != before, "who has the old one open does not see the new one"
    assert [each.name for each in tmp_path.iterdir()] == ["key.pem"]


@pytest.mark.parametrize("name", ["key.pem", "key.pem.new"])
def test_a_link_in_the_way_is_replaced_and_not_followed(tmp_path, theirs, name):
    (tmp_path / name).symlink_to(theirs)

    write_privately(tmp_path / "key.pem", b"secret")

    assert theirs.read_text() == "before"
    assert not (tmp_path / "key.pem").is_symlink()
    assert mode(tmp_path / "key.pem") == "0o600"


@pytest.mark.parametrize("name", ["key.pem", "key.pem.new"])
def test_a_file_in_the_way_that_others_can_read_is_not_written_into(tmp_path, theirs, name):
    (tmp_path / name).hardlink_to(theirs)

    write_privately(tmp_path / "key.pem", b"secret")

    assert theirs.read_text() == "before"
    assert ((tmp_path / "key.pem").read_bytes(), mode(tmp_path / "key.pem")) == (b"secret", "0o600")


def test_two_files_of_one_name_before_the_dot_do_not_meet(tmp_path):
    (tmp_path / "tls.crt.new").mkdir()

    write_privately(tmp_path / "tls.key", b"secret")
    with pytest.raises(OSError, match=r"tls\.crt\.new"):
        write_privately(tmp_path / "tls.crt", b"chain")

    assert (tmp_path / "tls.key").read_bytes() == b"secret"
