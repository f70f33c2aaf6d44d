"""A command in a process of its own: streams that fail, encodings that lack characters, signals."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time

import onnx
import pytest
from projects import network

import onnxprune.cli.app
import onnxprune.reductions.channels.find
from onnxprune.cli import main, run

PASSES, FAILS = (f'[[check.models]]\npath = "*.onnx"\nsize = "{size}"\n' for size in ("1 MB", "1 B"))


@pytest.fixture
def folder(tmp_path):
    onnx.save(network(), tmp_path / "a.onnx")
    onnx.save(network(width=9), tmp_path / "b.onnx")
    (tmp_path / "onnxprune.toml").write_text(PASSES)
    return tmp_path


class Forked:
    """The entry point, called in a fork of this process.

    Args:
        folder: to run in.
        arguments: of the command.
        stdout: a descriptor; -1: closed; by default a pipe.
        encoding: that Python has chosen for stdout.
        first: what the fork does first.
    """

    def __init__(self, folder, *arguments, stdout=None, encoding="utf-8", first=lambda: None):
        self._out, out = os.pipe()
        self._err, err = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 99
            try:
                os.chdir(folder)
                os.dup2(out if stdout in (None, -1) else stdout, 1)
                os.dup2(err, 2)
                for handle in (self._out, self._err, out, err):
                    os.close(handle)
                sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), encoding)
                sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), "utf-8")
                if stdout == -1:
                    os.close(1)
                    os.close(2)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                sys.argv = ["onnxprune", *arguments]
                first()
                main()
            except SystemExit as end:
                code = int(end.code or 0)
            finally:
                os._exit(code)
        os.close(out)
        os.close(err)

    def wait(self):
        """Its exit code, and what it said."""
        said = []
        for handle in (self._out, self._err):
            with os.fdopen(handle, "rb") as file:
                said.append(file.read())
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]), *said


@pytest.mark.parametrize(("config", "code"), [(PASSES, 0), (FAILS, 1)])
def test_a_reader_that_goes_away_changes_nothing(folder, config, code):
    """As with `| head`: the verdict is the same, and nothing is said of pipes."""
    (folder / "onnxprune.toml").write_text(config)
    read, write = os.pipe()
    os.close(read)
    process = Forked(folder, "check", stdout=write)
    os.close(write)
    assert process.wait() == (code, b"", b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")  # noqa: PTH110
@pytest.mark.parametrize(
    "command", [("check",), ("inspect", "a.onnx", "--json"), ("diff", "a.onnx", "b.onnx"), ("--help",)]
)
def test_a_full_disk_is_told(folder, command):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        code, _, err = Forked(folder, *command, stdout=full.fileno()).wait()
    said = [line for line in err.splitlines() if not line.endswith(b" ...")]
    assert (code, said) == (2, [b"onnxprune: standard output: can't be written (No space left on device)"])


@pytest.mark.parametrize(("config", "code"), [(PASSES, 0), (FAILS, 1)])
def test_streams_that_are_closed(folder, config, code):
    (folder / "onnxprune.toml").write_text(config)
    assert Forked(folder, "check", stdout=-1).wait() == (code, b"", b"")


@pytest.mark.parametrize("encoding", ["cp1252", "cp437"])
def test_encodings_that_lack_characters(folder, encoding):
    code, out, err = Forked(folder, "diff", "b.onnx", "a.onnx", "--markdown", encoding=encoding).wait()
    assert (code, err) == (0, b"")
    assert b"-128 B (-9.2%)" in out, "a minus sign that is none would be a wrong number"
    for command in (("check",), ("check", "--format", "markdown"), ("diff", "a.onnx", "b.onnx")):
        code, out, err = Forked(folder, *command, encoding=encoding).wait()
        assert (code, err) == (0, b"")
        out.decode(encoding)


PRUNE = ("prune", "a.onnx", "-o", "out.onnx", "--ratio", "0.5", "--force", "--quiet")


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGTERM, 143, b"terminated"),
        (signal.SIGHUP, 129, b"terminated"),
        (signal.SIGINT, 130, b"interrupted"),
    ],
)
def test_signals_while_writing(folder, number, code, said):
    before = sorted(folder.iterdir())

    def wait(handle):
        time.sleep(60)

    process = Forked(folder, *PRUNE, first=lambda: setattr(os, "fsync", wait))
    for _ in range(600):  # until it has begun to write
        if sorted(folder.iterdir()) != before:
            break
        time.sleep(0.05)
    assert sorted(folder.iterdir()) != before
    time.sleep(0.1)
    os.kill(process.pid, number)
    assert process.wait() == (code, b"", b"onnxprune: " + said + b"\n")
    assert sorted(folder.iterdir()) == before


def test_signals_that_are_to_be_ignored_are(folder):
    """As under nohup."""

    def first():
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        os.kill(os.getpid(), signal.SIGHUP)

    assert Forked(folder, "check", first=first).wait()[0] == 0


IMPORTING = """
import os, signal, sys
class Finder:
    def find_spec(self, name, *rest):
        if name == "onnx":
            os.kill(os.getpid(), int(sys.argv[1]))
sys.meta_path.insert(0, Finder())
signal.signal(signal.SIGINT, signal.default_int_handler)
from onnxprune.cli import main
main()
"""


def program(text, *arguments):
    """What a program does in a Python of its own."""
    command = [sys.executable, "-c", text, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")],
)
def test_signals_while_importing(number, code, said):
    assert program(IMPORTING, str(int(number))) == (code, "", f"onnxprune: {said}\n")


def test_the_entry_point_imports_next_to_nothing():
    """What takes a second is imported by the command line itself, within reach of signals."""
    text = "import sys, onnxprune.cli; print([m for m in ('numpy', 'onnx', 'typer') if m in sys.modules])"
    assert program(text) == (0, "[]\n", "")


def test_the_package_gives_what_it_lists():
    assert all(getattr(onnxprune, name).__name__ == name for name in onnxprune.__all__)
    with pytest.raises(AttributeError):
        onnxprune.nothing  # noqa: B018


def test_out_of_memory_names_what_was_going_on(folder, monkeypatch, capsys):
    def nothing_left(*_, **__):
        raise MemoryError

    monkeypatch.chdir(folder)
    monkeypatch.setattr(onnxprune.reductions.channels.find, "Walk", nothing_left)
    assert run(list(PRUNE)) == 3
    assert capsys.readouterr().err.startswith("onnxprune: out of memory while cutting the model; take fewer")
