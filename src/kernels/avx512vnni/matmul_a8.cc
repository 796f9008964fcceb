// Products of codes with AVX-512 VNNI: the order in which tiles are computed, and which weights are
// brought nearer meanwhile. A tile is in tile_a8.h.
//
// Up to 6 rows: tiles of all 64 columns of a panel, in one stream through the weights. Up to 12
// rows: two tiles of 32 columns, in turns if there is one group. More rows: for each 32 columns
// all tiles of rows, of nearly equal height (20 rows are 2 times 10); the first one leaves 4-bit
// weights as bytes for the others.
#include "kernels/avx512vnni/tile_a8.h"
#include "kernels/finish.h"
#include "kernels/kernel_table.h"

namespace qvlm::kernels {
namespace {

constexpr std::int64_t kMaxRows = 12;
using Multiply = void (*)(const TileArguments&);

template <Source kSource>
constexpr Multiply kWideTiles[] = {nullptr,
                                   Tile<kSource, 1, 4, true>::multiply,
                                   Tile<kSource, 2, 4, true>::multiply,
                                   Tile<kSource, 3, 4, true>::multiply,
                                   Tile<kSource, 4, 4, true>::multiply,
                                   Tile<kSource, 5, 4, true>::multiply,
                                   Tile<kSource, 6, 4, true>::multiply};

// Of 6 rows and more.
template <Source kSource, bool kStream>
constexpr Multiply kTallTiles[] = {
    Tile<kSource, 6, 2, kStream>::multiply,  Tile<kSource, 7, 2, kStream>::multiply,
    Tile<kSource, 8, 2, kStream>::multiply,  Tile<kSource, 9, 2, kStream>::multiply,
    Tile<kSource, 10, 2, kStream>::multiply, Tile<kSource, 11, 2, kStream>::multiply,
    Tile<kSource, 12, 2, kStream>::multiply};

template <Source kSource>
constexpr Multiply kTurnTiles[] = {
    Tile<kSource, 7, 2, true>::multiply_in_turns,  Tile<kSource, 8, 2, true>::multiply_in_turns,
    Tile<kSource, 9, 2, true>::multiply_in_turns,  Tile<kSource, 10, 2, true>::multiply_in_turns,
    Tile<kSource, 11, 2, true>::multiply_in_turns, Tile<kSource, 12, 2, true>::multiply_in_turns};

template <int kBits>
constexpr std::int64_t kStepBytes = kBits == 4 ? kStepBytes4 : kStepBytes8;

// `offset`, minus what codes are stored plus, times the sums of the activations' groups.
void set_offsets(const IntegerArguments& a,
                 TileArguments& t,
                 std::int64_t rows,
                 std::int32_t offset) {
  const std::int64_t count = rows * a.weights.groups;
  const std::int32_t* sums = a.activation_sums + t.row * a.weights.groups;
  for (std::int64_t i = 0; i < count; ++i) {
    t.offsets[i] = sums[i] * offset;
  }
}

// Up to 12 rows: each weight is used by one tile.
template <int kBits>
void multiply_few(const IntegerArguments& a, TileArguments& t) {
  constexpr Source kSource = kBits == 4 ? kNibbles : kBytes;
  const std::int64_t panel_bytes = a.weights.steps * kStepBytes<kBits>;
  const bool wide = a.rows <= 6;
  const bool turns = !wide && a.weights.groups == 1;
  const Multiply multiply = wide    ? kWideTiles<kSource>[a.rows]
                            : turns ? kTurnTiles<kSource>[a.rows - 7]
                                    : kTallTiles<kSource, true>[a.rows - 6];
  t.row = 0;
  set_offsets(a, t, a.rows, -(1 << (kBits - 1)));
  for (t.panel = a.finish.begin / kPanel; t.panel * kPanel < a.finish.end; ++t.panel) {
    for (t.column = 0; t.column < kPanel; t.column += wide || turns ? 64 : 32) {
      t.weights = a.weights.codes + t.panel * panel_bytes + 4 * t.column;
      t.fetch[0] = t.weights + (turns ? kTurnBytes : kAhead);
      multiply(t);
    }
  }
}

// Fetches the next 32 columns' weights during the first tiles: a step has kLines cache lines of
// them.
template <int kBits>
void set_fetch(TileArguments& t, std::int64_t tile, std::int64_t tiles, const std::uint8_t* next) {
  constexpr std::int64_t kLines = kBits == 4 ? 2 : 4;
  const std::int64_t each = tiles < kLines ? 2 : 1;  // lines per step and tile
  for (int i = 0; i < 2; ++i) {
    const std::int64_t line = tile * each + (i < each ? i : 0);
    t.fetch[i] = next == nullptr || line >= kLines ? t.weights
                                                   : next + line / 2 * kQuadBytes + line % 2 * 64;
  }
}

// More than 12 rows, `count` from `first`.
template <int kBits>
void multiply_many(const IntegerArguments& a,
                   TileArguments& t,
                   std::int64_t first,
                   std::int64_t count) {
  const std::int64_t panel_bytes = a.weights.steps * kStepBytes<kBits>;
  const std::int64_t tiles = (count + kMaxRows - 1) / kMaxRows;
  for (t.panel = a.finish.begin / kPanel; t.panel * kPanel < a.finish.end; ++t.panel) {
    const bool last = (t.panel + 1) * kPanel >= a.finish.end;
    for (t.column = 0; t.column < kPanel; t.column += 32) {
      const std::uint8_t* weights = a.weights.codes + t.panel * panel_bytes + 4 * t.column;
      const std::uint8_t* next =
          t.column == 0 ? weights + 128 : (last ? nullptr : weights + panel_bytes - 128);
      for (std::int64_t tile = 0; tile < tiles; ++tile) {
        t.row = first + count * tile / tiles;
        const std::int64_t rows = first + count * (tile + 1) / tiles - t.row;
        set_offsets(a, t, rows, -(1 << (kBits - 1)));
        const bool expanded = kBits == 4 && tile > 0;
        t.weights = expanded ? t.expanded : weights;
        set_fetch<kBits>(t, tile, tiles, next);
        if (kBits == 8) {
          kTallTiles<kBytes, false>[rows - 6](t);
        } else {
          (expanded ? kTallTiles<kExpanded, false> : kTallTiles<kNibblesKept, false>)[rows - 6](t);
        }
      }
    }
  }
}

// Activations are read once per 32 columns: blocks of rows that stay in the second-level cache, but
// not so few rows that reading weights for each block costs more.
template <int kBits>
void multiply_blocks(const IntegerArguments& a, TileArguments& t) {
  constexpr std::int64_t kBlockBytes = 640 * 1024, kLeastRows = 48;
  const std::int64_t wanted = (a.rows * a.activation_stride + kBlockBytes - 1) / kBlockBytes;
  const std::int64_t most = a.rows < 2 * kLeastRows ? 1 : a.rows / kLeastRows;
  const std::int64_t blocks = wanted < most ? wanted : most;
  for (std::int64_t block = 0; block < blocks; ++block) {
    const std::int64_t first = a.rows * block / blocks;
    multiply_many<kBits>(a, t, first, a.rows * (block + 1) / blocks - first);
  }
}

template <int kBits>
void matmul(const IntegerArguments& a) {
  TileArguments t = {};
  t.product = &a;
  t.totals = reinterpret_cast<float*>(a.scratch);
  t.expanded = a.scratch + kScratchBase;
  t.offsets = reinterpret_cast<std::int32_t*>(t.expanded + a.weights.steps * kQuadBytes);
  if (a.rows <= kMaxRows) {
    multiply_few<kBits>(a, t);
  } else {
    multiply_blocks<kBits>(a, t);
  }
}

}  // namespace

const IntegerKernels kAvx512VnniInteger = {matmul<8>, matmul<4>};

}  // namespace qvlm::kernels
