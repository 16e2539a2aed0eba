import Foundation
public import Layers
import TensorRuntime

/// Processes that share the rows of a sample, as threads of this one, of which one at a time
/// computes.
public final class RankThreads: @unchecked Sendable {
  private let condition = NSCondition()
  private let count: Int
  /// What each has given to each, and is not taken yet.
  private var mail: [[[[Tensor]]]]

  private init(_ count: Int) {
    self.count = count
    mail = Array(repeating: Array(repeating: [], count: count), count: count)
  }
  private struct Exchange: RowExchange {
    let threads: RankThreads
    let index: Int
    var count: Int { threads.count }
    func exchange(_ pieces: [[Tensor]], shapes: [[Shape]], in work: borrowing Workspace)
      -> [[Tensor]]
    {
      for to in 0..<count where to != index && !pieces[to].isEmpty {
        threads.mail[index][to].append(pieces[to])
      }
      threads.condition.broadcast()
      return (0..<count).map { from in
        if from == index { return pieces[index] }
        if shapes[from].isEmpty { return [] }
        let received = work.copies(threads.next(from: from, to: index))
        precondition(received.map(\.shape) == shapes[from], "\(received), not \(shapes[from])")
        return received
      }
    }
  }
  private func next(from: Int, to: Int) -> [Tensor] {
    while mail[from][to].isEmpty { condition.wait() }
    return mail[from][to].removeFirst()
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
