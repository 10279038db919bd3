// From stored tokens to the tensors of a batch: a sample of 1 to length + 1 tokens in one or more pieces, up to `length` of them
// inputs. What each element is, docs/stream-spec.md says in section 9.
#pragma once
#include "core/types.hpp"

namespace pf {

constexpr int64_t kIgnore = -100;  // the target where nothing is to be predicted; torch's default ignore_index

// A run of tokens inside one shard. `documents` are the shard's document bounds: token offsets, ascending.
struct Piece {
    const void* tokens;
    int width;  // bytes per token: 1, 2 or 4
    const int64_t* documents;
    int64_t document_count;
    int64_t first;
    int64_t length;
};

PF_HD int64_t token_at(const Piece& piece, int64_t index) {
    const int64_t at = piece.first + index;
    if (piece.width == 1) return static_cast<const uint8_t*>(piece.tokens)[at];
    if (piece.width == 2) return static_cast<const uint16_t*>(piece.tokens)[at];
    return static_cast<const uint32_t*>(piece.tokens)[at];
}

// Where documents begin in a sample: calls visit(offset) for each offset in (0, end] whose token is the first of a document, or of a
// piece that does not follow the one before it: that was in another shard, into which no document reaches, or elsewhere in the table.
template <typename Visit>
PF_HD void visit_bounds(const Piece* pieces, int64_t count, int64_t end, Visit visit) {
    int64_t base = 0, last = 0;
    for (int64_t p = 0; p < count && base <= end; ++p) {
        const Piece& piece = pieces[p];
        const bool follows = p > 0 && pieces[p - 1].tokens == piece.tokens && pieces[p - 1].first + pieces[p - 1].length == piece.first;
        if (base > last && !follows) visit(last = base);
        int64_t low = 0, high = piece.document_count;  // the first bound at or behind `first`
        while (low < high) {
            const int64_t middle = (low + high) / 2;
            if (piece.documents[middle] < piece.first) low = middle + 1;
            else high = middle;
        }
        for (; low < piece.document_count; ++low) {
            const int64_t offset = base + piece.documents[low] - piece.first;
            if (offset > end || offset >= base + piece.length) break;
            if (offset > last) visit(last = offset);  // each once, also where a document has no tokens
        }
        base += piece.length;
    }
}

// The smallest e for which tokens [e - size, e) of a sample are `wanted`, or -1. The sample is `first` and then rest[0 .. more).
PF_HD int64_t end_of_template(int64_t first, const int64_t* rest, int64_t more, const int64_t* wanted, int64_t size) {
    for (int64_t end = size; end <= more + 1; ++end) {
        int64_t i = 0;
        while (i < size && wanted[i] == (end - size + i ? rest[end - size + i - 1] : first)) ++i;
        if (i == size) return end;
    }
    return -1;
}

}  // namespace pf
