// The gated delta rule, token by token, with the state in columns that stay in the first-level cache.
// naive.py is the definition. Plain C++17, one C function per precision; all arrays are row-major and contiguous:
// q, k [batch token head key]; v, o [batch token head value]; g, beta [batch token head]; state [batch head key value].

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <exception>
#include <thread>
#include <vector>

namespace {

struct Sizes {
    int64_t batch, tokens, heads, key, value;
};

template <class T> struct Arrays {
    const T *q, *k, *v, *g, *beta, *before;  // before: the first state, or null for zeros
    T *o, *after;
};

constexpr int64_t kTile = 64;  // tokens that one slice of the state takes before the next slice does
constexpr int64_t kWork = 1 << 20;  // steps of the state's numbers that are worth starting a thread for

template <class T> struct Row {  // one row of a slice: 32 float32 columns, or 16 float64
    static constexpr int64_t columns = 128 / sizeof(T);
    typedef T Vector __attribute__((vector_size(64)));  // the compiler finds the registers for it
    Vector x[2];
};

template <class T> struct Token {
    T decay, beta, qk;  // qk: the product of the normalised rows
};

template <class T> struct Workspace {  // of one thread
    std::vector<Row<T>> state;         // [slice key]
    std::vector<T> q, k;               // [kTile key], normalised, q times key^-0.5
    Token<T> token[kTile];
};

template <class T> T product(const T* x, const T* y, int64_t length) {
    T sum = 0;
    for (int64_t i = 0; i < length; i++) sum += x[i] * y[i];
    return sum;
}

template <class T> void normalise(const T* x, T* unit, T scale, int64_t length) {
    const T factor = scale / std::sqrt(product(x, x, length) + T(1e-6));
    for (int64_t i = 0; i < length; i++) unit[i] = x[i] * factor;
}

// One token for one slice of columns: the state is read twice and written once.
template <class T> Row<T> step(Row<T>* state, const T* q, const T* k, const Row<T>& v, const Token<T>& f, int64_t key) {
    Row<T> recalled = {}, read = {}, recalled_odd = {}, read_odd = {};  // sums that need not wait for each other
    int64_t i = 0;
    for (; i + 1 < key; i += 2)
        for (int c = 0; c < 2; c++) {
            recalled.x[c] += state[i].x[c] * k[i];
            read.x[c] += state[i].x[c] * q[i];
            recalled_odd.x[c] += state[i + 1].x[c] * k[i + 1];
            read_odd.x[c] += state[i + 1].x[c] * q[i + 1];
        }
    Row<T> written, output;
    for (int c = 0; c < 2; c++) {
        if (i < key) recalled.x[c] += state[i].x[c] * k[i];
        if (i < key) read.x[c] += state[i].x[c] * q[i];
        written.x[c] = (v.x[c] - (recalled.x[c] + recalled_odd.x[c]) * f.decay) * f.beta;
        output.x[c] = (read.x[c] + read_odd.x[c]) * f.decay + written.x[c] * f.qk;
    }
    for (i = 0; i < key; i++)
        for (int c = 0; c < 2; c++) state[i].x[c] = state[i].x[c] * f.decay + written.x[c] * k[i];
    return output;
}

template <class T> void prefetch(const T* row, int64_t length) {
    for (int64_t i = 0; i < length; i += 64 / sizeof(T)) __builtin_prefetch(row + i);
}

template <class T> void one_head(const Arrays<T>& a, const Sizes& n, int64_t b, int64_t h, Workspace<T>& w) {
    const int64_t width = Row<T>::columns, slices = (n.value + width - 1) / width, head = b * n.heads + h;
    const auto bytes = [&](int64_t s) { return sizeof(T) * std::min(width, n.value - s * width); };
    const auto token = [&](int64_t t) { return (b * n.tokens + t) * n.heads + h; };
    const auto at = [&](int64_t s, int64_t row) { return (head * n.key + row) * n.value + s * width; };
    for (int64_t s = 0; s < slices; s++)
        for (int64_t row = 0; row < n.key; row++) {
            w.state[s * n.key + row] = {};
            if (a.before) std::memcpy(&w.state[s * n.key + row], a.before + at(s, row), bytes(s));
        }
    for (int64_t start = 0; start < n.tokens; start += kTile) {
        const int64_t count = std::min(kTile, n.tokens - start);
        for (int64_t t = 0; t < count; t++) {
            T *q = &w.q[t * n.key], *k = &w.k[t * n.key];
            const int64_t from = token(start + t);
            normalise(a.q + from * n.key, q, 1 / std::sqrt(T(n.key)), n.key);
            normalise(a.k + from * n.key, k, T(1), n.key);
            w.token[t] = {std::exp(a.g[from]), a.beta[from], product(q, k, n.key)};
        }
        for (int64_t s = 0; s < slices; s++)
            for (int64_t t = 0; t < count; t++) {
                const int64_t ahead = start + count + t;  // rows of a head lie far apart: no hardware foresees them
                if (s == 0 && ahead < n.tokens) {
                    prefetch(a.q + token(ahead) * n.key, n.key);
                    prefetch(a.k + token(ahead) * n.key, n.key);
                    prefetch(a.v + token(ahead) * n.value, n.value);
                }
                const int64_t column = token(start + t) * n.value + s * width;
                Row<T> v = {};
                std::memcpy(&v, a.v + column, bytes(s));
                const Row<T> o = step(&w.state[s * n.key], &w.q[t * n.key], &w.k[t * n.key], v, w.token[t], n.key);
                std::memcpy(a.o + column, &o, bytes(s));
            }
    }
    for (int64_t s = 0; s < slices; s++)
        for (int64_t row = 0; row < n.key; row++)
            std::memcpy(a.after + at(s, row), &w.state[s * n.key + row], bytes(s));
}

// torch's own OpenMP: GOMP_parallel runs a function once in each of some threads. Its waiting threads spin for a while
// after every operation of torch, and threads of ours would have to share the cores with them.
using Team = void (*)(void (*)(void*), void*, unsigned, unsigned);

// Every head by whichever thread is free; a head's bits do not depend on which. Not 0: no memory.
template <class T> int run(const Arrays<T>& a, const Sizes& n, int64_t threads, Team team) try {
    const int64_t heads = n.batch * n.heads, slices = (n.value + Row<T>::columns - 1) / Row<T>::columns;
    const int64_t worthwhile = 1 + heads * n.tokens * n.key * n.value / kWork;
    threads = std::max<int64_t>(1, std::min({threads, heads, worthwhile}));
    std::vector<Workspace<T>> spaces(threads);
    for (auto& w : spaces) w.state.resize(slices * n.key), w.q.resize(kTile * n.key), w.k.resize(kTile * n.key);
    std::atomic<int64_t> next_space{0}, next_head{0};
    auto work = [&] {
        Workspace<T>& space = spaces[next_space++];
        for (int64_t i; (i = next_head++) < heads;) one_head(a, n, i / n.heads, i % n.heads, space);
    };
    if (team && threads > 1) {
        team([](void* w) { (*static_cast<decltype(work)*>(w))(); }, &work, threads, 0);
        return 0;
    }
    std::vector<std::thread> others;
    others.reserve(threads - 1);
    try {
        while (int64_t(others.size()) < threads - 1) others.emplace_back(work);
    } catch (const std::exception&) {  // the system gives no more threads: those that there are do all
    }
    work();
    for (auto& other : others) other.join();
    return 0;
} catch (const std::exception&) {
    return 1;
}

}  // namespace

#define DEFINE(name, T)                                                                                               \
    extern "C" int name(const T* q, const T* k, const T* v, const T* g, const T* beta, const T* before, T* o, T* after, \
                        int64_t batch, int64_t tokens, int64_t heads, int64_t key, int64_t value, int64_t threads,      \
                        Team team) {                                                                                    \
        return run<T>({q, k, v, g, beta, before, o, after}, {batch, tokens, heads, key, value}, threads, team);         \
    }
DEFINE(gated_delta_rule_float32, float)
DEFINE(gated_delta_rule_float64, double)
