// Philox4x32-10, a counter-based random generator without state.
// Source: Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC11); constants as published there.
#pragma once
#include "core/types.hpp"

namespace pf {

struct Words4 {
    uint32_t word[4];
};

PF_HD Words4 philox4x32(Words4 counter, uint64_t key) {
    uint32_t key_low = static_cast<uint32_t>(key);
    uint32_t key_high = static_cast<uint32_t>(key >> 32);
    for (int round = 0; round < 10; ++round) {
        const uint64_t first = 0xD2511F53ull * counter.word[0];
        const uint64_t second = 0xCD9E8D57ull * counter.word[2];
        counter = {{static_cast<uint32_t>(second >> 32) ^ counter.word[1] ^ key_low, static_cast<uint32_t>(second),
                    static_cast<uint32_t>(first >> 32) ^ counter.word[3] ^ key_high, static_cast<uint32_t>(first)}};
        key_low += 0x9E3779B9u;
        key_high += 0xBB67AE85u;
    }
    return counter;
}

// The first 64 bits of the block that two 64-bit counters name.
PF_HD uint64_t philox64(uint64_t key, uint64_t low, uint64_t high) {
    const Words4 block = philox4x32({{static_cast<uint32_t>(low), static_cast<uint32_t>(low >> 32),
                                      static_cast<uint32_t>(high), static_cast<uint32_t>(high >> 32)}},
                                    key);
    return block.word[0] | static_cast<uint64_t>(block.word[1]) << 32;
}

}  // namespace pf
