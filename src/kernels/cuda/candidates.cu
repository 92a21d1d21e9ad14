// The tokens that a draw looks at: of each row of logits the most likely ones in order, and the
// mass of all, so that a token costs a copy of two kilobytes instead of the vocabulary's logits.
//
// A slice of a row is sorted by one block; the best of eight slices each are merged by one block,
// and those by another, list after list, as a chain of merges takes some time. Keys order logits,
// equal ones by their ids, and are all different: the order does not depend on anything else.

#include "kernels/cuda/launchers.h"
#include "kernels/cuda/vector.h"

namespace kernels::cuda {
namespace {

constexpr int kSlice = 1024;  // logits of a block, two a thread
constexpr int kThreads = kSlice / 2;
constexpr int kWarps = kThreads / 32;
constexpr float kLog2E = 1.4426950409F;

/// Larger for a larger logit, and of equal ones for the lower id. NaN is the largest of all, so
/// that it is seen; 0 is no key.
__device__ inline std::uint64_t key_of(float logit, int id) {
  const auto bits = gpu::to_bits(logit + 0.0F);  // -0 equals 0
  std::uint32_t order = bits & 0x80000000U ? ~bits : bits | 0x80000000U;
  if (logit != logit) order = ~0U;
  return std::uint64_t{order} << 32 | ~static_cast<std::uint32_t>(id);
}
__device__ inline float logit_of(std::uint64_t key) {
  const auto order = static_cast<std::uint32_t>(key >> 32);
  if (order == ~0U) return NAN;
  return gpu::from_bits(order & 0x80000000U ? order & 0x7FFFFFFFU : ~order);
}

__device__ inline void order_pair(std::uint64_t& first, std::uint64_t& second, bool descending) {
  const std::uint64_t a = first, b = second;
  if ((a < b) == descending) first = b, second = a;
}

/// The steps of a bitonic network that merge runs of `width`, over `count` keys; threads take
/// pairs.
__device__ inline void merge_steps(std::uint64_t* keys, int count, int width, int run) {
  for (int stride = width / 2; stride > 0; stride /= 2) {
    gpu::sync_threads();
    for (int t = static_cast<int>(threadIdx.x); t < count / 2; t += kThreads) {
      const int i = 2 * t - t % stride;
      order_pair(keys[i], keys[i + stride], i / run % 2 == 0);
    }
  }
}

/// Weights against the slice's own maximum; the pass that merges relates them to the row's.
__global__ void __launch_bounds__(kThreads)
    sort_slices(std::uint64_t* best, float* tops, double* masses, const float* logits, int vocab,
                int stride, const float* inverse_temperatures) {
  GPU_SHARED(keys, std::uint64_t[kSlice]);
  GPU_SHARED(partial, double[kWarps]);
  const int slices = static_cast<int>(gridDim.x);
  const int slice = static_cast<int>(blockIdx.x);
  const std::size_t n = blockIdx.y;
  const float* row = logits + n * stride;
  for (int i = static_cast<int>(threadIdx.x); i < kSlice; i += kThreads) {
    const int id = slice * kSlice + i;
    keys[i] = id < vocab ? key_of(row[id], id) : 0;
  }
  for (int width = 2; width <= kSlice; width *= 2) merge_steps(keys, kSlice, width, width);
  gpu::sync_threads();
  const float top = logit_of(keys[0]);
  const float scale = inverse_temperatures[n] * kLog2E;
  double mass = 0;
  for (int i = static_cast<int>(threadIdx.x); i < kSlice; i += kThreads) {
    if (keys[i] != 0 && top != -INFINITY)
      mass += static_cast<double>(gpu::exp2_fast((logit_of(keys[i]) - top) * scale));
  }
  mass = block_sum<kWarps>(mass, partial);
  const std::size_t place = n * slices + slice;
  for (int i = static_cast<int>(threadIdx.x); i < kCandidates; i += kThreads) {
    best[place * kCandidates + i] = keys[i];
  }
  if (threadIdx.x == 0) {
    tops[place] = top;
    masses[place] = mass;
  }
}

constexpr int kMergeThreads = kCandidates;  // a key each
constexpr int kGroup = 8;                   // slices that a block merges first

/// keys[0, kCandidates), falling, become the best of themselves and of the lists at first, first +
/// step, ... below end. Ends without a barrier.
__device__ inline void merge_lists(std::uint64_t* keys, const std::uint64_t* lists, int first,
                                   int step, int end) {
  const int t = static_cast<int>(threadIdx.x);
  const auto key_at = [&](int list) {
    return list < end ? lists[static_cast<std::size_t>(list) * kCandidates + t] : 0;
  };
  std::uint64_t next = key_at(first);
  for (int list = first; list < end; list += step) {
    // Against the other list from its end the larger of each pair are the best of both, and rise
    // and fall once: what is left of a bitonic network sorts them.
    keys[2 * kCandidates - 1 - t] = next;
    next = key_at(list + step);
    gpu::sync_threads();
    order_pair(keys[t], keys[kCandidates + t], true);
    for (int stride = kCandidates / 2; stride > 0; stride /= 2) {
      gpu::sync_threads();
      if (t >= kCandidates / 2) continue;
      const int i = 2 * t - t % stride;
      order_pair(keys[i], keys[i + stride], true);
    }
    gpu::sync_threads();
  }
}

/// A block has kGroup slices of a row; the best of them take the first one's place.
__global__ void __launch_bounds__(kMergeThreads) merge_groups(std::uint64_t* best, int slices) {
  GPU_SHARED(keys, std::uint64_t[2 * kCandidates]);
  std::uint64_t* lists = best + static_cast<std::size_t>(blockIdx.y) * slices * kCandidates;
  const int first = static_cast<int>(blockIdx.x) * kGroup;
  const int end = gpu::minimum(first + kGroup, slices);
  std::uint64_t* own = lists + static_cast<std::size_t>(first) * kCandidates + threadIdx.x;
  keys[threadIdx.x] = *own;
  merge_lists(keys, lists, first + 1, 1, end);
  *own = keys[threadIdx.x];
}

/// A block has a row: it merges the groups' best, and adds up the slices' masses.
__global__ void __launch_bounds__(kMergeThreads)
    merge_rows(CandidateRow* out, const std::uint64_t* best, const float* tops,
               const double* masses, int slices, const float* inverse_temperatures) {
  GPU_SHARED(keys, std::uint64_t[2 * kCandidates]);
  GPU_SHARED(partial, double[kMergeThreads / 32]);
  const std::size_t n = blockIdx.x;
  const std::uint64_t* lists = best + n * slices * kCandidates;
  const auto t = static_cast<int>(threadIdx.x);
  keys[t] = lists[t];
  merge_lists(keys, lists, kGroup, kGroup, slices);
  const std::uint64_t key = keys[t];
  out[n].logits[t] = key == 0 ? -INFINITY : logit_of(key);
  out[n].ids[t] = key == 0 ? -1 : static_cast<std::int32_t>(~static_cast<std::uint32_t>(key));
  gpu::sync_threads();  // keys[0] is there, where nothing was merged
  const float top = logit_of(keys[0]);
  const float scale = inverse_temperatures[n] * kLog2E;
  double mass = 0;
  for (int s = t; s < slices; s += kMergeThreads) {
    const std::size_t place = n * slices + s;
    mass += masses[place] * static_cast<double>(gpu::exp2_fast((tops[place] - top) * scale));
  }
  mass = block_sum<kMergeThreads / 32>(mass, partial);
  if (t == 0) out[n].mass = mass;
}

}  // namespace

int candidate_slices(int vocab) { return (vocab + kSlice - 1) / kSlice; }

void find_candidates(CandidateRow* out, const CandidateScratch& scratch, const float* logits,
                     const float* inverse_temperatures, int rows, int vocab, int stride,
                     Stream stream) {
  const int slices = candidate_slices(vocab);
  gpu::launch(sort_slices, dim3(static_cast<unsigned>(slices), static_cast<unsigned>(rows)),
              dim3(kThreads), 0, stream, scratch.best, scratch.tops, scratch.masses, logits, vocab,
              stride, inverse_temperatures);
  if (slices > 1) {
    gpu::launch(
        merge_groups,
        dim3(static_cast<unsigned>((slices + kGroup - 1) / kGroup), static_cast<unsigned>(rows)),
        dim3(kMergeThreads), 0, stream, scratch.best, slices);
  }
  gpu::launch(merge_rows, dim3(static_cast<unsigned>(rows)), dim3(kMergeThreads), 0, stream, out,
              scratch.best, scratch.tops, scratch.masses, slices, inverse_temperatures);
}

}  // namespace kernels::cuda
