// Embedding bags: means of some rows of a table (rows, width).
#pragma once
#include "common.cuh"

// y[bag] = mean of table[index[i]] for offset[bag] <= i < offset[bag + 1], zeros for an empty bag; a block a bag
template <typename T>
__device__ inline void bag_mean(const T *table, const unsigned *offset, const unsigned *index, T *y, int width) {
    unsigned bag = blockIdx.x, begin = offset[bag], end = offset[bag + 1];
    for (int c = threadIdx.x; c < width; c += blockDim.x) {
        Acc<T> sum = 0;
        for (unsigned i = begin; i < end; i++) sum += Acc<T>(table[long(index[i]) * width + c]);
        y[long(bag) * width + c] = T(end > begin ? sum / Acc<T>(end - begin) : sum);
    }
}
EXPORT(bag_mean, (const T *table, const unsigned *offset, const unsigned *index, T *y, int width),
       (table, offset, index, y, width))

// g_table[row] = sum of g[bag] / (size of bag) over the bags that have the row: bag[i] for
// start[row] <= i < start[row + 1], with repetitions; a block a row. The order of the sum is that of the list.
template <typename T>
__device__ inline void bag_gradient(const T *g, const unsigned *offset, const unsigned *start, const unsigned *bag,
                                    T *g_table, int width) {
    unsigned row = blockIdx.x, begin = start[row], end = start[row + 1];
    for (int c = threadIdx.x; c < width; c += blockDim.x) {
        Acc<T> sum = 0;
        for (unsigned i = begin; i < end; i++) {
            unsigned size = offset[bag[i] + 1] - offset[bag[i]];
            sum += Acc<T>(g[long(bag[i]) * width + c]) / Acc<T>(size);
        }
        g_table[long(row) * width + c] = T(sum);
    }
}
EXPORT(bag_gradient,
       (const T *g, const unsigned *offset, const unsigned *start, const unsigned *bag, T *g_table, int width),
       (g, offset, start, bag, g_table, width))
