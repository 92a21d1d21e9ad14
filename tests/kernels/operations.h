#pragma once
/// Every operation of the door as a value: sizes and kind of input; called with a backend and a
/// Draw it makes the inputs, runs the operation once and returns all it wrote. The same value runs
/// on any backend, so results can be compared.

#include "kernels/helpers.h"

namespace kernels::test {

struct Embed {
  std::int64_t batch, length, channels;
  std::int64_t vocab = 11;
  std::int64_t first_position = 0;
  bool same_id = false;  ///< every row is the same token
  Dropout dropout = {};
  Outputs operator()(Backend& backend, Draw draw) const;
};

struct EmbedBackward {
  std::int64_t batch, length, channels;
  std::int64_t vocab = 11;
  bool same_id = false;
  Dropout dropout = {};
  Outputs operator()(Backend& backend, Draw draw) const;
};

struct LayerNorm {
  std::int64_t rows, channels;
  bool branch = true;
  bool in_place = false;  ///< res_out is res_in's memory
  double mean = 0;
  double deviation = 1;
  Dropout dropout = {};
  Outputs operator()(Backend& backend, Draw draw) const;
};

struct LayerNormBackward {
  std::int64_t rows, channels;
  bool copy = true;
  double mean = 0;
  double deviation = 1;
  Dropout dropout = {};
  Outputs operator()(Backend& backend, Draw draw) const;
};

struct Linear {
  std::int64_t rows, inputs, outputs;
  Epilogue epilogue = Epilogue::kNone;
  bool keep_pre = true;
  double deviation = 1;
  Outputs operator()(Backend& backend, Draw draw) const;
};

struct LinearBackward {
  std::int64_t rows, inputs, outputs;
  Epilogue epilogue = Epilogue::kNone;
  Gradient gradient = Gradient::kAdd;
  Outputs operator()(Backend& backend, Draw draw) const;
};

struct LowRankBackward {
  std::int64_t rows, inputs, outputs, rank;
  Outputs operator()(Backend& backend, Draw draw) const;
};

/// gelu_forward of what linear_forward keeps gives what linear_forward gives, on the cpu backend
/// bit for bit.
struct GeluForward {
  std::int64_t rows, inputs, outputs;
  Outputs operator()(Backend& backend, Draw draw) const;
};

struct Attention {
  std::int64_t batch, heads, length, head_size;
  double score = 1;     ///< standard deviation of the scores
  bool rising = false;  ///< the first head's scores rise along the keys as well, by 4 * score
  Dropout dropout = {};
  Outputs operator()(Backend& backend, Draw draw) const;
};

struct AttentionBackward {
  std::int64_t batch, heads, length, head_size;
  double score = 1;
  Dropout dropout = {};
  Outputs operator()(Backend& backend, Draw draw) const;
};

/// Feeds `length` rows to attention_cached in pieces of `piece` rows.
struct AttentionCached {
  std::int64_t heads, length, head_size, piece;
  std::int64_t spare = 3;  ///< positions of the cache that stay unused
  Outputs operator()(Backend& backend, Draw draw) const;
};

/// One call of attention_cached for several sequences, whose caches hold drawn values before.
struct AttentionOfSequences {
  struct Piece {
    std::int64_t position, rows;
  };
  std::int64_t heads, head_size;
  std::vector<Piece> pieces;
  bool together = true;  ///< false: a call for each, with the same inputs
  Outputs operator()(Backend& backend, Draw draw) const;
};

struct HeadLoss {
  std::int64_t rows, channels, vocab, padded_vocab;
  double logit = 1;       ///< standard deviation of the logits; 0: all equal
  int ignore_every = 3;   ///< every n-th target is ignored; 1: all; 0: none
  bool gradients = true;  ///< false: head_loss_forward
  Gradient gradient = Gradient::kAdd;
  LossOptions options = {};
  Outputs operator()(Backend& backend, Draw draw) const;
};

struct HeadLogits {
  std::int64_t rows, channels, vocab, padded_vocab;
  Outputs operator()(Backend& backend, Draw draw) const;
};

struct AdamWSteps {
  Shape shape;
  std::int64_t steps = 3;
  double gradient = 1;  ///< standard deviation; 0 stays 0
  double average = -1;  ///< decay of a moving average; below 0: there is none
  Outputs operator()(Backend& backend, Draw draw) const;
};

struct MuonSteps {
  std::int64_t rows, columns;
  std::int64_t parts = 1;
  std::int64_t steps = 2;
  double gradient = 1;
  double average = -1;
  Outputs operator()(Backend& backend, Draw draw) const;
};

}  // namespace kernels::test
