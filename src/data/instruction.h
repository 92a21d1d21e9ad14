#pragma once
/// A prompt and its answer, or a conversation, in a JSON line. Private to the room.

#include <span>
#include <string>
#include <vector>

#include "data/documents.h"

namespace data {

/// A text, cut into what is given and what is learnt.
struct Instruction {
  std::string text;
  std::vector<Segment> segments;  ///< of all of it; neighbours differ
};

/// Reads the object `line`, whose content is lost:
///   {"prompt": P, "completion": C}       P is given, C is learnt
///   {"messages": [{"role": R, "content": C}, ...]}, R one of system, user, assistant:
///     a line "System: C", "User: C" or "Assistant: C" each, with a newline between two; of it,
///     " C" of the assistant's is learnt, so that "Assistant:" ends what is given
/// Other fields do not matter. Returns what is wrong, or "".
std::string read_instruction(std::span<char> line, Instruction& instruction);

}  // namespace data
