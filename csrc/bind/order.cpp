// Philox, the bijection and the order of a source over NumPy arrays, without the GIL.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <stdexcept>

#include "core/order.hpp"

namespace py = pybind11;

namespace {

using Int64s = py::array_t<int64_t, py::array::c_style>;
using Words = py::array_t<uint32_t, py::array::c_style>;

constexpr uint64_t kLargest = 1ull << 62;

uint64_t checked_size(int64_t n) {
    if (n < 1 || static_cast<uint64_t>(n) > kLargest) throw std::invalid_argument("a domain has 1 to 2^62 elements");
    return static_cast<uint64_t>(n);
}

// Applies `function` to each value in [0, limit); refuses others.
template <typename Function>
Int64s apply(const Int64s& values, int64_t limit, Function function) {
    Int64s out(values.size());
    const int64_t* in = values.data();
    int64_t* result = out.mutable_data();
    const py::ssize_t count = values.size();
    bool fits = true;
    {
        py::gil_scoped_release release;
        for (py::ssize_t i = 0; i < count && fits; ++i) {
            fits = in[i] >= 0 && in[i] < limit;
            if (fits) result[i] = function(static_cast<uint64_t>(in[i]));
        }
    }
    if (!fits) throw std::out_of_range("a value lies outside of its domain");
    return out;
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

Int64s permute(const Int64s& index, int64_t n, uint64_t key) {
    const pf::Bijection bijection(checked_size(n), key);
    return apply(index, n, [&](uint64_t x) { return static_cast<int64_t>(bijection.forward(x)); });
}

Int64s unpermute(const Int64s& index, int64_t n, uint64_t key) {
    const pf::Bijection bijection(checked_size(n), key);
    return apply(index, n, [&](uint64_t x) { return static_cast<int64_t>(bijection.inverse(x)); });
}

class Order {
  public:
    Order(int64_t samples, int64_t block, int64_t window, uint64_t block_key, uint64_t window_key)
        : geometry_{checked_size(samples), checked_size(block), checked_size(window), block_key, window_key} {
        // Larger blocks and windows mean the same as the largest that fit; this keeps the products below 2^64.
        if (geometry_.block > geometry_.samples) geometry_.block = geometry_.samples;
        if (geometry_.window > geometry_.blocks()) geometry_.window = geometry_.blocks();
    }

    Int64s samples_at(const Int64s& positions) const {
        pf::Epoch epoch(geometry_, 0);
        return apply(positions, INT64_MAX, [&](uint64_t position) {
            enter(epoch, position / geometry_.samples);
            return static_cast<int64_t>(epoch.sample_at(position % geometry_.samples));
        });
    }

    Int64s positions_of(const Int64s& samples, const Int64s& epochs) const {
        if (samples.size() != epochs.size()) throw std::invalid_argument("samples and epochs differ in length");
        pf::Epoch epoch(geometry_, 0);
        const int64_t* number = epochs.data();
        return apply(samples, static_cast<int64_t>(geometry_.samples), [&](uint64_t sample) {
            enter(epoch, static_cast<uint64_t>(*number++));
            return static_cast<int64_t>(epoch.number * geometry_.samples + epoch.rank_of(sample));
        });
    }

  private:
    void enter(pf::Epoch& epoch, uint64_t number) const {
        if (epoch.number != number) epoch = pf::Epoch(geometry_, number);
    }

    pf::Geometry geometry_;
};

}  // namespace

void bind_order(py::module_& m) {
    m.def("philox", &philox, py::arg("counters"), py::arg("key"));
    m.def("permute", &permute, py::arg("index"), py::arg("n"), py::arg("key"));
    m.def("unpermute", &unpermute, py::arg("index"), py::arg("n"), py::arg("key"));
    py::class_<Order>(m, "Order")
        .def(py::init<int64_t, int64_t, int64_t, uint64_t, uint64_t>(), py::arg("samples"), py::arg("block"),
             py::arg("window"), py::arg("block_key"), py::arg("window_key"))
        .def("samples_at", &Order::samples_at, py::arg("positions"))
        .def("positions_of", &Order::positions_of, py::arg("samples"), py::arg("epochs"));
}
