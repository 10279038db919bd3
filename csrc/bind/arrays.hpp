// What the bindings ask of the arrays they are given.
#pragma once
#include <pybind11/numpy.h>

#include <stdexcept>

namespace pf {

using Int64s = pybind11::array_t<int64_t, pybind11::array::c_style>;

constexpr int64_t kEnd = int64_t{1} << 62;  // one past the last position, and the largest number of samples
constexpr int64_t kIndexes = INT64_MAX;     // one past the last index of a source: it may begin a phase at any index below 2^62

inline void require_within(const Int64s& values, int64_t stop) {
    const int64_t* value = values.data();
    bool within = true;
    for (pybind11::ssize_t i = 0; i < values.size(); ++i) within &= value[i] >= 0 && value[i] < stop;
    if (!within) throw std::out_of_range("a value lies outside of its domain");
}

inline void require_as_many(const Int64s& some, const Int64s& others, const char* sentence) {
    if (some.size() != others.size()) throw std::invalid_argument(sentence);
}

}  // namespace pf
