// CUDA's language on the CPU, as much of it as the kernels use, so that they can be tested where there is no GPU.
//
// A launch runs block after block. The threads of a block are coroutines that run until they meet a barrier; which one
// goes on first is drawn from a seed, so that a missing barrier shows as a result that depends on the seed. Shared
// memory is filled with NaN before every block.
#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <utility>

#define __global__
#define __device__
#define __shared__ static
#define __align__(n)

struct Dim {
    unsigned x, y, z;
};
extern Dim gridDim, blockDim, blockIdx, threadIdx;

// Waits for all threads of the block, or of the warp, that have not ended.
void __syncthreads();
void __syncwarp();

// The dynamic shared memory of the block.
unsigned char *dynamic_shared();
#define DYNAMIC_SHARED(T, name) T *name = reinterpret_cast<T *>(dynamic_shared())

// What the other lanes of the warp gave; `bytes` at most 8.
void exchange(const void *mine, void *other, unsigned lane_mask, unsigned bytes);
template <typename A> A __shfl_xor_sync(unsigned, A value, int lane_mask) {
    A other;
    exchange(&value, &other, lane_mask, sizeof(A));
    return other;
}

// The upper half of a float, rounded to nearest even.
struct bfloat16 {
    uint16_t bits;
    bfloat16() = default;
    explicit bfloat16(float value) {
        uint32_t word;
        memcpy(&word, &value, 4);
        bits = isnan(value) ? 0x7fff : (word + 0x7fff + (word >> 16 & 1)) >> 16;
    }
    operator float() const {
        uint32_t word = uint32_t(bits) << 16;
        float value;
        memcpy(&value, &word, 4);
        return value;
    }
};

// Kernels by name.
struct Registered {
    const char *name;
    void (*run)(void *const *arguments);
    Registered *next;
    static Registered *first;
    Registered(const char *name, void (*run)(void *const *)) : name(name), run(run), next(first) { first = this; }
};

// Calls a kernel with arguments given by their addresses, as cuLaunchKernel takes them.
template <typename... A, size_t... i>
void call(void (*kernel)(A...), void *const *arguments, std::index_sequence<i...>) {
    kernel(*static_cast<A *>(arguments[i])...);
}
template <typename... A> void call(void (*kernel)(A...), void *const *arguments) {
    call(kernel, arguments, std::index_sequence_for<A...>());
}
#define REGISTER(name)                                                                                                 \
    static Registered registered_##name(#name, [](void *const *arguments) { call(name, arguments); });
