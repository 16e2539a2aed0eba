import ArgumentParser
import Cluster
import Files
import Pipelines
import TensorRuntime
import Training

#if canImport(Glibc)
  import Glibc
#endif

@main enum Main {
  static func main() async {
    StandardStreams.secure()
    do {
      var command = try Pisces.parseAsRoot()
      if var runnable = command as? any AsyncParsableCommand {
        try await runnable.run()
      } else {
        try command.run()
      }
      Cluster.current.end()
      exit(0)
    } catch { Failure.exit(error) }
  }
}

struct Pisces: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pisces",
    abstract: "Post-training of text-to-video models with optimal-transport rewards, on CPUs.",
    discussion: """
      Exit status: 0 done; 1 failed; 2 not converged (--strict); 3 non-finite value in training; 4 \
      some items failed;
      64 wrong usage or configuration; 65 bad input; 66 missing input; 69 missing program; 70 a \
      bug of ours; 71 lost another rank;
      73 cannot create output; 74 read or write failed; 75 stopped early, resume me; 130/143 \
      second signal;
      141 the reader of standard output went away.
      """,
    version: Version.text,
    subcommands: [
      Demo.self, Score.self, Embed.self, Sample.self, Train.self, Evaluate.self, OT.self,
      Bench.self, Plan.self, Convert.self, Info.self, Doctor.self,
    ])
}

enum Version { static let text = "0.2.0" }

/// Turns errors into one line on standard error and the documented exit status.
enum Failure {
  /// Ends the process with `status` and without a message, because the result shows it already.
  struct Status: Error { let code: Int32 }
  /// A message with a status.
  struct Message: Error {
    let code: Int32, text: String
    init(_ code: Int32, _ what: String, _ place: String, _ mend: String) {
      (self.code, text) = (code, "\(what): \(place): \(mend)")
    }
  }

  static func exit(_ error: any Error) -> Never {
    switch error {
    case let e as Status: end(e.code)
    case let e as ClusterStart.Disagreement: failTogether(e.message.code, e.message.text)
    case let e as ClusterError: fail(e.status, e.description)
    case is OtherRankFailed:
      // It ends this process, too.
      sleep(20)
      Glibc.exit(1)
    case let e as Message: fail(e.code, e.text)
    case let e as FileError: fail(e.exitStatus, e.description)
    case let e as ConfigurationError: fail(64, e.description)
    case let e as NonFinite: failTogether(3, e.description)
    case let e as NonFiniteSample: fail(3, e.description)
    default:
      let code = Pisces.exitCode(for: error)
      if code == .success {
        StandardStreams.result(Pisces.fullMessage(for: error))
        Glibc.exit(0)
      }
      let text = Pisces.message(for: error).split(whereSeparator: \.isNewline).joined(
        separator: " ")
      if code == .validationFailure { fail(64, usage(text)) }
      fail(70, "\(text): internal: please report this")
    }
  }
  /// The parser's message in the form WHAT: WHERE: HOW TO MEND. The message of a refused value is
  /// "The value 'V' is invalid for '--name <name>': HOW".
  private static func usage(_ text: String) -> String {
    let value =
      /The value '(?<value>.*)' is invalid for '(?<name>--?[a-z0-9-]+)? ?<?(?<argument>[a-z0-9-]*)>?': (?<how>.*)/
    if let match = text.wholeMatch(of: value) {
      return
        """
        \(match.name ?? match.argument) is \(match.value.isEmpty ? "empty" : match.value): command \
        line: \(match.how)
        """
    }
    return "\(text.isEmpty ? "wrong usage" : text): command line: see pisces --help"
  }
  /// Ends this process, and with it every other rank.
  static func fail(_ code: Int32, _ text: String) -> Never {
    let cluster = Cluster.current
    if code != StandardStreams.readerGone {
      let place = cluster.isFirst ? "" : "[rank \(cluster.rank) \(cluster.host)] "
      StandardStreams.error("pisces: \(place)error: \(text)")
    }
    cluster.abort(code)
  }
  /// Ends this process in a way that every rank has come to.
  private static func failTogether(_ code: Int32, _ text: String) -> Never {
    if Cluster.current.isFirst { StandardStreams.error("pisces: error: \(text)") }
    end(code)
  }
  private static func end(_ code: Int32) -> Never {
    Cluster.current.end()
    Glibc.exit(code)
  }
}
