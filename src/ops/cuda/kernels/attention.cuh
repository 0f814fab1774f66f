// Attention over short sequences, O = softmax(Q K^T / sqrt(d)) V, with its derivative and its gradient.
//
// A block has one head of one sample, of which all keys and values lie in its shared memory. Heads stand side by side:
// q and o are (batch, queries, heads depth), k and v (batch, keys, heads depth).
#pragma once
#include "common.cuh"

// Where one head of one sample lies in arrays (batch, time, heads depth).
struct Head {
    int heads, depth;
    __device__ inline long row(int time, int t) const {
        long b = blockIdx.x / heads, h = blockIdx.x % heads;
        return ((b * time + t) * heads + h) * depth;
    }
};

// Copies the rows of a head to shared memory, `stride` apart. An odd stride keeps a warp that reads down a column out
// of its own way.
template <typename T>
__device__ inline void gather(Head head, const T *x, Acc<T> *rows, int time, int stride) {
    for (int i = threadIdx.x; i < time * head.depth; i += blockDim.x)
        rows[i / head.depth * stride + i % head.depth] = Acc<T>(x[head.row(time, i / head.depth) + i % head.depth]);
}

// One warp turns scores into probabilities.
template <typename A> __device__ inline void softmax(A *p, int keys) {
    int lane = threadIdx.x % 32;
    A highest = -1e30f;
    for (int s = lane; s < keys; s += 32) highest = p[s] > highest ? p[s] : highest;
    highest = warp_max(highest);
    A sum = 0;
    for (int s = lane; s < keys; s += 32) {
        p[s] = exponential(p[s] - highest);
        sum += p[s];
    }
    sum = warp_sum(sum);
    for (int s = lane; s < keys; s += 32) p[s] /= sum;
    __syncwarp();
}

// Shared memory: keys (2 depth + 1) + warps (keys + depth) numbers.
template <typename T>
__device__ inline void attention(const T *q, const T *k, const T *v, T *o, int queries, int keys, int heads, int depth) {
    typedef Acc<T> A;
    Head head = {heads, depth};
    DYNAMIC_SHARED(A, shared);
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32, stride = depth + 1;
    A *ks = shared, *vs = ks + keys * stride, *p = vs + keys * depth + warp * (keys + depth), *qs = p + keys;
    gather(head, k, ks, keys, stride);
    gather(head, v, vs, keys, depth);
    __syncthreads();
    A scale = 1 / root(A(depth));
    for (int t = warp; t < queries; t += warps) {
        long row = head.row(queries, t);
        for (int d = lane; d < depth; d += 32) qs[d] = A(q[row + d]) * scale;
        __syncwarp();
        for (int s = lane; s < keys; s += 32) {
            A score = 0;
            for (int d = 0; d < depth; d++) score += qs[d] * ks[s * stride + d];
            p[s] = score;
        }
        softmax(p, keys);
        for (int d = lane; d < depth; d += 32) {
            A sum = 0;
            for (int s = 0; s < keys; s++) sum += p[s] * vs[s * depth + d];
            o[row + d] = T(sum);
        }
        __syncwarp();
    }
}
EXPORT(attention, (const T *q, const T *k, const T *v, T *o, int queries, int keys, int heads, int depth),
       (q, k, v, o, queries, keys, heads, depth))

