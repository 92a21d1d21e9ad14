#!/usr/bin/env python3
"""Checks that every header of src/ and tests/ compiles alone.

usage: check_headers.py COMPILER ROOT [FLAG...]
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def main(arguments: list) -> int:
    compiler, root, flags = arguments[0], Path(arguments[1]), arguments[2:]
    headers = sorted(p for folder in ("src", "tests") for p in (root / folder).rglob("*.h"))

    def fault_of(header: Path) -> str:
        # Included from a line on stdin: as a main file its #pragma once would be warned about.
        command = [compiler, "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror",
                   f"-I{root}/src", f"-I{root}/tests", *flags, "-x", "c++", "-"]
        done = subprocess.run(command, input=f'#include "{header}"\n', text=True,
                              capture_output=True, check=False)
        return "" if done.returncode == 0 else f"{header.relative_to(root)}:\n{done.stderr}"

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        faults = [fault for fault in pool.map(fault_of, headers) if fault]
    print("\n".join(faults) if faults else f"check_headers: {len(headers)} headers compile alone")
    return 1 if faults or not headers else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
