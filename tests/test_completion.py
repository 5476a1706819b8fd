"""What the shells offer: each one that is installed is asked itself."""

import argparse
import shlex
import shutil
import subprocess

import pytest

from nsnumpy import sample_names
from nsnumpy.cli.completion import _commands, completion
from nsnumpy.cli.main import main, parser

COMMANDS = dict(_commands("nsnumpy", parser()))


def ask_bash(script, folder, lines):
    """What is offered for the last word of each line."""
    code = [script]
    for words in lines:
        quoted = " ".join(map(shlex.quote, words))
        code.append(f'COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _nsnumpy; echo "${{COMPREPLY[*]}}"')
    command = ["bash", "--norc", "-c", "\n".join(code)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    return [line.split() for line in done.stdout.splitlines()]


def ask_fish(script, folder, lines):
    code = [script, *(f"complete -C {shlex.quote(' '.join(words))}; echo @" for words in lines)]
    command = ["fish", "--no-config", "-c", "\n".join(code)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    return [[line.partition("\t")[0] for line in block.splitlines()] for block in done.stdout.split("@\n")[:-1]]


SHELLS = [
    pytest.param(name, ask, marks=pytest.mark.skipif(not shutil.which(name), reason=f"no {name} here"))
    for name, ask in (("bash", ask_bash), ("fish", ask_fish))
]


@pytest.mark.parametrize(("shell", "ask"), SHELLS)
def test_every_command_option_and_choice_is_offered(shell, ask, tmp_path):
    lines, expected = [], []
    for name, command in COMMANDS.items():
        for action in command._actions:
            if isinstance(action, argparse._SubParsersAction):
                lines.append([*name.split(), ""])
                expected.append(set(action.choices))
            for option in action.option_strings:
                if option.startswith("--"):
                    lines.append([*name.split(), option])
                    expected.append({option})
                if action.choices:
                    lines.append([*name.split(), option, ""])
                    expected.append({str(choice) for choice in action.choices})
    offered = ask(completion(parser(), shell), tmp_path, lines)
    assert len(offered) == len(expected) > 150
    for line, found, least in zip(lines, offered, expected, strict=True):
        assert least <= set(found), line


@pytest.mark.parametrize(("shell", "ask"), SHELLS)
def test_files_and_bundled_pictures_are_offered_where_a_picture_may_stand(shell, ask, tmp_path):
    (tmp_path / "photo.jpg").touch()
    script = completion(parser(), shell)
    lines = [
        ["nsnumpy", "transfer", "photo"],
        ["nsnumpy", "transfer", "sample:co"],
        ["nsnumpy", "transfer", "x", "tra"],
    ]
    photo, coast, after = ask(script, tmp_path, lines)
    assert photo == ([] if shell == "bash" else ["photo.jpg"])  # bash offers files where nothing else is offered
    assert coast == ["sample:coast"]
    assert "transfer" not in after
    if shell == "bash":  # which takes the colon for a word of its own
        lines = [["nsnumpy", "transfer", "sample", ":"], ["nsnumpy", "transfer", "sample", ":", "co"]]
        assert ask(script, tmp_path, lines) == [sample_names(), ["coast"]]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_that_the_shell_can_read(shell, capsys, tmp_path):
    assert main(["completion", shell]) == 0
    script = tmp_path / "script"
    script.write_text(capsys.readouterr().out)
    if not shutil.which(shell):
        pytest.skip(f"no {shell} here")
    done = subprocess.run([shell, "-n", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_unknown_shell_is_an_error_of_the_command(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["completion", "bsh"])
    assert "did you mean bash?" in capsys.readouterr().err
