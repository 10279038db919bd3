// Mixtures over NumPy arrays, without the GIL.
#include "core/interleave.hpp"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>  // std::vector

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "bind/order.hpp"

namespace py = pybind11;

namespace {

using pf::Int64s;
using Weights = py::array_t<uint64_t, py::array::c_style>;
using Two = std::pair<Int64s, Int64s>;

constexpr const char* kOutside = "a value lies outside of its domain";

// A tree and what it reads.
class Interleave {
  public:
    explicit Interleave(const Weights& weights) : before_(static_cast<size_t>(weights.size()) + 1) {
        if (weights.size() == 0) throw std::invalid_argument("there are no weights");
        for (py::ssize_t i = 0; i < weights.size(); ++i) {
            const uint64_t weight = weights.data()[i], sum = before_[static_cast<size_t>(i)];
            if (weight == 0) throw std::invalid_argument("a weight is 0");
            if (weight >= (1ull << 32) - sum) throw std::invalid_argument("weights add up to 2^32 or more");
            before_[static_cast<size_t>(i) + 1] = sum + weight;
        }
    }

    pf::Interleave tree() const { return {before_.data(), before_.size() - 1}; }

    Two split(const Int64s& positions) const {
        pf::require_within(positions, pf::kEnd);
        Int64s sources(positions.size()), numbers(positions.size());
        const int64_t count = positions.size(), *position = positions.data();
        int64_t *source = sources.mutable_data(), *number = numbers.mutable_data();
        py::gil_scoped_release release;
        split_into(position, count, source, number);
        return {std::move(sources), std::move(numbers)};
    }

    void split_into(const int64_t* positions, int64_t count, int64_t* sources, int64_t* numbers) const {
        const pf::Interleave tree = this->tree();
        const uint64_t period = tree.period();
        for (int64_t i = 0; i < count; ++i) {
            const uint64_t q = static_cast<uint64_t>(positions[i]), u = q / period;
            const pf::Leaf leaf = tree.split(u, q - u * period);
            sources[i] = static_cast<int64_t>(leaf.source);
            numbers[i] = static_cast<int64_t>(leaf.number);
        }
    }

    Int64s join(const Int64s& sources, const Int64s& numbers) const {
        pf::require_as_many(sources, numbers, "sources and numbers differ in length");
        const pf::Interleave tree = this->tree();
        pf::require_within(sources, static_cast<int64_t>(tree.count));
        pf::require_within(numbers, pf::kEnd);
        Int64s out(sources.size());
        const int64_t count = sources.size(), *source = sources.data(), *number = numbers.data();
        int64_t* position = out.mutable_data();
        bool fits = true;
        {
            py::gil_scoped_release release;
            for (int64_t i = 0; i < count; ++i) {
                const uint64_t leaf = static_cast<uint64_t>(source[i]), weight = tree.weight(leaf);
                const uint64_t u = static_cast<uint64_t>(number[i]) / weight;
                const uint64_t v = tree.join(leaf, static_cast<uint64_t>(number[i]) - u * weight);
                fits &= u <= (static_cast<uint64_t>(pf::kEnd) - 1 - v) / tree.period();
                position[i] = static_cast<int64_t>(u * tree.period() + v);
            }
        }
        if (!fits) throw std::out_of_range(kOutside);
        return out;
    }

    Int64s counts(int64_t position) const {
        if (position < 0 || position > pf::kEnd) throw std::out_of_range(kOutside);
        const pf::Interleave tree = this->tree();
        const uint64_t q = static_cast<uint64_t>(position), u = q / tree.period();
        Int64s out(static_cast<py::ssize_t>(tree.count));
        uint64_t* taken = reinterpret_cast<uint64_t*>(out.mutable_data());
        tree.counts(0, tree.count, q - u * tree.period(), taken);
        for (uint64_t i = 0; i < tree.count; ++i) taken[i] += u * tree.weight(i);
        return out;
    }

  private:
    std::vector<uint64_t> before_;
};

class TwoWay {
  public:
    TwoWay(int64_t tail, int64_t total) : parts_{static_cast<uint64_t>(tail), static_cast<uint64_t>(total)} {
        if (tail < 0 || total < 1 || tail > total || total > pf::kEnd)
            throw std::invalid_argument("a tail of 0 to total samples, of 1 to 2^62, is needed");
    }

    Two split(const Int64s& numbers) const {
        pf::require_within(numbers, static_cast<int64_t>(parts_.total));
        Int64s sides(numbers.size()), indexes(numbers.size());
        const int64_t count = numbers.size(), *number = numbers.data();
        int64_t *side = sides.mutable_data(), *index = indexes.mutable_data();
        py::gil_scoped_release release;
        for (int64_t i = 0; i < count; ++i) {
            const pf::Leaf leaf = parts_.split(static_cast<uint64_t>(number[i]));
            side[i] = static_cast<int64_t>(leaf.source);
            index[i] = static_cast<int64_t>(leaf.number);
        }
        return {std::move(sides), std::move(indexes)};
    }

