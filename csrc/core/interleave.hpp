// Which source takes a position of a mixture, and back: docs/stream-spec.md, sections 6 and 7.
// A balanced binary tree stands over the sources; each of its nodes deals its positions to two children, evenly over time. Of the
// first v, floor(v * a / w + 1/2) go left: the digital line that splits w into a and w - a (Bresenham 1965), rounded to the nearest.
#pragma once
#include "core/types.hpp"

namespace pf {

// One node of weight `whole` < 2^32, whose left child weighs `left` >= 1. Every `whole` positions the split begins anew.
struct Split {
    uint64_t whole;
    uint64_t left;

    // How many of the first v <= whole go left.
    PF_HD uint64_t left_of(uint64_t v) const { return (v * left + whole / 2) / whole; }
    // Number v of the node, where its left (right) child's number is `v`.
    PF_HD uint64_t from_left(uint64_t v) const { return ((v + 1) * whole - whole / 2 - 1) / left; }
    PF_HD uint64_t from_right(uint64_t v) const { return (v * whole + whole / 2) / (whole - left); }
};

struct Leaf {
    uint64_t source;
    uint64_t number;  // which one of this source's
};

// The tree over `count` sources. It needs no nodes: `before[i]` is what the sources below i weigh together, i in [0, count].
struct Interleave {
    const uint64_t* before;
    uint64_t count;

    PF_HD uint64_t period() const { return before[count]; }
    PF_HD uint64_t weight(uint64_t source) const { return before[source + 1] - before[source]; }
    PF_HD Split at(uint64_t low, uint64_t middle, uint64_t high) const {
        return {before[high] - before[low], before[middle] - before[low]};
    }

    // `period_number` = q / period(), v = q % period(). Since every node is exact at each period, only v walks down.
    PF_HD Leaf split(uint64_t period_number, uint64_t v) const {
        uint64_t low = 0, high = count, whole = before[count];
        while (high - low > 1) {
            const uint64_t middle = low + (high - low) / 2;
            const uint64_t left = before[middle] - before[low];
            const uint64_t scaled = v * left + whole / 2;  // below 2^64, since v < whole < 2^32
            const uint64_t gone = scaled / whole;
            const bool goes_left = scaled - gone * whole + left >= whole;  // then one more is gone at v + 1
            v = goes_left ? gone : v - gone;
            whole = goes_left ? left : whole - left;
            low = goes_left ? low : middle;
            high = goes_left ? middle : high;
        }
        return {low, period_number * whole + v};
    }

    // The v of the root, in [0, period()), of number v of a source, v < its weight.
    PF_HD uint64_t join(uint64_t source, uint64_t v) const {
        uint64_t bounds[64];  // the way down: the far bound of each node that is left behind
        bool left[64];        // 2^32 sources have 32 levels
        int depth = 0;
        uint64_t low = 0, high = count;
        for (; high - low > 1; ++depth) {
            const uint64_t middle = low + (high - low) / 2;
            left[depth] = source < middle;
            bounds[depth] = left[depth] ? high : low;
            (left[depth] ? high : low) = middle;
        }
        while (depth-- > 0) {
            if (left[depth]) {
                v = at(low, high, bounds[depth]).from_left(v);
                high = bounds[depth];
            } else {
                v = at(bounds[depth], low, high).from_right(v);
                low = bounds[depth];
            }
        }
        return v;
    }

    // How many of the first v positions of a period each source of [low, high) takes; v <= what they weigh together.
    PF_HD void counts(uint64_t low, uint64_t high, uint64_t v, uint64_t* taken) const {
        while (high - low > 1) {
            const uint64_t middle = low + (high - low) / 2;
            const uint64_t gone = at(low, middle, high).left_of(v);
            counts(low, middle, gone, taken);
            v -= gone;
            low = middle;
        }
        taken[low] = v;
    }
};

#if !defined(__CUDACC_RTC__) || defined(__CUDACC_RTC_INT128__)
// The same split of two parts that may be as large as tables are: `tail` of `total` <= 2^62 are on side 0, the rest on side 1.
struct TwoWay {
    uint64_t tail;
    uint64_t total;

    PF_HD uint64_t divide(unsigned __int128 value, uint64_t by) const {
        if (value >> 64 == 0) return static_cast<uint64_t>(value) / by;
        return static_cast<uint64_t>(value / by);
    }
    PF_HD uint64_t tail_of(uint64_t j) const {
        return divide(static_cast<unsigned __int128>(j) * tail + total / 2, total);
    }
    PF_HD Leaf split(uint64_t j) const {
        const uint64_t gone = tail_of(j);
        if (tail_of(j + 1) > gone) return {0, gone};
        return {1, j - gone};
    }
    PF_HD uint64_t join(Leaf leaf) const {
        if (leaf.source == 0)
            return divide(static_cast<unsigned __int128>(leaf.number + 1) * total - total / 2 - 1, tail);
        return divide(static_cast<unsigned __int128>(leaf.number) * total + total / 2, total - tail);
    }
};
#endif

}  // namespace pf
