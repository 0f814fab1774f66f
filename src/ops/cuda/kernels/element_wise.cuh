// SiLU and what follows a product: kernels whose threads go over the elements of the result.
#pragma once
#include "common.cuh"

template <typename A> __device__ inline A logistic(A x) { return A(1) / (A(1) + exponential(-x)); }

// y = x s(x)
template <typename T> __device__ inline void silu(const T *x, T *y, unsigned count) {
    for (unsigned i = first_element(); i < count; i += all_threads()) {
        Acc<T> value = x[i];
        y[i] = T(value * logistic(value));
    }
}
EXPORT(silu, (const T *x, T *y, unsigned count), (x, y, count))

// y = dx s (1 + z (1 - s)) with z = x + bias and s = s(z): the derivative along dx, and the gradient from dx; bias may
// be null
template <typename T>
__device__ inline void silu_jvp(const T *x, const T *bias, const T *dx, T *y, unsigned count, int width) {
    for (unsigned i = first_element(); i < count; i += all_threads()) {
        Acc<T> z = x[i];
        if (bias) z += Acc<T>(bias[i % width]);
        Acc<T> s = logistic(z);
        y[i] = T(Acc<T>(dx[i]) * s * (1 + z * (1 - s)));
    }
}
EXPORT(silu_jvp, (const T *x, const T *bias, const T *dx, T *y, unsigned count, int width),
       (x, bias, dx, y, count, width))

// y[row, c] = x[row, c] + bias[c], then SiLU if asked for, then + other[row, c]; bias and other may be null
template <typename T>
__device__ inline void follow(const T *x, const T *bias, const T *other, T *y, unsigned count, int width, int with_silu) {
    for (unsigned i = first_element(); i < count; i += all_threads()) {
        Acc<T> value = x[i];
        if (bias) value += Acc<T>(bias[i % width]);
        if (with_silu) value *= logistic(value);
        if (other) value += Acc<T>(other[i]);
        y[i] = T(value);
    }
}
EXPORT(follow, (const T *x, const T *bias, const T *other, T *y, unsigned count, int width, int with_silu),
       (x, bias, other, y, count, width, with_silu))
