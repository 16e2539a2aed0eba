#include "exact.h"
#include <lemon/network_simplex.h>
#include <lemon/smart_graph.h>
#include <new>

namespace lemon {
// The one object of the library's binary part that its headers need.
const Invalid INVALID = Invalid();
}

int pisces_exact_transport(ptrdiff_t n, ptrdiff_t m, const int64_t *cost, const int64_t *supply, const int64_t *demand, int partial, int64_t mass,
                           int64_t *flow, int64_t *u, int64_t *v) try {
  using Graph = lemon::SmartDigraph;
  Graph graph;
  const ptrdiff_t nodes = n + m + (partial ? 2 : 0), arcs = n * m + (partial ? n + m : 0);
  graph.reserveNode((int)nodes);
  graph.reserveArc((int)arcs);
  for (ptrdiff_t i = 0; i < nodes; i++) graph.addNode();
  const auto node = [&](ptrdiff_t i) { return Graph::nodeFromId((int)i); };
  for (ptrdiff_t i = 0; i < n; i++)
    for (ptrdiff_t j = 0; j < m; j++) graph.addArc(node(i), node(n + j));
  int64_t supplies = 0, demands = 0;
  for (ptrdiff_t i = 0; i < n; i++) supplies += supply[i];
  for (ptrdiff_t j = 0; j < m; j++) demands += demand[j];
  if (partial ? mass > supplies || mass > demands : supplies != demands) return 1;
  if (partial) {
    for (ptrdiff_t i = 0; i < n; i++) graph.addArc(node(i), node(n + m + 1));
    for (ptrdiff_t j = 0; j < m; j++) graph.addArc(node(n + m), node(n + j));
  }
  // Arcs are numbered in the order of their making.
  Graph::ArcMap<int64_t> costs(graph, 0);
  Graph::NodeMap<int64_t> balance(graph, 0);
  for (ptrdiff_t k = 0; k < n * m; k++) costs[Graph::arcFromId((int)k)] = cost[k];
  for (ptrdiff_t i = 0; i < n; i++) balance[node(i)] = supply[i];
  for (ptrdiff_t j = 0; j < m; j++) balance[node(n + j)] = -demand[j];
  if (partial) balance[node(n + m)] = demands - mass, balance[node(n + m + 1)] = mass - supplies;
  lemon::NetworkSimplex<Graph, int64_t, int64_t> simplex(graph);
  simplex.costMap(costs).supplyMap(balance);
  if (simplex.run() != lemon::NetworkSimplex<Graph, int64_t, int64_t>::OPTIMAL) return 1;
  for (ptrdiff_t k = 0; k < n * m; k++) flow[k] = simplex.flow(Graph::arcFromId((int)k));
  // reduced costs c + pi(source) - pi(target) >= 0
  for (ptrdiff_t i = 0; i < n; i++) u[i] = -simplex.potential(node(i));
  for (ptrdiff_t j = 0; j < m; j++) v[j] = simplex.potential(node(n + j));
  return 0;
} catch (const std::bad_alloc &) {
  return 2;
}
