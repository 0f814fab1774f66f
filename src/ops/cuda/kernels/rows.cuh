// RMS normalisation with and without modulation, and sums over columns.
#pragma once
#include "common.cuh"

// The row of this thread, for blocks of (threads a row, rows).
__device__ inline long this_row() { return long(blockIdx.x) * blockDim.y + threadIdx.y; }

// y = r x with r = 1 / sqrt(mean(x^2) + eps)
template <typename T> __device__ inline void rms_norm(const T *x, T *y, int rows, int width, double eps) {
    long row = this_row();
    if (row >= rows) return;
    x += row * width;
    y += row * width;
    Acc<T> squares = 0;
    for (int i = threadIdx.x; i < width; i += blockDim.x) squares += Acc<T>(x[i]) * Acc<T>(x[i]);
    Acc<T> r = 1 / root(row_sum(squares) / width + Acc<T>(eps));
    for (int i = threadIdx.x; i < width; i += blockDim.x) y[i] = T(Acc<T>(x[i]) * r);
}
EXPORT(rms_norm, (const T *x, T *y, int rows, int width, double eps), (x, y, rows, width, eps))

// y = r dx - r^3 x mean(x dx): the derivative along dx and, the Jacobian being symmetric, the gradient from dx
template <typename T>
__device__ inline void rms_norm_jvp(const T *x, const T *dx, T *y, int rows, int width, double eps) {
    long row = this_row();
    if (row >= rows) return;
    x += row * width;
    dx += row * width;
    y += row * width;
    Acc<T> squares = 0, inner = 0;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        Acc<T> value = x[i];
        squares += value * value;
        inner += value * Acc<T>(dx[i]);
    }
    Acc<T> r = 1 / root(row_sum(squares) / width + Acc<T>(eps));
    Acc<T> along = r * r * r * row_sum(inner) / width;
    for (int i = threadIdx.x; i < width; i += blockDim.x) y[i] = T(r * Acc<T>(dx[i]) - along * Acc<T>(x[i]));
}
EXPORT(rms_norm_jvp, (const T *x, const T *dx, T *y, int rows, int width, double eps), (x, dx, y, rows, width, eps))

// y[b, t] = r x[b, t] scale[b] + shift[b]
template <typename T>
__device__ inline void norm_modulate(const T *x, const T *scale, const T *shift, T *y, int rows, int time, int width,
                                     double eps) {
    long row = this_row(), sample = row / time;
    if (row >= rows) return;
    x += row * width;
    y += row * width;
    scale += sample * width;
    shift += sample * width;
    Acc<T> squares = 0;
    for (int i = threadIdx.x; i < width; i += blockDim.x) squares += Acc<T>(x[i]) * Acc<T>(x[i]);
    Acc<T> r = 1 / root(row_sum(squares) / width + Acc<T>(eps));
    for (int i = threadIdx.x; i < width; i += blockDim.x)
        y[i] = T(Acc<T>(x[i]) * r * Acc<T>(scale[i]) + Acc<T>(shift[i]));
}
EXPORT(norm_modulate,
       (const T *x, const T *scale, const T *shift, T *y, int rows, int time, int width, double eps),
       (x, scale, shift, y, rows, time, width, eps))

// y = N(dx) scale + r x dscale + dshift with N as in rms_norm_jvp; any of dx, dscale and dshift may be null
template <typename T>
__device__ inline void norm_modulate_jvp(const T *x, const T *scale, const T *dx, const T *dscale, const T *dshift,
                                         T *y, int rows, int time, int width, double eps) {
    typedef Acc<T> A;
    long row = this_row(), side = row / time * width;
    if (row >= rows) return;
    x += row * width;
    y += row * width;
    A squares = 0, inner = 0;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        A value = x[i];
        squares += value * value;
        if (dx) inner += value * A(dx[row * width + i]);
    }
    A r = 1 / root(row_sum(squares) / width + A(eps));
    A along = r * r * r * row_sum(inner) / width;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        A value = 0;
        if (dx) value += (r * A(dx[row * width + i]) - along * A(x[i])) * A(scale[side + i]);
        if (dscale) value += r * A(x[i]) * A(dscale[side + i]);
        if (dshift) value += A(dshift[side + i]);
        y[i] = T(value);
    }
}
EXPORT(norm_modulate_jvp,
       (const T *x, const T *scale, const T *dx, const T *dscale, const T *dshift, T *y, int rows, int time, int width,
        double eps),
       (x, scale, dx, dscale, dshift, y, rows, time, width, eps))

