// The image of GPT-2's vocabulary as bytes of the program: the assembler copies the file that
// make_image wrote into the object, so that the compiler has no megabytes of source to read.

#include "text/vocabulary.h"

asm(".pushsection .rodata\n"
    ".balign 64\n"
    ".global gpt2_vocabulary_begin\n"
    ".global gpt2_vocabulary_end\n"
    ".hidden gpt2_vocabulary_begin\n"
    ".hidden gpt2_vocabulary_end\n"
    "gpt2_vocabulary_begin:\n"
    ".incbin \"" GPT2_VOCABULARY_IMAGE
    "\"\n"  // the path, from CMake
    "gpt2_vocabulary_end:\n"
    ".byte 0\n"
    ".popsection\n");

// The assembler's names, not C++'s. NOLINTBEGIN(readability-identifier-naming)
extern "C" {
extern const std::byte gpt2_vocabulary_begin[] __attribute__((visibility("hidden")));
extern const std::byte gpt2_vocabulary_end[] __attribute__((visibility("hidden")));
}
// NOLINTEND(readability-identifier-naming)

namespace text {

const Tokenizer& Tokenizer::gpt2() {
  static const Tokenizer tokenizer(
      std::make_unique<Tables>(std::span(gpt2_vocabulary_begin, gpt2_vocabulary_end)));
  return tokenizer;
}

}  // namespace text
