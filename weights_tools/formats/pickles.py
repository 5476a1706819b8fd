"""Pickles, read without running anything.

A pickle is a program for a small stack machine, and Python's own machine calls whatever the program names. This one
knows only what the pickles of weight files are made of: numbers, strings, lists, tuples, dicts, and the constructors
that its caller gives it, which are this package's functions. Any other name is refused. Long byte strings stay in the
file: the machine sees where they lie.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .base import Bytes, Cursor, FormatError

MOST_STEPS = 50_000  # a VGG's pickle takes about a thousand
MOST_ARGUMENTS = 100_000  # elements of lists, strings, ... that all constructors together are given: they may copy them
MOST_KEY = 200  # characters
MOST_TEXT = 1 << 16  # bytes; longer strings stay in the file

Constructors = Mapping[str, Callable[..., Any]]


@dataclass(frozen=True)
class Payload:
    """A byte string that was left where it is.

    Attributes
    ----------
    data : Bytes
    offset, size : int
    text : bool
        Whether it is stored as UTF-8 text, whose characters 0 to 255 are the bytes.
    """

    data: Bytes
    offset: int
    size: int
    text: bool = False

    def load(self) -> bytes:
        raw = self.data.at(self.offset, self.size)
        if not self.text:
            return raw
        try:
            return raw.decode().encode("latin-1")
        except UnicodeError:
            raise FormatError("damaged: bytes stored as text that is none") from None


class Opaque:
    """An object that is none of our business: an optimizer's state, say. It takes whatever is done to it."""


class Global:
    """A constructor that the pickle has named, "module.name"."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name, self.function = name, function

    def __call__(self, arguments: Any) -> Any:
        if not isinstance(arguments, tuple):
            raise FormatError(f"damaged pickle: {self.name} called with something else than a tuple")
        try:
            return self.function(*arguments)
        except FormatError:
            raise
        except Exception as error:  # the arguments are the file's: whatever fails here is its fault
            raise FormatError(f"damaged pickle: {self.name} cannot be made ({type(error).__name__})") from error


def ordered_dict(pairs: Any = ()) -> dict[Any, Any]:
    """The constructor "collections.OrderedDict": Python 2 gives the pairs at once, Python 3 one by one afterwards."""
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise FormatError("damaged pickle: a dictionary of something else than pairs")
    return {check_key(key): value for key, value in pairs}


def check_key(key: Any) -> Any:
    """A dictionary's key: a short name or a number. A nested tuple could take for ever to hash, and numbers to tell."""
    if (isinstance(key, (str, bytes)) and len(key) <= MOST_KEY) or (isinstance(key, int) and abs(key) < 1 << 31):
        return key
    raise FormatError("damaged pickle: a key that is neither a short name nor a number")


_MARK = object()


def unpickle(cursor: Cursor, constructors: Constructors, persistent: Callable[[Any], Any] | None = None) -> Any:
    """Run the pickle at the cursor, which is left behind its end.

    Parameters
    ----------
    cursor : Cursor
    constructors : mapping from "module.name" to a function
        What the pickle may name. If a pickle then sets the object's state, the function's result must have a method
        ``build(state)``; a dict ignores it.
    persistent : function of a persistent id, or None
        What the id stands for (PyTorch's storages).

    Returns
    -------
    object

    Raises
    ------
    FormatError
        If the pickle is damaged, or asks for anything else.
    """
    return _Machine(cursor, constructors, persistent).run()


