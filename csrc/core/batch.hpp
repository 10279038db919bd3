// From stored tokens to the tensors of a batch: one sample of `length` inputs reads length + 1 tokens, in one or more pieces.
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

// Where the bounds of documents fall in a sample: calls visit(offset) for each offset in (0, end] at which a document starts.
template <typename Visit>
PF_HD void visit_bounds(const Piece* pieces, int64_t count, int64_t end, Visit visit) {
    int64_t base = 0, last = 0;
    for (int64_t p = 0; p < count; ++p) {
        const Piece& piece = pieces[p];
        if (base > last && base <= end) visit(last = base);  // documents never cross shards
        int64_t low = 0, high = piece.document_count;         // the first bound behind `first`
        while (low < high) {
            const int64_t middle = (low + high) / 2;
            if (piece.documents[middle] <= piece.first) low = middle + 1;
            else high = middle;
        }
        for (; low < piece.document_count; ++low) {
            const int64_t offset = base + piece.documents[low] - piece.first;
            if (offset > end || offset >= base + piece.length) break;
            if (offset > last) visit(last = offset);
        }
        base += piece.length;
    }
}

}  // namespace pf
