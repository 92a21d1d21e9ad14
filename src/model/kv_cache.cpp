// Where a sequence's keys and values lie, and how they move when more room is needed.

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "model/model.h"

namespace model {

KvCache::KvCache(const Config& config, DType type, std::optional<std::int64_t> capacity,
                 base::MemorySource* memory)
    : shape_{config.heads, config.context, config.channels / config.heads}, memory_(memory) {
  const auto layers = static_cast<std::size_t>(config.layers);
  keys_.assign(layers, View(nullptr, type, {}));
  values_ = keys_;
  take(std::clamp<std::int64_t>(capacity.value_or(config.context), 1, config.context));
}

KvCache Gpt2::make_cache(std::optional<std::int64_t> capacity) {
  return KvCache(config(), backend().compute_type(), capacity, backend().memory());
}

void KvCache::take(std::int64_t capacity) {
  const DType type = keys_.front().type();
  const Shape shape{shape_[0], capacity, shape_[2]};
  arena_ = base::make_arena(
      [&](base::Arena& arena) {
        for (std::size_t layer = 0; layer < keys_.size(); ++layer) {
          keys_[layer] = arena.take(type, shape);
          values_[layer] = arena.take(type, shape);
        }
      },
      memory_);
  capacity_ = capacity;
}

void KvCache::truncate(std::int64_t length) {
  if (length < 0 || length > length_) {
    base::fail("KvCache::truncate: expected a length from 0 to {}, got {}", length_, length);
  }
  length_ = length;
}

void KvCache::reserve(std::int64_t positions) {
  if (positions <= capacity_) return;
  if (positions > shape_[1]) {
    base::fail("KvCache::reserve: expected at most the model's context of {}, got {}", shape_[1],
               positions);
  }
  KvCache old = std::move(*this);
  shape_ = old.shape_;
  keys_ = old.keys_;
  values_ = old.values_;
  take(positions);
  copy_positions(old);
}

void KvCache::assign(const KvCache& other) {
  if (other.shape_ != shape_ || other.keys_.size() != keys_.size() ||
      other.keys_.front().type() != keys_.front().type()) {
    base::fail("KvCache::assign: the other cache belongs to a model of another shape or type");
  }
  truncate(0);
  reserve(other.length_);
  copy_positions(other);
}

void KvCache::copy_positions(const KvCache& from) {
  const auto row = static_cast<std::size_t>(shape_[2]) * base::size_of(keys_.front().type());
  const auto copy = [&](const View& to, const View& source) {  // head by head: their strides differ
    for (std::int64_t h = 0; h < shape_[0]; ++h) {
      std::memcpy(to.rows(h, 1).data(), source.rows(h, 1).data(),
                  static_cast<std::size_t>(from.length_) * row);
    }
  };
  for (std::size_t layer = 0; layer < keys_.size(); ++layer) {
    copy(keys_[layer], from.keys_[layer]);
    copy(values_[layer], from.values_[layer]);
  }
  length_ = from.length_;
}

}  // namespace model