class _Machine:
    def __init__(self, cursor: Cursor, constructors: Constructors, persistent: Callable[[Any], Any] | None) -> None:
        self.cursor, self.constructors, self.persistent = cursor, constructors, persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.arguments_left = MOST_ARGUMENTS

    def run(self) -> Any:
        try:
            for _ in range(MOST_STEPS):
                opcode = self.cursor.take(1)
                if opcode == b".":
                    return self.pop()
                step = _STEPS.get(opcode)
                if step is None:
                    raise FormatError(f"the pickle has an instruction that no weight file needs ({opcode!r})")
                step(self)
        except (ValueError, struct.error, OverflowError) as error:
            if isinstance(error, FormatError):
                raise
            raise FormatError(f"damaged pickle ({type(error).__name__})") from error
        raise FormatError("the pickle is longer than that of any weight file")

    # The stack.

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if not self.stack:
            raise FormatError("damaged pickle: nothing left on the stack")
        value = self.stack.pop()
        if value is _MARK:
            raise FormatError("damaged pickle: a mark where a value should be")
        return value

    def top(self, kind: type | tuple[type, ...]) -> Any:
        """The top of the stack, which must be a `kind`."""
        if not self.stack or not isinstance(self.stack[-1], kind):
            raise FormatError("damaged pickle: something else expected on the stack")
        return self.stack[-1]

    def pop_to_mark(self) -> list[Any]:
        for n in range(len(self.stack) - 1, -1, -1):
            if self.stack[n] is _MARK:
                values = self.stack[n + 1 :]
                del self.stack[n:]
                return values
        raise FormatError("damaged pickle: no mark on the stack")

    # Steps that need more than a line.

    def bytes_or_payload(self, length: int, *, text: bool = False) -> Any:
        if length <= MOST_TEXT:
            raw = self.cursor.take(length)
            return raw.decode("utf-8", "surrogatepass") if text else raw
        return Payload(self.cursor.data, self.cursor.skip(length), length, text)

    def python2_string(self, length: int) -> Any:
        """A Python 2 `str`: a name or bytes, which one only its use tells."""
        value = self.bytes_or_payload(length)
        return value if isinstance(value, Payload) else value.decode("latin-1")

    def find(self, module: str, name: str) -> None:
        full = f"{module}.{name}"
        if full not in self.constructors:
            raise FormatError(
                f"the pickle asks for {full[:80]}, which no weight file needs; pickles can run programs, so only "
                "tensors are read from them"
            )
        self.push(Global(full, self.constructors[full]))

    def find_from_stack(self) -> None:
        name, module = self.pop(), self.pop()
        if not isinstance(name, str) or not isinstance(module, str):
            raise FormatError("damaged pickle: a name that is no string")
        self.find(module, name)

    def find_from_lines(self) -> None:
        module, name = (self.cursor.line().decode("utf-8", "replace") for _ in range(2))
        self.find(module, name)

    def call(self) -> None:
        arguments = self.pop()
        function = self.top(Global)
        if isinstance(arguments, tuple):
            self.arguments_left -= sum(len(a) for a in arguments if isinstance(a, (list, tuple, dict, str, bytes)))
        if self.arguments_left < 0:
            raise FormatError("the pickle does more than that of any weight file")
        self.stack[-1] = function(arguments)

    def build(self) -> None:
        state = self.pop()
        target = self.pop()
        if hasattr(target, "build"):
            target = target.build(state)
        elif not isinstance(target, (dict, Opaque)):
            raise FormatError("damaged pickle: a state for something that has none")
        self.push(target)

    def set_items(self, pairs: list[Any]) -> None:
        target = self.top((dict, Opaque))
        if len(pairs) % 2:
            raise FormatError("damaged pickle: a key without a value")
        if isinstance(target, Opaque):
            return
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            target[check_key(key)] = value

    def append(self, values: list[Any]) -> None:
        self.top(list).extend(values)

    def make_dict(self) -> None:
        pairs = self.pop_to_mark()
        self.push({})
        self.set_items(pairs)

    def make_tuple(self, count: int) -> None:
        values = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(values)))

    def remember(self, index: int) -> None:
        self.memo[index] = self.top(object)

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise FormatError("damaged pickle: it recalls what it never stored")
        self.push(self.memo[index])

    def long(self, length: int) -> None:
        if length > 64:
            raise FormatError("damaged pickle: a number of more than 64 bytes")
        self.push(self.cursor.number(length, signed=True))

    def decimal(self) -> None:
        text = self.cursor.line(64)
        self.push(text == b"01" if text in (b"00", b"01") else int(text.rstrip(b"L")))

    def text_line(self) -> None:
        line = self.cursor.line()
        if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in b"'\"" or b"\\" in line:
            raise FormatError("damaged pickle: a quoted string expected")
        self.push(line[1:-1].decode("latin-1"))

    def persistent_id(self) -> None:
        identity = self.pop()
        if self.persistent is None:
            raise FormatError("the pickle refers to something outside of it")
        self.push(self.persistent(identity))

    def check_protocol(self) -> None:
        if (protocol := self.cursor.number(1)) > 5:
            raise FormatError(f"a pickle of protocol {protocol}; 5 is the last one known")


