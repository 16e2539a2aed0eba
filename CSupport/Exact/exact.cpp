#include "exact.h"
#include <algorithm>
#include <cmath>
#include <lemon/network_simplex.h>
#include <lemon/smart_graph.h>
#include <new>
#include <numeric>
#include <vector>

namespace lemon {
// The one object of the library's binary part that its headers need.
const Invalid INVALID = Invalid();
} // namespace lemon

namespace {
using Graph = lemon::SmartDigraph;
using Wide = __int128;

/// Costs as integers: c / unit, rounded, from the least finite cost.
struct Grid {
  double low, unit;

  template <class Cost> Cost of(double c) const {
    const double x = (c - low) / unit;
    if (!(x > 0x1p52)) return (Cost)std::llround(x);
    int exponent;
    const double part = std::frexp(x, &exponent);
    return (Cost)(int64_t)std::ldexp(part, 53) << (exponent - 53);
  }
};

struct Problem {
  ptrdiff_t n, m;
  const double *cost;
  const int64_t *supply, *demand;
  int partial;
  int64_t mass;
  int64_t *flow;
  double *source, *target, *violation, *excess;
};

/// Units that a node may leave aside or lack for nothing, so that weights rounded to integers still
/// have a plan where the weights themselves do.
int64_t slack(ptrdiff_t others) { return others / 2 + 1024; }

template <class Cost> class Solver {
  const Problem &p;
  const Grid grid;
  Graph graph;

  Graph::Node node(ptrdiff_t i) const { return Graph::nodeFromId((int)i); }

  Graph::Arc arc(ptrdiff_t k) const { return Graph::arcFromId((int)k); }

  /// Arcs of pairs that are allowed, in order; then those of slack (balanced) or of what is left
  /// out (partial).
  void build() {
    const ptrdiff_t n = p.n, m = p.m;
    ptrdiff_t arcs = 0;
    graph.reserveNode((int)(n + m + 2));
    for (ptrdiff_t i = 0; i < n + m + 2; i++) graph.addNode();
    for (ptrdiff_t k = 0; k < n * m; k++) arcs += std::isfinite(p.cost[k]);
    graph.reserveArc((int)(arcs + n + m));
    for (ptrdiff_t i = 0; i < n; i++)
      for (ptrdiff_t j = 0; j < m; j++)
        if (std::isfinite(p.cost[i * m + j])) graph.addArc(node(i), node(n + j));
    for (ptrdiff_t i = 0; i < n; i++) graph.addArc(node(i), node(n + m + 1));
    for (ptrdiff_t j = 0; j < m; j++) graph.addArc(node(n + m), node(n + j));
    if (!p.partial) graph.addArc(node(n + m), node(n + m + 1));
  }

  /// Potentials in units of the cost so that source + target <= cost, as far as the grid allows;
  /// what the plan pays above them.
  template <class Simplex> void report(const Simplex &simplex) {
    const ptrdiff_t n = p.n, m = p.m;
    *p.violation = *p.excess = 0;
    for (ptrdiff_t i = 0; i < n; i++)
      p.source[i] = (double)-simplex.potential(node(i)) * grid.unit + grid.low;
    for (ptrdiff_t j = 0; j < m; j++)
      p.target[j] = (double)simplex.potential(node(n + j)) * grid.unit;
    ptrdiff_t at = 0;
    for (ptrdiff_t i = 0; i < n; i++)
      for (ptrdiff_t j = 0; j < m; j++) {
        const double c = p.cost[i * m + j];
        if (!std::isfinite(c)) continue;
        const Cost whole = grid.of<Cost>(c),
                   reduced = whole + simplex.potential(node(i)) - simplex.potential(node(n + j));
        const double above =
            (double)reduced * grid.unit + ((c - grid.low) - (double)whole * grid.unit);
        p.flow[i * m + j] = simplex.flow(arc(at++));
        *p.violation = std::max(*p.violation, -above);
        *p.excess += (double)p.flow[i * m + j] * above;
      }
  }

public:
  Solver(const Problem &p, Grid grid) : p(p), grid(grid) {}

  int run() {
    const ptrdiff_t n = p.n, m = p.m;
    build();
    Graph::ArcMap<Cost> costs(graph, 0);
    Graph::ArcMap<int64_t> most(graph, INT64_MAX);
    Graph::NodeMap<int64_t> balance(graph, 0);
    int64_t supplies = 0, demands = 0;
    ptrdiff_t at = 0;
    for (ptrdiff_t k = 0; k < n * m; k++)
      if (std::isfinite(p.cost[k])) costs[arc(at++)] = grid.of<Cost>(p.cost[k]);
    for (ptrdiff_t i = 0; i < n; i++) balance[node(i)] = p.supply[i], supplies += p.supply[i];
    for (ptrdiff_t j = 0; j < m; j++) balance[node(n + j)] = -p.demand[j], demands += p.demand[j];
    if (p.partial) {
      if (p.mass > supplies || p.mass > demands) return 1;
      balance[node(n + m)] = demands - p.mass, balance[node(n + m + 1)] = p.mass - supplies;
    } else {
      int64_t room = 0;
      for (ptrdiff_t i = 0; i < n; i++) most[arc(at++)] = slack(m), room += slack(m);
      for (ptrdiff_t j = 0; j < m; j++) most[arc(at++)] = slack(n), room += slack(n);
      /* what one side has more is left aside, and as much of both as the slack has room for */
      balance[node(n + m)] = room + demands - supplies, balance[node(n + m + 1)] = -room;
    }
    using Simplex = lemon::NetworkSimplex<Graph, int64_t, Cost>;
    Simplex simplex(graph);
    simplex.costMap(costs).supplyMap(balance).upperMap(most);
    if (simplex.run() != Simplex::OPTIMAL) return 1;
    report(simplex);
    return 0;
  }
};

/// What `mass` costs at least where atom i can send supply_i at cost least_i.
double cheapest(const int64_t *supply, const std::vector<double> &least, double mass) {
  std::vector<size_t> order(least.size());
  std::iota(order.begin(), order.end(), (size_t)0);
  std::sort(order.begin(), order.end(), [&](size_t i, size_t j) { return least[i] < least[j]; });
  double sum = 0;
  for (size_t i : order) {
    const double part = std::min(mass, (double)supply[i]);
    if (part > 0) sum += part * least[i];
    if ((mass -= part) <= 0) break;
  }
  return sum;
}

/// The least that the plan can cost above `low` per unit: every row, or every column, by its
/// cheapest pair; partial: the cheapest of them.
double least_cost(const Problem &p, double low) {
  std::vector<double> columns((size_t)p.m, INFINITY), least_of_row((size_t)p.n, INFINITY);
  double rows = 0, sum = 0, total = 0;
  for (ptrdiff_t i = 0; i < p.n; i++) {
    double least = INFINITY;
    for (ptrdiff_t j = 0; j < p.m; j++) {
      const double c = p.cost[i * p.m + j] - low;
      least = std::min(least, c), columns[(size_t)j] = std::min(columns[(size_t)j], c);
    }
    least_of_row[(size_t)i] = least;
    if (p.supply[i] > 0) rows += (double)p.supply[i] * least, total += (double)p.supply[i];
  }
  for (ptrdiff_t j = 0; j < p.m; j++)
    if (p.demand[j] > 0) sum += (double)p.demand[j] * columns[(size_t)j];
  if (p.partial)
    return p.mass > 0 ? std::max(cheapest(p.supply, least_of_row, (double)p.mass),
                                 cheapest(p.demand, columns, (double)p.mass)) /
                            (double)p.mass
                      : 0;
  return total > 0 ? std::max(rows, sum) / total : 0;
}
} // namespace

