/// One column of the table.
struct ColumnResult: Equatable {
    /// How many were forked.
    var children = 0
    /// Finished, with every answer right.
    var ok = 0
    /// Killed at their deadline.
    var hung = 0
    /// Ended by a signal, or with a status that is not theirs.
    var crashed = 0
    /// Answers to another process's question, in the children and in the parent.
    var crosstalk = 0
    /// All that were asked in the parent.
    var parentRequests = 0
    /// Those that got another answer, or none.
    var parentWrong = 0
    var forkMedianMicroseconds = 0
    var forkP99Microseconds = 0

    /// Finished, but an answer was wrong or did not come.
    var failed: Int { children - ok - hung - crashed }
    var parentRight: Int { parentRequests - parentWrong }

    /// Nothing went wrong.
    func isPerfect(children expected: Int) -> Bool {
        children == expected && ok == expected && hung == 0 && crashed == 0 && crosstalk == 0 && parentRequests > 0 && parentWrong == 0
    }

    private static let fields: [(name: String, path: any WritableKeyPath<ColumnResult, Int> & Sendable)] = [
        ("children", \.children), ("ok", \.ok), ("hung", \.hung), ("crashed", \.crashed), ("crosstalk", \.crosstalk),
        ("parentRequests", \.parentRequests), ("parentWrong", \.parentWrong), ("forkMedianMicroseconds", \.forkMedianMicroseconds),
        ("forkP99Microseconds", \.forkP99Microseconds),
    ]

    /// A JSON object.
    var json: String { "{" + Self.fields.map { "\"\($0.name)\":\(self[keyPath: $0.path])" }.joined(separator: ",") + "}" }
}

extension ColumnResult {
    /// How a column's process tells its numbers: in a line, in the order of the fields.
    var line: String { Self.fields.map { "\(self[keyPath: $0.path])" }.joined(separator: " ") + "\n" }

    /// `nil`: not such a line.
    init?(line: String) {
        let numbers = line.split { $0 == " " || $0 == "\n" }.map { Int($0) }
        guard line.hasSuffix("\n"), numbers.count == Self.fields.count else { return nil }
        for (field, number) in zip(Self.fields, numbers) {
            guard let number else { return nil }
            self[keyPath: field.path] = number
        }
    }
}
