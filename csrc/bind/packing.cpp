// Packing a range of documents, over NumPy arrays and without the GIL.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <stdexcept>
#include <vector>

#include "core/best_fit.hpp"

namespace py = pybind11;

namespace {

using Int64s = py::array_t<int64_t, py::array::c_style>;
using Numbers = std::vector<int64_t>;

constexpr int64_t kLongest = 1 << 24;        // of a sample: there is a number for each room that may be left in one
constexpr int64_t kTokens = int64_t{1} << 62;

// Pieces of documents, in the order of samples.
struct Pieces {
    Numbers offsets{0}, document, start, count;

    void add(int64_t of, int64_t from, int64_t tokens) {
        document.push_back(of);
        start.push_back(from);
        count.push_back(tokens);
    }
    void close() { offsets.push_back(static_cast<int64_t>(document.size())); }
};

// The documents whose rest fills no sample alone, by falling length of that rest, equal ones in their order.
struct Items {
    Numbers document, size;
};

Items sorted_items(const int64_t* lengths, int64_t documents, int64_t length) {
    Numbers begin(length + 1, 0);  // where the items of a size begin, counted from the largest size
    auto rest = [&](int64_t d) { return lengths[d] - pf::full_samples(lengths[d], length) * length; };
    int64_t items = 0;
    for (int64_t d = 0; d < documents; ++d)
        if (const int64_t size = rest(d); size > 0 && size < length) ++begin[size], ++items;
    for (int64_t size = length, sum = items; size > 0; --size) {
        const int64_t count = begin[size];
        begin[size] = items - sum;
        sum -= count;
    }
    Items sorted{Numbers(items), Numbers(items)};
    for (int64_t d = 0; d < documents; ++d)
        if (const int64_t size = rest(d); size > 0 && size < length) {
            const int64_t at = begin[size]++;
            sorted.document[at] = d;
            sorted.size[at] = size;
        }
    return sorted;
}

// Samples that one piece fills, in the order of the documents.
void add_full(const int64_t* lengths, int64_t documents, int64_t length, Pieces& pieces) {
    for (int64_t d = 0; d < documents; ++d) {
        const int64_t cut = pf::full_samples(lengths[d], length);
        for (int64_t c = 0; c < cut; ++c) {
            pieces.add(d, c * length, length + 1);
            pieces.close();
        }
        if (const int64_t rest = lengths[d] - cut * length; rest >= length) {
            pieces.add(d, cut * length, rest);
            pieces.close();
        }
    }
}

void add_packed(const int64_t* lengths, int64_t documents, int64_t length, Pieces& pieces) {
    const Items items = sorted_items(lengths, documents, length);
    const int64_t count = static_cast<int64_t>(items.size.size());
    Numbers bin(count), below(count), rooms(length + 1, -1);
    std::vector<uint64_t> words(pf::NumberSet::words(length + 1));
    const int64_t bins = pf::best_fit(items.size.data(), count, length, bin.data(), rooms.data(), below.data(), words.data());
    Numbers at(bins + 1, 0);  // where the pieces of a bin begin
    for (int64_t i = 0; i < count; ++i) ++at[bin[i] + 1];
    for (int64_t b = 0; b < bins; ++b) at[b + 1] += at[b];
    Numbers order(count), next(at);
    for (int64_t i = 0; i < count; ++i) order[next[bin[i]]++] = i;
    for (int64_t b = 0; b < bins; ++b) {
        for (int64_t i = at[b]; i < at[b + 1]; ++i) {
            const int64_t d = items.document[order[i]], size = items.size[order[i]];
            pieces.add(d, lengths[d] - size, size);
        }
        pieces.close();
    }
}

Int64s array_of(const Numbers& numbers) { return Int64s(static_cast<py::ssize_t>(numbers.size()), numbers.data()); }

py::tuple best_fit(const Int64s& lengths, int64_t length) {
    if (length < 1 || length > kLongest) throw std::invalid_argument("a sample has 1 to 2^24 tokens");
    const int64_t documents = lengths.size();
    for (int64_t d = 0, sum = 0; d < documents; ++d) {
        const int64_t tokens = lengths.data()[d];
        if (tokens < 0 || tokens > kTokens - sum) throw std::invalid_argument("documents have 0 to 2^62 tokens together");
        sum += tokens;
    }
    Pieces pieces;
    {
        py::gil_scoped_release release;
        add_full(lengths.data(), documents, length, pieces);
        add_packed(lengths.data(), documents, length, pieces);
    }
    return py::make_tuple(array_of(pieces.offsets), array_of(pieces.document), array_of(pieces.start), array_of(pieces.count));
}

}  // namespace

void bind_packing(py::module_& m) { m.def("best_fit", &best_fit, py::arg("lengths"), py::arg("length")); }
