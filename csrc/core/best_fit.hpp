// Best-fit decreasing over whole documents: Ding et al. 2024, "Fewer truncations improve language modeling"; the rule and its
// bound are those of Johnson 1974. Integers only, so the same packing everywhere. Memory is the caller's.
#pragma once
#include "core/types.hpp"

namespace pf {

// How often a document is cut: pieces of length + 1 tokens, which share their last token with what follows, are taken off while
// more than length + 1 tokens are left.
PF_HD int64_t full_samples(int64_t tokens, int64_t length) { return tokens > length + 1 ? (tokens - 2) / length : 0; }

// A set of numbers in [0, 64^kLevels), as bits, and for each word of bits a bit in the level above that says whether it has any.
// `words` are 0 at first; they are words(size) for numbers below `size`.
class NumberSet {
  public:
    static constexpr int kLevels = 5;

    PF_HD static int64_t words(int64_t size) {
        int64_t sum = 0;
        for (int level = 0; level < kLevels; ++level) sum += size = (size + 63) / 64;
        return sum;
    }

    PF_HD NumberSet(uint64_t* words, int64_t size) {
        for (int level = 0; level < kLevels; ++level) {
            level_[level] = words;
            words += size = (size + 63) / 64;
            size_[level] = size;
        }
    }

    PF_HD void insert(int64_t number) {
        for (int level = 0; level < kLevels; ++level, number >>= 6) level_[level][number >> 6] |= 1ull << (number & 63);
    }

    PF_HD void remove(int64_t number) {
        for (int level = 0; level < kLevels; ++level, number >>= 6)
            if (level_[level][number >> 6] &= ~(1ull << (number & 63))) return;
    }

    // The smallest number in the set at or above this one, or -1.
    PF_HD int64_t at_or_above(int64_t number) const {
        for (int level = 0; level < kLevels; ++level) {
            const int64_t word = number >> 6;
            if (word >= size_[level]) return -1;
            const uint64_t rest = level_[level][word] >> (number & 63) << (number & 63);
            if (rest) {
                number = word << 6 | lowest(rest);
                while (level--) number = number << 6 | lowest(level_[level][number]);
                return number;
            }
            number = word + 1;
        }
        return -1;
    }

  private:
    // The number of the lowest bit that is set (de Bruijn would do as well; this is the same on host and device).
    PF_HD static int64_t lowest(uint64_t word) {
        int64_t bit = 0;
        for (int half = 32; half; half >>= 1)
            if (!(word & ((1ull << half) - 1))) word >>= half, bit += half;
        return bit;
    }

    uint64_t* level_[kLevels];
    int64_t size_[kLevels];
};

// Puts items into bins of `length`: each, in the order given, into the bin with the least room that takes it, of several the one
// that came to that room last; else into a new one. sizes[i] is in [1, length]; bin[i] becomes the bin of item i, bins being numbered as
// they are opened. rooms: length + 1 numbers, all -1; below: a number for each item; words: NumberSet::words(length + 1) zeros.
// Returns the number of bins. O(1) for each item.
PF_HD int64_t best_fit(const int64_t* sizes, int64_t items, int64_t length, int64_t* bin, int64_t* rooms, int64_t* below,
                       uint64_t* words) {
    NumberSet open(words, length + 1);
    int64_t bins = 0;
    for (int64_t i = 0; i < items; ++i) {
        int64_t room = open.at_or_above(sizes[i]);
        if (room < 0) {
            bin[i] = bins++;
            room = length;
        } else {
            bin[i] = rooms[room];  // the last one; the one below it is next
            rooms[room] = below[bin[i]];
            if (rooms[room] < 0) open.remove(room);
        }
        room -= sizes[i];
        if (!room) continue;  // it takes nothing more
        below[bin[i]] = rooms[room];
        rooms[room] = bin[i];
        open.insert(room);
    }
    return bins;
}

}  // namespace pf
