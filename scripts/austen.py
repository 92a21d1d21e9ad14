#!/usr/bin/env python3
"""Writes Jane Austen's six novels as text files, from Debian's package r-cran-janeaustenr.

usage: austen.py RDATA_RDB OUT_FOLDER

R keeps the package's data sets in one file, Rdata.rdb: objects one after another, each a 4-byte
big-endian length (of the object unpacked) and a zlib stream. A novel is a character vector, one
line of the book a string, in R's XDR serialisation.
The six files with an empty line between them are 993,333 GPT-2 tokens.
Source: "R Internals", section 1.8 (serialization formats).
"""

import struct
import sys
import zlib
from pathlib import Path

# By the order of first publication; the first words after the title page tell them apart.
NOVELS = {
    "sense_and_sensibility": "SENSE AND SENSIBILITY",
    "pride_and_prejudice": "PRIDE AND PREJUDICE",
    "mansfield_park": "MANSFIELD PARK",
    "emma": "EMMA",
    "northanger_abbey": "NORTHANGER ABBEY",
    "persuasion": "PERSUASION",
}

CHARACTER_VECTOR = 16
STRING = 9
HAS_ATTRIBUTES = 1 << 9


def objects_of(data: bytes):
    """Yields the unpacked objects of an .rdb file."""
    position = 0
    while position + 4 <= len(data):
        (size,) = struct.unpack_from(">I", data, position)
        stream = zlib.decompressobj()
        unpacked = stream.decompress(data[position + 4:])
        if len(unpacked) != size or not stream.eof:
            raise ValueError(f"object at byte {position}: expected {size} bytes, got {len(unpacked)}")
        yield unpacked
        position = len(data) - len(stream.unused_data)


def lines_of(serialised: bytes):
    """The strings of a serialised character vector; None where the object is something else."""
    if serialised[:2] != b"X\n":
        return None
    version, _, _ = struct.unpack_from(">iii", serialised, 2)
    position = 14
    if version == 3:  # the name of the native encoding follows
        (length,) = struct.unpack_from(">i", serialised, position)
        position += 4 + length
    flags, count = struct.unpack_from(">ii", serialised, position)
    position += 8
    if flags & 0xFF != CHARACTER_VECTOR or flags & HAS_ATTRIBUTES:
        return None
    lines = []
    for _ in range(count):
        flags, length = struct.unpack_from(">ii", serialised, position)
        position += 8
        if flags & 0xFF != STRING:
            raise ValueError(f"expected a string at byte {position - 8}")
        if length < 0:  # NA
            lines.append("")
            continue
        lines.append(serialised[position:position + length].decode("utf-8"))
        position += length
    return lines


def main(arguments: list) -> int:
    if len(arguments) != 2:
        print("usage: austen.py RDATA_RDB OUT_FOLDER", file=sys.stderr)
        return 2
    source, out = Path(arguments[0]), Path(arguments[1])
    out.mkdir(parents=True, exist_ok=True)
    found = {}
    for unpacked in objects_of(source.read_bytes()):
        lines = lines_of(unpacked)
        if not lines:
            continue
        title = next((line.strip().upper() for line in lines if line.strip()), "")
        for name, expected in NOVELS.items():
            if title.startswith(expected):
                found[name] = lines
    missing = sorted(NOVELS.keys() - found.keys())
    if missing:
        print(f"austen: {source}: novels not found: {', '.join(missing)}", file=sys.stderr)
        return 1
    total = 0
    for name, lines in found.items():
        content = "".join(line + "\n" for line in lines).encode("utf-8")
        (out / f"{name}.txt").write_bytes(content)
        total += len(content)
    print(f"austen: {len(found)} novels, {total:,} bytes in {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