    Int64s join(const Int64s& sides, const Int64s& indexes) const {
        pf::require_as_many(sides, indexes, "sides and indexes differ in length");
        pf::require_within(sides, 2);
        Int64s out(sides.size());
        const int64_t count = sides.size(), *side = sides.data(), *index = indexes.data();
        int64_t* number = out.mutable_data();
        const uint64_t sizes[2] = {parts_.tail, parts_.total - parts_.tail};
        for (int64_t i = 0; i < count; ++i)
            if (index[i] < 0 || static_cast<uint64_t>(index[i]) >= sizes[side[i]]) throw std::out_of_range(kOutside);
        py::gil_scoped_release release;
        for (int64_t i = 0; i < count; ++i)
            number[i] = static_cast<int64_t>(
                parts_.join({static_cast<uint64_t>(side[i]), static_cast<uint64_t>(index[i])}));
        return out;
    }

  private:
    pf::TwoWay parts_;
};

// A tree, and over each leaf the order of its source: from positions to samples in one call.
class Mixture {
  public:
    Mixture(const Weights& weights, const std::vector<const pf::Order*>& orders, const Int64s& begins)
        : interleave_(weights), begins_(begins.data(), begins.data() + begins.size()) {
        if (static_cast<size_t>(weights.size()) != orders.size() || begins_.size() != orders.size())
            throw std::invalid_argument("a weight, an order and a beginning of each source are needed");
        pf::require_within(begins, pf::kEnd);
        for (const pf::Order* order : orders) orders_.push_back(order->geometry());
    }

    std::tuple<Int64s, Int64s, Int64s> samples_at(const Int64s& positions) const {
        pf::require_within(positions, pf::kEnd);
        Int64s sources(positions.size()), samples(positions.size()), epochs(positions.size());
        const int64_t count = positions.size(), *position = positions.data();
        int64_t *source = sources.mutable_data(), *sample = samples.mutable_data(), *epoch = epochs.mutable_data();
        bool fits = true;
        {
            py::gil_scoped_release release;
            Buckets buckets(orders_.size(), std::min(count, kMany));
            for (int64_t done = 0; done < count && fits; done += kMany)
                fits = some(position + done, std::min(count - done, kMany), source + done, sample + done, epoch + done,
                            buckets);
        }
        if (!fits) throw std::out_of_range(kOutside);
        return {std::move(sources), std::move(samples), std::move(epochs)};
    }

  private:
    static constexpr int64_t kMany = 1 << 14;  // so many that each source has neighbours among them

    // The indexes of some positions, source by source and in the order of positions within each.
    struct Buckets {
        Buckets(size_t sources, int64_t count)
            : stop(sources),
              place(static_cast<size_t>(count)),
              index(place.size()),
              sample(place.size()),
              epoch(place.size()),
              scratch(new pf::Scratch) {}

        std::vector<int64_t> stop, place, index, sample, epoch;
        std::unique_ptr<pf::Scratch> scratch;
    };

    bool some(const int64_t* positions, int64_t count, int64_t* sources, int64_t* samples, int64_t* epochs,
              Buckets& buckets) const {
        int64_t* numbers = samples;  // until it has samples
        interleave_.split_into(positions, count, sources, numbers);
        std::fill(buckets.stop.begin(), buckets.stop.end(), 0);
        for (int64_t i = 0; i < count; ++i) ++buckets.stop[static_cast<size_t>(sources[i])];
        int64_t start = 0;
        for (int64_t& stop : buckets.stop) start += std::exchange(stop, start);
        bool fits = true;
        for (int64_t i = 0; i < count; ++i) {
            const size_t source = static_cast<size_t>(sources[i]);
            const size_t to = static_cast<size_t>(buckets.stop[source]++);
            buckets.place[to] = i;
            buckets.index[to] = begins_[source] + numbers[i];  // below 2^63
            fits &= buckets.index[to] < pf::kIndexes;
        }
        if (!fits) return false;
        start = 0;
        for (size_t source = 0; source < orders_.size(); ++source) {
            const int64_t stop = buckets.stop[source];
            if (stop > start)
                pf::Walk(orders_[source], *buckets.scratch)
                    .samples_at(&buckets.index[static_cast<size_t>(start)], stop - start,
                                &buckets.sample[static_cast<size_t>(start)], &buckets.epoch[static_cast<size_t>(start)]);
            start = stop;
        }
        for (int64_t i = 0; i < count; ++i) {
            const int64_t place = buckets.place[static_cast<size_t>(i)];
            samples[place] = buckets.sample[static_cast<size_t>(i)];
            epochs[place] = buckets.epoch[static_cast<size_t>(i)];
        }
        return true;
    }

    Interleave interleave_;
    std::vector<pf::Geometry> orders_;
    std::vector<int64_t> begins_;
};

}  // namespace

void bind_interleave(py::module_& m) {
    py::class_<Interleave>(m, "Interleave")
        .def(py::init<const Weights&>(), py::arg("weights"))
        .def("split", &Interleave::split, py::arg("positions"))
        .def("join", &Interleave::join, py::arg("sources"), py::arg("numbers"))
        .def("counts", &Interleave::counts, py::arg("position"));
    py::class_<TwoWay>(m, "TwoWay")
        .def(py::init<int64_t, int64_t>(), py::arg("tail"), py::arg("total"))
        .def("split", &TwoWay::split, py::arg("numbers"))
        .def("join", &TwoWay::join, py::arg("sides"), py::arg("indexes"));
    py::class_<Mixture>(m, "Mixture")
        .def(py::init<const Weights&, const std::vector<const pf::Order*>&, const Int64s&>(), py::arg("weights"),
             py::arg("orders"), py::arg("begins"))
        .def("samples_at", &Mixture::samples_at, py::arg("positions"));
}
