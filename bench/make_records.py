#!/usr/bin/env python3
"""Writes records of natural-looking text, as JSONL and as Parquet: as many as one wants to prepare.

Each record is a run of paragraphs drawn at random from a real text (bench/gather_text.py makes
one), so that words, lengths and repetitions are those of the language. Needs numpy; pyarrow for
Parquet.

  python3 bench/gather_text.py --out corpus
  python3 bench/make_records.py corpus/english.txt --records 660000 --bytes 7000 --out records
"""

import argparse
import json
import pathlib

import numpy


def paragraphs(path):
    """Pieces of the text of some hundred bytes that end at a line's end."""
    result, piece = [], []
    for line in path.read_text(encoding="utf-8", errors="ignore").splitlines():
        piece.append(line)
        if sum(map(len, piece)) >= 600:
            result.append("\n".join(piece))
            piece = []
    return result


def records(pool, count, size, seed):
    draw = numpy.random.default_rng(seed)
    lengths = numpy.maximum(1, draw.lognormal(numpy.log(size) - 0.18, 0.6, count)).astype(int)
    for length in lengths:
        parts, have = [], 0
        while have < length:
            parts.append(pool[draw.integers(len(pool))])
            have += len(parts[-1]) + 1
        yield "\n".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("text", type=pathlib.Path)
    parser.add_argument("--records", type=int, default=660_000)
    parser.add_argument("--bytes", type=int, default=7000, help="mean bytes of a record")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--format", choices=("jsonl", "parquet"), default="jsonl")
    parser.add_argument("--compression", default="snappy", help="of Parquet")
    parser.add_argument("--files", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    pool = paragraphs(arguments.text)
    for file in range(arguments.files):
        begin = arguments.records * file // arguments.files
        end = arguments.records * (file + 1) // arguments.files
        made = records(pool, end - begin, arguments.bytes, (arguments.seed, file))
        name = arguments.out / f"records-{file:05}"
        if arguments.format == "jsonl":
            with open(f"{name}.jsonl", "w", encoding="utf-8") as out:
                for text in made:
                    out.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
        else:
            import pyarrow
            import pyarrow.parquet
            table = pyarrow.table({"text": list(made)})
            pyarrow.parquet.write_table(table, f"{name}.parquet", row_group_size=1000,
                                        compression=arguments.compression)
        print(f"{name}.{arguments.format}", flush=True)


if __name__ == "__main__":
    main()
