import Foundation
public import Layers
import TensorRuntime

/// Processes that share the rows of a sample, as threads of this one, of which one at a time
/// computes.
public final class RankThreads: @unchecked Sendable {
  private let condition = NSCondition()
  private let count: Int
  private var posted: [[[Tensor]]]
  private var delivered: [[[Tensor]]] = []
  private var arrived = 0, round = 0

  private init(_ count: Int) {
    self.count = count
    posted = Array(repeating: [], count: count)
  }
  private struct Exchange: RowExchange {
    let threads: RankThreads
    let index: Int
    var count: Int { threads.count }
    func exchange(_ pieces: [[Tensor]], shapes: [[Shape]], in work: borrowing Workspace)
      -> [[Tensor]]
    {
      let received = threads.deliver(pieces, from: index).map { work.copies($0[index]) }
      precondition(received.map { $0.map(\.shape) } == shapes, "\(received), not \(shapes)")
      return received
    }
  }
  private func deliver(_ pieces: [[Tensor]], from index: Int) -> [[[Tensor]]] {
    posted[index] = pieces
    arrived += 1
    if arrived == count {
      (arrived, delivered) = (0, posted)
      round += 1
      condition.broadcast()
    } else {
      let mine = round
      while round == mine { condition.wait() }
    }
    return delivered
  }

  /// What `body` returns for the share of each of `count` processes.
  public static func run<Result>(
    _ count: Int, strips: Int, _ body: @escaping @Sendable (RowShare) -> Result
  ) -> [Result] {
    let threads = RankThreads(count)
    let results = Results<Result>(count)
    for index in 0..<count {
      let thread = Thread {
        threads.condition.lock()
        let share = RowShare(strips: strips, Exchange(threads: threads, index: index))
        results.list[index] = body(share)
        results.left -= 1
        threads.condition.broadcast()
        threads.condition.unlock()
      }
      thread.stackSize = 8 << 20
      thread.start()
    }
    threads.condition.lock()
    while results.left > 0 { threads.condition.wait() }
    threads.condition.unlock()
    return results.list.map { $0! }
  }
  private final class Results<Result>: @unchecked Sendable {
    var list: [Result?]
    var left: Int
    init(_ count: Int) { (list, left) = (Array(repeating: nil, count: count), count) }
  }
}
extension Workspace {
  fileprivate func copies(_ list: [Tensor]) -> [Tensor] { list.map { copy($0) } }
}
