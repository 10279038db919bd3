// Philox, the bijection and the order of a source over NumPy arrays, without the GIL.
#include "bind/order.hpp"

#include <algorithm>
#include <memory>

namespace py = pybind11;

namespace {

using pf::Int64s;
using Words = py::array_t<uint32_t, py::array::c_style>;

uint64_t checked_size(int64_t n) {
    if (n < 1 || n > pf::kEnd) throw std::invalid_argument("a domain has 1 to 2^62 elements");
    return static_cast<uint64_t>(n);
}

Words philox(const Words& counters, uint64_t key) {
    if (counters.ndim() != 2 || counters.shape(1) != 4) throw std::invalid_argument("counters are [m, 4]");
    Words out({counters.shape(0), py::ssize_t{4}});
    for (py::ssize_t i = 0; i < counters.shape(0); ++i) {
        const uint32_t* c = counters.data(i, 0);
        const pf::Words4 block = pf::philox4x32({{c[0], c[1], c[2], c[3]}}, key);
        for (int j = 0; j < 4; ++j) *out.mutable_data(i, j) = block.word[j];
    }
    return out;
}

Int64s apply(const Int64s& index, int64_t n, uint64_t key, decltype(pf::permute_many) many) {
    const pf::Bijection shape(checked_size(n), key);
    pf::require_within(index, n);
    Int64s out(index.size());
    const int64_t count = index.size();
    const int64_t* in = index.data();
    int64_t* result = out.mutable_data();
    py::gil_scoped_release release;
    uint64_t keys[pf::kChunk], values[pf::kChunk];
    std::fill_n(keys, pf::kChunk, key);
    for (int64_t done = 0; done < count; done += pf::kChunk) {
        const int64_t some = std::min(count - done, pf::kChunk);
        std::copy_n(in + done, some, values);
        many(shape, keys, values, some);
        std::copy_n(values, some, result + done);
    }
    return out;
}

}  // namespace

namespace pf {

Order::Order(int64_t samples, int64_t block, int64_t window, uint64_t block_key, uint64_t window_key)
    : geometry_{checked_size(samples), checked_size(block), checked_size(window), block_key, window_key} {
    // Larger blocks and windows mean the same as the largest that fit; this keeps the products below 2^64.
    if (geometry_.block > geometry_.samples) geometry_.block = geometry_.samples;
    if (geometry_.window > geometry_.blocks()) geometry_.window = geometry_.blocks();
}

Int64s Order::samples_at(const Int64s& indexes) const {
    require_within(indexes, kIndexes);
    Int64s out(indexes.size());
    const int64_t* in = indexes.data();
    int64_t* result = out.mutable_data();
    const int64_t count = indexes.size();
    py::gil_scoped_release release;
    const std::unique_ptr<Scratch> scratch(new Scratch);  // not make_unique, which would fill it
    Walk(geometry_, *scratch).samples_at(in, count, result, nullptr);
    return out;
}

Int64s Order::positions_of(const Int64s& samples, const Int64s& epochs) const {
    require_as_many(samples, epochs, "samples and epochs differ in length");
    require_within(samples, static_cast<int64_t>(geometry_.samples));
    require_within(epochs, kIndexes / static_cast<int64_t>(geometry_.samples));
    Int64s out(samples.size());
    const int64_t *sample = samples.data(), *epoch = epochs.data();
    int64_t* result = out.mutable_data();
    const int64_t count = samples.size();
    py::gil_scoped_release release;
    const std::unique_ptr<Scratch> scratch(new Scratch);
    Walk(geometry_, *scratch).positions_of(sample, epoch, count, result);
    return out;
}

}  // namespace pf

void bind_interleave(py::module_& m);

void bind_order(py::module_& m) {
    m.def("philox", &philox, py::arg("counters"), py::arg("key"));
    m.def(
        "permute", [](const Int64s& index, int64_t n, uint64_t key) { return apply(index, n, key, pf::permute_many); },
        py::arg("index"), py::arg("n"), py::arg("key"));
    m.def(
        "unpermute",
        [](const Int64s& index, int64_t n, uint64_t key) { return apply(index, n, key, pf::unpermute_many); },
        py::arg("index"), py::arg("n"), py::arg("key"));
    py::class_<pf::Order>(m, "Order")
        .def(py::init<int64_t, int64_t, int64_t, uint64_t, uint64_t>(), py::arg("samples"), py::arg("block"),
             py::arg("window"), py::arg("block_key"), py::arg("window_key"))
        .def("samples_at", &pf::Order::samples_at, py::arg("indexes"))
        .def("positions_of", &pf::Order::positions_of, py::arg("samples"), py::arg("epochs"));
    bind_interleave(m);  // its mixtures are made of orders
}
