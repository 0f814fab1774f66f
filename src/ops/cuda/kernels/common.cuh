// What the kernels share: element types, sums over rows, and how a kernel gets its names.
//
// Elements are float, double or bfloat16; sums are taken in float, of doubles in double. Arrays are contiguous, sizes are
// int (the launching side checks that they fit), real-valued arguments are double for all element types.
#pragma once

#ifdef __CUDACC__
#include <cuda_bf16.h>
typedef __nv_bfloat16 bfloat16;
#define DYNAMIC_SHARED(T, name)                                                                                        \
    extern __shared__ __align__(16) unsigned char dynamic_shared[];                                                    \
    T *name = reinterpret_cast<T *>(dynamic_shared)
#define REGISTER(name)
#else
#include "../emulation/emulation.h"
#endif

template <typename T> struct Accumulator {
    typedef float type;
};
template <> struct Accumulator<double> {
    typedef double type;
};
// The type that sums of T are taken in.
template <typename T> using Acc = typename Accumulator<T>::type;

// Defines name_f32, name_f64 and name_bf16 from a function template; within PARAMETERS, T is the element type.
#define EXPORT_AS(name, suffix, type, PARAMETERS, ARGUMENTS)                                                           \
    namespace suffix {                                                                                                 \
    typedef type T;                                                                                                    \
    extern "C" __global__ void name##_##suffix PARAMETERS { name ARGUMENTS; }                                          \
    REGISTER(name##_##suffix)                                                                                          \
    }
#define EXPORT(name, PARAMETERS, ARGUMENTS)                                                                            \
    EXPORT_AS(name, f32, float, PARAMETERS, ARGUMENTS)                                                                 \
    EXPORT_AS(name, f64, double, PARAMETERS, ARGUMENTS)                                                                \
    EXPORT_AS(name, bf16, bfloat16, PARAMETERS, ARGUMENTS)

#define FULL_WARP 0xffffffffu

template <typename A> __device__ inline A warp_sum(A value) {
    for (int lane = 16; lane > 0; lane /= 2) value += __shfl_xor_sync(FULL_WARP, value, lane);
    return value;
}

template <typename A> __device__ inline A warp_max(A value) {
    for (int lane = 16; lane > 0; lane /= 2) {
        A other = __shfl_xor_sync(FULL_WARP, value, lane);
        value = other > value ? other : value;
    }
    return value;
}

// Sum over the threads that share a row: the x dimension of the block. It is 32, and each warp has a row, or a larger
// multiple of 32, and the block has one row.
template <typename A> __device__ inline A row_sum(A value) {
    __shared__ A partial[32];
    value = warp_sum(value);
    if (blockDim.x == 32) return value;
    int warps = blockDim.x / 32;
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
    __syncthreads();
    A total = 0;
    for (int warp = 0; warp < warps; warp++) total += partial[warp];
    // The next sum writes where this one is read.
    __syncthreads();
    return total;
}

__device__ inline float exponential(float x) { return expf(x); }
__device__ inline double exponential(double x) { return exp(x); }
__device__ inline float root(float x) { return sqrtf(x); }
__device__ inline double root(double x) { return sqrt(x); }

// The elements of this thread in a one-dimensional launch: every all_threads()th from the first on. Counts are below
// 2^31 and so are the threads, so that neither this nor the next element overflows.
__device__ inline unsigned first_element() { return blockIdx.x * blockDim.x + threadIdx.x; }
__device__ inline unsigned all_threads() { return gridDim.x * blockDim.x; }
