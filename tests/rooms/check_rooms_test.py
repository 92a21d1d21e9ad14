#!/usr/bin/env python3
"""Plants violations in a small tree and checks that scripts/check_rooms.py sees each of them, and
nothing else: a check nobody checks rots."""

import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import check_rooms  # noqa: E402

CLEAN = {
    "src/base/error.h": "#pragma once\n",
    "src/base/parallel.cpp": '#include <omp.h>\n#pragma omp parallel\nstd::thread t; int n = omp_get_num_threads();\n',
    "src/text/text.h": '#pragma once\n#include "base/error.h"\n',
    "src/text/cpu/simd_x.inc": '#include <immintrin.h>\n#include "text/private.h"\n',
    "src/text/private.h": "#pragma once\n",
    "src/kernels/kernels.h": "#pragma once\n",
    "src/kernels/cpu/simd.inc": "#include <immintrin.h>\n#ifdef __AVX2__\n__m256 x = _mm256_setzero_ps();\n#endif\n",
    "src/kernels/cpu/matmul.cpp": "#include <dnnl.hpp>\n#pragma omp simd\n",
    "src/model/model.h": '#pragma once\n#include "kernels/kernels.h"\n',
    "src/train/train.h": '#pragma once\n#include "model/model.h"\n#include "base/error.h"\n',
    "src/cli/cli.h": "#pragma once\n#include <CLI/CLI.hpp>\n",
    "src/cli/main.cpp": '#include <iostream>\n#include "train/train.h"\nint main() { std::cout << 1; exit(0); }\n',
    "src/model/CMakeLists.txt": "gpt2_room(model SOURCES m.cpp LINKS room_kernels)  # not room_cli\n",
    "tests/helper.h": "#pragma once\n",
}


