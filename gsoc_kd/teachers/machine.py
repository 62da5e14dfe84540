"""Interprets pickles, with the few instructions that StyleGAN2-ADA's files use. The caller (inert.py) says which names
exist and what their calls return: nothing else exists for a pickle."""

import pickletools
import time

import numpy as np

from ..core.files import InputError

MOST, LONGEST = 100_000, 10_000  # the highest number in the memo; letters of a name
OPS = {  # code: (name, what its argument is)
    0x80: ("PROTO", 1), 0x95: ("FRAME", 8), 0x2E: ("STOP", 0), 0x28: ("MARK", 0), 0x4E: ("NONE", 0),
    0x88: ("NEWTRUE", 0), 0x89: ("NEWFALSE", 0), 0x4B: ("BININT1", 1), 0x4D: ("BININT2", 2), 0x4A: ("BININT", -4),
    0x8A: ("LONG1", "long"), 0x47: ("BINFLOAT", "float"), 0x43: ("SHORT_BINBYTES", "bytes1"),
    0x42: ("BINBYTES", "bytes4"), 0x8E: ("BINBYTES8", "bytes8"), 0x8C: ("SHORT_BINUNICODE", "text1"),
    0x58: ("BINUNICODE", "text4"), 0x8D: ("BINUNICODE8", "text8"), 0x55: ("SHORT_BINSTRING", "text1"),
    0x53: ("SHORT_STRING", "line"),
    0x63: ("GLOBAL", "lines"), 0x93: ("STACK_GLOBAL", 0), 0x71: ("BINPUT", 1), 0x72: ("LONG_BINPUT", 4),
    0x94: ("MEMOIZE", 0), 0x68: ("BINGET", 1), 0x6A: ("LONG_BINGET", 4), 0x7D: ("EMPTY_DICT", 0),
    0x5D: ("EMPTY_LIST", 0), 0x29: ("EMPTY_TUPLE", 0), 0x8F: ("EMPTY_SET", 0), 0x73: ("SETITEM", 0),
    0x75: ("SETITEMS", 0), 0x61: ("APPEND", 0), 0x65: ("APPENDS", 0), 0x90: ("ADDITEMS", 0), 0x85: ("TUPLE1", 0),
    0x86: ("TUPLE2", 0), 0x87: ("TUPLE3", 0), 0x74: ("TUPLE", 0), 0x52: ("REDUCE", 0), 0x81: ("NEWOBJ", 0),
    0x62: ("BUILD", 0), 0x51: ("BINPERSID", 0),
}  # fmt: skip
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
FILL = {"SETITEM": 2, "SETITEMS": 2, "APPEND": 1, "APPENDS": 1, "ADDITEMS": 1}  # items that one adds


class Budget:
    """What reading one file may cost in all: steps (instructions, entries copied, hundreds of letters searched), bytes
    that are made beside those of the file, seconds of the processor. An official file takes some 20,000 steps."""

    def __init__(self, steps=200_000, made=256 << 20, seconds=8.0):
        self.steps, self.made, self.end = steps, made, time.thread_time() + seconds

    def spend(self, steps=1, made=0):
        self.steps, self.made = self.steps - steps, self.made - made
        if self.steps < 0 or self.made < 0 or (not self.steps % 256 and time.thread_time() > self.end):
            raise InputError("reading it takes more than an official file does: more instructions, memory or time")


def shown(value):
    """What a file says, fit for a message: short, and no control characters."""
    if isinstance(value, str | bytes):
        return ascii(value[:60])[:60]
    plain = value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 1 << 200)
    return ascii(value)[:60] if plain else f"a {type(value).__name__}"


class Inert:
    """Something out of a pickle: what it was called there, and a value. The value of a name on the list is a function
    of ours: the pickle that calls the name gets what it makes of the arguments."""

    __slots__ = ("name", "value")

    def __init__(self, name, value=None):
        self.name, self.value = name, value


def as_key(value):
    """What may be a key: values whose hash is no work."""
    if not isinstance(value, str | int | float | None):
        raise InputError("it has a key that is no text")
    if isinstance(value, str) and len(value) > LONGEST:
        raise InputError(f"it has a key that is longer than {LONGEST:,} letters")
    return value


