/// The two columns for people.
struct Table {
    let guarded: ColumnResult
    let unguarded: ColumnResult
    /// How many children each should have.
    let children: Int

    static func title(guarded: Bool) -> String { guarded ? "with ForkGuard" : "without" }

    var text: String {
        let rows: [(label: String, value: (ColumnResult) -> String)] = [
            ("children forked", { Self.number($0.children) }),
            ("  finished, every answer right", { Self.number($0.ok) }),
            ("  finished, an answer wrong or missing", { Self.number($0.failed) }),
            ("  hung, killed after 5 s", { Self.number($0.hung) }),
            ("  crashed", { Self.number($0.crashed) }),
            ("answers that reached the wrong process", { Self.number($0.crosstalk) }),
            ("the parent's requests, answered right", { Self.number($0.parentRight) }),
            ("the parent's requests, wrong or no answer", { Self.number($0.parentWrong) }),
            ("fork time, median", { Self.number($0.forkMedianMicroseconds) + " µs" }),
            ("fork time, 99th percentile", { Self.number($0.forkP99Microseconds) + " µs" }),
        ]
        let cells = rows.map { (label: $0.label, guarded: $0.value(guarded), unguarded: $0.value(unguarded)) }
        let titles = (guarded: Self.title(guarded: true), unguarded: Self.title(guarded: false))
        let labelWidth = cells.map(\.label.count).max() ?? 0
        let guardedWidth = (cells.map(\.guarded.count) + [titles.guarded.count]).max() ?? 0
        let unguardedWidth = (cells.map(\.unguarded.count) + [titles.unguarded.count]).max() ?? 0
        func line(_ label: String, _ guarded: String, _ unguarded: String) -> String {
            label + Self.spaces(labelWidth - label.count) + "   " + Self.right(guarded, guardedWidth) + "   "
                + Self.right(unguarded, unguardedWidth) + "\n"
        }
        var text = line("", titles.guarded, titles.unguarded)
        for cell in cells { text += line(cell.label, cell.guarded, cell.unguarded) }
        return text + "\n" + meaning + "\n"
    }

    private var meaning: String {
        let lost = unguarded.children - unguarded.ok
        let harm =
            "Without it, \(Self.number(lost)) of \(Self.number(unguarded.children)) children failed and \(Self.number(unguarded.crosstalk)) "
            + "answers reached the wrong process."
        if guarded.isPerfect(children: children) {
            return "With ForkGuard every child got every answer, and the parent noticed nothing. \(harm)"
        }
        return "NOT GOOD: with ForkGuard something went wrong, which must never happen. \(harm)"
    }

    /// With a comma between thousands.
    private static func number(_ number: Int) -> String {
        var groups = ""
        for (index, digit) in String(number).reversed().enumerated() {
            if index > 0, index % 3 == 0, digit != "-" { groups.append(",") }
            groups.append(digit)
        }
        return String(groups.reversed())
    }

    private static func right(_ text: String, _ width: Int) -> String { spaces(width - text.count) + text }
    private static func spaces(_ count: Int) -> String { String(repeating: " ", count: count) }
}
