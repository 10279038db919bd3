// The order of one source, as Python holds it.
#pragma once
#include "bind/arrays.hpp"
#include "bind/many.hpp"

namespace pf {

class Order {
  public:
    Order(int64_t samples, int64_t block, int64_t window, uint64_t block_key, uint64_t window_key);

    Int64s samples_at(const Int64s& indexes) const;
    Int64s positions_of(const Int64s& samples, const Int64s& epochs) const;
    const Geometry& geometry() const { return geometry_; }

  private:
    Geometry geometry_;
};

}  // namespace pf