// S' = (Q' K^T + Q K'^T) / sqrt(d), H = P S', O' = H V - rowsum(H) O + P V'.
// Shared memory: keys (4 depth + 2) + warps (2 keys + 2 depth) numbers.
template <typename T>
__device__ inline void attention_jvp(const T *q, const T *k, const T *v, const T *dq, const T *dk, const T *dv, T *o,
                                     int queries, int keys, int heads, int depth) {
    typedef Acc<T> A;
    Head head = {heads, depth};
    DYNAMIC_SHARED(A, shared);
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32, stride = depth + 1;
    A *ks = shared, *dks = ks + keys * stride, *vs = dks + keys * stride, *dvs = vs + keys * depth;
    A *p = dvs + keys * depth + warp * 2 * (keys + depth), *h = p + keys, *qs = h + keys, *dqs = qs + depth;
    gather(head, k, ks, keys, stride);
    gather(head, dk, dks, keys, stride);
    gather(head, v, vs, keys, depth);
    gather(head, dv, dvs, keys, depth);
    __syncthreads();
    A scale = 1 / root(A(depth));
    for (int t = warp; t < queries; t += warps) {
        long row = head.row(queries, t);
        for (int d = lane; d < depth; d += 32) {
            qs[d] = A(q[row + d]) * scale;
            dqs[d] = A(dq[row + d]) * scale;
        }
        __syncwarp();
        for (int s = lane; s < keys; s += 32) {
            A score = 0, slope = 0;
            for (int d = 0; d < depth; d++) {
                score += qs[d] * ks[s * stride + d];
                slope += dqs[d] * ks[s * stride + d] + qs[d] * dks[s * stride + d];
            }
            p[s] = score;
            h[s] = slope;
        }
        softmax(p, keys);
        A total = 0;
        for (int s = lane; s < keys; s += 32) {
            h[s] *= p[s];
            total += h[s];
        }
        total = warp_sum(total);
        // H - rowsum(H) P, so that one sum over V is enough.
        for (int s = lane; s < keys; s += 32) h[s] -= total * p[s];
        __syncwarp();
        for (int d = lane; d < depth; d += 32) {
            A sum = 0;
            for (int s = 0; s < keys; s++) sum += h[s] * vs[s * depth + d] + p[s] * dvs[s * depth + d];
            o[row + d] = T(sum);
        }
        __syncwarp();
    }
}
EXPORT(attention_jvp,
       (const T *q, const T *k, const T *v, const T *dq, const T *dk, const T *dv, T *o, int queries, int keys,
        int heads, int depth),
       (q, k, v, dq, dk, dv, o, queries, keys, heads, depth))

// The gradients of q, k and v from that of the result. The block takes one query after the other, so that sums over
// queries have a fixed order. With E = g V^T: dS = P (E - rowsum(P E)) / sqrt(d), the softmax's Jacobian unformed.
// Shared memory: keys (4 depth + 2) + 2 keys + 2 depth numbers.
template <typename T>
__device__ inline void attention_gradient(const T *q, const T *k, const T *v, const T *g, T *g_q, T *g_k, T *g_v,
                                          int queries, int keys, int heads, int depth) {
    typedef Acc<T> A;
    Head head = {heads, depth};
    DYNAMIC_SHARED(A, shared);
    int lane = threadIdx.x % 32, stride = depth + 1;
    A *ks = shared, *vs = ks + keys * stride, *gks = vs + keys * stride, *gvs = gks + keys * depth;
    A *p = gvs + keys * depth, *slope = p + keys, *qs = slope + keys, *gs = qs + depth;
    gather(head, k, ks, keys, stride);
    gather(head, v, vs, keys, stride);
    for (int i = threadIdx.x; i < keys * depth; i += blockDim.x) gks[i] = gvs[i] = 0;
    A scale = 1 / root(A(depth));
    for (int t = 0; t < queries; t++) {
        long row = head.row(queries, t);
        for (int d = threadIdx.x; d < depth; d += blockDim.x) {
            qs[d] = A(q[row + d]);
            gs[d] = A(g[row + d]);
        }
        __syncthreads();
        for (int s = threadIdx.x; s < keys; s += blockDim.x) {
            A score = 0, e = 0;
            for (int d = 0; d < depth; d++) {
                score += qs[d] * ks[s * stride + d];
                e += gs[d] * vs[s * stride + d];
            }
            p[s] = score * scale;
            slope[s] = e;
        }
        __syncthreads();
        if (threadIdx.x < 32) {
            softmax(p, keys);
            A mean = 0;
            for (int s = lane; s < keys; s += 32) mean += p[s] * slope[s];
            mean = warp_sum(mean);
            for (int s = lane; s < keys; s += 32) slope[s] = p[s] * (slope[s] - mean) * scale;
        }
        __syncthreads();
        for (int d = threadIdx.x; d < depth; d += blockDim.x) {
            A sum = 0;
            for (int s = 0; s < keys; s++) sum += slope[s] * ks[s * stride + d];
            g_q[row + d] = T(sum);
        }
        for (int i = threadIdx.x; i < keys * depth; i += blockDim.x) {
            gks[i] += slope[i / depth] * qs[i % depth];
            gvs[i] += p[i / depth] * gs[i % depth];
        }
        __syncthreads();
    }
    for (int i = threadIdx.x; i < keys * depth; i += blockDim.x) {
        long at = head.row(keys, i / depth) + i % depth;
        g_k[at] = T(gks[i]);
        g_v[at] = T(gvs[i]);
    }
}
EXPORT(attention_gradient,
       (const T *q, const T *k, const T *v, const T *g, T *g_q, T *g_k, T *g_v, int queries, int keys, int heads,
        int depth),
       (q, k, v, g, g_q, g_k, g_v, queries, keys, heads, depth))
