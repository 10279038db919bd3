// A keyed bijection on [0, n): an alternating Feistel network on the smallest power of two, with cycle walking.
// Sources: Luby, Rackoff 1988 (the network); Black, Rogaway: Ciphers with arbitrary finite domains, CT-RSA 2002 (cycle walking);
// Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014, with Stafford's variant 13 (the round function).
#pragma once
#include "core/types.hpp"

#if defined(__GNUC__) && !defined(__clang__)
#define PF_UNROLL _Pragma("GCC unroll 32")  // so that a loop around it can be vectorised
#else
#define PF_UNROLL
#endif

namespace pf {

constexpr uint64_t kWeyl = 0x9E3779B97F4A7C15ull;
// Halves of a few bits mix slowly: on up to 2^8 elements all permutations become equally likely only from about 28 rounds on.
constexpr int kRounds = 8, kManyRounds = 32, kFewBits = 8;

PF_HD uint64_t mix64(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

// The network on 2^(low + high) elements, low + high >= 2; `rounds` is even.
struct Network {
    int low_bits;
    int high_bits;

    // `width` random bits of the value that a round reads.
    static PF_HD uint64_t round(int number, uint64_t value, int width, uint64_t key) {
        return mix64(value + key + static_cast<uint64_t>(number + 1) * kWeyl) >> (64 - width);
    }

    // A Feistel round that changes two bits or more is an even permutation; this round on one bit makes odd ones as likely.
    static PF_HD uint64_t parity(int rounds, uint64_t x, uint64_t key) { return x ^ round(rounds, x >> 1, 1, key); }

    template <int rounds>
    PF_HD uint64_t forward(uint64_t x, uint64_t key) const {
        uint64_t high = x >> low_bits, low = x & ((1ull << low_bits) - 1);
        PF_UNROLL for (int number = 0; number < rounds; number += 2) {
            high ^= round(number, low, high_bits, key);
            low ^= round(number + 1, high, low_bits, key);
        }
        return parity(rounds, high << low_bits | low, key);
    }

    template <int rounds>
    PF_HD uint64_t inverse(uint64_t x, uint64_t key) const {
        x = parity(rounds, x, key);
        uint64_t high = x >> low_bits, low = x & ((1ull << low_bits) - 1);
        PF_UNROLL for (int number = rounds - 2; number >= 0; number -= 2) {
            low ^= round(number + 1, high, low_bits, key);
            high ^= round(number, low, high_bits, key);
        }
        return high << low_bits | low;
    }
};

struct Bijection {
    uint64_t size;  // n, at least 1 and at most 2^62
    uint64_t key;
    Network network;
    int rounds;

    PF_HD Bijection(uint64_t n, uint64_t key_) : size(n), key(key_) {
        int bits = 2;
        while (bits < 62 && (n - 1) >> bits) ++bits;
        network = {bits / 2, bits - bits / 2};
        rounds = bits <= kFewBits ? kManyRounds : kRounds;
    }

    PF_HD uint64_t forward(uint64_t x) const {
        if (size == 1) return 0;
        do x = rounds == kRounds ? network.forward<kRounds>(x, key) : network.forward<kManyRounds>(x, key);
        while (x >= size);
        return x;
    }

    PF_HD uint64_t inverse(uint64_t x) const {
        if (size == 1) return 0;
        do x = rounds == kRounds ? network.inverse<kRounds>(x, key) : network.inverse<kManyRounds>(x, key);
        while (x >= size);
        return x;
    }
};

}  // namespace pf