def faults_with(changes: dict) -> list:
    """'path:line rule' of each fault in the clean tree with these files put over it."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in {**CLEAN, **changes}.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        faults, _ = check_rooms.check_rooms(Path(folder))
        return [f"{fault.path}:{fault.line} {fault.rule}" for fault in faults]


class CheckRooms(unittest.TestCase):
    def expect(self, path: str, content: str, *faults: str) -> None:
        """`faults`: 'line rule' each, in this file."""
        expected = [f"{path}:{fault}" for fault in faults]
        self.assertEqual(faults_with({path: content}), expected, content)

    def test_a_clean_tree_has_no_faults(self):
        self.assertEqual(faults_with({}), [])

    def test_includes_go_down(self):
        self.expect("src/text/a.cpp", '\n#include "model/model.h"\n', "2 floor")
        self.expect("src/text/a.cpp", '#include "kernels/kernels.h"\n', "1 floor")  # the same floor
        self.expect("src/train/a.cpp", '#include "cli/cli.h"\n', "1 floor")
        self.expect("src/base/a.cpp", '#include "text/text.h"\n', "1 floor")

    def test_includes_go_through_doors(self):
        self.expect("src/model/a.cpp", '#include "text/private.h"\n', "1 door")
        self.expect("src/model/a.cpp", '#include "kernels/cpu/simd.inc"\n', "1 door")
        self.expect("src/model/a.cpp", '#include "base/error.h"\n#include "model/own.h"\n')

    def test_includes_are_rooted(self):
        self.expect("src/text/a.cpp", '#include "private.h"\n', "1 include")
        self.expect("src/text/a.cpp", '#  include "../base/error.h"\n', "1 include")

    def test_rooms_have_floors_and_doors(self):
        self.expect("src/attic/attic.h", "#pragma once\n", "1 room")
        self.assertEqual(faults_with({"src/serve/http.cpp": "\n"}), ["src/serve:1 door"])

    def test_links_go_down(self):
        self.expect("src/text/CMakeLists.txt", "gpt2_room(text\n  LINKS room_data)\n", "2 floor")
        self.expect("src/text/CMakeLists.txt", "gpt2_room(text LINKS room_unknown)\n", "1 floor")

    def test_only_cli_prints(self):
        for line in ('std::cout << 1;', 'std::cerr << 1;', 'fmt::print("x");', 'printf("x");',
                     'std::printf("x");', 'fprintf(f, "x");', 'puts("x");', 'std::fputs("x", f);',
                     'perror("x");', 'write(stderr);', '#include <iostream>'):
            self.expect("src/train/a.cpp", f"\n{line}\n", "2 printing")
        self.expect("src/train/a.cpp", 'snprintf(b, n, "x"); log.puts("x"); inputs(x);\n')

    def test_only_parallel_starts_threads(self):
        for line in ("std::thread t;", "std::jthread t;", "auto f = std::async(g);",
                     "#include <omp.h>", "#pragma omp parallel for", "omp_set_num_threads(2);"):
            self.expect("src/data/data.h", f"#pragma once\n{line}\n", "2 threads")
        self.expect("src/data/data.h", "#pragma once\nstd::this_thread::yield();\n")

    def test_only_cli_ends_the_program(self):
        for line in ("exit(1);", "std::exit(1);", "::_exit(1);", "abort();", "std::terminate();"):
            self.expect("src/model/a.cpp", f"{line}\n", "1 exit")
        self.expect("src/model/a.cpp", "app.exit(1); at_exit(2); node->abort();\n")

    def test_device_code_stays_in_its_folder(self):
        self.expect("src/model/a.cpp", "#include <cuda_runtime.h>\n", "1 cuda")
        self.expect("src/kernels/a.cpp", "#include <cublas_v2.h>\n", "1 cuda")
        self.expect("src/kernels/cuda/a.cu", "#include <cuda_runtime.h>\n")
        self.expect("src/kernels/a.cpp", "#include <dnnl.hpp>\n", "1 onednn")

    def test_intrinsics_stay_in_their_files(self):
        self.expect("src/kernels/a.cpp", "#include <immintrin.h>\n", "1 intrinsics")
        self.expect("src/text/a.cpp", "auto x = _mm_setzero_ps();\n", "1 intrinsics")
        self.expect("src/model/a.cpp", "__m512i x;\n", "1 intrinsics")

    def test_options_are_parsed_in_cli(self):
        self.expect("src/train/a.cpp", "#include <CLI/CLI.hpp>\n", "1 options")

    def test_no_conditional_compilation(self):
        self.expect("src/model/a.cpp", "\n\n#ifdef GPT2_CUDA\n#endif\n", "3 preprocessor")
        self.expect("src/train/a.cpp", "  #  if 0\n#endif\n", "1 preprocessor")

    def test_headers(self):
        self.expect("src/text/private.h", "#include <vector>\n#pragma once\n", "1 pragma")
        self.expect("src/text/private.h", "// What it is.\n#pragma once\n")
        self.expect("tests/helper.h", "int x;\n", "1 pragma")
        self.expect("src/text/private.h", "#pragma once\nusing namespace std;\n", "2 using")
        self.expect("src/text/a.cpp", "using namespace std::literals;\n")

    def test_files_stay_small(self):
        self.expect("src/text/a.cpp", "\n" * 600)
        self.expect("src/text/a.cpp", "\n" * 601, "601 size")
        self.expect("src/text/unicode_tables.inc", "\n" * 601)

    def test_unfinished_work(self):
        self.expect("src/text/a.cpp", "// TO" + "DO: later\n", "1 todo")

    def test_comments_and_strings_are_not_code(self):
        self.expect("src/model/a.cpp", '// printf("x"); exit(1)\n/* std::thread\n*/\n'
                    'auto s = "std::cout \\" exit(1)"; auto r = R"x(abort() " )" )x";\n'
                    "int n = 1'000; char q = '\"'; char p = '\\''; int m = 2'000;\n"
                    '// #include "cli/cli.h"\n')
        self.expect("src/model/a.cpp", "int n = 1'000; exit(1); int m = 1'000;\n", "1 exit")
        self.expect("src/model/a.cpp", 'auto s = "//"; exit(1);\n', "1 exit")


if __name__ == "__main__":
    unittest.main()
