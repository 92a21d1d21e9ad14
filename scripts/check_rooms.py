#!/usr/bin/env python3
"""Checks the house rules that a compiler does not: who may include whom, who may print, start
threads, end the program, use intrinsics or device headers, and how large a file may be.

usage: check_rooms.py [ROOT]     prints 'file:line: rule: what is wrong'; exit code 1 if anything is
"""

import re
import sys
from pathlib import Path
from typing import Iterator, NamedTuple

# A room includes only rooms on lower floors.
FLOORS = {
    "base": 0,
    "text": 1, "data": 1, "formats": 1, "hub": 1, "kernels": 1, "dist": 1, "report": 1,
    "model": 2,
    "prepare": 3, "train": 3, "generate": 3, "evaluate": 3, "measure": 3,
    "serve": 4,
    "cli": 5,
}
MOST_LINES = 600
MANY_LINES = 400
MOST_DOOR_LINES = 270
CODE = {".h", ".cpp", ".inc", ".cu", ".cuh"}
HEADERS = {".h", ".cuh"}


class Fault(NamedTuple):
    path: str
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.message}"


class Pattern(NamedTuple):
    """Code that only some files may contain; `allowed` matches paths below src/."""
    rule: str
    pattern: re.Pattern
    allowed: re.Pattern
    message: str


def _pattern(rule: str, pattern: str, allowed: str, message: str) -> Pattern:
    return Pattern(rule, re.compile(pattern, re.MULTILINE), re.compile(allowed), message)


PATTERNS = [
    _pattern("printing",
             r"\bstd::(?:cout|cerr|clog|print|println)\b|\bfmt::print(?:ln)?\b|#\s*include\s*<iostream>"
             r"|(?<![\w.>])(?:v?f?printf|f?puts|putchar|f?putc|perror)\s*\(|\bstd(?:out|err)\b",
             r"cli/", "only cli prints; hand the text up instead"),
    _pattern("threads",
             r"\bstd::(?:thread|jthread|async)\b|\bpthread_create\b|#\s*include\s*<omp\.h>"
             r"|#\s*pragma\s+omp\b(?!\s+simd)|\bomp_\w+\s*\(",
             r"base/parallel\.cpp$|dist/|serve/", "only base/parallel starts threads"),
    _pattern("exit",
             r"(?<![\w.>])(?:std::|::)?(?:exit|_exit|_Exit|quick_exit|abort|terminate)\s*\(",
             r"cli/", "only cli ends the program; throw with base::fail"),
    _pattern("cuda",
             r"#\s*include\s*[<\"](?:cuda|cublas|cudnn|curand|cub/|cutlass/|nvToolsExt)[^>\"]*[>\"]",
             r"kernels/cuda/|dist/nccl", "CUDA headers stay in kernels/cuda"),
    _pattern("intrinsics",
             r"#\s*include\s*<(?:\w*mmintrin|immintrin|x86intrin|cpuid|arm_neon|arm_sve)\.h>"
             r"|\b_mm\d*_\w+\s*\(|\b__m(?:128|256|512)[id]?\b",
             r"kernels/cpu/|text/cpu/", "intrinsics stay in kernels/cpu and text/cpu"),
    _pattern("onednn", r"#\s*include\s*[<\"](?:dnnl|oneapi/dnnl)[^>\"]*[>\"]",
             r"kernels/cpu/", "oneDNN stays in kernels/cpu"),
    _pattern("options", r"#\s*include\s*[<\"]CLI/", r"cli/", "parsing options is cli's"),
    _pattern("preprocessor", r"^[ \t]*#\s*(?:if|ifdef|ifndef|elif)\b",
             r"kernels/cpu/|kernels/cuda/|base/(?:file|crc32c)\.cpp$",
             "no #if outside simd and file code; let CMake choose a .cpp"),
]

TODO = re.compile(r"\b(?:TODO|FIXME|XXX)\b")
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
USING_NAMESPACE = re.compile(r"\busing\s+namespace\b")
CMAKE_ROOM = re.compile(r"\broom_(\w+)")

# One token of C++ whose inside is not code, longest forms first. A quote after a letter or digit
# is a digit separator (1'000), not a character.
NOT_CODE = re.compile(
    r'(?P<comment>//[^\n]*|/\*.*?\*/)'
    r'|(?P<raw>R"(?P<delimiter>[^\s()\\]{0,16})\(.*?\)(?P=delimiter)")'
    r'|(?P<string>"(?:\\.|[^"\\\n])*")'
    r"|(?P<character>(?<![0-9A-Za-z_])'(?:\\.|[^'\\\n])*')",
    re.DOTALL)


def without(text: str, strings: bool) -> str:
    """`text` with comments (and, if asked, the inside of strings) blanked; lines stay in place."""
    def blank(match: re.Match) -> str:
        if match.group("comment") is None and not strings:
            return match.group(0)
        return re.sub(r"[^\n]", " ", match.group(0))
    return NOT_CODE.sub(blank, text)


