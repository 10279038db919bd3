// Open shards, and the call that fills the arrays of a batch from them without the GIL.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>  // std::optional

#include <algorithm>
#include <memory>
#include <optional>
#include <stdexcept>
#include <unordered_map>
#include <vector>

#include "core/batch.hpp"

namespace py = pybind11;

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
// One source, compiled for each instruction set and chosen when the program starts.
#define PF_CLONES __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define PF_CLONES
#endif

namespace {

using Int64s = py::array_t<int64_t, py::array::c_style>;
using Int32s = py::array_t<int32_t, py::array::c_style>;

PF_CLONES void widen8(const uint8_t* in, int64_t* out, int64_t n) {
    for (int64_t i = 0; i < n; ++i) out[i] = in[i];
}
PF_CLONES void widen16(const uint16_t* in, int64_t* out, int64_t n) {
    for (int64_t i = 0; i < n; ++i) out[i] = in[i];
}
PF_CLONES void widen32(const uint32_t* in, int64_t* out, int64_t n) {
    for (int64_t i = 0; i < n; ++i) out[i] = in[i];
}
PF_CLONES void count_up(int64_t* out, int64_t n) {
    for (int64_t i = 0; i < n; ++i) out[i] = i;
}
PF_CLONES void repeat(int32_t value, int32_t* out, int64_t n) {
    for (int64_t i = 0; i < n; ++i) out[i] = value;
}

// Tokens [first, first + n) of a piece, widened.
void widen(const pf::Piece& piece, int64_t skip, int64_t* out, int64_t n) {
    const int64_t at = piece.first + skip;
    if (piece.width == 1) widen8(static_cast<const uint8_t*>(piece.tokens) + at, out, n);
    else if (piece.width == 2) widen16(static_cast<const uint16_t*>(piece.tokens) + at, out, n);
    else widen32(static_cast<const uint32_t*>(piece.tokens) + at, out, n);
}

// A shard's buffers, kept alive as long as somebody reads them. Destroyed with the GIL held.
struct Shard {
    py::array tokens;
    Int64s documents;
    const void* token_address;
    const int64_t* document_address;
    int64_t token_count, document_count;
    int width;
};

struct Outputs {
    int64_t* input_ids;
    int64_t* targets;
    int64_t* position_ids;
    int32_t* doc_ids;
    std::vector<int32_t>* cu_seqlens;
};

// What the recipe says of every sample.
struct Manner {
    int64_t length;
    bool across;  // documents are seen across their bounds
    int64_t fill;
    const int64_t* wanted;  // the response template, or null
    int64_t wanted_size;
};

struct Sample {
    const pf::Piece* pieces;
    int64_t count, tokens, inputs;
};

Sample sample_of(const pf::Piece* pieces, int64_t count, int64_t length) {
    int64_t tokens = 0;
    for (int64_t p = 0; p < count; ++p) tokens += pieces[p].length;
    return {pieces, count, tokens, tokens < length ? tokens : length};
}

// Inputs are tokens [0, inputs) of the sample and targets tokens [1, tokens), so both are copies of the pieces.
void copy_tokens(const Sample& sample, int64_t* input_ids, int64_t* targets) {
    int64_t base = 0;
    for (int64_t p = 0; p < sample.count; ++p) {
        const pf::Piece& piece = sample.pieces[p];
        const int64_t end = base + piece.length;
        if (input_ids && base < sample.inputs)
            widen(piece, 0, input_ids + base, (end < sample.inputs ? end : sample.inputs) - base);
        const int64_t skip = base == 0 ? 1 : 0;
        if (targets && piece.length > skip) widen(piece, skip, targets + base + skip - 1, piece.length - skip);
        base = end;
    }
}

// Document by document, padding last; `row` is the first element of this sample in each array. Returns the longest.
int64_t mark_documents(const Sample& sample, const Manner& manner, int64_t row, const Outputs& out) {
    int64_t start = 0, longest = 0;
    int32_t document = 0;
    auto close = [&](int64_t end) {
        if (out.position_ids) count_up(out.position_ids + row + start, end - start);
        if (out.doc_ids) repeat(document, out.doc_ids + row + start, end - start);
        if (out.cu_seqlens) out.cu_seqlens->push_back(static_cast<int32_t>(row + end));
        longest = end - start > longest ? end - start : longest;
        start = end;
        ++document;
    };
    if (!manner.across)
        pf::visit_bounds(sample.pieces, sample.count, manner.length, [&](int64_t bound) {
            if (out.targets) out.targets[row + bound - 1] = pf::kIgnore;
            if (bound < sample.inputs) close(bound);
        });
    close(sample.inputs);
    if (sample.inputs < manner.length) close(manner.length);
    return longest;
}

// No target before the end of the response template; none at all without one. Needs the targets as `copy_tokens` left them.
void mask_prompt(const Sample& sample, const Manner& manner, int64_t* targets) {
    const int64_t first = pf::token_at(sample.pieces[0], 0);
    const int64_t end = pf::end_of_template(first, targets, sample.tokens - 1, manner.wanted, manner.wanted_size);
    std::fill(targets, targets + (end < 0 ? manner.length : end - 1), pf::kIgnore);
}

int64_t fill_sample(const Sample& sample, const Manner& manner, int64_t row, const Outputs& out) {
    int64_t* const input_ids = out.input_ids ? out.input_ids + row : nullptr;
    int64_t* const targets = out.targets ? out.targets + row : nullptr;
    copy_tokens(sample, input_ids, targets);
    if (input_ids) std::fill(input_ids + sample.inputs, input_ids + manner.length, manner.fill);
    if (targets) {
        if (manner.wanted) mask_prompt(sample, manner, targets);
        std::fill(targets + sample.tokens - 1, targets + manner.length, pf::kIgnore);
    }
    if (!targets && !out.position_ids && !out.doc_ids && !out.cu_seqlens) return 0;
    return mark_documents(sample, manner, row, out);
}

template <typename T>
T* writable(std::optional<py::array_t<T, py::array::c_style>>& array, int64_t size) {
    if (!array) return nullptr;
    if (array->size() != size) throw std::invalid_argument("an output array has the wrong size");
    return array->mutable_data();
}

class ShardSet {
  public:
    // tokens: uint8, uint16 or uint32 [n]; documents: int64 [rows + 1] ascending from 0 to n.
    void add(int64_t shard, py::array tokens, Int64s documents) {
        const int width = static_cast<int>(tokens.itemsize());
        const bool words = tokens.dtype().kind() == 'u' && tokens.dtype().byteorder() != '>' && width <= 4;
        const bool packed = tokens.ndim() == 1 && (tokens.flags() & py::array::c_style);
        if (!words || !packed || documents.size() < 1)
            throw std::invalid_argument("a shard is one packed array of 1, 2 or 4 byte tokens and its document bounds");
        auto entry = std::make_shared<Shard>();
        entry->token_address = tokens.data();
        entry->document_address = documents.data();
        entry->token_count = tokens.size();
        entry->document_count = documents.size();
        entry->width = width;
        entry->tokens = std::move(tokens);
        entry->documents = std::move(documents);
        shards_[shard] = std::move(entry);
    }