// g_x = N(g scale), and r of every row for norm_modulate_sides
template <typename T>
__device__ inline void norm_modulate_input(const T *x, const T *scale, const T *g, T *g_x, T *inverse, int rows,
                                           int time, int width, double eps) {
    typedef Acc<T> A;
    long row = this_row();
    if (row >= rows) return;
    scale += row / time * width;
    x += row * width;
    g += row * width;
    g_x += row * width;
    A squares = 0, inner = 0;
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
        A value = x[i];
        squares += value * value;
        inner += value * A(g[i]) * A(scale[i]);
    }
    A r = 1 / root(row_sum(squares) / width + A(eps));
    A along = r * r * r * row_sum(inner) / width;
    for (int i = threadIdx.x; i < width; i += blockDim.x)
        g_x[i] = T(r * A(g[i]) * A(scale[i]) - along * A(x[i]));
    if (threadIdx.x == 0) inverse[row] = T(r);
}
EXPORT(norm_modulate_input,
       (const T *x, const T *scale, const T *g, T *g_x, T *inverse, int rows, int time, int width, double eps),
       (x, scale, g, g_x, inverse, rows, time, width, eps))

// g_scale[b, c] = sum_t g r x, g_shift[b, c] = sum_t g; count is that of g_scale
template <typename T>
__device__ inline void norm_modulate_sides(const T *x, const T *inverse, const T *g, T *g_scale, T *g_shift, unsigned count,
                                           int time, int width) {
    typedef Acc<T> A;
    for (unsigned i = first_element(); i < count; i += all_threads()) {
        long b = i / width, at = b * time * width + i % width;
        A scale = 0, shift = 0;
        for (int t = 0; t < time; t++, at += width) {
            scale += A(g[at]) * A(inverse[b * time + t]) * A(x[at]);
            shift += A(g[at]);
        }
        g_scale[i] = T(scale);
        g_shift[i] = T(shift);
    }
}
EXPORT(norm_modulate_sides,
       (const T *x, const T *inverse, const T *g, T *g_scale, T *g_shift, unsigned count, int time, int width),
       (x, inverse, g, g_scale, g_shift, count, time, width))

// Sum over the y dimension of a (32, 32) block, in a fixed order. To be called once in a kernel.
template <typename A> __device__ inline A column_block_sum(A value) {
    __shared__ A partial[32][33];
    partial[threadIdx.y][threadIdx.x] = value;
    __syncthreads();
    // Now a warp has a column: one that would have stood in 32 warps.
    A total = warp_sum(partial[threadIdx.x][threadIdx.y]);
    __syncthreads();
    if (threadIdx.x == 0) partial[0][threadIdx.y] = total;
    __syncthreads();
    return partial[0][threadIdx.x];
}

// y[c] = sum of x[row, c] over all rows; a (32, 32) block has 32 columns
template <typename T> __device__ inline void column_sum(const T *x, T *y, int rows, int width) {
    int column = blockIdx.x * 32 + threadIdx.x;
    Acc<T> sum = 0;
    if (column < width)
        for (long row = threadIdx.y; row < rows; row += 32) sum += Acc<T>(x[row * width + column]);
    sum = column_block_sum(sum);
    if (threadIdx.y == 0 && column < width) y[column] = T(sum);
}
EXPORT(column_sum, (const T *x, T *y, int rows, int width), (x, y, rows, width))