namespace {
/// What a solve found: the plan as integers, in units of 1 / scale.
struct Found {
  double violation = 0, excess = 0;
};

/// The least finite cost and the range of the finite ones; false where there is none, or no such
/// range.
bool extremes(const Problem &p, double *low, double *range) {
  *low = INFINITY;
  double high = -INFINITY;
  for (ptrdiff_t k = 0; k < p.n * p.m; k++)
    if (std::isfinite(p.cost[k]))
      *low = std::min(*low, p.cost[k]), high = std::max(high, p.cost[k]);
  *range = high - *low;
  return *low <= high && std::isfinite(*range);
}

/// A cost above `low` that nine of ten exceed, of at most a thousand.
double small_cost(const Problem &p, double low) {
  std::vector<double> sample;
  const ptrdiff_t step = std::max<ptrdiff_t>(1, p.n * p.m / 1000);
  for (ptrdiff_t k = 0; k < p.n * p.m; k += step)
    if (std::isfinite(p.cost[k]) && p.cost[k] > low) sample.push_back(p.cost[k] - low);
  if (sample.empty()) return 0;
  std::sort(sample.begin(), sample.end());
  return sample[sample.size() / 10];
}
} // namespace

namespace {
/// Weights in units of `1 / scale`, each rounded by itself so that equal weights stay equal.
std::vector<int64_t> integers(const double *w, ptrdiff_t count, double scale) {
  std::vector<int64_t> out((size_t)count);
  for (ptrdiff_t i = 0; i < count; i++) out[(size_t)i] = std::llround(w[i] * scale);
  return out;
}

int64_t sum_of(const std::vector<int64_t> &w) {
  return std::accumulate(w.begin(), w.end(), (int64_t)0);
}

/// L1 and largest violation of a marginal; of caps only what exceeds them.
void judge(const std::vector<double> &sums, const double *w, int partial, double *l1,
           double *linf) {
  double sum = 0;
  for (size_t i = 0; i < sums.size(); i++) {
    const double off = sums[i] - w[i], part = partial ? std::max(off, 0.0) : std::abs(off);
    sum += part, *linf = std::max(*linf, part);
  }
  *l1 = std::max(*l1, sum);
}
} // namespace

