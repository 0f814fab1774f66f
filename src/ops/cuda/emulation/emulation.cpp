// Runs launches as emulation.h says.
#include "../kernels/kernels.cu"
#include <random>
#include <ucontext.h>
#include <vector>

Dim gridDim, blockDim, blockIdx, threadIdx;
Registered *Registered::first;

namespace {

enum State { READY, AT_BLOCK_BARRIER, AT_WARP_BARRIER, ENDED };

struct Thread {
    ucontext_t context;
    std::vector<char> stack;
    State state;
    // Numbers its exchanges, so that a slot is not written again before everybody has read it.
    unsigned exchanges;
};

const size_t STACK_BYTES = 64 * 1024;
std::vector<Thread> threads;
unsigned running;
ucontext_t scheduler;
std::vector<unsigned char> shared;
uint64_t slots[2][1024];
void (*kernel)(void *const *);
void *const *kernel_arguments;

void body() {
    kernel(kernel_arguments);
    threads[running].state = ENDED;
    swapcontext(&threads[running].context, &scheduler);
}

void wait(State state) {
    threads[running].state = state;
    swapcontext(&threads[running].context, &scheduler);
}

void place(unsigned i) {
    running = i;
    threadIdx = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
}

// Frees threads [begin, end) if all of them that have not ended wait in `state`; whether it did.
bool release(unsigned begin, unsigned end, State state) {
    bool waiting = false;
    for (unsigned i = begin; i < end; i++) {
        if (threads[i].state != state && threads[i].state != ENDED) return false;
        waiting |= threads[i].state == state;
    }
    for (unsigned i = begin; i < end; i++)
        if (threads[i].state == state) threads[i].state = READY;
    return waiting;
}

// False if threads wait for others that never come.
bool run_block(std::mt19937 &random) {
    unsigned count = threads.size();
    memset(shared.data(), 0xff, shared.size());
    std::vector<unsigned> order(count);
    for (unsigned i = 0; i < count; i++) {
        Thread &thread = threads[i];
        getcontext(&thread.context);
        thread.context.uc_stack.ss_sp = thread.stack.data();
        thread.context.uc_stack.ss_size = thread.stack.size();
        thread.context.uc_link = nullptr;
        makecontext(&thread.context, body, 0);
        thread.state = READY;
        thread.exchanges = 0;
        order[i] = i;
    }
    for (;;) {
        for (unsigned i = count; i > 1; i--) std::swap(order[i - 1], order[random() % i]);
        bool moved = false, ended = true;
        for (unsigned i : order) {
            if (threads[i].state == READY) {
                place(i);
                swapcontext(&scheduler, &threads[i].context);
                moved = true;
            }
            ended &= threads[i].state == ENDED;
        }
        if (ended) return true;
        for (unsigned warp = 0; warp < count; warp += 32)
            moved |= release(warp, warp + 32 < count ? warp + 32 : count, AT_WARP_BARRIER);
        moved |= release(0, count, AT_BLOCK_BARRIER);
        if (!moved) return false;
    }
}

} // namespace

void __syncthreads() { wait(AT_BLOCK_BARRIER); }
void __syncwarp() { wait(AT_WARP_BARRIER); }
unsigned char *dynamic_shared() { return shared.data(); }

void exchange(const void *mine, void *other, unsigned lane_mask, unsigned bytes) {
    uint64_t *slot = slots[threads[running].exchanges++ % 2];
    unsigned here = running;
    memcpy(&slot[here], mine, bytes);
    __syncwarp();
    memcpy(other, &slot[here ^ lane_mask], bytes);
}

// 0, or 1 for an unknown kernel, 2 for a launch that cannot be, 3 for threads that wait for ever.
extern "C" int twostep_emulate(const char *name, const unsigned grid[3], const unsigned block[3], unsigned shared_bytes,
                               void *const *arguments, unsigned seed) {
    Registered *found = Registered::first;
    while (found && strcmp(found->name, name)) found = found->next;
    if (!found) return 1;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    unsigned count = block[0] * block[1] * block[2];
    if (count == 0 || count > 1024 || grid[0] * grid[1] * grid[2] == 0) return 2;
    kernel = found->run;
    kernel_arguments = arguments;
    shared.resize(shared_bytes);
    threads.resize(count);
    for (Thread &thread : threads) thread.stack.resize(STACK_BYTES);
    std::mt19937 random(seed);
    for (unsigned z = 0; z < grid[2]; z++)
        for (unsigned y = 0; y < grid[1]; y++)
            for (unsigned x = 0; x < grid[0]; x++) {
                blockIdx = {x, y, z};
                if (!run_block(random)) return 3;
            }
    return 0;
}