def line_of(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def check_includes(room: str, name: str, code: str) -> Iterator[Fault]:
    for match in INCLUDE.finditer(code):
        target = match.group(1)
        line = line_of(code, match.start(1))
        other, _, rest = target.partition("/")
        if other not in FLOORS or not rest:
            yield Fault(name, line, "include", f'"{target}" is not rooted at src/ ("room/file.h")')
        elif other == room:
            continue
        elif FLOORS[other] >= FLOORS[room]:
            yield Fault(name, line, "floor",
                        f"{room} (floor {FLOORS[room]}) includes {other} (floor {FLOORS[other]}): "
                        "includes go down")
        elif other != "base" and rest != f"{other}.h":
            yield Fault(name, line, "door", f'"{target}": enter {other} by "{other}/{other}.h"')


def check_size(path: Path, name: str, room: str, lines: int, warnings: list) -> Iterator[Fault]:
    if path.suffix == ".inc" and "tables" in path.stem:
        return  # generated data
    if lines > MOST_LINES:
        yield Fault(name, lines, "size", f"{lines} lines; {MOST_LINES} is the most, split it")
    elif lines > MANY_LINES:
        warnings.append(f"{name}: {lines} lines (budget {MANY_LINES})")
    if path.name == f"{room}.h" and lines > MOST_DOOR_LINES:
        warnings.append(f"{name}: a door of {lines} lines (budget 250)")


def check_header(name: str, code: str) -> Iterator[Fault]:
    if not re.match(r"\s*#\s*pragma\s+once\b", code):
        yield Fault(name, 1, "pragma", "a header begins with #pragma once")
    for match in USING_NAMESPACE.finditer(code):
        yield Fault(name, line_of(code, match.start()), "using", "no 'using namespace' in a header")


def check_source(path: Path, root: Path, warnings: list) -> Iterator[Fault]:
    name = str(path.relative_to(root))
    below = path.relative_to(root / "src")
    room = below.parts[0]
    text = path.read_text(encoding="utf-8")
    code = without(text, strings=True)
    directives = without(text, strings=False)
    if room not in FLOORS:
        yield Fault(name, 1, "room", f"src/{room}/ is not a room with a floor")
        return
    yield from check_includes(room, name, directives)
    for rule in PATTERNS:
        # Includes have their names in what looks like a string.
        where = directives if rule.rule in ("cuda", "onednn", "options") else code
        if not rule.allowed.match(str(below)):
            for match in rule.pattern.finditer(where):
                yield Fault(name, line_of(where, match.start()), rule.rule,
                            f"'{match.group(0).strip()}': {rule.message}")
    for match in TODO.finditer(text):
        yield Fault(name, line_of(text, match.start()), "todo", "finish it or open an issue")
    yield from check_size(path, name, room, text.count("\n"), warnings)


def check_rooms(root: Path) -> tuple:
    """All faults and warnings of the tree at `root`."""
    faults: list = []
    warnings: list = []
    source = root / "src"
    files = sorted(p for p in source.rglob("*") if p.suffix in CODE)
    for path in files:
        faults.extend(check_source(path, root, warnings))
    folders = [root / f for f in ("src", "tests", "bench")]
    for path in sorted(p for f in folders if f.is_dir() for p in f.rglob("*")):
        if path.suffix in HEADERS:
            code = without(path.read_text(encoding="utf-8"), strings=True)
            faults.extend(check_header(str(path.relative_to(root)), code))
    for room in sorted({p.relative_to(source).parts[0] for p in files} & FLOORS.keys() - {"base"}):
        if not (source / room / f"{room}.h").is_file():
            faults.append(Fault(f"src/{room}", 1, "door", f"the room has no door {room}.h"))
    for path in sorted(source.rglob("CMakeLists.txt")):
        faults.extend(check_links(path, root))
    return faults, warnings


def check_links(path: Path, root: Path) -> Iterator[Fault]:
    """Links mirror the floors."""
    room = path.relative_to(root / "src").parts[0]
    text = re.sub(r"#[^\n]*", "", path.read_text(encoding="utf-8"))
    for match in CMAKE_ROOM.finditer(text):
        other = match.group(1)
        if room in FLOORS and other != room and FLOORS.get(other, 99) >= FLOORS[room]:
            yield Fault(str(path.relative_to(root)), line_of(text, match.start()), "floor",
                        f"{room} links room_{other}: links go down")


def main(arguments: list) -> int:
    root = Path(arguments[0] if arguments else Path(__file__).parent.parent).resolve()
    if not (root / "src").is_dir():
        print(f"check_rooms: {root} has no src/", file=sys.stderr)
        return 2
    faults, warnings = check_rooms(root)
    for warning in warnings:
        print(f"warning: {warning}")
    for fault in faults:
        print(fault)
    print(f"check_rooms: {len(faults)} faults, {len(warnings)} warnings")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
