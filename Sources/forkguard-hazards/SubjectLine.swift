/// What a subject tells the program, line by line.
enum SubjectLine {
    case child(Outcome, inside: Bool)
    /// About the child of the line before: its stack, or its signal and last words.
    case note(String)
    /// All forks are done.
    case end

    var text: String {
        switch self {
        case .child(let outcome, let inside): "child \(outcome.rawValue) \(inside ? "inside" : "outside")\n"
        case .note(let note): "note \(note.map { $0 == "\\" ? "\\\\" : $0 == "\n" ? "\\n" : String($0) }.joined())\n"
        case .end: "end\n"
        }
    }

    /// `nil`: not such a line.
    init?(_ line: String) {
        let words = line.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: false)
        switch words.first {
        case "child":
            let rest = words.last?.split(separator: " ") ?? []
            guard rest.count == 2, let outcome = Outcome(rawValue: String(rest[0])) else { return nil }
            self = .child(outcome, inside: rest[1] == "inside")
        case "note" where words.count == 2: self = .note(Self.unescaped(words[1]))
        case "end": self = .end
        default: return nil
        }
    }

    private static func unescaped(_ text: Substring) -> String {
        var result = ""
        var isEscaped = false
        for character in text {
            if isEscaped {
                result.append(character == "n" ? "\n" : character)
                isEscaped = false
            } else if character == "\\" {
                isEscaped = true
            } else {
                result.append(character)
            }
        }
        return result
    }
}