_Step = Callable[[_Machine], Any]


def _constant(value: Any) -> _Step:
    return lambda m: m.push(value)


_STEPS: dict[bytes, _Step] = {
    b"\x80": _Machine.check_protocol,
    b"\x95": lambda m: m.cursor.take(8),  # the length of a frame: how much to read at once
    b"(": lambda m: m.push(_MARK),
    b"0": lambda m: m.pop(),
    b"1": lambda m: m.pop_to_mark(),
    b"2": lambda m: m.push(m.top(object)),
    b"N": _constant(None),
    b"\x88": _constant(True),
    b"\x89": _constant(False),
    b"K": lambda m: m.push(m.cursor.number(1)),
    b"M": lambda m: m.push(m.cursor.number(2)),
    b"J": lambda m: m.push(m.cursor.number(4, signed=True)),
    b"I": _Machine.decimal,
    b"L": _Machine.decimal,
    b"\x8a": lambda m: m.long(m.cursor.number(1)),
    b"\x8b": lambda m: m.long(m.cursor.number(4)),
    b"F": lambda m: m.push(float(m.cursor.line(64))),
    b"G": lambda m: m.push(struct.unpack(">d", m.cursor.take(8))[0]),
    b"S": _Machine.text_line,
    b"U": lambda m: m.push(m.python2_string(m.cursor.number(1))),
    b"T": lambda m: m.push(m.python2_string(m.cursor.number(4))),
    b"C": lambda m: m.push(m.bytes_or_payload(m.cursor.number(1))),
    b"B": lambda m: m.push(m.bytes_or_payload(m.cursor.number(4))),
    b"\x8e": lambda m: m.push(m.bytes_or_payload(m.cursor.number(8))),
    b"\x96": lambda m: m.push(m.bytes_or_payload(m.cursor.number(8))),
    b"V": lambda m: m.push(m.cursor.line().decode("raw-unicode-escape")),
    b"\x8c": lambda m: m.push(m.bytes_or_payload(m.cursor.number(1), text=True)),
    b"X": lambda m: m.push(m.bytes_or_payload(m.cursor.number(4), text=True)),
    b"\x8d": lambda m: m.push(m.bytes_or_payload(m.cursor.number(8), text=True)),
    b")": lambda m: m.push(()),
    b"t": lambda m: m.push(tuple(m.pop_to_mark())),
    b"\x85": lambda m: m.make_tuple(1),
    b"\x86": lambda m: m.make_tuple(2),
    b"\x87": lambda m: m.make_tuple(3),
    b"]": lambda m: m.push([]),
    b"l": lambda m: m.push(m.pop_to_mark()),
    b"a": lambda m: m.append([m.pop()]),
    b"e": lambda m: m.append(m.pop_to_mark()),
    b"}": lambda m: m.push({}),
    b"d": _Machine.make_dict,
    b"s": lambda m: m.set_items([m.pop(), m.pop()][::-1]),
    b"u": lambda m: m.set_items(m.pop_to_mark()),
    b"p": lambda m: m.remember(int(m.cursor.line(20))),
    b"q": lambda m: m.remember(m.cursor.number(1)),
    b"r": lambda m: m.remember(m.cursor.number(4)),
    b"\x94": lambda m: m.remember(len(m.memo)),
    b"g": lambda m: m.recall(int(m.cursor.line(20))),
    b"h": lambda m: m.recall(m.cursor.number(1)),
    b"j": lambda m: m.recall(m.cursor.number(4)),
    b"c": _Machine.find_from_lines,
    b"\x93": _Machine.find_from_stack,
    b"R": _Machine.call,
    b"\x81": _Machine.call,
    b"b": _Machine.build,
    b"Q": _Machine.persistent_id,
}
