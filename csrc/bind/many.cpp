#include "bind/many.hpp"

#include <algorithm>

#if defined(__x86_64__) && defined(__GNUC__) && __GNUC__ >= 12 && !defined(__clang__)
// One source, compiled for each instruction set and chosen when the program starts.
#define PF_CLONES __attribute__((target_clones("default", "avx2", "arch=x86-64-v4")))
#else
#define PF_CLONES
#endif

namespace pf {

namespace {

// One pass of the network over each value. The loop is what compilers turn into vectors.
PF_CLONES void forward_pass(Network network, const uint64_t* keys, uint64_t* values, int64_t count) {
    for (int64_t i = 0; i < count; ++i) values[i] = network.forward<kRounds>(values[i], keys[i]);
}
PF_CLONES void inverse_pass(Network network, const uint64_t* keys, uint64_t* values, int64_t count) {
    for (int64_t i = 0; i < count; ++i) values[i] = network.inverse<kRounds>(values[i], keys[i]);
}
PF_CLONES void long_forward_pass(Network network, const uint64_t* keys, uint64_t* values, int64_t count) {
    for (int64_t i = 0; i < count; ++i) values[i] = network.forward<kManyRounds>(values[i], keys[i]);
}
PF_CLONES void long_inverse_pass(Network network, const uint64_t* keys, uint64_t* values, int64_t count) {
    for (int64_t i = 0; i < count; ++i) values[i] = network.inverse<kManyRounds>(values[i], keys[i]);
}

constexpr int64_t kFew = 3;  // that many are faster one by one

using Pass = void (*)(Network, const uint64_t*, uint64_t*, int64_t);

// Cycle walking: all take a pass, then those that are still outside take another, until none is.
void walk_cycles(Pass pass, const Bijection& shape, const uint64_t* keys, uint64_t* values, int64_t count) {
    if (shape.size == 1) {
        std::fill_n(values, count, 0);
        return;
    }
    pass(shape.network, keys, values, count);
    if (shape.size == 1ull << (shape.network.low_bits + shape.network.high_bits)) return;
    uint64_t value[kChunk], key[kChunk];
    int64_t at[kChunk], outside = 0;
    for (int64_t i = 0; i < count; ++i) {  // no branch: which values are outside cannot be predicted
        at[outside] = i;
        value[outside] = values[i];
        key[outside] = keys[i];
        outside += values[i] >= shape.size;
    }
    while (outside > 0) {
        pass(shape.network, key, value, outside);
        int64_t left = 0;
        for (int64_t j = 0; j < outside; ++j) {
            const uint64_t one = value[j];
            values[at[j]] = one;
            at[left] = at[j];
            value[left] = one;
            key[left] = key[j];
            left += one >= shape.size;
        }
        outside = left;
    }
}

// The quotients of many by one. Almost always all of them fit in 32 bits, which divide several times as fast.
struct Divisor {
    uint64_t by;
    bool narrow;