/// The plan, its cost and what the potentials say of it.
static void report(const Problem &p, const double *a, const double *b, double mass, double scale,
                   double *plan, pisces_exact_result *out) {
  std::vector<double> rows((size_t)p.n), columns((size_t)p.m);
  *out = {};
  for (ptrdiff_t i = 0; i < p.n; i++)
    for (ptrdiff_t j = 0; j < p.m; j++) {
      const ptrdiff_t k = i * p.m + j;
      const double part = plan[k] = (double)p.flow[k] / scale;
      if (part > 0)
        rows[(size_t)i] += part, columns[(size_t)j] += part, out->mass += part,
            out->cost += part * p.cost[k];
    }
  /* What the plan pays above the potentials, and by how much these exceed a cost, as integers: the
   * potentials themselves may need more digits than f64 has. */
  out->gap = *p.excess / scale + *p.violation * out->mass;
  out->error_l1 = out->error_linf = std::abs(out->mass - mass);
  judge(rows, a, p.partial, &out->error_l1, &out->error_linf);
  judge(columns, b, p.partial, &out->error_l1, &out->error_linf);
  if (p.partial)
    out->mass_price =
        *std::max_element(p.source, p.source + p.n) + *std::max_element(p.target, p.target + p.m);
}

int pisces_exact_transport(ptrdiff_t n, ptrdiff_t m, const double *cost, const double *a,
                           const double *b, int partial, double mass, double *plan, double *source,
                           double *target, pisces_exact_result *out) try {
  const double sums = std::max(std::accumulate(a, a + n, 0.0), std::accumulate(b, b + m, 0.0)),
               scale = 0x1p60 / (partial ? sums : 1);
  const std::vector<int64_t> supply = integers(a, n, scale), demand = integers(b, m, scale);
  std::vector<int64_t> flow((size_t)(n * m));
  const int64_t total =
      std::min({(int64_t)std::llround(mass * scale), sum_of(supply), sum_of(demand)});
  Found found;
  const Problem p = {n,     m,           cost,   supply.data(), demand.data(),    partial,
                     total, flow.data(), source, target,        &found.violation, &found.excess};
  double low, range;
  if (!extremes(p, &low, &range)) return 1;
  int exponent; /* a unit that is a power of two divides exactly */
  std::frexp(std::max(range, 0x1p-900), &exponent);
  /* Costs in 64 bits are as fine as sums along paths leave room for. That is enough where the plan
   * costs much of the range, or where its cost is one that no plan goes below; else, beside masks,
   * they are taken in 128 bits, 2^-96 of the range. */
  int bits = 58;
  for (ptrdiff_t nodes = n + m + 2; nodes > 1; nodes = (nodes + 1) / 2) bits--;
  const double unit = std::ldexp(1, exponent - bits), bound = least_cost(p, low),
               small = small_cost(p, low);
  /* rounding of the costs themselves */
  const double tiny = std::max(0x1p-90 * range, 0x1p-50 * small);
  if (bound >= std::ldexp(range, 31 - bits) || unit <= 1e-9 * small) {
    const int failed = Solver<int64_t>(p, {low, unit}).run();
    if (failed) return failed;
    report(p, a, b, mass, scale, plan, out);
    out->gap = std::min(out->gap, std::max(0.0, out->cost - (low + bound) * out->mass));
    out->is_optimal =
        out->gap <= 1e-9 * std::abs(out->cost) + tiny * out->mass && out->error_l1 <= 1e-9 * mass;
    if (out->is_optimal) return 0;
    std::fill(flow.begin(), flow.end(), 0);
  }
  const int failed = Solver<Wide>(p, {low, std::ldexp(1, exponent - 96)}).run();
  if (failed) return failed;
  report(p, a, b, mass, scale, plan, out);
  out->is_optimal =
      out->gap <= 1e-9 * std::abs(out->cost) + tiny * out->mass && out->error_l1 <= 1e-9 * mass;
  return 0;
} catch (const std::bad_alloc &) {

  return 2;
}
