// Depthwise convolution over time: y[b, t, c] = sum_k w[k, c] x[b, t + k, c], x of length time + taps - 1.
#pragma once
#include "rows.cuh"

template <typename T>
__device__ inline void depthwise(const T *x, const T *w, T *y, unsigned count, int time, int width, int taps) {
    unsigned length = time + taps - 1;
    for (unsigned i = first_element(); i < count; i += all_threads()) {
        unsigned c = i % width, row = i / width, b = row / time;
        Acc<T> sum = 0;
        for (int k = 0; k < taps; k++)
            sum += Acc<T>(w[k * width + c]) * Acc<T>(x[(b * length + row % time + k) * width + c]);
        y[i] = T(sum);
    }
}
EXPORT(depthwise, (const T *x, const T *w, T *y, unsigned count, int time, int width, int taps),
       (x, w, y, count, time, width, taps))

// g_x[b, s, c] = sum_k w[k, c] g[b, s - k, c] over 0 <= s - k < time; count is that of g_x
template <typename T>
__device__ inline void depthwise_input(const T *w, const T *g, T *g_x, unsigned count, int time, int width, int taps) {
    unsigned length = time + taps - 1;
    for (unsigned i = first_element(); i < count; i += all_threads()) {
        unsigned c = i % width, s = i / width % length, b = i / width / length;
        Acc<T> sum = 0;
        for (int k = 0; k < taps; k++) {
            int t = int(s) - k;
            if (t >= 0 && t < time) sum += Acc<T>(w[k * width + c]) * Acc<T>(g[(b * time + t) * width + c]);
        }
        g_x[i] = T(sum);
    }
}
EXPORT(depthwise_input, (const T *w, const T *g, T *g_x, unsigned count, int time, int width, int taps),
       (w, g, g_x, count, time, width, taps))

// g_w[k, c] = sum over b and t of g[b, t, c] x[b, t + k, c]; (32, 32) blocks, one for 32 columns of one tap
template <typename T>
__device__ inline void depthwise_taps(const T *x, const T *g, T *g_w, int rows, int time, int width, int taps) {
    int column = blockIdx.x * 32 + threadIdx.x, k = blockIdx.y;
    long length = time + taps - 1;
    Acc<T> sum = 0;
    if (column < width)
        for (long row = threadIdx.y; row < rows; row += 32) {
            long b = row / time, t = row % time;
            sum += Acc<T>(g[row * width + column]) * Acc<T>(x[(b * length + t + k) * width + column]);
        }
    sum = column_block_sum(sum);
    if (threadIdx.y == 0 && column < width) g_w[long(k) * width + column] = T(sum);
}
EXPORT(depthwise_taps, (const T *x, const T *g, T *g_w, int rows, int time, int width, int taps),
       (x, g, g_w, rows, time, width, taps))