class Reader:
    """Runs pickles, one after another, that lie in `data`, a memoryview.

    names: {name: Inert} that exist for them; needs: what is said of others. persistent: what makes something of the
    entries that torch.save wrote for its storages; None: there are none."""

    def __init__(self, data, budget, names, needs, persistent=None):
        self.data, self.budget, self.names, self.needs, self.persistent = data, budget, names, needs, persistent
        self.at = 0

    def load(self):
        """The value of the next pickle. Any exception: it is damaged, hostile or no official file's."""
        self.stack, self.below, self.memo = [], [], {}
        while True:
            self.budget.spend()
            code = self.take(1)[0]
            name, kind = OPS.get(code, (None, 0))
            if name is None:
                known = pickletools.code2op.get(chr(code))
                raise InputError(
                    f"it uses the pickle instruction {known.name if known else code} as no official file does"
                )
            argument = self.argument(kind)
            if name == "STOP":
                return self.stack.pop()
            self.act(name, argument)

    def take(self, count):
        if count > len(self.data) - self.at:
            raise EOFError("it ends early")
        self.at += count
        return self.data[self.at - count : self.at]

    def argument(self, kind):
        """What follows an instruction: a number of so many bytes (negative: with a sign), a text, bytes, names."""
        if isinstance(kind, int):
            return int.from_bytes(self.take(abs(kind)), "little", signed=kind < 0) if kind else None
        if kind == "long":
            return int.from_bytes(self.take(self.take(1)[0]), "little", signed=True)
        if kind == "float":
            return float(np.frombuffer(self.take(8), ">f8")[0])
        if kind == "line":
            return self.line()
        if kind == "lines":
            return ".".join((self.line(), self.line()))
        part = self.take(int.from_bytes(self.take(int(kind[-1])), "little"))
        if kind.startswith("bytes"):
            return part
        self.budget.spend(1, 4 * len(part))  # a letter takes up to four bytes
        return str(part, "utf-8", "surrogatepass")

    def line(self):
        text, end, _ = bytes(self.data[self.at : self.at + 1000]).partition(b"\n")
        self.at += len(text) + 1
        if not end:
            raise InputError("it has a name without end")
        return text.decode()

    def act(self, name, argument):
        """One instruction: what it does to the stack and to the memo."""
        stack, memo = self.stack, self.memo
        if name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name.startswith(("BININT", "LONG1", "BINFLOAT", "BINBYTES", "SHORT_", "BINUNICODE")):
            stack.append(argument)
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            number = len(memo) if argument is None else argument
            if number > MOST:
                raise InputError(f"it uses the pickle instruction {name} as no official file does")
            memo[number] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            named = argument if name == "GLOBAL" else ".".join(reversed((stack.pop(), stack.pop())))
            if (known := self.names.get(named)) is None:
                raise InputError(f"it asks for {shown(named)}, which {self.needs}")
            stack.append(known)
        elif name.startswith("EMPTY_"):
            stack.append(dict(DICT={}, LIST=[], TUPLE=(), SET=set())[name[6:]])
        elif name == "MARK":
            self.below.append(stack)
            self.stack = []
        elif name == "TUPLE":
            items = self.marked()
            self.stack.append(tuple(items))
        elif name.startswith("TUPLE"):
            count = int(name[5:])
            stack[len(stack) - count :] = [tuple(stack[len(stack) - count :])]
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, function = stack.pop(), stack.pop()
            if not isinstance(function, Inert) or not callable(function.value) or not isinstance(arguments, tuple):
                raise InputError(
                    f"it calls {shown(getattr(function, 'name', function))}, which an official file does not"
                )
            stack.append(function.value(self.budget, *arguments))
        elif name == "BUILD":
            stack.pop()
            if (target := getattr(stack[-1], "name", None)) not in ("numpy.dtype", "numpy.ndarray"):  # not needed there
                raise InputError(f"it sets the state of {shown(target)}, which an official file does not")
        elif name == "BINPERSID":
            if self.persistent is None:
                raise InputError("it uses the pickle instruction BINPERSID as no official file does")
            stack.append(self.persistent(self.budget, *stack.pop()))
        elif name in FILL:
            items = self.marked() if name.endswith("S") else [stack.pop() for _ in range(FILL[name])][::-1]
            fill(self.stack[-1], items)

    def marked(self):
        """What was put on the stack since the last mark."""
        items, self.stack = self.stack, self.below.pop()
        self.budget.spend(len(items))
        return items


def fill(container, items):
    """Puts items into a list, a set or, keys and values in turn, into a dict."""
    if isinstance(container, dict) and len(items) % 2 == 0:
        container.update(zip(map(as_key, items[::2]), items[1::2]))
    elif isinstance(container, list):
        container.extend(items)
    elif isinstance(container, set):
        container.update(map(as_key, items))
    else:
        raise InputError("it fills something that is no container")
