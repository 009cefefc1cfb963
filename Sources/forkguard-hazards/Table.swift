/// The map for people.
struct Table {
    private let nameWidth: Int

    init(_ rows: [Row]) { nameWidth = max(3, rows.map(\.name.count).max() ?? 0) }

    private static let titles = ["ok/hung/crashed of N", "inside", "ok/refused/hung/crashed of N", "inside"]

    var header: String {
        let groups = "without ForkGuard".padded(to: Self.titles[0].count + 3 + Self.titles[1].count)
        return "".padded(to: nameWidth + 13) + groups + "   with ForkGuard\n" + line("row", "load", Self.titles)
    }

    func line(_ measurement: Measurement) -> String {
        let unguarded = measurement[.unguarded]
        let guarded = measurement[.guarded]
        return line(
            measurement.row.name, measurement.load.rawValue,
            [
                "\(unguarded.ok)/\(unguarded.hung)/\(unguarded.crashed) of \(unguarded.forks)", "\(unguarded.inside)",
                "\(guarded.ok)/\(guarded.refused)/\(guarded.hung)/\(guarded.crashed) of \(guarded.forks)", "\(guarded.inside)",
            ])
    }

    private func line(_ name: String, _ load: String, _ cells: [String]) -> String {
        let padded = zip(cells, Self.titles).map { $0.padded(to: $1.count) }
        var text = ([name.padded(to: nameWidth), load.padded(to: 8)] + padded).joined(separator: "   ")
        while text.last == " " { text.removeLast() }
        return text + "\n"
    }
}

extension String {
    func padded(to width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}
