public import Files

/// `report.html` of a training run, from its `metrics.jsonl` and `config.json`.
public enum RunReport {
  public static func write(run: String) throws(FileError) {
    var series: [(name: String, values: [Double])] = []
    for (_, value) in try JSONLines.read("\(run)/metrics.jsonl") {
      for (name, v) in value.object?.members ?? [] where name != "step" {
        guard let number = v.number else { continue }
        if let i = series.firstIndex(where: { $0.name == name }) {
          series[i].values.append(number)
        } else {
          series.append((name, [number]))
        }
      }
    }
    var page = HTML("Training run \(run.split(separator: "/").last ?? "")")
    page.paragraph(
      "\(series.first?.values.count ?? 0) steps. Thin line: every step; thick line: running mean.")
    let log = "\(run)/log.txt"
    for line in TextFile.exists(log) ? try TextFile.lines(log) : []
    where line.hasPrefix("warning: ") { page.paragraph(line) }
    page.charts(series.map { Curve($0.name, $0.values) })
    page.heading("Last values")
    page.table(
      ["", "first", "last"], series.map { [$0.name, "\($0.values.first!)", "\($0.values.last!)"] })
    page.heading("Configuration")
    page.preformatted(try TextFile.read("\(run)/config.json"))
    page.heading("Environment")
    page.preformatted(try TextFile.read("\(run)/environment.json"))
    try page.write(to: "\(run)/report.html")
  }
}
