// The optimiser's passes over all parameters at once. A part is a piece of one parameter; a block has one part.
#pragma once
#include "common.cuh"

// Addresses of a part's elements and their number; the rest as each kernel says. The first array of every kernel only
// tells the element type.
struct Part {
    unsigned long long first, second, third, fourth, count;
    double keep;
};

// sum of squares of every part's `first`
template <typename T> __device__ inline void squares(const T *, const Part *parts, T *sums) {
    const Part part = parts[blockIdx.x];
    const T *g = reinterpret_cast<const T *>(part.first);
    Acc<T> sum = 0;
    for (unsigned i = threadIdx.x; i < part.count; i += blockDim.x) sum += Acc<T>(g[i]) * Acc<T>(g[i]);
    sum = row_sum(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = T(sum);
}
EXPORT(squares, (const T *type, const Part *parts, T *sums), (type, parts, sums))

// AdamW on parameters `first` with moments `second` and `third` and gradient `fourth`:
//   g = clip g, m = beta1 m + (1 - beta1) g, v = beta2 v + (1 - beta2) g^2, p = keep p - rate m / (correction sqrt(v) + eps)
template <typename T>
__device__ inline void adamw(const T *, const Part *parts, double beta1, double beta2, double eps, double clip,
                             double rate, double correction) {
    typedef Acc<T> A;
    const Part part = parts[blockIdx.x];
    T *p = reinterpret_cast<T *>(part.first), *m = reinterpret_cast<T *>(part.second);
    T *v = reinterpret_cast<T *>(part.third);
    const T *gradient = reinterpret_cast<const T *>(part.fourth);
    for (unsigned i = threadIdx.x; i < part.count; i += blockDim.x) {
        A g = A(gradient[i]) * A(clip);
        A first = A(beta1) * A(m[i]) + A(1 - beta1) * g;
        A second = A(beta2) * A(v[i]) + A(1 - beta2) * (g * g);
        m[i] = T(first);
        v[i] = T(second);
        p[i] = T(A(part.keep) * A(p[i]) - A(rate) * first / (root(second) * A(correction) + A(eps)));
    }
}
EXPORT(adamw,
       (const T *type, const Part *parts, double beta1, double beta2, double eps, double clip, double rate,
        double correction),
       (type, parts, beta1, beta2, eps, clip, rate, correction))

// `first` = beta `first` + (1 - beta) `second`
template <typename T> __device__ inline void average(const T *, const Part *parts, double beta) {
    const Part part = parts[blockIdx.x];
    T *mean = reinterpret_cast<T *>(part.first);
    const T *value = reinterpret_cast<const T *>(part.second);
    for (unsigned i = threadIdx.x; i < part.count; i += blockDim.x)
        mean[i] = T(Acc<T>(beta) * Acc<T>(mean[i]) + Acc<T>(1 - beta) * Acc<T>(value[i]));
}
EXPORT(average, (const T *type, const Part *parts, double beta), (type, parts, beta))