    void remove(int64_t shard) { shards_.erase(shard); }

    bool contains(int64_t shard) const { return shards_.count(shard) != 0; }

    // Fills the given arrays for samples whose pieces are shard/first/count[offsets[i]:offsets[i + 1]].
    py::tuple fill(const Int64s& shard, const Int64s& first, const Int64s& count, const Int64s& offsets, int64_t length,
                   std::optional<Int64s> input_ids, std::optional<Int64s> targets, std::optional<Int64s> position_ids,
                   std::optional<Int32s> doc_ids, bool want_cu_seqlens, bool across, int64_t fill,
                   const std::optional<Int64s>& wanted) const {
        const int64_t samples = offsets.size() - 1;
        if (samples < 1 || length < 1 || length > INT32_MAX / samples)
            throw std::invalid_argument("a batch has 1 to 2^31 - 1 tokens");
        if (wanted && wanted->size() < 1) throw std::invalid_argument("a response template has at least one token");
        const int64_t size = samples * length;
        std::vector<std::shared_ptr<Shard>> held;  // keeps evicted shards mapped until the copy is done
        const std::vector<pf::Piece> pieces = resolve(shard, first, count, held);
        check(pieces, offsets, length);
        std::vector<int32_t> bounds;
        const Outputs out{writable(input_ids, size), writable(targets, size), writable(position_ids, size),
                          writable(doc_ids, size), want_cu_seqlens ? &bounds : nullptr};
        const Manner manner{length, across, fill, wanted ? wanted->data() : nullptr, wanted ? wanted->size() : 0};
        const int64_t* offset = offsets.data();
        int64_t longest = 0;
        {
            py::gil_scoped_release release;
            if (want_cu_seqlens) bounds.push_back(0);
            for (int64_t i = 0; i < samples; ++i) {
                const Sample sample = sample_of(pieces.data() + offset[i], offset[i + 1] - offset[i], length);
                const int64_t document = fill_sample(sample, manner, i * length, out);
                longest = document > longest ? document : longest;
            }
        }
        return py::make_tuple(want_cu_seqlens ? py::object(Int32s(bounds.size(), bounds.data())) : py::none(), longest);
    }

