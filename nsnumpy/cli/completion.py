"""Scripts by which a shell completes the command line, made of the parsers' own tables."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from ..files.samples import sample_names
from .command import PROG, add_command, tell

_SCRIPTS = {
    "bash": "~/.local/share/bash-completion/completions/nsnumpy",
    "zsh": "~/.nsnumpy.zsh",
    "fish": "~/.config/fish/completions/nsnumpy.fish",
}
_BASH = """\
_nsnumpy() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} at=nsnumpy word
    COMPREPLY=()
    for word in "${{COMP_WORDS[@]:1:$((COMP_CWORD-1))}}"; do
        case "$at $word" in
{commands}
        esac
    done
    case "$at:$previous" in
{values}
    esac
    case "$at:$current" in
{words}
    esac
    if [[ $current == : && $previous == sample ]]; then  # bash takes a colon for a word
        COMPREPLY=({samples})
    elif [[ $previous == : && ${{COMP_WORDS[COMP_CWORD-2]}} == sample ]]; then
        COMPREPLY=($(compgen -W "{samples}" -- "$current"))
    elif [[ -z $(compgen -f -- "$current") ]]; then  # files come by themselves
        COMPREPLY=($(compgen -W "{pictures}" -- "$current"))
    fi
}}
complete -o bashdefault -o default -F _nsnumpy nsnumpy
"""
_ZSH = "autoload -Uz compinit bashcompinit && compinit && bashcompinit\n\n"
_FISH = """\
function __nsnumpy_at
    set -l at nsnumpy
    for word in (commandline -opc)[2..-1]
        contains -- "$at $word" {commands}; and set at "$at $word"
    end
    test "$at" = "$argv"
end
complete -c nsnumpy -a "{pictures}"
"""


def add_commands(commands: Any, parser: Callable[[], argparse.ArgumentParser]) -> None:
    """completion; `parser` makes the one whose commands are completed."""
    command = add_command(
        commands,
        "completion",
        "print a script by which a shell completes these commands",
        *(f"nsnumpy completion {shell} > {path}" for shell, path in _SCRIPTS.items()),
        description="Prints the script by which a shell completes commands, options and their values.",
        above=_ABOVE,
    )
    command.add_argument("shell", metavar="SHELL", choices=tuple(_SCRIPTS), help="bash, zsh or fish")

    def run(arguments: argparse.Namespace) -> int:
        tell(completion(parser(), arguments.shell))
        return 0

    command.set_defaults(run=run)


_ABOVE = f"bash and fish read the script from there; for zsh, add `source {_SCRIPTS['zsh']}` to ~/.zshrc."


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """The script for "bash", "zsh" or "fish"."""
    found = dict(_commands(PROG, parser))
    return _fish(found) if shell == "fish" else (_ZSH if shell == "zsh" else "") + _bash(found)


def _commands(name: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Each command by its words, from "nsnumpy" on."""
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, inner in action.choices.items():
                yield from _commands(f"{name} {word}", inner)


def _bash(found: dict[str, argparse.ArgumentParser]) -> str:
    def offer(words: Iterable[Any]) -> str:
        return f'COMPREPLY=($(compgen -W "{_line(words)}" -- "$current")); return'

    values, words = [], []
    for name, parser in found.items():
        options = [action for action in parser._actions if action.option_strings]
        for action in options:
            if action.choices:
                pattern = "|".join(f'"{name}:{option}"' for option in action.option_strings)
                values.append(f"        {pattern}) {offer(action.choices)} ;;")
        known = offer(option for action in options for option in action.option_strings)
        words.append(f'        "{name}:-"*) {known} ;;')
        if others := [word for action in parser._actions if action not in options for word in action.choices or ()]:
            words.append(f'        "{name}:"*) {offer(others)} ;;')
    names = "|".join(f'"{name}"' for name in found if name != PROG)
    return _BASH.format(
        commands=f'            {names}) at="$at $word" ;;',
        values="\n".join(values),
        words="\n".join(words),
        samples=_line(sample_names()),
        pictures=_line(f"sample:{name}" for name in sample_names()),
    )


def _fish(found: dict[str, argparse.ArgumentParser]) -> str:
    pictures = _line(f"sample:{name}" for name in sample_names())
    lines = [_FISH.format(commands=_line(f'"{name}"' for name in found), pictures=pictures)]
    for name, parser in found.items():
        at = f"complete -c nsnumpy -n '__nsnumpy_at {name}'"
        for action in parser._actions:
            choices = [f'-f -a "{_line(action.choices)}"'] if action.choices else []
            if isinstance(action, argparse._SubParsersAction):
                lines += [f"{at} -f -a {word.dest} {_told(word)}" for word in action._choices_actions]
            elif action.option_strings:
                names = [f"-{'l' if o.startswith('--') else 's'} {o.lstrip('-')}" for o in action.option_strings]
                value = ["-r"] if action.nargs != 0 else []
                lines.append(_line([at, *names, *value, *choices, _told(action)]))
            elif choices:
                lines.append(_line([at, *choices]))
    return "\n".join(lines)


def _told(action: argparse.Action) -> str:
    """What a command or an option does, in a few words."""
    return f"-d {shlex.quote(re.split(r'; | [(]', action.help or '')[0].replace('%%', '%'))}"


def _line(words: Iterable[Any]) -> str:
    return " ".join(map(str, words))