    Divisor(uint64_t by_, uint64_t largest) : by(by_), narrow((by_ | largest) >> 32 == 0) {}
    uint64_t quotient(uint64_t x) const {
        return narrow ? static_cast<uint32_t>(x) / static_cast<uint32_t>(by) : x / by;
    }
};

}  // namespace

void permute_many(const Bijection& shape, const uint64_t* keys, uint64_t* values, int64_t count) {
    walk_cycles(shape.rounds == kRounds ? forward_pass : long_forward_pass, shape, keys, values, count);
}

void unpermute_many(const Bijection& shape, const uint64_t* keys, uint64_t* values, int64_t count) {
    walk_cycles(shape.rounds == kRounds ? inverse_pass : long_inverse_pass, shape, keys, values, count);
}

void Walk::enter(uint64_t number) {
    if (epoch_ && epoch_->number == number) return;
    epoch_.emplace(geometry_, number);
    window_ = Window();
    table_first_ = table_stop_ = 0;
}

// Makes `window_` the window of that number.
void Walk::see(uint64_t number) {
    if (window_.samples != 0 && window_.number == number) return;
    const uint64_t last = (geometry_.blocks() - 1) / geometry_.window;
    window_.number = number;
    window_.first = epoch_->window_start(number);
    window_.samples = epoch_->window_samples(number);
    window_.key = philox64(geometry_.window_key, number, epoch_->number);
    window_.kind = number == epoch_->short_window ? kShort : number == last ? kLast : kNominal;
}

uint64_t Walk::samples_of(Kind kind) const {
    if (kind == kShort) return epoch_->window_samples(epoch_->short_window);
    if (kind == kLast) return epoch_->window_samples((geometry_.blocks() - 1) / geometry_.window);
    return geometry_.window * geometry_.block;
}

// The key of this epoch's order of blocks, once for each value.
const uint64_t* Walk::same_key(int64_t count) {
    std::fill_n(scratch_.key, count, epoch_->order_of_blocks.key);
    return scratch_.key;
}

void Walk::samples_at(const int64_t* positions, int64_t count, int64_t* samples, int64_t* epochs) {
    if (count <= kFew) {
        for (int64_t i = 0; i < count; ++i) {
            const uint64_t position = static_cast<uint64_t>(positions[i]);
            enter(position / geometry_.samples);
            samples[i] = static_cast<int64_t>(epoch_->sample_at(position - epoch_->number * geometry_.samples));
            if (epochs != nullptr) epochs[i] = static_cast<int64_t>(epoch_->number);
        }
        return;
    }
    for (int64_t done = 0, run; done < count; done += run) {
        enter(static_cast<uint64_t>(positions[done]) / geometry_.samples);
        const int64_t most = std::min(count - done, kChunk);
        if (geometry_.block == 1) {
            run = take_ranks(positions + done, most);
            permute_many(epoch_->order_of_blocks, same_key(run), scratch_.slot, run);
            std::copy_n(scratch_.slot, run, samples + done);
        } else {
            run = take_windows(positions + done, most);
            shuffle_inside();
            blocks_of_slots(run);
            for (int64_t i = 0; i < run; ++i)
                samples[done + i] = static_cast<int64_t>(scratch_.slot[i] * geometry_.block + scratch_.inside[i]);
        }
        if (epochs != nullptr) std::fill_n(epochs + done, run, static_cast<int64_t>(epoch_->number));
    }
}

// How many of the next positions lie in this epoch; their ranks.
int64_t Walk::take_ranks(const int64_t* positions, int64_t count) {
    const uint64_t base = epoch_->number * geometry_.samples;
    for (int64_t i = 0; i < count; ++i) {
        scratch_.slot[i] = static_cast<uint64_t>(positions[i]) - base;
        if (scratch_.slot[i] >= geometry_.samples) return i;
    }
    return count;
}

// The same, sorted into groups by their windows. Leaves the first slot of each one's window.
int64_t Walk::take_windows(const int64_t* positions, int64_t count) {
    const uint64_t base = epoch_->number * geometry_.samples;
    for (Scratch::Group& group : scratch_.groups) group.count = 0;
    for (int64_t i = 0; i < count; ++i) {
        const uint64_t rank = static_cast<uint64_t>(positions[i]) - base;
        if (rank >= geometry_.samples) return i;
        if (rank - window_.first >= window_.samples) see(epoch_->window_of(rank));
        scratch_.groups[window_.kind].add(i, window_.key, rank - window_.first);
        scratch_.slot[i] = window_.number * geometry_.window;
    }
    return count;
}

// Shuffles each group within its windows: finds the samples' places in their windows' lists.
void Walk::shuffle_inside() {
    for (int kind = 0; kind < kKinds; ++kind) {
        Scratch::Group& group = scratch_.groups[kind];
        if (group.count == 0) continue;
        const Bijection shape(samples_of(static_cast<Kind>(kind)), 0);
        permute_many(shape, group.key, group.value, group.count);
        const uint64_t end_of_short = kind == kShort ? epoch_->end_of_short() : UINT64_MAX;
        for (int64_t j = 0; j < group.count; ++j) {
            const uint64_t place = group.value[j];
            scratch_.inside[group.at[j]] = place >= end_of_short ? place + epoch_->missing : place;
        }
    }
}

// Slots of windows and places in their lists -> blocks and places in them.
void Walk::blocks_of_slots(int64_t count) {
    uint64_t* slots = scratch_.slot;
    const auto [low, high] = std::minmax_element(slots, slots + count);
    const uint64_t first = *low, stop = std::min(*high + geometry_.window, geometry_.blocks());
    const Divisor block(geometry_.block, geometry_.window * geometry_.block);
    for (int64_t i = 0; i < count; ++i) {
        const uint64_t blocks = block.quotient(scratch_.inside[i]);
        slots[i] += blocks;
        scratch_.inside[i] -= blocks * geometry_.block;
    }
    if (first < table_first_ || stop > table_stop_) {
        if (stop - first > static_cast<uint64_t>(count))  // more slots than positions
            return permute_many(epoch_->order_of_blocks, same_key(count), slots, count);
        const int64_t size = static_cast<int64_t>(stop - first);
        for (int64_t j = 0; j < size; ++j) scratch_.table[j] = first + static_cast<uint64_t>(j);
        permute_many(epoch_->order_of_blocks, same_key(size), scratch_.table, size);
        table_first_ = first;
        table_stop_ = stop;
    }
    for (int64_t i = 0; i < count; ++i) slots[i] = scratch_.table[slots[i] - table_first_];
}

void Walk::positions_of(const int64_t* samples, const int64_t* epochs, int64_t count, int64_t* positions) {
    if (count <= kFew) {
        for (int64_t i = 0; i < count; ++i) {
            enter(static_cast<uint64_t>(epochs[i]));
            const uint64_t rank = epoch_->rank_of(static_cast<uint64_t>(samples[i]));
            positions[i] = static_cast<int64_t>(epoch_->number * geometry_.samples + rank);
        }
        return;
    }
    for (int64_t done = 0, run; done < count; done += run) {
        enter(static_cast<uint64_t>(epochs[done]));
        const int64_t most = std::min(count - done, kChunk);
        for (run = 0; run < most && epochs[done + run] == epochs[done]; ++run) {
            const uint64_t sample = static_cast<uint64_t>(samples[done + run]);
            scratch_.slot[run] = geometry_.block == 1 ? sample : sample / geometry_.block;
            scratch_.inside[run] = sample - scratch_.slot[run] * geometry_.block;
        }
        unpermute_many(epoch_->order_of_blocks, same_key(run), scratch_.slot, run);
        if (geometry_.block > 1) ranks_of_slots(run);
        for (int64_t i = 0; i < run; ++i)
            positions[done + i] = static_cast<int64_t>(epoch_->number * geometry_.samples + scratch_.slot[i]);
    }
}

// Slots of blocks and places in them -> ranks, in place of the slots.
void Walk::ranks_of_slots(int64_t count) {
    for (Scratch::Group& group : scratch_.groups) group.count = 0;
    for (int64_t i = 0; i < count; ++i) {
        const uint64_t slot = scratch_.slot[i];
        see(slot / geometry_.window);
        uint64_t place = (slot - window_.number * geometry_.window) * geometry_.block + scratch_.inside[i];
        if (window_.kind == kShort && slot > epoch_->short_slot) place -= epoch_->missing;
        scratch_.groups[window_.kind].add(i, window_.key, place);
        scratch_.slot[i] = window_.first;
    }
    for (int kind = 0; kind < kKinds; ++kind) {
        Scratch::Group& group = scratch_.groups[kind];
        if (group.count == 0) continue;
        unpermute_many(Bijection(samples_of(static_cast<Kind>(kind)), 0), group.key, group.value, group.count);
        for (int64_t j = 0; j < group.count; ++j) scratch_.slot[group.at[j]] += group.value[j];
    }
}

}  // namespace pf
