// Bijections and orders over many values at once: the numbers of csrc/core, with what neighbours share worked out once.
#pragma once
#include <cstdint>
#include <optional>

#include "core/order.hpp"

namespace pf {

constexpr int64_t kChunk = 512;  // what is worked on at a time: it stays in the first two caches

// values[i] = Bijection(shape.size, keys[i]).forward(values[i]), or .inverse; count <= kChunk. The key of `shape` is not used.
void permute_many(const Bijection& shape, const uint64_t* keys, uint64_t* values, int64_t count);
void unpermute_many(const Bijection& shape, const uint64_t* keys, uint64_t* values, int64_t count);

// Windows of one epoch are equally large, but for the one with the short block, and the last.
enum Kind { kNominal, kShort, kLast, kKinds };

// What a walk works in. One may serve many walks, one after the other.
struct Scratch {
    // The values of a chunk that lie in windows of one kind.
    struct Group {
        int64_t count;
        int64_t at[kChunk];  // place in the chunk
        uint64_t key[kChunk];
        uint64_t value[kChunk];

        void add(int64_t place, uint64_t key_, uint64_t value_) {
            at[count] = place;
            key[count] = key_;
            value[count++] = value_;
        }
    };
    Group groups[kKinds];
    uint64_t slot[kChunk];
    uint64_t inside[kChunk];
    uint64_t key[kChunk];
    uint64_t table[kChunk];
};

// Follows the order of one source and keeps what neighbours share: the epoch, the window and its key, and which blocks lie in its
// slots. Any positions may be asked for; ascending ones are fast.
class Walk {
  public:
    Walk(const Geometry& geometry, Scratch& scratch) : geometry_(geometry), scratch_(scratch) {}

    // Positions -> samples (and epochs, unless null).
    void samples_at(const int64_t* positions, int64_t count, int64_t* samples, int64_t* epochs);
    void positions_of(const int64_t* samples, const int64_t* epochs, int64_t count, int64_t* positions);

  private:
    struct Window {
        uint64_t number = 0, first = 0, samples = 0, key = 0;  // `first` is a rank; no samples: not a window yet
        Kind kind = kNominal;
    };

    void enter(uint64_t number);
    void see(uint64_t window);
    uint64_t samples_of(Kind kind) const;
    const uint64_t* same_key(int64_t count);
    int64_t take_ranks(const int64_t* positions, int64_t count);
    int64_t take_windows(const int64_t* positions, int64_t count);
    void shuffle_inside();
    void blocks_of_slots(int64_t count);
    void ranks_of_slots(int64_t count);

    Geometry geometry_;
    Scratch& scratch_;
    std::optional<Epoch> epoch_;
    Window window_;
    uint64_t table_first_ = 0, table_stop_ = 0;  // the slots whose blocks scratch_.table has
};

}  // namespace pf
