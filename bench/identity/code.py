"""What a code object computes: its instructions and constants, and the names that it reads."""

from __future__ import annotations

import bisect
import dis
import functools
import hashlib
import types
from dataclasses import dataclass
from typing import Any

#: Attributes of a class that only give its location, or repeat content that is hashed anyway.
ABOUT = {
    "__slotnames__",
    *("__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__match_args__", "__abstractmethods__"),
    *("__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__", "_abc_impl", "__orig_bases__"),
    *("__parameters__", "__type_params__", "__dataclass_fields__", "__dataclass_params__", "__firstlineno__"),
    "__static_attributes__",
}
_HAS_DOCSTRING = 0x4000000


@dataclass(frozen=True)
class CodeContent:
    """The content of a code object.

    Attributes
    ----------
    instructions : str
        Digest of argument counts, flags, variable names, instructions and exception table.
    constants : tuple
        Constants that instructions load, in order.
    globals : tuple of tuples of str
        Names read from the module, each with the chain of attributes read from it.
    imports : tuple
        (level, name, names imported from it).
    """

    instructions: str
    constants: tuple[Any, ...]
    globals: tuple[tuple[str, ...], ...]
    imports: tuple[tuple[int, str, tuple[str, ...] | None], ...]


@functools.lru_cache(maxsize=4096)
def read_by(code: types.CodeType) -> CodeContent:
    """Return what a code object does and which globals it reads."""
    steps = [i for i in dis.get_instructions(code) if i.opname not in ("CACHE", "EXTENDED_ARG", "NOP")]
    told: list[str | bytes | int] = [code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount]
    told += [code.co_flags & ~_HAS_DOCSTRING, " ".join(code.co_varnames), " ".join(code.co_freevars)]
    told += [code.co_exceptiontable]
    offsets = [step.offset for step in steps]
    constants: list[Any] = []
    chains, imports = set(), []
    for i, step in enumerate(steps):
        following = steps[i + 1] if i + 1 < len(steps) else step
        if following.opname == "STORE_NAME" and following.argval in ABOUT and step.opcode in dis.hasconst:
            continue  # the docstring and line number of a class
        told.append(step.opname)
        if step.opcode in dis.hasconst:
            constants.append(step.argval)
        elif step.opcode in dis.hasjrel or step.opcode in dis.hasjabs:
            told.append(bisect.bisect_left(offsets, step.argval) - i)
        elif isinstance(step.argval, str | tuple) and all(isinstance(part, str) for part in step.argval):
            told.append(" ".join(step.argval) if isinstance(step.argval, tuple) else step.argval)
        else:
            told.append(str(step.arg))
        if step.opname in ("LOAD_GLOBAL", "LOAD_NAME") and step.argval not in {*ABOUT, "__name__"}:
            chain = [step.argval]
            for after in steps[i + 1 :]:
                if after.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
                    break
                chain.append(after.argval)
            chains.add(tuple(chain))
        if step.opname == "IMPORT_NAME":
            imports.append((steps[i - 2].argval, step.argval, steps[i - 1].argval))
    return CodeContent(
        hashlib.sha256(repr(told).encode()).hexdigest(), tuple(constants), tuple(sorted(chains)), tuple(imports)
    )
