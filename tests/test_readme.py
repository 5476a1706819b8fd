"""What the README shows is true: its Python runs, its commands parse, its files exist."""

import re
from pathlib import Path

import pytest

from nsnumpy import sample_names
from nsnumpy.cli import parser
from weights_tools.cli import _parser as _weights_parser

README = (Path(__file__).parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line for kind, block in BLOCKS if kind == "bash" for line in re.findall(r"nsnumpy (\w+ .*|\w+$)", block, re.M)
]
WEIGHTS_COMMANDS = re.findall(r"python -m weights_tools (\w.*)", "".join(block for _, block in BLOCKS))


@pytest.mark.parametrize("block", [block for kind, block in BLOCKS if kind == "python"])
def test_python_blocks_run(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command):
    arguments = parser().parse_args(command.partition("#")[0].split())
    assert callable(arguments.run)


@pytest.mark.parametrize("command", WEIGHTS_COMMANDS)
def test_commands_of_weights_tools_parse(command):
    arguments = _weights_parser().parse_args(command.partition("#")[0].split())
    assert callable(arguments.run)


def test_there_are_commands_and_they_begin_with_the_main_job():
    assert COMMANDS[0] == "transfer sample:coast sample:starry -o result.png"
    assert len(COMMANDS) >= 5
    assert {command.split()[0] for command in WEIGHTS_COMMANDS} == {
        "fetch",
        "convert",
        "inspect",
        "compare",
        "normalize",
        "train",
    }


def test_every_file_that_is_linked_exists():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert len(links) > 8
    headings = ["#" + title.lower().replace(" ", "-") for title in re.findall(r"^#+ (.+)$", README, re.MULTILINE)]
    files = [link for link in links if link not in headings]
    assert [link for link in files if not (Path(__file__).parent.parent / link).exists()] == []


def test_every_option_in_the_table_exists():
    commands = [["transfer", "a", "b", "-o", "c.png"], ["figure", "content", "a", "-o", "b"], ["conventions"]]
    run = {name: value for command in commands for name, value in vars(parser().parse_args(command)).items()}
    tools = [["fetch"], ["convert", "a", "-o", "b"], ["train", "a", "-o", "b"]]
    known = {name for command in tools for name in vars(_weights_parser().parse_args(command))} | run.keys()
    known |= {"bgr", "rgb"}  # two options for one thing
    for option in re.findall(r"`--([a-z0-9-]+)", README):
        assert option.replace("-", "_") in known, option


def test_every_sample_is_named():
    assert all(f"sample:{name}" in README for name in sample_names())
