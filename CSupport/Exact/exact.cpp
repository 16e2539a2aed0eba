#include "exact.h"
#include <algorithm>
#include <cmath>
#include <lemon/network_simplex.h>
#include <lemon/smart_graph.h>
#include <new>
#include <vector>

namespace lemon {
// The one object of the library's binary part that its headers need.
const Invalid INVALID = Invalid();
}

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

/// Units that a node may leave aside or lack for nothing, so that weights rounded to integers still have a plan where the weights themselves do.
int64_t slack(ptrdiff_t others) { return others / 2 + 1024; }

template <class Cost> class Solver {
  const Problem &p;
  const Grid grid;
  Graph graph;
  Graph::Node node(ptrdiff_t i) const { return Graph::nodeFromId((int)i); }
  Graph::Arc arc(ptrdiff_t k) const { return Graph::arcFromId((int)k); }

  /// Arcs of pairs that are allowed, in order; then those of slack (balanced) or of what is left out (partial).
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
  /// Potentials in units of the cost so that source + target <= cost, as far as the grid allows; what the plan pays above them.
  template <class Simplex> void report(const Simplex &simplex) {
    const ptrdiff_t n = p.n, m = p.m;
    *p.violation = *p.excess = 0;
    for (ptrdiff_t i = 0; i < n; i++) p.source[i] = (double)-simplex.potential(node(i)) * grid.unit + grid.low;
    for (ptrdiff_t j = 0; j < m; j++) p.target[j] = (double)simplex.potential(node(n + j)) * grid.unit;
    ptrdiff_t at = 0;
    for (ptrdiff_t i = 0; i < n; i++)
      for (ptrdiff_t j = 0; j < m; j++) {
        const double c = p.cost[i * m + j];
        if (!std::isfinite(c)) continue;
        const Cost whole = grid.of<Cost>(c), reduced = whole + simplex.potential(node(i)) - simplex.potential(node(n + j));
        const double above = (double)reduced * grid.unit + ((c - grid.low) - (double)whole * grid.unit);
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

/// The least that the plan can cost above `low` per unit: every row, or every column, by its cheapest pair.
double least_cost(const Problem &p, double low) {
  std::vector<double> columns((size_t)p.m, INFINITY);
  double rows = 0, sum = 0, total = 0;
  for (ptrdiff_t i = 0; i < p.n; i++) {
    double least = INFINITY;
    for (ptrdiff_t j = 0; j < p.m; j++) {
      const double c = p.cost[i * p.m + j] - low;
      least = std::min(least, c), columns[(size_t)j] = std::min(columns[(size_t)j], c);
    }
    if (p.supply[i] > 0) rows += (double)p.supply[i] * least, total += (double)p.supply[i];
  }
  for (ptrdiff_t j = 0; j < p.m; j++)
    if (p.demand[j] > 0) sum += (double)p.demand[j] * columns[(size_t)j];
  return total > 0 && !p.partial ? std::max(rows, sum) / total : 0;
}
}

int pisces_exact_transport(ptrdiff_t n, ptrdiff_t m, const double *cost, const int64_t *supply, const int64_t *demand, int partial, int64_t mass, int64_t *flow,
                           double *source, double *target, double *violation, double *excess) try {
  const Problem p = {n, m, cost, supply, demand, partial, mass, flow, source, target, violation, excess};
  double low = INFINITY, high = -INFINITY;
  for (ptrdiff_t k = 0; k < n * m; k++) {
    flow[k] = 0;
    if (std::isfinite(cost[k])) low = std::min(low, cost[k]), high = std::max(high, cost[k]);
  }
  if (!(low <= high)) return 1;
  const double range = high - low;
  if (!std::isfinite(range)) return 1;
  int exponent; /* a unit that is a power of two divides exactly */
  std::frexp(std::max(range, 0x1p-900), &exponent);
  /* As fine as sums along paths leave room for in 64 bits is enough where the plan must cost much of the range; else 2^-96, in 128 bits. */
  int bits = 58;
  for (ptrdiff_t nodes = n + m + 2; nodes > 1; nodes = (nodes + 1) / 2) bits--;
  if (least_cost(p, low) >= std::ldexp(range, 31 - bits)) return Solver<int64_t>(p, {low, std::ldexp(1, exponent - bits)}).run();
  return Solver<Wide>(p, {low, std::ldexp(1, exponent - 96)}).run();
} catch (const std::bad_alloc &) {
  return 2;
}
