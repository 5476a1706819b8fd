"""Files are written whole, where they are meant to be, by one process at a time, and nothing else is touched."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nsnumpy.files import writing
from nsnumpy.files.writing import atomic_path, check_absent, check_distinct, check_folder, locked, numbered_path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, text="new"):
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def test_a_symbolic_link_is_followed_and_stays(folder):
    Path("there").mkdir()
    Path("there/file").write_text("old")
    link = Path("link")
    link.symlink_to("there/file")
    check_folder(link)
    write(link)
    assert link.is_symlink()
    assert Path("there/file").read_text() == "new"
    assert os.listdir("there") == ["file"]
    link.unlink()
    link.symlink_to("no/file")
    with pytest.raises(FileNotFoundError, match=r"no does not exist"):
        check_folder(link)


def test_the_mode_of_a_file_that_is_replaced_stays(folder):
    path = Path("file")
    path.write_text("old")
    path.chmod(0o640)
    write(path)
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o640)
    umask = os.umask(0o027)
    try:
        write(Path("fresh"))
    finally:
        os.umask(umask)
    assert Path("fresh").stat().st_mode & 0o777 == 0o640


def test_what_a_killed_process_left_is_removed_by_the_next(folder):
    path = Path("a.png")
    code = "from nsnumpy.files.writing import atomic_path; from pathlib import Path; import os\n"
    code += "with atomic_path(Path('a.png')) as t: t.write_text('half'); os._exit(1)"
    subprocess.run([sys.executable, "-c", code])
    (left,) = folder.iterdir()
    assert left.name.startswith(".")
    write(Path("b.png"))  # another file's is let be
    assert left.exists()
    with atomic_path(path) as ours:
        ours.write_text("whole")
        write(path, "of a second writer")  # who leaves what a living one is at alone
        assert ours.exists()
    assert {p.name for p in folder.iterdir()} == {"a.png", "b.png"}
    assert path.read_text() == "whole"


def test_a_lock_is_held_by_one_process_and_not_by_a_dead_one(folder):
    path = Path("run.h5")
    code = "from nsnumpy.files.writing import locked; from pathlib import Path; import os, sys, time\n"
    code += "with locked(Path('run.h5'), 'is there'): print('held', flush=True); sys.stdin.read(); os._exit(1)"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match=r"^run\.h5: another run is there; wait"), locked(path, "is there"):
            pass
        with locked(Path("other.h5"), "is there"):
            pass
        other.stdin.close()
        other.wait()
    with locked(path, "is there"):
        assert len(os.listdir()) == 1
    assert os.listdir() == []


def test_a_lock_removed_by_its_owner_meanwhile_is_not_taken_for_held(folder, monkeypatch):
    """The owner removes it between our opening it and our locking it: the next one must see ours."""
    flock, taken = writing.fcntl.flock, []

    def remove_first(file, how):
        if not taken:
            (lock,) = folder.iterdir()
            lock.unlink()
        taken.append(file)
        flock(file, how)

    monkeypatch.setattr(writing.fcntl, "flock", remove_first)
    with locked(Path("a"), "is there"):
        assert len(taken) == 2
        with pytest.raises(ValueError, match="another run"), locked(Path("a"), "is there"):
            pass


def test_one_file_under_two_names(folder):
    Path("a").write_text("")
    os.link("a", "b")
    with pytest.raises(ValueError, match="b: named twice"):
        check_distinct([Path("b")], ["a"])
    check_distinct([Path("c")], ["a"])


def test_numbered_pictures(folder):
    out = Path("out.png")
    assert numbered_path(out, 25) == Path("out-00025.png")
    for name in ("out-00025.png", "out-123456.png", "./out-00025.png"):
        with pytest.raises(ValueError, match="on the way to"):
            check_distinct([out], [name], numbered=out)
    check_distinct([out], ["out-25.png", "out-00025.jpg", "b-00025.png", "there/out-00025.png"], numbered=out)
    check_absent([out], numbered=out)
    Path("out-00025.png").write_text("")
    check_absent([out])
    with pytest.raises(ValueError, match="out-00025.png: is there already"):
        check_absent([out], numbered=out)
    Path("out.png").symlink_to("nowhere")
    with pytest.raises(ValueError, match=r"out\.png: is there already"):
        check_absent([out])


def test_signals_are_held_back_until_the_end_and_from_processes_that_begin():
    """One that comes in the middle is heard at the end, once, whatever its number."""
    code = """
import os, signal, subprocess, sys
from nsnumpy.files.writing import held_back
signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    with held_back():
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        os.kill(child.pid, signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        print("to the end", flush=True)
    print("not heard")
except KeyboardInterrupt:
    try:
        child.wait(0.5)
        print("the child heard it")
    except subprocess.TimeoutExpired:
        child.kill()
        print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("to the end\ninterrupted\n", "")
