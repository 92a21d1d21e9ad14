// Limits of AMX: tiles of 16 x 64 bytes, for bf16 and int8 (Sapphire Rapids and later).
// Four sums hide a tile product's latency (52 cycles against 16 from one to the next).

#include <immintrin.h>

#include "kernels/cpu/limits_table.h"

namespace kernels::cpu {
namespace {

/// How LDTILECFG wants its 64 bytes. Source: Intel SDM volume 1, section 18.3.
struct alignas(64) TileShapes {
  std::uint8_t palette = 1;
  std::uint8_t start_row = 0;
  std::uint8_t reserved[14] = {};
  std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

/// Bytes of a tile that are numbers between -1 and 1 in bf16, and any number in int8. Not zeros:
/// those take less power, so that the clock runs faster than real products let it.
struct alignas(64) TileBytes {
  std::uint8_t bytes[1024];
};
TileBytes numbers(std::uint32_t state) {
  TileBytes tile;
  for (std::size_t i = 0; i < sizeof tile.bytes; i += 2) {
    state = state * 1664525U + 1013904223U;
    tile.bytes[i] = static_cast<std::uint8_t>(state >> 24);
    tile.bytes[i + 1] =
        static_cast<std::uint8_t>(0x3f - (state >> 16) % 4 + (state >> 8) % 2 * 0x80);
  }
  return tile;
}

/// Tiles 0 to 3 are sums, 4 and 5 a, 6 and 7 b.
void begin_tiles() {
  const TileShapes shapes;
  const TileBytes tiles[4] = {numbers(1), numbers(2), numbers(3), numbers(4)};
  asm volatile("" : : "m"(shapes), "m"(tiles) : "memory");
  _tile_loadconfig(&shapes);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, &tiles[0], 64);
  _tile_loadd(5, &tiles[1], 64);
  _tile_loadd(6, &tiles[2], 64);
  _tile_loadd(7, &tiles[3], 64);
}

void run_bf16(std::int64_t rounds) {
  begin_tiles();
  for (std::int64_t round = 0; round < rounds; ++round) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
}

void run_int8(std::int64_t rounds) {
  begin_tiles();
  for (std::int64_t round = 0; round < rounds; ++round) {
    _tile_dpbssd(0, 4, 6);
    _tile_dpbssd(1, 4, 7);
    _tile_dpbssd(2, 5, 6);
    _tile_dpbssd(3, 5, 7);
  }
  _tile_release();
}

constexpr double kTileProducts = 4 * 16 * 16;  // a round; each sums 32 bf16 or 64 int8 products

}  // namespace

extern constexpr LimitsTable kLimitsAmxTable = {.f32 = {},
                                                .bf16 = {run_bf16, 2.0 * kTileProducts * 32},
                                                .int8 = {run_int8, 2.0 * kTileProducts * 64},
                                                .read = nullptr};

}  // namespace kernels::cpu
