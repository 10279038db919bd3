// The order of one source: position <-> sample ordinal, in two levels. Blocks of `block` consecutive samples are shuffled, then
// the samples inside each window of `window` consecutive shuffled blocks. block = 1 is a full shuffle.
// The last block may be short; it lands in some slot and makes the window around it shorter: the arithmetic below accounts for it.
#pragma once
#include "core/bijection.hpp"
#include "core/philox.hpp"
#include "core/types.hpp"

namespace pf {

struct Geometry {
    uint64_t samples;  // n >= 1
    uint64_t block;    // >= 1
    uint64_t window;   // >= 1
    uint64_t block_key;
    uint64_t window_key;

    PF_HD uint64_t blocks() const { return (samples - 1) / block + 1; }
    // How many samples the last block lacks.
    PF_HD uint64_t missing() const { return blocks() * block - samples; }
};

// One epoch of a source.
struct Epoch {
    Geometry geometry;
    uint64_t number;
    Bijection order_of_blocks;
    uint64_t missing;
    uint64_t short_slot;    // the slot where the short block lands; 0 if nothing is missing, which changes nothing below
    uint64_t short_window;  // the window of that slot

    PF_HD Epoch(const Geometry& geometry_, uint64_t number_)
        : geometry(geometry_),
          number(number_),
          order_of_blocks(geometry_.blocks(), philox64(geometry_.block_key, number_, 0)),
          missing(geometry_.missing()),
          short_slot(missing ? order_of_blocks.inverse(geometry_.blocks() - 1) : 0),
          short_window(short_slot / geometry_.window) {}

    // Samples of a window, and its first rank within the epoch.
    PF_HD uint64_t window_start(uint64_t window) const {
        const uint64_t nominal = window * geometry.window * geometry.block;
        return window > short_window ? nominal - missing : nominal;
    }

    PF_HD uint64_t window_samples(uint64_t window) const {
        const uint64_t next = (window + 1) * geometry.window;
        return (next >= geometry.blocks() ? geometry.samples : window_start(window + 1)) - window_start(window);
    }

    PF_HD Bijection order_in_window(uint64_t window) const {
        return Bijection(window_samples(window), philox64(geometry.window_key, window, number));
    }

    PF_HD uint64_t window_of(uint64_t rank) const {
        const uint64_t span = geometry.window * geometry.block;
        const uint64_t window = rank / span;
        const bool behind = window >= short_window && rank >= window_start(short_window) + window_samples(short_window);
        return behind ? (rank + missing) / span : window;
    }

    // In the short window: behind how many of its samples those stand that the short block lacks.
    PF_HD uint64_t end_of_short() const { return (short_slot % geometry.window + 1) * geometry.block - missing; }

    // rank: which one in this epoch, [0, n). Returns the sample ordinal, [0, n).
    PF_HD uint64_t sample_at(uint64_t rank) const {
        if (geometry.block == 1) return order_of_blocks.forward(rank);
        const uint64_t window = window_of(rank);
        uint64_t inside = order_in_window(window).forward(rank - window_start(window));
        if (window == short_window && inside >= end_of_short()) inside += missing;
        const uint64_t slot = window * geometry.window + inside / geometry.block;
        return order_of_blocks.forward(slot) * geometry.block + inside % geometry.block;
    }

    PF_HD uint64_t rank_of(uint64_t sample) const {
        if (geometry.block == 1) return order_of_blocks.inverse(sample);
        const uint64_t slot = order_of_blocks.inverse(sample / geometry.block);
        const uint64_t window = slot / geometry.window;
        uint64_t inside = slot % geometry.window * geometry.block + sample % geometry.block;
        if (window == short_window && slot > short_slot) inside -= missing;
        return window_start(window) + order_in_window(window).inverse(inside);
    }
};

}  // namespace pf
