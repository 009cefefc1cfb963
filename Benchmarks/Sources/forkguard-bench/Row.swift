/// One line of the results.
struct Row {
    let name: String
    let value: Double
    /// What ends in "/s" is better when it is more; everything else when it is less.
    let unit: String
    let peer: String?
    let ratio: Double?
    /// Bounds the ratio, or the value where there is none.
    let goal: Double?

    init(_ name: String, _ value: Double, _ unit: String, peer: String? = nil, ratio: Double? = nil, goal: Double? = nil) {
        precondition(value.isFinite && ratio?.isFinite != false, "\(name) is not a number")
        self.name = name
        self.value = Row.rounded(value)
        self.unit = unit
        self.peer = peer
        self.ratio = ratio.map(Row.rounded)
        self.goal = goal
    }

    var isMet: Bool? { goal.map { unit.hasSuffix("/s") ? (ratio ?? value) >= $0 : (ratio ?? value) <= $0 } }

    /// The goal with its direction, or nothing.
    var bound: String { goal.map { (unit.hasSuffix("/s") ? "at least " : "at most ") + $0.plain } ?? "" }

    var verdict: String { isMet.map { $0 ? "met" : "not met" } ?? "" }

    func json(in table: String) -> String {
        let (peer, ratio, goal) = (peer.map(quoted) ?? "null", ratio?.plain ?? "null", goal?.plain ?? "null")
        let name = quoted("\(table): \(name)")
        return #"{"name":\#(name),"value":\#(value.plain),"unit":\#(quoted(unit)),"peer":\#(peer),"ratio":\#(ratio),"goal":\#(goal)}"#
    }

    private func quoted(_ text: String) -> String { "\"" + text.replacing("\\", with: #"\\"#).replacing("\"", with: #"\""#) + "\"" }

    /// Three decimals below 10, one below 1000: more is noise.
    private static func rounded(_ value: Double) -> Double {
        let scale = value.magnitude < 0.1 ? 100_000.0 : value.magnitude < 10 ? 1000.0 : value.magnitude < 1000 ? 10.0 : 1.0
        return (value * scale).rounded() / scale
    }
}

/// What was measured together, in turns.
struct Table {
    let title: String
    let method: String
    let rows: [Row]
    var plot: Plot?

    var text: String {
        let width = rows.map(\.name.count).max() ?? 0
        let lines = rows.map { row in
            var line = "  " + row.name.padded(to: width) + "  " + (row.value.plain + " " + row.unit).padded(to: 14)
            if let ratio = row.ratio { line += "  \(ratio.plain) of \(row.peer ?? "")" }
            return row.goal == nil ? line : line + "  (goal: \(row.bound): \(row.verdict))"
        }
        return ([title + ": " + method] + lines).joined(separator: "\n")
    }

    var json: [String] { rows.map { $0.json(in: title) } }

    var markdown: String {
        let lines = rows.map { row in
            "| \(row.name) | \(row.value.plain) \(row.unit) | \(row.peer ?? "") | \(row.ratio?.plain ?? "") | \(row.bound) | \(row.verdict) |"
        }
        let picture = plot.map { "\n\n![\($0.title)](performance/\($0.name).svg)" } ?? ""
        return """
            ### \(title)

            \(method.prefix(1).uppercased() + method.dropFirst()).

            | | | compared with | ratio | goal | |
            |---|---|---|---|---|---|
            \(lines.joined(separator: "\n"))\(picture)
            """
    }
}

extension Double {
    /// Without a fraction that is 0, and never with an exponent.
    var plain: String {
        if self == rounded() && magnitude < 1e15 { return "\(Int(self))" }
        return magnitude < 0.001 ? "0." + "\(Int((self * 100_000).rounded()))".leftPadded(to: 5) : "\(self)"
    }
}

extension String {
    func padded(to width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
    fileprivate func leftPadded(to width: Int) -> String { String(repeating: "0", count: max(0, width - count)) + self }
}
