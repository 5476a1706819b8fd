"""What the README shows is true: its Python runs, its commands parse, its files exist."""

import re

import pytest
from pages import README, blocks, broken_links, commands, links, parses, run, weights_commands

from nsnumpy import sample_names
from nsnumpy.cli.completion import _commands
from nsnumpy.cli.main import parser

TEXT = README.read_text()
COMMANDS, WEIGHTS_COMMANDS = commands(README), weights_commands(README)


@pytest.mark.parametrize("block", blocks(README, "python"), ids=lambda block: f"line {block.line}")
def test_python_blocks_run(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(README, block, {})


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_commands_parse(arguments):
    assert parses(arguments)


@pytest.mark.parametrize("arguments", WEIGHTS_COMMANDS, ids=" ".join)
def test_commands_of_weights_tools_parse(arguments):
    assert parses(arguments, weights=True)


def test_there_are_commands_and_they_begin_with_the_main_job():
    assert COMMANDS[0] == ["transfer", "sample:coast", "sample:starry", "-o", "result.png"]
    assert {arguments[0] for arguments in COMMANDS} >= {"transfer", "texture", "reconstruct", "gradcheck"}
    assert {arguments[0] for arguments in WEIGHTS_COMMANDS} == {"fetch"}


def test_it_is_a_front_door():
    assert len(TEXT.splitlines()) <= 150
    assert re.search(r"^<!-- test command -->\n```bash\n.*pytest\n```$", TEXT, re.M)  # .ci/run runs it


def test_every_file_that_is_linked_exists():
    assert len(links(README)) > 8
    assert broken_links(README) == []


def test_every_option_in_the_table_exists():
    transfer = dict(_commands("nsnumpy", parser()))["nsnumpy transfer"]
    known = {option for action in transfer._actions for option in action.option_strings}
    options = re.findall(r"`--([a-z0-9-]+)", TEXT)
    assert len(options) > 8
    for option in options:
        assert f"--{option}" in known, option


def test_every_sample_is_named():
    assert all(f"sample:{name}" in TEXT for name in sample_names())
