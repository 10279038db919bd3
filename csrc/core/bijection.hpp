// A keyed bijection on [0, n): an alternating Feistel network on the smallest power of two, with cycle walking.
// Sources: Luby, Rackoff 1988 (the network); Black, Rogaway: Ciphers with arbitrary finite domains, CT-RSA 2002 (cycle walking);
// Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014, with Stafford's variant 13 (the round function).
#pragma once
#include "core/types.hpp"

namespace pf {

constexpr uint64_t kWeyl = 0x9E3779B97F4A7C15ull;

PF_HD uint64_t mix64(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

struct Bijection {
    uint64_t size;  // n, at least 1 and at most 2^62
    uint64_t key;
    int low_bits;
    int high_bits;
    int rounds;  // even

    PF_HD Bijection(uint64_t n, uint64_t key_) : size(n), key(key_) {
        int bits = 2;
        while (bits < 62 && (n - 1) >> bits) ++bits;
        low_bits = bits / 2;
        high_bits = bits - low_bits;
        // Halves of a few bits mix slowly: on up to 2^8 elements all permutations become equally likely only from about 28 rounds on.
        rounds = bits <= 8 ? 32 : 8;
    }

    // `width` random bits of the value that a round reads.
    PF_HD uint64_t round(int number, uint64_t value, int width) const {
        return mix64(value + key + static_cast<uint64_t>(number + 1) * kWeyl) >> (64 - width);
    }

    // A Feistel round that changes two bits or more is an even permutation; this round on one bit makes odd ones as likely.
    PF_HD uint64_t parity(uint64_t x) const { return x ^ round(rounds, x >> 1, 1); }

    PF_HD uint64_t forward_once(uint64_t x) const {
        uint64_t high = x >> low_bits, low = x & ((1ull << low_bits) - 1);
        for (int number = 0; number < rounds; number += 2) {
            high ^= round(number, low, high_bits);
            low ^= round(number + 1, high, low_bits);
        }
        return parity(high << low_bits | low);
    }

    PF_HD uint64_t inverse_once(uint64_t x) const {
        x = parity(x);
        uint64_t high = x >> low_bits, low = x & ((1ull << low_bits) - 1);
        for (int number = rounds - 2; number >= 0; number -= 2) {
            low ^= round(number + 1, high, low_bits);
            high ^= round(number, low, high_bits);
        }
        return high << low_bits | low;
    }

    PF_HD uint64_t forward(uint64_t x) const {
        if (size == 1) return 0;
        do x = forward_once(x);
        while (x >= size);
        return x;
    }

    PF_HD uint64_t inverse(uint64_t x) const {
        if (size == 1) return 0;
        do x = inverse_once(x);
        while (x >= size);
        return x;
    }
};

}  // namespace pf
