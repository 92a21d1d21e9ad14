// assets/vocab.bpe as bytes of the program: the assembler copies the file into the object, so that
// the build needs no generator and no megabytes of source.

#include "text/vocabulary.h"

asm(".pushsection .rodata\n"
    ".global gpt2_vocab_bpe_begin\n"
    ".global gpt2_vocab_bpe_end\n"
    ".hidden gpt2_vocab_bpe_begin\n"
    ".hidden gpt2_vocab_bpe_end\n"
    "gpt2_vocab_bpe_begin:\n"
    ".incbin \"" GPT2_VOCAB_BPE
    "\"\n"  // the path, from CMake
    "gpt2_vocab_bpe_end:\n"
    ".byte 0\n"
    ".popsection\n");

// The assembler's names, not C++'s. NOLINTBEGIN(readability-identifier-naming)
extern "C" {
extern const char gpt2_vocab_bpe_begin[] __attribute__((visibility("hidden")));
extern const char gpt2_vocab_bpe_end[] __attribute__((visibility("hidden")));
}
// NOLINTEND(readability-identifier-naming)

namespace text {

std::string_view embedded_vocab_bpe() { return {gpt2_vocab_bpe_begin, gpt2_vocab_bpe_end}; }

}  // namespace text