  private:
    std::vector<pf::Piece> resolve(const Int64s& shard, const Int64s& first, const Int64s& count,
                                   std::vector<std::shared_ptr<Shard>>& held) const {
        if (first.size() != shard.size() || count.size() != shard.size())
            throw std::invalid_argument("pieces differ in length");
        std::vector<pf::Piece> pieces;
        pieces.reserve(shard.size());
        for (py::ssize_t p = 0; p < shard.size(); ++p) {
            const auto found = shards_.find(shard.data()[p]);
            if (found == shards_.end()) throw py::key_error("a shard is not open");
            const Shard& s = *found->second;
            const int64_t start = first.data()[p], n = count.data()[p];
            if (start < 0 || n < 1 || n > s.token_count || start > s.token_count - n)
                throw std::out_of_range("a piece lies outside of its shard");
            held.push_back(found->second);
            pieces.push_back({s.token_address, s.width, s.document_address, s.document_count, start, n});
        }
        return pieces;
    }

    static void check(const std::vector<pf::Piece>& pieces, const Int64s& offsets, int64_t length) {
        const int64_t* offset = offsets.data();
        if (offset[0] != 0 || offset[offsets.size() - 1] != static_cast<int64_t>(pieces.size()))
            throw std::invalid_argument("the offsets do not cover the pieces");
        // Before any piece is looked at: ascending offsets that end right stay within the pieces.
        for (py::ssize_t i = 0; i + 1 < offsets.size(); ++i)
            if (offset[i + 1] < offset[i]) throw std::invalid_argument("the offsets must ascend");
        for (py::ssize_t i = 0; i + 1 < offsets.size(); ++i) {
            int64_t total = 0;
            for (int64_t p = offset[i]; p < offset[i + 1] && total <= length + 1; ++p) {
                if (pieces[p].length > length + 1 - total) total = length + 2;  // without a sum that overflows
                else total += pieces[p].length;
            }
            if (total < 1 || total > length + 1)
                throw std::invalid_argument("a sample's pieces must hold 1 to length + 1 tokens");
        }
    }

    std::unordered_map<int64_t, std::shared_ptr<Shard>> shards_;
};

}  // namespace

void bind_batch(py::module_& m) {
    py::class_<ShardSet>(m, "ShardSet")
        .def(py::init<>())
        .def("add", &ShardSet::add, py::arg("shard"), py::arg("tokens"), py::arg("documents"))
        .def("remove", &ShardSet::remove, py::arg("shard"))
        .def("__contains__", &ShardSet::contains, py::arg("shard"))
        .def("fill", &ShardSet::fill, py::arg("shard"), py::arg("first"), py::arg("count"), py::arg("offsets"),
             py::arg("length"), py::arg("input_ids").noconvert() = py::none(), py::arg("targets").noconvert() = py::none(),
             py::arg("position_ids").noconvert() = py::none(), py::arg("doc_ids").noconvert() = py::none(),
             py::arg("cu_seqlens") = false, py::arg("across") = false, py::arg("fill") = 0,
             py::arg("template").noconvert() = py::none());
    m.attr("IGNORE") = pf::kIgnore;
}
