// Part of the build: writes the image of GPT-2's vocabulary.
//
// usage: make_image VOCAB_BPE IMAGE

#include "base/file.h"
#include "text/vocabulary.h"

int main(int count, char** arguments) {
  if (count != 3) return 2;
  const std::string vocab_bpe = base::read_file(arguments[1]);
  text::Image image = text::make_image(text::vocabulary_from_vocab_bpe(vocab_bpe), "vocab.bpe");
  text::mark_whole_tokens(image);
  base::write_file(arguments[2], base::as_text(std::as_bytes(std::span(image))));
  return 0;
}
