// All kernels, compiled as one module.
#include "attention.cuh"
#include "bag.cuh"
#include "depthwise.cuh"
#include "element_wise.cuh"
#include "optimiser.cuh"
#include "rows.cuh"
