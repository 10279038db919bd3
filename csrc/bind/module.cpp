// pyfactory.native._ext: the C++ core as seen from Python. Bindings only; the work is in csrc/core.
#include <pybind11/pybind11.h>

namespace py = pybind11;

void bind_order(py::module_& m);
void bind_batch(py::module_& m);
void bind_packing(py::module_& m);

PYBIND11_MODULE(_ext, m) {
    m.doc() = "The C++ core of pyfactory; use pyfactory.native.";
    bind_order(m);
    bind_batch(m);
    bind_packing(m);
}
